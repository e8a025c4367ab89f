"""Begun anew from where things go well: what to plan for where plans for a sub-task don't get it done.

An arm may press in vain where its model believes, plan after plan, that it gets on. From the pose at which episodes
begin it did, most times: so after many plans that brought a sub-task no nearer, some are for the domain's `recovery`
goal (the arm's home, say), and then it is begun anew. Like any others these plans are carried out by learned skills,
and pass the gate. They promise nothing of the sub-task.

    due            a plan is to be asked for: is it to be for the recovery goal?
    took_effect    a plan took effect, of the one kind or of the other
Pure. Units control steps, plans.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..contract.errors import SpecError
from ..contract.policy import FloatArray, Goals
from ..domain.tasks import Subtask, as_goals

NEARER = 0.9
"""A distance that has shrunk to this share is nearer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryConfig:
    """When to begin anew.

    Attributes:
        after: plans for one sub-task that brought it no nearer, since it is open or since the last time; 0: never.
        plans: most plans for the recovery goal each time; fewer where it is reached.
    """

    after: int = 10
    plans: int = 5

    def __post_init__(self) -> None:
        if self.after < 0 or self.plans < 1:
            raise SpecError(
                f"recovery: after is {self.after} (at least 0, which is never), plans {self.plans} (at least 1)"
            )


class Recovery:
    """Of one arm.

    Args:
        goal: what is planned for meanwhile; None: nothing is.
    """

    def __init__(self, goal: Subtask | None = None, config: RecoveryConfig | None = None) -> None:
        self.config = config or RecoveryConfig()
        self._goal = goal
        self.clear()

    def clear(self) -> None:
        """Another sub-task is open, or somebody has looked."""
        self._spent = self._made = 0
        self._least = math.inf

    @property
    def reason(self) -> str:
        """Why no plan is for the sub-task."""
        goal = self._goal.name if self._goal else ""
        return f"{self.config.after} plans brought it no nearer: first {goal}, then once more"

    def due(self, observation_O: FloatArray, subtask: Subtask) -> bool:
        """Whether the next plan, asked for at [O] with a sub-task open, is to be for the recovery goal."""
        if self._goal is None or not self.config.after:
            return False
        distance = float(subtask.distance(observation_O))
        over = self._made >= self.config.plans or bool(self._goal.complete(observation_O))
        if distance < NEARER * self._least or (self._spent >= self.config.after and over):
            self.clear()
            self._least = distance
        return self._spent >= self.config.after

    def goals(self, size: int) -> Goals:
        """The recovery goal as arrays over observations of `size` channels."""
        assert self._goal is not None
        return as_goals([self._goal], size)

    def took_effect(self, *, recovering: bool) -> None:
        """Take note of a plan."""
        if not recovering:
            self._spent += 1
        elif self._spent >= self.config.after:
            self._made += 1
