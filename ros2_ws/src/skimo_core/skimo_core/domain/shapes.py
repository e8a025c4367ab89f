"""The arm's shape as data: capsules on its links, and which links may meet which.

A capsule is a segment swept by a ball. Links are named link0 (the base, which doesn't move) to link7, then the hand and
its fingers, which move with link 7. Coordinates are in the link's Denavit-Hartenberg frame (joint i's frame for link
i); those of hand and fingers in the hand's frame: at the flange, turned about its z by the robot's `hand_yaw_rad`. m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.errors import SpecError
from ..contract.types import JOINTS, Array
from .tables import Table

LINKS = (*(f"link{k}" for k in range(JOINTS + 1)), "hand", "fingers")
MOVED_BY = (*range(JOINTS + 1), JOINTS, JOINTS)
"""How many joints lie between the base and each of the `LINKS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capsules:
    """The capsules of all links.

    Attributes:
        link: [C] index into `LINKS`.
        ends_m: [C, 2, 3] the segments' ends in their link's frame.
        radius_m: [C].
        pairs: the pairs of links to check against each other, as indices into `LINKS`, the one nearer the base first.
        margin_m: how near two links of a pair may come.
    """

    link: npt.NDArray[np.int64]
    ends_m: Array
    radius_m: Array
    pairs: tuple[tuple[int, int], ...]
    margin_m: float

    def of_pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The pairs of capsules to check: their indices, and the index of each one's link pair; [2, P] and [P]."""
        rows = [
            (a, b, k)
            for k, (first, second) in enumerate(self.pairs)
            for a in np.flatnonzero(self.link == first)
            for b in np.flatnonzero(self.link == second)
        ]
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return table[:, :2].T.copy(), table[:, 2].copy()


def read_capsules(table: Table) -> Capsules:
    """Read the `collision` table of a robot file.

    Raises:
        SpecError: an unknown or missing link, a pair that is no pair, a malformed capsule.
    """
    links = table.table("links")
    link_index, ends, radii = [], [], []
    for index, name in enumerate(LINKS):
        for row in links.tables(name):
            link_index.append(index)
            ends.append([row.vector("from_m", 3), row.vector("to_m", 3)])
            radii.append(row.number("radius_m", positive=True))
            row.refuse_others()
    links.refuse_others()
    margin_m = table.number("margin_m")
    if margin_m < 0:
        raise SpecError(f"{table.where}: margin_m must not be below 0, is {margin_m:g}")
    pairs = tuple(_pair(name, table.where) for name in table.texts("pairs"))
    table.refuse_others()
    return Capsules(
        link=np.array(link_index, dtype=np.int64),
        ends_m=np.array(ends).reshape(-1, 2, 3),
        radius_m=np.array(radii),
        pairs=pairs,
        margin_m=margin_m,
    )


def link_named(name: str, where: str) -> int:
    """The index of a link.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in LINKS:
        raise SpecError(f"{where}: no link {name!r}; links are {', '.join(LINKS)}")
    return LINKS.index(name)


def _pair(text: str, where: str) -> tuple[int, int]:
    names = text.split()
    if len(names) != 2:
        raise SpecError(f"{where}: a pair must be two links such as 'link1 hand', is {text!r}")
    first, second = (link_named(name, where) for name in names)
    if MOVED_BY[first] >= MOVED_BY[second]:
        raise SpecError(f"{where}: pair {text!r} must name the link nearer the base first, and two that can move apart")
    return first, second
