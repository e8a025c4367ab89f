"""A camera's lens from views of a board, with errors that can be trusted.

The fit is OpenCV's (Z. Zhang, "A flexible new technique for camera calibration", PAMI 22(11), 2000). What is judged is
not its own residual but

    hold-out    the fit is made without a fifth of the views, then each of these finds its pose, and is predicted
    scatter     the fit is made anew from views drawn with replacement
    coverage    how much of the picture corners were seen in

The third radial coefficient stays 0 unless the hold-out says that it is needed. Refused: views that don't fix the focal
length (too few, too little tilt), and a lens that no camera has.
Units px, m, rad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array

from ..rigid import pose, skew, turn
from .board import CORNERS_MIN, Board, Corners
from .camera import LENS, Intrinsics, lens_slope, point_slope, project
from .views import Sights, with_corners

FOLDS = 5
REPEATS = 16
NEEDED = 0.97
"""The third coefficient is taken if it lowers the hold-out error to this share."""
COVERED_CELLS = (8, 6)
FOCAL_WIDTHS = (0.25, 8.0)
"""Focal lengths in widths of the picture: a field of view between 127 and 7 degrees."""
ASPECT = 0.1
CENTRE = 0.25
"""How far the principal point may lie from the middle, in widths and heights."""
FOCAL_SIGMA_MAX = 0.02
FIT_MAX_PX = 2.0
TILT_MIN_RAD = 0.2
STRAY_START_PX, STRAY_MIN_PX, STRAY_MEDIANS = 1.0, 0.25, 5.0
"""A corner strays if it lies this far from where the others have it, and this many times the median."""
CLEANINGS = 2
FIXED = 1e12
"""Information on a coefficient that is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFit:
    """A camera's lens.

    Attributes:
        intrinsics: the lens.
        covariance: [9, 9] of its vector, from the views' residuals.
        poses: [V, 4, 4] camera_from_board in each view.
        fit_px: root of the mean squared distance between corners and prediction, in the views that were used.
        view_px: [V] the same in each view.
        holdout_px: the same in views that were not used.
        scatter: [9] standard deviation over fits to views drawn anew.
        coverage: share of the picture's cells (8 x 6) in which there were corners.
    """

    intrinsics: Intrinsics
    covariance: Array
    poses: Array
    fit_px: float
    view_px: Array
    holdout_px: float
    scatter: Array
    coverage: float

    @property
    def information(self) -> Array:
        """[9, 9] inverse of the covariance."""
        scale = 1 / np.sqrt(np.diag(self.covariance))
        return np.linalg.inv(self.covariance * np.outer(scale, scale)) * np.outer(scale, scale)


def calibrate_camera(
    board: Board,
    corners: Sequence[Corners],
    width: int,
    height: int,
    rng: np.random.Generator,
    *,
    repeats: int = REPEATS,
) -> CameraFit:
    """Find a camera's lens from the corners in its views, for pictures of width x height px.

    Raises:
        SpecError: the views don't fix it, or what they fix is no lens; says what to change.
    """
    holdout = {fixed: _holdout_px(board, corners, width, height, rng, fixed) for fixed in (True, False)}
    fixed = not holdout[False] < NEEDED * holdout[True]
    intrinsics = _fit(board, corners, width, height, fixed)
    poses = board_poses(intrinsics, board, corners)
    view_px = view_errors_px(intrinsics, board, corners, poses)
    weights = np.array([len(c.ids) for c in corners])
    fit_px = float(np.sqrt((view_px**2 * weights).sum() / weights.sum()))
    _check_tilt(poses)
    covariance = _covariance(intrinsics, board, corners, poses, fixed)
    fitted = CameraFit(
        intrinsics=intrinsics,
        covariance=covariance,
        poses=poses,
        fit_px=fit_px,
        view_px=view_px,
        holdout_px=holdout[fixed],
        scatter=_scatter(board, corners, width, height, rng, fixed, repeats),
        coverage=coverage(corners, width, height),
    )
    _check_lens(fitted)
    return fitted


def _fit(board: Board, corners: Sequence[Corners], width: int, height: int, fixed: bool) -> Intrinsics:
    """OpenCV's fit; `fixed` keeps the third radial coefficient at 0."""
    points = [board.points_m[c.ids].astype(np.float32) for c in corners]
    pixels = [c.pixels.astype(np.float32) for c in corners]
    flags = cv2.CALIB_FIX_K3 if fixed else 0
    try:
        _, matrix, lens, _, _ = cv2.calibrateCamera(points, pixels, (width, height), None, None, flags=flags)
    except cv2.error as error:
        raise SpecError(
            f"no lens fits these {len(corners)} views ({error.err}); take views with the board tilted to all sides and "
            "spread over the picture"
        ) from error
    if not (np.isfinite(matrix).all() and np.isfinite(lens).all() and min(matrix[0, 0], matrix[1, 1]) > 0):
        raise SpecError(f"no lens fits these {len(corners)} views; take views with the board tilted to all sides")
    return Intrinsics(
        width=width,
        height=height,
        fx=float(matrix[0, 0]),
        fy=float(matrix[1, 1]),
        cx=float(matrix[0, 2]),
        cy=float(matrix[1, 2]),
        distortion=np.ravel(lens)[:5].astype(np.float64),
    )


def calibrate_views(sights: Sights, rng: np.random.Generator, *, repeats: int = REPEATS) -> tuple[CameraFit, Sights]:
    """Find a camera's lens from what its views show, strays dropped; returns the lens and what was used.

    Raises:
        SpecError: as `calibrate_camera`, or too few corners are left.
    """
    board, clean = sights.capture.board, sights
    for _ in range(CLEANINGS):
        rough = _fit(board, clean.corners, sights.width, sights.height, True)
        clean = without_strays(rough, sights)
    fitted = calibrate_camera(board, clean.corners, sights.width, sights.height, rng, repeats=repeats)
    return fitted, clean


def without_strays(intrinsics: Intrinsics, sights: Sights) -> Sights:
    """The views with those corners alone that lie where a flat board has them: something half covers the others, or
    glare moves them. Each view's pose is what most of its corners agree on.

    Raises:
        SpecError: too few views are left that can be used.
    """
    board, kept = sights.capture.board, []
    for sight in sights.seen:
        seen = sight.corners
        points, rays = board.points_m[seen.ids], intrinsics.rays(seen.pixels)
        _, inside = cv2.findHomography(points[:, :2], rays, cv2.RANSAC, STRAY_START_PX / intrinsics.fx)
        agree = np.ravel(inside).astype(bool) if inside is not None else np.ones(len(points), bool)
        if agree.sum() < CORNERS_MIN:
            agree[:] = True
        place = board_poses(intrinsics, board, [_of(seen, agree)])[0]
        error = np.linalg.norm(project(points @ place[:3, :3].T + place[:3, 3], intrinsics.lens) - seen.pixels, axis=1)
        kept.append(_of(seen, error <= max(STRAY_MIN_PX, STRAY_MEDIANS * float(np.median(error)))))
    return with_corners(sights, kept)


def _of(seen: Corners, which: npt.NDArray[np.bool_]) -> Corners:
    return replace(seen, ids=seen.ids[which], pixels=seen.pixels[which])


# --- views under a lens ---------------------------------------------------------------------------------------------


def board_poses(intrinsics: Intrinsics, board: Board, corners: Sequence[Corners]) -> Array:
    """camera_from_board [V, 4, 4] of each view, under a given lens."""
    found = []
    for seen in corners:
        points, pixels = board.points_m[seen.ids], seen.pixels
        given = intrinsics.matrix, intrinsics.distortion
        _, rotation, shift = cv2.solvePnP(points, pixels, *given, flags=cv2.SOLVEPNP_IPPE)
        rotation, shift = cv2.solvePnPRefineLM(points, pixels, *given, rotation, shift)
        found.append(pose(turn(np.ravel(rotation).astype(np.float64)), np.ravel(shift).astype(np.float64)))
    return np.array(found)


def view_errors_px(intrinsics: Intrinsics, board: Board, corners: Sequence[Corners], poses: Array) -> Array:
    """[V] root of the mean squared distance between corners and prediction."""
    errors = [
        project(board.points_m[seen.ids] @ place[:3, :3].T + place[:3, 3], intrinsics.lens) - seen.pixels
        for seen, place in zip(corners, poses)
    ]
    return np.array([np.sqrt((error**2).sum(axis=1).mean()) for error in errors])


def _holdout_px(
    board: Board, corners: Sequence[Corners], width: int, height: int, rng: np.random.Generator, fixed: bool
) -> float:
    squares, count = 0.0, 0
    for left_out in np.array_split(rng.permutation(len(corners)), FOLDS):
        rest = [corners[k] for k in range(len(corners)) if k not in left_out]
        intrinsics = _fit(board, rest, width, height, fixed)
        judged = [corners[k] for k in left_out]
        errors = view_errors_px(intrinsics, board, judged, board_poses(intrinsics, board, judged))
        weights = np.array([len(seen.ids) for seen in judged])
        squares, count = squares + float((errors**2 * weights).sum()), count + int(weights.sum())
    return float(np.sqrt(squares / count))


def _scatter(
    board: Board,
    corners: Sequence[Corners],
    width: int,
    height: int,
    rng: np.random.Generator,
    fixed: bool,
    repeats: int,
) -> Array:
    drawn = rng.integers(len(corners), size=(repeats, len(corners)))
    lenses = [_fit(board, [corners[k] for k in row], width, height, fixed).lens for row in drawn]
    return np.std(lenses, axis=0, ddof=1)


def _covariance(intrinsics: Intrinsics, board: Board, corners: Sequence[Corners], poses: Array, fixed: bool) -> Array:
    """[9, 9] of the lens, the views' poses being unknown as well; the noise as the residuals have it."""
    information, squares, count, lens = np.zeros((LENS, LENS)), 0.0, -LENS, intrinsics.lens
    for seen, place in zip(corners, poses):
        points = board.points_m[seen.ids]
        there = points @ place[:3, :3].T + place[:3, 3]
        moves = np.concatenate([np.broadcast_to(place[:3, :3], (len(points), 3, 3)), -place[:3, :3] @ skew(points)], -1)
        by_lens, by_pose = lens_slope(there, lens).reshape(-1, LENS), (point_slope(there, lens) @ moves).reshape(-1, 6)
        mixed = by_lens.T @ by_pose
        information += by_lens.T @ by_lens - mixed @ np.linalg.solve(by_pose.T @ by_pose, mixed.T)
        squares += float(((project(there, lens) - seen.pixels) ** 2).sum())
        count += 2 * len(points) - 6
    information /= squares / max(count, 1)
    if fixed:
        information[-1, :] = information[:, -1] = 0.0
        information[-1, -1] = FIXED
    scale = 1 / np.sqrt(np.diag(information))
    return np.linalg.inv(information * np.outer(scale, scale)) * np.outer(scale, scale)


def coverage(corners: Sequence[Corners], width: int, height: int) -> float:
    """Share of the picture's cells in which there were corners."""
    pixels = np.concatenate([seen.pixels for seen in corners])
    cells = np.clip((pixels / [width, height] * COVERED_CELLS).astype(int), 0, np.array(COVERED_CELLS) - 1)
    return len(np.unique(cells, axis=0)) / float(np.prod(COVERED_CELLS))


def tilts_rad(poses: Array) -> npt.NDArray[np.float64]:
    """[V] between each board's normal and the camera's axis."""
    return np.arccos(np.clip(poses[:, 2, 2], -1, 1))


# --- refusals -------------------------------------------------------------------------------------------------------


def _check_tilt(poses: Array) -> None:
    """A board that always faces the camera tells no focal length from a distance."""
    tilts = tilts_rad(poses)
    if np.sum(tilts > TILT_MIN_RAD) < 3:
        raise SpecError(
            f"the views are too similar: the board is tilted by more than {np.degrees(TILT_MIN_RAD):.0f} degrees in "
            f"{int(np.sum(tilts > TILT_MIN_RAD))} of {len(tilts)} views, at least 3 must be; tilt it by 20 to 45 "
            "degrees to all sides"
        )


def _check_lens(fitted: CameraFit) -> None:
    lens = fitted.intrinsics
    if fitted.fit_px > FIT_MAX_PX:
        worst = int(np.argmax(fitted.view_px))
        raise SpecError(
            f"corners lie {fitted.fit_px:.1f} px from where the best lens has them, bound {FIT_MAX_PX:g} px (view "
            f"number {worst + 1} the worst, {fitted.view_px[worst]:.1f} px): is the board flat, and this board?"
        )
    low, high = (share * lens.width for share in FOCAL_WIDTHS)
    if not (low <= lens.fx <= high and abs(lens.fx / lens.fy - 1) <= ASPECT):
        raise SpecError(
            f"focal lengths {lens.fx:.0f} and {lens.fy:.0f} px are no camera's with pictures {lens.width} px wide "
            f"({low:.0f} to {high:.0f} px, alike within {ASPECT:.0%}); take views with the board tilted to all sides "
            "and spread over the picture, and check that pictures aren't cropped or stretched"
        )
    off = abs(lens.cx / lens.width - 0.5), abs(lens.cy / lens.height - 0.5)
    if max(off) > CENTRE:
        raise SpecError(
            f"the principal point ({lens.cx:.0f}, {lens.cy:.0f} px) is further from the middle of {lens.width} x "
            f"{lens.height} px than {CENTRE:.0%} of it; take views spread over the whole picture, uncropped"
        )
    sigma = float(np.sqrt(np.diag(fitted.covariance)[:2]).max())
    if sigma > FOCAL_SIGMA_MAX * lens.fx:
        raise SpecError(
            f"the views leave the focal length open by {sigma:.0f} px of {lens.fx:.0f} (standard deviation), bound "
            f"{FOCAL_SIGMA_MAX:.0%}; take more views, nearer, and with more tilt"
        )
