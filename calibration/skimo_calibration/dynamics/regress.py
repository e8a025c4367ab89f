"""Weighted linear least squares with intervals that can be believed: by covariance, and by resampling blocks of time.

    y = X p + noise,  noise of each group (joint) of its own size;  p near a prior, as near as its sigma says
Weights are the inverse of each group's residual, found by repetition. The prior is wide: it decides where rows don't.
Residuals of a real arm are not white, so an interval is the wider of two: the normal one from the covariance, and the
one from a block bootstrap (H. R. Kunsch, "The Jackknife and the Bootstrap for General Stationary Observations", Annals
of Statistics 17(3), 1989), whose blocks of `BLOCK_S` are drawn with replacement. Pure; randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.optimize

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array

BLOCK_S = 1.0
RESAMPLES = 200
REPETITIONS = 4
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A linear model's rows.

    Attributes:
        x: [R, P] and y: [R].
        group, block: [R] whose noise a row has, and which stretch of time it is from.
    """

    x: Array
    y: Array
    group: npt.NDArray[np.int64]
    block: npt.NDArray[np.int64]

    def without(self, fixed: dict[int, float]) -> Rows:
        """The rows with some parameters set; their columns are gone."""
        left = [k for k in range(self.x.shape[1]) if k not in fixed]
        y = self.y - sum((value * self.x[:, k] for k, value in fixed.items()), np.zeros_like(self.y))
        return Rows(x=self.x[:, left], y=y, group=self.group, block=self.block)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is taken of the parameters before the rows are looked at, each [P].

    Attributes:
        value, sigma: and how far off it may well be.
        low: below which none lies.
    """

    value: Array
    sigma: Array
    low: Array

    def of(self, kept: list[int]) -> Prior:
        """Some of them."""
        return Prior(value=self.value[kept], sigma=self.sigma[kept], low=self.low[kept])


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What the rows say.

    Attributes:
        value: [P], within the bounds.
        sigma: [P] standard deviation.
        half: [P] of the 95 % interval's width.
        correlation: [P, P] of the estimates.
        noise: [groups] standard deviation of each group's residual.
        cost: sum over rows of the logarithm of their group's noise; compares solutions of the same rows.
    """

    value: Array
    sigma: Array
    half: Array
    correlation: Array
    noise: Array
    cost: float


def solve(rows: Rows, prior: Prior, rng: np.random.Generator | None) -> Solution:
    """Estimate the parameters; without `rng` intervals are from the covariance alone.

    Raises:
        SpecError: there are fewer rows than parameters.
    """
    count, size = rows.x.shape
    if count < 2 * size:
        raise SpecError(
            f"only {count} samples of a moving arm are left for {size} parameters; record a longer motion that moves "
            "all joints (skimo calibrate excite)"
        )
    groups = int(rows.group.max()) + 1
    noise, value = np.ones(groups), np.zeros(size)
    for _ in range(REPETITIONS):
        value = _bounded(rows, noise, prior)
        noise = _noise(rows, value, groups)
    weight = 1.0 / noise[rows.group]
    x = rows.x * weight[:, None] * prior.sigma
    covariance = np.linalg.inv(x.T @ x + np.eye(size)) * np.outer(prior.sigma, prior.sigma)
    sigma = np.sqrt(np.diag(covariance))
    half = NORMAL_95 * sigma
    if rng is not None:
        y = (rows.y - rows.x @ prior.value) * weight
        half = np.maximum(half, half_widths(x, y, rows.block, rng, _drawn) * prior.sigma)
    return Solution(
        value=value,
        sigma=half / NORMAL_95,
        half=half,
        correlation=covariance / np.outer(sigma, sigma),
        noise=noise,
        cost=float(np.log(noise)[rows.group].sum()),
    )


def least(cost: Callable[[float], float], low: float, high: float, fine: float) -> float:
    """Where a function of one number with one valley between `low` and `high` is least, to within `fine`."""
    result: Any = scipy.optimize.minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": fine})
    return float(result.x)


def _bounded(rows: Rows, noise: Array, prior: Prior) -> Array:
    """The likeliest parameters within their bounds: least squares in multiples of the prior's sigma."""
    weight = 1.0 / noise[rows.group]
    x, y = rows.x * weight[:, None] * prior.sigma, (rows.y - rows.x @ prior.value) * weight
    size = x.shape[1]
    stacked = np.concatenate([x, np.eye(size)])
    factors = np.linalg.qr(stacked)
    side = factors.Q.T @ np.concatenate([y, np.zeros(size)])
    free = np.linalg.solve(factors.R, side)
    low = (prior.low - prior.value) / prior.sigma
    if (free < low).any():
        free = scipy.optimize.lsq_linear(factors.R, side, (low, np.full(size, np.inf)), tol=1e-12).x
    return prior.value + prior.sigma * free


def _noise(rows: Rows, value: Array, groups: int) -> Array:
    """[groups] standard deviation of what the model leaves."""
    left = rows.y - rows.x @ value
    square = np.bincount(rows.group, left**2, groups) / np.maximum(np.bincount(rows.group, minlength=groups), 1)
    return np.sqrt(np.maximum(square, 1e-18))


def _drawn(normal: Array, side: Array) -> Array:
    """The fit that a prior draws to 0; unknowns in multiples of its sigma."""
    return np.asarray(np.linalg.solve(normal + np.eye(len(side)), side), np.float64)


def half_widths(
    x: Array,
    y: Array,
    block: npt.NDArray[Any],
    rng: np.random.Generator,
    solved: Callable[[Array, Array], Array],
) -> Array:
    """[P] half of the 95 % intervals' widths of a least-squares fit over resampled blocks.

    Args:
        x, y: [K, P] and [K] of the fit, and the block [K] that each row is of.
        solved: from the normal equations' matrix [P, P] and side [P] to the fit [P].
    """
    kinds = np.unique(block)
    normals = np.array([x[block == b].T @ x[block == b] for b in kinds])
    sides = np.array([x[block == b].T @ y[block == b] for b in kinds])
    found = np.empty((RESAMPLES, x.shape[1]))
    for k in range(RESAMPLES):
        times = np.bincount(rng.integers(len(kinds), size=len(kinds)), minlength=len(kinds)).astype(np.float64)
        found[k] = solved(np.tensordot(times, normals, 1), times @ sides)
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    return (high - low) / 2
