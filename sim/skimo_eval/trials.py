"""One episode of a policy in a twin, in simulated time: the in-process counterpart of the ROS stack.

The same parts run here as in the nodes (Observer, SkillLoop, Actuator); only the clock and the transport differ.
Success is counted on the twin's truth (no observation noise), progress inside the loop on what the policy sees.
Units s, rad, ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from skimo_core.contract.backend import Backend
from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import FloatArray, Plan, SkillPolicy
from skimo_core.control.actuate import Actuator
from skimo_core.control.loop import SkillLoop, Step, StepKind
from skimo_core.control.observe import Observer
from skimo_core.control.planning import ImmediatePlanning
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.domain.tasks import Domain, Progress, Task

PLAN_DEADLINE_S = 30.0
ACT_DEADLINE_S = 5.0


class Twin(Backend, Protocol):
    """What a rollout needs of a simulated backend."""

    def reset(self, task: str, seed: int) -> None: ...

    def advance(self, dt_s: float) -> None: ...


@runtime_checkable
class WatchingPolicy(Protocol):
    """A policy that may look at the twin before each step, as a planner with the twin as its model must."""

    def watch(self, twin: Twin, actuator: Actuator) -> None: ...


@dataclass(slots=True, kw_only=True)
class PlanRecord:
    """A plan against what came of it.

    Attributes:
        step: when it took effect.
        subtask: what it was meant to do.
        value, success_probability: the planner's expectation.
        predicted_O, reached_O: observation expected and seen one skill later.
        achieved: whether the sub-task was complete within the plan's length of skills, once known.
        plan_ms: planning time.
    """

    step: int
    subtask: str
    value: float
    success_probability: float
    predicted_O: FloatArray
    reached_O: FloatArray | None = None
    achieved: bool = False
    plan_ms: float = 0.0


@dataclass(slots=True, kw_only=True)
class EpisodeResult:
    """What happened in one episode.

    Attributes:
        seed: of the twin, the noise and the planner.
        task: its sub-tasks in order.
        completed_at: for each sub-task completed in order, the control step.
        steps, missed, late_plans: counts of the loop.
        plans: each plan against its outcome.
        error: why the episode ended early, if it did.
    """

    seed: int
    task: tuple[str, ...]
    completed_at: list[int] = field(default_factory=list)
    steps: int = 0
    missed: int = 0
    late_plans: int = 0
    plans: list[PlanRecord] = field(default_factory=list)
    error: str = ""

    @property
    def subtasks_done(self) -> int:
        return len(self.completed_at)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a result file; the plans are summarised elsewhere."""
        data = asdict(self)
        del data["plans"]
        return data


def truth(domain: Domain, twin: Backend) -> FloatArray:
    """The observation [O] without noise."""
    observer = Observer(domain.observation, max_age_s=np.inf)
    return observer.observe(twin.read(), twin.read_objects(), twin.now_s())


def run_episode(
    twin: Twin,
    policy: SkillPolicy,
    domain: Domain,
    task: Task,
    seed: int,
    *,
    limits: RobotLimits | None = None,
    on_step: Callable[[int, Step, npt.NDArray[np.float32]], None] | None = None,
) -> EpisodeResult:
    """Run `task` once from the reset state of `seed`.

    Args:
        on_step: called with (step, the loop's decision, the noisy observation) before the twin moves.

    Raises:
        SpecError: the policy was made for other channels, units, scale or rate than the domain's.
    """
    if unfit := policy.spec.unfit_for(domain.observation, domain.action):
        raise SpecError(f"bundle {policy.spec.bundle_id[:12]}: its {unfit}; take one made for this robot and scene")
    limits = limits or load_limits("panda")
    twin.reset(task.name, seed)
    observer = Observer(
        domain.observation,
        max_age_s=domain.action.period_s,
        noise=domain.noise,
        rng=np.random.default_rng(np.random.SeedSequence([seed, 1])),
    )
    actuator = Actuator(limits, domain.action)
    actuator.reset(twin.read().q_rad, twin.now_s())
    loop = SkillLoop(
        task,
        policy.spec.skill,
        lambda o, z: policy.act(o, z, deadline_s=ACT_DEADLINE_S),
        ImmediatePlanning(policy, PLAN_DEADLINE_S),
    )
    loop.start(seed=seed)
    result = EpisodeResult(seed=seed, task=tuple(s.name for s in task.subtasks))
    audit = _Audit(result, policy.spec.skill.plan_length * policy.spec.skill.horizon, policy.spec.skill.horizon)
    real = Progress(task)
    while True:
        seen_truth = truth(domain, twin)
        result.completed_at += [loop.counts.steps] * real.update(seen_truth)
        observation = observer.observe(twin.read(), twin.read_objects(), twin.now_s())
        if isinstance(policy, WatchingPolicy):
            policy.watch(twin, actuator)
        step = loop.step(observation)
        audit.note(loop.counts.steps, step, seen_truth, loop.progress.done, task)
        if on_step is not None:
            on_step(loop.counts.steps, step, observation)
        if step.kind is StepKind.DONE or loop.held_for:
            result.error = loop.held_for
            break
        if step.kind is StepKind.ACT and step.action_A is not None:
            twin.write(actuator.command(step.action_A, twin.now_s()))
        twin.advance(domain.action.period_s)
    result.steps, result.missed, result.late_plans = loop.counts.steps, loop.counts.missed, loop.counts.late_plans
    return result


class _Audit:
    """Fills an episode's plan records: what was expected, what was reached, whether success came."""

    def __init__(self, result: EpisodeResult, plan_steps: int, horizon: int) -> None:
        self._result = result
        self._plan_steps = plan_steps
        self._horizon = horizon

    def note(self, step_index: int, step: Step, truth_O: FloatArray, done: int, task: Task) -> None:
        for record in self._result.plans:
            if record.reached_O is None and step_index - record.step >= self._horizon:
                record.reached_O = truth_O
            subtask = next(s for s in task.subtasks if s.name == record.subtask)
            if step_index - record.step <= self._plan_steps and bool(subtask.complete(truth_O)):
                record.achieved = True
        if step.new_plan is not None and done < len(task.subtasks):
            self._result.plans.append(_record(step_index, task.subtasks[done].name, step.new_plan))


def _record(step: int, subtask: str, plan: Plan) -> PlanRecord:
    return PlanRecord(
        step=step,
        subtask=subtask,
        value=plan.value,
        success_probability=plan.success_probability,
        predicted_O=plan.predicted_PO[0],
        plan_ms=plan.timings_ms.get("total", 0.0),
    )
