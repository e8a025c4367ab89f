"""Rigid motions as matrices [..., 4, 4], and what is done with them. Units m, rad.

A pose `a_from_b` takes coordinates in frame b to frame a; its columns are b's axes and origin in a.
A twist [..., 6] is a small motion: three of shift, then three of turn.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.types import Array
from skimo_core.domain.kinematics import joint_frames
from skimo_core.domain.robot import RobotLimits

SMALL_RAD = 1e-6


def pose(rotation: Array, position_m: Array) -> Array:
    """The matrix of a rotation [..., 3, 3] and a position [..., 3]."""
    made = np.zeros((*rotation.shape[:-2], 4, 4))
    made[..., :3, :3], made[..., :3, 3], made[..., 3, 3] = rotation, position_m, 1.0
    return made


def inverse(poses: Array) -> Array:
    """The way back."""
    turned = np.swapaxes(poses[..., :3, :3], -1, -2)
    return pose(turned, -(turned @ poses[..., :3, 3:])[..., 0])


def skew(vectors: Array) -> Array:
    """[..., 3, 3] matrices whose product with another vector is the cross product."""
    made = np.zeros((*vectors.shape[:-1], 3, 3))
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    made[..., 0, 1], made[..., 0, 2], made[..., 1, 2] = -z, y, -x
    made[..., 1, 0], made[..., 2, 0], made[..., 2, 1] = z, -y, x
    return made


def turn(vectors_rad: Array) -> Array:
    """Rotations [..., 3, 3] of rotation vectors [..., 3] (Rodrigues)."""
    angle = np.linalg.norm(vectors_rad, axis=-1)[..., None, None]
    safe = np.maximum(angle, SMALL_RAD)
    cross = skew(vectors_rad)
    return np.eye(3) + np.sin(safe) / safe * cross + (1 - np.cos(safe)) / safe**2 * (cross @ cross)


def turn_vector(rotations: Array) -> Array:
    """Rotation vectors [..., 3] of rotations [..., 3, 3], by way of quaternions: exact up to half a turn."""
    r = rotations
    t = np.stack(
        [
            1 + r[..., 0, 0] + r[..., 1, 1] + r[..., 2, 2],
            1 + r[..., 0, 0] - r[..., 1, 1] - r[..., 2, 2],
            1 - r[..., 0, 0] + r[..., 1, 1] - r[..., 2, 2],
            1 - r[..., 0, 0] - r[..., 1, 1] + r[..., 2, 2],
        ],
        axis=-1,
    )
    a, b, c = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    d, e, f = r[..., 1, 0] + r[..., 0, 1], r[..., 0, 2] + r[..., 2, 0], r[..., 2, 1] + r[..., 1, 2]
    rows = [(t[..., 0], a, b, c), (a, t[..., 1], d, e), (b, d, t[..., 2], f), (c, e, f, t[..., 3])]
    outer = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    quat = np.take_along_axis(outer, np.argmax(t, axis=-1)[..., None, None], axis=-2)[..., 0, :]
    quat = quat / np.linalg.norm(quat, axis=-1, keepdims=True)
    quat = np.where(quat[..., :1] < 0, -quat, quat)
    sine = np.linalg.norm(quat[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quat[..., :1])
    return quat[..., 1:] * np.where(sine > SMALL_RAD, angle / np.maximum(sine, SMALL_RAD), 2.0)


def angles_rad(rotations: Array) -> Array:
    """[...] how far rotations [..., 3, 3] turn."""
    return np.linalg.norm(turn_vector(rotations), axis=-1)


def moved(poses: Array, twists: Array) -> Array:
    """Poses [..., 4, 4] moved by twists [..., 6] in their own frame."""
    return poses @ pose(turn(twists[..., 3:]), twists[..., :3])


def difference(a: Array, b: Array) -> tuple[float, float]:
    """How far two poses [4, 4] of one frame lie apart: m, rad."""
    apart = inverse(a) @ b
    return float(np.linalg.norm(apart[:3, 3])), float(angles_rad(apart[:3, :3]))


def flange_poses(limits: RobotLimits, q_rad: Array) -> Array:
    """base_from_flange [K, 4, 4] at joint positions [K, J]."""
    return joints_and_flange(limits, q_rad)[2]


def joints_and_flange(limits: RobotLimits, q_rad: Array) -> tuple[Array, Array, Array]:
    """Axes [K, J, 3] and origins [K, J, 3] of the joints in the base frame, and base_from_flange [K, 4, 4]."""
    rotations, origins = joint_frames(limits, q_rad)
    flange = pose(rotations[-1], origins[-1] + rotations[-1][..., 2] * limits.flange_m)
    return np.swapaxes(rotations[1:, :, :, 2], 0, 1), np.swapaxes(origins[1:], 0, 1), flange


def mean_rotation(rotations: Array) -> Array:
    """The rotation [3, 3] nearest to many [K, 3, 3] (chordal mean)."""
    return nearest_rotation(rotations.sum(axis=0))


def nearest_rotation(matrix: Array) -> Array:
    """The rotation [3, 3] nearest to a matrix."""
    u, _, v = np.linalg.svd(matrix)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v
