"""What camera and joint calibrations put into a rig file: the entries, and how they came about.

A standard deviation in a rig is the greater of what the fit says and what repeats scatter by. Units m, rad, px.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import Camera, JointOffsets, Lens, Made, Placement, Rig
from skimo_core.domain.rig_file import load_rig

from .cameras.camera import Intrinsics
from .cameras.capture import Capture
from .cameras.hand_eye import HandEye
from .cameras.intrinsics import CameraFit


def open_rig(path: Path, robot: str, serial: str = "") -> Rig:
    """The rig at a path, or a new one named for it, for an arm.

    Raises:
        SpecError: it is malformed, or another robot's or arm's.
    """
    if not path.exists():
        return Rig(name=path.stem, robot=robot, serial=serial)
    rig = load_rig(path.resolve())
    if rig.robot != robot:
        raise SpecError(f"{path} is a {rig.robot}'s rig, the data are of a {robot}; give that robot's rig")
    if serial and rig.serial and serial != rig.serial:
        raise SpecError(f"{path} is the rig of arm {rig.serial}, the data are of arm {serial}; give that arm's rig")
    return replace(rig, serial=rig.serial or serial, check=None)


def made_from(capture: Capture, method: str) -> Made:
    """How an entry came about that a capture gave."""
    return Made(date=capture.date, method=method, source=capture.folder.name, digest=capture.digest)


def with_camera(rig: Rig, capture: Capture, fitted: CameraFit) -> Rig:
    """The rig with a camera's lens."""
    made = made_from(capture, f"camera, {len(fitted.poses)} views")
    return _with(rig, capture, lens=_lens(fitted.intrinsics, fitted.holdout_px, made))


def with_hand_eye(rig: Rig, capture: Capture, found: HandEye, lens_px: float) -> Rig:
    """The rig with a camera's pose, the lens that belongs to it (`lens_px`: its hold-out), and the joints' offsets."""
    borne = "at the base, board in the hand" if found.mount == "base" else "at the flange, board in the cell"
    made = made_from(capture, f"hand-eye, camera {borne}, {len(found.holdout_view_px)} views")
    axes = np.sqrt(3)
    pose = Placement(
        position_m=found.camera[:3, 3],
        rotation=found.camera[:3, :3],
        sigma_m=max(found.position_sigma_m, found.scatter_m / axes),
        sigma_rad=max(found.turn_sigma_rad, found.scatter_rad / axes),
        made=made,
    )
    rig = _with(rig, capture, lens=_lens(found.intrinsics, lens_px, made), pose=pose)
    sigma = np.maximum(found.offset_sigma_rad, found.offset_scatter_rad)
    return with_joints(rig, found.offset_rad, sigma, np.array(found.told), made)


def with_joints(rig: Rig, offset_rad: Array, sigma_rad: Array, told: Array, made: Made) -> Rig:
    """The rig with the joints' offsets; those that aren't told keep the rig's standard deviation, if it has one."""
    kept = sigma_rad if rig.joints is None else rig.joints.sigma_rad
    offsets = JointOffsets(offset_rad=offset_rad, sigma_rad=np.where(told, sigma_rad, kept), made=made)
    return replace(rig, joints=offsets)


def _with(rig: Rig, capture: Capture, lens: Lens, pose: Placement | None = None) -> Rig:
    had = rig.cameras.get(capture.camera)
    camera = Camera(frame=capture.frame, mount=capture.mount) if had is None else had
    if camera.mount != capture.mount:
        raise SpecError(
            f"rig {rig.name} has camera {capture.camera} at the {camera.mount}, the capture at the {capture.mount}; "
            "give the camera another name, or take it out of the rig first"
        )
    changed = replace(camera, frame=capture.frame, lens=lens, pose=pose or camera.pose)
    return replace(rig, cameras={**rig.cameras, capture.camera: changed})


def _lens(intrinsics: Intrinsics, sigma_px: float, made: Made) -> Lens:
    return Lens(
        width=intrinsics.width,
        height=intrinsics.height,
        focal_px=intrinsics.lens[:2],
        centre_px=intrinsics.lens[2:4],
        distortion=intrinsics.distortion,
        sigma_px=sigma_px,
        made=made,
    )
