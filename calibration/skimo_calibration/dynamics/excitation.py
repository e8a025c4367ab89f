"""An exciting motion: all joints on finite Fourier series, chosen so that the log tells the arm's parameters apart.

J. Swevers, C. Ganseman, D. B. Tukel, J. De Schutter, H. Van Brussel, "Optimal robot excitation and identification",
IEEE Transactions on Robotics and Automation 13(5), 1997: joint j follows
    q(t) = c + sum_k a_k / (w k) sin(w k t) - b_k / (w k) cos(w k t),    w = 2 pi / period
whose coefficients make the condition number of the identification's regressor small. Ours begin and end at rest, which
binds two of them (sum a_k = 0, sum k b_k = 0), and are found by a seeded random search.

Promises
  - Positions, velocities and accelerations stay within the robot's limits less the margins of `ExcitationConfig`, the
    arm clear of itself and of its cell, its points in the workspace, its tool within the speed limit.
  - A `Motion` is a skimo_core.control.travel.Path: the way from where the arm stands to the series' begin, then the
    series; sent in `piece`s it passes the gate.
Units rad, s; J joints, N harmonics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array, JointCommand, RobotState, Verdict
from skimo_core.control.travel import EVERY_S, Travel, piece
from skimo_core.domain.cell import Cell
from skimo_core.domain.kinematics import arm_points
from skimo_core.domain.robot import RobotLimits
from skimo_core.safety.collision import Collision
from skimo_core.safety.gate import Gate

from .flange_load import load_regressor

COULOMB_WIDTH_RAD_S = 0.05
SHRINK, SHRINKS = 0.8, 8
"""A candidate that would touch something is made smaller, so often at most."""
SETTLE_S = 0.3
"""Rest between the way there and the series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcitationConfig:
    """How the motion is sought.

    Attributes:
        harmonics: N.
        period_s: of the series' first harmonic; the motion's length is a whole number of them.
        periods: how many.
        velocity_share, acceleration_share: of the robot's limits, at most.
        travel_share: the same for the way to the series' begin.
        position_margin_rad: kept free at both ends of each joint's range.
        clearance_m: kept free of what stands in the cell and of the workspace's ends, beyond the margins of both.
        self_clearance_m: kept free between the arm's own links, beyond the robot's margin.
        tool_speed_share: of the robot's limit.
        tries: candidates, the second half of them near the best so far.
        looks: positions in a period at which a candidate is judged.
    """

    harmonics: int = 10
    period_s: float = 20.0
    periods: int = 1
    velocity_share: float = 0.5
    acceleration_share: float = 0.4
    travel_share: float = 0.2
    position_margin_rad: float = 0.15
    clearance_m: float = 0.03
    self_clearance_m: float = 0.005
    tool_speed_share: float = 0.7
    tries: int = 300
    looks: int = 200

    def __post_init__(self) -> None:
        shares = (self.velocity_share, self.acceleration_share, self.travel_share, self.tool_speed_share)
        if not all(0 < share <= 0.9 for share in shares):
            raise SpecError(f"excitation: shares of limits are {shares}, must lie in (0, 0.9]")
        if self.harmonics < 3 or self.periods < 1 or self.tries < 2 or self.looks < 20:
            raise SpecError(
                f"excitation: harmonics {self.harmonics} (>= 3: two are bound by rest at the ends), periods "
                f"{self.periods} (>= 1), tries {self.tries} (>= 2), looks {self.looks} (>= 20)"
            )
        kept = (self.position_margin_rad, self.clearance_m, self.self_clearance_m)
        if self.period_s < 2.0 or min(kept) < 0:
            raise SpecError(
                f"excitation: period {self.period_s:g} s (>= 2), position margin {kept[0]:g} rad, clearance "
                f"{kept[1]:g} m, of the arm itself {kept[2]:g} m (>= 0)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The motion of all joints.

    Attributes:
        centre_rad: [J] c.
        sine_rad_s, cosine_rad_s: [N, J] a and b.
        period_s: of the first harmonic.
    """

    centre_rad: Array
    sine_rad_s: Array
    cosine_rad_s: Array
    period_s: float

    def sample(self, times_s: Array) -> tuple[Array, Array, Array]:
        """Position, velocity and acceleration, each [K, J]."""
        w = 2 * np.pi / self.period_s * np.arange(1, len(self.sine_rad_s) + 1)
        phase = times_s[:, None] * w
        sine, cosine, a, b = np.sin(phase), np.cos(phase), self.sine_rad_s, self.cosine_rad_s
        q = self.centre_rad + sine / w @ a - cosine / w @ b
        return q, cosine @ a + sine @ b, -(sine * w) @ a + (cosine * w) @ b

    def shrunk(self, factor: float) -> Series:
        """The same motion, smaller round its centre."""
        return Series(
            centre_rad=self.centre_rad,
            sine_rad_s=self.sine_rad_s * factor,
            cosine_rad_s=self.cosine_rad_s * factor,
            period_s=self.period_s,
        )


class Motion:
    """The way from where the arm stands to the series' begin, then the series; a skimo_core.control.travel.Path.

    Raises:
        SpecError: the way there leads out of the joints' range.
    """

    def __init__(
        self, limits: RobotLimits, here_rad: Array, series: Series, config: ExcitationConfig, start_s: float = 0.0
    ) -> None:
        begin_rad = series.sample(np.zeros(1))[0][0]
        self.series = series
        self.way = Travel(limits, here_rad, begin_rad, start_s=start_s, share=config.travel_share)
        self.start_s, self.excites_s = start_s, self.way.end_s + SETTLE_S
        self.end_s = self.excites_s + config.periods * series.period_s

    def sample(self, times_s: Array) -> tuple[Array, Array, Array]:
        """Position, velocity and acceleration, each [K, J]; at rest outside."""
        there = self.way.sample(times_s)
        on = (times_s >= self.excites_s) & (times_s <= self.end_s)
        q, dq, ddq = (np.where(on[:, None], moving, still) for moving, still in zip(self._moving(times_s), there))
        return q, dq, ddq

    def _moving(self, times_s: Array) -> tuple[Array, Array, Array]:
        return self.series.sample(np.clip(times_s, self.excites_s, self.end_s) - self.excites_s)


def find_series(
    limits: RobotLimits, cell: Cell, centre_rad: Array, config: ExcitationConfig, rng: np.random.Generator
) -> tuple[Series, float]:
    """The best series round `centre_rad` [J] that a seeded random search finds, and its condition number.

    Raises:
        SpecError: no candidate keeps clear of its surroundings.
    """
    room = _Room(limits, cell, config)
    best: Series | None = None
    lowest = np.inf
    for k in range(config.tries):
        near = best if best is not None and k >= config.tries // 2 else None
        drawn = _within(_drawn(centre_rad, config, rng, near), limits, config)
        free = room.clear(drawn)
        if free is None:
            continue
        condition = condition_number(limits, free, config)
        if condition < lowest:
            best, lowest = free, condition
    if best is None:
        raise SpecError(
            f"none of {config.tries} motions round {np.round(centre_rad, 3).tolist()} rad keeps clear of the arm "
            f"itself, and {config.clearance_m:g} m of cell {cell.name}, in its workspace; bring the arm to where it "
            "has more room, or ask for less clearance"
        )
    return best, lowest


def condition_number(limits: RobotLimits, series: Series, config: ExcitationConfig) -> float:
    """Of the identification's regressor over the series, each column to unit length."""
    q, dq, ddq = series.sample(np.linspace(0, series.period_s, config.looks, endpoint=False))
    load = load_regressor(limits, q, dq, ddq)
    joints = limits.joints
    own = np.zeros((len(q), joints, 4, joints))
    for row, values in enumerate((np.tanh(dq / COULOMB_WIDTH_RAD_S), dq, ddq, np.ones_like(q))):
        own[:, np.arange(joints), row, np.arange(joints)] = values
    columns = np.concatenate([own.reshape(len(q) * joints, -1), load.reshape(len(q) * joints, -1)], axis=1)
    return float(np.linalg.cond(columns / np.linalg.norm(columns, axis=0)))


def _drawn(centre_rad: Array, config: ExcitationConfig, rng: np.random.Generator, near: Series | None) -> Series:
    """A series drawn at large, or near another one, that is at rest at its ends."""
    size = (2, config.harmonics, len(centre_rad))
    drawn = rng.standard_normal(size)
    if near is not None:
        known = np.stack([near.sine_rad_s, near.cosine_rad_s])
        drawn = known + drawn * rng.choice([0.05, 0.2, 0.5]) * np.abs(known).max(axis=(0, 1))
    k = np.arange(1, config.harmonics + 1)[:, None]
    sine = drawn[0] - drawn[0].mean(axis=0)
    cosine = drawn[1] - k * (k * drawn[1]).sum(axis=0) / (k**2).sum()
    return Series(centre_rad=centre_rad, sine_rad_s=sine, cosine_rad_s=cosine, period_s=config.period_s)


def _within(series: Series, limits: RobotLimits, config: ExcitationConfig) -> Series:
    """The series with each joint as large as its limits allow."""
    q, dq, ddq = series.sample(np.linspace(0, series.period_s, 4 * config.looks, endpoint=False))
    up, down = (q - series.centre_rad).max(axis=0), (series.centre_rad - q).max(axis=0)
    top = limits.q_max_rad - config.position_margin_rad - series.centre_rad
    bottom = series.centre_rad - limits.q_min_rad - config.position_margin_rad
    least = np.minimum(top, bottom)
    if (least <= 0).any():
        joint = int(np.argmin(least))
        raise SpecError(
            f"the motion's centre has joint {joint + 1} at {series.centre_rad[joint]:.3f} rad, within "
            f"{config.position_margin_rad:g} rad of its range's end; bring the arm to the middle of its range"
        )
    low, high = limits.velocity_bounds(np.clip(q, limits.q_min_rad, limits.q_max_rad))
    speed = np.minimum(np.abs(low), np.abs(high)).min(axis=0)
    ratios = (
        top / up,
        bottom / down,
        config.velocity_share * speed / np.abs(dq).max(axis=0),
        config.acceleration_share * limits.ddq_max_rad_s2 / np.abs(ddq).max(axis=0),
    )
    factor = np.minimum.reduce(ratios)
    return Series(
        centre_rad=series.centre_rad,
        sine_rad_s=series.sine_rad_s * factor,
        cosine_rad_s=series.cosine_rad_s * factor,
        period_s=series.period_s,
    )


class _Room:
    """What a series may not touch, leave or exceed."""

    def __init__(self, limits: RobotLimits, cell: Cell, config: ExcitationConfig) -> None:
        self._limits, self._config = limits, config
        self._collision = Collision(limits, cell)
        self._low_m = cell.workspace_low_m + config.clearance_m
        self._high_m = cell.workspace_high_m - config.clearance_m

    def clear(self, series: Series) -> Series | None:
        """The series, made smaller until it keeps clear; None if that doesn't help."""
        for _ in range(SHRINKS):
            if self.keeps(series):
                return series
            series = series.shrunk(SHRINK)
        return None

    def keeps(self, series: Series) -> bool:
        """Whether it keeps clear of everything, in the workspace and within the tool's speed."""
        config = self._config
        times_s = np.linspace(0, series.period_s, config.looks + 1)
        q = series.sample(times_s)[0]
        points = arm_points(self._limits, q)
        if (points < self._low_m).any() or (points > self._high_m).any():
            return False
        speed = np.linalg.norm(np.diff(points[:, -1], axis=0), axis=1).max() / (times_s[1] - times_s[0])
        if speed > config.tool_speed_share * self._limits.cartesian_velocity_max_m_s:
            return False
        room = self._collision.room(q)
        return bool(room.self_m.min() >= config.self_clearance_m and room.obstacle_m.min() >= config.clearance_m)


def rehearse(motion: Motion, limits: RobotLimits, cell: Cell) -> None:
    """Send the motion's pieces through the gate as if an arm followed them exactly.

    Raises:
        SpecError: the gate would not let all of it through.
    """
    gate = Gate(limits, cell=cell)
    for now_s in np.arange(motion.start_s, motion.end_s, EVERY_S):
        q, dq, _ = (part[0] for part in motion.sample(np.array([now_s])))
        still = np.zeros(limits.joints)
        robot = RobotState(stamp_s=now_s, q_rad=q, dq_rad_s=dq, tau_nm=still, finger_m=np.zeros(2))
        decision = gate.consider(JointCommand(trajectory=piece(motion, now_s, limits)), robot, now_s)
        if decision.verdict is not Verdict.PASS:
            part = "the way to the motion's begin" if now_s < motion.excites_s else "the motion"
            raise SpecError(
                f"the gate would not let {part} through at {now_s - motion.start_s:.1f} s: "
                f"{'; '.join(decision.reasons)}; bring the arm nearer to the motion's centre, or take another centre"
            )
