"""What is to be done: sub-tasks as goals over observation channels, and how far one has got.

They are a domain's own, or typed by an operator (`goals`).

A sub-task is complete when the Euclidean distance between its channels and their goal, each channel divided by its
scale, is below its threshold. In an ordered task only the first sub-task not yet complete counts; several may be
counted in one step if consecutive ones hold. Reward is 1 per completion, each counted once (SkiMo, Shi et al. 2022,
appendix on its manipulation tasks). The twin, the zero-shot planner, the evaluator and the fine-tuner all use these
definitions and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.policy import Goals

Observation = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtask:
    """A goal over some observation channels.

    Attributes:
        name: e.g. "kettle"; of one that was typed, what reads back to it, e.g. "microwave=-0.4+-0.1".
        channels: indices into the observation.
        goal: one value per channel, in the channel's unit.
        scales: what counts as a distance of 1 in each channel, in its unit; none: 1 everywhere.
        threshold: the distance under which it is complete.
    """

    name: str
    channels: tuple[int, ...]
    goal: tuple[float, ...]
    threshold: float
    scales: tuple[float, ...] = ()

    @property
    def tolerances(self) -> tuple[float, ...]:
        """How far each channel alone may be off, in its unit."""
        return tuple(self.threshold * scale for scale in self.scales or (1.0,) * len(self.channels))

    def distance(self, observation: Observation) -> npt.NDArray[np.float64]:
        """Distance to the goal for observations [..., O]; returns [...]."""
        off = observation[..., list(self.channels)] - np.array(self.goal)
        return np.linalg.norm(off / np.array(self.scales) if self.scales else off, axis=-1)

    def complete(self, observation: Observation) -> npt.NDArray[np.bool_]:
        """Whether the goal holds in observations [..., O]; returns [...]."""
        return np.asarray(self.distance(observation) < self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Sub-tasks in the order in which they count.

    Attributes:
        name: of an order in its domain, or the sub-tasks' names joined by commas; reads back to the same task.
        subtasks: what is to be done.
        step_limit: control steps of an episode, those left out that were spent held.
    """

    name: str
    subtasks: tuple[Subtask, ...]
    step_limit: int

    def goals(self, done: int, size: int) -> Goals:
        """The sub-tasks still open after the first `done`, as arrays over observations of `size` channels."""
        return as_goals(self.subtasks[done:], size)

    def open_at_start(self, arm: int) -> tuple[Subtask, ...]:
        """The sub-tasks that must not hold before anything is done, since nothing on the way can undo them.

        A door may be asked to be opened and closed again, the arm to return where it is: so none counts whose channels
        an earlier one has, or, where there is an earlier one, that are among the first `arm`, the arm's.
        """
        found: list[Subtask] = []
        moved: set[int] = set()
        for subtask in self.subtasks:
            if not moved & set(subtask.channels):
                found.append(subtask)
            moved |= {*range(arm), *subtask.channels}
        return tuple(found)

    def done_before(self, observation_O: Observation, arm: int) -> tuple[str, ...]:
        """Names of those sub-tasks that hold in [O] all the same; `arm` as above."""
        return tuple(subtask.name for subtask in self.open_at_start(arm) if subtask.complete(observation_O))


def as_goals(subtasks: Sequence[Subtask], size: int) -> Goals:
    """Sub-tasks in their order, as arrays over observations of `size` channels."""
    values = np.zeros((len(subtasks), size), np.float32)
    weights = np.zeros((len(subtasks), size), np.float32)
    for row, subtask in enumerate(subtasks):
        values[row, list(subtask.channels)] = subtask.goal
        weights[row, list(subtask.channels)] = 1.0 / np.array(subtask.scales or 1.0)
    thresholds = np.array([s.threshold for s in subtasks], np.float32)
    return Goals(values_KO=values, weights_KO=weights, thresholds_K=thresholds)


class Progress:
    """How many of a task's sub-tasks are complete, in order, over one episode."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.done = 0

    def update(self, observation: Observation) -> int:
        """Take one observation [O]; return how many sub-tasks were completed by it (the step's reward)."""
        before = self.done
        while not self.finished and self.task.subtasks[self.done].complete(observation):
            self.done += 1
        return self.done - before

    @property
    def finished(self) -> bool:
        return self.done == len(self.task.subtasks)

    @property
    def current(self) -> Subtask | None:
        """The sub-task to do now; None when all are done."""
        return None if self.finished else self.task.subtasks[self.done]
