"""`skimo new-domain NAME`: a folder with the files of a lab's own domain, to be filled in; they load as they are.

A file that is there is never overwritten, and nothing is written where anything can't be.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..contract.errors import SetupError, SkimoError, SpecError
from ..domain import library
from ..domain.domain import MAX_RATE_HZ, MIN_RATE_HZ
from ..domain.robot import load_limits
from ..process.whole import new_folder
from .scene_objects import things_in
from .skeleton import BLOCK, Wish, beside, texts

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDomainArgs:
    """Write the files of a new domain into a folder of its name: domain, mapping, cell, scene, and what to do next."""

    name: Annotated[str, tyro.conf.Positional]
    """of the domain: letters, digits and _"""
    out: Path = Path()
    """where the folder goes"""
    robot: str = "fr3"
    """whose limits hold: fr3, panda, or a robot's file"""
    rate_hz: float = 20.0
    """control steps per second"""
    scene: Path | None = None
    """MJCF or URDF of the lab's scene, without the arm: what moves in it becomes channels; none: a block on a table"""


def new_domain(argv: list[str]) -> int:
    """Write the files of a new domain: channels, mapping, cell, scene, and what to do next."""
    args = tyro.cli(NewDomainArgs, args=argv, prog="skimo new-domain")
    try:
        folder = write_domain(args)
    except SkimoError as error:
        print(f"skimo new-domain: {error}", file=sys.stderr)
        return 1
    print(f"wrote {folder}: begin with its README.md; each file says what to change")
    print(f"skimo doctor --domain {folder}/domain.yaml")
    return 0


def write_domain(args: NewDomainArgs) -> Path:
    """Write the files; return their folder.

    Raises:
        SpecError: a name, robot, rate or scene that can't be.
        SetupError: the folder is there, or can't be made.
    """
    check_name(args.name)
    if not MIN_RATE_HZ <= args.rate_hz <= MAX_RATE_HZ:
        raise SpecError(f"--rate-hz is {args.rate_hz:g}, must lie in {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}")
    folder = args.out.expanduser() / args.name
    limits = load_limits(args.robot)
    robot = beside(Path(args.robot), folder) if library.is_path(args.robot) else args.robot
    things, model = (BLOCK,), ""
    if args.scene is not None:
        things = things_in(args.scene.expanduser(), (*limits.joint_names, *limits.finger_names))
        model = beside(args.scene, folder)
    made = texts(Wish(name=args.name, robot=robot, limits=limits, rate_hz=args.rate_hz, model=model, things=things))
    if folder.exists() or folder.is_symlink():
        raise SetupError(
            f"{folder} is there already, and nothing is overwritten; choose another name, or another --out"
        )
    try:
        with new_folder(folder) as place:
            for name, text in made.items():
                (place / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{folder} can't be written: {error.strerror or error}; choose another --out") from None
    return folder


def check_name(name: str) -> None:
    """Raises SpecError for what can't be a domain's name, or is one already."""
    if not NAME.fullmatch(name):
        raise SpecError(
            f"{name[:60]!r} can't name a domain: a letter, then letters, digits and _, at most 40; e.g. my_table"
        )
    if name in library.known("domains"):
        raise SpecError(f"there is a domain {name!r} already, and a name that ships or is installed wins; take another")
