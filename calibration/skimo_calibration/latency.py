"""How late an arm does what it is sent, and how late it says so.

Three things pass between a trajectory's sending and a joint state's stamp, and each shows in its own way:
    command   until the driver takes it up. A trajectory says when the arm is to be where, so a late one leads along the
              same path: what shows is the piece that was missed where the path is left sooner than it came - from rest,
              at brakes. Where none is left sooner, the log tells an upper bound.
    lag       by which the arm lies behind the driver's reference: its servos. The whole path comes later.
    state     from measuring to the stamp. It comes later as well, so that joint states tell lag and state together;
              the driver's reference has no servo between it and its stamp, and tells the state's alone.
What no log of one arm tells: a clock of the driver's that is off as a whole moves command and state together; how long
a stamped state then travels does not matter here, as everybody goes by the stamp (`Track.transport_s`).

Found by least squares over both: the path is made anew for each lateness on a grid (`DriverPath`), the shift fitted to
it; log of residuals by blocks of time (Cauchy), so that contacts count for little; sigma by a bootstrap of the blocks.
Units s, rad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array

from .driver_path import JOINS, DriverPath
from .timing import ArmLog, Sent, Track, check_sent, checked

LATEST_S, COARSE_S, FINE_S = 0.2, 0.01, 0.001
LAG_MAX_S = 0.3
SIGMA_MAX_S = 0.005
"""A lateness that is told worse than this is not told."""
BLOCK_S = 0.5
"""Longer than a late trajectory bends the path."""
LEAD_IN_S = 0.5
"""After the first trajectory: where the arm was before is not known so well."""
DRAWS = 200
MOST_TRAJECTORIES, MOST_SAMPLES = 800, 6000
STEPS = 4
MOVES_RAD = 0.05
OFF_RAD = 0.1
"""An arm that is typically further from its path than this does something else than it was sent."""
LEAST_SQUARE = 1e-14
"""rad2: no encoder is finer."""
FLAT = 1e-6
"""Costs that differ by less (of a block's log residual) are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """A lateness and its standard deviation."""

    late_s: float
    sigma_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What a log tells of an arm's clocks.

    Attributes:
        command: from sending to effect.
        at_most_s: every lateness up to this leads along the very same path; 0: none other does.
        lag: joint states behind the path: of servos and stamps together.
        state: stamps of the driver's reference behind the path; None: no reference in the log.
        joins: how the driver gets onto a trajectory (`driver_path.JOINS`).
        residual_rad: typical distance of joint states (or the reference, where there is one) from the path.
        grid_s, cost: [G] the latenesses that were tried, and how badly each fits (0: best).
        trajectories, seconds: how much log it was.
    """

    command: Late
    at_most_s: float
    lag: Late
    state: Late | None
    joins: str
    residual_rad: float
    grid_s: Array
    cost: Array
    trajectories: int
    seconds: float


def command_timing(log: ArmLog, rng: np.random.Generator) -> Timing:
    """What a log tells of how late commands take effect, and states are stamped.

    Raises:
        SpecError: its clocks can't be trusted, its arm does not move or does something else than it is sent, or no
            command in it shows when it took effect.
    """
    states = checked(log.states, log.name)
    check_sent(log)
    reference = None if log.reference is None else checked(log.reference, log.name)
    sent = log.sent[:MOST_TRAJECTORIES]
    joints = _Fit(states, sent, log.name)
    clear = joints if reference is None else _Fit(reference, sent, log.name)
    grid_s = np.arange(0.0, LATEST_S + COARSE_S / 2, COARSE_S)
    squares = {joins: np.array([clear.squares(late_s, joins) for late_s in grid_s]) for joins in JOINS}
    usual = max(min(float(np.median(rows, axis=1).min()) for rows in squares.values()), LEAST_SQUARE)
    costs = {joins: np.log(rows + usual).sum(axis=1) for joins, rows in squares.items()}
    joins = min(JOINS, key=lambda name: costs[name].min())
    grid_s = _finer(grid_s[_equal(costs[joins])])
    blocks = np.log(np.array([clear.squares(late_s, joins) for late_s in grid_s]).T + usual)
    flat = grid_s[_equal(blocks.sum(axis=0))]
    flat_s = float(flat[-1] - flat[0])
    _refuse_end(grid_s, blocks, log.name)
    command = _command(grid_s, blocks, flat_s, rng)
    if command.sigma_s > SIGMA_MAX_S:
        raise SpecError(
            f"{log.name}: the log tells when commands take effect to {1e3 * command.sigma_s:.1f} ms, bound "
            f"{1e3 * SIGMA_MAX_S:g} ms: none of them leaves the path under way before it has arrived; record starts "
            "from rest and brakes, without a rig that knows of a latency (`command`)"
        )
    lag, state = joints.shift(command.late_s, joins, rng), None
    if reference is not None:
        state = clear.shift(command.late_s, joins, rng)
    _refuse_other_motion(clear.residual_rad, log.name)
    total = blocks.sum(axis=0)
    return Timing(
        command=command,
        at_most_s=float(flat[-1]) if flat_s > FINE_S else 0.0,
        lag=lag,
        state=state,
        joins=joins,
        residual_rad=clear.residual_rad,
        grid_s=grid_s,
        cost=(total - total.min()) / len(blocks),
        trajectories=len(sent),
        seconds=float(clear.t_s[-1] - clear.t_s[0]),
    )


class _Fit:
    """How well a track goes along the path of a lateness, shifted as it fits best.

    Attributes:
        t_s: [K] of the samples that are used.
        residual_rad: typical distance at the newest fit.
    """

    def __init__(self, track: Track, sent: Sequence[Sent], where: str) -> None:
        begin_s, end_s = sent[0].sent_s + LEAD_IN_S, sent[-1].sent_s + LAG_MAX_S
        inside = np.flatnonzero((track.t_s > begin_s) & (track.t_s < end_s))
        every = max(1, -(-len(inside) // MOST_SAMPLES))
        used = track.part(inside[::every])
        if len(used.t_s) < 2 or np.ptp(used.values, axis=0).max() < MOVES_RAD:
            moves = np.ptp(used.values, axis=0).max() if len(used.t_s) else 0.0
            raise SpecError(
                f"{where}: {track.what}: {moves:.3f} rad of motion while commands are sent, needs {MOVES_RAD:g} rad; "
                "record an arm that is led about"
            )
        self.t_s, self._values, self._sent = used.t_s, used.values, sent
        before = np.searchsorted(track.t_s, sent[0].sent_s)
        self._rest_rad = track.values[max(int(before) - 1, 0)]
        self._block = np.unique(np.floor((self.t_s - self.t_s[0]) / BLOCK_S).astype(int), return_inverse=True)[1]
        self._counts = np.bincount(self._block)
        self._shift_s = 0.0
        self.residual_rad = np.inf

    def squares(self, late_s: float, joins: str) -> Array:
        """Mean square residual of each block [B], rad2, at the shift that is best for this lateness."""
        return self._along(DriverPath(self._sent, late_s, joins, self._rest_rad))[1]

    def shift(self, late_s: float, joins: str, rng: np.random.Generator) -> Late:
        """By how much the track lies behind the path."""
        left, squares, slopes = self._along(DriverPath(self._sent, late_s, joins, self._rest_rad))
        weights = self._weights(squares)[self._block]
        gram = np.bincount(self._block, weights * (slopes**2).sum(axis=1))
        side = np.bincount(self._block, weights * (slopes * left).sum(axis=1))
        draws = rng.multinomial(len(gram), np.full(len(gram), 1 / len(gram)), size=DRAWS)
        return Late(late_s=self._shift_s, sigma_s=float(np.std((draws @ side) / (draws @ gram))))

    def _along(self, path: DriverPath) -> tuple[Array, Array, Array]:
        """Residuals [K, J], their mean squares by block [B], slopes [K, J] by the shift; at the best shift."""
        for _ in range(STEPS):
            q, dq = path.sample(self.t_s - self._shift_s)
            left = self._values - q
            weights = self._weights(self._squares(left))[self._block][:, None]
            left = left - (weights * left).sum(axis=0) / weights.sum()
            slopes = (weights * dq).sum(axis=0) / weights.sum() - dq
            step_s = float((weights * slopes * left).sum() / max((weights * slopes**2).sum(), 1e-12))
            if abs(step_s) < 1e-6:
                break
            self._shift_s = float(np.clip(self._shift_s + np.clip(step_s, -0.05, 0.05), -LAG_MAX_S, LAG_MAX_S))
        squares = self._squares(left)
        self.residual_rad = float(np.sqrt(np.median(squares)))
        return left, squares, slopes

    def _squares(self, left: Array) -> Array:
        return np.bincount(self._block, (left**2).mean(axis=1)) / self._counts

    def _weights(self, squares: Array) -> Array:
        """Of each block: those that are far from the path count for little."""
        return 1 / (squares + max(float(np.median(squares)), LEAST_SQUARE))


def _equal(costs: Array) -> npt.NDArray[np.bool_]:
    """[G] which costs are the least."""
    return costs <= costs.min() + FLAT * len(costs)


def _finer(best_s: Array) -> Array:
    """A fine grid [G] about the best latenesses."""
    low_s, high_s = max(0.0, float(best_s[0]) - 1.5 * COARSE_S), float(best_s[-1]) + 1.5 * COARSE_S
    return np.arange(low_s, high_s + FINE_S / 2, FINE_S)


def _command(grid_s: Array, blocks: Array, flat_s: float, rng: np.random.Generator) -> Late:
    """The lateness with the least cost, or the middle of those that can't be told apart."""
    draws = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=DRAWS)
    found_s = np.array([_least(grid_s, cost) for cost in draws @ blocks])
    sigma_s = np.hypot(float(np.std(found_s)), flat_s / np.sqrt(12))
    return Late(late_s=_least(grid_s, blocks.sum(axis=0)), sigma_s=float(sigma_s))


def _least(grid_s: Array, cost: Array) -> float:
    """Where the least cost [G] is: the vertex of a parabola, or the middle of what is flat."""
    flat = np.flatnonzero(_equal(cost))
    at = int(flat[0])
    if len(flat) > 1 or not 0 < at < len(cost) - 1:
        return float(grid_s[flat].mean())
    left, middle, right = cost[at - 1 : at + 2]
    return float(grid_s[at] + FINE_S * (left - right) / 2 / max(left - 2 * middle + right, 1e-15))


def _refuse_end(grid_s: Array, blocks: Array, where: str) -> None:
    if _least(grid_s, blocks.sum(axis=0)) > LATEST_S - COARSE_S:
        raise SpecError(
            f"{where}: commands would take effect {1e3 * LATEST_S:g} ms late or more, which no arm can be led with; "
            "does the driver follow what was sent, and are sender and driver stamped by one clock?"
        )


def _refuse_other_motion(residual_rad: float, where: str) -> None:
    if residual_rad > OFF_RAD:
        raise SpecError(
            f"{where}: the arm is typically {residual_rad:.3f} rad from where it was sent, bound {OFF_RAD:g} rad; it "
            "is held, or somebody else leads it: record one that follows"
        )
