"""The bundle adjustment behind hand-eye calibration: all that is unknown, fitted at once to all corners in all views.

Unknown are the camera's pose on its mount, the board's on the other side, the joints' offsets, the lens, the board's
scale if asked for, and in each view what each joint is off beyond its offset (its noise: an arm doesn't stop quite
where it reads). Minimised is

    sum |corner - predicted|^2 / pixel_sigma^2 + sum |noise|^2 / joint_sigma^2
    + what offsets, lens and scale lie off their priors, each over its standard deviation, squared

by Levenberg's and Marquardt's method. Every unknown is scaled by the curvature along it, so that metres, radians and
lens coefficients weigh alike; a view's own unknowns are eliminated before the common ones are solved for (Triggs et
al., "Bundle adjustment - a modern synthesis", 2000). Both noise levels are found with it, by MacKay's rule ("Bayesian
interpolation", Neural Computation 4(3), 1992): squares / (count - what the fit took up).

Units m, rad, px. Dimensions as in `projection`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from .projection import Guess, Seen, slopes, stepped

ITERATIONS = 60
OPTIMAL, PASSABLE = 1e-3, 0.03
"""Largest slope left, in standard deviations of the unknown that it is along: aimed at, and enough at the last step."""
ROUNDS = 6
"""How often the noise levels are found anew."""
KEPT = 1e-9
"""Standard deviation of what is kept."""
PIXEL_FLOOR_PX, JOINT_FLOOR_RAD = 0.01, 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known before.

    Attributes:
        lens: [9] the lens, and `lens_information` [9, 9] the inverse of its covariance.
        offset_rad, offset_sigma_rad: [J] the offsets; a standard deviation of 0 keeps one.
        scale_sigma: of the board's scale, about 1; 0 keeps it.
        pixel_sigma_px, joint_sigma_rad: noise; where the fit begins, unless `fixed_noise`.
    """

    lens: Array
    lens_information: Array
    offset_rad: Array
    offset_sigma_rad: Array
    scale_sigma: float = 0.0
    pixel_sigma_px: float = 0.1
    joint_sigma_rad: float = 3e-4
    fixed_noise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What came out.

    Attributes:
        guess: the unknowns' values.
        covariance: [G, G] of the common ones: camera (3 shift, 3 turn, in its own frame), board (likewise), J offsets,
            lens, scale.
        pixel_sigma_px, joint_sigma_rad: noise levels.
        cost: half the sum of squares at the end; iterations: how many; optimality: slope left (see `OPTIMAL`).
    """

    guess: Guess
    covariance: Array
    pixel_sigma_px: float
    joint_sigma_rad: float
    cost: float
    iterations: int
    optimality: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Normal:
    """The normal equations at a guess, scaled so that their diagonals are 1.

    Attributes:
        cost: half the sum of squares.
        common, common_slope: [G, G] and [G]; local, local_slope: [V, J, J] and [V, J]; mixed: [V, G, J].
        scale, local_scale: [G] and [V, J] that the unknowns were multiplied by.
        pixels2, noise2: sums of squares of residuals (px^2) and of noise (rad^2).
    """

    cost: float
    common: Array
    common_slope: Array
    local: Array
    local_slope: Array
    mixed: Array
    scale: Array
    local_scale: Array
    pixels2: float
    noise2: float

    @property
    def optimality(self) -> float:
        return float(max(np.abs(self.common_slope).max(), np.abs(self.local_slope).max()))

    def step(self, damping: float) -> tuple[Array, Array]:
        """The step of Levenberg and Marquardt: common [G] and local [V, J]."""
        joints = self.local.shape[-1]
        local = self.local + damping * np.eye(joints)
        solved = np.linalg.solve(
            local, np.concatenate([np.swapaxes(self.mixed, 1, 2), self.local_slope[..., None]], -1)
        )
        reduced = self.common + damping * np.eye(len(self.common)) - np.sum(self.mixed @ solved[..., :-1], axis=0)
        slope = self.common_slope - np.sum(self.mixed @ solved[..., -1:], axis=0)[:, 0]
        common = -np.linalg.solve(reduced, slope)
        own = -solved[..., -1] - solved[..., :-1] @ common
        return common * self.scale, own * self.local_scale

    def covariance(self) -> tuple[Array, Array]:
        """Of the common unknowns [G, G], and the variances of the noise [V, J]."""
        gain = np.linalg.solve(self.local, np.swapaxes(self.mixed, 1, 2))
        inner = np.linalg.inv(self.common - np.sum(self.mixed @ gain, axis=0))
        own = np.linalg.inv(self.local) + gain @ inner @ np.swapaxes(gain, 1, 2)
        variances = np.diagonal(own, axis1=1, axis2=2) * self.local_scale**2
        return inner * np.outer(self.scale, self.scale), variances


def _normal(limits: RobotLimits, seen: Seen, guess: Guess, prior: Prior) -> _Normal:
    residual, common, own = slopes(limits, seen, guess)
    pixel2, joint2 = prior.pixel_sigma_px**2, prior.joint_sigma_rad**2
    joints = guess.noise_rad.shape[1]
    flat = common.reshape(-1, common.shape[-1])
    hessian, slope = flat.T @ flat / pixel2, flat.T @ residual.ravel() / pixel2
    turned = np.swapaxes(own, 1, 2)
    local, local_slope = turned @ own / pixel2, (turned @ residual[..., None])[..., 0] / pixel2
    mixed = np.swapaxes(common, 1, 2) @ own / pixel2
    noise2, pixels2 = float((guess.noise_rad**2).sum()), float((residual**2).sum())
    local += np.eye(joints) / joint2
    local_slope += guess.noise_rad / joint2
    information, apart = _prior_information(prior), _prior_apart(prior, guess)
    hessian[12:, 12:] += information
    slope[12:] += information @ apart
    cost = (pixels2 / pixel2 + noise2 / joint2 + apart @ information @ apart) / 2
    scale = 1 / np.sqrt(np.maximum(np.diag(hessian), 1e-30))
    local_scale = 1 / np.sqrt(np.diagonal(local, axis1=1, axis2=2))
    return _Normal(
        cost=float(cost),
        common=hessian * np.outer(scale, scale),
        common_slope=slope * scale,
        local=local * local_scale[:, :, None] * local_scale[:, None, :],
        local_slope=local_slope * local_scale,
        mixed=mixed * scale[:, None] * local_scale[:, None, :],
        scale=scale,
        local_scale=local_scale,
        pixels2=pixels2,
        noise2=noise2,
    )


def _prior_information(prior: Prior) -> Array:
    """[G - 12, G - 12] of offsets, lens and scale; what is kept has a variance next to nothing."""
    joints, count = len(prior.offset_rad), len(prior.offset_rad) + len(prior.lens) + 1
    information = np.zeros((count, count))
    weights = 1 / np.maximum([*prior.offset_sigma_rad, prior.scale_sigma], KEPT) ** 2
    information[:joints, :joints], information[-1, -1] = np.diag(weights[:-1]), weights[-1]
    information[joints:-1, joints:-1] = prior.lens_information
    return information


def _prior_apart(prior: Prior, guess: Guess) -> Array:
    """[G - 12] how far a guess lies from it."""
    return np.concatenate([guess.offset_rad - prior.offset_rad, guess.lens - prior.lens, [guess.scale - 1.0]])


def fit(limits: RobotLimits, seen: Seen, start: Guess, prior: Prior) -> Fit:
    """Fit all unknowns, and the noise levels unless they are fixed.

    Raises:
        SpecError: the fit doesn't settle (the start, or what was declared, is wrong).
    """
    guess, total = start, 0
    for last in [False] * (0 if prior.fixed_noise else ROUNDS) + [True]:
        guess, normal, iterations = _minimise(limits, seen, guess, prior)
        total += iterations
        if not last:
            prior = _with_noise(prior, normal, seen)
    return Fit(
        guess=guess,
        covariance=normal.covariance()[0],
        pixel_sigma_px=prior.pixel_sigma_px,
        joint_sigma_rad=prior.joint_sigma_rad,
        cost=normal.cost,
        iterations=total,
        optimality=normal.optimality,
    )


def _minimise(limits: RobotLimits, seen: Seen, guess: Guess, prior: Prior) -> tuple[Guess, _Normal, int]:
    normal, damping = _normal(limits, seen, guess, prior), 1e-4
    for iteration in range(ITERATIONS):
        if normal.optimality < OPTIMAL:
            return guess, normal, iteration
        with np.errstate(all="ignore"):
            tried = stepped(guess, *normal.step(damping))
            after = _normal(limits, seen, tried, prior)
        if np.isfinite(after.cost) and after.cost <= normal.cost * (1 + 1e-14):
            guess, normal, damping = tried, after, max(damping / 10, 1e-12)
        elif damping > 1e8:
            break
        else:
            damping *= 10
    if normal.optimality < PASSABLE:
        return guess, normal, ITERATIONS
    raise SpecError(
        f"the hand-eye fit doesn't settle: a slope of {normal.optimality:.2g} standard deviations is left after "
        f"{ITERATIONS} steps (bound {PASSABLE:g}); check the board's size, the mount, and the joints' order "
        "and signs"
    )


def _with_noise(prior: Prior, normal: _Normal, seen: Seen) -> Prior:
    """The noise levels that the residuals speak for."""
    covariance, variances = normal.covariance()
    views, joints = variances.shape
    noise_taken = float(views * joints - variances.sum() / prior.joint_sigma_rad**2)
    told = float(np.trace(covariance[12:, 12:] @ _prior_information(prior)))
    common_taken = len(covariance) - told
    count = 2 * float(seen.weight.sum()) - noise_taken - common_taken
    pixel = np.sqrt(normal.pixels2 / max(count, 1.0))
    joint = np.sqrt(normal.noise2 / max(noise_taken, 1.0))
    return replace(
        prior, pixel_sigma_px=max(float(pixel), PIXEL_FLOOR_PX), joint_sigma_rad=max(float(joint), JOINT_FLOOR_RAD)
    )
