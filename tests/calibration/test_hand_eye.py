"""Hand-eye: the truth is found within what the fit says of itself, what can't be told is said, mistakes are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from support.board_views import HEIGHT, WIDTH, Looks, looks

from skimo_calibration.cameras import bundle, projection
from skimo_calibration.cameras.board import A4_BOARD
from skimo_calibration.cameras.bundle import Prior
from skimo_calibration.cameras.consistency import closed_form
from skimo_calibration.cameras.hand_eye import HandEye, HandEyeConfig, Lens, calibrate_hand_eye
from skimo_calibration.cameras.intrinsics import board_poses, calibrate_camera
from skimo_calibration.cameras.projection import Guess, seen_of
from skimo_calibration.rigid import difference, flange_poses, inverse, moved
from skimo_calibration.twin.twin_cell import camera_error
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import load_limits

LIMITS = load_limits("panda")
MOUNTS = ("flange", "base")
TOLD = (False, True, True, True, True, True, False)


def calibrated(shown: Looks, *, mount: str = "", repeats: int = 4, known_offset_rad: Array | None = None) -> HandEye:
    fitted = calibrate_camera(A4_BOARD, shown.corners, WIDTH, HEIGHT, np.random.default_rng(0), repeats=2)
    return calibrate_hand_eye(
        LIMITS,
        A4_BOARD,
        shown.corners,
        shown.q_rad,
        mount or shown.rig.setup.mount,
        Lens(fitted=fitted, same_views=True),
        np.random.default_rng(0),
        config=HandEyeConfig(repeats=repeats),
        known_offset_rad=known_offset_rad,
    )


@pytest.fixture(scope="module")
def shown() -> dict[str, Looks]:
    return {mount: looks(mount, seed=11) for mount in MOUNTS}


@pytest.fixture(scope="module")
def found(shown: dict[str, Looks]) -> dict[str, HandEye]:
    return {mount: calibrated(shown[mount], repeats=8) for mount in MOUNTS}


@pytest.mark.parametrize("mount", MOUNTS)
def test_camera_and_offsets_are_found_within_what_the_fit_says(
    mount: str, shown: dict[str, Looks], found: dict[str, HandEye]
) -> None:
    rig, ours = shown[mount].rig, found[mount]
    off_m, off_rad = camera_error(rig, ours.camera, ours.offset_rad)
    assert off_m < min(0.3e-3, 4 * np.sqrt(3) * ours.position_sigma_m)
    assert off_rad < min(np.radians(0.05), 4 * np.sqrt(3) * ours.turn_sigma_rad)
    assert ours.told == TOLD
    told = np.array(ours.told)
    wrong = np.abs(ours.offset_rad - rig.offset_rad)[told]
    assert (wrong < np.minimum(0.5e-3, 4.5 * ours.offset_sigma_rad[told])).all()
    assert ours.joint_sigma_rad == pytest.approx(rig.joint_noise_rad, rel=0.3)
    assert ours.pixel_sigma_px == pytest.approx(0.05, rel=0.1)
    assert abs(ours.scale - 1) < 4 * ours.scale_sigma < 0.003


@pytest.mark.parametrize("mount", MOUNTS)
def test_hold_out_and_scatter_speak_of_the_true_error(mount: str, found: dict[str, HandEye]) -> None:
    ours = found[mount]
    assert ours.fit_px < ours.holdout_px < 0.3
    assert len(ours.holdout_view_px) >= 20
    assert 0.3 < ours.scatter_m / (np.sqrt(3) * ours.position_sigma_m) < 3
    assert 0.3 < ours.scatter_rad / (np.sqrt(3) * ours.turn_sigma_rad) < 3


def test_offsets_that_the_views_cant_tell_stay_where_they_are_known(shown: dict[str, Looks]) -> None:
    ours = shown["flange"]
    known = ours.rig.offset_rad * [1, 0, 0, 0, 0, 0, 1]
    result = calibrated(ours, known_offset_rad=known)
    np.testing.assert_array_equal(result.offset_rad[[0, 6]], known[[0, 6]])
    # known joints 1 and 7 make the frames the true ones
    off_m, off_rad = difference(ours.rig.camera, result.camera)
    assert off_m < 0.3e-3 and off_rad < np.radians(0.05)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_joint_more_or_less_turns_nothing_that_is_seen(mount: str, shown: dict[str, Looks]) -> None:
    """Why joints 1 and 7 can't be told: the same views come of other offsets and poses."""
    rig, q_rad = shown[mount].rig, shown[mount].q_rad
    other = rig.offset_rad + np.array([0.03, 0, 0, 0, 0, 0, -0.02])
    seen = seen_of(A4_BOARD, shown[mount].corners, q_rad, mount)
    truth = Guess(
        camera=rig.camera, board=rig.board, offset_rad=rig.offset_rad, lens=rig.intrinsics.lens,
        noise_rad=np.zeros_like(q_rad),
    )  # fmt: skip
    board = turned_z({"flange": -0.03, "base": -0.02}[mount]) @ rig.board
    swapped = replace(truth, offset_rad=other, camera=rig.camera_for(other), board=board)
    np.testing.assert_allclose(
        projection.predict(LIMITS, seen, swapped), projection.predict(LIMITS, seen, truth), atol=1e-6
    )


def turned_z(angle_rad: float) -> Array:
    made = np.eye(4)
    made[:2, :2] = [[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]]
    return made


@pytest.mark.parametrize("mount", MOUNTS)
def test_slopes_are_those_of_the_prediction(mount: str, shown: dict[str, Looks]) -> None:
    few = shown[mount].of([0, 1, 2])
    rig, seen = few.rig, seen_of(A4_BOARD, few.corners, few.q_rad, mount)
    guess = Guess(
        camera=rig.camera, board=rig.board, offset_rad=rig.offset_rad, lens=rig.intrinsics.lens,
        noise_rad=np.zeros_like(few.q_rad),
    )  # fmt: skip
    _, common, own = projection.slopes(LIMITS, seen, guess)
    start, step = projection.predict(LIMITS, seen, guess), 1e-6

    def slope(changed: Guess) -> Array:
        rise = (projection.predict(LIMITS, seen, changed) - start) * seen.weight[..., None] / step
        return rise.reshape(len(seen.q_rad), -1)

    for k in range(common.shape[-1]):
        small = step * np.eye(common.shape[-1])[k]
        np.testing.assert_allclose(
            common[..., k],
            slope(projection.stepped(guess, small, np.zeros_like(guess.noise_rad))),
            rtol=2e-3,
            atol=2e-2,
        )
    for k in range(7):
        noise = np.zeros_like(guess.noise_rad)
        noise[:, k] = step
        np.testing.assert_allclose(own[..., k], slope(replace(guess, noise_rad=noise)), rtol=2e-3, atol=2e-2)


def test_the_fit_comes_to_rest_wherever_it_begins(shown: dict[str, Looks]) -> None:
    """Its slope is next to nothing in every unknown's own measure, and the way there doesn't matter."""
    ours = shown["flange"]
    rig, seen = ours.rig, seen_of(A4_BOARD, ours.corners, ours.q_rad, "flange")
    prior = Prior(
        lens=rig.intrinsics.lens, lens_information=np.diag(np.full(9, 1e6)), offset_rad=np.zeros(7),
        offset_sigma_rad=np.array([0, 0.05, 0.05, 0.05, 0.05, 0.05, 0]),
    )  # fmt: skip
    rng, ends = np.random.default_rng(3), []
    for _ in range(2):
        start = Guess(
            camera=moved(rig.camera, rng.normal(0, 0.03, 6)), board=moved(rig.board, rng.normal(0, 0.03, 6)),
            offset_rad=np.zeros(7), lens=rig.intrinsics.lens, noise_rad=np.zeros_like(ours.q_rad),
        )  # fmt: skip
        ends.append(bundle.fit(LIMITS, seen, start, prior))
        assert ends[-1].optimality < bundle.OPTIMAL
    off_m, off_rad = difference(ends[0].guess.camera, ends[1].guess.camera)
    assert off_m < 2e-6 and off_rad < 4e-6


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_closed_form_agrees_with_opencvs(mount: str, shown: dict[str, Looks]) -> None:
    ours = shown[mount]
    poses = board_poses(ours.rig.intrinsics, A4_BOARD, ours.corners)
    start = closed_form(LIMITS, mount, ours.q_rad - ours.rig.offset_rad, poses)
    flange = flange_poses(LIMITS, ours.q_rad - ours.rig.offset_rad)
    near = flange if mount == "flange" else inverse(flange)
    rotation, position = cv2.calibrateHandEye(
        list(near[:, :3, :3]),
        list(near[:, :3, 3]),
        list(poses[:, :3, :3]),
        list(poses[:, :3, 3]),
        method=cv2.CALIB_HAND_EYE_PARK,
    )
    assert np.degrees(np.arccos((np.trace(start.camera[:3, :3].T @ rotation) - 1) / 2)) < 0.1
    assert np.linalg.norm(start.camera[:3, 3] - position.ravel()) < 2e-3
    assert start.scale == pytest.approx(1.0, abs=2e-3) and start.turn_rad < 2e-3


def flipped(ours: Looks, joint: int) -> Looks:
    signs = np.ones(7)
    signs[joint] = -1
    return replace(ours, q_rad=ours.q_rad * signs)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda ours: flipped(ours, 4), "they agree if joint 5 counts the other way; turn its sign round"),
        (lambda ours: flipped(ours, 6), "they agree if joint 7 counts the other way; turn its sign round"),
        (lambda ours: replace(ours, q_rad=ours.q_rad[:, ::-1]), "joints are in reverse order"),
        (
            lambda ours: replace(ours, q_rad=np.roll(ours.q_rad, 1, axis=0)),
            "check the mount .* joints' order and signs",
        ),
        (lambda ours: ours.of([0] * 24), "too similar: 1 orientations"),
        (lambda ours: replace(ours, q_rad=about_one_axis(ours.q_rad)), "turns about one axis only"),
    ],
)
def test_what_cant_be_is_refused_with_its_likely_cause(
    change: Callable[[Looks], Looks], why: str, shown: dict[str, Looks]
) -> None:
    ours = shown["flange"]
    fitted = calibrate_camera(A4_BOARD, ours.corners, WIDTH, HEIGHT, np.random.default_rng(0), repeats=2)
    wrong = change(ours)
    with pytest.raises(SpecError, match=why):
        calibrate_hand_eye(
            LIMITS, A4_BOARD, wrong.corners, wrong.q_rad, "flange", Lens(fitted=fitted, same_views=True),
            np.random.default_rng(0),
        )  # fmt: skip


def about_one_axis(q_rad: Array) -> Array:
    still = np.repeat(q_rad[:1], len(q_rad), axis=0)
    still[:, 6] = np.linspace(-1.5, 1.5, len(q_rad))
    return still


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_mount_that_is_declared_wrong_is_named(mount: str, shown: dict[str, Looks]) -> None:
    other = {"flange": "base", "base": "flange"}[mount]
    with pytest.raises(SpecError, match=f"set mount: {mount}"):
        calibrated(shown[mount], mount=other)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("scale", [0.97, 1.04, 0.001])
def test_a_board_of_another_size_is_refused_with_its_factor(mount: str, scale: float) -> None:
    """A print that came out at 97 %; metres for millimetres: the robot's motion tells."""
    shown = looks(mount, seed=2, count=14)
    print_m = replace(A4_BOARD, square_m=A4_BOARD.square_m / scale) if scale > 0.1 else A4_BOARD
    fitted = calibrate_camera(print_m, shown.corners, WIDTH, HEIGHT, np.random.default_rng(0), repeats=2)
    if scale < 0.1:
        print_m = replace(A4_BOARD, square_m=0.025 * 15, marker_m=0.0175 * 15)
    with pytest.raises(SpecError, match=r"times as large as declared.*measure a square of the print"):
        calibrate_hand_eye(
            LIMITS, print_m, shown.corners, shown.q_rad, mount, Lens(fitted=fitted, same_views=True),
            np.random.default_rng(0),
        )  # fmt: skip


def test_a_camera_that_slipped_is_refused() -> None:
    """As if it had been knocked half way: no one pose explains both halves."""
    first, second = looks("flange", seed=5), looks("flange", seed=6)
    half = len(first.corners) // 2
    mixed = Looks(
        rig=first.rig,
        q_rad=np.vstack([first.q_rad[:half], second.q_rad[half:]]),
        corners=[*first.corners[:half], *second.corners[half:]],
    )
    with pytest.raises(SpecError, match=r"the views contradict each other|would be off by"):
        calibrated(mixed)


def test_a_rough_arm_is_calibrated_as_far_as_it_goes() -> None:
    """0.1 degrees of noise in every joint: the fit finds that out, and its standard deviations say what it costs."""
    shown = looks("flange", seed=7, count=30, joint_noise_rad=np.radians(0.1))
    ours = calibrated(shown)
    assert ours.joint_sigma_rad == pytest.approx(np.radians(0.1), rel=0.25)
    off_m, off_rad = camera_error(shown.rig, ours.camera, ours.offset_rad)
    assert off_m < 4 * np.sqrt(3) * ours.position_sigma_m < 2e-3
    assert off_rad < 4 * np.sqrt(3) * ours.turn_sigma_rad < np.radians(0.3)
    assert ours.holdout_px > 1.0


@pytest.mark.parametrize("change", [{"offset_sigma_rad": 3.0}, {"folds": 1}, {"repeats": 1}])
def test_a_config_that_cant_be_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="hand-eye: offset_sigma_rad"):
        HandEyeConfig(**change)  # type: ignore[arg-type]
