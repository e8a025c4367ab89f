"""A domain: what tasks at one table share, as data. `domains/*.yaml`, or a lab's own file (`library`).

    name: workbench
    robot: fr3                    whose limits hold: a robot's name or file
    cell: open                    what stands around the arm: a cell's name or file
    twin: kinematic               who simulates it: an entry point of group skimo.twins, or a scene's name or file
    rate_hz: 20                   control steps per second
    horizon: 10                   control steps that a skill lasts
    step_limit: 200               control steps of an episode
    action: {velocity_scale_rad_s: 1.0}       joint velocity that an action of 1 means; without joint channels instead
                                  {others: [force.x, ...]}, and `robot` (none) and `cell` (open) may be left out
    objects: {max_age_s: 0.15, hidden_s: 0.5}
    base: {position_m: [0, 0, 0.8], quat_wxyz: [1, 0, 0, 0]}      of the arm in the frame of the objects' poses, for who
                                  draws both; where it is left out, they are one
    channels:                     joints first, then fingers, then objects; the order is the observation's
      - {name: fr3_joint1, source: joint, unit: rad, noise: 0.01}
      - {name: cube.x, source: object, unit: m, noise: 0.002, scale: 0.05, start: 0.4}
    threshold: 1.0                distance under which a sub-task is complete; a sub-task may have its own
    subtasks: {lift: {goal: {cube.z: 0.2}}}
    goals: {put down: {goal: {cube.z: 0.02}}}     more that may be asked for by name; no sub-tasks of the table's tasks
    recovery: put down            a goal to plan for where plans for a sub-task don't get it done, before it is begun
                                  anew (`control.recovery`); none: it is never
    tasks: {all: [reach, lift]}   named orders; the first is what an episode does that names none
    starts: {arm_rad: 0.1}        how a twin draws its start from the seed (`starts`); none: one start
    tolerances: {cube.x: 0.01}    of a channel's goal that is typed without one; else 0.1 rad, 0.03 m, 0.1 without unit

How a task is asked for, by these names or by channels and values, says `goals`.

`digest` covers what a policy depends on: channels with their units and sources, the action, rate and horizon. Goals,
thresholds, tolerances, scales, noise, orders and starts may change under a policy that plans towards given goals.
Units m, rad, s.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.errors import SpecError
from ..contract.specs import ActionSpec, Named, ObservationSpec
from . import library
from .goals import TOLERANCES, Vocabulary, refuse_reserved
from .pose import HERE, Pose, read_pose
from .robot import NO_ARM
from .starts import Starts, parse_starts
from .tables import Table, read_yaml
from .tasks import Subtask, Task

DEFAULT = "kitchen"
SOURCES = ("joint", "finger", "object")
MIN_RATE_HZ, MAX_RATE_HZ = 1.0, 40.0
MAX_ARMLESS_RATE_HZ = 1000.0
"""A command may take 12 ms to an arm, and half a control period must hold that (`control.actuate`); without an arm
there is no such way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """What is asked of the objects' tracker; raises SpecError where that can't be.

    Attributes:
        max_age_s: how old its newest message may be, its own latency included.
        hidden_s: how long the last value of a channel that it doesn't see (NaN, or left out) stands in.
    """

    max_age_s: float
    hidden_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.max_age_s <= 10 and 0 <= self.hidden_s <= 60):
            raise SpecError(
                f"objects: max_age_s is {self.max_age_s:g} (above 0, at most 10), hidden_s {self.hidden_s:g} (0 to 60)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Everything that tasks at one table share.

    Attributes:
        robot, cell, twin: names or paths of what belongs to it, each its default where a caller names none.
        observation, action: specs.
        horizon: H, control steps that a skill lasts.
        tracking: of the objects.
        noise: [O] half width of the uniform observation noise, in each channel's unit.
        start: [O] where things stand at a plain start, and a twin without physics begins, in each channel's unit (arm:
            the robot's home).
        starts: how a twin's start is drawn from a seed.
        subtasks: by name.
        goals: more goals by name, which may be asked for and are no sub-tasks.
        recovery: the one to plan for where plans for a sub-task don't get it done; empty: none.
        tolerances: [O] of a goal that is typed without one, in each channel's unit; NaN: it must have one.
        orders: named tasks, each a list of names of sub-tasks or goals.
        step_limit: control steps of an episode, those left out that were spent held.
        digest: SHA-256 of what a policy depends on.
        base: where the arm's base stands in the frame of the objects' poses.
        source: the name or path that it was loaded by.
    """

    name: str
    robot: str
    cell: str
    twin: str
    observation: ObservationSpec
    action: ActionSpec
    horizon: int
    tracking: Tracking
    noise: npt.NDArray[np.float32]
    start: npt.NDArray[np.float32]
    starts: Starts
    subtasks: dict[str, Subtask]
    goals: dict[str, Subtask]
    tolerances: tuple[float, ...]
    orders: dict[str, tuple[str, ...]]
    step_limit: int
    digest: str
    source: str
    base: Pose = HERE
    recovery: str = ""

    @property
    def named(self) -> Named:
        """What names it."""
        return Named(name=self.name, digest=self.digest)

    @property
    def default_task(self) -> str:
        """What an episode does that names nothing."""
        return next(iter(self.orders or self.subtasks))

    def task(self, name: str = "") -> Task:
        """A named task, or goals joined by commas, in that order (`goals`); the domain's first where none is named.

        Raises:
            SpecError: a task that can't be read, and why.
        """
        name = name or self.default_task
        words = Vocabulary(
            domain=self.name,
            observation=self.observation,
            tolerances=self.tolerances,
            named=self.subtasks | self.goals,
            orders=self.orders,
        )
        found = words.read(name)
        known = name if name in self.orders else ",".join(goal.name for goal in found)
        return Task(name=known, subtasks=found, step_limit=self.step_limit)

    def check_within(self, task: Task, low_O: Sequence[float], high_O: Sequence[float]) -> Task:
        """Return `task` if each goal lies, within its tolerance, in the range [O] that a policy's data cover.

        Args:
            low_O, high_O: least and greatest value seen of each channel, in its unit; both empty: not known.

        Raises:
            SpecError: a goal beyond; or ranges of another size than the observation.
        """
        if not len(low_O) and not len(high_O):
            return task
        if {len(low_O), len(high_O)} != {self.observation.size}:
            raise SpecError(
                f"ranges of {len(low_O)} and {len(high_O)} channels, wanted {self.observation.size} of each"
            )
        for goal in task.subtasks:
            for channel, value, tolerance in zip(goal.channels, goal.goal, goal.tolerances):
                low, high = low_O[channel], high_O[channel]
                if not low - tolerance <= value <= high + tolerance:
                    name, unit = self.observation.names[channel], self.observation.units[channel]
                    raise SpecError(
                        f"goal {goal.name!r}: {name} {value:g} {unit} is not within {tolerance:g} of what the policy's "
                        f"data cover, {low:g} to {high:g} {unit}; ask for a value in between, or train on data that "
                        "reach it"
                    )
        return task


def known_domains() -> tuple[str, ...]:
    """Names of the domains that ship, and of those that other packages bring."""
    return library.known("domains")


def varied(domain: Domain, noise: float = 1.0, patience: float = 1.0) -> Domain:
    """The domain with so many times its observation noise and its episodes' step limit."""
    if noise == patience == 1.0:
        return domain
    return replace(domain, noise=domain.noise * noise, step_limit=max(1, round(domain.step_limit * patience)))


def load_domain(name_or_path: str | Path = DEFAULT) -> Domain:
    """Load a domain by its name, or a domain file by its path.

    Raises:
        SpecError: no such domain or file, or it is malformed.
    """
    source = library.find("domains", name_or_path or DEFAULT)
    return parse_domain(source, str(name_or_path or DEFAULT))


def parse_domain(source: library.Source, name: str) -> Domain:
    """Read the words of a domain file, loaded as `name`.

    Raises:
        SpecError: not YAML; a key missing, unknown or of the wrong type; channels out of order; a goal over no channel.
    """
    root = Table(read_yaml(source.text, source.where), source.where)
    rows = root.tables("channels")
    observation = _observation(rows, root.where)
    action = _action(root.table("action"), observation, root.number("rate_hz", positive=True))
    horizon, step_limit = root.whole("horizon", low=3), root.whole("step_limit", low=1)
    subtasks, goals = _subtasks(root, rows, observation), _goals(root, rows, observation)
    objects = root.table("objects") if "objects" in root else Table({}, source.where)
    domain = Domain(
        name=root.text("name"),
        robot=library.beside(source, _unless_armless(root, "robot", NO_ARM, observation)),
        cell=library.beside(source, _unless_armless(root, "cell", "open", observation)),
        twin=library.beside(source, root.text("twin")) if "twin" in root else "kinematic",
        observation=observation,
        action=action,
        horizon=horizon,
        tracking=_tracking(objects, action.period_s),
        noise=np.array([_optional(row, "noise", 0.0) for row in rows], np.float32),
        start=np.array([_optional(row, "start", 0.0) for row in rows], np.float32),
        starts=parse_starts(root.table("starts"), observation) if "starts" in root else Starts(),
        subtasks=subtasks,
        goals=goals,
        tolerances=_tolerances(root, observation),
        orders=_orders(root, subtasks | goals),
        step_limit=step_limit,
        digest=_digest(observation, action, horizon),
        source=name,
        base=read_pose(root.table("base")) if "base" in root else HERE,
        recovery=_recovery(root, subtasks | goals),
    )
    for table in (root, objects, *rows):
        table.refuse_others()
    return domain


def _observation(rows: list[Table], where: str) -> ObservationSpec:
    sources = [row.choice("source", SOURCES) for row in rows]
    for index, (one, other) in enumerate(itertools.pairwise(sources)):
        if SOURCES.index(one) > SOURCES.index(other):
            raise SpecError(
                f"{where}: channels[{index + 1}] is a {other}'s after a {one}'s; joints come first, then fingers, "
                "then objects"
            )
    try:
        return ObservationSpec(
            names=tuple(row.text("name") for row in rows),
            units=tuple(row.text("unit") for row in rows),
            joints=sources.count("joint"),
            fingers=sources.count("finger"),
        )
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None


def _unless_armless(root: Table, key: str, default: str, observation: ObservationSpec) -> str:
    """What stands under `key`, which a domain without joints may leave out."""
    return default if not observation.joints and key not in root else root.text(key)


def _tracking(table: Table, period_s: float) -> Tracking:
    try:
        return Tracking(max_age_s=_optional(table, "max_age_s", period_s), hidden_s=_optional(table, "hidden_s", 0.0))
    except SpecError as error:
        raise SpecError(f"{table.where}: {error}") from None


def _action(table: Table, observation: ObservationSpec, rate_hz: float) -> ActionSpec:
    joints, fingers = observation.joints, observation.fingers
    highest_hz = MAX_RATE_HZ if joints else MAX_ARMLESS_RATE_HZ
    if not MIN_RATE_HZ <= rate_hz <= highest_hz:
        raise SpecError(f"{table.where}: rate_hz is {rate_hz:g}, must lie in {MIN_RATE_HZ:g} to {highest_hz:g}")
    others = table.texts("others") if "others" in table else ()
    names = (
        *(f"{name}.velocity" for name in observation.names[:joints]),
        *(f"{name}.intent" for name in observation.names[joints : joints + fingers]),
        *others,
    )
    scale = table.number("velocity_scale_rad_s", positive=True) if joints else 1.0
    table.refuse_others()
    if not names or (joints and others):
        raise SpecError(
            f"{table.where}: an arm's actions are its joints' velocities and its fingers' intents; a domain without an "
            "arm names its actions in `others`"
        )
    return ActionSpec(names=names, scale_rad_s=scale, rate_hz=rate_hz, joints=joints)


def _subtasks(root: Table, rows: list[Table], observation: ObservationSpec) -> dict[str, Subtask]:
    found = _named(root, "subtasks", rows, observation)
    if not found:
        raise SpecError(f"{root.where}: subtasks: there are none; a domain has at least one")
    return found


def _goals(root: Table, rows: list[Table], observation: ObservationSpec) -> dict[str, Subtask]:
    found = _named(root, "goals", rows, observation) if "goals" in root else {}
    for other in ("subtasks", "tasks"):
        if taken := [name for name in found if other in root and name in root.table(other)]:
            raise SpecError(f"{root.where}: goals: {taken[0]!r} is also one of {other}; give it a name of its own")
    return found


def _named(root: Table, key: str, rows: list[Table], observation: ObservationSpec) -> dict[str, Subtask]:
    scales = [_optional(row, "scale", 1.0, positive=True) for row in rows]
    table, found = root.table(key), {}
    for name in table:
        entry = table.table(name)
        goal = entry.table("goal")
        if not tuple(goal):
            raise SpecError(f"{goal.where}: a goal over no channel; channels are {', '.join(observation.names)}")
        channels = tuple(_channel(goal, channel, observation) for channel in goal)
        own = tuple(scales[k] for k in channels)
        found[name] = Subtask(
            name=name,
            channels=channels,
            goal=tuple(goal.number(channel) for channel in goal),
            threshold=(entry if "threshold" in entry else root).number("threshold", positive=True),
            scales=() if set(own) == {1.0} else own,
        )
        entry.refuse_others()
    refuse_reserved(found, table.where)
    return found


def _channel(table: Table, name: str, observation: ObservationSpec) -> int:
    if name not in observation.names:
        raise SpecError(f"{table.where}: no channel {name!r}; channels are {', '.join(observation.names)}")
    return observation.names.index(name)


def _tolerances(root: Table, observation: ObservationSpec) -> tuple[float, ...]:
    found = [TOLERANCES.get(unit, math.nan) for unit in observation.units]
    if "tolerances" in root:
        table = root.table("tolerances")
        for name in table:
            found[_channel(table, name, observation)] = table.number(name, positive=True)
    return tuple(found)


def _orders(root: Table, named: dict[str, Subtask]) -> dict[str, tuple[str, ...]]:
    if "tasks" not in root:
        return {}
    table = root.table("tasks")
    orders = {name: table.texts(name) for name in table}
    for name, order in orders.items():
        if unknown := [n for n in order if n not in named]:
            raise SpecError(f"{table.where}: {name}: no sub-task {unknown[0]!r}; there are {', '.join(named)}")
    return orders


def _recovery(root: Table, named: dict[str, Subtask]) -> str:
    name = root.text("recovery") if "recovery" in root else ""
    if name and name not in named:
        raise SpecError(f"{root.where}: recovery: no goal {name!r}; there are {', '.join(named)}")
    return name


def _optional(row: Table, key: str, default: float, *, positive: bool = False) -> float:
    return row.number(key, positive=positive) if key in row else default


def _digest(observation: ObservationSpec, action: ActionSpec, horizon: int) -> str:
    covered: dict[str, Any] = {"observation": observation.to_dict(), "action": action.to_dict(), "horizon": horizon}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
