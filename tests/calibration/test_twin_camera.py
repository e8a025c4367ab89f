"""The simulated camera shows what its lens sees, and a twin's capture is calibrated to the truth behind it."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skimo_calibration.cameras.board import A4_BOARD, draw, find
from skimo_calibration.cameras.camera import Intrinsics
from skimo_calibration.cameras.capture import load_capture
from skimo_calibration.cameras.hand_eye import HandEyeConfig, Lens, calibrate_hand_eye
from skimo_calibration.cameras.intrinsics import calibrate_views
from skimo_calibration.cameras.views import look_at
from skimo_calibration.rigid import pose, turn
from skimo_calibration.twin.twin_camera import SimulatedCamera, attach_picture
from skimo_calibration.twin.twin_cell import camera_error, disturbed_rig, play_capture
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array

pytestmark = pytest.mark.skipif(
    find_library("EGL") is None and find_library("OSMesa") is None, reason="no GL library is installed"
)
LENS = Intrinsics(
    width=480, height=360, fx=465.0, fy=458.0, cx=246.0, cy=173.0,
    distortion=np.array([-0.15, 0.05, 0.001, -0.001, 0.01]),
)  # fmt: skip
FACING = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[Any, Any]]:
    """The board on the ground, its first corner at the origin."""
    import mujoco

    spec = mujoco.MjSpec()
    spec.worldbody.add_light(pos=[0, 0, 2])
    picture, width_m, height_m = draw(A4_BOARD)
    middle = np.array([A4_BOARD.size_m[0] / 2, -A4_BOARD.size_m[1] / 2, 0.0])
    attach_picture(
        spec, spec.worldbody, "board", picture, width_m=width_m, height_m=height_m, rotation=FACING, position_m=middle
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    yield model, data


def view(lean_rad: float, about_rad: float, distance_m: float) -> Array:
    """world_from_camera that looks at the board's middle."""
    lean = turn(np.array([lean_rad * np.cos(about_rad), lean_rad * np.sin(about_rad), 0.0]))
    rotation = lean @ FACING @ turn(np.array([0.0, 0.0, about_rad]))
    middle = np.array([A4_BOARD.size_m[0] / 2, -A4_BOARD.size_m[1] / 2, 0.0])
    return pose(rotation, middle - distance_m * rotation[:, 2])


def test_a_corner_stands_where_the_lens_projects_it(scene: tuple[Any, Any]) -> None:
    model, data = scene
    errors = []
    with SimulatedCamera(model, LENS, blur_px=0.5, noise=1.5, seed=1) as camera:
        for k in range(6):
            place = view(0.1 * k, 1.1 * k, 0.3 + 0.03 * k)
            found = find(camera.paint(data, place[:3, :3], place[:3, 3]), A4_BOARD)
            points = A4_BOARD.points_m[found.ids] * [1, -1, -1]
            errors.append(found.pixels - LENS.project((points - place[:3, 3]) @ place[:3, :3]))
    errors = np.concatenate(errors)
    assert len(errors) > 150
    assert np.sqrt((errors**2).mean()) < 0.06
    assert np.abs(errors.mean(axis=0)).max() < 0.01


def test_noise_comes_from_the_seed_and_blur_widens_edges(scene: tuple[Any, Any]) -> None:
    model, data = scene
    place = view(0.2, 0.5, 0.32)

    def paint(**sensor: float) -> Any:
        with SimulatedCamera(model, LENS, **sensor) as camera:  # type: ignore[arg-type]
            return camera.paint(data, place[:3, :3], place[:3, 3])

    clean, noisy = paint(), paint(noise=3.0, seed=5)
    np.testing.assert_array_equal(noisy, paint(noise=3.0, seed=5))
    noise = noisy.astype(float) - clean
    grey = (clean > 20) & (clean < 235)
    assert noise[grey].std() == pytest.approx(3.0, rel=0.1)
    sharp, blurred = (find(picture, A4_BOARD).blur_px for picture in (clean, paint(blur_px=1.2)))
    assert blurred == pytest.approx(np.hypot(sharp, 1.2), abs=0.2)


def test_a_picture_shows_its_bytes_from_the_front_alone(scene: tuple[Any, Any]) -> None:
    model, data = scene
    with SimulatedCamera(model, LENS) as camera:
        front = camera.paint(data, *(lambda p: (p[:3, :3], p[:3, 3]))(view(0.0, 0.0, 0.3)))
        behind = view(0.0, 0.0, 0.3)
        behind[2, 3] *= -1
        behind[:3, 1:3] *= -1
        back = camera.paint(data, behind[:3, :3], behind[:3, 3])
    assert front.min() == 0 and front.max() == 255
    assert back[150:210, 210:270].min() == 255  # white, however the board looks from the front


def test_cameras_dont_disturb_each_other(scene: tuple[Any, Any]) -> None:
    model, data = scene
    place = view(0.1, 0.3, 0.35)
    with SimulatedCamera(model, LENS) as first:
        alone = first.paint(data, place[:3, :3], place[:3, 3])
        with SimulatedCamera(model, LENS, noise=2.0) as second:
            second.paint(data, place[:3, :3], place[:3, 3])
            np.testing.assert_array_equal(first.paint(data, place[:3, :3], place[:3, 3]), alone)
        np.testing.assert_array_equal(first.paint(data, place[:3, :3], place[:3, 3]), alone)
    first.close()


def test_a_sensor_that_cant_be_is_refused(scene: tuple[Any, Any]) -> None:
    with pytest.raises(SpecError, match="must not be below 0"):
        SimulatedCamera(scene[0], LENS, blur_px=-1.0)


def test_a_twins_capture_is_calibrated_to_the_truth_behind_it(tmp_path: Path) -> None:
    """From pictures to camera and joints, as a person would with a real arm."""
    rig = disturbed_rig("flange", 4)
    play_capture(rig, tmp_path / "wrist", 14, 4)
    capture = load_capture(tmp_path / "wrist")
    assert len(capture.views) == 14 and capture.mount == "flange"
    rng = np.random.default_rng(0)
    fitted, sights = calibrate_views(look_at(capture), rng, repeats=2)
    found = calibrate_hand_eye(
        rig.setup.limits, capture.board, sights.corners, sights.q_rad, capture.mount,
        Lens(fitted=fitted, same_views=True), rng, config=HandEyeConfig(repeats=2),
    )  # fmt: skip
    off_m, off_rad = camera_error(rig, found.camera, found.offset_rad)
    assert off_m < 5e-4 and off_rad < np.radians(0.08)
    assert np.abs(found.offset_rad - rig.offset_rad)[1:6].max() < 0.8e-3
    assert fitted.holdout_px < 0.15 and found.holdout_px < 0.6
