"""How late an arm does what it is sent, and how late it says so.

Three things pass between a trajectory's sending and a joint state's stamp, and each shows in its own way:
    command   until the driver takes it up. A trajectory says when the arm is to be where, so a late one leads along the
              same path: what shows is the piece that was missed where the path is left sooner than it came - from rest,
              at brakes. Where none is left sooner, the log tells an upper bound.
    lag       by which the arm lies behind the driver's reference: its servos. The whole path comes later.
    state     from measuring to the stamp. It comes later as well, so that joint states tell lag and state together;
              the driver's reference has no servo between it and its stamp, and tells the state's alone.
What no log of one arm tells: a clock of the driver's that is off as a whole moves command and state together; how long
a stamped state then travels does not matter, as everybody goes by the stamp (`Track.transport_s`).

Least squares: the path is made anew for each lateness on a grid (`DriverPath`), and the track fitted to it. A reference
is the path, shifted. Measured joints are what a linear servo makes of it (a short filter, the same all along), or else
its sluggishness at each start would be taken for lateness. Residuals count by blocks of time, r2 / (r2 + usual) each
(Geman and McClure), so that an arm in contact counts for little; sigma by a bootstrap of the blocks. Units s, rad.
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

LATEST_S, TRIED_S = 0.06, 0.12
"""What comes later than the first makes the arm hurry so, to be in time after all, that nobody can tell any more when
it set out; it is looked for up to the second."""
LAG_MAX_S = 0.3
COARSE_S, FINE_S, FINEST_S = 0.01, 0.001, 0.0002
NEAR_ZERO_S = 0.03
"""A best lateness on the coarse grid below this may be any from 0 on."""
SIGMA_MAX_S = 0.005
"""A lateness that is told worse than this is not told."""
BLOCK_S = 0.5
"""Longer than a late trajectory bends the path."""
LEAD_IN_S = 0.5
"""After the first trajectory: where the arm was before is not known so well."""
TAPS_S = 0.008 * np.arange(-3, 6)
RIDGE = 0.03
"""Of a servo's filter: times about the lag that it looks at, and how much it is drawn to the shift alone."""
USUAL = 0.25
"""Quantile of the blocks' residuals that is taken for usual: most of an episode may be spent in contact."""
DRAWS, STEPS = 200, 4
MOST_TRAJECTORIES, MOST_SAMPLES = 800, 6000
MOVES_RAD = 0.05
OFF_RAD = 0.1
"""An arm that is typically further from its path than this does something else than it was sent."""
LEAST_SQUARE = 1e-14
"""rad2: no encoder is finer."""
FLAT = 1e-6
"""Costs that differ by less (of a block's) are equal."""
NOTHING, SURE = 0.1, 2.0
"""Costs of a log that differ by less than so much of one block's, or so many times what chance makes of it, may be
equal."""


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
        at_most_s: every lateness up to this leads along much the same path; 0: promptness would have shown.
        halves_s: the command's by every other block of time, and by the rest.
        lag: joint states behind the path: of servos and stamps together.
        state: stamps of the driver's reference behind the path; None: no reference in the log.
        joins: how the driver gets onto a trajectory (`driver_path.JOINS`).
        residual_rad: typical distance of what was fitted from where it should be.
        grid_s, cost: [G] the latenesses that were tried, and how badly each fits (0: best).
        trajectories, seconds: how much log it was.
    """

    command: Late
    at_most_s: float
    halves_s: tuple[float, float]
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
    joints = _Fit(states, sent, log.name, servo=True)
    clear = joints if reference is None else _Fit(reference, sent, log.name, servo=False)
    joins, grid_s, usual = _coarse(clear)
    blocks = clear.costs(grid_s, joins, usual)
    grid_s, blocks = _finest(clear, joins, usual, grid_s, blocks)
    total = blocks.sum(axis=0)
    command, at_most_s = _told(grid_s, blocks, rng)
    _refuse_other_motion(clear.residual_rad, log.name)
    _refuse_untold(command, log.name)
    return Timing(
        command=command,
        at_most_s=at_most_s,
        halves_s=(_least(grid_s, blocks[::2].sum(axis=0)), _least(grid_s, blocks[1::2].sum(axis=0))),
        lag=joints.shift(command.late_s, joins, rng),
        state=None if reference is None else clear.shift(command.late_s, joins, rng),
        joins=joins,
        residual_rad=clear.residual_rad,
        grid_s=grid_s,
        cost=(total - total.min()) / len(blocks),
        trajectories=len(sent),
        seconds=float(clear.t_s[-1] - clear.t_s[0]),
    )


class _Fit:
    """How well a track goes along the path of a lateness, shifted as it fits best.

    Args:
        servo: whether a servo lies between path and track.

    Attributes:
        t_s: [K] of the samples that are used.
        residual_rad: typical distance at the newest fit.
    """

    def __init__(self, track: Track, sent: Sequence[Sent], where: str, *, servo: bool) -> None:
        begin_s, end_s = sent[0].sent_s + LEAD_IN_S, sent[-1].sent_s + LAG_MAX_S
        inside = np.flatnonzero((track.t_s > begin_s) & (track.t_s < end_s))
        used = track.part(inside[:: max(1, -(-len(inside) // MOST_SAMPLES))])
        moves_rad = float(np.ptp(used.values, axis=0).max()) if len(used.t_s) else 0.0
        if moves_rad < MOVES_RAD:
            raise SpecError(
                f"{where}: {track.what}: {moves_rad:.3f} rad of motion while commands are sent, needs {MOVES_RAD:g} "
                "rad; record an arm that is led about"
            )
        self.t_s, self._values, self._sent, self._servo = used.t_s, used.values, sent, servo
        before = int(np.searchsorted(track.t_s, sent[0].sent_s)) - 1
        self._rest_rad = track.values[max(before, 0)]
        block = np.floor((self.t_s - self.t_s[0]) / BLOCK_S).astype(int)
        self._block = np.unique(block, return_inverse=True)[1]
        self._counts = np.bincount(self._block)
        self._shift_s = 0.0
        self.residual_rad = np.inf

    def costs(self, grid_s: Array, joins: str, usual: float) -> Array:
        """Cost of each block [B, G] at each lateness [G]; `usual` is the square of a usual residual, rad2."""
        return _cost(np.array([self.squares(late_s, joins, servo=self._servo) for late_s in grid_s]).T, usual)

    def squares(self, late_s: float, joins: str, *, servo: bool) -> Array:
        """Mean square residual of each block [B], rad2, at what fits best for this lateness."""
        path = DriverPath(self._sent, late_s, joins, self._rest_rad)
        squares = self._behind(path)[1]
        if servo:
            squares = self._through_servo(path, squares)
        self.residual_rad = float(np.sqrt(np.median(squares)))
        return squares

    def shift(self, late_s: float, joins: str, rng: np.random.Generator) -> Late:
        """By how much the track lies behind the path of a lateness."""
        left, squares, slopes = self._behind(DriverPath(self._sent, late_s, joins, self._rest_rad))
        weights = self._weights(squares)
        gram = np.bincount(self._block, weights * (slopes**2).sum(axis=1))
        side = np.bincount(self._block, weights * (slopes * left).sum(axis=1))
        draws = rng.multinomial(len(gram), np.full(len(gram), 1 / len(gram)), size=DRAWS)
        return Late(late_s=self._shift_s, sigma_s=float(np.std((draws @ side) / (draws @ gram))))

    def _behind(self, path: DriverPath) -> tuple[Array, Array, Array]:
        """Residuals [K, J] of the shifted path, their squares by block [B], slopes [K, J] by the shift."""
        left = slopes = np.zeros_like(self._values)
        for _ in range(STEPS):
            q, dq = path.sample(self.t_s - self._shift_s)
            left = self._values - q
            weights = self._weights(self._squares(left))[:, None]
            left = left - (weights * left).sum(axis=0) / weights.sum()
            slopes = (weights * dq).sum(axis=0) / weights.sum() - dq
            step_s = float((weights * slopes * left).sum() / max((weights * slopes**2).sum(), 1e-12))
            if abs(step_s) < 1e-6:
                break
            self._shift_s = float(np.clip(self._shift_s + np.clip(step_s, -0.05, 0.05), -LAG_MAX_S, LAG_MAX_S))
        return left, self._squares(left), slopes

    def _through_servo(self, path: DriverPath, squares: Array) -> Array:
        """Squares by block [B] of what is left behind a linear servo, each joint's own: a filter over `TAPS_S`."""
        times_s = (self.t_s[:, None] - self._shift_s - TAPS_S).ravel()
        order = np.argsort(times_s, kind="stable")
        q = np.empty((len(times_s), self._values.shape[1]))
        q[order] = path.sample(times_s[order])[0]
        q = q.reshape(len(self.t_s), len(TAPS_S), -1)
        centre, steps = q[:, np.argmin(np.abs(TAPS_S))], np.diff(q, axis=1)
        left = np.empty_like(self._values)
        for _ in range(2):
            weights = self._weights(squares)
            for joint, behind in enumerate((self._values - centre).T):
                columns = np.column_stack([np.ones(len(behind)), steps[:, :, joint]])
                left[:, joint] = behind - columns @ _ridge(columns, behind, weights)
            squares = self._squares(left)
        return squares

    def _squares(self, left: Array) -> Array:
        return np.asarray(np.bincount(self._block, (left**2).mean(axis=1)) / self._counts, np.float64)

    def _weights(self, squares: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Of each sample [K], mean 1: blocks that are far from the path count for little."""
        weights = 1 / (squares + _usual(squares))[self._block] ** 2
        return np.asarray(weights / weights.mean(), np.float64)


def _ridge(columns: Array, values: Array, weights: npt.NDArray[np.floating]) -> Array:
    """Weighted least squares, all but the first coefficient drawn to 0."""
    weighted = columns * weights[:, None]
    gram = weighted.T @ columns
    inner = np.arange(1, len(gram))
    gram[inner, inner] += RIDGE * np.trace(gram[1:, 1:]) / len(inner) + 1e-12
    return np.asarray(np.linalg.solve(gram, weighted.T @ values), np.float64)


def _coarse(fit: _Fit) -> tuple[str, Array, float]:
    """How the driver joins, a fine grid [G] about the best latenesses, and the usual square of a residual, rad2."""
    grids_s, squares = {}, {}
    for joins in JOINS:
        grid_s = np.arange(0.0, TRIED_S + COARSE_S / 2, COARSE_S)
        rows = _rows(fit, joins, grid_s)
        best_s = grid_s[np.argmin(_cost(rows, _usual(rows)).sum(axis=1))]
        between_s = np.abs(best_s + COARSE_S * np.array([-0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8]))
        grids_s[joins] = np.concatenate([grid_s, between_s])
        squares[joins] = np.concatenate([rows, _rows(fit, joins, between_s)])
    usual = min(_usual(row) for rows in squares.values() for row in rows)
    costs = {joins: _cost(rows, usual).sum(axis=1) for joins, rows in squares.items()}
    joins = min(JOINS, key=lambda name: costs[name].min())
    best_s = np.sort(grids_s[joins][_equal(costs[joins])])
    low_s = 0.0 if best_s[0] < NEAR_ZERO_S else float(best_s[0]) - COARSE_S
    return joins, np.arange(low_s, float(best_s[-1]) + COARSE_S + FINE_S / 2, FINE_S), usual


def _rows(fit: _Fit, joins: str, grid_s: Array) -> Array:
    """Squares [G, B] of the path alone, shifted, at each lateness."""
    return np.array([fit.squares(late_s, joins, servo=False) for late_s in grid_s.tolist()], np.float64)


def _finest(fit: _Fit, joins: str, usual: float, grid_s: Array, blocks: Array) -> tuple[Array, Array]:
    """The grid and block costs with finer steps about the best lateness, where that is one."""
    best = np.flatnonzero(_equal(blocks.sum(axis=0)))
    if len(best) > 1:
        return grid_s, blocks
    about_s = grid_s[best[0]] + np.arange(-FINE_S, FINE_S + FINEST_S / 2, FINEST_S)
    about_s = about_s[about_s >= 0]
    every_s = np.concatenate([grid_s, about_s])
    costs = np.concatenate([blocks, fit.costs(about_s, joins, usual)], axis=1)
    order = np.argsort(every_s, kind="stable")
    return every_s[order], costs[:, order]


def _usual(squares: npt.NDArray[np.floating]) -> float:
    return max(float(np.quantile(squares, USUAL)), LEAST_SQUARE)


def _cost(squares: Array, usual: float) -> Array:
    """Of blocks [...]: at first as their squares, at most 1."""
    return squares / (squares + usual)


def _equal(costs: Array) -> npt.NDArray[np.bool_]:
    """[G] which costs are the least."""
    return costs <= costs.min() + FLAT * len(costs)


def _told(grid_s: Array, blocks: Array, rng: np.random.Generator) -> tuple[Late, float]:
    """The lateness that fits best, or the middle of those that can't be told from none; and where these end."""
    draws = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=DRAWS)
    scatter_s = float(np.std([_least(grid_s, cost) for cost in draws @ blocks]))
    total = blocks.sum(axis=0)
    best = int(np.argmin(total))
    worse = blocks - blocks[:, best : best + 1]
    bound = np.maximum(NOTHING, SURE * np.std(worse, axis=0) * np.sqrt(len(blocks)))
    same_s = grid_s[worse.sum(axis=0) <= bound]
    wide_s = float(same_s[-1] - same_s[0])
    if same_s[0] == 0.0 and wide_s > FINE_S:
        middle_s = float(same_s[-1]) / 2
        return Late(late_s=middle_s, sigma_s=wide_s / np.sqrt(12)), float(same_s[-1])
    sigma_s = max(scatter_s, wide_s / np.sqrt(12), FINEST_S)
    return Late(late_s=_least(grid_s, total), sigma_s=sigma_s), 0.0


def _least(grid_s: Array, cost: Array) -> float:
    """Where a cost [G] is least: the middle of where it is."""
    return float(grid_s[_equal(cost)].mean())


def _refuse_untold(command: Late, where: str) -> None:
    if command.late_s > LATEST_S:
        raise SpecError(
            f"{where}: commands take effect about {1e3 * command.late_s:.0f} ms late, bound {1e3 * LATEST_S:g} ms, "
            "with which no arm can be led; mend the connection to the driver, or synchronise its clock with the "
            "sender's (chrony, PTP)"
        )
    if command.sigma_s > SIGMA_MAX_S:
        raise SpecError(
            f"{where}: the log tells when commands take effect to {1e3 * command.sigma_s:.1f} ms, bound "
            f"{1e3 * SIGMA_MAX_S:g} ms: hardly any leaves the path under way before it has arrived; record starts from "
            "rest and brakes, without a rig that knows of a latency (`command`)"
        )


def _refuse_other_motion(residual_rad: float, where: str) -> None:
    if residual_rad > OFF_RAD:
        raise SpecError(
            f"{where}: the arm is typically {residual_rad:.3f} rad from where it was sent, bound {OFF_RAD:g} rad; it "
            "is held, or somebody else leads it: record one that follows"
        )
