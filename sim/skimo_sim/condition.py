"""A condition: what is different in a trial from the scene as it ships, as data. `conditions/*.yaml`, or a lab's file.

    why: the kettle is full                       the reason a lab would fear it
    starts: none                                  the papers' one start; or a table in the form of a domain's `starts`
    joints:                                       factors on the scene's joints
      microwave: {stiffness: 3, damping: 3, friction: 3}
    bodies:                                       factors on the scene's bodies
      kettleroot: {mass: 3, friction: 0.5}        mass with inertia; friction of its geometry (scenes.factors)
    mount:                                        where the arm stands beside where the scene has it (scenes.placing)
      offset_m: [0.02, -0.02, 0]
      yaw_rad: 0.02
    sensors:
      encoder_rad: 0.02                           each joint's encoder is off by so much, up or down as the seed draws
      noise: 3                                    factor on the domain's observation noise
      objects_delay_s: 0.08                       object states are so old, and their stamps don't tell
    actuation:
      gain: 0.5                                   factor on the servos' kp and kv; their feed-forward stays
      arm: kitchen                                the arm that ships with the kitchen (skimo_sim.scenes.arm)
      delay_s: [0.02, 0.04]                       trajectories arrive so late, drawn from the seed for each
    patience: 1.5                                 factor on the control steps that an episode may take

Every key but `why` may be left out; what is not named stays as it is. Found by name, path or entry point of group
`skimo.conditions`, as domains are (skimo_core.domain.library). Units m, rad, s; factors have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.domain import library
from skimo_core.domain.domain import Domain, varied
from skimo_core.domain.starts import STARTS, Starts, parse_starts
from skimo_core.domain.tables import Table, read_yaml

KIND, PACKAGE = "conditions", "skimo_sim"
DRAWN, PAPERS = STARTS
"""The condition that changes nothing, and that of the one start that the papers have."""
EVERY = "all"
FACTOR_MIN, FACTOR_MAX = 0.01, 100.0
ENCODER_MAX_RAD = 0.2
DELAY_MAX_S = 1.0
MOUNT_MAX_M, MOUNT_MAX_RAD = 0.1, 0.1
"""An arm that stands further from where its scene has it does not stand in that scene, by a rig neither."""
PATIENCE_MIN, PATIENCE_MAX = 0.1, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JointFactors:
    """Factors on a joint's stiffness, damping and Coulomb friction."""

    stiffness: float = 1.0
    damping: float = 1.0
    friction: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyFactors:
    """Factors on a body's mass with its inertia, and on the friction of its geometry."""

    mass: float = 1.0
    friction: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Where the arm's base stands, and how far it is turned about its z, in the frame in which the scene has it."""

    offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw_rad: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensors:
    """What the sensors do; see the module."""

    encoder_rad: float = 0.0
    noise: float = 1.0
    objects_delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Actuation:
    """What the arm makes of commands; see the module. `arm`: one of the scene's, empty: the one that the twin has;
    `delay_s`: shortest and longest."""

    gain: float = 1.0
    arm: str = ""
    delay_s: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is different; the defaults change nothing.

    Attributes:
        name: as it was asked for; a file's is its stem.
        why: the reason a lab would fear it.
        starts: instead of the domain's; None: those.
        joints, bodies: by name in the scene.
        patience: factor on an episode's step limit.
    """

    name: str
    why: str
    starts: Starts | None = None
    joints: Mapping[str, JointFactors] = field(default_factory=dict)
    bodies: Mapping[str, BodyFactors] = field(default_factory=dict)
    mount: Mount = Mount()
    sensors: Sensors = Sensors()
    actuation: Actuation = Actuation()
    patience: float = 1.0

    @property
    def scene_parts(self) -> tuple[str, ...]:
        """Which of its parts only a twin with a scene can do."""
        parts = {
            "starts": self.starts not in (None, Starts()),
            "joints": bool(self.joints),
            "bodies": bool(self.bodies),
            "mount": self.mount != Mount(),
            "actuation: gain": self.actuation.gain != 1.0,
            "actuation: arm": bool(self.actuation.arm),
        }
        return tuple(name for name, wanted in parts.items() if wanted)

    @property
    def impairs(self) -> bool:
        """Whether states or commands are off or late."""
        return bool(self.sensors.encoder_rad or self.sensors.objects_delay_s or self.actuation.delay_s[1])

    def seen(self, domain: Domain) -> Domain:
        """The domain as whoever flies an episode has it here: its observation noise, and how long it may take."""
        return varied(domain, self.sensors.noise, self.patience)


def load_condition(name_or_path: str | Path, domain: Domain) -> Condition:
    """Load a condition by its name, or a file by its path; empty: `drawn`.

    Raises:
        SpecError: no such condition, or it is malformed, or not for this domain's channels.
    """
    name = str(name_or_path or DRAWN)
    source = library.find(KIND, name, PACKAGE)
    return parse_condition(source, Path(name).stem if library.is_path(name) else name, domain)


def load_conditions(names: str, domain: Domain) -> dict[str, str]:
    """Check conditions joined by commas, or `all` that ship; returns each one's name and what it is loaded by.

    Raises:
        SpecError: one can't be loaded, or is there twice.
    """
    asked = [part.strip() for part in names.split(",")]
    if asked == [EVERY]:
        ships = library.shipped(KIND, PACKAGE)
        asked = [DRAWN, *(name for name in ships if name != DRAWN)]
    found: dict[str, str] = {}
    for name in asked:
        condition = load_condition(name, domain)
        if condition.name in found:
            raise SpecError(f"condition {condition.name!r} is asked for twice; name each once")
        found[condition.name] = name
    return found


def parse_condition(source: library.Source, name: str, domain: Domain) -> Condition:
    """Read the words of a condition's file, named `name`.

    Raises:
        SpecError: not YAML; a key missing or unknown; a factor, delay or offset out of bounds; an unknown channel.
    """
    root = Table(read_yaml(source.text, source.where), source.where)
    condition = Condition(
        name=name,
        why=root.text("why"),
        starts=_starts(root, domain),
        joints={n: JointFactors(**f) for n, f in _factors(root, "joints", ("stiffness", "damping", "friction"))},
        bodies={n: BodyFactors(**f) for n, f in _factors(root, "bodies", ("mass", "friction"))},
        mount=_mount(root.table("mount")) if "mount" in root else Mount(),
        sensors=_sensors(root.table("sensors")) if "sensors" in root else Sensors(),
        actuation=_actuation(root.table("actuation")) if "actuation" in root else Actuation(),
        patience=_number(root, "patience", PATIENCE_MIN, PATIENCE_MAX) if "patience" in root else 1.0,
    )
    root.refuse_others()
    return condition


def _starts(root: Table, domain: Domain) -> Starts | None:
    if "starts" not in root:
        return None
    if root.value("starts") == "none":
        return Starts()
    return parse_starts(root.table("starts"), domain.observation)


def _factors(root: Table, key: str, names: tuple[str, ...]) -> list[tuple[str, dict[str, float]]]:
    if key not in root:
        return []
    found, table = [], root.table(key)
    for name in table:
        row = table.table(name)
        factors = {what: _number(row, what, FACTOR_MIN, FACTOR_MAX) for what in names if what in row}
        _refuse_others(row, names)
        found.append((name, factors))
    return found


def _mount(table: Table) -> Mount:
    offset = table.vector("offset_m", 3) if "offset_m" in table else np.zeros(3)
    yaw = table.number("yaw_rad") if "yaw_rad" in table else 0.0
    _refuse_others(table, ("offset_m", "yaw_rad"))
    x, y, z = (float(value) for value in offset)
    if np.linalg.norm(offset) > MOUNT_MAX_M or abs(yaw) > MOUNT_MAX_RAD:
        raise SpecError(
            f"{table.where}: the arm would stand {np.linalg.norm(offset):.3f} m and {yaw:g} rad from where the scene "
            f"has it, bounds {MOUNT_MAX_M:g} m and {MOUNT_MAX_RAD:g} rad"
        )
    return Mount(offset_m=(x, y, z), yaw_rad=yaw)


def _sensors(table: Table) -> Sensors:
    bounds = {
        "encoder_rad": (0.0, ENCODER_MAX_RAD),
        "noise": (0.0, FACTOR_MAX),
        "objects_delay_s": (0.0, DELAY_MAX_S),
    }
    found = {key: _number(table, key, *bound) for key, bound in bounds.items() if key in table}
    _refuse_others(table, tuple(bounds))
    return Sensors(**found)


def _actuation(table: Table) -> Actuation:
    gain = _number(table, "gain", FACTOR_MIN, FACTOR_MAX) if "gain" in table else 1.0
    arm = table.text("arm") if "arm" in table else ""
    low, high = table.vector("delay_s", 2) if "delay_s" in table else (0.0, 0.0)
    if not 0.0 <= low <= high <= DELAY_MAX_S:
        raise SpecError(
            f"{table.where}: delay_s is [{low:g}, {high:g}], must be shortest and longest, in 0 to {DELAY_MAX_S:g}"
        )
    _refuse_others(table, ("gain", "arm", "delay_s"))
    return Actuation(gain=gain, arm=arm, delay_s=(float(low), float(high)))


def _refuse_others(table: Table, known: tuple[str, ...]) -> None:
    if unknown := [key for key in table if key not in known]:
        raise SpecError(f"{table.where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")


def _number(table: Table, key: str, low: float, high: float) -> float:
    value = table.number(key)
    if not low <= value <= high:
        raise SpecError(f"{table.where}: {key} is {value:g}, must lie in {low:g} to {high:g}")
    return value
