"""The control loop's bookkeeping: which skill runs, when the next plan is asked, what happens when one is late.

One `SkillLoop.step` per control period takes the newest observation and says what to do: send an action, hold, or
end. The same object drives in-process runs and the ROS policy node, so that both behave alike.

  step of a skill   0 1 2 ... H-2 H-1 | 0 1 ...
  next plan                   asked     takes effect       (asked as early as plans take, `lead_steps`; without a
                                                           lead at the boundary itself, where time stands still)
  late plan         the current skill goes on for at most one more H, then the arm holds until a plan comes
  late action       the step is missed; the trajectory sent before ends at rest by itself
  two in a row      the loop holds until an operator resumes it, and says why
  another bundle    its first plan takes effect at a boundary; the skill under way ends with the bundle that planned it
  a slow plan       its skill lasts H steps like any other; the joints' part of each action is multiplied by its speed
  a way back        no skill runs; the next plan is asked as early before the way ends as before a skill does
  many plans        in vain: the next are for the recovery goal, and promise nothing (`recovery`)

An operator may take as long as it takes: steps spent held have numbers like all others and count as missed, but use
up nothing of the task's step limit. Nor do those in which a person acts in the policy's place (`intervene`), which are
no misses either.

Task progress comes from observations alone. Time does not appear here: the caller keeps the rate.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..contract.errors import SkimoError
from ..contract.policy import FloatArray, Plan
from ..contract.specs import SkillSpec
from ..domain.tasks import Progress, Task
from .planning import PlanOutcome, PlanRequest, PlanSource
from .recovery import Recovery

LEAD_S = 0.16
LEAD_MARGIN = 1.3
"""Plans that now and then took so long are asked this much earlier: the next may take a little longer still."""

Act = Callable[[FloatArray, FloatArray, str], FloatArray]
"""Maps an observation [O], a skill [Z] and the id of the bundle whose skill it is to an action [A]; raises PolicyError
when late."""


class StepKind(enum.Enum):
    """What the caller is to do in this control period."""

    PREPARE = "prepare"
    """Nothing yet: the first plan of the episode is being made; the arm is at rest."""
    ACT = "act"
    """Send the action."""
    MISSED = "missed"
    """Send nothing; the last trajectory ends at rest by itself."""
    HOLD = "hold"
    """Keep the arm at rest."""
    INTERVENE = "intervene"
    """Send the action, a person's in the policy's place."""
    RETRACE = "retrace"
    """Send the action, back along the way that the arm came: the gate refused too many of the policy's."""
    DONE = "done"
    """The episode is over; keep the arm at rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The loop's decision for one control period.

    Attributes:
        kind: what to do.
        action_A: the action if `kind` is ACT, INTERVENE or RETRACE.
        skill_Z: the skill that runs, if any.
        bundle_id: whose skill that is; empty where none runs.
        step_in_skill: how many steps it has run before this one.
        reward: sub-tasks completed by this observation.
        reason: why nothing is sent, why the arm goes back, or why no plan is for the sub-task.
        new_plan: the plan that takes effect with this step, if one does.
        recovering: whether the skill that runs is of a plan for the recovery goal.
    """

    kind: StepKind
    action_A: FloatArray | None = None
    skill_Z: FloatArray | None = None
    bundle_id: str = ""
    step_in_skill: int = 0
    reward: int = 0
    reason: str = ""
    new_plan: Plan | None = None
    recovering: bool = False


@dataclass(slots=True)
class LoopCounts:
    """What happened in an episode so far; `missed` counts holds too, and `held` those that waited for `resume`."""

    steps: int = 0
    missed: int = 0
    held: int = 0
    plans: int = 0
    late_plans: int = 0


class SkillLoop:
    """Runs one task, episode after episode.

    Args:
        task: what is to be done; its `step_limit` ends an episode, steps spent held left out.
        spec: H and Z of the policy.
        act: asks the skill policy for an action within its deadline.
        planning: where plans come from.
        misses_to_hold: consecutive missed actions after which the loop holds until resumed.
        period_s: of the control steps.
        joints: how many leading dimensions of an action move joints; None: all.
        lead_s: how long before a skill's end the next plan is asked at least; 0: at its end, from what is seen there,
            for planning that takes no time.
        recovery: when plans are for something else; None: never.
    """

    def __init__(
        self,
        task: Task,
        spec: SkillSpec,
        act: Act,
        planning: PlanSource,
        *,
        misses_to_hold: int = 2,
        period_s: float = 0.08,
        joints: int | None = None,
        lead_s: float = LEAD_S,
        recovery: Recovery | None = None,
    ) -> None:
        self.task = task
        self._spec = spec
        self._act = act
        self._planning = planning
        self._misses_to_hold = misses_to_hold
        self._period_s = period_s
        self._joints = joints
        self._lead_s = lead_s
        self._recovery = recovery or Recovery()
        self.start(seed=0)

    def start(self, *, seed: int, task: Task | None = None) -> None:
        """Begin an episode: older plans are void, progress and warm start are cleared."""
        self.task = task or self.task
        self.progress = Progress(self.task)
        self.counts = LoopCounts()
        self._seed = seed
        self._index = 0
        self._set_out()
        self._recovering = self._next_recovers = False
        self._pending = False
        self._skill: FloatArray | None = None
        self._bundle_id = ""
        self._speed = 1.0
        self._warm_start: FloatArray | None = None
        self._next: Plan | None = None
        self._step_in_skill = 0
        self._misses = 0
        self._late = False
        self._held_for = ""
        self._planning.clear()

    @property
    def lead_steps(self) -> int:
        """How many steps before a skill's end the next plan is asked: `lead_s`, or longer where plans take longer."""
        if not self._lead_s:
            return 0
        wanted_s = max(self._lead_s, LEAD_MARGIN * self._planning.took_s)
        return min(max(2, math.ceil(wanted_s / self._period_s - 1e-9)), self._spec.horizon - 1)

    @property
    def held_for(self) -> str:
        """Why the loop waits for `resume`; empty when it does not."""
        return self._held_for

    def hold(self, reason: str) -> None:
        """Hold from the next step on until `resume`."""
        self._held_for = self._held_for or reason

    def resume(self) -> None:
        """An operator's reset: plan anew from the next observation and go on with the same episode."""
        self._held_for, self._misses = "", 0
        self._set_out()
        self._drop_skill()

    def step(self, observation_O: FloatArray) -> Step:
        """Take the newest observation [O]; decide."""
        reward = self._see(observation_O)
        if self._over():
            return Step(kind=StepKind.DONE, reward=reward)
        if self._held_for:
            return self._wait(reward)
        why = self._collect()
        if not self._lead_s and self._skill is not None and self._step_in_skill >= self._spec.horizon:
            self._ask(observation_O)
            why = self._collect() or why
        new_plan = self._advance()
        if self._skill is None:
            self._ask(observation_O)
            return self._without_skill(observation_O, why, reward)
        if self._step_in_skill >= self._spec.horizon - self.lead_steps and self._next is None:
            self._ask(observation_O)
        if self._step_in_skill >= 2 * self._spec.horizon:
            reason = (
                f"no plan {self._step_in_skill} steps after the skill began (bound {2 * self._spec.horizon}); {why}"
            )
            return self._missed(StepKind.HOLD, reason, reward)
        return self._send(observation_O, reward, new_plan)

    def miss(self, reason: str) -> Step:
        """A control period without a usable observation: counts as a missed action, for the same reasons."""
        if self._over():
            return Step(kind=StepKind.DONE)
        if self._held_for:
            return self._wait(0)
        return self._note_miss(reason, 0)

    def intervene(self, observation_O: FloatArray, action_A: FloatArray) -> Step:
        """A control period of a held loop in which a person acts, with the newest observation [O]."""
        reward = self._see(observation_O)
        if self._over():
            return Step(kind=StepKind.DONE, reward=reward)
        self.counts.steps += 1
        self.counts.held += 1
        return Step(kind=StepKind.INTERVENE, action_A=action_A, reward=reward)

    def retrace(self, observation_O: FloatArray, action_A: FloatArray, left: int, reason: str) -> Step:
        """A control period on the way back, with the newest observation [O]; `left` more are to come."""
        reward = self._see(observation_O)
        if self._over():
            return Step(kind=StepKind.DONE, reward=reward)
        if self._skill is not None:
            self._drop_skill()
        if left < self.lead_steps:
            self._ask(observation_O)
        self._misses = 0
        self.counts.steps += 1
        return Step(kind=StepKind.RETRACE, action_A=action_A, reward=reward, reason=reason)

    def _see(self, observation_O: FloatArray) -> int:
        """Sub-tasks completed by the newest observation [O]; whoever did it, what is open now is begun anew."""
        reward = self.progress.update(observation_O)
        if reward:
            self._set_out()
        return reward

    def _set_out(self) -> None:
        """No plan has been spent on what is to be done now."""
        self._spent = 0
        self._recovery.clear()

    def _drop_skill(self) -> None:
        """The next skill is one that is planned from where the arm is then."""
        self._skill = self._next = self._warm_start = None
        self._bundle_id = ""
        self._pending = False
        self._planning.clear()

    def _over(self) -> bool:
        return self.progress.finished or self.counts.steps - self.counts.held >= self.task.step_limit

    def _send(self, observation_O: FloatArray, reward: int, new_plan: Plan | None) -> Step:
        assert self._skill is not None
        try:
            action_A = self._act(observation_O, self._skill, self._bundle_id)
        except SkimoError as error:
            return self._note_miss(str(error), reward)
        self._misses = 0
        step = Step(
            kind=StepKind.ACT,
            action_A=_slowed(action_A, self._joints, self._speed),
            skill_Z=self._skill,
            bundle_id=self._bundle_id,
            step_in_skill=self._step_in_skill,
            reward=reward,
            reason=self._recovery.reason if self._recovering else "",
            new_plan=new_plan,
            recovering=self._recovering,
        )
        self.counts.steps += 1
        self._step_in_skill += 1
        return step

    def _without_skill(self, observation_O: FloatArray, why: str, reward: int) -> Step:
        """No skill runs: at an episode's start, or after a reset. A plan made at once starts at once."""
        failure = self._collect() or why
        new_plan = self._advance()
        if new_plan is not None:
            return self._send(observation_O, reward, new_plan)
        if self.counts.steps == 0:
            return Step(kind=StepKind.PREPARE, reward=reward, reason=failure)
        return self._missed(StepKind.HOLD, failure or "waiting for a plan", reward)

    def _note_miss(self, reason: str, reward: int) -> Step:
        self._misses += 1
        if self._misses >= self._misses_to_hold:
            self.hold(f"{self._misses} actions missed in a row: {reason}")
            return self._missed(StepKind.HOLD, self._held_for, reward)
        self._step_in_skill += 1
        return self._missed(StepKind.MISSED, reason, reward)

    def _wait(self, reward: int) -> Step:
        """Held since before this step."""
        self.counts.held += 1
        return self._missed(StepKind.HOLD, self._held_for, reward)

    def _missed(self, kind: StepKind, reason: str, reward: int) -> Step:
        self.counts.steps += 1
        self.counts.missed += 1
        return Step(
            kind=kind,
            skill_Z=self._skill,
            bundle_id=self._bundle_id,
            step_in_skill=self._step_in_skill,
            reward=reward,
            reason=reason,
        )

    def _ask(self, observation_O: FloatArray) -> None:
        if self._pending:
            return
        self._pending = True
        seed = int(np.random.SeedSequence([self._seed, self._index]).generate_state(1)[0])
        current, size = self.progress.current, len(observation_O)
        recovers = current is not None and self._recovery.due(observation_O, current)
        self._next_recovers = recovers
        request = PlanRequest(
            index=self._index,
            observation_O=observation_O,
            goals=self._recovery.goals(size) if recovers else self.task.goals(self.progress.done, size),
            seed=seed,
            warm_start_PZ=self._warm_start if recovers == self._recovering else None,
            warm_start_of=self._bundle_id,
            spent=self._spent,
        )
        self._index += 1
        self._planning.submit(request)

    def _collect(self) -> str:
        """Take a finished plan; return why there is none if planning failed (it is asked again)."""
        outcome: PlanOutcome | None = self._planning.take() if self._pending else None
        if outcome is None or outcome.index != self._index - 1:
            return ""
        self._pending = False
        if outcome.plan is None:
            return str(outcome.error)
        self._next = outcome.plan
        return ""

    def _advance(self) -> Plan | None:
        """At a skill's end (or without one) let the next plan take effect, if it is there."""
        at_end = self._skill is None or self._step_in_skill >= self._spec.horizon
        if at_end and self._next is None and self._skill is not None and not self._late:
            self._late = True
            self.counts.late_plans += 1
        if not at_end or self._next is None:
            return None
        plan, self._next, self._late = self._next, None, False
        self._skill, self._bundle_id, self._step_in_skill = plan.skills_PZ[0], plan.bundle_id, 0
        self._speed = plan.speed
        self._warm_start = plan.warm_start_PZ
        self.counts.plans += 1
        self._recovering = self._next_recovers
        self._recovery.took_effect(recovering=self._recovering)
        if self._recovering:
            return replace(plan, success_probability=math.nan, calibration=None)
        self._spent += 1
        return plan if plan.calibration is None else plan.calibration(plan, self._spent - 1)


def _slowed(action_A: FloatArray, joints: int | None, speed: float) -> FloatArray:
    """The action with its joints at a share of their speed; fingers as they are, whose numbers are intents."""
    slowed_A = action_A.copy()
    slowed_A[:joints] *= np.float32(speed)
    return slowed_A
