"""Where a part stands that bears tags: the fit of one joint's value, or of a free pose, to what cameras see of them.

The corners themselves are fitted, not poses found before: a door's angle moves its tags along one arc, so a tag whose
own pose is flipped or poor still tells the angle well. Every tag proposes values; the value wins whose truncated sum
of squared errors over all tags is least (P. Torr and A. Zisserman, "MLESAC", CVIU 78, 2000), so one tag that was torn
off, or is read wrongly, is outvoted and named. Gauss-Newton on those that agree gives value and uncertainty.

Frames: whatever one the cameras' poses are told in. Units m, rad, px; residuals in standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rotations import quaternion
from skimo_core.domain.tables import Table

from ..rigid import turn
from .tags import Mount, Sighting, tag_pose, turned_rad
from .viewpoint import Viewpoint

CAP = 30.0
"""Sum of a tag's eight squared residuals above which it doesn't agree: chance gives that once in 5000 times."""
RIVAL = CAP / 2
"""Sum by which an answer must be the better one to be taken for it: more than chance, less than another tag's word."""
MODES = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, 1.0], [1.0, -1.0, 1.0, -1.0]]) / 2
"""[4, 4] of a square's corners: its place first, then its shape."""
GRID = 49
PROPOSALS = 2
"""Values that a tag proposes: its own pose may be flipped."""
STEPS = 6
SETTLED = 1e-7
"""A step, rad or m, after which nothing changes any more."""
RIDGE = 1e-9
"""Information that keeps what nothing tells (a door whose tags nobody sees) from dividing by zero."""
H = 1e-5
"""Step of the numeric derivatives, rad or m."""
NEAREST_M = 1e-3
LEAST_DOUBT_PX, MOST_DOUBT_PX = 0.02, 50.0
FEW, SAME_RAD, SAME_M, ROUGH_CAP = 6, 0.1, 0.01, 3000.0
"""Poses of a body that are followed up, how far apart they are, and how far off a tag may be beforehand."""
NEAR_M = 0.1
"""So far away counts like a turn by one radian."""
UPRIGHT = 0.02
"""By how much one pose must be the more upright one, in the cosine of its tilt, to be taken for that."""
HUGE = 1e12
APART = 4.0
"""Standard deviations by which two answers differ that are not one."""


Mask = npt.NDArray[np.bool_]


class Motion(Protocol):
    """How a part moves with one value."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    def moved(self, points_m: Array, values: Array) -> Array:
        """Points [..., P, 3] at value 0 as they are at `values` [...], which broadcast."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One tag seen by one camera."""

    view: Viewpoint
    sighting: Sighting
    rays: Array


def seen_by(view: Viewpoint, sightings: Sequence[Sighting]) -> tuple[Seen, ...]:
    """What a camera's picture holds, its lens undone."""
    if not sightings:
        return ()
    rays = view.intrinsics.rays(np.stack([sighting.corners_px for sighting in sightings]))
    return tuple(Seen(view=view, sighting=sighting, rays=ray) for sighting, ray in zip(sightings, rays))


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What a corner may lie off beside its sighting's own noise; standard deviations.

    Attributes:
        shift_px: all of a tag's corners together: the camera's pose and lens, the tag's place.
        shape_px: each by itself: print, glue, flatness.
    """

    shift_px: float
    shape_px: float


def read_doubt(table: Table) -> Doubt:
    """`shift_px` and `shape_px` of a data file; raises SpecError where they are missing, or too small to be true."""
    found = {key: table.number(key) for key in ("shift_px", "shape_px")}
    for key, value in found.items():
        if not LEAST_DOUBT_PX <= value <= MOST_DOUBT_PX:
            raise SpecError(
                f"{table.where}: {key} is {value:g} px, must lie in {LEAST_DOUBT_PX:g} to {MOST_DOUBT_PX:g}"
            )
    return Doubt(**found)


class Evidence:
    """Sightings of one part's tags, stacked. A tag's shape tells more than its place, which calibration blurs.

    Args:
        seen: N sightings.
        doubt: about each.
    """

    def __init__(self, seen: Sequence[Seen], doubt: Doubt) -> None:
        self.seen = tuple(seen)
        self._rotation = np.stack([one.view.rotation for one in seen])
        self._position = np.stack([one.view.position_m for one in seen])
        self._rays = np.stack([one.rays for one in seen])
        self._focal = np.array([[one.view.intrinsics.fx, one.view.intrinsics.fy] for one in seen])[:, None]
        shape = np.array([np.hypot(one.sighting.sigma_px, doubt.shape_px) for one in seen])
        sigma = np.stack([np.hypot(shape, 2 * doubt.shift_px), shape, shape, shape], axis=1)
        self._whitened = MODES / sigma[..., None]

    def __len__(self) -> int:
        return len(self.seen)

    def residuals(self, corners: Array) -> Array:
        """[..., N, 8] of corners [..., N, 4, 3]; infinite for a tag that would be seen from behind, or not at all."""
        rays, visible = self._project(corners)
        off = self._whitened @ ((rays - self._rays) * self._focal)
        return np.where(visible[..., None], off.reshape(*off.shape[:-2], 8), np.inf)

    def chi2(self, corners: Array) -> Array:
        """[..., N] sums of each tag's squared residuals."""
        with np.errstate(over="ignore"):
            return (self.residuals(corners) ** 2).sum(axis=-1)

    def error_px(self, corners: Array) -> Array:
        """[N] root mean square distance of the corners [N, 4, 3] from where they are seen."""
        rays, visible = self._project(corners)
        off_px = np.linalg.norm((rays - self._rays) * self._focal, axis=-1)
        return np.where(visible, np.sqrt((off_px**2).mean(axis=-1)), np.inf)

    def _project(self, corners: Array) -> tuple[Array, Mask]:
        """Rays [..., N, 4, 2], and whether the tags' faces are seen [..., N]."""
        local = (corners - self._position[:, None]) @ self._rotation
        depth = local[..., 2:]
        rays = local[..., :2] / np.maximum(depth, NEAREST_M)
        right, down = rays[..., 1, :] - rays[..., 0, :], rays[..., 3, :] - rays[..., 0, :]
        faces = right[..., 0] * down[..., 1] > right[..., 1] * down[..., 0]
        return rays, faces & (depth[..., 0] > NEAREST_M).all(axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A part's state.

    Attributes:
        values: [1] a joint's, or [7] a pose: position, then quaternion w x y z.
        sigma: [1], or [2]: of the position (its length) and of the orientation (its angle).
        agrees: [N] which sightings it rests on.
        error_px: [N] how far each lies off.
        ambiguous: whether another value fits as well, and nothing told them apart.
    """

    values: Array
    sigma: Array
    agrees: Mask
    error_px: Array
    ambiguous: bool


# --- a joint --------------------------------------------------------------------------------------------------------


def fit_joint(motion: Motion, squares: Array, evidence: Evidence, near: float | None = None) -> Fit:
    """The value of a joint whose tags' corners [N, 4, 3] at value 0 are known; `near` decides between equals."""
    candidates = _proposed(motion, squares, evidence)
    chi2 = evidence.chi2(motion.moved(squares, candidates[:, None]))
    cost = np.minimum(chi2, CAP).sum(axis=1)
    rivals: list[tuple[float, float]] = []
    for k in np.argsort(cost):
        if cost[k] > cost.min() + RIVAL:
            break
        if any(abs(candidates[k] - value) < APART * sigma for value, sigma in rivals):
            continue
        value, sigma = _settled(motion, squares, evidence, float(candidates[k]), chi2[k] < CAP)
        if all(abs(value - other) > APART * (sigma + s) for other, s in rivals):
            rivals.append((value, sigma))
    value, sigma = rivals[0] if near is None else min(rivals, key=lambda rival: abs(rival[0] - near))
    final = motion.moved(squares, np.array(value))
    return Fit(
        values=np.array([value]),
        sigma=np.array([sigma]),
        agrees=evidence.chi2(final) < CAP,
        error_px=evidence.error_px(final),
        ambiguous=len(rivals) > 1 and near is None,
    )


def _proposed(motion: Motion, squares: Array, evidence: Evidence) -> Array:
    """Values [K] at which single tags fit best."""
    values = np.linspace(motion.low, motion.high, GRID)
    chi2 = evidence.chi2(motion.moved(squares, values[:, None]))
    padded = np.pad(chi2, ((1, 1), (0, 0)), constant_values=np.inf)
    valley = (chi2 <= padded[:-2]) & (chi2 <= padded[2:]) & np.isfinite(chi2)
    order = np.argsort(np.where(valley, chi2, np.inf), axis=0)[:PROPOSALS]
    found = values[order]
    for _ in range(STEPS):
        here, there = evidence.residuals(motion.moved(squares, np.stack([found, found + H])))
        good = (np.isfinite(here) & np.isfinite(there))[..., :1]
        here, there = np.where(good, here, 0.0), np.where(good, there, 0.0)
        slope = (there - here) / H
        step = (slope * here).sum(axis=-1) / np.maximum((slope**2).sum(axis=-1), 1e-12)
        found = np.clip(found - step, motion.low, motion.high)
        if np.abs(step).max() < SETTLED:
            break
    return found.ravel()


def _settled(motion: Motion, squares: Array, evidence: Evidence, value: float, agrees: Mask) -> tuple[float, float]:
    """The value that fits all of the tags that agree best, and its standard deviation."""
    if not agrees.any():
        agrees = np.ones_like(agrees)

    def residuals(params: Array) -> Array:
        moved = motion.moved(squares, params)
        return evidence.residuals(moved)[..., agrees, :].reshape(len(params), -1)

    found, covariance = gauss_newton(residuals, np.array([value]), np.array([motion.low]), np.array([motion.high]))
    return float(found[0]), float(np.sqrt(covariance[0, 0]))


# --- a free body ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A pose that may be a body's: rotation [3, 3], position [3], its covariance [6, 6], and what it leaves."""

    rotation: Array
    position_m: Array
    covariance: Array
    cost: float = 0.0

    def apart(self, other: Place) -> bool:
        """Whether they are two."""
        spread = np.sqrt(np.diag(self.covariance)) + np.sqrt(np.diag(other.covariance))
        turned, moved = turned_rad(self.rotation, other.rotation), np.abs(self.position_m - other.position_m)
        return bool(turned > APART * np.linalg.norm(spread[:3]) or (moved > APART * spread[3:]).any())


def fit_body(
    mounts: Sequence[Mount],
    evidence: Evidence,
    *,
    near: tuple[Array, Array] | None = None,
    up: Array | None = None,
) -> tuple[Fit, Place]:
    """The pose of a body that bears tags.

    Args:
        mounts: of the N tags seen, in the body's frame.
        near: rotation [3, 3] and position [3] that decide between equals: where it was.
        up: [3] which way the body's z points, where nothing else decides.

    Returns:
        The fit, and the body's frame.
    """
    squares = np.stack([mount.corners for mount in mounts])
    settled = [_settled_body(squares, evidence, *place) for place in _proposed_places(mounts, squares, evidence)]
    settled.sort(key=lambda place: place.cost)
    rivals: list[Place] = []
    for place in settled:
        if place.cost < settled[0].cost + RIVAL and all(place.apart(other) for other in rivals):
            rivals.append(place)
    best, decided = rivals[0], len(rivals) == 1
    if not decided and near is not None:
        best, decided = min(rivals, key=lambda place: _distance(place, near)), True
    elif not decided and up is not None:
        first, second, *_ = sorted(rivals, key=lambda place: -float(place.rotation[:, 2] @ up))
        best, decided = first, float((first.rotation - second.rotation)[:, 2] @ up) > UPRIGHT
    final = squares @ best.rotation.T + best.position_m
    variances = np.diag(best.covariance)
    fit = Fit(
        values=np.array([*best.position_m, *quaternion(best.rotation)]),
        sigma=np.sqrt([variances[3:].sum(), variances[:3].sum()]),
        agrees=evidence.chi2(final) < CAP,
        error_px=evidence.error_px(final),
        ambiguous=not decided,
    )
    return fit, best


def refine_body(mounts: Sequence[Mount], evidence: Evidence, rotation: Array, position_m: Array) -> Place:
    """The pose of a body near a known one, by however many sightings of its tags."""
    return _settled_body(np.stack([mount.corners for mount in mounts]), evidence, rotation, position_m)


def _distance(place: Place, near: tuple[Array, Array]) -> float:
    return turned_rad(place.rotation, near[0]) + float(np.linalg.norm(place.position_m - near[1])) / NEAR_M


def _proposed_places(mounts: Sequence[Mount], squares: Array, evidence: Evidence) -> list[tuple[Array, Array]]:
    """The body's pose by each tag alone, both ways round: the few that fit all tags best."""
    found = []
    for mount, one in zip(mounts, evidence.seen):
        pose = tag_pose(one.sighting, one.view.intrinsics, mount.size_m)
        for way in (pose.best, pose.other):
            rotation = one.view.rotation @ way.rotation @ mount.rotation.T
            tag_m = one.view.rotation @ way.position_m + one.view.position_m
            found.append((rotation, tag_m - rotation @ mount.position_m))
    chi2 = evidence.chi2(np.stack([squares @ rotation.T + position_m for rotation, position_m in found]))
    few: list[tuple[Array, Array]] = []
    for k in np.argsort((1 - 1 / (1 + chi2 / ROUGH_CAP)).sum(axis=1)):
        rotation, position_m = found[k]
        new = (turned_rad(rotation, r) > SAME_RAD or np.linalg.norm(position_m - p) > SAME_M for r, p in few)
        if all(new):
            few.append(found[k])
    return few[:FEW]


def _settled_body(squares: Array, evidence: Evidence, rotation: Array, position_m: Array) -> Place:
    """The pose that fits best near a first one, tags that disagree weighing little."""
    covariance = np.eye(6)
    for scale in (ROUGH_CAP, CAP, CAP):
        chi2 = evidence.chi2(squares @ rotation.T + position_m)
        weight = np.sqrt(1 / (1 + np.minimum(chi2, HUGE) / scale))[:, None]
        off = partial(_body_residuals, squares, evidence, rotation, position_m, weight)
        step, covariance = gauss_newton(off, np.zeros(6), steps=2)
        rotation, position_m = turn(step[:3]) @ rotation, position_m + step[3:]
    chi2 = evidence.chi2(squares @ rotation.T + position_m)
    return Place(
        rotation=rotation,
        position_m=position_m,
        covariance=covariance,
        cost=float(np.minimum(chi2, CAP).sum()),
    )


def _body_residuals(
    squares: Array, evidence: Evidence, rotation: Array, position_m: Array, weight: Array, params: Array
) -> Array:
    """[K, 8 N] for K small turns and shifts [K, 6] of a pose."""
    turned = squares @ (turn(params[:, :3]) @ rotation).swapaxes(-1, -2)[:, None]
    corners = turned + (position_m + params[:, 3:])[:, None, None]
    return (evidence.residuals(corners) * weight).reshape(len(params), -1)


# --- least squares --------------------------------------------------------------------------------------------------


def gauss_newton(
    residuals: Callable[[Array], Array],
    start: Array,
    low: Array | None = None,
    high: Array | None = None,
    steps: int = STEPS,
) -> tuple[Array, Array]:
    """Parameters [P] of the least sum of squares near `start`, and their covariance [P, P].

    Args:
        residuals: of K sets of parameters [K, P], each [K, M] in standard deviations; what is not finite counts as 0.
        low, high: bounds.
    """
    found, many = start.astype(np.float64), len(start)
    normal = np.eye(many)
    for _ in range(steps):
        values = residuals(np.vstack([found, found + H * np.eye(many)]))
        values = np.where(np.isfinite(values).all(axis=0), values, 0.0)
        slope = (values[1:] - values[0]).T / H
        normal = slope.T @ slope + RIDGE * np.eye(many)
        before = found
        found = found - np.linalg.solve(normal, slope.T @ values[0])
        if low is not None and high is not None:
            found = np.clip(found, low, high)
        if np.abs(found - before).max() < SETTLED:
            break
    return found, np.asarray(np.linalg.inv(normal), np.float64)
