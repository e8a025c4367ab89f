"""The check: the truth passes, what moved since is found, and the rig file then says so."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skimo_calibration.cameras.capture import load_capture
from skimo_calibration.cameras.check import CheckBounds, check_page, check_rig_on
from skimo_calibration.cameras.check_cli import check
from skimo_calibration.cameras.views import Sights, look_at
from skimo_calibration.twin.twin_cell import TwinRig, disturbed_rig, play_capture
from skimo_core.contract.errors import SpecError
from skimo_core.domain.rig import Camera, JointOffsets, Lens, Made, Placement, Rig
from skimo_core.domain.rig_file import load_rig, write_rig
from skimo_core.domain.rotations import matrix

MADE = Made(date=datetime.date(2026, 1, 1), method="a test")
NAMES = {"flange": "wrist", "base": "front"}
SEED, VIEWS = 5, 6


def truth(cell: TwinRig) -> Rig:
    """The rig file that a perfect calibration of a twin's cell would write."""
    lens = cell.intrinsics
    name, sevens = NAMES[cell.setup.mount], np.zeros(7)
    camera = Camera(
        frame=f"{name}_camera_optical_frame",
        mount=cell.setup.mount,
        lens=Lens(
            width=lens.width, height=lens.height, focal_px=lens.lens[:2], centre_px=lens.lens[2:4],
            distortion=lens.distortion, sigma_px=0.1, made=MADE,
        ),
        pose=Placement(
            position_m=cell.camera[:3, 3], rotation=cell.camera[:3, :3], sigma_m=0.0, sigma_rad=0.0, made=MADE
        ),
    )  # fmt: skip
    joints = JointOffsets(offset_rad=cell.offset_rad, sigma_rad=sevens, made=MADE)
    return Rig(name="lab", robot="panda", joints=joints, cameras={name: camera})


@pytest.fixture(scope="module", params=["flange", "base"])
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rig, Sights]:
    cell = disturbed_rig(request.param, SEED)
    folder = Path(tmp_path_factory.mktemp("check")) / "views"
    return truth(cell), look_at(play_capture(cell, folder, VIEWS, SEED), least=VIEWS)


def failures(rig: Rig, sights: Sights) -> tuple[str, ...]:
    return check_page(rig, sights, check_rig_on(rig, sights), CheckBounds()).failures


def moved(rig: Rig, shift_m: float = 0.0, turn_rad: float = 0.0) -> Rig:
    """The rig with a camera that was knocked since."""
    ((name, camera),) = rig.cameras.items()
    assert camera.pose is not None
    turn = matrix(np.array([np.cos(turn_rad / 2), 0.0, np.sin(turn_rad / 2), 0.0]))
    pose = replace(
        camera.pose,
        position_m=camera.pose.position_m + np.array([0.0, shift_m, 0.0]),
        rotation=camera.pose.rotation @ turn,
    )
    return replace(rig, cameras={name: replace(camera, pose=pose)})


def test_the_truth_passes(known: tuple[Rig, Sights]) -> None:
    assert failures(*known) == ()


@pytest.mark.parametrize("joint", [1, 2, 3, 4, 5])
def test_a_joint_that_lost_its_zero_is_found(known: tuple[Rig, Sights], joint: int) -> None:
    rig, sights = known
    assert rig.joints is not None
    off = replace(rig.joints, offset_rad=rig.joints.offset_rad + 0.02 * np.eye(7)[joint])
    assert any("corners against prediction" in words for words in failures(replace(rig, joints=off), sights))


def test_a_camera_that_was_knocked_is_found(known: tuple[Rig, Sights]) -> None:
    rig, sights = known
    assert failures(moved(rig, shift_m=0.01), sights) and failures(moved(rig, turn_rad=0.02), sights)


def test_the_file_says_how_it_went(known: tuple[Rig, Sights], tmp_path: Path) -> None:
    rig, sights = known
    path, folder = tmp_path / "lab.yaml", sights.capture.folder
    write_rig(path, rig)
    check(path, folder)
    said = load_rig(path)
    assert said.check is not None and said.check.passed and said.digest == rig.digest
    write_rig(path, moved(rig, turn_rad=0.03))
    with pytest.raises(SpecError, match="rig lab fails: corners against prediction"):
        check(path, folder)
    said = load_rig(path)
    assert said.check is not None and not said.check.passed and said.check.reasons
    assert "FAIL" in (folder / "check.html").read_text(encoding="utf-8")


def test_a_rig_without_the_camera_and_pictures_of_another_size_are_refused(known: tuple[Rig, Sights]) -> None:
    rig, sights = known
    ((name, camera),) = rig.cameras.items()
    with pytest.raises(SpecError, match=rf"has no camera {name} .*; it has none: calibrate it"):
        check_rig_on(replace(rig, cameras={}), sights)
    with pytest.raises(SpecError, match=f"doesn't say all of camera {name}"):
        check_rig_on(replace(rig, cameras={name: replace(camera, pose=None)}), sights)
    assert camera.lens is not None
    wider = replace(camera, lens=replace(camera.lens, width=1280))
    with pytest.raises(SpecError, match="1280 x 480 px, the pictures have 640 x 480"):
        check_rig_on(replace(rig, cameras={name: wider}), sights)
    assert load_capture(sights.capture.folder).camera == name
