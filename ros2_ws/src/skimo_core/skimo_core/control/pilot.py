"""One arm flown through episodes, tick by tick: observation, skill loop, actuation, and what is told about it.

The same object flies a robot in the policy's node and a twin in process: state comes from callables, commands and news
go to callables, time is an argument. One `tick` per control period; it takes at most the action's deadline.

    idle -> resetting (waits for states newer than the start, arm at rest) -> preparing (first plan) -> running -> done
    running -> missed (one tick) -> held (two in a row, the gate's stop, an operator) -> running after `resume`
                                                                                       -> done after `cancel`

A tick counts as missed when no fresh action went out by `act_deadline_s` after its due time, holds included;
ticks that were slept through count too. Where the states are too old at the due time, newer ones are waited for a
little: after a pause of the whole machine they are on their way.

A command counts as applied once the gate has passed it on. One that it refused is recorded as not applied, with its
verdict; one on which it neither passed on nor said anything, too; two of these in a row mean that the gate is frozen
or gone, and hold. After some refusals in a row the arm goes back the way it came (`retrace`), and plans anew. An
episode in which the clock jumps, or whose sub-tasks are done before it begins, ends with that reason. Times s in the
arm's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..contract.errors import BackendError, DeadlineError, SkimoError, SpecError, StaleError
from ..contract.policy import FloatArray, Plan, PolicySpec, SkillPolicy
from ..contract.types import JointTrajectory, ObjectStates, RobotState, Verdict
from ..domain.cell import Contact
from ..domain.domain import Domain
from ..domain.robot import RobotLimits
from ..domain.tasks import Subtask, Task
from .actuate import Actuator, ActuatorConfig
from .clocks import JumpWatch
from .commander import Arm, Commander
from .doubt import Doubt, DoubtConfig
from .loop import LEAD_S, SkillLoop, Step, StepKind
from .observe import Observer
from .planning import PlanSource
from .recovery import Recovery, RecoveryConfig
from .reports import Episode, EpisodeNews, PolicyReport, StepRecord
from .retrace import Retrace, RetraceConfig

ACT_DEADLINE_PERIODS, ACT_DEADLINE_MAX_S = 0.5, 0.04
"""What is sent later after its due time is a missed tick; the gate refuses what is older than a little more."""
SEND_MARGIN_S = 0.002
STATE_WAIT_PERIODS = 0.25
"""How long after its due time a tick waits for states that are not too old; the rest is left for the action."""
SETTLE_S = 0.06
"""States must be newer than an episode's start by this much: what they are put together from may be this far apart."""
RESET_WAIT_S = 3.0
FIRST_PLAN_S = 3.0
"""Without a first plan by then the policy holds, and says what the planner said."""
SILENT_TO_HOLD = 2
"""So many commands in a row that the gate neither passed on nor refused, and it is taken for frozen or gone."""
REST_RAD_S = 0.05
UNDER_WAY = ("preparing", "running", "missed", "held")


def act_deadline_s(period_s: float) -> float:
    """How long after its due time an action may be sent."""
    return min(ACT_DEADLINE_PERIODS * period_s, ACT_DEADLINE_MAX_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who hears of it."""

    news: Callable[[EpisodeNews], None]
    record: Callable[[str, StepRecord], None]


@dataclass(slots=True)
class Timings:
    """Newest durations, ms, and the worst since the episode began."""

    act_ms: float = 0.0
    tick_late_ms: float = 0.0
    worst_tick_late_ms: float = 0.0
    worst_act_ms: float = 0.0


class Pilot:
    """Flies one arm.

    Args:
        policy: asked for actions, in the caller's thread.
        planning: where plans come from.
        noise: whether the domain's simulated sensor noise is added.
        jumps: notices when the clock jumps; None: nobody looks.
        config: how much of the robot's limits the policy may use; None: `ActuatorConfig`'s defaults.
        contact: how far and how hard the arm may be led against what is in its way (`Commander`); None: as it likes.
        doubt: when the policy's own promises are doubted, and what then; None: `DoubtConfig`'s defaults.
        retrace: when the arm goes back the way it came, and how far; None: `RetraceConfig`'s defaults.
        recovery: when plans are for the domain's recovery goal; None: `RecoveryConfig`'s defaults.
    """

    def __init__(
        self,
        domain: Domain,
        limits: RobotLimits,
        policy: SkillPolicy,
        planning: PlanSource,
        arm: Arm,
        audience: Audience,
        *,
        noise: bool = False,
        jumps: JumpWatch | None = None,
        config: ActuatorConfig | None = None,
        doubt: DoubtConfig | None = None,
        retrace: RetraceConfig | None = None,
        recovery: RecoveryConfig | None = None,
        contact: Contact | None = None,
    ) -> None:
        self.state = "idle"
        self.timings = Timings()
        self.gate_stopped_for = ""
        self.episode: Episode | None = None
        self._domain, self._policy, self._arm, self._audience, self._noise = domain, policy, arm, audience, noise
        self._jumps = jumps
        self._period_s = domain.action.period_s
        self._commander = Commander(limits, domain.action, arm, config, contact=contact)
        self._loop = SkillLoop(
            domain.task(),
            policy.spec.skill,
            self._act,
            planning,
            period_s=self._period_s,
            joints=domain.action.joints,
            lead_s=LEAD_S if domain.action.joints else 0.0,  # nothing but simulated time moves what has no arm
            recovery=Recovery(recovery_goal(domain, policy.spec), recovery),
        )
        self._doubt = Doubt(doubt)
        self._way_back = Retrace(domain.action, retrace)
        self._observer = self._make_observer(0)
        self._due_s = 0.0
        self._start_s = self._begun_s = 0.0
        self._last_failure = ""
        self._reason = ""
        self._plan: Plan | None = None
        self._plan_late = False
        self._late_before = 0
        self._last: StepRecord | None = None
        self._seen_O: FloatArray = np.zeros(domain.observation.size, np.float32)
        self._intervention: FloatArray | None = None
        self._intervened = False

    # --- what an operator or a caller asks --------------------------------------------------------------------------

    def start(self, episode: Episode, task: Task, now_s: float) -> None:
        """Begin an episode as soon as states newer than `now_s` show the arm at rest; all that was before is void.

        Raises:
            BackendError: an episode is held, which an operator resumes or cancels first; or the gate is stopped.
            SpecError: a goal lies beyond what the policy's data cover, or it was trained on another task alone.
        """
        self._refuse_if_held()
        self._refuse_if_stopped()
        self._domain.check_within(task, self._policy.spec.low_O, self._policy.spec.high_O)
        self._policy.spec.check_task([subtask.name for subtask in task.subtasks])
        if self.episode is not None and self.state not in ("idle", "done"):
            self._finish("superseded by a new episode")
        self.episode, self.state, self._reason = episode, "resetting", ""
        self._start_s = now_s
        if self._jumps is not None:
            self._jumps.restart()
        self._loop.start(seed=episode.seed, task=task)
        self._observer = self._make_observer(episode.seed)
        self.timings = Timings()
        self._doubt.clear()
        self._way_back.clear()
        self._plan, self._last = None, None
        self._intervention, self._intervened = None, False
        self._plan_late, self._late_before = False, 0

    def hold(self, reason: str) -> None:
        """Send nothing more until `resume`; what was sent last ends at rest."""
        if self.state in ("preparing", "running", "missed"):
            self._loop.hold(reason)

    def resume(self) -> None:
        """An operator's word: plan anew from here and go on with the episode.

        Raises:
            BackendError: the gate is stopped.
        """
        if self.state != "held":
            return
        self._refuse_if_stopped()
        if not self._intervened:  # who acted in the policy's place led the arm by the same path
            self._commander.take_where_it_is()
        self._intervened = False
        self._commander.forget_silence()
        self._way_back.clear()
        self._doubt.clear()
        self._loop.resume()
        self._reason, self.state = "", "running"

    def intervene(self, action_A: FloatArray) -> None:
        """A person's action [A] for the next tick, in place of the policy that is held.

        Raises:
            BackendError: nothing is held, or the gate is stopped.
            SpecError: no such action.
        """
        if self.state != "held":
            raise BackendError("nothing is held: hold the policy first (`skimo hold`), then act in its place")
        self._refuse_if_stopped()
        self._domain.action.check(action_A)
        self._intervention, self._intervened = action_A, True

    def cancel(self, reason: str) -> None:
        """End the episode and brake now."""
        if self.state in UNDER_WAY:
            self._commander.brake()
        if self.state not in ("idle", "done"):
            self._finish(reason)

    # --- what the gate answers --------------------------------------------------------------------------------------

    def confirm(self, trajectory: JointTrajectory) -> None:
        """Take note of what was really sent to the driver, and go on from there."""
        if self.state not in ("idle", "resetting", "done"):
            self._commander.confirm(trajectory)

    def note_verdict(self, verdict: Verdict, *, latched: bool, reasons: tuple[str, ...]) -> None:
        """Take note of a verdict of the gate; its stop holds the loop."""
        self._commander.note(verdict)
        self.gate_stopped_for = "; ".join(reasons) if latched else ""
        if latched:
            self.hold(f"the gate is stopped: {'; '.join(reasons)}")

    def note_foreign(self, reason: str) -> None:
        """Somebody else commands the arm: send nothing more until an operator has looked."""
        self.hold(reason)

    # --- the beat ---------------------------------------------------------------------------------------------------

    def tick(self, due_s: float, skipped: int = 0) -> bool:
        """One control period, due at `due_s`; `skipped` periods before it were slept through.

        Returns:
            Whether it is over. If not, states that are not too old are waited for: call again soon with the same
            `due_s` and without `skipped`.
        """
        if self.state in ("idle", "done"):
            return True
        if self._jumps is not None and (jump := self._jumps.words()):
            self._finish(f"{jump}; what was sent last ends at rest")
            return True
        if self.state == "resetting":
            self._await_reset()
            return True
        self._settle()
        period_s = self._period_s
        if self.state != "preparing":
            for missed in range(skipped, 0, -1):
                step = self._loop.miss(f"the tick was slept through ({skipped} periods); is the machine overloaded?")
                self._do(step, due_s - missed * period_s)
                if step.kind is StepKind.DONE:
                    return True
        seen = self._look()
        if (
            isinstance(seen, StaleError)
            and not self._loop.held_for
            and self._arm.clock() < due_s + STATE_WAIT_PERIODS * period_s
        ):
            return False
        self._due_s = due_s
        if self.state == "preparing" and due_s - self._begun_s > FIRST_PLAN_S:
            self._loop.hold(f"no first plan within {FIRST_PLAN_S:g} s; {self._last_failure or 'the server is silent'}")
        step = self._decide(seen)
        self._do(step, due_s)
        return True

    @property
    def actuator(self) -> Actuator:
        """Where the commanded path stands; for a model that imagines how it goes on from a copy."""
        return self._commander.actuator

    @property
    def hidden_objects(self) -> tuple[str, ...]:
        """Object channels that the tracker did not see the last time: their last values stand in."""
        return self._observer.hidden

    @property
    def speed(self) -> float:
        """Share of full speed at which the plan in force is carried out; 1 before there is one."""
        return self._plan.speed if self._plan is not None else 1.0

    def report(self) -> PolicyReport:
        """Where things stand."""
        episode, loop, plan = self.episode, self._loop, self._plan
        current = loop.progress.current
        timings = plan.timings_ms if plan is not None else {}
        return PolicyReport(
            state=self.state,
            reason=self._reason,
            episode_id=episode.episode_id if episode else "",
            task=episode.task if episode else "",
            subtask=current.name if episode and current else "",
            subtasks_done=loop.progress.done,
            subtasks_total=len(loop.task.subtasks) if episode else 0,
            step=loop.counts.steps,
            missed_ticks=loop.counts.missed,
            plan_index=loop.counts.plans,
            late_plans=loop.counts.late_plans,
            late=self._plan_late,
            doubt=self._doubt.words,
            bundle_id=plan.bundle_id if plan else self._policy.spec.bundle_id,
            skill_Z=plan.skills_PZ[0] if plan else None,
            value=plan.value if plan else float("nan"),
            success_probability=plan.success_probability if plan else float("nan"),
            predicted_PO=plan.predicted_PO if plan else None,
            candidates=plan.candidates if plan else None,
            plan_ms=timings.get("total", 0.0),
            queue_ms=timings.get("queue", 0.0),
            act_ms=self.timings.act_ms,
            tick_late_ms=self.timings.tick_late_ms,
        )

    # --- inside -----------------------------------------------------------------------------------------------------

    def _refuse_if_stopped(self) -> None:
        if self.gate_stopped_for:
            raise BackendError(f"the gate is stopped ({self.gate_stopped_for}); reset it first: `skimo reset`")

    def _refuse_if_held(self) -> None:
        if self._loop.held_for and self.state in UNDER_WAY:
            raise BackendError(
                f"held: {self._loop.held_for}; `skimo reset` goes on with it, or `skimo start --anew` drops it"
            )

    def _make_observer(self, seed: int) -> Observer:
        return Observer(
            self._domain.observation,
            tracking=self._domain.tracking,
            max_age_s=self._period_s,
            noise=self._domain.noise if self._noise else None,
            rng=np.random.default_rng(np.random.SeedSequence([seed, 1])),
        )

    def _await_reset(self) -> None:
        now_s = self._arm.clock()
        try:
            robot, objects = self._arm.robot(), self._objects()
            fresh = min(robot.stamp_s, objects.stamp_s) > self._start_s + SETTLE_S
            waits_for = "states newer than the reset" if not fresh else "the arm to come to rest"
            if fresh and np.abs(robot.dq_rad_s).max(initial=0.0) < REST_RAD_S:
                self._begin(robot, objects, now_s)
                return
        except SkimoError as error:
            waits_for = str(error)
        if now_s - self._start_s > RESET_WAIT_S:
            self._finish(f"waited {RESET_WAIT_S:g} s for {waits_for}")

    def _begin(self, robot: RobotState, objects: ObjectStates, now_s: float) -> None:
        self._seen_O = self._observer.observe(robot, objects, now_s)
        spec = self._domain.observation
        done = self._loop.task.done_before(self._seen_O, spec.joints + spec.fingers)
        if done:
            self._finish(
                f"already done at the start: {', '.join(done)}; put the scene back (twin/reset) first, or start with a "
                "task that leaves them out"
            )
            return
        self._commander.reset(robot.reference_q_rad, now_s)
        self._begun_s, self._last_failure = now_s, ""
        self.state = "preparing"
        self._tell("start")
        if self.gate_stopped_for:
            self._loop.hold(f"the gate is stopped: {self.gate_stopped_for}")

    def _objects(self) -> ObjectStates:
        """The newest object states; none are waited for where the domain has no objects."""
        if self._domain.observation.objects:
            return self._arm.objects()
        return ObjectStates(stamp_s=self._arm.clock(), names=(), values=np.zeros(0))

    def _look(self) -> FloatArray | SkimoError:
        """The observation of this moment, or why there is none."""
        try:
            return self._observer.observe(self._arm.robot(), self._objects(), self._arm.clock())
        except SkimoError as error:
            return error

    def _decide(self, seen: FloatArray | SkimoError) -> Step:
        action_A, self._intervention = self._intervention, None
        if isinstance(seen, SkimoError):
            return self._loop.miss(str(seen))
        self._seen_O = seen
        done = self._loop.progress.done
        step = self._next(seen) if action_A is None else self._loop.intervene(seen, action_A)
        for k in range(done, self._loop.progress.done):
            self._tell("subtask", subtask=self._loop.task.subtasks[k].name, success=True, subtasks_done=k + 1)
            self._way_back.moved_on()
        return step

    def _next(self, seen_O: FloatArray) -> Step:
        """What the loop decides, unless the arm is on its way back."""
        if self._loop.held_for:
            return self._loop.step(seen_O)
        back_A = self._way_back.action(self._commander.actuator.commanded(self._due_s)[0])
        if back_A is None or self._plan is None:
            return self._loop.step(seen_O)
        try:  # the answer is not needed, but that there is one: an arm whose policy is gone comes to rest, here too
            self._act(seen_O, self._plan.skills_PZ[0], self._plan.bundle_id)
        except SkimoError as error:
            return self._loop.miss(str(error))
        return self._loop.retrace(seen_O, back_A, self._way_back.left, self._way_back.reason)

    def _act(self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str) -> FloatArray:
        """Ask for an action within what is left of the tick; raises DeadlineError when there is nothing left."""
        asked_s = self._arm.clock()
        deadline_s = act_deadline_s(self._period_s)
        left_s = self._due_s + deadline_s - SEND_MARGIN_S - asked_s
        if left_s <= SEND_MARGIN_S:
            raise DeadlineError(
                f"the tick began {1e3 * (asked_s - self._due_s):.0f} ms late; is the machine overloaded?"
            )
        action_A = self._policy.act(observation_O, skill_Z, bundle_id, deadline_s=left_s)
        now_s = self._arm.clock()
        self.timings.act_ms = 1e3 * (now_s - asked_s)
        self.timings.worst_act_ms = max(self.timings.worst_act_ms, self.timings.act_ms)
        if now_s > self._due_s + deadline_s:
            late_ms, bound_ms = 1e3 * (now_s - self._due_s), 1e3 * deadline_s
            raise DeadlineError(f"the action came {late_ms:.0f} ms after the tick was due, bound {bound_ms:.0f} ms")
        self._domain.action.check(action_A)
        return action_A

    def _do(self, step: Step, due_s: float) -> None:
        """Record the step before (what became of its command is known now), then carry this one out."""
        self._record_last()
        self._execute(step)
        self._conclude(step, due_s)

    def _execute(self, step: Step) -> None:
        """Send the action if there is one."""
        if step.action_A is None:
            return
        self._commander.send(step.action_A, self._due_s)
        late_ms = 1e3 * (self._arm.clock() - self._due_s)
        self.timings.tick_late_ms = late_ms
        self.timings.worst_tick_late_ms = max(self.timings.worst_tick_late_ms, late_ms)

    def _conclude(self, step: Step, due_s: float) -> None:
        """Bookkeeping after a decision: plan, state, and what is to be recorded of it at the next."""
        self._reason = step.reason
        self._last_failure = step.reason or self._last_failure
        if step.new_plan is not None:
            self._plan = step.new_plan
            self._plan_late = self._loop.counts.late_plans > self._late_before
            self._late_before = self._loop.counts.late_plans
            self._weigh(step.new_plan)
        if step.kind is not StepKind.PREPARE:
            index = self._loop.counts.steps - (0 if step.kind is StepKind.DONE else 1)
            self._last = StepRecord(
                index=index,
                due_s=due_s,
                step=step,
                observation_O=self._seen_O,
                applied_A=None,
                verdict=Verdict.PASS,
            )
        self.state = _STATES[step.kind] if not self._loop.held_for else "held"
        if step.kind is StepKind.DONE:
            task = self._loop.task
            unfinished = "" if self._loop.progress.finished else f"the step limit {task.step_limit} was reached"
            self._finish(unfinished, success=self._loop.progress.finished)

    def _weigh(self, plan: Plan) -> None:
        """Say so where plans promise too little, or too much."""
        current = self._loop.progress.current
        if current is not None and self._doubt.note(current.name, plan):
            self._tell("doubt", subtask=current.name, detail=self._doubt.words)
            if self._doubt.config.hold:
                self.hold(f"in doubt: {self._doubt.words}")

    def _record_last(self) -> None:
        """Record the step before: what the arm was told in it is read off the path, whatever the gate made of it."""
        fate = self._commander.fate()
        if self._last is not None and self.episode is not None:
            last, step, verdict = self._last, self._last.step, fate.verdict
            applied_A = None if step.kind is StepKind.DONE else self._commander.applied(last.due_s)
            if step.action_A is not None and not fate.passed_on:
                verdict = max(verdict, Verdict.HOLD)
                step = replace(step, reason=step.reason or "the gate did not pass this command on")
            told_rad, _ = self._commander.actuator.commanded(last.due_s + self._period_s)
            refused = verdict is Verdict.HOLD and step.kind in _REFUSABLE
            self._way_back.note(told_rad, refused=refused)
            record = replace(last, step=step, applied_A=applied_A, verdict=verdict)
            self._audience.record(self.episode.episode_id, record)
        self._last = None

    def _finish(self, detail: str, *, success: bool = False) -> None:
        self._record_last()
        self.state, self._reason = "done", detail
        self._tell("end", success=success, detail=detail)

    def _tell(self, kind: str, *, subtasks_done: int | None = None, **details: object) -> None:
        assert self.episode is not None
        counts = self._loop.counts
        self._audience.news(
            EpisodeNews(
                kind=kind,
                stamp_s=self._arm.clock(),
                episode=self.episode,
                subtasks_done=self._loop.progress.done if subtasks_done is None else subtasks_done,
                steps=counts.steps,
                missed_ticks=counts.missed,
                **details,  # type: ignore[arg-type]
            )
        )

    def _settle(self) -> None:
        """A command that the gate did not pass on by the next tick was refused: the one before it still runs."""
        silent = self._commander.settle()
        if silent >= SILENT_TO_HOLD:
            self._loop.hold(
                f"the gate passed on none of the last {silent} commands and gave no verdict; is gate_node alive?"
            )


def recovery_goal(domain: Domain, spec: PolicySpec) -> Subtask | None:
    """What this policy can plan for where nothing else helps; None: the domain says nothing, or the policy can't."""
    if not domain.recovery:
        return None
    task = domain.task(domain.recovery)
    try:
        domain.check_within(task, spec.low_O, spec.high_O)
        spec.check_task([subtask.name for subtask in task.subtasks])
    except SpecError:
        return None
    return task.subtasks[0]


_STATES = {
    StepKind.PREPARE: "preparing",
    StepKind.ACT: "running",
    StepKind.MISSED: "missed",
    StepKind.HOLD: "running",
    StepKind.INTERVENE: "held",
    StepKind.RETRACE: "running",
    StepKind.DONE: "done",
}
"""HOLD without `held_for` is the wait for a late plan; it ends by itself."""
_REFUSABLE = (StepKind.ACT, StepKind.RETRACE)
"""Commands that the gate may refuse so often that the arm goes back; what a person sends is the person's affair."""
