"""The skill loop: when plans are asked and take effect, and what happens when something is late."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.errors import DeadlineError
from skimo_core.contract.policy import Calibration, FloatArray, Goals, Plan, PolicySpec
from skimo_core.contract.specs import SkillSpec
from skimo_core.control.loop import SkillLoop, Step, StepKind
from skimo_core.control.planning import BackgroundPlanning, ImmediatePlanning, PlanOutcome, PlanRequest
from skimo_core.domain.domain import load_domain

DOMAIN = load_domain()
SPEC = SkillSpec(horizon=10, dim=10, plan_length=3)
IDLE = np.zeros(DOMAIN.observation.size, np.float32)


def make_plan(index: int, bundle_id: str = "test", calibration: Calibration | None = None, speed: float = 1.0) -> Plan:
    skills = np.full((3, SPEC.dim), index / 100, np.float32)
    return Plan(
        skills_PZ=skills, warm_start_PZ=skills, value=0.0, predicted_PO=np.zeros((3, 30), np.float32),
        success_probability=0.0, bundle_id=bundle_id, calibration=calibration, speed=speed,
    )  # fmt: skip


class ManualPlanning:
    """A plan source that answers when the test says so."""

    def __init__(self) -> None:
        self.took_s = 0.0
        self.requests: list[PlanRequest] = []
        self.outcome: PlanOutcome | None = None
        self.bundle_id = "test"
        self.calibration: Calibration | None = None
        self.speed = 1.0

    def submit(self, request: PlanRequest) -> None:
        self.requests.append(request)

    def take(self) -> PlanOutcome | None:
        outcome, self.outcome = self.outcome, None
        return outcome

    def clear(self) -> None:
        self.outcome = None

    def answer(self) -> None:
        index = self.requests[-1].index
        plan = make_plan(index, self.bundle_id, self.calibration, self.speed)
        self.outcome = PlanOutcome(index=index, plan=plan)


class Acts:
    """A skill policy whose answers can be made late."""

    def __init__(self) -> None:
        self.late = False
        self.asked: list[str] = []

    def __call__(self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str) -> FloatArray:
        self.asked.append(bundle_id)
        if self.late:
            raise DeadlineError("no action after 40 ms")
        return np.zeros(9, np.float32)


@pytest.fixture
def planning() -> ManualPlanning:
    return ManualPlanning()


@pytest.fixture
def acts() -> Acts:
    return Acts()


@pytest.fixture
def loop(planning: ManualPlanning, acts: Acts) -> SkillLoop:
    return SkillLoop(DOMAIN.task("kitchen"), SPEC, acts, planning)


def begin(loop: SkillLoop, planning: ManualPlanning) -> Step:
    assert loop.step(IDLE).kind is StepKind.PREPARE
    planning.answer()
    return loop.step(IDLE)


def test_the_next_plan_is_asked_at_step_eight_and_takes_effect_at_the_boundary(
    loop: SkillLoop, planning: ManualPlanning
) -> None:
    step = begin(loop, planning)
    assert step.kind is StepKind.ACT and step.step_in_skill == 0 and step.new_plan is not None
    for k in range(1, 10):
        step = loop.step(IDLE)
        assert step.step_in_skill == k and step.new_plan is None
        assert len(planning.requests) == (2 if k >= 8 else 1)
        if k == 8:
            planning.answer()
    step = loop.step(IDLE)
    assert step.step_in_skill == 0 and step.new_plan is not None
    assert step.skill_Z is not None and step.skill_Z[0] == np.float32(0.01)
    assert loop.counts.missed == 0 and loop.counts.late_plans == 0


def test_a_promise_is_calibrated_by_the_plans_spent_on_its_subtask(planning: ManualPlanning, acts: Acts) -> None:
    told = Calibration(bias=1.0, predicted=0.5, value=0.0, spent=-2.0, first=-1.0, second=0.25)
    planning.calibration = told
    loop = SkillLoop(DOMAIN.task("kitchen"), SPEC, acts, planning)
    done = IDLE.copy()
    done[list(DOMAIN.subtasks["microwave"].channels)] = DOMAIN.subtasks["microwave"].goal
    found = []
    for step in range(50):
        seen = loop.step(done if step == 35 else IDLE)
        if planning.requests and planning.outcome is None:
            planning.answer()
        found += [seen.new_plan] if seen.new_plan else []
    said = 0.5 * np.log(0.01 / 0.99)  # the model says 0, which counts as one in a hundred
    odds = [
        1.0 - 1.0 + said,
        1.0 + said - 2.0 * np.log(2.0) + 0.25,
        1.0 + said - 2.0 * np.log(3.0),
        1.0 + said - 2.0 * np.log(4.0),
    ]
    odds.append(odds[0])  # the next sub-task's first
    assert [plan.success_probability for plan in found] == pytest.approx([1 / (1 + np.exp(-o)) for o in odds])
    assert all(plan.predicted_success == 0.0 for plan in found)
    assert [request.spent for request in planning.requests[:5]] == [0, 1, 2, 3, 0]


def test_a_skill_ends_with_the_bundle_that_planned_it_and_the_next_is_the_new_one_s(
    loop: SkillLoop, planning: ManualPlanning, acts: Acts
) -> None:
    """What the old bundle's plans promised stays theirs; the new one's are calibrated as it says."""
    first = begin(loop, planning)
    assert planning.requests[0].warm_start_of == "" and first.new_plan is not None
    assert first.new_plan.success_probability == 0.0
    planning.bundle_id = "new"
    planning.calibration = Calibration(bias=0.0, predicted=0.0, value=0.0, spent=0.0, first=0.0)
    steps = [first, *(loop.step(IDLE) for _ in range(8))]
    assert planning.requests[-1].warm_start_of == "test"
    planning.answer()
    steps += [loop.step(IDLE) for _ in range(3)]
    assert [step.bundle_id for step in steps] == acts.asked == ["test"] * 10 + ["new"] * 2
    assert steps[10].new_plan is not None and steps[10].new_plan.success_probability == 0.5
    loop.resume()
    assert loop.step(IDLE).bundle_id == "" and planning.requests[-1].warm_start_of == ""


def test_a_slow_plan_slows_the_joints_for_its_whole_skill_and_leaves_the_fingers(planning: ManualPlanning) -> None:
    meant_A = np.full(9, 0.8, np.float32)
    loop = SkillLoop(DOMAIN.task("kitchen"), SPEC, lambda *_: meant_A, planning, joints=DOMAIN.action.joints)
    planning.speed = 0.5
    steps = [begin(loop, planning), *(loop.step(IDLE) for _ in range(8))]
    planning.speed = 1.0
    planning.answer()
    steps += [loop.step(IDLE) for _ in range(3)]
    told_KA = np.array([step.action_A for step in steps])
    np.testing.assert_array_equal(told_KA[:10, :7], np.float32(0.4))
    np.testing.assert_array_equal(told_KA[:10, 7:], np.float32(0.8))
    np.testing.assert_array_equal(told_KA[10:], np.float32(0.8))
    assert [step.step_in_skill for step in steps] == [*range(10), 0, 1] and (meant_A == np.float32(0.8)).all()


@pytest.mark.parametrize(
    ("period_s", "took_s", "asked_at"),
    [(0.08, 0.0, 8), (0.05, 0.0, 6), (0.2, 0.0, 8), (0.08, 0.25, 5), (0.05, 0.123, 6), (0.08, 5.0, 1)],
)
def test_the_plan_is_asked_as_early_as_the_rate_and_the_plans_durations_want(
    planning: ManualPlanning, acts: Acts, period_s: float, took_s: float, asked_at: int
) -> None:
    """160 ms ahead, or a third more than the slowest of the newest plans took; two steps at least, a skill at most."""
    planning.took_s = took_s
    loop = SkillLoop(DOMAIN.task("kitchen"), SPEC, acts, planning, period_s=period_s)
    begin(loop, planning)
    for k in range(1, 10):
        loop.step(IDLE)
        assert len(planning.requests) == (2 if k >= asked_at else 1), k


def test_a_late_plan_extends_the_skill_once_then_holds_then_goes_on(loop: SkillLoop, planning: ManualPlanning) -> None:
    begin(loop, planning)
    kinds = [loop.step(IDLE).kind for _ in range(19)]
    assert kinds == [StepKind.ACT] * 19
    held = [loop.step(IDLE) for _ in range(3)]
    assert all(s.kind is StepKind.HOLD and "no plan" in s.reason for s in held)
    assert loop.counts.missed == 3 and loop.counts.late_plans == 1
    planning.answer()
    assert loop.step(IDLE).kind is StepKind.ACT


def test_one_missed_action_goes_on_two_in_a_row_hold_until_resumed(
    loop: SkillLoop, planning: ManualPlanning, acts: Acts
) -> None:
    begin(loop, planning)
    acts.late = True
    assert loop.step(IDLE).kind is StepKind.MISSED
    acts.late = False
    assert loop.step(IDLE).kind is StepKind.ACT
    acts.late = True
    assert [loop.step(IDLE).kind for _ in range(3)] == [StepKind.MISSED, StepKind.HOLD, StepKind.HOLD]
    assert "2 actions missed in a row" in loop.held_for
    acts.late = False
    assert loop.step(IDLE).kind is StepKind.HOLD
    loop.resume()
    loop.step(IDLE)
    planning.answer()
    assert loop.step(IDLE).kind is StepKind.ACT


def test_progress_counts_in_order_and_ends_the_episode(loop: SkillLoop, planning: ManualPlanning) -> None:
    begin(loop, planning)
    subtasks = loop.task.subtasks
    observation = IDLE.copy()
    observation[list(subtasks[1].channels)] = subtasks[1].goal
    assert loop.step(observation).reward == 0
    observation[list(subtasks[0].channels)] = subtasks[0].goal
    assert loop.step(observation).reward == 2
    for subtask in subtasks[2:]:
        observation[list(subtask.channels)] = subtask.goal
    assert loop.step(observation).kind is StepKind.DONE


def test_the_step_limit_ends_the_episode_and_counts_every_step(loop: SkillLoop, planning: ManualPlanning) -> None:
    begin(loop, planning)
    for _ in range(loop.task.step_limit - 1):
        planning.answer()
        assert loop.step(IDLE).kind is StepKind.ACT
    assert loop.step(IDLE).kind is StepKind.DONE
    assert loop.counts.steps == loop.task.step_limit


def test_an_episode_that_no_longer_sees_anything_is_held_and_uses_up_nothing(
    loop: SkillLoop, planning: ManualPlanning
) -> None:
    begin(loop, planning)
    kinds = [loop.miss("no robot state").kind for _ in range(2 * loop.task.step_limit)]
    assert kinds == [StepKind.MISSED] + [StepKind.HOLD] * (len(kinds) - 1)
    assert (loop.counts.steps, loop.counts.missed, loop.counts.held) == (len(kinds) + 1, len(kinds), len(kinds) - 2)


def test_misses_that_are_no_holds_use_up_the_step_limit(loop: SkillLoop, planning: ManualPlanning, acts: Acts) -> None:
    begin(loop, planning)
    for step in range(1, loop.task.step_limit):
        acts.late = step % 2 == 1
        planning.answer()
        assert loop.step(IDLE).kind is (StepKind.MISSED if acts.late else StepKind.ACT)
    assert loop.step(IDLE).kind is StepKind.DONE
    assert loop.counts.steps == loop.task.step_limit and loop.counts.held == 0


def test_a_new_episode_ignores_the_old_ones_plan(loop: SkillLoop, planning: ManualPlanning) -> None:
    begin(loop, planning)
    for _ in range(8):
        loop.step(IDLE)
    loop.start(seed=1)
    assert loop.step(IDLE).kind is StepKind.PREPARE
    assert planning.requests[-1].warm_start_PZ is None
    assert planning.requests[-1].seed != planning.requests[0].seed


class Echo:
    """A policy whose plan says which observation it was asked with."""

    spec = PolicySpec(observation=DOMAIN.observation, action=DOMAIN.action, skill=SPEC, bundle_id="test")

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
        if observation_O[0] < 0:
            raise DeadlineError("too late")
        return make_plan(int(observation_O[0]))

    def act(
        self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str = "", *, deadline_s: float
    ) -> FloatArray:
        return np.zeros(9, np.float32)


def request(index: int, first: float) -> PlanRequest:
    observation = IDLE.copy()
    observation[0] = first
    goals = DOMAIN.task("kitchen").goals(0, 30)
    return PlanRequest(index=index, observation_O=observation, goals=goals, seed=0, warm_start_PZ=None)


def test_background_and_immediate_planning_give_the_same_outcomes() -> None:
    background = BackgroundPlanning(Echo(), 1.0)
    immediate = ImmediatePlanning(Echo(), 1.0)
    for index, first in enumerate([3.0, -1.0, 5.0]):
        immediate.submit(request(index, first))
        background.submit(request(index, first))
        here, there = immediate.take(), None
        while there is None:
            there = background.take()
        assert here is not None and there.index == here.index == index
        assert (there.plan is None) == (here.plan is None) == (first < 0)
    background.close()
