"""By how much one signal is stamped later than another that shows the same motion, to a fraction of a sample.

    found = shift(a, b, rng)                 b(t) = a(t - late) + constant
    found = shift(a, b, rng, rigid=True)     b(t) = R a(t - late) + c with any rotation R: a motion that a camera saw,
                                             which may stand anywhere
    shift(a, b, rng, loose=g)                b(t) = a + g x with any x: what of `a` isn't known well

`a` is read between its samples by a cubic spline, so it should be the denser one and hardly noisy (joint states); `b`
may be rough, and strays in it count for little. What comes back is within a few of its `sigma_s`; a motion that tells
less than `SIGMA_MAX_S`, or fits as well at another lateness, or whose lateness changes, is refused with a remedy.
Gauss-Newton with weights of Cauchy's kind; sigma by a block bootstrap, as what is left of a fit is correlated in time.
Units s and the signals' own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array

from ..rigid import nearest_rotation
from .timing import LEAST, Track, checked

EARLIEST_S, LATEST_S = -0.1, 0.5
COARSE_S = 0.01
SIGMA_MAX_S = 0.002
CHANGES_S = 0.005
"""Parts of a log that differ by more than this, and by more than chance lets them, had a clock that changed."""
AS_GOOD, CLEAR = 1.5, 0.05
"""Another lateness whose residual is less than so many times the best one's, or than this share of the worst one's, is
as good an answer."""
BLOCK_S, DRAWS = 0.5, 200
PARTS, LEAST_OF_PART, SURE = 3, 60, 5.0
"""Parts of a log, of so many samples at least, that differ by so many sigmas, differ by more than chance."""
STEPS = 12
STRAY = 3.0
"""Residuals of so many times the usual size weigh half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How late a signal is.

    Attributes:
        late_s, sigma_s: by so much, and its standard deviation.
        residual: root mean square of what is left, in the signals' unit.
        times_s: [K] the samples that were used.
        left: [K, N] what is left of them.
    """

    late_s: float
    sigma_s: float
    residual: float
    times_s: Array
    left: Array


def shift(
    a: Track,
    b: Track,
    rng: np.random.Generator,
    *,
    where: str = "log",
    rigid: bool = False,
    loose: Array | None = None,
) -> Shift:
    """How much later `b` is stamped than `a`.

    Args:
        a, b: stamped positions [K, N], of the same N; three where `rigid`.
        rng: draws the bootstrap's blocks.
        where: what is named in errors.
        rigid: whether `b` may be `a` seen from anywhere.
        loose: [K, N, E] what may be added to `a`, as much as fits.

    Raises:
        SpecError: the clocks can't be trusted (`timing.checked`), too little in common, or too little motion.
    """
    kept = np.append(True, np.diff(a.t_s) > 0)
    a, b = checked(a, where), checked(b, where)
    inside = (b.t_s - LATEST_S >= a.t_s[0]) & (b.t_s - EARLIEST_S <= a.t_s[-1])
    if inside.sum() < LEAST:
        raise SpecError(
            f"{where}: {b.what} and {a.what} have {inside.sum()} samples in common, needs at least {LEAST}; are both "
            "stamped by one clock, in seconds? Record both for 10 s and more"
        )
    about = _About(a, b.part(inside), rigid, None if loose is None else loose[kept], where)
    late_s = about.coarse()
    fitted = about.fit(slice(None), late_s, rng)
    _refuse_ends(fitted.late_s, about)
    _refuse_changes(about, fitted.late_s, rng)
    if not fitted.sigma_s <= SIGMA_MAX_S:
        moves = np.ptp(a.values, axis=0).max()
        raise SpecError(
            f"{where}: the motion tells how late {b.what} is to {1e3 * fitted.sigma_s:.2g} ms, bound "
            f"{1e3 * SIGMA_MAX_S:g} ms ({a.what} moves by {moves:.3g}, noise {fitted.residual:.2g}); move further and "
            "faster, not in a circle, and for longer"
        )
    return fitted


@dataclass(frozen=True, slots=True)
class _About:
    """What is to be fitted."""

    a: Track
    b: Track
    rigid: bool
    loose: Array | None
    where: str

    def problem(self, rows: slice = slice(None)) -> _Problem:
        return _Problem(self.a, self.b.part(rows), self.rigid, self.loose)

    def fit(self, rows: slice, late_s: float, rng: np.random.Generator) -> Shift:
        """The best lateness near `late_s` by some of the samples."""
        problem = self.problem(rows)
        late_s = problem.best(late_s)
        slopes, left, weights = problem.linear(late_s)
        sigma_s = _bootstrap(*_blocks(problem.t_s, slopes, left, weights), rng)
        return Shift(late_s=late_s, sigma_s=sigma_s, residual=problem.scale, times_s=problem.t_s, left=left)

    def coarse(self) -> float:
        """The lateness on a grid with the least residual, if no other one that is not beside it is as good."""
        grid_s = np.arange(EARLIEST_S, LATEST_S + COARSE_S / 2, COARSE_S)
        problem = self.problem()
        costs = np.array([problem.cost(late_s) for late_s in grid_s.tolist()])
        at = int(np.argmin(costs))
        valleys = np.flatnonzero((costs[1:-1] <= costs[:-2]) & (costs[1:-1] <= costs[2:])) + 1
        good = max(AS_GOOD * self._best_cost(float(grid_s[at]))[1], CLEAR * float(costs.max()))
        if good > costs.max() / 2:
            return float(grid_s[at])  # too little motion for any answer, which its sigma says
        for other in valleys[np.abs(valleys - at) > 2].tolist():
            found_s, cost = self._best_cost(float(grid_s[other]))
            if cost < good and abs(found_s - grid_s[at]) > 2 * COARSE_S:
                raise SpecError(
                    f"{self.where}: the motion repeats itself, or goes in a circle: it fits {1e3 * grid_s[at]:.0f} ms "
                    f"as well as {1e3 * found_s:.0f} ms; move to and fro, slower, or at several speeds"
                )
        return float(grid_s[at])

    def _best_cost(self, late_s: float) -> tuple[float, float]:
        problem = self.problem()
        late_s = problem.best(late_s)
        return late_s, problem.cost(late_s)


class _Problem:
    """Residuals of b against a that is late, with the rest (constant, rigid motion, what is loose) fitted."""

    def __init__(self, a: Track, b: Track, rigid: bool, loose: Array | None) -> None:
        self.t_s, self._b, self._rigid = b.t_s, b.values, rigid
        parts = a.values[:, :, None] if loose is None else np.concatenate([a.values[:, :, None], loose], axis=2)
        spline = CubicSpline(a.t_s, parts)
        self._a, self._slope = spline, spline.derivative()
        self._mix = np.eye(int(parts.shape[-1]))[0]
        self._weights = np.ones(len(b.t_s))
        self.scale = np.inf

    def left(self, late_s: float) -> tuple[Array, Array]:
        """Residuals [K, N] at a lateness, and the rotation of a."""
        a, w = self._a(self.t_s - late_s) @ self._mix, self._weights[:, None]
        a_mean, b_mean = (w * a).sum(0) / w.sum(), (w * self._b).sum(0) / w.sum()
        a, b = a - a_mean, self._b - b_mean
        turn = nearest_rotation((w * b).T @ a) if self._rigid else np.eye(a.shape[1])
        return b - a @ turn.T, turn

    def cost(self, late_s: float) -> float:
        """Root mean square residual, strays counting for little."""
        left, _ = self.left(late_s)
        return _size(left, self._weights)

    def best(self, late_s: float) -> float:
        """The lateness near `late_s` with the least residual; sets weights and scale."""
        for _ in range(STEPS):
            slopes, left, weights = self.linear(late_s)
            grams, sides = _normal(slopes, left, weights)
            steps = np.linalg.lstsq(grams, sides, rcond=None)[0]
            late_s += float(np.clip(steps[0], -COARSE_S, COARSE_S))
            self._mix[1:] += steps[1 : len(self._mix)]
            if abs(steps[0]) < 1e-7:
                break
        return late_s

    def linear(self, late_s: float) -> tuple[Array, Array, Array]:
        """Slopes [K, N, P] of the fit by lateness, what is loose, and the rest; residuals [K, N], weights [K]."""
        left, turn = self.left(late_s)
        size = np.linalg.norm(left, axis=1)
        usual = max(float(np.median(size)), 1e-9 * float(np.abs(self._b).max()), 1e-12)
        self._weights = 1 / (1 + (size / (STRAY * usual)) ** 2)
        self.scale = _size(left, self._weights)
        speed = -(self._slope(self.t_s - late_s) @ self._mix) @ turn.T
        count = speed.shape[1]
        constant = np.broadcast_to(np.eye(count), (len(speed), count, count))
        columns = [speed[:, :, None], turn @ self._a(self.t_s - late_s)[:, :, 1:], constant]
        if self._rigid:
            columns.append(-_cross(self._b - left))
        return np.concatenate(columns, axis=2), left, self._weights


def _size(left: Array, weights: Array) -> float:
    return float(np.sqrt((weights[:, None] * left**2).sum() / (weights.sum() * left.shape[1])))


def _cross(vectors: Array) -> Array:
    """[K, 3, 3] whose product with a small turn is the turned vectors' change, less its sign."""
    centred = vectors - vectors.mean(axis=0)
    x, y, z = centred.T
    o = np.zeros_like(x)
    return np.stack([np.stack([o, -z, y], 1), np.stack([z, o, -x], 1), np.stack([-y, x, o], 1)], axis=1)


def _normal(slopes: Array, left: Array, weights: Array) -> tuple[Array, Array]:
    weighted = slopes * weights[:, None, None]
    return np.einsum("kni,knj->ij", weighted, slopes), np.einsum("kni,kn->i", weighted, left)


def _blocks(times_s: Array, slopes: Array, left: Array, weights: Array) -> tuple[Array, Array]:
    """Normal equations of each block: [B, P, P], [B, P]."""
    of = np.floor((times_s - times_s[0]) / BLOCK_S).astype(int)
    parts = [_normal(slopes[of == k], left[of == k], weights[of == k]) for k in np.unique(of)]
    return np.array([p[0] for p in parts]), np.array([p[1] for p in parts])


def _bootstrap(grams: Array, sides: Array, rng: np.random.Generator) -> float:
    """Standard deviation of the lateness over draws of blocks; infinite where the motion doesn't tell it."""
    total = grams.sum(axis=0)
    rest = total[1:, 1:]
    told = total[0, 0] - total[0, 1:] @ np.linalg.lstsq(rest, total[1:, 0], rcond=None)[0]
    if told <= 1e-9 * max(total[0, 0], 1e-300):
        return np.inf
    draws = rng.multinomial(len(grams), np.full(len(grams), 1 / len(grams)), size=DRAWS)
    steps = [
        np.linalg.lstsq(np.tensordot(draw, grams, 1), np.tensordot(draw, sides, 1), rcond=None)[0][0] for draw in draws
    ]
    return float(np.std(steps))


def _refuse_ends(late_s: float, about: _About) -> None:
    if not EARLIEST_S + COARSE_S / 2 < late_s < LATEST_S - COARSE_S / 2:
        raise SpecError(
            f"{about.where}: {about.b.what} would be {1e3 * late_s:.0f} ms late, looked for was {1e3 * EARLIEST_S:g} "
            f"to {1e3 * LATEST_S:g} ms; are both stamped by one clock, and do they show the same motion?"
        )


def _refuse_changes(about: _About, late_s: float, rng: np.random.Generator) -> None:
    """Lateness by parts of the log: a clock that was set, or drifts, shows there."""
    edges = np.linspace(0, len(about.b.t_s), PARTS + 1).astype(int).tolist()
    if edges[1] < LEAST_OF_PART:
        return
    parts = [about.fit(slice(*pair), late_s, rng) for pair in itertools.pairwise(edges)]
    for one, other in itertools.combinations(parts, 2):
        apart_s, chance_s = abs(one.late_s - other.late_s), SURE * float(np.hypot(one.sigma_s, other.sigma_s))
        if apart_s > max(CHANGES_S, chance_s):
            words = ", ".join(f"{1e3 * part.late_s:.1f}" for part in parts)
            raise SpecError(
                f"{about.where}: how late {about.b.what} is changes over the log ({words} ms by thirds, bound "
                f"{1e3 * max(CHANGES_S, chance_s):.1f} ms between two); a clock was set or drifts: synchronise the "
                "clocks (chrony, PTP)"
            )
