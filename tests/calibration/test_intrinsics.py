"""A camera's lens: its model inverts and differentiates, its fit finds the truth within what it says, or is refused."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.board_views import HEIGHT, WIDTH, corners_at, looks

from skimo_calibration.cameras.board import A4_BOARD, Corners
from skimo_calibration.cameras.camera import Intrinsics, lens_slope, point_slope, project
from skimo_calibration.cameras.capture import Capture, View
from skimo_calibration.cameras.intrinsics import board_poses, calibrate_camera, calibrate_views
from skimo_calibration.cameras.views import Sight, Sights
from skimo_calibration.rigid import pose, turn
from skimo_core.contract.errors import SpecError

LENS = Intrinsics(
    width=640, height=480, fx=612.0, fy=608.0, cx=325.0, cy=236.0,
    distortion=np.array([-0.2, 0.08, 0.001, -0.0007, -0.01]),
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 639), st.floats(0, 479))
def test_a_pixels_ray_comes_back_to_it(u: float, v: float) -> None:
    pixel = np.array([u, v])
    np.testing.assert_allclose(LENS.pixels(LENS.rays(pixel)), pixel, atol=1e-6)


def test_slopes_are_those_of_the_projection() -> None:
    points = np.array([[0.05, -0.04, 0.4], [-0.1, 0.08, 0.5]])
    lens, step = LENS.lens, 1e-6
    for k in range(9):
        more = lens.copy()
        more[k] += step
        numeric = (project(points, more) - project(points, lens)) / step
        np.testing.assert_allclose(lens_slope(points, lens)[..., k], numeric, rtol=1e-3, atol=1e-3)
    for k in range(3):
        numeric = (project(points + step * np.eye(3)[k], lens) - project(points, lens)) / step
        np.testing.assert_allclose(point_slope(points, lens)[..., k], numeric, rtol=1e-3, atol=2e-2)


def test_what_lies_behind_the_camera_has_no_pixel() -> None:
    assert np.isnan(LENS.project(np.array([0.0, 0.0, -1.0]))).all()


def test_a_lens_that_folds_over_is_refused() -> None:
    with pytest.raises(SpecError, match="fold over within the picture"):
        replace(LENS, distortion=np.array([-3.0, 0.0, 0.0, 0.0, 0.0])).rays(np.array([0.0, 0.0]))


@pytest.mark.parametrize("change", [{"fx": 0.0}, {"fx": float("nan")}, {"distortion": np.zeros(4)}, {"width": 0}])
def test_numbers_that_are_no_lens_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        replace(LENS, **change)  # type: ignore[arg-type]


def test_a_lens_is_found_within_what_its_fit_says() -> None:
    shown = looks("flange", seed=3)
    fitted = calibrate_camera(A4_BOARD, shown.corners, WIDTH, HEIGHT, np.random.default_rng(0), repeats=8)
    off = fitted.intrinsics.lens - shown.rig.intrinsics.lens
    sigma = np.sqrt(np.diag(fitted.covariance))
    assert (np.abs(off) < 4 * np.maximum(sigma, 1e-9)).all()
    assert fitted.holdout_px == pytest.approx(0.05 * np.sqrt(2), rel=0.1)  # the noise of both coordinates
    assert (fitted.scatter[:8] < 4 * sigma[:8]).all()
    assert fitted.coverage > 0.8
    truth = board_poses(shown.rig.intrinsics, A4_BOARD, shown.corners)
    assert np.abs(fitted.poses[:, :3, 3] - truth[:, :3, 3]).max() < 1e-3


def tilted(count: int, tilt_rad: float, distance_m: float = 0.45) -> list[Corners]:
    """Views of a board that leans to all sides."""
    rng, seen = np.random.default_rng(5), []
    for k in range(count):
        about = 2 * np.pi * k / count
        rotation = turn(tilt_rad * np.array([np.cos(about), np.sin(about), 0.0])) @ turn(np.array([0.0, 0.0, about]))
        middle = np.array([0.06 * np.cos(3 * about), 0.05 * np.sin(3 * about), distance_m])
        place = pose(rotation, middle - rotation @ np.array([*A4_BOARD.size_m, 0.0]) / 2)
        seen.append(corners_at(replace(LENS, distortion=np.zeros(5)), place, rng, 0.05))
    return seen


def test_views_without_tilt_are_refused() -> None:
    with pytest.raises(SpecError, match=r"too similar: the board is tilted .* at least 3|leave the focal length open"):
        calibrate_camera(A4_BOARD, tilted(12, 0.02), WIDTH, HEIGHT, np.random.default_rng(0), repeats=2)


def stretched(corners: list[Corners], across: float, shift_px: float = 0.0) -> list[Corners]:
    return [replace(c, pixels=c.pixels * [across, 1.0] + [shift_px, 0.0]) for c in corners]


@pytest.mark.parametrize(
    ("corners", "why"),
    [
        (stretched(tilted(12, 0.5), 0.75), "focal lengths .* are no camera's"),
        (stretched(tilted(12, 0.5), 1.0, -250.0), "the principal point .* is further from the middle"),
    ],
)
def test_a_lens_that_no_camera_has_is_refused(corners: list[Corners], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        calibrate_camera(A4_BOARD, corners, WIDTH, HEIGHT, np.random.default_rng(0), repeats=2)


def test_a_board_that_isnt_flat_is_refused() -> None:
    rng = np.random.default_rng(1)
    bent = [replace(c, pixels=c.pixels + rng.normal(0, 3.0, c.pixels.shape)) for c in tilted(12, 0.5)]
    with pytest.raises(SpecError, match="is the board flat"):
        calibrate_camera(A4_BOARD, bent, WIDTH, HEIGHT, np.random.default_rng(0), repeats=2)


def sights(corners: list[Corners]) -> Sights:
    capture = Capture(
        folder=Path("nowhere"), camera="wrist", frame="wrist_optical", mount="flange", robot="panda", serial="",
        board=A4_BOARD, date=datetime.date(2026, 1, 31), by="somebody",
    )  # fmt: skip
    still = np.zeros(7)
    views = [View(name=f"{k:03d}", stamp_s=0.0, q_rad=still, dq_rad_s=still) for k in range(len(corners))]
    seen = tuple(Sight(view=view, corners=found) for view, found in zip(views, corners))
    return Sights(capture=replace(capture, views=tuple(views)), width=WIDTH, height=HEIGHT, seen=seen, aside=())


def test_corners_that_stray_are_left_out() -> None:
    """As where a finger half covers them: a few in each view, by several pixels."""
    shown, rng = looks("flange", seed=4), np.random.default_rng(2)
    spoilt, strays = [], 0
    for corners in shown.corners:
        which = rng.choice(len(corners.ids), size=2, replace=False)
        pixels = corners.pixels.copy()
        pixels[which] += rng.choice([-1, 1], size=(2, 2)) * rng.uniform(1.5, 6.0, (2, 2))
        spoilt.append(replace(corners, pixels=pixels))
        strays += 2
    fitted, left = calibrate_views(sights(spoilt), np.random.default_rng(0), repeats=2)
    kept, all_of_them = (sum(len(c.ids) for c in corners) for corners in (left.corners, spoilt))
    assert kept == pytest.approx(all_of_them - strays, abs=2)
    sigma = np.sqrt(np.diag(fitted.covariance))
    assert (np.abs(fitted.intrinsics.lens - shown.rig.intrinsics.lens) < 5 * np.maximum(sigma, 1e-9)).all()
