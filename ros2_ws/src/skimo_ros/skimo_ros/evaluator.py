"""Episodes on the running stack, one after the other, for figures: reset the twin, start, watch, reset after a stop.

What an operator does (`Operator`), and a record of what came of it. What is held ends the episode, as it does in
process, unless `on_hold` sees to it. Sub-tasks count on the objects' true state, and on the arm's as the policy saw it.
Reads topics and calls services; never commands the arm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from skimo_msgs.msg import EpisodeEvent, EpisodeStep, GateEvent, ObjectStates, PlanStatus

from skimo_core.contract.errors import BackendError, SetupError, SkimoError
from skimo_core.control.observe import object_values
from skimo_core.domain.domain import Domain
from skimo_core.domain.tasks import Progress

from .conversions import ORIGIN_S, object_states, stamp_of
from .nodes import EVENT_QOS, STATE_QOS, Names
from .operator import Operator

SERVICE_S = 20.0
STARTS = 5
LAST_NEWS_S = 2.0
READY_STATES = ("idle", "done", "held")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A plan's word: that `subtask` is done `within_s` of `since_s`, with so much probability; s since the start."""

    subtask: str
    since_s: float
    within_s: float
    probability: float


@dataclass(slots=True, kw_only=True)
class Watched:
    """What was seen of one episode.

    Attributes:
        seed, task: as asked; the task's sub-tasks in order.
        completed: sub-tasks completed in order on the twin's truth, with seconds since the start.
        plan_ms: of each plan.
        promises: of each plan that predicts its success.
        steps, missed_ticks, late_plans: the policy node's counts at the end.
        stops: latched stops of the gate; `verdicts`: gate events by verdict.
        ticks: due time (seconds since the epoch) and kind of each control step.
        troubles: step and reason of misses, holds and gate events, as they were first told.
        detail: why it ended; `early`: before its task or its steps did.
    """

    seed: int
    task: tuple[str, ...]
    completed: list[tuple[str, float]] = field(default_factory=list)
    plan_ms: list[float] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    steps: int = 0
    missed_ticks: int = 0
    late_plans: int = 0
    stops: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    ticks: list[tuple[float, str]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    detail: str = ""
    early: bool = False
    bundle_id: str = ""
    episode_id: str = ""

    def kept(self, promise: Promise) -> bool:
        """Whether it came true."""
        due_s = promise.since_s + promise.within_s
        return any(name == promise.subtask and promise.since_s <= s <= due_s for name, s in self.completed)


class Evaluator:
    """A node of its own in this process's ROS context.

    Args:
        domain: that the stack runs.
        namespace: of the stack.

    Attributes:
        status, gate: the newest that policy node and gate told.
        on_news: is told what happens, a line each.
        on_hold: what is done about a hold; says whether the episode goes on.
    """

    def __init__(self, domain: Domain, namespace: str = "") -> None:
        self._domain = domain
        self._operator = Operator(namespace, timeout_s=SERVICE_S)
        self.status: PlanStatus | None = None
        self.gate: GateEvent | None = None
        self._episode: Watched | None = None
        self._progress: Progress | None = None
        self._state_O = np.full(domain.observation.size, np.nan, np.float32)
        self._started_s = 0.0
        self._ended = ""
        self.on_news: Callable[[str], None] = lambda line: None
        self.on_hold: Callable[[PlanStatus], bool] = lambda status: False
        node = self._operator.node
        node.create_subscription(PlanStatus, Names.PLAN_STATUS, self._on_status, EVENT_QOS)
        node.create_subscription(GateEvent, Names.GATE, self._on_gate, EVENT_QOS)
        node.create_subscription(EpisodeEvent, Names.EPISODE, self._on_event, EVENT_QOS)
        node.create_subscription(EpisodeStep, Names.EPISODE_STEP, self._on_step, EVENT_QOS)
        node.create_subscription(ObjectStates, "object_states", self._on_objects, STATE_QOS)

    @property
    def operator(self) -> Operator:
        """Asks on its behalf."""
        return self._operator

    def close(self) -> None:
        self._operator.close()

    def wait_until_ready(self, alive: Callable[[], bool], timeout_s: float = 90.0) -> None:
        """Wait until the policy node can take an episode.

        Raises:
            SetupError: the stack ended, or the deadline passed.
        """

        def ready() -> bool:
            if not alive():
                raise SetupError("the stack ended while starting; its output above names the reason")
            return self.status is not None and self.status.state in READY_STATES

        self._operator.wait_until(ready, timeout_s, "the policy node to be ready")

    def run_episode(self, task: str, seed: int, alive: Callable[[], bool]) -> Watched:
        """Reset gate and twin, start an episode and watch it to its end.

        Raises:
            BackendError: the gate still stops after several resets.
        """
        definition = self._domain.task(task)
        self._progress = Progress(definition)
        self._state_O[:] = np.nan
        self._episode = Watched(seed=seed, task=tuple(s.name for s in definition.subtasks))
        self._ended = ""
        episode, self._episode.episode_id = self._episode, self._begin(task, seed)
        self._started_s = time.monotonic()
        limit_s = definition.step_limit / self._domain.action.rate_hz * 1.3 + 10.0

        def over() -> bool:
            if not alive() or self._ended:
                return True
            return bool(self._held_for()) and not (self.status and self.on_hold(self.status))

        in_time = self._operator.within(over, limit_s)
        held = self._held_for()
        why = f"held: {held}" if held else "" if in_time else "no end within its time"
        if not self._ended and alive():
            self._operator.trigger(Names.CANCEL)
            self._operator.within(lambda: bool(self._ended), LAST_NEWS_S)  # its last figures
        episode.early = bool(why) or not self._ended
        episode.detail = why or self._ended or "the stack ended"
        self._episode = None
        return episode

    def _held_for(self) -> str:
        """Why the episode under way waits for an operator; empty if it does not."""
        status, episode = self.status, self._episode
        if status is None or episode is None or status.episode_id != episode.episode_id or status.state != "held":
            return ""
        return status.reason or "no reason told"

    def _begin(self, task: str, seed: int) -> str:
        """Reset and start, again if the gate stops in between; returns the episode's name."""
        refusal = ""
        for _ in range(STARTS):
            self._operator.trigger(Names.CANCEL)
            # The stop that was seen last; a newer one is found when the episode is refused.
            self._operator.reset_stop(self.gate.generation if self.gate is not None else 0)
            done, why, _ = self._operator.reset_twin(task, seed)
            if not done:
                raise BackendError(f"twin/reset refused: {why}")
            started, refusal, episode_id = self._operator.start(task, seed)
            if started:
                return episode_id
        raise BackendError(f"policy/start_episode refused {STARTS} times: {refusal}")

    def _on_status(self, status: PlanStatus) -> None:
        new_plan = len(status.predicted) > 0
        before, self.status = self.status, status
        episode = self._episode
        if episode is None or status.episode_id != episode.episode_id:
            return
        episode.steps, episode.missed_ticks = status.step, status.missed_ticks
        episode.late_plans, episode.bundle_id = status.late_plans, status.bundle_id
        if new_plan:
            episode.plan_ms.append(status.plan_ms)
            self._promise(episode, status)
            promised = status.success_probability
            said = f"predicted success {promised:.0%}" if np.isfinite(promised) else status.reason or "no promise"
            which = f"step {status.step:3d}  plan {status.plan_index:2d} for {status.subtask}"
            self.on_news(f"{which}: {status.plan_ms:.0f} ms, {said}")
        told = before is not None and (before.state, before.reason) == (status.state, status.reason)
        if status.state in ("held", "missed") and not told:
            self._trouble(episode, f"step {status.step:3d}  {status.state}: {status.reason}")

    def _promise(self, episode: Watched, status: PlanStatus) -> None:
        if not np.isfinite(status.success_probability):
            return
        skills = len(status.predicted) // self._domain.observation.size
        promise = Promise(
            subtask=status.subtask,
            since_s=time.monotonic() - self._started_s,
            within_s=skills * self._domain.horizon * self._domain.action.period_s,
            probability=status.success_probability,
        )
        episode.promises.append(promise)

    def _on_gate(self, event: GateEvent) -> None:
        before, self.gate = self.gate, event
        if self._episode is None or event.verdict == GateEvent.PASS:
            return
        words = {GateEvent.LIMIT: "LIMIT", GateEvent.HOLD: "HOLD", GateEvent.STOP: "STOP"}
        word = words.get(event.verdict, f"verdict {event.verdict}")
        if before is not None and before.verdict == event.verdict and before.generation == event.generation:
            return
        self._episode.verdicts[word] = self._episode.verdicts.get(word, 0) + 1
        self._episode.stops += event.verdict == GateEvent.STOP
        self._trouble(self._episode, f"gate {word}: {'; '.join(event.reasons)}")

    def _trouble(self, episode: Watched, news: str) -> None:
        episode.troubles.append(news)
        self.on_news(news)

    def _on_event(self, event: EpisodeEvent) -> None:
        if self._episode is None or event.episode_id != self._episode.episode_id or event.kind != EpisodeEvent.END:
            return
        self._ended = event.detail or "ended"
        self._episode.steps, self._episode.missed_ticks = event.steps, event.missed_ticks

    def _on_step(self, step: EpisodeStep) -> None:
        if self._episode is None or step.episode_id != self._episode.episode_id:
            return
        self._episode.ticks.append((stamp_of(step) + ORIGIN_S, step.kind))
        spec = self._domain.observation
        if len(step.observation) == spec.size:
            arm = slice(spec.joints + spec.fingers)
            self._state_O[arm] = step.observation[arm]
            self._count(self._episode)

    def _on_objects(self, objects: ObjectStates) -> None:
        if self._episode is None or not self._episode.episode_id:
            return
        spec = self._domain.observation
        try:
            self._state_O[spec.joints + spec.fingers :] = object_values(object_states(objects), spec.objects)
        except SkimoError as error:
            if str(error) not in self._episode.troubles:
                self._trouble(self._episode, str(error))
            return
        self._count(self._episode)

    def _count(self, episode: Watched) -> None:
        """Note what is complete now; nothing is on channels that have not been heard of yet, which are NaN."""
        assert self._progress is not None
        names = episode.task
        for index in range(self._progress.done, self._progress.done + self._progress.update(self._state_O)):
            since_s = time.monotonic() - self._started_s
            episode.completed.append((names[index], since_s))
            self.on_news(f"{names[index]} done after {since_s:.1f} s ({index + 1}/{len(names)})")
