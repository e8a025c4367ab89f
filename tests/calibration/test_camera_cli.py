"""`skimo calibrate board | camera | hand-eye | touch | views`: pages and rigs come out, mistakes go out as one line."""

from __future__ import annotations

import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from skimo_calibration.cameras.board import A4_BOARD, Picture, draw
from skimo_calibration.cameras.camera import Intrinsics
from skimo_calibration.cameras.capture import Capture, add_view, create_capture, load_capture, picture_path
from skimo_calibration.cameras.poses import plan_tour
from skimo_calibration.cli import calibrate
from skimo_calibration.rigid import flange_poses, inverse
from skimo_calibration.twin.twin_cell import Disturbance, TwinRig, camera_error, disturbed_rig
from skimo_core.contract.types import Array
from skimo_core.domain.rig_file import load_rig

COUNT, FINE, SQUARE_PX = 14, 2, 100
NO_LENS = Disturbance(k1=0.0, k2=0.0, tangential=0.0)


def warped(intrinsics: Intrinsics, camera_from_board: Array, rng: np.random.Generator) -> Picture:
    """The board alone, before grey, by a lens without distortion."""
    sheet, width_m, _ = draw(A4_BOARD, square_px=SQUARE_PX)
    per_px = width_m / sheet.shape[1]
    rim = (width_m - A4_BOARD.size_m[0]) / 2
    to_board = np.array([[per_px, 0, per_px / 2 - rim], [0, per_px, per_px / 2 - rim], [0, 0, 1]])
    fine = np.array([[FINE, 0, (FINE - 1) / 2], [0, FINE, (FINE - 1) / 2], [0, 0, 1]])
    seen = fine @ intrinsics.matrix @ camera_from_board[:3, [0, 1, 3]] @ to_board
    size = intrinsics.width * FINE, intrinsics.height * FINE
    drawn = cv2.warpPerspective(sheet, seen, size, flags=cv2.INTER_AREA, borderValue=128)
    grey = cv2.resize(drawn, (intrinsics.width, intrinsics.height), interpolation=cv2.INTER_AREA).astype(np.float32)
    noisy = cv2.GaussianBlur(grey, (0, 0), 0.5) + rng.normal(0.0, 1.0, grey.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def rig() -> TwinRig:
    return disturbed_rig("flange", 1, NO_LENS)


@pytest.fixture(scope="module")
def taken(rig: TwinRig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture; tests must leave its views as they are."""
    rng = np.random.default_rng(8)
    q_rad = plan_tour(rig.setup, COUNT, rng, start_q_rad=rig.setup.limits.home_q_rad).q_rad
    capture = create_capture(
        Capture(
            folder=tmp_path_factory.mktemp("captures") / "wrist",
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
    flange = flange_poses(rig.setup.limits, q_rad - rig.offset_rad - rng.normal(0.0, 1e-4, q_rad.shape))
    for k, pose in enumerate(inverse(flange @ rig.camera) @ rig.board):
        picture = warped(rig.intrinsics, pose, rng)
        capture = add_view(capture, picture, stamp_s=float(k), q_rad=q_rad[k], dq_rad_s=np.zeros(7))
    return capture.folder


def test_a_board_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate(["board", str(tmp_path / "board.pdf")]) == 0
    assert (tmp_path / "board.pdf").read_bytes().startswith(b"%PDF")
    assert "square 25 mm" in capsys.readouterr().out


def test_a_board_that_doesnt_fit_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate(["board", str(tmp_path / "board.pdf"), "--square-mm", "40", "--marker-mm", "30"]) == 1
    said = capsys.readouterr()
    assert (
        said.out == "" and said.err.startswith("skimo calibrate: a board of 280 x 360 mm") and said.err.count("\n") == 1
    )


def test_a_capture_becomes_a_rig(taken: Path, rig: TwinRig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lab.yaml"
    assert calibrate(["camera", str(taken), "--rig", str(path)]) == 0
    lens_only = load_rig(path)
    assert lens_only.cameras["wrist"].pose is None and lens_only.joints is None
    assert (
        calibrate(["hand-eye", str(taken), "--rig", str(path), "--bounds.scatter-mm", "1", "--bounds.scatter-deg", "1"])
        == 0
    )
    made = load_rig(path)
    assert (made.name, made.robot, made.serial) == ("lab", "panda", "295341")
    camera, joints = made.cameras["wrist"], made.joints
    assert camera.pose is not None and camera.lens is not None and joints is not None
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = camera.pose.rotation, camera.pose.position_m
    off_m, off_rad = camera_error(rig, pose, joints.offset_rad)
    assert off_m < 5e-4 and off_rad < np.radians(0.1)
    assert np.abs(camera.lens.focal_px - rig.intrinsics.lens[:2]).max() < 3.0
    assert camera.pose.made.digest == load_capture(taken).digest and camera.pose.made.source == "wrist"
    assert joints.sigma_rad[0] == 0.05 and (joints.sigma_rad[1:6] < 1e-3).all()
    assert "passed  hold-out reprojection" in capsys.readouterr().out
    for page in ("camera.html", "hand_eye.html"):
        words = (taken / page).read_text()
        assert "PASS" in words and "hold-out reprojection" in words and "http" not in words.replace("http-equiv", "")


def test_a_result_that_fails_leaves_the_rig_alone_unless_accepted(
    taken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lab.yaml"
    asked = ["camera", str(taken), "--rig", str(path), "--bounds.holdout-px", "0.0001"]
    assert calibrate(asked) == 1
    said = capsys.readouterr()
    assert "FAILED  hold-out reprojection" in said.out and "is left as it was" in said.err and "--accept" in said.err
    assert not path.exists()
    assert calibrate([*asked, "--accept"]) == 0
    assert path.exists()


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("rig: 1\nname: x\nrobot: {model: fr3}\n", "is a fr3's rig, the data are of a panda"),
        ("rig: 1\nname: x\nrobot: {model: panda, serial: '7'}\n", "is the rig of arm 7, the data are of arm 295341"),
        ("rig: 1\nname: x\nrobot: {model: panda}\ncameras: {wrist: {frame: f, mount: base}}\n", "another name"),
        ("nonsense", "must be a table"),
    ],
)
def test_another_arms_rig_is_refused(
    written: str, why: str, taken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(written)
    assert calibrate(["camera", str(taken), "--rig", str(path), "--accept"]) == 1
    assert why in capsys.readouterr().err
    assert path.read_text() == written


def test_views_are_listed_shown_dropped_taken_back_and_added(taken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = load_capture(taken).digest
    assert calibrate(["views", str(taken)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == COUNT
    assert calibrate(["views", str(taken), "show", "002"]) == 0
    shown = cv2.imread(str(taken / "shown" / "002.png"))
    assert shown is not None and shown.shape[:2] == (480 + 18, 640)
    assert calibrate(["views", str(taken), "drop", "002", "005", "--why", "glare"]) == 0
    assert [view.name for view in load_capture(taken).views if view.dropped == "glare"] == ["002", "005"]
    assert calibrate(["views", str(taken), "keep", "002", "005"]) == 0
    assert load_capture(taken).digest == before
    joints = [f"{q:.6f}" for q in load_capture(taken).views[0].q_rad]
    source = str(picture_path(load_capture(taken), "000"))
    capsys.readouterr()
    assert calibrate(["views", str(taken), "add", "--picture", source, "--joints-rad", *joints]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{COUNT:03d}  ")
    for kind in ("png", "yaml"):
        (taken / "views" / f"{COUNT:03d}.{kind}").unlink()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (["drop"], "name the views to drop"),
        (["drop", "999"], "has no view '999'"),
        (["add"], "--picture FILE"),
        (["add", "--picture", "nothing.png", "--joints-rad", *["0"] * 7], "holds no picture"),
    ],
)
def test_mistakes_with_views_are_refused(
    asked: list[str], why: str, taken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(["views", str(taken), *asked]) == 1
    assert why in capsys.readouterr().err


def test_what_is_no_capture_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in ("camera", "hand-eye", "views"):
        assert calibrate([step, str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert "is no capture" in said and said.count("\n") == 1
