"""What moves in a lab's model, read from its words alone: MJCF (mujoco.readthedocs.io) or URDF (wiki.ros.org/urdf/XML).

A proposal for channels, no more: included files and macros are not followed, and joints of the arm itself are left out.
The twin says whether the model holds (`skimo_sim.scenes`). Units m, rad.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..contract.errors import SpecError

FREE, HINGE, SLIDE = "free", "hinge", "slide"
URDF_KINDS = {"revolute": HINGE, "continuous": HINGE, "prismatic": SLIDE, "floating": FREE}
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
MAX_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One that moves.

    Attributes:
        name: of the joint, or of the body that is free.
        kind: FREE, HINGE or SLIDE.
        position_m: [3] of a free body in the model's world, where the model says it directly.
    """

    name: str
    kind: str
    position_m: tuple[float, float, float] | None = None


def things_in(path: Path, but: Iterable[str] = ()) -> tuple[Thing, ...]:
    """What moves in a model file.

    Args:
        but: names of joints that are the arm's and hand's.

    Raises:
        SpecError: it can't be read, is no XML, neither MJCF nor URDF, or a name in it can't be a channel's.
    """
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise SpecError(f"{path} holds more than {MAX_BYTES} bytes; is it the right file?")
        root = ElementTree.fromstring(data)
    except OSError as error:
        raise SpecError(f"scene {path} can't be read: {error.strerror or error}; give an MJCF or URDF file") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise SpecError(f"scene {path} is no XML ({error}); give an MJCF or URDF file") from None
    readers = {"mujoco": _of_mjcf, "robot": _of_urdf}
    if root.tag not in readers:
        raise SpecError(f"scene {path}: its root is <{root.tag[:40]}>; an MJCF's is <mujoco>, a URDF's <robot>")
    found = [thing for thing in readers[root.tag](root) if thing.name not in set(but)]
    if wrong := [thing.name for thing in found if not WORD.fullmatch(thing.name)]:
        raise SpecError(
            f"scene {path}: {wrong[0][:60]!r} moves, and a channel can't be named so; give it a name of letters, "
            "digits and _ in the model"
        )
    names = [thing.name for thing in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SpecError(f"scene {path}: two things that move are called {twice[0]!r}; names must differ")
    return tuple(found)


def _of_mjcf(root: ElementTree.Element) -> Iterator[Thing]:
    kinds = _default_kinds(root)
    for world in root.iter("worldbody"):
        for body in world.findall("body"):
            yield from _of_body(body, kinds, body.get("childclass", ""), top=True)


def _of_body(body: ElementTree.Element, kinds: dict[str, str], inherited: str, *, top: bool) -> Iterator[Thing]:
    for joint in (*body.findall("freejoint"), *body.findall("joint")):
        usual = kinds.get(joint.get("class", inherited), HINGE)
        kind = FREE if joint.tag == "freejoint" else joint.get("type", usual)
        if kind == FREE:
            yield Thing(name=body.get("name", ""), kind=FREE, position_m=_position(body) if top else None)
        elif kind in (HINGE, SLIDE):
            yield Thing(name=joint.get("name", ""), kind=kind)
    for child in body.findall("body"):
        yield from _of_body(child, kinds, child.get("childclass", inherited), top=False)


def _default_kinds(root: ElementTree.Element) -> dict[str, str]:
    """What kind a joint is that doesn't say so, by the name of its default class."""
    found: dict[str, str] = {}

    def walk(element: ElementTree.Element, inherited: str) -> None:
        joint = element.find("joint")
        kind = inherited if joint is None else joint.get("type", inherited)
        found[element.get("class", "")] = kind
        for child in element.findall("default"):
            walk(child, kind)

    for defaults in root.findall("default"):
        walk(defaults, HINGE)
        found.setdefault("", found.get("main", HINGE))
    return found


def _of_urdf(root: ElementTree.Element) -> Iterator[Thing]:
    for joint in root.findall("joint"):
        kind = URDF_KINDS.get(joint.get("type", ""))
        if kind is None or joint.find("mimic") is not None:
            continue
        child = joint.find("child")
        name = child.get("link", "") if kind == FREE and child is not None else joint.get("name", "")
        yield Thing(name=name, kind=kind)


def _position(body: ElementTree.Element) -> tuple[float, float, float] | None:
    try:
        x, y, z = map(float, body.get("pos", "0 0 0").split())
    except ValueError:
        return None
    return (x, y, z)
