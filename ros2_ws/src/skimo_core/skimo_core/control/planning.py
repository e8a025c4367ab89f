"""Where a control loop gets its next plan from, without ever waiting for it.

`ImmediatePlanning` computes at once, in the caller's time: for runs in simulated time. `BackgroundPlanning` asks in a
thread of its own: for runs in real time. Both hold at most one request; a newer one replaces one not yet begun.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from ..contract.errors import SkimoError
from ..contract.policy import FloatArray, Goals, Plan, SkillPolicy

NEWEST = 20
"""Plans whose durations are remembered: a slow one, such as the first, is forgotten after half a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """One question to the planner; `index` counts the plans of an episode, the others are as in `SkillPolicy.plan`."""

    index: int
    observation_O: FloatArray
    goals: Goals
    seed: int
    warm_start_PZ: FloatArray | None
    warm_start_of: str = ""
    spent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutcome:
    """The answer to the request of the same index: a plan, or why there is none."""

    index: int
    plan: Plan | None = None
    error: SkimoError | None = None


class PlanSource(Protocol):
    """Takes a request, later gives its outcome; never blocks."""

    def submit(self, request: PlanRequest) -> None: ...

    def take(self) -> PlanOutcome | None:
        """The newest outcome, once; None while there is none."""
        ...

    def clear(self) -> None:
        """Forget pending requests and outcomes (a new episode)."""
        ...

    @property
    def took_s(self) -> float:
        """How long the slowest of the newest plans took, from the request to the answer; 0 before there is one."""
        ...


def answer(policy: SkillPolicy, request: PlanRequest, deadline_s: float) -> PlanOutcome:
    """Ask `policy` for the plan; errors become outcomes."""
    try:
        plan = policy.plan(
            request.observation_O,
            request.goals,
            seed=request.seed,
            warm_start_PZ=request.warm_start_PZ,
            deadline_s=deadline_s,
            warm_start_of=request.warm_start_of,
            spent=request.spent,
        )
    except SkimoError as error:
        return PlanOutcome(index=request.index, error=error)
    return PlanOutcome(index=request.index, plan=plan)


class ImmediatePlanning:
    """Plans inside `submit`; no time passes meanwhile."""

    took_s = 0.0

    def __init__(self, policy: SkillPolicy, deadline_s: float) -> None:
        self._policy = policy
        self._deadline_s = deadline_s
        self._outcome: PlanOutcome | None = None

    def submit(self, request: PlanRequest) -> None:
        self._outcome = answer(self._policy, request, self._deadline_s)

    def take(self) -> PlanOutcome | None:
        outcome, self._outcome = self._outcome, None
        return outcome

    def clear(self) -> None:
        self._outcome = None


class BackgroundPlanning:
    """Plans in a daemon thread; `policy` must not be used by anybody else."""

    def __init__(self, policy: SkillPolicy, deadline_s: float) -> None:
        self._policy = policy
        self._deadline_s = deadline_s
        self._changed = threading.Condition()
        self._request: PlanRequest | None = None
        self._outcome: PlanOutcome | None = None
        self._generation = 0
        self._closed = False
        self._took_s: deque[float] = deque(maxlen=NEWEST)
        self._thread = threading.Thread(target=self._run, name="skimo-planning", daemon=True)
        self._thread.start()

    def submit(self, request: PlanRequest) -> None:
        with self._changed:
            self._request = request
            self._changed.notify()

    def take(self) -> PlanOutcome | None:
        with self._changed:
            outcome, self._outcome = self._outcome, None
            return outcome

    def clear(self) -> None:
        with self._changed:
            self._generation += 1
            self._request = self._outcome = None

    @property
    def took_s(self) -> float:
        with self._changed:
            return max(self._took_s, default=0.0)

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread; a plan under way is waited for at most `timeout_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._request is not None)
                if self._closed or self._request is None:
                    return
                request, self._request, generation = self._request, None, self._generation
            begun_s = time.monotonic()
            outcome = answer(self._policy, request, self._deadline_s)
            with self._changed:
                if outcome.plan is not None:
                    self._took_s.append(time.monotonic() - begun_s)
                if generation == self._generation:
                    self._outcome = outcome
