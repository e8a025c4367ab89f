"""One episode: what was seen, what was done, and where it comes from.

The same form for teleoperation, scripted play and policy runs. Observation t was seen before action t; the last
observation follows the last action. Actions are those *executed*. Units are in the specs (rad, m; actions in [-1, 1]).
What else a control step holds is optional: None where whoever recorded it didn't know, or had no field for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError, SpecError
from ..contract.specs import UNKNOWN, ArraySpec, Named

FloatArray = npt.NDArray[np.float32]
INTERVENE, RETRACE = "intervene", "retrace"
KINDS = ("prepare", "act", "missed", "hold", "done", INTERVENE, RETRACE)
"""What may be decided for a control step: the values of `control.loop.StepKind` (a test holds the two together)."""
NAMED = ("domain", "robot", "cell", "rig", "origin", "mapping")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeMeta:
    """Where an episode comes from.

    Attributes:
        episode_id: unique in its data set.
        source: "play" (scripted), "teleop", "policy" or "import".
        task: what was done or attempted; names of sub-tasks joined by commas, as `Domain.task` reads them.
        domain, robot, cell, rig: names of what it was made in, as far as known, each with its digest.
        origin, mapping: of an import: format and name of what it was made from, with the digest of its bytes, and what
            said which of its fields are which channels.
        licence: of an import, in the words of whoever states it.
        rate_hz: control steps per second.
        seed: of the run, where it had one.
        bundle_id: of the policy at the start, where one acted.
        success: whether the task was completed, where known; of a recorder's file it is in the outcome at its end.
        channels: names of the observation's channels.
        start_q_rad: [7] commanded joint positions at the start, where known.
        explore: the planner's setting of that name at the start: how widely skills were explored; None: not known.
        part: 1 of a recording from the episode's start on; a later one was begun in mid-episode, because the recorder
            or its folder failed, and its first step is not the episode's.
    """

    episode_id: str
    source: str
    task: str = ""
    domain: Named = UNKNOWN
    robot: Named = UNKNOWN
    cell: Named = UNKNOWN
    rig: Named = UNKNOWN
    origin: Named = UNKNOWN
    mapping: Named = UNKNOWN
    licence: str = ""
    rate_hz: float = 12.5
    seed: int | None = None
    bundle_id: str = ""
    success: bool | None = None
    channels: tuple[str, ...] = ()
    start_q_rad: tuple[float, ...] = ()
    explore: float | None = None
    part: int = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EpisodeMeta:
        """Raises EpisodeError on anything but what `to_json` writes; names the field."""
        try:
            data: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EpisodeError(f"episode metadata can't be read: {error}") from None
        if not isinstance(data, dict) or not {"episode_id", "source"} <= data.keys():
            raise EpisodeError("episode metadata can't be read: must be a mapping with episode_id and source")
        known = {field.name for field in fields(cls)}
        if data.pop("arm", "panda") != "panda":
            raise EpisodeError("its joints are not in Franka's convention; ingest its source again with this version")
        plain: dict[str, Any] = {}
        for name, value in data.items():
            if name not in known or not _FIELDS[name](value):
                raise EpisodeError(f"episode metadata can't be read: field {name[:40]!r} is {str(value)[:60]!r}")
            plain[name] = tuple(value) if isinstance(value, list) else Named(**value) if name in NAMED else value
        return cls(**plain)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all(test: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(test(item) for item in value)


def _named(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"name", "digest"} and all(map(_text, value.values()))


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "episode_id": _text,
    "source": _text,
    "task": _text,
    **dict.fromkeys(NAMED, _named),
    "licence": _text,
    "rate_hz": lambda value: _number(value) and value > 0,
    "seed": lambda value: value is None or _whole(value),
    "bundle_id": _text,
    "success": lambda value: value is None or isinstance(value, bool),
    "channels": _all(_text),
    "start_q_rad": _all(_number),
    "explore": lambda value: value is None or (_number(value) and value >= 0),
    "part": lambda value: _whole(value) and value >= 1,
}
"""What a field of EpisodeMeta may hold in JSON; a test holds the two together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One unbroken run of control steps.

    Attributes:
        observations: [T+1, O].
        actions: [T, A], executed.
        meta: where it comes from.
        actions_proposed: [T, A], what was asked for before the gate; a row of NaN where nothing was.
        skills: [T, Z], the skill in force; a row of NaN where none was. Where bundles with skills of several sizes took
            turns, Z is the largest, and what a row lacks is NaN.
        rewards: [T+1], sub-tasks completed by that observation.
        kinds: [T+1] of KINDS, what was decided for the step.
        verdicts: [T+1], uint8, the gate's, a constant of skimo_msgs/GateEvent.
        bundle_ids: [T], whose skill was in force; empty where none was.
        promises: [T, 2], of the plan that takes effect with the step: its value, and its success as the model alone has
            it (`Plan.promise`); rows of NaN where none does.
        first_step: the episode's control step that row 0 is.
        lost: spans of control steps (first, last) that its recording should hold and does not; only what was salvaged
            has any, and is then the longest run between them.
        damage: what was found damaged in the file that it was salvaged from, in words.
        judged_by: whose success and rewards are: "goal", the task's own, or "operator", who labelled the recording.
    """

    observations: FloatArray
    actions: FloatArray
    meta: EpisodeMeta
    actions_proposed: FloatArray | None = None
    skills: FloatArray | None = None
    rewards: FloatArray | None = None
    kinds: npt.NDArray[np.str_] | None = None
    verdicts: npt.NDArray[np.uint8] | None = None
    bundle_ids: npt.NDArray[np.str_] | None = None
    promises: FloatArray | None = None
    first_step: int = 0
    lost: tuple[tuple[int, int], ...] = ()
    damage: str = ""
    judged_by: str = "goal"

    @property
    def steps(self) -> int:
        return len(self.actions)

    @property
    def shown_T(self) -> npt.NDArray[np.bool_]:
        """Whether an action shows how it is done: all of play, teleoperation and imports; of a policy's episode those
        of a person who intervened."""
        if self.meta.source != "policy":
            return np.ones(self.steps, bool)
        return np.zeros(self.steps, bool) if self.kinds is None else self.kinds[:-1] == INTERVENE


def check_episode(episode: Episode, where: str) -> Episode:
    """Return the episode if its arrays fit together, observations and actions as finite float32 matrices.

    Raises:
        EpisodeError: naming `where`, the episode and the field.
    """
    name = f"{where}: episode {episode.meta.episode_id}"
    for field, array in (("observations", episode.observations), ("actions", episode.actions)):
        if array.ndim != 2 or array.dtype != np.float32:
            raise EpisodeError(f"{name}: {field} is {array.dtype} {array.shape}, must be a float32 matrix")
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise EpisodeError(f"{name}: {field} holds a non-finite number at step {row}; drop the episode")
    if len(episode.observations) != len(episode.actions) + 1 or not len(episode.actions):
        raise EpisodeError(
            f"{name}: observations has {len(episode.observations)} rows for {len(episode.actions)} actions, "
            "must be one more than the actions, and those at least 1"
        )
    if episode.meta.channels and len(episode.meta.channels) != episode.observations.shape[1]:
        raise EpisodeError(
            f"{name}: observations have {episode.observations.shape[1]} channels, "
            f"its metadata names {len(episode.meta.channels)}"
        )
    _check_optional(episode, name)
    return episode


def _check_optional(episode: Episode, name: str) -> None:
    steps, size = episode.actions.shape
    for spec in (
        ArraySpec(name="actions_proposed", shape=(steps, size)),
        ArraySpec(name="skills", shape=(steps, -1)),
        ArraySpec(name="promises", shape=(steps, 2)),
        ArraySpec(name="rewards", shape=(steps + 1,)),
        ArraySpec(name="verdicts", shape=(steps + 1,), dtype="uint8"),
    ):
        array = getattr(episode, spec.name)
        if array is None:
            continue
        if array.ndim == 2 and array.dtype == np.float32:  # rows of NaN say that there was nothing
            nothing = np.isnan(array)
            nothing = nothing if spec.name == "skills" else nothing.all(1, keepdims=True)
            array = np.where(nothing, np.float32(0), array)
        try:
            spec.check(array)
        except SpecError as error:
            raise EpisodeError(f"{name}: {error}") from None
    bundle_ids = episode.bundle_ids
    if bundle_ids is not None and (bundle_ids.shape != (steps,) or bundle_ids.dtype.kind != "U"):
        raise EpisodeError(f"{name}: bundle_ids is {bundle_ids.dtype} {bundle_ids.shape}, must be texts ({steps},)")
    kinds = episode.kinds
    if kinds is not None and (kinds.shape != (steps + 1,) or not set(kinds.tolist()) <= set(KINDS)):
        found = ", ".join(sorted(map(str, set(kinds.ravel().tolist()))))
        raise EpisodeError(
            f"{name}: kinds is {kinds.shape} of {found[:80]!r}, must be ({steps + 1},) of {', '.join(KINDS)}"
        )
