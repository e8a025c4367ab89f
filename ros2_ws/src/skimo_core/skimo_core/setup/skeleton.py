"""The words of a new domain's files: templates with a lab's names, robot, rate and things that move.

Every file that comes of it is read by the reader that it is for before it is given out. Units m, rad, s, Hz.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from ..domain.cell import parse_cell
from ..domain.domain import parse_domain
from ..domain.library import Source
from ..domain.robot import RobotLimits
from ..ingest.mapping_file import parse_mapping
from .scene_objects import FREE, SLIDE, Thing

FILES = ("domain.yaml", "mapping.yaml", "cell.yaml", "scene.yaml", "README.md")
MODEL = "scene.xml"
HOME = "skimo_core.setup"
BLOCK = Thing(name="block", kind=FREE, position_m=(0.45, 0.1, 0.02))
"""What the model that comes along has."""
JOINTS_FIELD = "/joint_states.position"
SKILL_S, EPISODE_S, OBJECT_AGE_S = 0.5, 30.0, 0.1
FREE_PARTS = (("x", "m"), ("y", "m"), ("z", "m"), ("yaw", "rad"))
NOISE = {"rad": 0.01, "m": 0.002}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a new domain is to be.

    Attributes:
        name: of the domain.
        robot: as the domain's file is to name it; `limits` are its.
        rate_hz: control steps per second.
        model: of the lab's scene, as the scene's file is to name it; empty: the one that comes along.
        things: that move in it.
    """

    name: str
    robot: str
    limits: RobotLimits
    rate_hz: float
    model: str = ""
    things: tuple[Thing, ...] = (BLOCK,)


def texts(wish: Wish) -> dict[str, str]:
    """Each file's words by its name; all of them can be read as they are.

    Raises:
        SpecError: the rate, the robot or a thing's name gives a domain that can't be.
    """
    values = _values(wish)
    names = FILES if wish.model else (*FILES, MODEL)
    made = {name: Template(_template(name)).substitute(values.get(name, {}) | values["all"]) for name in names}
    domain = parse_domain(Source(text=made["domain.yaml"], where="domain.yaml", folder=Path()), "domain.yaml")
    parse_cell(made["cell.yaml"], "cell.yaml")
    parse_mapping(made["mapping.yaml"], "mapping.yaml", domain)
    return made


def _template(name: str) -> str:
    return resources.files(HOME).joinpath("templates", name).read_text(encoding="utf-8")


def _values(wish: Wish) -> dict[str, dict[str, str]]:
    """What stands in each file in the places that its template leaves."""
    subtask, goal = _example(wish)
    return {
        "all": {"name": wish.name, "task": "first", "robot_name": wish.limits.name},
        "domain.yaml": {
            "robot": wish.robot,
            "twin": "scene.yaml",
            "rate_hz": f"{wish.rate_hz:g}",
            "horizon": str(max(3, round(SKILL_S * wish.rate_hz))),
            "step_limit": str(round(EPISODE_S * wish.rate_hz)),
            "scale": "1.0",
            "max_age_s": f"{max(OBJECT_AGE_S, 1.5 / wish.rate_hz):.3g}",
            "channels": "\n".join(_channels(wish)),
            "threshold": "0.05",
            "subtasks": f"  {subtask}: {{goal: {{{', '.join(f'{name}: {value:g}' for name, value in goal.items())}}}}}",
            "order": subtask,
            "starts": "\n".join(_starts(wish)),
            "tolerances": "\n".join(f"  {name}: {_tolerance(unit)}" for name, unit in _tolerable(wish)),
        },
        "mapping.yaml": _mapping(wish),
        "scene.yaml": {
            "model": wish.model or MODEL,
            "channels": _table(f"{t.name}: {{{'body' if t.kind == FREE else 'joint'}: {t.name}}}" for t in wish.things),
        },
        "README.md": {"driver": "multipanda" if wish.limits.name == "panda" else "franka_ros2"},
    }


def _table(rows: Iterable[str]) -> str:
    """Rows below a key, or the word for none."""
    return "".join(f"\n  {row}" for row in rows) or " {}"


def _parts(thing: Thing) -> list[tuple[str, str, float]]:
    """Channels of a thing, each with its unit and where it starts."""
    if thing.kind != FREE:
        return [(thing.name, "m" if thing.kind == SLIDE else "rad", 0.0)]
    at = dict(zip("xyz", thing.position_m or (0.45, 0.0, 0.02)))
    return [(f"{thing.name}.{part}", unit, at.get(part, 0.0)) for part, unit in FREE_PARTS]


def _channels(wish: Wish) -> list[str]:
    rows = [f"  - {{name: {name}, source: joint, unit: rad, noise: 0.005}}" for name in wish.limits.joint_names]
    rows += [f"  - {{name: {name}, source: finger, unit: m, noise: 0.001}}" for name in wish.limits.finger_names]
    for name, unit, start in (part for thing in wish.things for part in _parts(thing)):
        at = f", start: {start:g}" if start else ""
        rows.append(f"  - {{name: {name}, source: object, unit: {unit}, noise: {NOISE[unit]}{at}}}")
    return rows


def _example(wish: Wish) -> tuple[str, dict[str, float]]:
    """One sub-task: the first thing that moves, moved; or the arm's first joint, where nothing does."""
    if not wish.things:
        return "look left", {wish.limits.joint_names[0]: 0.5}
    first = wish.things[0]
    if first.kind != FREE:
        return f"{first.name} open", {first.name: 0.1 if first.kind == SLIDE else 0.5}
    x, y, _ = ((name, start) for name, _, start in _parts(first)[:3])
    return f"push {first.name}", {x[0]: x[1] + 0.1, y[0]: y[1]}


def _starts(wish: Wish) -> list[str]:
    width_m = wish.limits.hand_width_max_m / 2
    rows = [f"  fingers_m: [0.0, {width_m:g}]"] if wish.limits.finger_names else []
    offsets = [name for thing in wish.things if thing.kind == FREE for name, _, _ in _parts(thing)[:2]]
    return rows + (["  offsets:", *(f"    {name}: 0.05" for name in offsets)] if offsets else [])


def _tolerable(wish: Wish) -> Sequence[tuple[str, str]]:
    parts = [(name, unit) for thing in wish.things for name, unit, _ in _parts(thing)]
    return parts[:2] or [(wish.limits.joint_names[0], "rad")]


def _tolerance(unit: str) -> str:
    return "0.02" if unit == "m" else "0.1"


def _mapping(wish: Wish) -> dict[str, str]:
    limits = wish.limits
    fingers, hand = "", ""
    if limits.finger_names:
        span = f"{limits.finger_names[0]}..{limits.finger_names[-1]}"
        fingers = f"  {span}: {{width_field: /gripper.width, unit: m}} # the distance between the fingers\n"
        hand = (
            "  hand: {kind: width, threshold_m: 0.01} # what the hand was told, from its width; or `command`, `open`\n"
        )
    rows = []
    for thing in wish.things:
        parts = _parts(thing)
        if thing.kind == FREE:
            rows.append(f"  {thing.name}.x..{thing.name}.z: {{field: /{thing.name}.position, columns: 0..2, unit: m}}")
            rows.append(f"  {thing.name}.yaw: {{field: /{thing.name}.yaw, unit: rad, unwrap: true}}")
        else:
            rows.append(f"  {thing.name}: {{field: /{thing.name}.position, unit: {parts[0][1]}}}")
    return {
        "joints": f"{limits.joint_names[0]}..{limits.joint_names[-1]}",
        "joints_field": JOINTS_FIELD,
        "last_joint": str(limits.joints - 1),
        "fingers": fingers,
        "hand": hand,
        "objects": "\n".join(rows),
    }


def beside(path: Path, folder: Path) -> str:
    """How a file in `folder` names another one: relative, with a slash."""
    name = os.path.relpath(path.expanduser().absolute(), folder.absolute())
    return name if "/" in name else f"./{name}"
