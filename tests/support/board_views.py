"""Views of a board as a camera of known lens and place would have them, none drawn: for tests of calibrations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skimo_calibration.cameras.board import A4_BOARD, CORNERS_MIN, Corners
from skimo_calibration.cameras.camera import Intrinsics
from skimo_calibration.cameras.poses import plan_tour
from skimo_calibration.rigid import flange_poses, inverse
from skimo_calibration.twin.twin_cell import RANGES, Disturbance, TwinRig, disturbed_rig
from skimo_core.contract.types import Array

WIDTH, HEIGHT = 640, 480
EDGE_PX = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What a disturbed cell's views show: joints as read [V, 7], and corners in each; the truth is the rig's."""

    rig: TwinRig
    q_rad: Array
    corners: list[Corners]

    def of(self, views: list[int]) -> Looks:
        return replace(self, q_rad=self.q_rad[views], corners=[self.corners[k] for k in views])


def looks(
    mount: str,
    seed: int,
    count: int = 24,
    *,
    noise_px: float = 0.05,
    joint_noise_rad: float = 1e-4,
) -> Looks:
    """Looks of the twin's cell of that seed."""
    rig = disturbed_rig(mount, seed, Disturbance(joint_noise_rad=joint_noise_rad))
    rng = np.random.default_rng([seed, 7])
    tour = plan_tour(rig.setup, count, rng, start_q_rad=rig.setup.limits.home_q_rad, ranges=RANGES[mount])
    true = tour.q_rad - rig.offset_rad - rng.normal(0.0, joint_noise_rad, tour.q_rad.shape)
    flange = flange_poses(rig.setup.limits, true)
    if mount == "flange":
        poses = inverse(flange @ rig.camera) @ rig.board
    else:
        poses = inverse(rig.camera) @ flange @ rig.board
    corners = [corners_at(rig.intrinsics, pose, rng, noise_px) for pose in poses]
    seen = [k for k, found in enumerate(corners) if len(found.ids) >= 2 * CORNERS_MIN]
    return Looks(rig=rig, q_rad=tour.q_rad, corners=corners).of(seen)


def corners_at(
    intrinsics: Intrinsics,
    camera_from_board: Array,
    rng: np.random.Generator,
    noise_px: float,
) -> Corners:
    """The corners of the A4 board from a pose."""
    points = A4_BOARD.points_m @ camera_from_board[:3, :3].T + camera_from_board[:3, 3]
    pixels = intrinsics.project(points)
    inside = ((pixels > EDGE_PX) & (pixels < [WIDTH - EDGE_PX, HEIGHT - EDGE_PX])).all(axis=1)
    ids = np.flatnonzero(inside)
    return Corners(ids=ids, pixels=pixels[ids] + rng.normal(0.0, noise_px, (len(ids), 2)), blur_px=0.7, square_px=30.0)
