"""Joint offsets without a camera: a pointed tool in the hand touches the same points from several configurations.

The tip's place in the flange's frame, the points' in the base's, and what the encoders are off are fitted at once; each
may be known or not. What the touches tell depends on it:

    neither known       offsets of joints 2 to 6; joint 1 turns the points with it, joint 7 the tip
    points known        in the base frame, by a fixture: joint 1 as well
    tip known           in the flange's frame, away from joint 7's axis: joint 7 as well
What isn't told keeps what is known of it, and says so. Judged is the hold-out: touches that the fit didn't see.

    touch: 1                                    a file of touches
    date: 2026-01-31
    robot: {model: panda}
    joints_unit: rad
    tip_m: [0.0, 0.0, 0.18]                     roughly, or to tip_sigma_m
    tip_sigma_m: 0.01
    points: {a: {position_m: [0.5, 0.1, 0.0], sigma_m: 0.0002}, b: {}}
    touches: [{point: a, q_rad: [...]}, ...]
Units m, rad.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.domain.tables import Table, read_yaml

from ..rigid import joints_and_flange
from .capture import day

FORMAT, UNIT = 1, "rad"
ANYWHERE_M = 2.0
"""Standard deviation of a point that nobody knows."""
OFFSET_SIGMA_RAD = 0.05
UNTOLD = 0.5
"""An offset whose standard deviation the touches leave above this share of the prior's merges with something else."""
PER_POINT_MIN, TOUCHES_MIN = 3, 12
FOLDS = 5
STEPS, SETTLED = 60, 1e-6
FLOOR_M = 1e-6
TOUCH_MAX_M = 0.005
"""Touches that miss by more were no touches, or are of another point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touches:
    """What was touched.

    Attributes:
        q_rad: [T, 7] joints as their encoders read them.
        point: [T] which point.
        names: of the points; points_m, point_sigma_m: [P, 3] and [P] what is known of them in the base frame.
        tip_m, tip_sigma_m: [3] and a number: what is known of the tip in the flange's frame.
    """

    q_rad: Array
    point: npt.NDArray[np.int64]
    names: tuple[str, ...]
    points_m: Array
    point_sigma_m: Array
    tip_m: Array
    tip_sigma_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchFit:
    """What came out.

    Attributes:
        offset_rad, offset_sigma_rad: [7] what the encoders read beyond the joints' angles, with standard deviations.
        told: [7] whether the touches tell an offset; the others keep what was known before.
        tip_m, points_m: [3] and [P, 3].
        touch_sigma_m: how well a touch is one, along each axis.
        miss_m: root mean square distance of tip and point; holdout_m: in touches that were left out of the fit.
    """

    offset_rad: Array
    offset_sigma_rad: Array
    told: tuple[bool, ...]
    tip_m: Array
    points_m: Array
    touch_sigma_m: float
    miss_m: float
    holdout_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prior:
    """What is known, as a vector [7 + 3 + 3 P] of offsets, tip and points, and its standard deviations."""

    value: Array
    sigma: Array


def calibrate_joints(
    limits: RobotLimits,
    touches: Touches,
    rng: np.random.Generator,
    *,
    known_offset_rad: Array | None = None,
    offset_sigma_rad: float = OFFSET_SIGMA_RAD,
) -> TouchFit:
    """Find the joints' offsets from touches.

    Raises:
        SpecError: too few touches, or touches that miss; says what to change.
    """
    _check_enough(touches)
    known = np.zeros(limits.joints) if known_offset_rad is None else known_offset_rad
    joints = limits.joints
    prior = _Prior(
        value=np.concatenate([known, touches.tip_m, touches.points_m.ravel()]),
        sigma=np.concatenate(
            [np.full(joints, offset_sigma_rad), np.full(3, touches.tip_sigma_m), np.repeat(touches.point_sigma_m, 3)]
        ),
    )
    start = _with_points(limits, touches, prior)
    sigma_m, (value, covariance) = 1e-3, (start, np.eye(len(start)))
    for _ in range(3):
        value, covariance = _fit(limits, touches, value, prior, sigma_m)
        sigma_m = _touch_sigma_m(limits, touches, value, covariance, prior)
    sigmas = np.sqrt(np.diag(covariance))[:joints]
    told = sigmas < UNTOLD * offset_sigma_rad
    prior = replace(prior, sigma=np.concatenate([np.where(told, offset_sigma_rad, 1e-9), prior.sigma[joints:]]))
    value, covariance = _fit(limits, touches, np.where(_kept(told, value), prior.value, value), prior, sigma_m)
    miss = np.linalg.norm(_misses(limits, touches, value), axis=1)
    _check_misses(touches, miss)
    return TouchFit(
        offset_rad=np.where(told, value[:joints], known),
        offset_sigma_rad=np.where(told, np.sqrt(np.diag(covariance))[:joints], offset_sigma_rad),
        told=tuple(bool(x) for x in told),
        tip_m=value[joints : joints + 3],
        points_m=value[joints + 3 :].reshape(-1, 3),
        touch_sigma_m=sigma_m,
        miss_m=float(np.sqrt((miss**2).mean())),
        holdout_m=_holdout_m(limits, touches, value, prior, sigma_m, rng),
    )


def _kept(told: npt.NDArray[np.bool_], value: Array) -> npt.NDArray[np.bool_]:
    return np.concatenate([~told, np.zeros(len(value) - len(told), bool)])


def _with_points(limits: RobotLimits, touches: Touches, prior: _Prior) -> Array:
    """The prior's values with unknown points where the tip was."""
    value, joints = prior.value.copy(), limits.joints
    tips = _tips(limits, touches, value)[2]
    for k in range(len(touches.names)):
        if touches.point_sigma_m[k] >= ANYWHERE_M:
            value[joints + 3 + 3 * k : joints + 6 + 3 * k] = tips[touches.point == k].mean(axis=0)
    return value


def _tips(limits: RobotLimits, touches: Touches, value: Array) -> tuple[Array, Array, Array]:
    """In the base frame: the flange's rotations [T, 3, 3], the tip's slope by the offsets [T, 3, J], the tip [T, 3]."""
    joints = limits.joints
    axes, origins, flange = joints_and_flange(limits, touches.q_rad - value[:joints])
    tips = flange[:, :3, :3] @ value[joints : joints + 3] + flange[:, :3, 3]
    swing = np.cross(axes, tips[:, None] - origins)
    return flange[:, :3, :3], -np.swapaxes(swing, 1, 2), tips


def _misses(limits: RobotLimits, touches: Touches, value: Array) -> Array:
    """[T, 3] from point to tip."""
    points = value[limits.joints + 3 :].reshape(-1, 3)
    return _tips(limits, touches, value)[2] - points[touches.point]


def _fit(limits: RobotLimits, touches: Touches, start: Array, prior: _Prior, sigma_m: float) -> tuple[Array, Array]:
    """Gauss and Newton with Levenberg's damping, every unknown in units of its prior; the value and its covariance."""
    value, damping, joints = start, 1e-3, limits.joints
    cost = _cost(limits, touches, value, prior, sigma_m)
    for _ in range(STEPS):
        rotations, by_offset, _ = _tips(limits, touches, value)
        slope = np.zeros((len(touches.point), 3, len(value)))
        slope[:, :, :joints], slope[:, :, joints : joints + 3] = by_offset, rotations
        for axis in range(3):
            slope[np.arange(len(slope)), axis, joints + 3 + 3 * touches.point + axis] = -1.0
        whitened = slope.reshape(-1, len(value)) * prior.sigma / sigma_m
        left = _misses(limits, touches, value).ravel() / sigma_m
        hessian = whitened.T @ whitened + np.eye(len(value))
        gradient = whitened.T @ left + (value - prior.value) / prior.sigma
        scale = 1 / np.sqrt(np.diag(hessian))
        if np.abs(gradient * scale).max() < SETTLED:
            break
        damped = hessian + damping * np.diag(np.diag(hessian))
        tried = value - prior.sigma * np.linalg.solve(damped, gradient)
        after = _cost(limits, touches, tried, prior, sigma_m)
        if after <= cost:
            value, cost, damping = tried, after, max(damping / 10, 1e-12)
        elif damping > 1e6:
            break
        else:
            damping *= 10
    inner = np.linalg.inv(hessian * np.outer(scale, scale)) * np.outer(scale, scale)
    return value, inner * np.outer(prior.sigma, prior.sigma)


def _cost(limits: RobotLimits, touches: Touches, value: Array, prior: _Prior, sigma_m: float) -> float:
    left = _misses(limits, touches, value) / sigma_m
    return float((left**2).sum() + (((value - prior.value) / prior.sigma) ** 2).sum())


def _touch_sigma_m(limits: RobotLimits, touches: Touches, value: Array, covariance: Array, prior: _Prior) -> float:
    """What the misses speak for: their squares over their number less what the fit took up."""
    taken = len(value) - float((np.diag(covariance) / prior.sigma**2).sum())
    squares = float((_misses(limits, touches, value) ** 2).sum())
    return max(float(np.sqrt(squares / max(3 * len(touches.point) - taken, 1.0))), FLOOR_M)


def _holdout_m(
    limits: RobotLimits, touches: Touches, value: Array, prior: _Prior, sigma_m: float, rng: np.random.Generator
) -> float:
    squares = np.empty(len(touches.point))
    for left_out in np.array_split(rng.permutation(len(touches.point)), FOLDS):
        rest = np.setdiff1d(np.arange(len(touches.point)), left_out)
        fitted, _ = _fit(limits, _some(touches, rest), value, prior, sigma_m)
        squares[left_out] = (_misses(limits, _some(touches, left_out), fitted) ** 2).sum(axis=1)
    return float(np.sqrt(squares.mean()))


def _some(touches: Touches, which: npt.NDArray[np.int64]) -> Touches:
    return replace(touches, q_rad=touches.q_rad[which], point=touches.point[which])


def _check_enough(touches: Touches) -> None:
    counts = np.bincount(touches.point, minlength=len(touches.names))
    fewest = int(np.argmin(counts))
    if len(touches.point) < TOUCHES_MIN or counts[fewest] < PER_POINT_MIN:
        raise SpecError(
            f"{len(touches.point)} touches (at least {TOUCHES_MIN}), {counts[fewest]} of point {touches.names[fewest]} "
            f"(at least {PER_POINT_MIN} of each); touch each point from more configurations, the hand turned and tilted"
        )


def _check_misses(touches: Touches, miss_m: Array) -> None:
    worst = int(np.argmax(miss_m))
    if miss_m[worst] > TOUCH_MAX_M:
        raise SpecError(
            f"touch number {worst + 1} (point {touches.names[touches.point[worst]]}) misses by "
            f"{miss_m[worst] * 1e3:.1f} mm, bound {TOUCH_MAX_M * 1e3:g}; leave it out, or touch again: was it this "
            "point, and the tip fixed?"
        )


def load_touches(path: Path) -> tuple[str, Touches, datetime.date]:
    """Read a file of touches; returns the robot's name, the touches, and their day.

    Raises:
        SpecError: a key that is missing, unknown or wrong, joints in other units, an unknown point.
    """
    try:
        words = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} can't be read: {error}") from error
    root = Table(read_yaml(words, str(path)), str(path))
    if root.whole("touch", low=1) != FORMAT:
        raise SpecError(f"{path}: this version reads touches of format {FORMAT}; write them anew, or update skimo")
    if root.text("joints_unit") != UNIT:
        raise SpecError(f"{path}: joints_unit is {root.text('joints_unit')!r}, must be {UNIT}; convert the joints")
    robot, date = root.table("robot"), day(root)
    limits = load_limits(robot.text("model"))
    points = root.table("points")
    names = tuple(points)
    known = [_point(points.table(name)) for name in names]
    q_rad, point = [], []
    for row in root.tables("touches"):
        point.append(names.index(row.choice("point", names)))
        q_rad.append(row.vector("q_rad", limits.joints))
        row.refuse_others()
        beyond = np.maximum(q_rad[-1] - limits.q_max_rad, limits.q_min_rad - q_rad[-1])
        if beyond.max() > 0.25:
            raise SpecError(f"{row.where}: joint {int(beyond.argmax()) + 1} is beyond its range; degrees? Give rad")
    touches = Touches(
        q_rad=np.array(q_rad).reshape(-1, limits.joints),
        point=np.array(point, np.int64),
        names=names,
        points_m=np.array([position for position, _ in known]),
        point_sigma_m=np.array([sigma for _, sigma in known]),
        tip_m=root.vector("tip_m", 3),
        tip_sigma_m=root.number("tip_sigma_m", positive=True),
    )
    for table in (root, robot):
        table.refuse_others()
    return limits.name, touches, date


def _point(row: Table) -> tuple[Array, float]:
    known = np.zeros(3), ANYWHERE_M
    if "position_m" in row:
        known = row.vector("position_m", 3), row.number("sigma_m", positive=True)
        if np.abs(known[0]).max() > ANYWHERE_M:
            raise SpecError(
                f"{row.where}: position_m {known[0].tolist()} is beyond any arm's reach; millimetres? Give m"
            )
    row.refuse_others()
    return known
