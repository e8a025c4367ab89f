"""An exciting motion: within limits, at rest at its ends, better than chance, and let through by the gate in whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skimo_calibration.dynamics.excitation import (
    ExcitationConfig,
    Motion,
    Series,
    condition_number,
    find_series,
    rehearse,
)
from skimo_calibration.twin.twin_arm import Noise, drawn_arm, play, start_rad
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Verdict
from skimo_core.domain.cell import load_cell
from skimo_core.domain.kinematics import arm_points
from skimo_core.domain.robot import load_limits
from skimo_core.safety.collision import Collision

LIMITS, CELL = load_limits(), load_cell("kitchen")
CONFIG = ExcitationConfig(harmonics=5, period_s=6.0, tries=40)


@pytest.fixture(scope="module")
def found() -> tuple[Series, float]:
    return find_series(LIMITS, CELL, LIMITS.home_q_rad, CONFIG, np.random.default_rng(0))


def test_it_keeps_the_limits_with_their_margins(found: tuple[Series, float]) -> None:
    q, dq, ddq = found[0].sample(np.linspace(0, CONFIG.period_s, 4001))
    margin = CONFIG.position_margin_rad - 1e-3
    assert (q > LIMITS.q_min_rad + margin).all() and (q < LIMITS.q_max_rad - margin).all()
    assert (np.abs(dq) <= 1.01 * CONFIG.velocity_share * LIMITS.dq_max_rad_s).all()
    assert (np.abs(ddq) <= 1.01 * CONFIG.acceleration_share * LIMITS.ddq_max_rad_s2).all()


def test_it_keeps_clear_of_the_cell_and_of_itself(found: tuple[Series, float]) -> None:
    q = found[0].sample(np.linspace(0, CONFIG.period_s, 1001))[0]
    room = Collision(LIMITS, CELL).room(q)
    assert room.obstacle_m.min() > CONFIG.clearance_m - 2e-3 and room.self_m.min() > 0
    points = arm_points(LIMITS, q)
    assert (points > CELL.workspace_low_m).all() and (points < CELL.workspace_high_m).all()


def test_its_derivatives_are_derivatives_and_its_ends_are_at_rest(found: tuple[Series, float]) -> None:
    times_s = np.linspace(0, CONFIG.period_s, 8001)
    q, dq, ddq = found[0].sample(times_s)
    assert np.abs(np.gradient(q, times_s, axis=0) - dq)[1:-1].max() < 1e-4
    assert np.abs(np.gradient(dq, times_s, axis=0) - ddq)[1:-1].max() < 1e-3
    for end in (0, -1):
        assert np.abs(dq[end]).max() < 1e-9 and np.abs(ddq[end]).max() < 1e-9
    assert np.abs(q[0] - q[-1]).max() < 1e-9


def test_a_search_is_repeatable_and_better_than_its_first_tries(found: tuple[Series, float]) -> None:
    again = find_series(LIMITS, CELL, LIMITS.home_q_rad, CONFIG, np.random.default_rng(0))
    assert again[1] == found[1] and np.array_equal(again[0].sine_rad_s, found[0].sine_rad_s)
    few = ExcitationConfig(harmonics=5, period_s=6.0, tries=4)
    _, first = find_series(LIMITS, CELL, LIMITS.home_q_rad, few, np.random.default_rng(0))
    assert found[1] < first and found[1] == pytest.approx(condition_number(LIMITS, found[0], CONFIG))


def test_a_joint_that_stands_still_makes_the_condition_number_worse(found: tuple[Series, float]) -> None:
    series = found[0]
    other = Series(
        centre_rad=series.centre_rad,
        sine_rad_s=series.sine_rad_s * np.where(np.arange(7) == 6, 1e-3, 1.0),
        cosine_rad_s=series.cosine_rad_s * np.where(np.arange(7) == 6, 1e-3, 1.0),
        period_s=series.period_s,
    )
    assert condition_number(LIMITS, other, CONFIG) > 2 * found[1]


@pytest.mark.parametrize("seed", [None, 3])
def test_the_gate_lets_all_of_it_through_on_the_twin(found: tuple[Series, float], seed: int | None) -> None:
    rng = np.random.default_rng(seed)
    arm = None if seed is None else drawn_arm(rng)
    here_rad = start_rad() if arm is None else found[0].sample(np.zeros(1))[0][0]
    motion = Motion(LIMITS, here_rad, found[0], CONFIG)
    rehearse(motion, LIMITS, CELL)
    played = play(motion, LIMITS, CELL, arm=arm, noise=Noise(), rng=rng)
    assert {decision.verdict for decision in played.decisions} == {Verdict.PASS}
    assert len(played.decisions) >= (motion.end_s - motion.start_s) / 0.2 - 1
    log = played.log
    assert log.q_desired_rad is not None and log.rate_hz == pytest.approx(500.0, rel=1e-3)
    # a sagging arm with weak servos and a delay lies further off, but follows
    assert np.abs(log.q_rad - log.q_desired_rad).max() < (5e-3 if seed is None else 0.1)


def test_what_stands_in_the_way_is_told_before_the_arm_moves(found: tuple[Series, float]) -> None:
    far = LIMITS.home_q_rad.copy()
    far[:2] = 0.0, 1.4  # reaching into the kitchen
    with pytest.raises(SpecError, match=r"would not let the way to the motion's begin through at .* bring the arm"):
        rehearse(Motion(LIMITS, far, found[0], CONFIG), LIMITS, CELL)


def test_a_centre_without_room_is_refused() -> None:
    edge = LIMITS.home_q_rad.copy()
    edge[5] = LIMITS.q_max_rad[5] - 0.05
    with pytest.raises(SpecError, match=r"joint 6 at 3\.703 rad, within 0\.15 rad of its range's end; bring the arm"):
        find_series(LIMITS, CELL, edge, CONFIG, np.random.default_rng(0))
    wide = ExcitationConfig(harmonics=5, tries=3, clearance_m=0.6)
    with pytest.raises(SpecError, match=r"none of 3 motions round .* clear of the arm itself, and 0\.6 m of cell"):
        find_series(LIMITS, CELL, LIMITS.home_q_rad, wide, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"velocity_share": 1.5}, r"shares of limits are \(1.5, .* must lie in \(0, 0.9\]"),
        ({"harmonics": 2}, r"harmonics 2 \(>= 3"),
        ({"period_s": 0.5}, r"period 0.5 s \(>= 2\)"),
        ({"clearance_m": -0.1}, r"clearance -0.1 m"),
    ],
)
def test_a_config_that_can_not_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        ExcitationConfig(**options)
