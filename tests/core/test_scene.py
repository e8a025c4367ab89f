"""Whether a scene is where an episode may start: against the domain that ships, and against what it draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.scene import Scene, judge_scene
from skimo_core.domain.starts import Starts

KITCHEN = load_domain()
WORKBENCH = load_domain(Path(__file__).parents[1] / "eval" / "workbench.yaml")


def at_home(domain: Domain) -> np.ndarray:
    """The plain start, and the arm where it begins."""
    seen_O = domain.start.astype(np.float64)
    if "home" in domain.goals:
        seen_O[list(domain.goals["home"].channels)] = domain.goals["home"].goal
    return seen_O


def seen(domain: Domain = KITCHEN, /, **values: float) -> np.ndarray:
    """The plain start with some channels elsewhere; `_` stands for the dot in a name."""
    seen_O = at_home(domain)
    for name, value in values.items():
        seen_O[domain.observation.names.index(name if name in domain.observation.names else name.replace("_", "."))] = (
            value
        )
    return seen_O


def judge(seen_O: np.ndarray, task: str = "kitchen", *, drawn: bool = False) -> Scene:
    return judge_scene(KITCHEN, KITCHEN.task(task), seen_O, drawn=drawn)


@pytest.mark.parametrize("domain", [KITCHEN, WORKBENCH], ids=lambda domain: domain.name)
@pytest.mark.parametrize("drawn", [False, True])
def test_the_plain_start_is_in_place_and_every_object_is_looked_at(domain: Domain, drawn: bool) -> None:
    found = judge_scene(domain, domain.task(), at_home(domain), drawn=drawn)
    assert found.wrong == found.where == () and found.done == ()
    judged = {standing.name for standing in found.standings}
    turns = {f"{body}.q{axis}" for body in ("kettle",) for axis in "wxyz"}
    assert ("arm from 'home'" in judged) is ("home" in domain.goals)
    assert judged - {"kettle turn", "arm from 'home'"} == set(domain.observation.objects) - turns


def test_what_is_out_of_place_is_told_with_value_bound_and_remedy() -> None:
    found = judge(seen(microwave=-0.42))
    assert found.where == ("microwave",)
    assert found.wrong == ("microwave: -0.42 rad, wanted 0 +- 0.1: move it by +0.42 rad, to 'microwave closed'",)
    found = judge(seen(kettle_x=0.21, knob_3=0.3), "microwave")
    assert found.wrong == (
        "knob_3: 0.3 rad, wanted 0 +- 0.1: move it by -0.3 rad",
        "kettle.x: 0.21 m, wanted -0.269 +- 0.03: move it by -0.479 m, to 'kettle at start'",
    )


@pytest.mark.parametrize(("off", "wrong"), [(0.099, False), (-0.099, False), (0.101, True), (-0.101, True)])
def test_a_channel_may_be_off_by_its_tolerance(off: float, wrong: bool) -> None:
    assert bool(judge(seen(microwave=off)).wrong) is wrong


@pytest.mark.parametrize(("angle", "drawn", "wrong"), [(0.09, False, False), (0.3, False, True), (0.3, True, False)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_body_s_turn_counts_whatever_the_quaternion_s_sign(
    angle: float, drawn: bool, wrong: bool, sign: float
) -> None:
    turned = seen(kettle_qw=sign * np.cos(angle / 2), kettle_qz=sign * np.sin(angle / 2))
    found = judge(turned, drawn=drawn)
    assert bool(found.wrong) is wrong
    assert not wrong or found.wrong == ("kettle turn: 0.3 rad, wanted 0 +- 0.1: turn it back by 0.3 rad",)


def test_a_sub_task_that_is_done_is_told() -> None:
    assert judge(seen(slide_cabinet=0.37), drawn=True).wrong == ()  # nobody asks for it
    found = judge(seen(slide_cabinet=0.37), "slide cabinet", drawn=True)
    assert found.wrong == ("sub-task slide cabinet is done already: undo it, or ask for something else",)
    assert judge(seen(), "microwave closed").done == ("microwave closed",)


@pytest.mark.parametrize("drawn", [False, True])
def test_what_isn_t_seen_is_not_in_place(drawn: bool) -> None:
    found = judge(seen(microwave=np.nan, kettle_qx=np.nan), drawn=drawn)
    assert found.where == ("microwave", "kettle turn")
    assert all(line.endswith("it isn't seen; clear the tracker's view") for line in found.wrong)
    assert "microwave: ? rad" in found.wrong[0]
    assert len(judge(np.full(30, np.nan), drawn=drawn).wrong) == len(found.standings)


@pytest.mark.parametrize("task", ["kitchen", "misaligned", "slide cabinet,kettle", "microwave=-0.3"])
def test_whatever_the_domain_draws_is_in_place_where_that_will_do(task: str) -> None:
    limits, asked = load_limits(KITCHEN.robot), KITCHEN.task(task).subtasks
    bounds = (limits.q_min_rad, limits.q_max_rad)
    strict = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        start_O = KITCHEN.starts.draw(at_home(KITCHEN), KITCHEN.observation, bounds, KITCHEN.subtasks, asked, rng)
        assert judge(start_O, task, drawn=True).wrong == ()
        strict += bool(judge(start_O, task).wrong)
    assert strict > 50


def test_another_place_will_do_as_a_whole_and_not_by_halves() -> None:
    elsewhere = KITCHEN.starts.places["kettle"].at[2]
    there = seen(kettle_x=elsewhere["kettle.x"], kettle_y=elsewhere["kettle.y"])
    assert judge(there, "microwave", drawn=True).wrong == ()
    assert judge(there, "kettle", drawn=True).where == ("kettle.x", "kettle.y")  # asked for: it stands at the start
    assert judge(seen(kettle_x=0.0, kettle_y=0.55), "microwave", drawn=True).wrong


def test_without_drawn_starts_there_is_one_start() -> None:
    plain = replace(KITCHEN, starts=Starts())
    off = seen(microwave=-0.2, kettle_x=-0.2)
    one, same = (judge_scene(d, d.task(), off, drawn=d is plain) for d in (KITCHEN, plain))
    assert one == same and one.where == ("microwave", "kettle.x")


@pytest.mark.parametrize(
    ("off", "drawn", "wrong"), [(0.29, False, False), (0.31, False, True), (0.31, True, False), (0.9, True, True)]
)
def test_the_arm_begins_at_home(off: float, drawn: bool, wrong: bool) -> None:
    seen_O = at_home(KITCHEN)
    seen_O[3] -= off
    found = judge(seen_O, drawn=drawn)
    assert bool(found.wrong) is wrong
    if wrong and not drawn:
        assert found.wrong == (
            "arm from 'home': 0.31 rad, wanted 0 +- 0.3: `skimo start home` brings it there, or lead it by hand",
        )
    seen_O[2] = np.nan
    assert judge(seen_O).wrong[0].endswith("it isn't heard of; is the driver running?")


def test_a_domain_that_has_no_home_does_not_say_where_the_arm_begins() -> None:
    homeless = replace(KITCHEN, goals={n: g for n, g in KITCHEN.goals.items() if n != "home"})
    assert judge_scene(homeless, homeless.task(), homeless.start).wrong == ()
