"""The report pages of camera and joint calibrations. Units as said in the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.figure import Figure

from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from ..report import Criterion, Page
from ..rigid import turn_vector
from .capture import read_picture
from .hand_eye import HandEye
from .intrinsics import CameraFit, tilts_rad
from .joints import TouchFit
from .views import Sights, annotated

LENS_NAMES = ("fx / px", "fy / px", "cx / px", "cy / px", "k1", "k2", "p1", "p2", "k3")
MERGES = {"flange": ("the board's pose", "the camera's pose"), "base": ("the camera's pose", "the board's pose")}
"""What offsets of the first and the last joint merge with, by the camera's mount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a calibration must keep to be taken.

    Attributes:
        holdout_px: reprojection error in views that the fit didn't see.
        coverage: least share of the picture in which there were corners.
        focal_scatter: of the focal length over repeats, as a share.
        scatter_mm, scatter_deg: of the camera's pose over repeats.
        offset_scatter_mrad: of the offsets that the views tell.
        scale_percent: by which the board may differ from its declared size.
    """

    holdout_px: float = 0.3
    coverage: float = 0.6
    focal_scatter: float = 0.005
    scatter_mm: float = 0.3
    scatter_deg: float = 0.05
    offset_scatter_mrad: float = 0.5
    scale_percent: float = 0.5


def about(sights: Sights) -> str:
    """In a line: camera, robot, board, views."""
    capture = sights.capture
    return (
        f"camera {capture.camera} ({capture.mount}) of a {capture.robot} {capture.serial}, {capture.board.words}, "
        f"{len(sights.seen)} views of {len(capture.views)}, {capture.date}, {capture.by}"
    )


def camera_page(sights: Sights, fitted: CameraFit, bounds: Bounds) -> Page:
    """The page of a lens."""
    page = Page("Camera calibration", about(sights))
    focal = float((fitted.scatter[:2] / fitted.intrinsics.lens[:2]).max())
    page.judge(
        Criterion(name="hold-out reprojection", value=fitted.holdout_px, bound=bounds.holdout_px, unit="px"),
        Criterion(name="picture covered by corners", value=fitted.coverage, bound=bounds.coverage, at_least=True),
        Criterion(
            name="scatter of the focal length over repeats",
            value=100 * focal,
            bound=100 * bounds.focal_scatter,
            unit="%",
        ),
    )
    sigma = np.sqrt(np.diag(fitted.covariance))
    rows = [(n, *map(float, row)) for n, *row in zip(LENS_NAMES, fitted.intrinsics.lens, sigma, fitted.scatter)]
    page.table(("", "value", "standard deviation", "scatter over repeats"), rows, "The lens.")
    _views_table(page, sights, fitted.view_px, "fit / px", tilts_rad(fitted.poses))
    page.figure(_corners_figure(sights), "Where corners were seen; what is empty here is guessed by the lens model.")
    _worst_picture(page, sights, fitted.view_px)
    return page


def hand_eye_page(limits: RobotLimits, sights: Sights, lens: CameraFit, found: HandEye, bounds: Bounds) -> Page:
    """The page of a camera's pose and the joints' offsets."""
    page = Page("Hand-eye calibration", about(sights))
    told = np.array(found.told)
    scatter = float(found.offset_scatter_rad[told].max(initial=0.0))
    page.judge(
        Criterion(name="hold-out reprojection", value=found.holdout_px, bound=bounds.holdout_px, unit="px"),
        Criterion(
            name="scatter of the camera's place over repeats",
            value=1e3 * found.scatter_m,
            bound=bounds.scatter_mm,
            unit="mm",
        ),
        Criterion(
            name="scatter of its direction",
            value=float(np.degrees(found.scatter_rad)),
            bound=bounds.scatter_deg,
            unit="deg",
        ),
        Criterion(
            name="scatter of the joints' offsets", value=1e3 * scatter, bound=bounds.offset_scatter_mrad, unit="mrad"
        ),
        Criterion(
            name="board's size off what is declared",
            value=100 * abs(found.scale - 1),
            bound=bounds.scale_percent,
            unit="%",
        ),
    )
    rows = [_pose_row("camera on its mount", found.camera), _pose_row("board on the other side", found.board)]
    page.table(("", "x / mm", "y / mm", "z / mm", "rotation vector / deg"), rows, "Poses.")
    page.table(("joint", "offset / mrad", "standard deviation", "scatter", "told by the views"),
               _joint_rows(limits, found), JOINTS_TOLD)  # fmt: skip
    page.table(("", ""), _noise_rows(found, lens), "What the fit says of itself.")
    _views_table(page, sights, found.holdout_view_px, "hold-out / px", tilts_rad(lens.poses))
    page.figure(
        _bars(found.holdout_view_px, [sight.view.name for sight in sights.seen]), "Hold-out error of each view."
    )
    _worst_picture(page, sights, found.holdout_view_px)
    return page


JOINTS_TOLD = (
    "An encoder reads so much more than the joint's angle. Offsets that the views can't tell keep what was known "
    "before; the poses make up for them, so that flange and camera agree about what they see."
)


def touch_page(names: Sequence[str], found: TouchFit, holdout_mm: float) -> Page:
    """The page of joint offsets from touches."""
    page = Page("Joint offsets from touches", f"points {', '.join(names)}")
    page.judge(Criterion(name="hold-out miss", value=1e3 * found.holdout_m, bound=holdout_mm, unit="mm"))
    rows = [
        (k + 1, 1e3 * float(found.offset_rad[k]), 1e3 * float(found.offset_sigma_rad[k]), "yes" if told else "no")
        for k, told in enumerate(found.told)
    ]
    page.table(("joint", "offset / mrad", "standard deviation", "told by the touches"), rows, "Offsets.")
    places = [("tip, on the flange", found.tip_m), *zip(names, found.points_m)]
    page.table(("", "x / mm", "y / mm", "z / mm"), [(n, *_mm(place)) for n, place in places], "Places.")
    page.text(f"A touch is one to {1e3 * found.touch_sigma_m:.2f} mm along each axis.")
    return page


def _mm(place_m: Array) -> list[float]:
    return [1e3 * float(x) for x in place_m]


def _pose_row(name: str, place: Array) -> tuple[object, ...]:
    turned = np.degrees(turn_vector(place[:3, :3]))
    return (name, *_mm(place[:3, 3]), ", ".join(f"{x:.3f}" for x in turned))


def _joint_rows(limits: RobotLimits, found: HandEye) -> list[tuple[object, ...]]:
    first, last = MERGES[found.mount]
    rows = []
    for k, told in enumerate(found.told):
        merged = first if k == 0 else last if k == limits.joints - 1 else "too little motion"
        scatter = 1e3 * float(found.offset_scatter_rad[k])
        sigma = 1e3 * float(found.offset_sigma_rad[k])
        word = "yes" if told else f"no: merges with {merged}" if k in (0, limits.joints - 1) else f"no: {merged}"
        rows.append((k + 1, 1e3 * float(found.offset_rad[k]), sigma, scatter, word))
    return rows


def _noise_rows(found: HandEye, lens: CameraFit) -> list[tuple[str, str]]:
    return [
        ("reprojection of the fit", f"{found.fit_px:.3f} px"),
        ("noise of corners, of joints", f"{found.pixel_sigma_px:.3f} px, {1e3 * found.joint_sigma_rad:.3f} mrad"),
        ("standard deviation of the camera's place", f"{1e3 * found.position_sigma_m:.3f} mm along each axis"),
        ("and direction", f"{np.degrees(found.turn_sigma_rad):.4f} deg about each axis"),
        ("board's size over the declared one", f"{found.scale:.5f} +- {found.scale_sigma:.5f}"),
        ("condition", f"{found.condition:.1f}"),
        ("hold-out of the lens", f"{lens.holdout_px:.3f} px"),
    ]


def _views_table(page: Page, sights: Sights, error_px: Array, what: str, tilt_rad: Array) -> None:
    rows = [
        (
            sight.view.name,
            len(sight.corners.ids),
            float(error),
            float(np.degrees(tilt)),
            sight.corners.square_px,
            sight.corners.blur_px,
        )
        for sight, error, tilt in zip(sights.seen, error_px, tilt_rad)
    ]
    page.table(("view", "corners", what, "tilt / deg", "square / px", "blur / px"), rows, "Views that were used.")
    if sights.aside:
        page.table(("view", "why"), sights.aside, "Views that could not be used.")
    dropped = [(view.name, view.dropped) for view in sights.capture.views if view.dropped]
    if dropped:
        page.table(("view", "why"), dropped, "Views that somebody dropped.")


def _corners_figure(sights: Sights) -> Figure:
    figure = Figure(figsize=(6.4, 4.8))
    axes = figure.add_subplot()
    for corners in sights.corners:
        axes.plot(corners.pixels[:, 0], corners.pixels[:, 1], ".", markersize=2)
    axes.set(xlim=(0, sights.width), ylim=(sights.height, 0), xlabel="px", ylabel="px", aspect="equal")
    return figure


def _bars(error_px: Array, names: list[str]) -> Figure:
    figure = Figure(figsize=(8, 2.4))
    axes = figure.add_subplot()
    axes.bar(range(len(names)), error_px, width=0.7)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set(ylabel="px")
    return figure


def _worst_picture(page: Page, sights: Sights, error_px: Array) -> None:
    sight = sights.seen[int(np.argmax(error_px))]
    shown = annotated(read_picture(sights.capture, sight.view), sight.corners, f"view {sight.view.name}")
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))[1].tobytes()
    page.picture(jpeg, f"The view with the largest error, {float(np.max(error_px)):.2f} px.")
