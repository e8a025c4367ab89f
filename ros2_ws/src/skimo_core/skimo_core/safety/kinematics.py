"""Where the arm is: forward kinematics of a seven-joint arm from Denavit-Hartenberg parameters (Craig's convention).

Pure and vectorised. Base frame (z up along joint 1, x ahead); m, rad.
"""

from __future__ import annotations

import numpy as np

from ..types import JOINTS, Array
from .limits import RobotLimits

POINTS = ("elbow", "wrist", "flange", "tool")
"""The points that `arm_points` returns: joint 4's origin, joint 6's origin, the flange, between the finger tips."""


def arm_points(limits: RobotLimits, q_rad: Array) -> Array:
    """Positions [K, 4, 3] of `POINTS` in the base frame for joint positions [K, 7]."""
    rotation = np.broadcast_to(np.eye(3), (len(q_rad), 3, 3))
    origin = np.zeros((len(q_rad), 3))
    origins = []
    for joint in range(JOINTS):
        link, offset = _joint_frame(limits, joint, q_rad[:, joint])
        origin = origin + rotation @ offset
        rotation = rotation @ link
        origins.append(origin)
    ahead = rotation[:, :, 2]
    flange, tool = origin + ahead * limits.flange_m, origin + ahead * limits.tool_m
    return np.stack([origins[3], origins[5], flange, tool], axis=1)


def _joint_frame(limits: RobotLimits, joint: int, q_rad: Array) -> tuple[Array, Array]:
    """Rotation [K, 3, 3] and offset [3] of one joint's frame in the frame before it."""
    a, d, alpha = limits.dh_a_m[joint], limits.dh_d_m[joint], limits.dh_alpha_rad[joint]
    ca, sa, c, s = np.cos(alpha), np.sin(alpha), np.cos(q_rad), np.sin(q_rad)
    rows = [
        [c, -s, np.zeros_like(c)],
        [s * ca, c * ca, np.full_like(c, -sa)],
        [s * sa, c * sa, np.full_like(c, ca)],
    ]
    return np.moveaxis(np.array(rows), -1, 0), np.array([a, -sa * d, ca * d])
