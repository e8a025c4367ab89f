"""Drawn starts: what varies and by how much, what never does, and what a wrong table is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.domain import load_domain
from skimo_core.domain.starts import Places, Starts, parse_starts, turned
from skimo_core.domain.tables import Table
from skimo_core.domain.tasks import Subtask

DOMAIN = load_domain("kitchen")
NAMES = DOMAIN.observation.names
HOME = np.zeros(30)
HOME[23:27] = -0.27, 0.35, 1.62, 1.0
WIDE = np.full(7, -3.0), np.full(7, 3.0)


def draw(
    starts: Starts, count: int = 300, asked: tuple[str | Subtask, ...] = (), bounds: tuple[Array, Array] = WIDE
) -> Array:
    rng = np.random.default_rng(0)
    goals = tuple(DOMAIN.subtasks[goal] if isinstance(goal, str) else goal for goal in asked)
    drawn = [starts.draw(HOME, DOMAIN.observation, bounds, DOMAIN.subtasks, goals, rng) for _ in range(count)]
    return np.stack(drawn)


def test_nothing_varies_by_default() -> None:
    assert (draw(Starts(), 3) == HOME).all()


def test_joints_are_normal_and_cut_at_twice_their_deviation_and_at_the_limits() -> None:
    q = draw(Starts(arm_rad=0.15), 2000)[:, :7]
    assert np.abs(q).max() <= 0.3 and abs(q.std() - 0.15 * 0.88) < 0.005  # 0.88: of a normal cut at 2 deviations
    low = np.full(7, -0.05)
    assert draw(Starts(arm_rad=0.15), bounds=(low, WIDE[1]))[:, :7].min() >= -0.05
    assert not draw(Starts(arm_rad=0.15))[:, 7:23].any(), "only what is named varies"


def test_offsets_turns_and_fingers_stay_within_what_they_say() -> None:
    drawn = draw(Starts(offsets={"kettle.x": 0.06}, turns={"kettle": 0.4}, fingers_m=(0.01, 0.04)))
    off = drawn[:, 23] + 0.27
    assert np.abs(off).max() <= 0.06 and off.min() < -0.05 and off.max() > 0.05
    angles = 2 * np.arctan2(drawn[:, 29], drawn[:, 26])
    assert np.abs(angles).max() <= 0.4 and np.ptp(angles) > 0.7
    assert (drawn[:, 7] == drawn[:, 8]).all() and 0.01 <= drawn[:, 7].min() < drawn[:, 7].max() <= 0.04


def test_a_turn_is_about_the_vertical() -> None:
    quarter = turned(np.array([1.0, 0.0, 0.0, 0.0]), np.pi / 2)
    np.testing.assert_allclose(quarter, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(turned(turned(quarter, 0.3), -0.3), quarter, atol=1e-12)


def test_subtasks_are_begun_and_done_as_often_as_said_but_never_done_where_asked_for() -> None:
    starts = Starts(begun=0.3, done=0.2)
    door = draw(starts, 3000)[:, NAMES.index("microwave")] / -0.75
    assert abs((door == 1.0).mean() - 0.2) < 0.03 and abs(((door > 0) & (door < 1)).mean() - 0.3) < 0.03
    asked = draw(starts, 1000, asked=("microwave", "slide cabinet"))
    for name in ("microwave", "slide cabinet"):
        assert not DOMAIN.subtasks[name].complete(asked).any()
    assert (asked[:, NAMES.index("microwave")] < 0).any(), "begun it may be"


def test_a_goal_that_undoes_does_not_hold_at_the_start_either() -> None:
    (closed,) = DOMAIN.task("microwave closed").subtasks
    asked = draw(Starts(begun=0.15, done=0.15), 300, asked=(closed,))
    assert not closed.complete(asked).any() and DOMAIN.subtasks["microwave"].complete(asked).any()


def test_an_object_stands_elsewhere_only_where_nobody_asks_for_it() -> None:
    starts = Starts(places={"kettle": Places(chance=0.5, at=({"kettle.x": 0.2}, {"kettle.x": 0.4, "kettle.y": 0.7}))})
    x = draw(starts)[:, 23]
    assert {-0.27, 0.2, 0.4} == set(x.round(6)) and abs((x == -0.27).mean() - 0.5) < 0.1
    assert (draw(starts, asked=("kettle",))[:, 23] == -0.27).all()


def test_a_distribution_that_hardly_holds_such_a_start_is_refused() -> None:
    done = Starts(offsets={"microwave": 0.01})
    home = HOME.copy()
    home[NAMES.index("microwave")] = -0.75
    with pytest.raises(SpecError, match="starts in a row complete one of microwave"):
        asked = (DOMAIN.subtasks["microwave"],)
        done.draw(home, DOMAIN.observation, WIDE, DOMAIN.subtasks, asked, np.random.default_rng(0))


def test_the_kitchens_table_is_read_and_does_not_enter_the_digest() -> None:
    assert DOMAIN.starts.arm_rad == 0.15 and len(DOMAIN.starts.places["kettle"].at) == 3
    assert replace(DOMAIN, starts=Starts()).digest == DOMAIN.digest


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"arm_rad": -0.1}, "arm_rad is -0.1, must lie in 0 to 1"),
        ({"fingers_m": [0.04, 0.0]}, "lowest and highest"),
        ({"begun": 0.7, "done": 0.6}, "together at most 1"),
        ({"offsets": {"pot.x": 0.1}}, "no channel 'pot.x'"),
        ({"offsets": {"kettle.x": 0.0}}, "must be above 0"),
        ({"turns": {"microwave": 0.1}}, "no body with a pose 'microwave'; there are kettle"),
        ({"places": {"kettle": {"chance": 2.0, "at": [{"kettle.x": 0.1}]}}}, "chance is 2"),
        ({"places": {"kettle": {"chance": 0.2, "at": []}}}, "at is empty"),
        ({"places": {"kettle": {"chance": 0.2, "at": [{"pot": 0.1}]}}}, "no channel 'pot'"),
        ({"arm": 0.1}, "unknown key 'arm'"),
    ],
)
def test_a_wrong_table_is_refused_in_words(table: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said.replace("(", r"\(")):
        parse_starts(Table(table, "kitchen.yaml: starts"), DOMAIN.observation)
