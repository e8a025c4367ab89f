"""How a teleoperator's arm keeps clear: a velocity damper over the gate's own shapes."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.types import Array
from skimo_core.domain.cell import load_cell
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.safety.collision import Collision
from skimo_sim.play.clearance import KEPT_M, NEAR_M, NEARER_HZ, Clearance

PERIOD_S = 0.02
FOLDED_RAD = np.array([0.23, -1.71, 2.44, -2.85, 1.57, 1.88, 2.11])
"""The hand low beside the arm's own foot."""


@pytest.fixture(scope="module")
def limits() -> RobotLimits:
    return load_limits("panda")


@pytest.fixture(scope="module")
def collision(limits: RobotLimits) -> Collision:
    return Collision(limits, load_cell("kitchen"))


@pytest.fixture(scope="module")
def clearance(limits: RobotLimits) -> Clearance:
    return Clearance(limits, load_cell("kitchen"))


def room_m(collision: Collision, q_rad: Array) -> float:
    room = collision.room(q_rad[None])
    return float(min(room.self_m[0], room.obstacle_m[0]))


def positions(limits: RobotLimits, collision: Collision, low_m: float, high_m: float) -> list[Array]:
    """Ten joint positions [7] with room between two bounds."""
    chance, found = np.random.default_rng(0), list[Array]()
    while len(found) < 10:
        q_rad = chance.uniform(limits.q_min_rad, limits.q_max_rad)
        if low_m < room_m(collision, q_rad) < high_m:
            found.append(q_rad)
    return found


def test_far_from_everything_nothing_is_changed(
    limits: RobotLimits, collision: Collision, clearance: Clearance
) -> None:
    for q_rad in positions(limits, collision, NEAR_M, np.inf):
        dq_rad_s = np.random.default_rng(1).normal(size=7)
        assert clearance.keep(q_rad, dq_rad_s) is dq_rad_s


def test_however_it_is_asked_the_arm_comes_nearer_ever_more_slowly_and_stops_short(
    limits: RobotLimits, collision: Collision, clearance: Clearance
) -> None:
    least_m = []
    for number, q_rad in enumerate(positions(limits, collision, KEPT_M, NEAR_M)):
        dq_rad_s = np.random.default_rng(number).normal(size=7)
        before_m, along_m = room_m(collision, q_rad), [np.inf]
        slight_rad = 1e-5 * clearance.keep(q_rad, dq_rad_s)
        assert (room_m(collision, q_rad + slight_rad) - before_m) / 1e-5 > -NEARER_HZ * (before_m - KEPT_M) - 0.02
        for _ in range(100):
            q_rad = q_rad + PERIOD_S * clearance.keep(q_rad, dq_rad_s)
            along_m.append(room_m(collision, q_rad))
        least_m.append(min(along_m))
    assert sum(least > 0.0 for least in least_m) >= 7  # the others come between two obstacles


def test_what_takes_the_arm_away_is_left_as_it_is_and_an_arm_too_near_leaves(
    limits: RobotLimits, collision: Collision, clearance: Clearance
) -> None:
    assert room_m(collision, FOLDED_RAD) < KEPT_M
    leaves_rad_s = clearance.keep(FOLDED_RAD, np.zeros(7))
    assert room_m(collision, FOLDED_RAD + 1e-3 * leaves_rad_s) > room_m(collision, FOLDED_RAD)
    np.testing.assert_array_equal(clearance.keep(FOLDED_RAD, 10.0 * leaves_rad_s), 10.0 * leaves_rad_s)
