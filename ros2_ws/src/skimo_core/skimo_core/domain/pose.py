"""Where a frame stands in another: position and rotation. m."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract.types import Array
from .rotations import quaternion
from .tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Position [3] and rotation [3, 3] of a frame in another."""

    position_m: Array
    rotation: Array

    @property
    def wxyz(self) -> Array:
        """The rotation as a unit quaternion [4]."""
        return quaternion(self.rotation)

    def of(self, inner: Pose) -> Pose:
        """Where a frame stands outside that stands so in this one."""
        return Pose(
            position_m=self.position_m + self.rotation @ inner.position_m, rotation=self.rotation @ inner.rotation
        )

    def inverse(self) -> Pose:
        """Where the outer frame stands in this one."""
        return Pose(position_m=-self.rotation.T @ self.position_m, rotation=self.rotation.T)

    def points(self, inner_m: Array) -> Array:
        """Points [..., 3] of this frame in the outer one."""
        return self.position_m + inner_m @ self.rotation.T


HERE = Pose(position_m=np.zeros(3), rotation=np.eye(3))
"""The outer frame itself."""


def read_pose(table: Table) -> Pose:
    """The pose in a table of `position_m` and, where it is turned, `quat_wxyz`.

    Raises:
        SpecError: a key missing, unknown, or of the wrong kind.
    """
    pose = Pose(
        position_m=table.vector("position_m", 3),
        rotation=table.rotation("quat_wxyz") if "quat_wxyz" in table else np.eye(3),
    )
    table.refuse_others()
    return pose
