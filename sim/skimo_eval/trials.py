"""One episode of a policy in a twin, in simulated time: the in-process counterpart of the ROS stack.

The policy node's own pilot flies the arm, behind the gate's own checks and limits, on a clock that the twin moves on:
observation, plan-ahead, actuation, confirmations, misses and holds are the same objects as there. Only the transport
differs, and the time that planning takes, which here is none. Success is counted on the twin's truth (no observation
noise, and no sensor that is off or late) until the arm is at rest, progress inside the loop on what the policy sees.
Units s, rad, ms.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import BackendError, SimulationError, SpecError
from skimo_core.contract.policy import FloatArray, Plan, SkillPolicy
from skimo_core.contract.types import JointCommand, Verdict
from skimo_core.control.actuate import ActuatorConfig
from skimo_core.control.commander import Arm
from skimo_core.control.doubt import DoubtConfig
from skimo_core.control.loop import StepKind
from skimo_core.control.observe import Observer
from skimo_core.control.pilot import Audience, Pilot
from skimo_core.control.planning import ImmediatePlanning
from skimo_core.control.reports import Episode, EpisodeNews, PolicyReport, StepRecord
from skimo_core.control.rigged import in_time
from skimo_core.domain.cell import Cell
from skimo_core.domain.domain import Domain
from skimo_core.domain.rig import BARE, Rig
from skimo_core.domain.robot import RobotLimits
from skimo_core.domain.tasks import Progress, Task
from skimo_core.safety.armless import gate_for
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend
from skimo_core.safety.situation import GateConfig, gate_in_time
from skimo_sim.impaired import actual

PLAN_DEADLINE_S = 30.0
SETTLE_S = 0.5
"""From the episode's end until the arm is at rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Where trials happen: a domain, its robot in its cell, and the twin that simulates them.

    Attributes:
        limits: on true joint angles.
        twin: seen through the rig.
        rig: what the policy's side knows of the cell; `BARE`: nothing.
    """

    domain: Domain
    limits: RobotLimits
    cell: Cell
    twin: SimulatedBackend
    rig: Rig = BARE

    def gate(self) -> Gate:
        """A new gate of this arm in its cell."""
        return gate_for(self.limits, gate_in_time(GateConfig(), self.rig), cell=self.cell)


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
        spent: plans that took effect for the same sub-task before it.
        predicted_success: the model's, where the planner's is calibrated.
    """

    step: int
    subtask: str
    value: float
    success_probability: float
    predicted_O: FloatArray
    reached_O: FloatArray | None = None
    achieved: bool = False
    plan_ms: float = 0.0
    spent: int = 0
    predicted_success: float = np.nan


@dataclass(slots=True, kw_only=True)
class EpisodeResult:
    """What happened in one episode.

    Attributes:
        seed: draws the start, sensor noise and the planner's dice.
        task: its sub-tasks in order.
        completed_at: for each sub-task completed in order, the control step.
        steps, missed, late_plans: counts of the loop.
        helps, helped_steps: how often somebody acted in the policy's place, and for how long.
        doubts: how often the plans' promises came to be doubted (skimo_core.control.doubt).
        retraced: control steps back along the way that the arm came (skimo_core.control.retrace).
        recovered: control steps in which plans were for the recovery goal (skimo_core.control.recovery).
        verdicts: the gate's on commands other than PASS, by name; `stops` of them latched.
        plans: each plan against its outcome.
        error: why the episode ended early, if it did.
    """

    seed: int
    task: tuple[str, ...]
    completed_at: list[int] = field(default_factory=list)
    steps: int = 0
    missed: int = 0
    late_plans: int = 0
    helps: int = 0
    helped_steps: int = 0
    doubts: int = 0
    retraced: int = 0
    recovered: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    stops: int = 0
    plans: list[PlanRecord] = field(default_factory=list)
    error: str = ""

    @property
    def subtasks_done(self) -> int:
        return len(self.completed_at)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a result file; of each plan, the success that it predicted and whether that came true."""
        data = asdict(self)
        del data["plans"]
        said = [round(p.success_probability, 4) for p in self.plans]
        came = [int(p.achieved) for p in self.plans]
        return data | {"subtasks_done": self.subtasks_done, "predicted_success": said, "came_true": came}


class Helper(Protocol):
    """Who acts in a policy's place, a sub-task at a time."""

    def begin(self, subtask: str, seed: int) -> None:
        """Take a sub-task over; `seed` draws how it is done."""
        ...

    def act(self) -> FloatArray | None:
        """The next action [A]; None to give up."""
        ...


def truth(domain: Domain, twin: SimulatedBackend) -> FloatArray:
    """The observation [O] without noise, by sensors that are neither off nor late."""
    observer, twin = Observer(domain.observation, max_age_s=np.inf), actual(twin)
    return observer.observe(twin.read(), twin.read_objects(), twin.now_s())


class Trial:
    """One episode under way: call `step` until it is over.

    Args:
        lab: where; its twin is reset.
        policy: flown.
        gate: None: the lab's own, new.
        helper: who acts in the policy's place where it holds because its promises are in doubt; None: nobody.
        doubt: when they are, and whether it then holds; None: `DoubtConfig`'s defaults.

    Raises:
        SpecError: the policy was made for another domain, other channels, units, scale or rate.
    """

    def __init__(
        self,
        lab: Lab,
        policy: SkillPolicy,
        task: Task,
        seed: int,
        gate: Gate | None = None,
        helper: Helper | None = None,
        doubt: DoubtConfig | None = None,
    ) -> None:
        domain = lab.domain
        if unfit := policy.spec.unfit_for(domain.observation, domain.action, domain.named):
            raise SpecError(f"bundle {policy.spec.bundle_id[:12]}: its {unfit}; take one made for this robot and scene")
        self.lab, self.task = lab, task
        self.result = EpisodeResult(seed=seed, task=tuple(s.name for s in task.subtasks))
        self.records: list[StepRecord] = []
        self.truths: list[FloatArray] = []
        self._skill = policy.spec.skill
        self._decisions: list[Decision] = []
        self.arm = GatedBackend(lab.twin, gate or lab.gate(), self._decisions.append)
        self.arm.reset(task.name, seed)
        self.pilot = Pilot(
            domain,
            lab.limits,
            policy,
            ImmediatePlanning(policy, PLAN_DEADLINE_S),
            Arm(robot=self.arm.read, objects=self.arm.read_objects, send=self._send, clock=self.arm.now_s),
            Audience(news=self._hear, record=lambda _, record: self.records.append(record)),
            noise=True,
            config=in_time(ActuatorConfig(), lab.rig),
            contact=lab.cell.contact,
            doubt=doubt,
        )
        self._helper, self._helping, self._given_up = helper, "", False
        self._real = Progress(task)
        episode = Episode(
            episode_id=f"trial-{seed}",
            task=task.name,
            subtasks=self.result.task,
            seed=seed,
            bundle_id=policy.spec.bundle_id,
        )
        self.pilot.start(episode, task, self.arm.now_s())

    def step(self) -> bool:
        """One control period; returns whether the episode goes on."""
        self._deliver()
        seen_O = truth(self.lab.domain, self.lab.twin)
        report = self.pilot.report()
        if report.state not in ("resetting", "idle"):
            self.result.completed_at += [report.step] * self._real.update(seen_O)
        if self._asks(report):
            self._help(report, seen_O)
        self.pilot.tick(self.arm.now_s())
        report = self.pilot.report()
        if report.state in ("running", "missed", "held", "done"):
            self.truths.append(seen_O)
        if report.state == "done":
            self._settle(report.step)
        if report.state == "done" or (report.state == "held" and not self._asks(report)):
            self._end(report.reason, held=report.state == "held")
            return False
        try:
            self.arm.advance(self.lab.domain.action.period_s)
        except SimulationError as error:
            self._end(str(error), held=True)
            return False
        return True

    def _settle(self, step: int) -> None:
        """The arm comes to rest, as it does on a robot: what the policy took for done may become so on the way."""
        with suppress(SimulationError):
            for _ in range(round(SETTLE_S / self.lab.domain.action.period_s)):
                self.arm.advance(self.lab.domain.action.period_s)
                self.result.completed_at += [step] * self._real.update(truth(self.lab.domain, self.lab.twin))

    def _asks(self, report: PolicyReport) -> bool:
        """Whether it holds because it doubts itself, and somebody is there who hasn't given up."""
        return report.state == "held" and bool(report.doubt) and self._helper is not None and not self._given_up

    def _help(self, report: PolicyReport, seen_O: FloatArray) -> None:
        """Lets the helper act until the sub-task is done, and the policy then go on."""
        assert self._helper is not None
        current = next(s for s in self.task.subtasks if s.name == report.subtask)
        if self._helping and (self._helping != current.name or current.complete(seen_O)):
            self._helping = ""
            self.pilot.resume()
            return
        if not self._helping:
            self._helping = current.name
            self.result.helps += 1
            self._helper.begin(current.name, self.result.seed + self.result.helps)
        action_A = None if self.pilot.gate_stopped_for else self._helper.act()
        if action_A is None:
            self._given_up = True
        else:
            self.result.helped_steps += 1
            self.pilot.intervene(action_A)

    def _hear(self, news: EpisodeNews) -> None:
        self.result.doubts += news.kind == "doubt"

    def _send(self, command: JointCommand) -> None:
        with suppress(BackendError):  # the gate's stop; the pilot hears of it at its next tick, as in its node
            self.arm.write(command)

    def _deliver(self) -> None:
        """What the gate said and passed on since the last tick, as the policy's node hears it: before its tick."""
        decisions, self._decisions[:] = list(self._decisions), []
        for decision in decisions:
            if decision.verdict is not Verdict.PASS:
                latched = decision.verdict is Verdict.STOP
                self.pilot.note_verdict(decision.verdict, latched=latched, reasons=decision.reasons)
                name = decision.verdict.name
                self.result.verdicts[name] = self.result.verdicts.get(name, 0) + 1
            if decision.command is not None:
                self.pilot.confirm(decision.command.trajectory)

    def _end(self, reason: str, *, held: bool) -> None:
        counts = self.pilot.report()
        self.pilot.cancel(reason)
        self.result.stops = self.arm.gate.generation
        self.result.steps, self.result.missed = counts.step, counts.missed_ticks
        self.result.late_plans, self.result.error = counts.late_plans, reason if held else ""
        self.result.retraced = sum(record.step.kind is StepKind.RETRACE for record in self.records)
        self.result.recovered = sum(record.step.recovering for record in self.records)
        self.result.plans = _audit(self.records, self.truths, self.task, self._skill.horizon, self._skill.plan_length)


def run_episode(
    lab: Lab,
    policy: SkillPolicy,
    task: Task,
    seed: int,
    *,
    before_step: Callable[[Trial], None] = lambda trial: None,
) -> EpisodeResult:
    """Run `task` once; `seed` draws the start, sensor noise and the planner's dice.

    Args:
        before_step: looks at the trial before each control period.

    Physics that diverge end the episode, with that as its error.

    Raises:
        SpecError: see `Trial`.
    """
    trial = Trial(lab, policy, task, seed)
    before_step(trial)
    while trial.step():
        before_step(trial)
    return trial.result


def _audit(
    records: list[StepRecord], truths: list[FloatArray], task: Task, horizon: int, plan_length: int
) -> list[PlanRecord]:
    """What each plan expected, what was reached one skill later, and whether success came within its length."""
    found, progress, spent, done = [], Progress(task), 0, 0
    for index, record in enumerate(records[: len(truths)]):
        progress.update(record.observation_O)
        plan, subtask = record.step.new_plan, progress.current
        if plan is None or subtask is None or record.step.recovering:
            continue
        spent, done = (spent if progress.done == done else 0), progress.done
        made = _record(index, subtask.name, spent, plan)
        spent += 1
        if index + horizon < len(truths):
            made.reached_O = truths[index + horizon]
        ahead = truths[index : index + horizon * plan_length + 1]
        made.achieved = any(bool(subtask.complete(seen_O)) for seen_O in ahead)
        found.append(made)
    return found


def _record(step: int, subtask: str, spent: int, plan: Plan) -> PlanRecord:
    return PlanRecord(
        step=step,
        subtask=subtask,
        spent=spent,
        value=plan.value,
        success_probability=plan.success_probability,
        predicted_success=plan.predicted_success,
        predicted_O=plan.predicted_PO[0],
        plan_ms=plan.timings_ms.get("total", 0.0),
    )
