"""How late a camera stamps its pictures: something that it saw while the arm moved, against where the arm had it.

On the arm if the camera stands beside it, standing if the camera is in the hand: what the camera saw is then where the
joints put it, from somewhere and some milliseconds later (`shift`, rigid). Neither the camera's pose nor its lens's
last digits are needed, and where the thing is on the flange, or in the cell, only to some centimetres.

A file of sightings is CSV: t, x, y, z: the picture's stamp, s since 1970, by the clock that stamps joint states, and
where the thing was in the camera's optical frame, m. Whatever finds boards or tags may write it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from ..rigid import flange_poses, inverse
from .shift import Shift, shift
from .timing import Track

HEAD = ("t", "x", "y", "z")
MAX_BYTES = 100 * 1024 * 1024


def camera_shift(
    states: Track, seen: Track, limits: RobotLimits, mount: str, point_m: Array, rng: np.random.Generator
) -> Shift:
    """How much later sightings are stamped than joint states.

    Args:
        states: true joint angles [K, J].
        seen: [M, 3] in the camera's frame.
        mount: of the camera: "base" (the thing is on the arm) or "flange" (it stands).
        point_m: [3] where the thing is, about: in the flange's frame, or in the arm's base frame.

    Raises:
        SpecError: see `shift`.
    """
    poses = flange_poses(limits, states.values)
    from_mount = poses if mount == "base" else inverse(poses)
    where_m = from_mount[:, :3, :3] @ point_m + from_mount[:, :3, 3]
    moved = Track(what="where the arm has it", t_s=states.t_s, values=where_m, came_s=states.came_s)
    return shift(moved, seen, rng, where=seen.what, rigid=True, loose=from_mount[:, :3, :3])


def read_seen(path: Path, begin_ns: int) -> Track:
    """Read a file of sightings; times are counted from `begin_ns`.

    Raises:
        SpecError: no such file, or not of this form.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"{path.name} has more than {MAX_BYTES:,} bytes; split it")
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} can't be read: {error}") from None
    head = tuple(word.strip().lower() for word in lines[0].split(",")) if lines else ()
    if head != HEAD:
        raise SpecError(f"{path.name}: its first line is {','.join(head)[:60]!r}, must be {','.join(HEAD)!r}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        try:
            row = [float(word) for word in line.split(",")]
        except ValueError:
            row = []
        if len(row) != len(HEAD):
            raise SpecError(f"{path.name}, line {number}: must hold four numbers, has {line[:60]!r}; was it cut short?")
        rows.append(row)
    if not rows:
        raise SpecError(f"{path.name}: holds no sightings")
    table = np.array(rows, np.float64)
    return Track(what=path.name, t_s=table[:, 0] - 1e-9 * begin_ns, values=table[:, 1:])
