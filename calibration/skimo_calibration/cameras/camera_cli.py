"""`skimo calibrate board | camera | hand-eye | touch | views`: what works on boards, captures and touches.

Each writes its page beside its data, and its result into a rig file if one is named: only if every criterion holds, or
`accept` says to take it as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro

from skimo_core.contract.errors import SpecError
from skimo_core.domain.rig import Made, Rig
from skimo_core.domain.rig_file import write_rig
from skimo_core.domain.robot import load_limits

from ..report import Page
from ..rig_entries import open_rig, with_camera, with_hand_eye, with_joints
from .board import A4_BOARD, Board, Corners, find
from .camera_pages import Bounds, camera_page, hand_eye_page, touch_page
from .capture import Capture, add_view, drop_view, keep_view, load_capture, read_picture
from .hand_eye import Lens, calibrate_hand_eye
from .intrinsics import CameraFit, calibrate_views, without_strays
from .joints import calibrate_joints, load_touches
from .sheet import write_sheet
from .views import Sights, annotated, look_at

BOUNDS = Bounds()


def board(
    out: tyro.conf.Positional[Path] = Path("board.pdf"),
    *,
    columns: int = A4_BOARD.columns,
    rows: int = A4_BOARD.rows,
    square_mm: float = A4_BOARD.square_m * 1e3,
    marker_mm: float = A4_BOARD.marker_m * 1e3,
    dictionary: str = A4_BOARD.dictionary,
    paper: str = "A4",
) -> None:
    """Write a board to print, at its true size.

    Args:
        out: the PDF.
        columns: squares across.
        rows: squares down.
        square_mm: side of a square.
        marker_mm: side of a marker.
        dictionary: of the markers, by OpenCV's name.
        paper: A4, A3, A2 or letter.
    """
    sheet = Board(columns=columns, rows=rows, square_m=square_mm / 1e3, marker_m=marker_mm / 1e3, dictionary=dictionary)
    print(f"{write_sheet(sheet, out, paper)}: {sheet.words}; print at 100 %, then measure the ruler and a square")


def camera(
    capture: tyro.conf.Positional[Path],
    *,
    rig: Path | None = None,
    bounds: Bounds = BOUNDS,
    accept: bool = False,
    seed: int = 0,
) -> None:
    """Find a camera's lens from a capture.

    Args:
        capture: its folder.
        rig: rig file to write the lens into.
        bounds: what the result must keep.
        accept: write it although a criterion fails.
        seed: of the hold-out's and the repeats' draws.
    """
    known = _rig_for(rig, load_capture(capture))
    fitted, sights = _lens_of(capture, seed)
    page = camera_page(sights, fitted, bounds)
    _tell(page, page.write(capture / "camera.html"), sights)
    if rig is not None and known is not None:
        _write(rig, with_camera(known, sights.capture, fitted), page, accept)


def hand_eye(
    capture: tyro.conf.Positional[Path],
    *,
    rig: Path | None = None,
    lens_from: Path | None = None,
    bounds: Bounds = BOUNDS,
    accept: bool = False,
    seed: int = 0,
) -> None:
    """Find where a camera sits on its mount, and what the joints' encoders are off.

    Args:
        capture: its folder.
        rig: rig file to write into; offsets that the views can't tell are taken from it, if it has them.
        lens_from: a capture of the same camera that its lens is to be found from; otherwise, this one.
        bounds: what the result must keep.
        accept: write it although a criterion fails.
        seed: of the hold-out's and the repeats' draws.
    """
    known = _rig_for(rig, load_capture(capture))
    fitted, sights, same = *_lens_of(lens_from or capture, seed), lens_from is None
    if lens_from is not None:
        sights = without_strays(fitted.intrinsics, _same_camera(look_at(load_capture(capture)), sights))
    ours = sights.capture
    limits = load_limits(ours.robot)
    found = calibrate_hand_eye(
        limits,
        ours.board,
        sights.corners,
        sights.q_rad,
        ours.mount,
        Lens(fitted=fitted, same_views=same),
        np.random.default_rng(seed),
        known_offset_rad=None if known is None else known.offset_rad,
    )
    page = hand_eye_page(limits, sights, fitted, found, bounds)
    _tell(page, page.write(capture / "hand_eye.html"), sights)
    if rig is not None and known is not None:
        _write(rig, with_hand_eye(known, ours, found, fitted.holdout_px), page, accept)


def touch(
    touches: tyro.conf.Positional[Path],
    *,
    rig: Path | None = None,
    holdout_mm: float = 1.0,
    accept: bool = False,
    seed: int = 0,
) -> None:
    """Find the joints' offsets from touches of points with a tip in the hand.

    Args:
        touches: the file of touches.
        rig: rig file to write the offsets into.
        holdout_mm: by how much touches that the fit didn't see may miss.
        accept: write them although a criterion fails.
        seed: of the hold-out's draws.
    """
    robot, touched, date = load_touches(touches)
    known = None if rig is None else open_rig(rig, robot)
    found = calibrate_joints(
        load_limits(robot),
        touched,
        np.random.default_rng(seed),
        known_offset_rad=None if known is None else known.offset_rad,
    )
    page = touch_page(touched.names, found, holdout_mm)
    _tell(page, page.write(touches.with_suffix(".html")))
    if rig is not None and known is not None:
        made = Made(date=date, method=f"touch, {len(touched.point)} touches of {len(touched.names)} points")
        offsets = with_joints(known, found.offset_rad, found.offset_sigma_rad, np.array(found.told), made)
        _write(rig, offsets, page, accept)


def views(
    capture: tyro.conf.Positional[Path],
    action: tyro.conf.Positional[Literal["list", "show", "drop", "keep", "add"]] = "list",
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    why: str = "dropped by hand",
    picture: Path | None = None,
    joints_rad: tuple[float, ...] = (),
) -> None:
    """List, show, drop, take back or add single views of a capture. Nothing is ever deleted.

    Args:
        capture: its folder.
        action: list all; show: draw the corners into <capture>/shown/; drop and keep: leave views out, take them back;
            add: a picture from a file.
        names: of the views to show (none: all), drop or keep.
        why: the reason to drop them.
        picture: PNG to add.
        joints_rad: where the arm was when it was taken, seven joints as read.
    """
    ours = load_capture(capture)
    if action in ("drop", "keep") and not names:
        raise SpecError(f"name the views to {action}: skimo calibrate views {capture} {action} 003 007")
    for name in names:
        ours.view(name)
    if action == "add":
        ours = _added(ours, picture, joints_rad)
    for name in names:
        if action in ("drop", "keep"):
            ours = drop_view(ours, name, why) if action == "drop" else keep_view(ours, name)
    if action == "show":
        _show(ours, names)
    for view in ours.views:
        state = f"dropped: {view.dropped}" if view.dropped else _seen(ours, view.name)[1]
        print(f"{view.name}  {state}")


def _seen(capture: Capture, name: str) -> tuple[Corners | None, str]:
    """The corners in a view, None if it can't be used, and words about it."""
    try:
        corners = find(read_picture(capture, capture.view(name)), capture.board)
    except SpecError as error:
        return None, str(error)
    return corners, f"{len(corners.ids)} corners, squares {corners.square_px:.0f} px, blur {corners.blur_px:.1f} px"


def _show(capture: Capture, names: tuple[str, ...]) -> None:
    folder = capture.folder / "shown"
    folder.mkdir(exist_ok=True)
    for name in names or tuple(view.name for view in capture.views):
        corners, words = _seen(capture, name)
        shown = annotated(read_picture(capture, capture.view(name)), corners, f"view {name}: {words}")
        cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))
    print(f"drawn into {folder}")


def _added(capture: Capture, picture: Path | None, joints_rad: tuple[float, ...]) -> Capture:
    count = load_limits(capture.robot).joints
    if picture is None or len(joints_rad) != count:
        raise SpecError(
            f"to add a view, give its picture and where the arm was: --picture FILE --joints-rad, {count} of them"
        )
    pixels = cv2.imread(str(picture), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SpecError(f"{picture} holds no picture; give a PNG")
    q_rad = np.array(joints_rad, np.float64)
    rgb = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    add_view(capture, rgb, stamp_s=0.0, q_rad=q_rad, dq_rad_s=np.zeros(count))
    return load_capture(capture.folder)


def _rig_for(path: Path | None, capture: Capture) -> Rig | None:
    """The rig to write into, looked at before the work begins."""
    return None if path is None else open_rig(path, capture.robot, capture.serial)


def _lens_of(folder: Path, seed: int) -> tuple[CameraFit, Sights]:
    return calibrate_views(look_at(load_capture(folder)), np.random.default_rng(seed))


def _same_camera(sights: Sights, other: Sights) -> Sights:
    ours, theirs = sights.capture, other.capture
    here, there = (ours.camera, sights.width, sights.height), (theirs.camera, other.width, other.height)
    if here != there:
        raise SpecError(
            f"the lens is of camera {there[0]} ({there[1]} x {there[2]} px), the views of {here[0]} ({here[1]} x "
            f"{here[2]} px); give a capture of the same camera in the same mode"
        )
    return sights


def _tell(page: Page, where: Path, sights: Sights | None = None) -> None:
    for criterion in page.criteria:
        print(f"{'passed' if criterion.passed else 'FAILED'}  {criterion.words}")
    for name, reason in () if sights is None else sights.aside:
        print(f"view {name} was not used: {reason}")
    print(f"page: {where}")


def _write(path: Path, rig: Rig, page: Page, accept: bool) -> None:
    if not page.passed and not accept:
        raise SpecError(
            f"{path} is left as it was: {'; '.join(page.failures)}. Take more and better views, or take it as it is "
            "with --accept"
        )
    write_rig(path, rig)
    print(f"rig: {path}")
