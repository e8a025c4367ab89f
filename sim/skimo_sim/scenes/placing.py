"""Where the arm stands in a scene: as the scene has it, as a rig says that the furniture stands round a real one, or a
little beside that, as a condition says.

The furniture stays where it is, and so do the objects' values, which count from it; the arm's mount is moved. A rig
gives the pose of the scene's own frame (MuJoCo's world) in the arm's base frame. Units m, rad.
"""

from __future__ import annotations

import datetime

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import Made, Placement

from ..condition import MOUNT_MAX_M, MOUNT_MAX_RAD, Mount
from .physics import mujoco
from .scene import Scene


def stand(mount: mujoco.MjsBody, scene: Placement) -> tuple[Array, Array]:
    """Move an arm's mount, whose frame is the arm's base frame, to where the scene's pose in that frame says it stands.

    Returns:
        Position [3] and rotation [3, 3] of the arm's base in the scene.

    Raises:
        SpecError: that is too far from where the scene has it.
    """
    position_m, rotation = placed(*pose_of(mount), scene)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
    mount.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT  # else the angles of its file would go on to count
    mount.pos, mount.quat = position_m, quaternion
    return position_m, rotation


def placed(was_m: Array, was: Array, scene: Placement) -> tuple[Array, Array]:
    """Where the arm's base stands in the scene by a rig: position [3] and rotation [3, 3].

    Args:
        was_m, was: where the scene has it.

    Raises:
        SpecError: that is too far from there.
    """
    position_m, rotation = base_in_scene(scene)
    off_m = float(np.linalg.norm(position_m - was_m))
    off_rad = float(np.arccos(np.clip((np.trace(was.T @ rotation) - 1) / 2, -1.0, 1.0)))
    if off_m > MOUNT_MAX_M or off_rad > MOUNT_MAX_RAD:
        raise SpecError(
            f"by the rig the arm stands {off_m:.3f} m and {off_rad:.3f} rad from where the scene has it, bounds "
            f"{MOUNT_MAX_M:g} m and {MOUNT_MAX_RAD:g} rad; the scene's frame in the arm's base frame is nominally at "
            f"{np.round(-was.T @ was_m, 3).tolist()} m, turned by {np.round(-_yaw(was), 3)} rad about z: measure it "
            "again, or give the twin a rig without it (twin_rig)"
        )
    return position_m, rotation


def moved(scene: Scene, mount: Mount) -> Placement:
    """Where a scene's frame lies in the base's frame of an arm that stands a little beside where the scene has it."""
    base_m = scene.base_m + scene.base_rotation @ np.array(mount.offset_m)
    rotation = scene.base_rotation @ about_z(mount.yaw_rad)
    made = Made(date=datetime.date.today(), method="a condition")
    return Placement(position_m=-rotation.T @ base_m, rotation=rotation.T, sigma_m=0.0, sigma_rad=0.0, made=made)


def base_in_scene(scene: Placement) -> tuple[Array, Array]:
    """Position [3] and rotation [3, 3] of the arm's base in the scene, whose pose in the base's frame is given."""
    rotation = scene.rotation.T
    return -rotation @ scene.position_m, rotation


def pose_of(mount: mujoco.MjsBody) -> tuple[Array, Array]:
    """Position [3] and rotation [3, 3] of a body of the world whose file turns it about x, y, z, or by a quaternion."""
    quaternion = np.array(mount.quat)
    if mount.alt.type == mujoco.mjtOrientation.mjORIENTATION_EULER:
        mujoco.mju_euler2Quat(quaternion, np.array(mount.alt.euler), "xyz")
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return np.array(mount.pos), matrix.reshape(3, 3)


def about_z(angle_rad: float) -> Array:
    """The rotation [3, 3] by an angle about z."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _yaw(rotation: Array) -> float:
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))
