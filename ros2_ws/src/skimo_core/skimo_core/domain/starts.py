"""Where an episode starts, drawn from a seed: arm, hand, objects, and what is done already. Data of a domain.

    starts:
      arm_rad: 0.15                    deviation of each joint's normal, cut at twice that and at the arm's limits
      fingers_m: [0.0, 0.04]           each finger, both alike
      offsets: {kettle.x: 0.06}        half width by which a channel lies off
      turns: {kettle: 0.4}             half width of the turn about z of a body with channels .qw .qx .qy .qz
      begun: 0.3                       chance for a sub-task that it stands between untouched and its goal
      done: 0.1                        chance that it is complete, where nobody asks for it
      places: {kettle: {chance: 0.3, at: [{kettle.x: 0.22, kettle.y: 0.34}]}}      where else it may stand, likewise

What is drawn is an observation; whoever simulates puts itself there, and draws again where that can't be. No goal that
the episode asks for is complete at its start. Units m, rad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..contract.errors import SpecError
from ..contract.specs import ObservationSpec
from ..contract.types import Array
from .tables import Table
from .tasks import Subtask

STARTS = ("drawn", "papers")
"""What a twin may be put at: what is drawn here, or the one plain start, which the papers have."""
TRIES = 100
CUT = 2.0
"""A normal's tails end at so many deviations."""
POSE = ("qw", "qx", "qy", "qz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Other places of an object: the chance that it stands at one of them, each a value per channel."""

    chance: float
    at: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """A distribution of starts; the default is one start.

    Attributes: see the module; `places` by sub-task or object name.
    """

    arm_rad: float = 0.0
    fingers_m: tuple[float, float] | None = None
    offsets: Mapping[str, float] = field(default_factory=dict)
    turns: Mapping[str, float] = field(default_factory=dict)
    begun: float = 0.0
    done: float = 0.0
    places: Mapping[str, Places] = field(default_factory=dict)

    def draw(
        self,
        home_O: Array,
        spec: ObservationSpec,
        joint_range_rad: tuple[Array, Array],
        subtasks: Mapping[str, Subtask],
        asked: tuple[Subtask, ...],
        rng: np.random.Generator,
    ) -> Array:
        """A start [O] near `home_O` [O], which is taken as the start where nothing varies.

        Args:
            joint_range_rad: lowest and highest joint positions [J] to start from.
            subtasks: of the domain.
            asked: goals that must not be complete, the domain's or typed.

        Raises:
            SpecError: the distribution hardly holds such a start.
        """
        start = np.array(home_O, np.float64)
        if self == Starts():
            return start
        names = tuple(goal.name for goal in asked)
        joints, fingers = slice(0, spec.joints), slice(spec.joints, spec.joints + spec.fingers)
        for _ in range(TRIES):
            start[:] = home_O
            start[joints] = self._joints(start[joints], joint_range_rad, rng)
            if self.fingers_m is not None:
                start[fingers] = rng.uniform(*self.fingers_m)
            self._place(start, spec, names, rng)
            self._begin(start, subtasks, names, rng)
            self._shift(start, spec, rng)
            if not any(goal.complete(start) for goal in asked):
                return start
        raise SpecError(f"{TRIES} starts in a row complete one of {', '.join(names)}; ask for less, or draw otherwise")

    def _joints(self, home: Array, joint_range_rad: tuple[Array, Array], rng: np.random.Generator) -> Array:
        low, high = (np.clip(bound, home - CUT * self.arm_rad, home + CUT * self.arm_rad) for bound in joint_range_rad)
        drawn = home + self.arm_rad * rng.standard_normal(home.shape)
        while (out := (drawn < low) | (drawn > high)).any() and self.arm_rad:
            drawn[out] = (home + self.arm_rad * rng.standard_normal(home.shape))[out]
        return drawn

    def _place(self, start: Array, spec: ObservationSpec, asked: tuple[str, ...], rng: np.random.Generator) -> None:
        for name, places in self.places.items():
            chance, place = rng.random(), places.at[int(rng.integers(len(places.at)))]
            if name not in asked and chance < places.chance:
                for channel, value in place.items():
                    start[spec.names.index(channel)] = value

    def _begin(
        self, start: Array, subtasks: Mapping[str, Subtask], asked: tuple[str, ...], rng: np.random.Generator
    ) -> None:
        """Sub-tasks begun or done; objects that have places of their own are left to them."""
        for name, subtask in subtasks.items():
            chance, share = rng.random(), rng.uniform()
            likely = self.begun + (0.0 if name in asked else self.done)
            if name not in self.places and chance < likely:
                channels, way = list(subtask.channels), share if chance < self.begun else 1.0
                start[channels] += way * (np.array(subtask.goal) - start[channels])

    def _shift(self, start: Array, spec: ObservationSpec, rng: np.random.Generator) -> None:
        for name, half in self.offsets.items():
            start[spec.names.index(name)] += rng.uniform(-half, half)
        for name, half in self.turns.items():
            at = [spec.names.index(f"{name}.{part}") for part in POSE]
            start[at] = turned(start[at], float(rng.uniform(-half, half)))


def turned(quaternion: Array, angle_rad: float) -> Array:
    """A unit quaternion [4] (w first) after a turn about the world's z."""
    c, s = np.cos(angle_rad / 2), np.sin(angle_rad / 2)
    w, x, y, z = quaternion
    return np.array([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w])


def parse_starts(table: Table, spec: ObservationSpec) -> Starts:
    """Read a `starts` table.

    Raises:
        SpecError: a number out of bounds, an unknown channel or body, an unknown key.
    """
    arm_rad = _between(table, "arm_rad", 0.0, 1.0) if "arm_rad" in table else 0.0
    fingers = table.vector("fingers_m", 2) if "fingers_m" in table else None
    if fingers is not None and not 0 <= fingers[0] <= fingers[1]:
        raise SpecError(f"{table.where}: fingers_m is {fingers.tolist()}, must be lowest and highest, neither below 0")
    begun, done = (_between(table, key, 0.0, 1.0) if key in table else 0.0 for key in ("begun", "done"))
    if begun + done > 1.0:
        raise SpecError(f"{table.where}: begun {begun:g} and done {done:g} are chances, together at most 1")
    starts = Starts(
        arm_rad=arm_rad,
        fingers_m=None if fingers is None else (float(fingers[0]), float(fingers[1])),
        offsets=_by_name(table, "offsets", spec.names, "channel"),
        turns=_by_name(table, "turns", _bodies(spec), "body with a pose"),
        begun=begun,
        done=done,
        places=_places(table.table("places"), spec) if "places" in table else {},
    )
    table.refuse_others()
    return starts


def _between(table: Table, key: str, low: float, high: float) -> float:
    value = table.number(key)
    if not low <= value <= high:
        raise SpecError(f"{table.where}: {key} is {value:g}, must lie in {low:g} to {high:g}")
    return value


def _by_name(table: Table, key: str, known: tuple[str, ...], what: str) -> dict[str, float]:
    if key not in table:
        return {}
    rows = table.table(key)
    if unknown := [name for name in rows if name not in known]:
        raise SpecError(f"{rows.where}: no {what} {unknown[0]!r}; there are {', '.join(known) or 'none'}")
    return {name: rows.number(name, positive=True) for name in rows}


def _bodies(spec: ObservationSpec) -> tuple[str, ...]:
    heads = dict.fromkeys(name.rpartition(".")[0] for name in spec.names if name.endswith(".qw"))
    return tuple(head for head in heads if all(f"{head}.{part}" in spec.names for part in POSE))


def _places(table: Table, spec: ObservationSpec) -> dict[str, Places]:
    found = {}
    for name in table:
        entry = table.table(name)
        rows = entry.tables("at")
        if not rows:
            raise SpecError(f"{entry.where}: at is empty; name a place, or leave the entry out")
        for row in rows:
            if unknown := [channel for channel in row if channel not in spec.names]:
                raise SpecError(f"{row.where}: no channel {unknown[0]!r}; there are {', '.join(spec.names)}")
        at = tuple({channel: row.number(channel) for channel in row} for row in rows)
        found[name] = Places(chance=_between(entry, "chance", 0.0, 1.0), at=at)
        entry.refuse_others()
    return found
