"""What a teleoperator sees of the table: blocks, the drawer and its handle, for the object values of the moment.

Every place follows from the 13 object values and from numbers of the scene, so a script needs nothing that an
observation does not hold. Units m, rad; the table's frame, its top at z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skimo_core.contract.types import Array

CHANNELS = (
    "red.x", "red.y", "red.z", "red.yaw", "green.x", "green.y", "green.z", "green.yaw",
    "blue.x", "blue.y", "blue.z", "blue.yaw", "drawer",
)  # fmt: skip
"""The object values, in order."""
BLOCKS = ("red", "green", "blue")
SIDE_M = 0.04
"""Of a block."""
ON_TABLE_M = 0.02
"""Height of a block's middle on the table."""
CABINET_M = ((0.57, 0.81), (0.22, 0.46))
"""x and y of the drawer's cabinet."""
CABINET_TOP_M = 0.07
HOOK_M = (0.538, 0.34, 0.078)
"""Behind the closed drawer's bar, where closed fingers hook it from above."""
BAR_FRONT_M = 0.507
"""x of the closed drawer's bar on its outer side."""
FRONT_M, FLOOR_M = 0.557, 0.011
"""x of the closed drawer's front, and the height of its floor."""
SIDES_M = (0.242, 0.438)
"""y of the drawer's side walls, within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block: its middle [3] and its turn about z."""

    place_m: Array
    yaw_rad: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The objects as they are now: blocks by name, and how far the drawer is open."""

    blocks: dict[str, Block]
    drawer_m: float

    @classmethod
    def of(cls, objects: Array) -> Table:
        """What object values [13] say."""
        rows = objects[:12].reshape(3, 4)
        blocks = {name: Block(place_m=row[:3], yaw_rad=float(row[3])) for name, row in zip(BLOCKS, rows)}
        return cls(blocks=blocks, drawer_m=float(objects[12]))

    @property
    def hook_m(self) -> Array:
        """Behind the bar [3]."""
        return np.array(HOOK_M) - [self.drawer_m, 0.0, 0.0]

    def in_drawer(self, place_m: Array) -> bool:
        """Whether a place [3] lies over or in the drawer, open or shut."""
        x, y, z = place_m
        return FRONT_M - self.drawer_m < x and SIDES_M[0] < y < SIDES_M[1] and z < CABINET_TOP_M

    def others(self, name: str) -> list[Block]:
        """The blocks but one."""
        return [block for other, block in self.blocks.items() if other != name]

    def covered_by(self, name: str) -> str:
        """The block that stands on a block; empty if none does."""
        under = self.blocks[name].place_m
        for other, block in self.blocks.items():
            above = block.place_m - under
            if other != name and np.linalg.norm(above[:2]) < SIDE_M and above[2] > SIDE_M / 2:
                return other
        return ""

    def crowded(self, name: str, place_m: Array, room_m: float) -> bool:
        """Whether another block is so near beside a place [3] that the hand with this one has no room."""
        for block in self.others(name):
            away = block.place_m - place_m
            if np.linalg.norm(away[:2]) < room_m and abs(away[2]) < SIDE_M * 0.75:
                return True
        return False

    def support_m(self, name: str, place_m: Array) -> float:
        """Height of a block's middle were it let down at a place [3]."""
        x, y = place_m[:2]
        height = ON_TABLE_M
        if FRONT_M - self.drawer_m < x < CABINET_M[0][0] and SIDES_M[0] < y < SIDES_M[1]:
            height = FLOOR_M + SIDE_M / 2
        if CABINET_M[0][0] - 0.02 < x and CABINET_M[1][0] - 0.02 < y:
            height = CABINET_TOP_M + SIDE_M / 2
        for block in self.others(name):
            if np.linalg.norm(block.place_m[:2] - place_m[:2]) < SIDE_M and block.place_m[2] < place_m[2] - 0.02:
                height = max(height, float(block.place_m[2]) + SIDE_M)
        return height
