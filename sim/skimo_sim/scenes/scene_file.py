"""A scene file: what a lab's own model is to a twin, as data. `scenes/*.yaml`, or what a domain's `twin` names.

    name: workbench
    model: workbench.xml              MJCF or URDF, relative to this file
    arm:                              all of it may be left out: our Panda at the model's origin
      body: table                     stands on a body that does not move; the world where not named
      xyz_m: [0.0, 0.0, 0.0]          its base in that body's frame
      rpy_rad: [0.0, 0.0, 1.57]       turned about the fixed axes x, then y, then z, as URDF has it
      home_rad: [0, -0.8, ...]        where it starts; the robot's own home where not given
      fingers: franka                 or long: the longer fingertips of the kitchen
    frame: world                      what bodies' poses are told in: the model's world, or the arm's base (base)
    channels:                         each object channel of the domain, by its name ...
      drawer: {joint: drawer_slide}   the value of a hinge or a slide
      cup.height: {body: cup, value: z}
      knob.x: {site: knob_tip, value: x}
      block: {body: block}            ... or several by what stands before the dot: block.x, block.qw, block.yaw
    visual: [curtain]                 bodies that touch nothing
    cameras:
      side: {eye_m: [1, 1, 1], target_m: [0.4, 0, 0], fovy_deg: 48}
    timestep_s: 0.002                 of the physics

A body's values are x, y, z (m), qw, qx, qy, qz (qw not below 0) and yaw (its turn about z, -pi to pi rad), of its frame
in the model. What has a free joint of its own is put where a start has it; any other body, and a site, is only told.
Cameras room, left and front are there in any case. Found as domains are (skimo_core.domain.library), kind `scenes`.
Units m, rad, s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS, Array
from skimo_core.domain import library
from skimo_core.domain.tables import Table, read_yaml

from .mount import FINGER_KINDS, STANDARD

KIND, PACKAGE = "scenes", "skimo_sim"
POSITION, TURN, YAW = ("x", "y", "z"), ("qw", "qx", "qy", "qz"), "yaw"
VALUES = (*POSITION, *TURN, YAW)
SOURCES = ("joint", "body", "site")
WORLD, BASE = "world", "base"
TIMESTEP_S, TIMESTEP_MIN_S, TIMESTEP_MAX_S = 0.002, 1e-4, 0.004
"""Beyond the longest the arm's servos swing."""
FOVY_DEG = 48.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a channel, or all channels of one name before the dot, is in the model.

    Attributes:
        source: one of SOURCES.
        of: the element's name.
        value: one of VALUES; empty for a joint, and where each channel's own name says it.
    """

    source: str
    of: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A camera: where its eye is and what point it looks at, in the model's world."""

    eye_m: Array
    target_m: Array
    fovy_deg: float = FOVY_DEG


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFile:
    """What a scene file says; see the module.

    Attributes:
        where: what it is called in errors.
        model: path of MJCF or URDF.
        on: the body that the arm stands on; empty: the world.
        home_rad: [7], or None.
    """

    name: str
    where: str
    model: Path
    on: str = ""
    xyz_m: Array = field(default_factory=lambda: np.zeros(3))
    rpy_rad: Array = field(default_factory=lambda: np.zeros(3))
    home_rad: Array | None = None
    fingers: str = STANDARD
    frame: str = WORLD
    channels: Mapping[str, Entry] = field(default_factory=dict)
    visual: tuple[str, ...] = ()
    cameras: Mapping[str, View] = field(default_factory=dict)
    timestep_s: float = TIMESTEP_S


def known_scenes() -> tuple[str, ...]:
    """Names of the scenes that ship, and of those that other packages bring."""
    return library.known(KIND, PACKAGE)


def load_scene_file(name_or_path: str | Path) -> SceneFile:
    """Load a scene by its name, or a scene file by its path.

    Raises:
        SpecError: no such scene or file, or it is malformed.
    """
    name = str(name_or_path)
    if library.is_path(name) and not Path(name).expanduser().is_file():
        raise SpecError(
            f"there is no scene file {name}; it lies beside the domain's own file (a bundle carries its domain without "
            "it): name that one as the domain"
        )
    return parse_scene_file(library.find(KIND, name, PACKAGE))


def parse_scene_file(source: library.Source) -> SceneFile:
    """Read the words of a scene file.

    Raises:
        SpecError: not YAML; a key missing, unknown or of the wrong type; a number out of bounds.
    """
    root = Table(read_yaml(source.text, source.where), source.where)
    folder = Path(__file__).resolve().parent if source.folder is None else source.folder
    arm = root.table("arm") if "arm" in root else Table({}, source.where)
    found = SceneFile(
        name=root.text("name"),
        where=source.where,
        model=folder / root.text("model"),
        on=arm.text("body") if "body" in arm else "",
        xyz_m=arm.vector("xyz_m", 3) if "xyz_m" in arm else np.zeros(3),
        rpy_rad=arm.vector("rpy_rad", 3) if "rpy_rad" in arm else np.zeros(3),
        home_rad=arm.vector("home_rad", JOINTS) if "home_rad" in arm else None,
        fingers=arm.choice("fingers", FINGER_KINDS) if "fingers" in arm else STANDARD,
        frame=root.choice("frame", (WORLD, BASE)) if "frame" in root else WORLD,
        channels=_entries(root.table("channels")) if "channels" in root else {},
        visual=root.texts("visual") if "visual" in root else (),
        cameras=_views(root.table("cameras")) if "cameras" in root else {},
        timestep_s=_timestep(root),
    )
    arm.refuse_others()
    root.refuse_others()
    return found


def _entries(table: Table) -> dict[str, Entry]:
    found = {}
    for name in table:
        row = table.table(name)
        given = [source for source in SOURCES if source in row]
        if len(given) != 1:
            raise SpecError(
                f"{row.where}: names {', '.join(given) or 'nothing'}; a channel is one of {_words(SOURCES)}"
            )
        source = given[0]
        value = row.choice("value", VALUES) if source != "joint" and "value" in row else ""
        found[name] = Entry(source=source, of=row.text(source), value=value)
        row.refuse_others()
    return found


def _views(table: Table) -> dict[str, View]:
    found = {}
    for name in table:
        row = table.table(name)
        eye, target = row.vector("eye_m", 3), row.vector("target_m", 3)
        if np.linalg.norm((eye - target)[:2]) < 1e-6:
            raise SpecError(f"{row.where}: eye_m lies straight above or below target_m; move it a little to a side")
        fovy = row.number("fovy_deg", positive=True) if "fovy_deg" in row else FOVY_DEG
        if fovy >= 180:
            raise SpecError(f"{row.where}: fovy_deg is {fovy:g}, must be below 180")
        found[name] = View(eye_m=eye, target_m=target, fovy_deg=fovy)
        row.refuse_others()
    return found


def _timestep(root: Table) -> float:
    value = root.number("timestep_s") if "timestep_s" in root else TIMESTEP_S
    if not TIMESTEP_MIN_S <= value <= TIMESTEP_MAX_S:
        raise SpecError(
            f"{root.where}: timestep_s is {value:g}, must lie in {TIMESTEP_MIN_S:g} to {TIMESTEP_MAX_S:g} s: longer "
            "steps make the arm's servos swing"
        )
    return value


def _words(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
