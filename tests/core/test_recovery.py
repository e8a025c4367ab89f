"""After many plans for one sub-task some are for the domain's recovery goal, and it is begun anew."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Calibration, FloatArray, Goals, Plan, PolicySpec
from skimo_core.contract.specs import SkillSpec
from skimo_core.control.loop import SkillLoop, Step, StepKind
from skimo_core.control.pilot import recovery_goal
from skimo_core.control.planning import ImmediatePlanning
from skimo_core.control.recovery import Recovery, RecoveryConfig
from skimo_core.domain.domain import load_domain, parse_domain
from skimo_core.domain.library import find

DOMAIN = load_domain()
HOME = DOMAIN.goals["home"]
SKILL = SkillSpec()
SPEC = PolicySpec(observation=DOMAIN.observation, action=DOMAIN.action, skill=SKILL, bundle_id="fake")
IDLE_O = np.zeros(DOMAIN.observation.size, np.float32)
AT_HOME_O = IDLE_O.copy()
AT_HOME_O[list(HOME.channels)] = HOME.goal
DONE_O = IDLE_O.copy()
DONE_O[list(DOMAIN.subtasks["microwave"].channels)] = DOMAIN.subtasks["microwave"].goal
DONE_KETTLE_O = IDLE_O.copy()
DONE_KETTLE_O[list(DOMAIN.subtasks["kettle"].channels)] = DOMAIN.subtasks["kettle"].goal
TOLD = Calibration(bias=0.0, predicted=1.0, value=0.0, spent=-1.0, first=0.0)


class Plans:
    """A policy that writes down what it is asked to plan for."""

    spec = SPEC

    def __init__(self) -> None:
        self.asked: list[tuple[bool, bool, int]] = []

    def plan(
        self,
        observation_O: FloatArray,
        goals: Goals,
        *,
        seed: int,
        warm_start_PZ: FloatArray | None,
        deadline_s: float,
        warm_start_of: str = "",
        spent: int = 0,
    ) -> Plan:
        home = np.flatnonzero(goals.weights_KO[0]).tolist() == list(HOME.channels)
        self.asked.append((home, warm_start_PZ is not None, spent))
        skills = np.zeros((3, SKILL.dim), np.float32)
        predicted = np.zeros((3, DOMAIN.observation.size), np.float32)
        return Plan(
            skills_PZ=skills,
            warm_start_PZ=skills,
            value=0.0,
            predicted_PO=predicted,
            success_probability=0.5,
            bundle_id="fake",
            calibration=TOLD,
        )

    def act(self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str, *, deadline_s: float) -> FloatArray:
        return np.zeros(DOMAIN.action.size, np.float32)


class Run:
    """A loop that goes on with a recovery after 3 plans, of at most 2."""

    def __init__(self) -> None:
        self.policy = Plans()
        self.loop = SkillLoop(
            DOMAIN.task("kitchen"),
            SKILL,
            partial(self.policy.act, deadline_s=1.0),
            ImmediatePlanning(self.policy, 1.0),
            recovery=Recovery(HOME, RecoveryConfig(after=3, plans=2)),
        )

    def skills(self, count: int, observation_O: FloatArray = IDLE_O) -> list[Step]:
        """The first steps of so many skills."""
        first: list[Step] = []
        while len(first) < count:
            step = self.loop.step(observation_O)
            first += [step] if step.new_plan is not None else []
        return first


def test_after_so_many_plans_so_many_are_for_the_recovery_goal_and_promise_nothing() -> None:
    run = Run()
    first = run.skills(12)
    assert [step.recovering for step in first] == ([False] * 3 + [True] * 2) * 2 + [False] * 2
    assert all(step.kind is StepKind.ACT for step in first)
    for step in first:
        assert step.new_plan is not None
        assert math.isnan(step.new_plan.success_probability) == step.recovering
        assert (step.new_plan.promise_2 is None) == step.recovering  # in a recording, half a promise is none
        assert ("home" in step.reason) == step.recovering
    promised = [step.new_plan.success_probability for step in first if step.new_plan and not step.recovering]
    assert promised == sorted(promised, reverse=True) and len(set(promised)) == len(promised)  # none counts twice
    assert [home for home, _, _ in run.policy.asked[:12]] == [step.recovering for step in first]


def test_a_plan_starts_warm_from_one_for_the_same_goal_alone() -> None:
    run = Run()
    run.skills(7)
    assert [warm for _, warm, _ in run.policy.asked[:7]] == [False, True, True, False, True, False, True]


def test_a_recovery_ends_where_its_goal_holds() -> None:
    run = Run()
    assert [step.recovering for step in run.skills(4)] == [False] * 3 + [True]
    assert not any(step.recovering for step in run.skills(8, AT_HOME_O))  # there already, it only counts anew
    assert [step.recovering for step in run.skills(2)] == [False, True]


def test_another_sub_task_and_an_operator_s_resumption_begin_to_count_anew() -> None:
    run = Run()
    run.skills(2)
    run.loop.step(DONE_O)
    assert run.loop.progress.done == 1 and not any(step.recovering for step in run.skills(3))
    run.loop.retrace(DONE_KETTLE_O, np.zeros(DOMAIN.action.size, np.float32), 5, "on the way back")
    assert run.loop.progress.done == 2 and not any(step.recovering for step in run.skills(3))
    run.loop.hold("somebody looks")
    run.loop.step(IDLE_O)
    run.loop.resume()
    assert [step.recovering for step in run.skills(4)] == [False] * 3 + [True]


def test_plans_that_bring_it_nearer_are_not_in_vain() -> None:
    run, seen_O = Run(), IDLE_O.copy()
    channel = DOMAIN.subtasks["microwave"].channels[0]
    for _ in range(5):
        assert not any(step.recovering for step in run.skills(2, seen_O))
        seen_O = seen_O.copy()
        seen_O[channel] -= 0.08
    assert [step.recovering for step in run.skills(4, seen_O)] == [False] * 3 + [True]


@pytest.mark.parametrize("recovery", [Recovery(HOME, RecoveryConfig(after=0)), Recovery(None)])
def test_without_a_goal_or_where_none_is_wished_there_is_no_recovery(recovery: Recovery) -> None:
    for _ in range(100):
        recovery.took_effect(recovering=False)
    assert not recovery.due(IDLE_O, DOMAIN.subtasks["microwave"])


@pytest.mark.parametrize("bad", [{"after": -1}, {"plans": 0}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="at least"):
        RecoveryConfig(**bad)


def test_the_goal_is_the_domain_s_where_the_policy_can_plan_for_it() -> None:
    assert recovery_goal(DOMAIN, SPEC) == HOME
    assert recovery_goal(dataclasses.replace(DOMAIN, recovery=""), SPEC) is None
    size = DOMAIN.observation.size
    elsewhere = dataclasses.replace(SPEC, low_O=(5.0,) * size, high_O=(6.0,) * size)
    assert recovery_goal(DOMAIN, elsewhere) is None
    assert recovery_goal(DOMAIN, dataclasses.replace(SPEC, task="microwave")) is None


def test_a_domain_s_recovery_is_one_of_its_goals(tmp_path: Path) -> None:
    source = find("domains", "kitchen")
    with pytest.raises(SpecError, match=r"recovery: no goal 'nowhere'; there are microwave, "):
        parse_domain(dataclasses.replace(source, text=source.text.replace("recovery: home", "recovery: nowhere")), "x")
