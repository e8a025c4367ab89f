"""What has to be done before a script of the table's can run, and whether it can: room for the hand, nothing on top.

Functions of the objects' places alone. Units m; the table's frame.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.types import Array

from .scene import SIDE_M, Table
from .scripts import LIFTED_M, SCRIPTS, Carry, Push

ROOM_M = 0.085
"""Between a block's middle and another's, for the hand to get round it."""
REACH_M = ((0.28, 0.74), (-0.45, 0.45))
"""x and y where a block can be taken."""
OPEN_ENOUGH_M = 0.124
"""The drawer, for a block to be put in or taken out."""
OFF_PAD_M = 0.03
"""A block further from its pad is not on it, for another to be set upon it."""
AWAY_M = 0.06
"""A block nearer to its place is not worth carrying there."""
WAY_M = (0.06, 0.35)
"""How far a block may be pushed, at least and at most."""
BEHIND_M = 0.07
"""How far behind a block's middle the fingers come down to push it."""


def within_reach(name: str, table: Table) -> bool:
    """Whether the hand gets round a block where it is, and the block stands upright."""
    place_m = table.blocks[name].place_m
    inside = all(low < value < high for value, (low, high) in zip(place_m, REACH_M))
    return inside and not table.crowded(name, place_m, ROOM_M)


def worth_carrying(script: Carry, table: Table) -> bool:
    """Whether the block can be taken and is far from its place, and that is free."""
    if not within_reach(script.block, table):
        return False
    place_m = table.blocks[script.block].place_m
    if script.to_m is None:
        return bool(place_m[2] < LIFTED_M - 0.06)
    away_m = float(np.linalg.norm(place_m - script.to_m))
    return away_m > AWAY_M and not table.crowded(script.block, np.array(script.to_m), ROOM_M)


def pushable(script: Push, table: Table) -> bool:
    """Whether the block lies on the table, some way from its place, and nothing is in the way or behind it."""
    place_m = table.blocks[script.block].place_m
    way = np.array(script.to_m) - place_m[:2]
    length = float(np.linalg.norm(way))
    if not WAY_M[0] < length < WAY_M[1] or place_m[2] > 0.75 * SIDE_M or table.covered_by(script.block):
        return False
    if table.in_drawer(place_m) or not within_reach(script.block, table):
        return False
    begin = behind(script, table)
    for other in table.others(script.block):
        share = np.clip((other.place_m[:2] - begin) @ way / length**2, 0.0, 1.3)
        if np.linalg.norm(other.place_m[:2] - begin - share * way) < 0.075:
            return False
    return not walled_in(script, table)


def walled_in(script: Push, table: Table) -> bool:
    """Whether the hand has no room behind the block, for the cabinet or for the arm itself."""
    x, y = behind(script, table)
    return bool(x < REACH_M[0][0] or (x > 0.35 and y > 0.10))


def behind(script: Push, table: Table) -> Array:
    """x and y of where the fingers come down to push the block."""
    place_m = table.blocks[script.block].place_m[:2]
    way = np.array(script.to_m) - place_m
    return place_m - BEHIND_M * way / max(float(np.linalg.norm(way)), 1e-6)


def first(name: str, table: Table) -> str:
    """The script that has to run first: what stands on a block taken off, the block below set up, the drawer opened."""
    script = SCRIPTS[name]
    if isinstance(script, Push) and walled_in(script, table):
        return f"{script.block} on pad"
    if not isinstance(script, Carry):
        return name
    if cover := table.covered_by(script.block):
        return f"{cover} in row"
    if name == "red on green" and table.covered_by("green") in ("", "red"):
        pad = SCRIPTS["green on pad"]
        assert isinstance(pad, Carry) and pad.to_m is not None
        if np.linalg.norm(table.blocks["green"].place_m - pad.to_m) > OFF_PAD_M:
            return first("green on pad", table)
    inside = table.in_drawer(table.blocks[script.block].place_m)
    if (inside or name == "blue in drawer") and table.drawer_m < OPEN_ENOUGH_M:
        return "drawer open"
    return name
