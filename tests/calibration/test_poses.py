"""Poses for a capture: the board is in sight from all sides, and the arm keeps clear on every way between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from skimo_calibration.cameras.consistency import check_spread
from skimo_calibration.cameras.poses import (
    Setup,
    Tour,
    ViewRanges,
    camera_from_board,
    plan_tour,
    solve_ik,
    visible_share,
)
from skimo_calibration.rigid import flange_poses
from skimo_calibration.twin.twin_cell import RANGES, nominal_setup
from skimo_core.contract.errors import SpecError
from skimo_core.domain.cell import Box, Plane
from skimo_core.domain.robot import load_limits
from skimo_core.safety.collision import Collision

LIMITS = load_limits("panda")
COUNT = 16
TABLE = Plane(name="table", normal=np.array([0.0, 0.0, 1.0]), offset_m=-0.02, margin_m=0.01, exempt=("link0", "link1"))
WALL = Box(
    name="wall", centre_m=np.array([0.4, -0.55, 0.4]), half_m=np.array([0.6, 0.05, 0.6]), rotation=np.eye(3),
    margin_m=0.02, exempt=("link0",),
)  # fmt: skip


def furnished(mount: str) -> Setup:
    setup = nominal_setup(mount)
    return replace(setup, cell=replace(setup.cell, boxes=(WALL,), planes=(TABLE,)))


@pytest.fixture(scope="module", params=["flange", "base"])
def planned(request: pytest.FixtureRequest) -> tuple[Setup, Tour]:
    setup = furnished(request.param)
    rng = np.random.default_rng(2)
    return setup, plan_tour(setup, COUNT, rng, start_q_rad=LIMITS.home_q_rad, ranges=RANGES[request.param])


def test_the_board_is_in_sight_from_all_sides(planned: tuple[Setup, Tour]) -> None:
    setup, tour = planned
    assert tour.q_rad.shape == (COUNT, 7)
    assert (visible_share(setup, tour.q_rad) >= ViewRanges().visible).all()
    check_spread(LIMITS, tour.q_rad)
    poses = camera_from_board(setup, tour.q_rad)
    middles = (poses @ np.array([*setup.board.size_m, 0.0, 2.0]) / 2)[:, :3]
    low, high = RANGES[setup.mount].distance_m
    distance = np.linalg.norm(middles, axis=1)
    assert (distance > low - 0.01).all() and (distance < high + 0.01).all() and np.ptp(distance) > 0.08
    pixels = setup.intrinsics.project(middles)
    assert (np.ptp(pixels, axis=0) > 0.3 * np.array([setup.intrinsics.width, setup.intrinsics.height])).all()


def test_every_pose_and_every_way_is_free(planned: tuple[Setup, Tour]) -> None:
    """Looked at twenty times as densely as planned, without the margins for the guess."""
    setup, tour = planned
    margin = ViewRanges().margin_rad
    assert (tour.q_rad >= LIMITS.q_min_rad + margin).all() and (tour.q_rad <= LIMITS.q_max_rad - margin).all()
    collision, stops = Collision(LIMITS, setup.cell), np.vstack([LIMITS.home_q_rad, tour.q_rad])
    for a, b in pairwise(stops):
        room = collision.room(a + np.linspace(0, 1, 100)[:, None] * (b - a))
        assert room.self_m.min() > 0 and room.obstacle_m.min() > 0


def test_the_tour_is_shorter_than_the_poses_in_any_order(planned: tuple[Setup, Tour]) -> None:
    _, tour = planned
    shuffled = np.random.default_rng(0).permutation(tour.q_rad)
    assert tour.way_rad < np.abs(np.diff(shuffled, axis=0)).max(axis=1).sum()


def test_the_same_seed_plans_the_same_tour() -> None:
    setup = nominal_setup("flange")
    first, second = (
        plan_tour(setup, 10, np.random.default_rng(1), start_q_rad=LIMITS.home_q_rad).q_rad for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_a_start_that_isnt_free_is_refused() -> None:
    with pytest.raises(SpecError, match=r"the tour's start .* is not free"):
        plan_tour(furnished("flange"), 5, np.random.default_rng(0), start_q_rad=np.array([0, 1.7, 0, -0.5, 0, 1.0, 0]))


def test_a_board_out_of_reach_is_refused() -> None:
    setup = nominal_setup("flange")
    far = setup.board_pose.copy()
    far[0, 3] = 2.5
    with pytest.raises(SpecError, match="0 of 5 poses can be reached"):
        plan_tour(replace(setup, board_pose=far), 5, np.random.default_rng(0), start_q_rad=LIMITS.home_q_rad)


def test_a_board_that_shows_its_back_is_not_seen() -> None:
    setup = nominal_setup("flange")
    q_rad = plan_tour(setup, 3, np.random.default_rng(1), start_q_rad=LIMITS.home_q_rad).q_rad
    turned = setup.board_pose.copy()
    turned[:3, 1:3] *= -1
    turned[:3, 3] -= turned[:3, 1] * setup.board.size_m[1]
    assert (visible_share(replace(setup, board_pose=turned), q_rad) == 0).all()


def test_inverse_kinematics_come_back_to_the_pose() -> None:
    rng = np.random.default_rng(3)
    near = LIMITS.home_q_rad + rng.normal(0.0, 0.3, (20, 7))
    q_rad = np.clip(near, LIMITS.q_min_rad + 0.05, LIMITS.q_max_rad - 0.05)
    wanted = flange_poses(LIMITS, q_rad)
    found = solve_ik(LIMITS, wanted, q_rad + rng.normal(0.0, 0.1, q_rad.shape))
    assert len(found) >= 18
    assert (found >= LIMITS.q_min_rad).all() and (found <= LIMITS.q_max_rad).all()
    for flange in flange_poses(LIMITS, found):
        assert np.abs(wanted - flange).max(axis=(1, 2)).min() < 2e-3
