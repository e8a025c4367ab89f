"""Where the arm is: forward kinematics of an arm from Denavit-Hartenberg parameters (Craig's convention).

Pure and vectorised. Base frame (z up along joint 1, x ahead); m, rad.
"""

from __future__ import annotations

import numpy as np

from ..contract.types import Array
from .robot import RobotLimits

POINTS = ("elbow", "wrist", "flange", "tool")
"""The points that `arm_points` returns: the middle joint's origin (of seven: the fourth's), the last but one's, the
flange, between the finger tips."""
Frames = tuple[Array, Array]
"""Rotations [J + 1, K, 3, 3] and origins [J + 1, K, 3] of the base (0) and of the J joints' frames."""


def arm_points(limits: RobotLimits, q_rad: Array) -> Array:
    """Positions [K, 4, 3] of `POINTS` in the base frame for joint positions [K, J]."""
    return points_in(limits, joint_frames(limits, q_rad))


def points_in(limits: RobotLimits, frames: Frames) -> Array:
    """The same where the joints' frames are known."""
    rotations, origins = frames
    ahead, last = rotations[-1, :, :, 2], origins[-1]
    flange, tool = last + ahead * limits.flange_m, last + ahead * limits.tool_m
    return np.stack([origins[limits.joints // 2 + 1], origins[-2], flange, tool], axis=1)


def joint_frames(limits: RobotLimits, q_rad: Array) -> Frames:
    """The frames at joint positions [K, J]."""
    count, joints = q_rad.shape
    turns, offsets = joint_turns(limits, q_rad), joint_offsets(limits)
    rotations, origins = np.empty((joints + 1, count, 3, 3)), np.empty((joints + 1, count, 3))
    rotations[0], origins[0] = np.eye(3), 0.0
    for joint in range(joints):
        origins[joint + 1] = origins[joint] + rotations[joint] @ offsets[joint]
        np.matmul(rotations[joint], turns[joint], out=rotations[joint + 1])
    return rotations, origins


def joint_offsets(limits: RobotLimits) -> Array:
    """Origin [J, 3] of each joint's frame in the frame before it."""
    a, d, alpha = limits.dh_a_m, limits.dh_d_m, limits.dh_alpha_rad
    return np.stack([a, -np.sin(alpha) * d, np.cos(alpha) * d], axis=1)


def joint_turns(limits: RobotLimits, q_rad: Array) -> Array:
    """Rotation [J, K, 3, 3] of each joint's frame in the frame before it."""
    ca, sa = np.cos(limits.dh_alpha_rad)[:, None], np.sin(limits.dh_alpha_rad)[:, None]
    c, s = np.cos(q_rad).T, np.sin(q_rad).T
    turns = np.empty((q_rad.shape[1], len(q_rad), 3, 3))
    turns[..., 0, 0], turns[..., 0, 1], turns[..., 0, 2] = c, -s, 0.0
    turns[..., 1, 0], turns[..., 1, 1], turns[..., 1, 2] = s * ca, c * ca, -sa
    turns[..., 2, 0], turns[..., 2, 1], turns[..., 2, 2] = s * sa, c * sa, ca
    return turns
