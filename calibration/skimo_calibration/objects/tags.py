"""AprilTags of the family 36h11 in a picture: their corners, and where each stands before the camera.

OpenCV's decoder finds them; our own `tag_edges` places their corners, one and a half to four times nearer to the truth
than the AprilTag library does, and five times or more than OpenCV (benchmarks/results/calibration/tags.md).

A small square seen from afar has two poses that fit nearly as well, mirrored about the line of sight (T. Collins and A.
Bartoli, "Infinitesimal plane-based pose estimation", IJCV 109, 2014: both are had in closed form). Where the second
can't be told from the first by its reprojection error, the pose says `ambiguous`; `resolve` picks by what is known.

Frames: the camera's optical frame (x right, y down, z ahead); a tag's frame has its origin in the middle of the black
square, x to the right and y up for a reader, z out of the sheet towards the reader. Sizes are the black square's side.
Units px, m, rad; grey levels of 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.tables import Table

from ..cameras.camera import Intrinsics
from .tag_edges import CELLS, refine

IDS = 587
"""Tags of the family: ids 0 to 586."""
BITS = 6
"""Cells across that carry the code; one of black lies around them."""
MAX_WRONG_BITS = 2
"""Of 36, at which two tags of the family (11 apart) are still never taken for one another."""
LARGEST_M = 1.0
MIN_MARGIN = 8.0
MIN_SIDE_PX = 10.0
"""Of the shorter side; below it the code can't be read."""
AMBIGUOUS_CHI2 = 9.0
"""Two poses whose errors differ by less than three standard deviations can't be told apart."""
SQUARE = np.array([[-1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]]) / 2
"""[4, 3] corners of a tag of size 1 in its frame, in the order in which they are told: top left first, clockwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A tag in a picture.

    Attributes:
        tag_id: of the family.
        corners_px: [4, 2] top left, top right, bottom right, bottom left, as a reader of the upright tag has them.
        sigma_px: standard deviation of a corner's coordinate, from how straight its edges are.
        margin: by how many grey levels the code's cells lie off the threshold between black and white, on average.
        wrong_bits: how many of its 36 cells were misread.
    """

    tag_id: int
    corners_px: Array
    sigma_px: float
    margin: float
    wrong_bits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """A tag's pose in the optical frame, one of the two that may fit.

    Attributes:
        rotation, position_m: [3, 3] and [3].
        error_px: root mean square of its corners' reprojection error.
    """

    rotation: Array
    position_m: Array
    error_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPose:
    """Where a tag stands.

    Attributes:
        tag_id: which.
        best, other: the pose that fits best, and the mirrored one.
        sigma_m, sigma_rad: standard deviation of the position (its length) and of the orientation (its angle).
        ambiguous: whether `other` fits nearly as well.
    """

    tag_id: int
    best: Pose
    other: Pose
    sigma_m: float
    sigma_rad: float
    ambiguous: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A tag's place: its id, its size, and its frame's pose in that of what bears it."""

    tag_id: int
    size_m: float
    rotation: Array
    position_m: Array

    @property
    def corners(self) -> Array:
        """[4, 3] in the frame of what bears it."""
        return corners_of(self.size_m, self.rotation, self.position_m)


def read_mounts(row: Table) -> tuple[Mount, ...]:
    """The list `tags` of a data file's table: {id, size_m, position_m, quat_wxyz} each.

    Raises:
        SpecError: there is none, or an id, size or pose that can't be.
    """
    found = []
    for tag in row.tables("tags"):
        tag_id = tag.whole("id", low=0)
        if tag_id >= IDS:
            raise SpecError(f"{tag.where}: id is {tag_id}, the family 36h11 has 0 to {IDS - 1}")
        size_m = tag.number("size_m", positive=True)
        if size_m > LARGEST_M:
            raise SpecError(f"{tag.where}: size_m is {size_m:g}, the black square's side in m; millimetres?")
        rotation, position_m = tag.rotation("quat_wxyz"), tag.vector("position_m", 3)
        found.append(Mount(tag_id=tag_id, size_m=size_m, rotation=rotation, position_m=position_m))
        tag.refuse_others()
    if not found:
        raise SpecError(f"{row.where}: tags: there are none; add the tags that are on it")
    return tuple(found)


@cache
def _dictionary() -> Any:
    return cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)


@cache
def _detector() -> Any:
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_NONE
    parameters.minMarkerPerimeterRate = 0.02
    parameters.errorCorrectionRate = 1.0  # the cells are read again through better corners (`_read`)
    return cv2.aruco.ArucoDetector(_dictionary(), parameters)


@cache
def code(tag_id: int) -> npt.NDArray[np.bool_]:
    """A tag's cells [8, 8], its black border included: True is white.

    Raises:
        SpecError: no tag of the family.
    """
    if not 0 <= tag_id < IDS:
        raise SpecError(f"tag {tag_id} is none of the family 36h11; ids are 0 to {IDS - 1}")
    cells = cv2.aruco.generateImageMarker(_dictionary(), tag_id, CELLS, borderBits=1) > 127
    cells.flags.writeable = False
    return cells


def grey_of(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The grey picture [H, W] of a grey or RGB one.

    Raises:
        SpecError: it is neither.
    """
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise SpecError(f"a picture is uint8 [H, W] or RGB [H, W, 3], this one is {picture.dtype} {picture.shape}")
    return picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def find_tags(picture: npt.NDArray[np.uint8], intrinsics: Intrinsics | None = None) -> tuple[Sighting, ...]:
    """Every tag of the family in a picture (grey [H, W] or RGB [H, W, 3]), in the order of their ids.

    Args:
        intrinsics: of the camera, where known: edges are then straightened.

    Raises:
        SpecError: no picture, or not of this camera's size.
    """
    grey = grey_of(picture)
    if intrinsics is not None and grey.shape != (intrinsics.height, intrinsics.width):
        raise SpecError(
            f"the picture is {grey.shape[1]} x {grey.shape[0]} px, the camera's are {intrinsics.width} x "
            f"{intrinsics.height}; give the intrinsics of this resolution"
        )
    found, ids, _ = _detector().detectMarkers(grey)
    if ids is None:
        return ()
    rough = np.stack([corners.reshape(4, 2) for corners in found])
    corners, sigmas = refine(grey, rough, intrinsics)
    read = (
        _read(grey, int(tag_id), square, float(sigma)) for tag_id, square, sigma in zip(ids.ravel(), corners, sigmas)
    )
    return tuple(sorted((sighting for sighting in read if sighting), key=lambda sighting: sighting.tag_id))


def _read(grey: npt.NDArray[np.uint8], tag_id: int, corners: Array, sigma_px: float) -> Sighting | None:
    """Read its cells again through the refined corners; None for what is no tag after all."""
    if np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).min() < MIN_SIDE_PX:
        return None
    middles = (np.arange(CELLS) + 0.5) / CELLS
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    to_picture = cv2.getPerspectiveTransform(unit, corners.astype(np.float32))
    grid = np.stack(np.meshgrid(middles, middles), axis=-1).astype(np.float32)
    at = cv2.perspectiveTransform(grid.reshape(1, -1, 2), to_picture).reshape(CELLS, CELLS, 2).astype(np.float32)
    levels = cv2.remap(grey, at[..., 0], at[..., 1], cv2.INTER_LINEAR).astype(np.float64)
    white = code(tag_id)
    off = levels - (levels[white].mean() + levels[~white].mean()) / 2
    inner = slice(1, 1 + BITS)
    wrong = int(((off > 0) != white)[inner, inner].sum())
    margin = float(np.where(white, off, -off)[inner, inner].mean())
    if wrong > MAX_WRONG_BITS or margin < MIN_MARGIN:
        return None
    return Sighting(tag_id=tag_id, corners_px=corners, sigma_px=sigma_px, margin=margin, wrong_bits=wrong)


def corners_of(size_m: float, rotation: Array, position_m: Array) -> Array:
    """Corners [4, 3] of a tag of that size and pose, in the frame that the pose is told in."""
    return SQUARE * size_m @ rotation.T + position_m


def tag_pose(sighting: Sighting, intrinsics: Intrinsics, size_m: float) -> TagPose:
    """Where a tag stands before the camera.

    The stated deviations come from the corners' and the geometry; that of the size (a sheet printed at 99 %) and of the
    camera's intrinsics is not in them.

    Raises:
        SpecError: a size that is none.
    """
    if not 0 < size_m < np.inf:
        raise SpecError(f"tag {sighting.tag_id}: size {size_m:g} m must be above 0: the side of its black square")
    rays = intrinsics.rays(sighting.corners_px)[:, None]
    square, lens, straight = SQUARE * size_m, np.eye(3), np.zeros(5)
    _, turns, places, _ = cv2.solvePnPGeneric(square, rays, lens, straight, flags=cv2.SOLVEPNP_IPPE_SQUARE)
    found = []
    for turn, place in zip(turns, places):
        turn, place = cv2.solvePnPRefineLM(square, rays, lens, straight, turn, place)
        rotation, position_m = np.asarray(cv2.Rodrigues(turn)[0], np.float64), np.asarray(place, np.float64).ravel()
        off = intrinsics.project(corners_of(size_m, rotation, position_m)) - sighting.corners_px
        error_px = float(np.sqrt((off**2).sum(axis=1).mean()))
        found.append(Pose(rotation=rotation, position_m=position_m, error_px=error_px))
    best, other = sorted(found, key=lambda pose: pose.error_px)
    sigma_m, sigma_rad = _deviations(best, intrinsics, size_m, sighting.sigma_px)
    more_chi2 = 4 * (other.error_px**2 - best.error_px**2) / sighting.sigma_px**2
    apart = turned_rad(best.rotation, other.rotation) > 2 * sigma_rad
    return TagPose(
        tag_id=sighting.tag_id,
        best=best,
        other=other,
        sigma_m=sigma_m,
        sigma_rad=sigma_rad,
        ambiguous=bool(apart and not more_chi2 > AMBIGUOUS_CHI2),
    )


def _deviations(pose: Pose, intrinsics: Intrinsics, size_m: float, sigma_px: float) -> tuple[float, float]:
    """Standard deviations of position and orientation, to first order in the corners' noise."""
    corners = corners_of(size_m, pose.rotation, pose.position_m)
    z = corners[:, 2]
    by_point = np.zeros((4, 2, 3))
    by_point[:, 0, 0], by_point[:, 1, 1] = intrinsics.fx / z, intrinsics.fy / z
    by_point[:, 0, 2], by_point[:, 1, 2] = -intrinsics.fx * corners[:, 0] / z**2, -intrinsics.fy * corners[:, 1] / z**2
    arms = corners - pose.position_m
    by_turn = np.cross(np.eye(3)[None], arms[:, None]).swapaxes(1, 2)
    slope = np.concatenate([by_point @ by_turn, by_point], axis=2).reshape(8, 6)
    variances = np.diag(np.linalg.pinv(slope.T @ slope)) * sigma_px**2
    return float(np.sqrt(variances[3:].sum())), float(np.sqrt(variances[:3].sum()))


def resolve(pose: TagPose, near_rotation: Array) -> Pose:
    """The pose that fits best; where that is ambiguous, the one of the two that is turned less from what is known.

    Args:
        near_rotation: [3, 3] about how the tag is turned in the optical frame.
    """
    if not pose.ambiguous:
        return pose.best
    return min((pose.best, pose.other), key=lambda one: turned_rad(one.rotation, near_rotation))


def turned_rad(one: Array, other: Array) -> float:
    """The angle between two orientations [3, 3]."""
    sine = np.linalg.norm(one - other) / np.sqrt(8)
    return float(2 * np.arcsin(min(1.0, sine)))
