"""Rotations as unit quaternions (w, x, y, z) and as matrices [3, 3] whose columns are the turned axes."""

from __future__ import annotations

import numpy as np

from ..contract.types import Array


def matrix(quat_wxyz: Array) -> Array:
    """The matrix [3, 3] of a unit quaternion [4]."""
    w, x, y, z = quat_wxyz
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def turned(by_wxyz: Array, quats_wxyz: Array) -> Array:
    """Quaternions [T, 4], each turned by another one [4] from outside: their products, the latter first."""
    w, x, y, z = by_wxyz
    left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return quats_wxyz @ left.T


def quaternion(rotation: Array) -> Array:
    """The unit quaternion [4] of a rotation [3, 3], w >= 0.

    The column of the largest diagonal entry of 4 q q^T is taken, so that nothing small is divided by.
    """
    r = rotation
    outer = np.array(
        [
            [1 + r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], 1 + r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[1, 0] + r[0, 1], 1 - r[0, 0] + r[1, 1] - r[2, 2], r[2, 1] + r[1, 2]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[2, 1] + r[1, 2], 1 - r[0, 0] - r[1, 1] + r[2, 2]],
        ]
    )
    column = outer[:, int(np.argmax(np.diag(outer)))]
    found = column / np.linalg.norm(column)
    return -found if found[0] < 0 else found
