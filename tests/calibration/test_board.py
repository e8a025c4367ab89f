"""Boards: printed at their true size, found to a fraction of a pixel, and refused in words where they can't be used."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from skimo_calibration.cameras.board import A4_BOARD, Board, draw, find
from skimo_calibration.cameras.sheet import RULER_M, write_sheet
from skimo_core.contract.errors import SpecError

POINT_M = 0.0254 / 72
SQUARE_PX, RIM_PX = 40, 60
LARGER = Board(columns=8, rows=11, square_m=0.02, marker_m=0.014, dictionary="DICT_5X5_100")
SMALLER = Board(columns=5, rows=7, square_m=0.02, marker_m=0.014, dictionary="DICT_5X5_100")
OTHER = Board(columns=7, rows=9, square_m=0.02, marker_m=0.014, dictionary="DICT_4X4_50")
Picture = npt.NDArray[np.uint8]


def picture_of(board: Board, blur_px: float = 0.5, noise: float = 2.0) -> Picture:
    sharp = np.pad(draw(board, square_px=SQUARE_PX, margin_m=0.0)[0], RIM_PX, constant_values=255)
    blurred = cv2.GaussianBlur(sharp.astype(np.float32), (0, 0), blur_px)
    noisy = blurred + np.random.default_rng(1).normal(0.0, noise, blurred.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def streams(pdf: bytes) -> str:
    found = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    unpacked = []
    for data in found:
        try:
            unpacked.append(zlib.decompress(data).decode("latin-1"))
        except zlib.error:
            continue
    return "\n".join(unpacked)


def test_a_sheet_has_its_true_size_and_a_ruler_to_check_it(tmp_path: Path) -> None:
    pdf = write_sheet(A4_BOARD, tmp_path / "board.pdf").read_bytes()
    sheet = re.search(rb"MediaBox \[ 0 0 ([\d.]+) ([\d.]+)", pdf)
    assert sheet is not None
    assert np.array(sheet.groups(), float) * POINT_M == pytest.approx((0.210, 0.297))
    words = streams(pdf)
    image = re.search(r"([\d.]+) 0 0\s+(-?[\d.]+) 0 [\d.]+ cm /I1 Do", words)
    assert image is not None
    assert np.abs(np.array(image.groups(), float)) * POINT_M == pytest.approx(A4_BOARD.size_m)
    lines = re.findall(r"([\d.]+) ([\d.]+) m\n([\d.]+) ([\d.]+) l", words)
    lengths = [abs(float(x1) - float(x0)) * POINT_M for x0, _, x1, _ in lines]
    assert any(length == pytest.approx(RULER_M) for length in lengths)


def test_a_sheet_is_the_same_every_day(tmp_path: Path) -> None:
    first, second = (write_sheet(A4_BOARD, tmp_path / f"{k}.pdf").read_bytes() for k in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("board", "paper", "why"),
    [(LARGER, "A4", "doesn't fit on A4"), (A4_BOARD, "napkin", "no paper 'napkin'; there are A4")],
)
def test_a_sheet_that_cant_be_is_refused(board: Board, paper: str, why: str, tmp_path: Path) -> None:
    wide = Board(columns=12, rows=9, square_m=0.025, marker_m=0.018, dictionary="DICT_5X5_100")
    with pytest.raises(SpecError, match=why):
        write_sheet(wide if board is LARGER else board, tmp_path / "board.pdf", paper)
    assert not (tmp_path / "board.pdf").exists()


def test_corners_are_found_where_they_are() -> None:
    found = find(picture_of(A4_BOARD), A4_BOARD)
    assert found.ids.tolist() == list(range(6 * 8))
    true_px = A4_BOARD.points_m[:, :2] / A4_BOARD.square_m * SQUARE_PX + RIM_PX - 0.5
    assert np.abs(found.pixels - true_px).max() < 0.1
    assert found.square_px == pytest.approx(SQUARE_PX, abs=0.1)


@pytest.mark.parametrize("blur_px", [0.6, 1.0, 1.4])
def test_blur_is_measured_in_pixels_whatever_the_noise(blur_px: float) -> None:
    for noise in (0.0, 4.0):
        assert find(picture_of(A4_BOARD, blur_px, noise), A4_BOARD).blur_px == pytest.approx(blur_px, abs=0.12)


def smeared(picture: Picture) -> Picture:
    """As an arm that moves smears it: in one direction."""
    return np.asarray(cv2.blur(picture, (6, 1)), np.uint8)


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (np.full((480, 640), 90, np.uint8), "the picture is empty"),
        (np.random.default_rng(0).integers(0, 255, (480, 640)).astype(np.uint8), "no board is in sight"),
        (picture_of(OTHER), "no marker of DICT_5X5_100 is in sight, but 31 of DICT_4X4_50: it is another board"),
        (picture_of(LARGER), r"marker 3\d is in sight, and a board of 7 x 9 squares has markers 0 to 30"),
        (picture_of(SMALLER), "don't lie as on a board of 7 x 9 squares"),
        (picture_of(A4_BOARD)[:, ::-1], "mirrored; turn off the flip"),
        (picture_of(A4_BOARD)[: RIM_PX + 80], "corners of the board are in sight, at least 8"),
        (picture_of(A4_BOARD, 1.9), "the board is blurred: its edges are 1.[89] px wide"),
        (smeared(picture_of(A4_BOARD)), "the board is blurred"),
    ],
)
def test_what_cant_be_used_is_refused_with_its_reason(picture: Picture, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        find(np.ascontiguousarray(picture), A4_BOARD)


def test_corners_in_one_line_fix_no_pose() -> None:
    strip = picture_of(A4_BOARD)
    strip[:, RIM_PX + 75 :] = 255
    with pytest.raises(SpecError, match="the 8 corners in sight lie in one line"):
        find(strip, A4_BOARD)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"square_m": 25.0, "marker_m": 17.5}, "millimetres"),
        ({"marker_m": 0.03}, "smaller than its squares"),
        ({"dictionary": "DICT_9X9"}, "no dictionary 'DICT_9X9'; there are"),
        ({"columns": 2}, "at least 3 columns"),
        ({"columns": 20, "rows": 20}, "take a larger dictionary"),
    ],
)
def test_a_board_that_cant_be_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        Board(**{**A4_BOARD.data, **change})  # type: ignore[arg-type]
