"""`skimo calibrate`: each step of a calibration is a subcommand; each loads what it needs only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module, metadata

import tyro

from skimo_core.contract.errors import SkimoError

PROG = "skimo calibrate"
STEPS: dict[str, str] = {
    "board": "cameras.camera_cli:board",
    "camera": "cameras.camera_cli:camera",
    "hand-eye": "cameras.camera_cli:hand_eye",
    "touch": "cameras.camera_cli:touch",
    "views": "cameras.camera_cli:views",
    "check": "cameras.check_cli:check",
    "demo": "twin.demo:demo",
    "latency": "timing.latency_cli:latency",
    "excite": "dynamics.sysid_cli:excite",
    "sysid": "dynamics.sysid_cli:sysid",
    "tags": "objects.tags_cli:tags",
    "scene": "objects.tags_cli:scene",
    "track": "objects.tags_cli:track",
}
"""Subcommands: name -> "module:function" of this package; the function's docstring and annotations are its help."""
GROUP = "skimo.calibrate"
"""Entry points of this group are subcommands too: what needs ROS comes from the package that has it."""


def calibrate(argv: list[str]) -> int:
    """Calibrate cameras, joints, scene, time and dynamics of a cell; check a rig file."""
    try:
        tyro.extras.subcommand_cli_from_dict(_asked(argv), prog=PROG, args=argv)
    except SkimoError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 1
    return 0


def _asked(argv: list[str]) -> dict[str, Callable[..., None]]:
    """The subcommand that is asked for alone, or all of them where none is: so `hand-eye` doesn't wait for MuJoCo."""
    steps = {name: f"{__package__}.{where}" for name, where in STEPS.items()}
    steps |= {entry.name: entry.value for entry in metadata.entry_points(group=GROUP)}
    names = [argv[0]] if argv and argv[0] in steps else list(steps)
    return {name: _load(steps[name]) for name in names}


def _load(where: str) -> Callable[..., None]:
    module, _, function = where.partition(":")
    return getattr(import_module(module), function)
