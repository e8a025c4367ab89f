"""Logs of an arm's joints: what identification reads, checked once, whatever file they came from.

Promises
  - Joints 1..J of one arm, rad, rad/s, Nm; times in s from the log's begin, increasing at a nearly constant rate.
  - A log whose numbers can't be what it says is refused with the reason and a remedy, never mended in silence: other
    units, a clock that jumps, velocities that aren't the positions' derivative, torques that nobody measured.
  - Where samples are missing the log is cut; what is left of it are `pieces`.
Readers are log_csv and log_mcap.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

MIN_RATE_HZ = 80.0
"""Below it, the accelerations of a motion of some hertz are lost."""
GAP_PERIODS, GAP_S = 5.0, 0.02
"""A step in time of more than so many periods, and longer than this, is a gap."""
PIECE_S = 2.0
"""Shorter pieces hold too little to tell anything by."""
SLACK_RAD = 0.2
SPEED_SLACK, TORQUE_SLACK = 1.5, 2.0
"""Beyond the joints' range, and in multiples of their limits, a number is no measurement."""
SLOPE_SLACK = 0.1
"""By how much of it velocities may differ from the derivative of positions, on average."""
STILL_RAD_S = 0.02
MOVES_RAD = 0.02
"""An arm that moves less than this holds nothing to identify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLog:
    """One arm's joints over time.

    Attributes:
        name: of the file, for messages.
        digest: SHA-256 of the file.
        t_s: [K].
        q_rad, dq_rad_s, tau_nm: [K, J] measured.
        q_desired_rad, dq_desired_rad_s: [K, J] the reference that the arm was sent, by the sender's clock; None: not
            in the file.
    """

    name: str
    digest: str
    t_s: Array
    q_rad: Array
    dq_rad_s: Array
    tau_nm: Array
    q_desired_rad: Array | None = None
    dq_desired_rad_s: Array | None = None

    @property
    def rate_hz(self) -> float:
        """Samples in a second, by the median step."""
        return float(1.0 / np.median(np.diff(self.t_s)))

    @property
    def duration_s(self) -> float:
        return float(self.t_s[-1] - self.t_s[0])

    def part(self, rows: slice) -> JointLog:
        """Some of its samples."""
        q, dq = self.q_desired_rad, self.dq_desired_rad_s
        return replace(
            self,
            t_s=self.t_s[rows],
            q_rad=self.q_rad[rows],
            dq_rad_s=self.dq_rad_s[rows],
            tau_nm=self.tau_nm[rows],
            q_desired_rad=None if q is None else q[rows],
            dq_desired_rad_s=None if dq is None else dq[rows],
        )


def read_logs(paths: tuple[Path, ...], limits: RobotLimits, *, topic: str = "") -> tuple[JointLog, ...]:
    """Read log files by their endings, and check and cut them.

    Args:
        limits: of the robot that they are of.
        topic: of an MCAP file's joint states or robot state, where it holds several.

    Raises:
        SpecError: a file is refused (see the module), or all of them hold no piece that is long enough.
    """
    from .log_csv import read_csv
    from .log_mcap import read_mcap

    if not paths:
        raise SpecError("no log is named; record one with `skimo calibrate excite`, or name a CSV or MCAP file")
    pieces: list[JointLog] = []
    for path in paths:
        if not path.is_file():
            raise SpecError(f"{path}: there is no such file")
        mcap = path.suffix.lower() == ".mcap"
        log = read_mcap(path, limits, topic=topic) if mcap else read_csv(path, limits)
        pieces += checked(log, limits)
    return tuple(pieces)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checked(log: JointLog, limits: RobotLimits) -> tuple[JointLog, ...]:
    """The log's pieces without a gap, each of at least `PIECE_S`.

    Raises:
        SpecError: see the module.
    """
    if len(log.t_s) < 2:
        raise SpecError(f"{log.name} holds {len(log.t_s)} samples; record again for at least {PIECE_S:g} s")
    _refuse_other_robots(log, limits)
    _refuse_not_finite(log)
    _refuse_bad_clock(log)
    _refuse_other_units(log, limits)
    _refuse_no_torque(log)
    edges = [0, *(np.flatnonzero(_gaps(log)) + 1), len(log.t_s)]
    pieces = tuple(log.part(slice(a, b)) for a, b in itertools.pairwise(edges) if b - a > 1)
    long = tuple(piece for piece in pieces if piece.duration_s >= PIECE_S)
    if not long:
        longest = max((piece.duration_s for piece in pieces), default=0.0)
        raise SpecError(
            f"{log.name} holds {len(edges) - 2} gaps, and no piece of {PIECE_S:g} s without one (longest {longest:.2f} "
            "s); record again, on a machine that keeps up"
        )
    return long


def _refuse_other_robots(log: JointLog, limits: RobotLimits) -> None:
    joints = log.q_rad.shape[1]
    if joints != limits.joints:
        raise SpecError(
            f"{log.name} holds {joints} joints, a {limits.name} has {limits.joints}; name the robot (--robot), and the "
            "arm's joints alone"
        )


def _refuse_not_finite(log: JointLog) -> None:
    columns = {"t": log.t_s[:, None], "q": log.q_rad, "dq": log.dq_rad_s, "tau": log.tau_nm}
    optional = {"q_desired": log.q_desired_rad, "dq_desired": log.dq_desired_rad_s}
    columns |= {name: values for name, values in optional.items() if values is not None}
    for name, values in columns.items():
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, joint = bad[0]
            which = name if name == "t" else f"{name} of joint {joint + 1}"
            raise SpecError(
                f"{log.name}: {which} is not finite in {len(bad)} places, first sample {row}; does the driver fill it? "
                "Otherwise cut these samples out"
            )


def _refuse_bad_clock(log: JointLog) -> None:
    steps = np.diff(log.t_s)
    back = np.flatnonzero(steps <= 0)
    if len(back):
        k = int(back[0])
        raise SpecError(
            f"{log.name}: time goes from {log.t_s[k]:.6f} s to {log.t_s[k + 1]:.6f} s at sample {k + 1}; a clock was "
            "set, or two logs were joined: record again with clocks synchronised (chrony, PTP), or split the file there"
        )
    _refuse_time_unit(log)
    if log.rate_hz < MIN_RATE_HZ:
        raise SpecError(
            f"{log.name}: {log.rate_hz:.1f} samples a second, needs at least {MIN_RATE_HZ:g}; record joint states "
            "faster (for franka_ros2, joint_state_rate)"
        )
    _refuse_clock_jumps(log)


def _refuse_time_unit(log: JointLog) -> None:
    """Time in ms, us or ns, told by how far the joints come at the speeds that they are said to have."""
    slope = _slope(log)
    for unit, factor in (("milliseconds", 1e-3), ("microseconds", 1e-6), ("nanoseconds", 1e-9)):
        if slope is not None and abs(slope / factor - 1.0) < 2 * SLOPE_SLACK and log.rate_hz < MIN_RATE_HZ:
            raise SpecError(
                f"{log.name}: positions change by {slope:.2g} of what velocities and times say: time is in {unit}; "
                "write s, or state the unit in the header (t_ms)"
            )


def _slope(log: JointLog) -> float | None:
    """The positions' change as a multiple of what velocities say, over all steps; None if nothing moves."""
    way = (log.dq_rad_s[1:] + log.dq_rad_s[:-1]) / 2 * np.diff(log.t_s)[:, None]
    moved = np.diff(log.q_rad, axis=0)
    kept = np.ones(len(way), bool) if log.rate_hz < MIN_RATE_HZ else ~_gaps(log)
    size = float((way[kept] ** 2).sum())
    if np.ptp(log.q_rad, axis=0).max() < MOVES_RAD or size == 0.0:
        return None
    return float((way[kept] * moved[kept]).sum() / size)


def _gaps(log: JointLog) -> np.ndarray:
    """[K - 1] whether samples are missing between each and the next."""
    steps = np.diff(log.t_s)
    return steps > max(GAP_PERIODS * float(np.median(steps)), GAP_S)


def _refuse_clock_jumps(log: JointLog) -> None:
    """A step in time over which a moving arm came no further than in one period: its clock jumped."""
    steps, period_s = np.diff(log.t_s), float(np.median(np.diff(log.t_s)))
    for k in np.flatnonzero(_gaps(log)):
        speed = np.minimum(np.abs(log.dq_rad_s[k]), np.abs(log.dq_rad_s[k + 1]))
        speed[np.sign(log.dq_rad_s[k]) != np.sign(log.dq_rad_s[k + 1])] = 0.0
        joint = int(np.argmax(speed))
        due_rad, moved_rad = speed[joint] * steps[k], abs(log.q_rad[k + 1, joint] - log.q_rad[k, joint])
        if speed[joint] > STILL_RAD_S and moved_rad < 0.2 * due_rad and moved_rad < 5 * speed[joint] * period_s + 1e-4:
            raise SpecError(
                f"{log.name}: the clock jumps by {steps[k]:.3f} s at sample {k + 1}, while joint {joint + 1}, at "
                f"{speed[joint]:.2f} rad/s, moves {moved_rad:.4f} rad; record again with clocks synchronised (chrony)"
            )


def _refuse_other_units(log: JointLog, limits: RobotLimits) -> None:
    outside = np.maximum(log.q_rad - limits.q_max_rad, limits.q_min_rad - log.q_rad).max(axis=0)
    joint = int(np.argmax(outside))
    if outside[joint] > SLACK_RAD:
        worst = log.q_rad[np.argmax(np.abs(log.q_rad[:, joint])), joint]
        degrees = np.abs(log.q_rad).max() > 2 * np.pi
        guess = "degrees? Write rad, or state the unit in the header (q1_deg)" if degrees else "is this the robot?"
        raise SpecError(
            f"{log.name}: joint {joint + 1} reaches {worst:.3f} rad, a {limits.name}'s range is "
            f"{limits.q_min_rad[joint]:.3f} to {limits.q_max_rad[joint]:.3f} rad; {guess}"
        )
    _refuse_other_derivative(log)
    bounds = (
        ("dq", log.dq_rad_s, SPEED_SLACK * limits.dq_max_rad_s, "rad/s"),
        ("tau", log.tau_nm, TORQUE_SLACK * limits.tau_max_nm, "Nm"),
    )
    for name, values, bound, unit in bounds:
        share = np.abs(values).max(axis=0) / bound
        joint = int(np.argmax(share))
        if share[joint] > 1:
            raise SpecError(
                f"{log.name}: {name} of joint {joint + 1} reaches {share[joint] * bound[joint]:.1f} {unit}, possible "
                f"are {bound[joint]:.1f} {unit}; is its unit {unit}?"
            )


def _refuse_other_derivative(log: JointLog) -> None:
    slope = _slope(log)
    if slope is None:
        raise SpecError(
            f"{log.name}: no joint moves by {MOVES_RAD:g} rad; an arm at rest tells nothing: record an "
            "exciting motion (skimo calibrate excite)"
        )
    if abs(slope - 1.0) <= SLOPE_SLACK:
        return
    degree = np.pi / 180.0
    if abs(slope / degree - 1.0) < SLOPE_SLACK:
        guess = "velocities are in degrees a second? Write rad/s, or state the unit in the header (dq1_deg_s)"
    elif abs(slope * degree - 1.0) < SLOPE_SLACK:
        guess = "positions are in degrees? Write rad, or state the unit in the header (q1_deg)"
    elif abs(slope) < SLOPE_SLACK:
        guess = "velocities are another arm's, a reference's, or noise: record what is measured"
    else:
        guess = "check both columns' units and the clock's rate"
    raise SpecError(f"{log.name}: positions change by {slope:.3g} of what velocities say, must be 1; {guess}")


def _refuse_no_torque(log: JointLog) -> None:
    dead = np.flatnonzero(np.ptp(log.tau_nm, axis=0) == 0.0)
    if len(dead):
        joints, value = ", ".join(str(j + 1) for j in dead), log.tau_nm[0, dead[0]]
        raise SpecError(
            f"{log.name}: the torque of joint {joints} is {value:g} Nm throughout, which no arm measures; does the "
            "driver fill it (effort, tau_J)? A simulated or fake one may not"
        )
