"""Captures: whole whatever happens, pruned without loss, refused in words where they are damaged or mixed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from skimo_calibration.cameras.board import A4_BOARD, draw
from skimo_calibration.cameras.capture import (
    Capture,
    add_view,
    create_capture,
    drop_view,
    keep_view,
    load_capture,
    picture_path,
    read_picture,
)
from skimo_calibration.cameras.views import VIEWS_MIN, look_at, with_corners
from skimo_core.contract.errors import SpecError
from skimo_core.domain.robot import load_limits

HOME_RAD = load_limits("panda").home_q_rad
STILL = np.zeros(7)
Picture = npt.NDArray[np.uint8]


def picture(blur_px: float = 0.5) -> Picture:
    sharp = np.pad(draw(A4_BOARD, square_px=30, margin_m=0.0)[0], 40, constant_values=255)
    return np.repeat(np.asarray(cv2.GaussianBlur(sharp, (0, 0), blur_px), np.uint8)[:, :, None], 3, axis=2)


def begun(folder: Path) -> Capture:
    return create_capture(
        Capture(
            folder=folder,
            camera="wrist",
            frame="wrist_optical",
            mount="flange",
            robot="panda",
            serial="295341",
            board=A4_BOARD,
            date=datetime.date(2026, 1, 31),
            by="somebody",
        )
    )


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    ours = begun(tmp_path / "wrist")
    for k in range(VIEWS_MIN):
        ours = add_view(
            ours,
            picture(),
            stamp_s=float(k),
            q_rad=HOME_RAD + 0.01 * k,
            dq_rad_s=STILL,
            q_after_rad=HOME_RAD + 0.01 * k,
        )
    return ours


def edited(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data))


def test_what_is_written_is_read(capture: Capture) -> None:
    read = load_capture(capture.folder)
    assert replace(read, views=()) == replace(capture, views=())
    for ours, theirs in zip(capture.views, read.views, strict=True):
        assert (ours.name, ours.stamp_s, ours.dropped) == (theirs.name, theirs.stamp_s, theirs.dropped)
        np.testing.assert_array_equal(ours.q_rad, theirs.q_rad)
    np.testing.assert_array_equal(read_picture(read, read.views[0]), picture())
    assert read.digest == capture.digest


def test_a_capture_never_begins_over_another(capture: Capture) -> None:
    with pytest.raises(SpecError, match="holds something already"):
        begun(capture.folder)


def test_dropping_loses_nothing_and_can_be_taken_back(capture: Capture) -> None:
    files = {path: path.read_bytes() for path in (capture.folder / "views").glob("*.png")}
    drop_view(capture, "003", "glare")
    pruned = load_capture(capture.folder)
    assert pruned.view("003").dropped == "glare"
    assert [view.name for view in pruned.kept] == [view.name for view in capture.views if view.name != "003"]
    assert {path: path.read_bytes() for path in files} == files
    assert pruned.digest != capture.digest
    keep_view(pruned, "003")
    assert load_capture(capture.folder).digest == capture.digest


def test_a_view_after_dropped_ones_gets_a_name_of_its_own(capture: Capture) -> None:
    last = capture.views[-1].name
    more = add_view(drop_view(capture, last, "x"), picture(), stamp_s=1.0, q_rad=HOME_RAD, dq_rad_s=STILL)
    assert int(more.views[-1].name) == int(last) + 1


def test_what_lies_beside_the_views_is_no_part_of_it(capture: Capture) -> None:
    (capture.folder / "camera.html").write_text("a page")
    assert load_capture(capture.folder).digest == capture.digest


def damaged_picture(keep: float) -> Callable[[Capture], None]:
    def change(ours: Capture) -> None:
        path = picture_path(ours, "004")
        data = path.read_bytes()
        path.write_bytes(data[: int(keep * len(data))])

    return change


def flipped_bit(ours: Capture) -> None:
    path = picture_path(ours, "004")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def head(**keys: object) -> Callable[[Capture], None]:
    return lambda ours: edited(ours.folder / "capture.yaml", lambda data: data.update(keys))


def fourth(**keys: object) -> Callable[[Capture], None]:
    return lambda ours: edited(ours.folder / "views" / "004.yaml", lambda data: data.update(keys))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda ours: (ours.folder / "capture.yaml").unlink(), "is no capture: it has no capture.yaml"),
        (lambda ours: picture_path(ours, "004").unlink(), r"004.yaml has no picture 004.png; bring it back"),
        (lambda ours: (ours.folder / "views/004.yaml").unlink(), r"004.png has no 004.yaml, which says where the arm"),
        (lambda ours: (ours.folder / "views/004.yaml").write_text("{"), "is not YAML"),
        (damaged_picture(0.0), "004.png is empty"),
        (damaged_picture(0.7), "004.png is cut short or damaged"),
        (flipped_bit, "004.png is cut short or damaged"),
        (head(joints_unit="deg"), "joints_unit is 'deg', must be rad; convert"),
        (head(mount="gripper"), "mount must be one of flange, base"),
        (head(capture=9), "this version reads 1"),
        (head(robot={"model": "r2d2"}), "no robot 'r2d2'"),
        (head(typo=1), "unknown key 'typo'"),
        (head(board={**A4_BOARD.data, "square_m": 25.0, "marker_m": 17.5}), "millimetres"),
        (fourth(q_rad=np.degrees(HOME_RAD).tolist()), "joint 4 at -135 rad is beyond its range .* degrees"),
        (fourth(q_rad=HOME_RAD[:6].tolist()), "q_rad must hold 7 finite numbers"),
        (fourth(q_rad=[float("nan")] * 7), "q_rad must hold 7 finite numbers"),
        (fourth(camera="front"), "taken with camera front, the capture is of wrist"),
        (fourth(robot="fr3"), "taken with robot fr3, the capture is of panda"),
    ],
)
def test_what_is_damaged_or_mixed_is_refused(harm: Callable[[Capture], object], why: str, capture: Capture) -> None:
    harm(capture)
    with pytest.raises(SpecError, match=why):
        look_at(load_capture(capture.folder))


def test_a_damaged_picture_that_was_dropped_harms_nobody(capture: Capture) -> None:
    add_view(capture, picture(), stamp_s=99.0, q_rad=HOME_RAD, dq_rad_s=STILL)
    damaged_picture(0.5)(capture)
    drop_view(capture, "004", "damaged")
    assert len(look_at(load_capture(capture.folder)).seen) == VIEWS_MIN


def test_views_of_two_sizes_are_refused(capture: Capture) -> None:
    small = np.ascontiguousarray(picture()[:-20])
    ours = add_view(capture, small, stamp_s=99.0, q_rad=HOME_RAD, dq_rad_s=STILL)
    with pytest.raises(SpecError, match=r"view 010 .* is 290 x 330 px, those before it are 290 x 350 px"):
        look_at(ours)


@pytest.mark.parametrize(
    ("shown", "dq", "after", "why"),
    [
        (picture(), 0.05, 0.0, "the arm was moving: joint 3 at 0.05 rad/s, bound 0.01"),
        (picture(), 0.0, 0.002, "the arm moved while the picture was taken: joint 3 by 0.002 rad"),
        (picture(2.2), 0.0, 0.0, "blurred|no board is in sight"),
        (np.full_like(picture(), 255), 0.0, 0.0, "the picture is empty"),
    ],
)
def test_a_view_that_cant_be_used_is_set_aside_with_its_reason(
    shown: Picture, dq: float, after: float, why: str, capture: Capture
) -> None:
    third = np.eye(7)[2]
    ours = add_view(
        capture, shown, stamp_s=9.0, q_rad=HOME_RAD, dq_rad_s=dq * third, q_after_rad=HOME_RAD + after * third
    )
    sights = look_at(ours)
    assert len(sights.seen) == VIEWS_MIN
    ((name, reason),) = sights.aside
    assert name == "010"
    with pytest.raises(SpecError, match=why):
        raise SpecError(reason)


def test_too_few_views_are_refused_with_every_reason(capture: Capture) -> None:
    ours = drop_view(drop_view(capture, "000", "x"), "001", "x")
    ours = add_view(ours, picture(), stamp_s=9.0, q_rad=HOME_RAD, dq_rad_s=np.full(7, 0.1))
    with pytest.raises(
        SpecError, match=r"8 of 11 views can be used, at least 10 must be; 2 were dropped; 010: the arm"
    ):
        look_at(ours)


def test_a_view_with_too_few_good_corners_is_set_aside(capture: Capture) -> None:
    sights = look_at(add_view(capture, picture(), stamp_s=9.0, q_rad=HOME_RAD, dq_rad_s=STILL))
    few = [replace(c, ids=c.ids[:5], pixels=c.pixels[:5]) if k == 2 else c for k, c in enumerate(sights.corners)]
    left = with_corners(sights, few)
    assert len(left.seen) == VIEWS_MIN
    assert left.aside[0][0] == "002" and "where no flat board has them" in left.aside[0][1]
