"""Whether things and arm stand where an episode may start, one by one, and what to put where if not.

Wanted is the domain's one start (its channels' `start`, as in the papers), each channel within its tolerance, a body's
turn within that of an angle; or, with `drawn`, anything that the domain's `starts` may draw for the task: what lies off
or turned as far, stands at another place, or belongs to a sub-task that may be begun or done. What is asked for must
not be done already. The arm begins where the domain's goal of its joints alone has it (`home`), with `drawn` as far
off besides as `starts` may draw; a domain without such a goal doesn't say where it begins.

Pure: what is seen comes as an observation, NaN where it isn't seen. Units the channels'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .domain import Domain
from .goals import TOLERANCES
from .starts import CUT, POSE
from .tasks import Subtask, Task

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one channel, or one body's turn, stands.

    Attributes:
        name: of the channel, or "BODY turn".
        seen: its value; NaN where it isn't seen.
        low, high: least and greatest that will do.
        unit: of all three.
        remedy: what to do; empty where it is in place.
    """

    name: str
    seen: float
    low: float
    high: float
    unit: str
    remedy: str = ""

    @property
    def words(self) -> str:
        """As an operator reads it."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        what = f"{self.name}: {_number(self.seen)} {self.unit}, wanted {_number(middle)} +- {_number(half)}"
        return f"{what}: {self.remedy}" if self.remedy else what


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was judged: each object channel and body, and the task's sub-tasks that are done though nobody did them."""

    standings: tuple[Standing, ...]
    done: tuple[str, ...]

    @property
    def where(self) -> tuple[str, ...]:
        """Names of what is wrong."""
        return (*self.done, *(standing.name for standing in self.standings if standing.remedy))

    @property
    def wrong(self) -> tuple[str, ...]:
        """What an operator is to do, a line each; empty where an episode may start."""
        undo = [f"sub-task {name} is done already: undo it, or ask for something else" for name in self.done]
        return (*undo, *(standing.words for standing in self.standings if standing.remedy))


def judge_scene(domain: Domain, task: Task, seen_O: npt.NDArray[np.floating], *, drawn: bool = False) -> Scene:
    """Judge a scene for the start of a task.

    Args:
        seen_O: [O], of which joints' and objects' channels count; NaN where one isn't seen.
        drawn: what `starts` may draw will do, and not only the one start.
    """
    seen_O = np.asarray(seen_O, np.float64)
    bodies = _bodies(domain)
    turned = {channel for at in bodies.values() for channel in at}
    base_O = _nearest_place(domain, task, seen_O) if drawn else domain.start.astype(np.float64)
    low_O, high_O = _bounds(domain, task, base_O, drawn)
    found = [
        _standing(domain, k, float(seen_O[k]), float(low_O[k]), float(high_O[k]))
        for k in range(domain.observation.joints + domain.observation.fingers, domain.observation.size)
        if k not in turned and not math.isnan(low_O[k])
    ]
    found += [_turn(domain, task, body, at, seen_O, drawn) for body, at in bodies.items()]
    found += [_arm(domain, goal, seen_O, drawn) for goal in _homes(domain)[:1]]
    return Scene(standings=tuple(found), done=task.done_before(seen_O, domain.observation.joints))


def _homes(domain: Domain) -> list[Subtask]:
    """The goals that are of the arm's joints alone, all of them."""
    joints = tuple(range(domain.observation.joints))
    return [goal for goal in domain.goals.values() if joints and tuple(sorted(goal.channels)) == joints]


def _arm(domain: Domain, home: Subtask, seen_O: Float64Array, drawn: bool) -> Standing:
    """The arm's distance from home, over all joints."""
    seen, may = float(home.distance(seen_O)), home.threshold
    if drawn:
        may = max(may, CUT * domain.starts.arm_rad * math.sqrt(len(home.channels)))
    remedy = ""
    if math.isnan(seen):
        remedy = "it isn't heard of; is the driver running?"
    elif seen > may:
        remedy = f"`skimo start {home.name}` brings it there, or lead it by hand"
    return Standing(name=f"arm from {home.name!r}", seen=seen, low=-may, high=may, unit="rad", remedy=remedy)


def _bodies(domain: Domain) -> dict[str, list[int]]:
    """Channels of each body's orientation, where the domain says how it stands at the start."""
    names = domain.observation.names
    heads = [name.rpartition(".")[0] for name in names if name.endswith(f".{POSE[0]}")]
    found = {h: [names.index(f"{h}.{part}") for part in POSE] for h in heads if f"{h}.{POSE[3]}" in names}
    return {head: at for head, at in found.items() if np.linalg.norm(domain.start[at]) > 0.5}


def _nearest_place(domain: Domain, task: Task, seen_O: Float64Array) -> Float64Array:
    """The start [O], things that may stand elsewhere where they are nearest to."""
    base_O, names = domain.start.astype(np.float64), domain.observation.names
    for name, places in domain.starts.places.items():
        if name in _asked(task) or not places.chance:
            continue
        at = sorted({names.index(channel) for place in places.at for channel in place})
        choices = np.array([[place.get(names[k], base_O[k]) for k in at] for place in ({}, *places.at)])
        off = np.nan_to_num(choices - seen_O[at], nan=0.0)
        base_O[at] = choices[int(np.argmin((off**2).sum(axis=1)))]
    return base_O


def _bounds(domain: Domain, task: Task, base_O: Float64Array, drawn: bool) -> tuple[Float64Array, Float64Array]:
    """Least and greatest value of each channel that will do; NaN where the domain gives it no tolerance."""
    low_O, high_O = base_O.copy(), base_O.copy()
    if drawn:
        for subtask in domain.subtasks.values():
            if _may_be_begun(domain, task, subtask.name):
                at = list(subtask.channels)
                low_O[at], high_O[at] = np.minimum(low_O[at], subtask.goal), np.maximum(high_O[at], subtask.goal)
        for name, half in domain.starts.offsets.items():
            at = domain.observation.names.index(name)
            low_O[at], high_O[at] = low_O[at] - half, high_O[at] + half
    return low_O - domain.tolerances, high_O + domain.tolerances


def _may_be_begun(domain: Domain, task: Task, subtask: str) -> bool:
    """Whether a start may be drawn in which it is begun or done."""
    chance = domain.starts.begun + (0.0 if subtask in _asked(task) else domain.starts.done)
    return chance > 0.0 and subtask not in domain.starts.places


def _asked(task: Task) -> set[str]:
    return {subtask.name for subtask in task.subtasks}


def _standing(domain: Domain, channel: int, seen: float, low: float, high: float) -> Standing:
    name, unit = domain.observation.names[channel], domain.observation.units[channel]
    remedy = ""
    if math.isnan(seen):
        remedy = "it isn't seen; clear the tracker's view"
    elif not low <= seen <= high:
        remedy = f"move it by {(low + high) / 2 - seen:+.3g} {unit}{_known_as(domain, channel)}"
    return Standing(name=name, seen=seen, low=low, high=high, unit=unit, remedy=remedy)


def _known_as(domain: Domain, channel: int) -> str:
    """What the domain calls the start of this channel, if it has a goal of that kind."""
    named = [g for g in domain.goals.values() if channel in g.channels and g.complete(domain.start)]
    return f", to {min(named, key=lambda goal: len(goal.channels)).name!r}" if named else ""


def _turn(domain: Domain, task: Task, body: str, at: list[int], seen_O: Float64Array, drawn: bool) -> Standing:
    """A body's turn away from the start's orientation, about whatever axis."""
    may = TOLERANCES["rad"]
    if drawn:
        may += domain.starts.turns.get(body, 0.0)
        for subtask in domain.subtasks.values():
            if set(at) <= set(subtask.channels) and _may_be_begun(domain, task, subtask.name):
                goal = dict(zip(subtask.channels, subtask.goal))
                may += _angle(domain.start[at], np.array([goal[k] for k in at]))
    seen = _angle(domain.start[at], seen_O[at])
    remedy = ""
    if math.isnan(seen):
        remedy = "it isn't seen; clear the tracker's view"
    elif seen > may:
        remedy = f"turn it back by {seen:.2g} rad"
    return Standing(name=f"{body} turn", seen=seen, low=-may, high=may, unit="rad", remedy=remedy)


def _angle(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """Between two orientations (quaternions of any length, w first), rad; NaN where one isn't known."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    if not lengths > 0.0:
        return math.nan
    return 2.0 * math.acos(min(1.0, abs(float(np.dot(one, other))) / lengths))


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{round(value, 3) + 0.0:g}"
