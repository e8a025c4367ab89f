"""An operator's word on a recording: whether its task was completed, and which sub-tasks when.

A label stands in the file as a sealed metadata record "skimo.label" beside what the task's goal said, which stays; the
last label counts, alone, however many there are. It puts right what the goal said, sub-task by sub-task:

    success true     what isn't done by the goal, and has no step of its own, counts at the last step
    success false    says nothing about sub-tasks; where the goal has all of several as done, one must be taken back
    NAME@STEP        done as seen at that control step
    NAME@never       not done

Pure: what is read and written is `recording`'s and `labelling`'s. Steps are the episode's control steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..contract.errors import EpisodeError
from .episode import Episode, FloatArray

LABEL = "skimo.label"
OPERATOR = "operator"
NEVER = "never"
MAX_NOTE = 1000
"""Characters of a note."""
Steps = list[int | None]
"""When each sub-task of a task was done, in the task's order; None: not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What an operator says.

    Attributes:
        success: whether the task was completed; None: as the sub-tasks say.
        done: control step at which a sub-task was done, None where it was not; what is not named is as the goal has it.
        note: anything, for people.
        at: when it was given, ISO 8601.
    """

    success: bool | None = None
    done: Mapping[str, int | None] = field(default_factory=dict)
    note: str = ""
    at: str = ""

    def __post_init__(self) -> None:
        if self.success is None and not self.done:
            raise EpisodeError("a label says nothing; give it --success true, --success false, or a --subtask")
        if len(self.note) > MAX_NOTE:
            raise EpisodeError(f"a label's note has {len(self.note)} characters, bound {MAX_NOTE}; shorten it")

    def entries(self) -> dict[str, str]:
        """Of its metadata record, unsealed."""
        told = "" if self.success is None else str(self.success).lower()
        done = json.dumps(dict(self.done))
        return {"by": OPERATOR, "at": self.at, "success": told, "subtasks": done, "note": self.note}

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> Label:
        """Raises EpisodeError on anything but what `entries` gives."""
        told, done = entries.get("success", ""), _json(entries.get("subtasks", "{}"))
        if told not in ("", "true", "false"):
            raise EpisodeError(f"metadata record {LABEL!r} says success {told[:40]!r}, must be 'true' or 'false'")
        if not isinstance(done, dict) or not all(step is None or type(step) is int for step in done.values()):
            raise EpisodeError(f"metadata record {LABEL!r} says sub-tasks {str(done)[:60]!r}, must be steps by name")
        note, at = entries.get("note", ""), entries.get("at", "")
        return cls(success=None if not told else told == "true", done=done, note=note[:MAX_NOTE], at=at)


def parse_subtask(text: str) -> tuple[str, int | None]:
    """NAME@STEP or NAME@never, of which NAME may hold anything.

    Raises:
        EpisodeError: it is neither.
    """
    name, at, step = text.rpartition("@")
    if not at or not name or not (step == NEVER or (step.isascii() and step.isdigit())):
        raise EpisodeError(f"--subtask {text[:80]!r} is not NAME@STEP or NAME@{NEVER}, as in kettle@57")
    return name, None if step == NEVER else int(step)


def subtasks(episode: Episode) -> tuple[str, ...]:
    """Of the episode's task, in order."""
    return tuple(episode.meta.task.split(",")) if episode.meta.task else ()


def done_at(episode: Episode) -> Steps:
    """When each sub-task was done, as its rewards have it: a task's sub-tasks count in their order."""
    names = subtasks(episode)
    if episode.rewards is None:
        return [None] * len(names)
    counts = np.rint(np.maximum(np.nan_to_num(episode.rewards), 0.0)).astype(np.int64)
    steps = (episode.first_step + np.repeat(np.arange(len(counts)), np.minimum(counts, len(names))))[: len(names)]
    return [*steps.tolist(), *[None] * (len(names) - len(steps))]


def judged(episode: Episode, label: Label) -> Episode:
    """The episode as an operator has it: success, and rewards where it has a task.

    Args:
        episode: by the goal alone. Of one that was salvaged, sub-tasks in what was lost are left out.

    Raises:
        EpisodeError: as `done_by`.
    """
    steps = done_by(episode, label)
    success, rewards = (None not in steps, _rewards(episode, steps)) if steps else (label.success, episode.rewards)
    return replace(episode, meta=replace(episode.meta, success=success), rewards=rewards, judged_by=OPERATOR)


def done_by(episode: Episode, label: Label) -> Steps:
    """When each sub-task was done, as an operator has it.

    Raises:
        EpisodeError: the label names a sub-task or step that there isn't, or contradicts itself; says which.
    """
    names, last = subtasks(episode), episode.first_step + episode.steps
    if not names:
        if label.done:
            raise EpisodeError("its task is not known, so it has no sub-tasks; label it with --success alone")
        return []
    steps = _patched(names, done_at(episode), label, episode)
    if label.success:
        return [last if step is None else step for step in steps]
    if label.success is False and None not in steps:
        if len(steps) > 1 or label.done:
            raise EpisodeError(
                f"success is false, but its sub-tasks are all done ({told(names, steps)}); say which was not, as in "
                f"--subtask {names[-1]}@{NEVER}"
            )
        return [None]
    return steps


def told(names: tuple[str, ...], steps: Steps) -> str:
    """Sub-tasks and when they were done, in words."""
    return ", ".join(f"{name} at {NEVER if step is None else step}" for name, step in zip(names, steps))


def _patched(names: tuple[str, ...], steps: Steps, label: Label, episode: Episode) -> Steps:
    first, last = episode.first_step + 1, episode.first_step + episode.steps
    patched = list(steps)
    for name, step in label.done.items():
        if names.count(name) != 1:
            why = "stands more than once in its task; use --success" if name in names else "is none of its task's"
            raise EpisodeError(f"sub-task {name[:60]!r} {why}; there are {', '.join(names)}")
        if step is None and label.success:
            raise EpisodeError(f"success is true, but sub-task {name} is at {NEVER}; leave one of the two out")
        if step is not None and not first <= step <= last and not (episode.lost or episode.damage):
            raise EpisodeError(
                f"sub-task {name} at step {step}, must lie in {first} to {last} ({episode.meta.rate_hz:g} steps are a "
                f"second), or be {NEVER}"
            )
        patched[names.index(name)] = step
    return patched


def _rewards(episode: Episode, steps: Steps) -> FloatArray:
    rewards = np.zeros(episode.steps + 1, np.float32)
    for step in steps:
        if step is not None and 0 <= step - episode.first_step <= episode.steps:
            rewards[step - episode.first_step] += 1.0
    return rewards


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
