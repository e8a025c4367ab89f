"""What is to be done: sub-tasks as goals over observation channels, and how far one has got.

A sub-task is complete when the Euclidean distance between its channels and their goal is below its threshold
(kitchen: 0.3). In an ordered task only the first sub-task not yet complete counts; several may be counted in one step
if consecutive ones hold. Reward is 1 per completion, each counted once (SkiMo, Shi et al. 2022, appendix on Kitchen).
The twin, the zero-shot planner, the evaluator and the fine-tuner all use these definitions and no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ..contract.errors import SpecError
from ..contract.policy import Goals
from ..contract.specs import ActionSpec, ObservationSpec

Observation = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtask:
    """A goal over some observation channels.

    Attributes:
        name: e.g. "kettle".
        channels: indices into the observation.
        goal: one value per channel, in the channel's unit.
        threshold: the distance under which it is complete.
    """

    name: str
    channels: tuple[int, ...]
    goal: tuple[float, ...]
    threshold: float

    def distance(self, observation: Observation) -> npt.NDArray[np.float64]:
        """Distance to the goal for observations [..., O]; returns [...]."""
        return np.linalg.norm(observation[..., list(self.channels)] - np.array(self.goal), axis=-1)

    def complete(self, observation: Observation) -> npt.NDArray[np.bool_]:
        """Whether the goal holds in observations [..., O]; returns [...]."""
        return np.asarray(self.distance(observation) < self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Sub-tasks in the order in which they count.

    Attributes:
        name: e.g. "kitchen", or the sub-tasks' names joined by commas.
        subtasks: what is to be done.
        step_limit: control steps of an episode.
    """

    name: str
    subtasks: tuple[Subtask, ...]
    step_limit: int

    def goals(self, done: int, size: int) -> Goals:
        """The sub-tasks still open after the first `done`, as arrays over observations of `size` channels."""
        still_open = self.subtasks[done:]
        values = np.zeros((len(still_open), size), np.float32)
        masks = np.zeros((len(still_open), size), np.float32)
        for row, subtask in enumerate(still_open):
            values[row, list(subtask.channels)] = subtask.goal
            masks[row, list(subtask.channels)] = 1.0
        thresholds = np.array([s.threshold for s in still_open], np.float32)
        return Goals(values_KO=values, masks_KO=masks, thresholds_K=thresholds)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Everything that tasks in one scene share: observation and action specs, noise, sub-tasks, named orders.

    Attributes:
        observation, action: specs.
        noise: [O] half width of the uniform observation noise, in each channel's unit.
        subtasks: by name.
        orders: named tasks, each a list of sub-task names.
        step_limit: control steps of an episode.
    """

    observation: ObservationSpec
    action: ActionSpec
    noise: npt.NDArray[np.float32]
    subtasks: dict[str, Subtask]
    orders: dict[str, tuple[str, ...]]
    step_limit: int

    def task(self, name: str) -> Task:
        """A named task ("kitchen", "misaligned") or sub-task names joined by commas, in that order.

        Raises:
            SpecError: an unknown name, listing the known ones.
        """
        names = self.orders.get(name) or tuple(part.strip() for part in name.split(","))
        unknown = [n for n in names if n not in self.subtasks]
        if unknown:
            known = f"tasks {', '.join(self.orders)}; sub-tasks {', '.join(self.subtasks)}"
            raise SpecError(f"unknown task or sub-task {unknown[0]!r}; known are {known}")
        if len(set(names)) != len(names):
            raise SpecError(f"task {name!r} names a sub-task twice")
        return Task(name=name, subtasks=tuple(self.subtasks[n] for n in names), step_limit=self.step_limit)


@lru_cache
def kitchen() -> Domain:
    """The Franka kitchen: 30 observation channels, 9 action dimensions, seven sub-tasks."""
    text = resources.files("skimo_core.domain").joinpath("domains", "kitchen.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    names = tuple(row[0] for row in data["channels"])
    subtasks = {
        name: Subtask(
            name=name,
            channels=tuple(names.index(c) for c in entry["channels"]),
            goal=tuple(map(float, entry["goal"])),
            threshold=float(data["threshold"]),
        )
        for name, entry in data["subtasks"].items()
    }
    fingers = names[7:9]
    return Domain(
        observation=ObservationSpec(names=names, units=tuple(row[1] for row in data["channels"])),
        action=ActionSpec(
            names=(*(f"{n}.velocity" for n in names[:7]), *(f"{n}.intent" for n in fingers)),
            scale_rad_s=float(data["action_scale_rad_s"]),
            rate_hz=float(data["rate_hz"]),
        ),
        noise=np.array([row[2] for row in data["channels"]], np.float32),
        subtasks=subtasks,
        orders={name: tuple(order) for name, order in data["tasks"].items()},
        step_limit=int(data["step_limit"]),
    )
