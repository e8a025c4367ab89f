"""Does a capture make sense? What robot and camera say of the same motion is held together before anything is fitted.

With base_from_flange A (its inverse where the flange bears the board) and camera_from_board B in each view, A X B = Y
for one camera pose X and one board pose Y. Both follow in closed form (M. Shah, "Solving the robot-world/hand-eye
calibration problem using the Kronecker product", J. Mechanisms Robotics 5(3), 2013), the board's scale with them. Where
they don't fit, the usual mistakes are tried: the other mount, a joint that counts the other way, joints in reverse
order.
Units m, rad.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from ..rigid import angles_rad, flange_poses, inverse, mean_rotation, nearest_rotation, pose, turn_vector

APART_RAD = 0.15
"""How far orientations must lie apart to count as several."""
ORIENTATIONS_MIN = 6
SECOND_SPREAD_MIN_RAD = 0.12
"""Least spread along the second axis: turns about one axis leave the camera's place along it open."""
TURN_MAX_RAD = 0.15
"""Median angle by which robot and camera may disagree; joint offsets of a few hundredths make a third of it."""
BETTER = 0.4
"""A mistake explains a capture if it leaves this share of the disagreement."""
SCALE_GROSS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a fit begins.

    Attributes:
        camera, board: [4, 4] mount_from_camera, and the board on the other side.
        scale: by which the board's declared size must be multiplied to fit the robot's motion.
        turn_rad: median angle that is left between what robot and camera say.
    """

    camera: Array
    board: Array
    scale: float
    turn_rad: float


def closed_form(limits: RobotLimits, mount: str, q_rad: Array, camera_from_board: Array) -> Start:
    """The camera's and the board's pose from joints [V, J], as read, and the board's poses [V, 4, 4]."""
    flange = flange_poses(limits, q_rad)
    near = flange if mount == "flange" else inverse(flange)
    a, b = near[:, :3, :3], camera_from_board[:, :3, :3]
    # vec(A X B) = (B^T kron A) vec(X) with columns stacked; the sum's first singular pair is X and Y
    kron = np.einsum("vij,vkl->jkil", b, a).reshape(9, 9)
    left, _, right = np.linalg.svd(kron)
    x, y = right[0].reshape(3, 3).T, left[:, 0].reshape(3, 3).T
    sign = np.sign(np.linalg.det(x)) or 1.0
    turn_x, turn_y = nearest_rotation(sign * x), nearest_rotation(sign * y)
    left_over = a @ turn_x @ b @ turn_y.T
    # A (Rx b s + x) + a = y is linear in x, s and y
    across = (a @ turn_x @ camera_from_board[:, :3, 3:])[..., 0]
    rows = np.concatenate([a, across[..., None], np.broadcast_to(-np.eye(3), a.shape)], axis=-1).reshape(-1, 7)
    solved = np.asarray(np.linalg.lstsq(rows, -near[:, :3, 3].ravel(), rcond=None)[0], np.float64)
    return Start(
        camera=pose(turn_x, solved[:3]),
        board=pose(turn_y, solved[4:]),
        scale=float(solved[3]),
        turn_rad=float(np.median(angles_rad(left_over))),
    )


def spread_rad(rotations: Array) -> Array:
    """[3] standard deviations of rotations [K, 3, 3] about their mean: along the axis of the most, and less."""
    middle = mean_rotation(rotations)
    return np.linalg.svd(turn_vector(middle.T @ rotations), compute_uv=False) / np.sqrt(len(rotations))


def orientations(rotations: Array) -> int:
    """How many of them lie further than `APART_RAD` from each other, counted greedily."""
    kept: list[int] = []
    for k in range(len(rotations)):
        if all(angles_rad(rotations[j].T @ rotations[k]) > APART_RAD for j in kept):
            kept.append(k)
    return len(kept)


def check_spread(limits: RobotLimits, q_rad: Array) -> None:
    """Refuse joints [V, J] whose views are too similar.

    Raises:
        SpecError: the flange is turned too little, or about one axis only.
    """
    rotations = flange_poses(limits, q_rad)[:, :3, :3]
    count, spread = orientations(rotations), spread_rad(rotations)
    if count < ORIENTATIONS_MIN:
        raise SpecError(
            f"the views are too similar: {count} orientations of the flange lie more than "
            f"{np.degrees(APART_RAD):.0f} degrees apart, at least {ORIENTATIONS_MIN} must; turn the hand by 20 to 60 "
            "degrees between views, about different axes"
        )
    if spread[1] < SECOND_SPREAD_MIN_RAD:
        raise SpecError(
            f"the views are too similar: the flange turns about one axis only (spread {np.degrees(spread[0]):.0f} and "
            f"{np.degrees(spread[1]):.1f} degrees about the next, at least {np.degrees(SECOND_SPREAD_MIN_RAD):.0f} "
            "needed); tilt the hand to all sides"
        )


def check_consistent(limits: RobotLimits, mount: str, q_rad: Array, camera_from_board: Array) -> Start:
    """The closed form, if robot and camera agree roughly.

    Raises:
        SpecError: they don't; names the mistake that explains it, if one does; or the board is of another size.
    """
    start = closed_form(limits, mount, q_rad, camera_from_board)
    if start.turn_rad > TURN_MAX_RAD:
        told = f"robot and camera disagree by {np.degrees(start.turn_rad):.0f} degrees about how they turned"
        found = {
            words: closed_form(limits, other, q, camera_from_board).turn_rad
            for words, other, q in _mistakes(mount, q_rad)
        }
        likely = min(found, key=lambda words: found[words])
        if found[likely] < BETTER * start.turn_rad and found[likely] < TURN_MAX_RAD:
            raise SpecError(f"{told} (bound {np.degrees(TURN_MAX_RAD):.0f}): {likely}")
        raise SpecError(
            f"{told} (bound {np.degrees(TURN_MAX_RAD):.0f}); check the mount (camera on the flange or at the base), "
            "the joints' order and signs, and that camera and board were not moved between views"
        )
    if abs(start.scale - 1) > SCALE_GROSS:
        raise SpecError(_wrong_size(start.scale))
    return start


def _wrong_size(scale: float) -> str:
    unit = "; millimetres for metres?" if scale < 0.01 or scale > 100 else ""
    return (
        f"the robot's motion makes the board {scale:.4g} times as large as declared{unit}; measure a square of the "
        "print and give its side in m"
    )


def check_scale(scale: float, sigma: float, bound: float) -> None:
    """Refuse a board whose size, found with its standard deviation, is further from the declared one than `bound`.

    Raises:
        SpecError: it is.
    """
    if abs(scale - 1) > bound + 3 * sigma:
        raise SpecError(f"{_wrong_size(scale)} (bound {bound:.1%} beside what the views leave open, {sigma:.2%})")


def _mistakes(mount: str, q_rad: Array) -> Iterator[tuple[str, str, Array]]:
    """What is often declared wrong: words, mount and joints as they then are."""
    other = "base" if mount == "flange" else "flange"
    borne = {"flange": "the camera is on the flange and the board stands", "base": "the flange bears the board"}
    yield f"they agree if {borne[other]}; set mount: {other}", other, q_rad
    for joint in range(q_rad.shape[1]):
        signs = np.ones(q_rad.shape[1])
        signs[joint] = -1
        yield f"they agree if joint {joint + 1} counts the other way; turn its sign round", mount, q_rad * signs
    yield "they agree if the joints are in reverse order; give joints 1 to 7", mount, q_rad[:, ::-1]
