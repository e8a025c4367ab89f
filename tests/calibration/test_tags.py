"""Tags: read, corners to hundredths of a pixel, poses with the errors that they state; and sheets of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tag_views import AHEAD, FACING, LENS, draw, random_tag

from skimo_calibration.cameras.camera import Intrinsics
from skimo_calibration.objects.tag_edges import refine
from skimo_calibration.objects.tag_sheet import Card, write_tags
from skimo_calibration.objects.tags import IDS, Mount, TagPose, code, find_tags, grey_of, resolve, tag_pose, turned_rad
from skimo_calibration.objects.tags_cli import tags as print_tags
from skimo_calibration.rigid import turn
from skimo_core.contract.errors import SpecError

VIEWS = 24
TARGET_M, TARGET_RAD = 0.002, np.deg2rad(0.3)
POINT_M = 0.0254 / 72


def upright(tag_id: int = 7, z: float = 0.4, tilt_rad: float = 0.4, size_m: float = 0.06) -> Mount:
    rotation = FACING @ turn(np.array([tilt_rad, 0.0, 0.0]))
    return Mount(tag_id=tag_id, size_m=size_m, rotation=rotation, position_m=np.array([0.02, -0.01, z]))


def found_pose(tag: Mount, seed: int, **options: float) -> TagPose:
    """The pose that a picture of one tag tells."""
    (seen,) = find_tags(draw([tag], AHEAD, np.random.default_rng(seed), **options), LENS)
    assert seen.tag_id == tag.tag_id
    return tag_pose(seen, LENS, tag.size_m)


@pytest.fixture(scope="module")
def looked_at() -> list[tuple[Mount, TagPose, float]]:
    """Tags at random, what was told of them, and how far their corners lay off, px."""
    rng, told = np.random.default_rng(5), []
    for _ in range(VIEWS):
        tag = random_tag(rng)
        (seen,) = find_tags(draw([tag], AHEAD, rng, blur_px=rng.uniform(0.5, 1.1), noise=rng.uniform(1, 4)), LENS)
        off_px = np.sqrt(((seen.corners_px - LENS.project(tag.corners)) ** 2).mean())
        told.append((tag, tag_pose(seen, LENS, tag.size_m), off_px / seen.sigma_px))
    return told


def test_a_pose_is_far_better_than_the_target(looked_at: list[tuple[Mount, TagPose, float]]) -> None:
    off_m = [np.linalg.norm(pose.best.position_m - tag.position_m) for tag, pose, _ in looked_at]
    off_rad = [turned_rad(pose.best.rotation, tag.rotation) for tag, pose, _ in looked_at]
    print(
        f"median {np.median(off_m) * 1e3:.2f} mm {np.rad2deg(np.median(off_rad)):.3f} deg, worst {max(off_m) * 1e3:.2f}"
    )
    assert np.median(off_m) < TARGET_M / 4 and np.median(off_rad) < TARGET_RAD / 2
    assert max(off_m) < 2 * TARGET_M and max(off_rad) < 5 * TARGET_RAD


def test_stated_deviations_are_true(looked_at: list[tuple[Mount, TagPose, float]]) -> None:
    ratios = np.array(
        [
            (
                np.linalg.norm(pose.best.position_m - tag.position_m) / pose.sigma_m,
                turned_rad(pose.best.rotation, tag.rotation) / pose.sigma_rad,
                corners,
            )
            for tag, pose, corners in looked_at
        ]
    )
    assert (ratios < 3.5).all()
    assert (np.sqrt((ratios**2).mean(axis=0)) > 0.2).all()  # nor are they stated to be safe whatever comes


@pytest.mark.parametrize("tag_id", [0, 1, 42, 300, IDS - 1])
def test_an_id_is_read_whichever_way_up(tag_id: int) -> None:
    rng = np.random.default_rng(tag_id)
    for quarter in range(4):
        tag = upright(tag_id)
        about_z = turn(np.array([0.0, 0.0, quarter * np.pi / 2]))
        tag = replace(tag, rotation=tag.rotation @ about_z)
        (seen,) = find_tags(draw([tag], AHEAD, rng), LENS)
        assert (seen.tag_id, seen.wrong_bits) == (tag_id, 0)
        assert np.abs(seen.corners_px - LENS.project(tag.corners)).max() < 0.3


def test_edges_find_the_corners_wherever_the_search_begins() -> None:
    tag, rng = upright(), np.random.default_rng(3)
    picture = draw([tag], AHEAD, rng)
    truth = LENS.project(tag.corners)
    starts = truth + rng.uniform(-0.8, 0.8, (8, 4, 2))
    corners, sigma_px = refine(picture, starts, LENS)
    assert np.abs(corners - truth).max() < 0.1 and np.ptp(corners, axis=0).max() < 0.05
    assert (sigma_px < 0.1).all()


def test_crooked_edges_are_told_by_a_larger_deviation() -> None:
    picture = draw([upright()], AHEAD, np.random.default_rng(1))
    truth = LENS.project(upright().corners)
    bent = picture.copy()
    for x in range(310, 400):  # the upper edge as an arc
        bent[:, x] = np.roll(picture[:, x], round(2.5 * np.sin((x - 310) / 90 * np.pi)))
    straight_px, bent_px = (refine(image, truth[None], LENS)[1][0] for image in (picture, bent))
    assert bent_px > 2 * straight_px


def test_the_lens_is_undone() -> None:
    tag = replace(upright(z=0.5), position_m=np.array([0.17, 0.11, 0.5]))
    picture = draw([tag], AHEAD, np.random.default_rng(1))
    straight = replace(LENS, distortion=np.zeros(5))
    off_m = [
        float(np.linalg.norm(tag_pose(find_tags(picture, lens)[0], lens, tag.size_m).best.position_m - tag.position_m))
        for lens in (LENS, straight)
    ]
    assert off_m[0] < 1e-3 < 2e-3 < off_m[1]


def test_two_poses_that_fit_alike_are_said_to_be_and_told_apart_by_what_is_known() -> None:
    rng, ambiguous, wrong = np.random.default_rng(2), 0, 0
    for _ in range(20):
        tag = random_tag(rng, size_m=0.04, near_m=1.0, far_m=1.2, tilt_rad=0.5)
        seen = [s for s in find_tags(draw([tag], AHEAD, rng), LENS) if s.tag_id == tag.tag_id]
        if not seen:
            continue
        pose = tag_pose(seen[0], LENS, tag.size_m)
        flipped = turned_rad(pose.best.rotation, tag.rotation) > turned_rad(pose.other.rotation, tag.rotation)
        ambiguous, wrong = ambiguous + pose.ambiguous, wrong + (flipped and not pose.ambiguous)
        about = tag.rotation @ turn(rng.normal(0.0, 0.02, 3))
        assert turned_rad(resolve(pose, about).rotation, tag.rotation) < 0.15
    assert ambiguous >= 2 and wrong <= 1


def test_a_near_tag_is_not_ambiguous() -> None:
    assert not found_pose(upright(), 4).ambiguous


def test_all_tags_of_a_picture_are_told_and_nothing_else() -> None:
    rng = np.random.default_rng(8)
    places = [(-0.12, -0.08), (0.0, -0.08), (0.12, -0.08), (-0.12, 0.08), (0.12, 0.08)]
    tags = [replace(upright(10 + k), position_m=np.array([x, y, 0.5])) for k, (x, y) in enumerate(places)]
    twice = replace(tags[0], position_m=np.array([0.0, 0.08, 0.5]))
    found = find_tags(draw([*tags, twice], AHEAD, rng), LENS)
    assert [seen.tag_id for seen in found] == [10, 10, 11, 12, 13, 14]
    assert find_tags(rng.integers(0, 256, (480, 640), dtype=np.uint8), LENS) == ()
    checks = (np.indices((480, 640)) // 24).sum(axis=0) % 2 * 180
    assert find_tags(checks.astype(np.uint8)) == ()


def test_contrast_is_told_and_asked_for() -> None:
    margins = [
        [seen.margin for seen in find_tags(draw([upright()], AHEAD, np.random.default_rng(1), noise=0.5, paper=paper))]
        for paper in (210.0, 90.0, 36.0)
    ]
    assert margins[0][0] > 1.5 * margins[1][0] > 20 and margins[2] == []


def test_a_coloured_picture_is_read_like_a_grey_one() -> None:
    grey = draw([upright()], AHEAD, np.random.default_rng(1))
    coloured = np.repeat(grey[:, :, None], 3, axis=2)
    assert np.array_equal(grey_of(coloured), grey)
    assert find_tags(coloured, LENS)[0].margin == find_tags(grey, LENS)[0].margin


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (np.zeros((480, 640), np.float32), r"uint8 \[H, W\] or RGB"),
        (np.zeros((480, 640, 4), np.uint8), r"uint8 \[H, W\] or RGB"),
        (np.zeros((720, 960), np.uint8), "960 x 720 px, the camera's are 640 x 480"),
    ],
)
def test_what_is_no_picture_of_this_camera_is_refused(picture: np.ndarray, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        find_tags(picture, LENS)


@pytest.mark.parametrize("size_m", [0.0, -0.06, np.nan, np.inf])
def test_a_size_that_is_none_is_refused(size_m: float) -> None:
    (seen,) = find_tags(draw([upright()], AHEAD, np.random.default_rng(1)), LENS)
    with pytest.raises(SpecError, match="must be above 0"):
        tag_pose(seen, LENS, size_m)


def test_only_tags_of_the_family_have_a_code() -> None:
    assert code(0).shape == (8, 8) and not code(0)[0].any()
    with pytest.raises(SpecError, match="ids are 0 to 586"):
        code(IDS)


def test_a_larger_lens_sees_the_same_pose() -> None:
    wide = Intrinsics(width=960, height=720, fx=800, fy=800, cx=479.5, cy=359.5, distortion=np.zeros(5))
    view = replace(AHEAD, intrinsics=wide)
    (seen,) = find_tags(draw([upright()], view, np.random.default_rng(1)), wide)
    assert np.linalg.norm(tag_pose(seen, wide, 0.06).best.position_m - upright().position_m) < 1e-3


# --- sheets ---------------------------------------------------------------------------------------------------------


def test_a_sheet_has_its_true_size_and_is_the_same_every_day(tmp_path: Path) -> None:
    cards = [Card(tag_id=k, size_m=0.06) for k in range(3)]
    assert write_tags(cards, tmp_path / "a.pdf") == write_tags(cards, tmp_path / "b.pdf") == 1
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert pdf == (tmp_path / "b.pdf").read_bytes()
    sheet = re.search(rb"MediaBox \[ 0 0 ([\d.]+) ([\d.]+)", pdf)
    assert sheet is not None and np.array(sheet.groups(), float) * POINT_M == pytest.approx((0.210, 0.297))


def test_a_sheet_takes_as_many_pages_as_it_needs(tmp_path: Path) -> None:
    assert write_tags([Card(tag_id=k, size_m=0.075) for k in range(9)], tmp_path / "tags.pdf") == 3


@pytest.mark.parametrize(
    ("cards", "paper", "why"),
    [
        ([], "A4", "no tags to print"),
        ([Card(tag_id=1, size_m=0.3)], "A4", "doesn't fit on A4"),
        ([Card(tag_id=1, size_m=0.0)], "A4", "doesn't fit on A4"),
        ([Card(tag_id=IDS, size_m=0.05)], "A4", "none of the family"),
        ([Card(tag_id=1, size_m=0.05)], "napkin", "there are A4"),
    ],
)
def test_a_sheet_that_cant_be_is_refused(cards: list[Card], paper: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=why):
        write_tags(cards, tmp_path / "tags.pdf", paper)
    assert not (tmp_path / "tags.pdf").exists()


def test_the_command_prints_a_tracker_s_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_tags(tmp_path / "tags.pdf", tracker="kitchen", places="kitchen")
    assert "31 tags" in capsys.readouterr().out
