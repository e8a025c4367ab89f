"""The arm's shape as data: capsules on its links, and which links may meet which.

A capsule is a segment swept by a ball. Links are named link0 (the base, which doesn't move) to the one that the last
joint moves, then, where the robot has them, the hand and its fingers, which move with that one. Coordinates are in the
link's Denavit-Hartenberg frame (joint i's frame for link i); those of hand and fingers in the hand's frame: at the
flange, turned about its z by the robot's `hand_yaw_rad`. m.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.errors import SpecError
from ..contract.types import Array
from .tables import Table

HAND = ("hand", "fingers")
_LINK = re.compile(r"link\d+")


def links_of(joints: int, *, hand: bool = True) -> tuple[str, ...]:
    """Names of the links of an arm with so many joints."""
    return (*(f"link{k}" for k in range(joints + 1)), *(HAND if hand else ()))


def check_link(name: str, where: str) -> str:
    """A name that some arm's link may have; raises SpecError on any other."""
    if name not in HAND and not _LINK.fullmatch(name):
        raise SpecError(f"{where}: no link {name!r}; links are link0, link1 ..., hand, fingers")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Capsules:
    """The capsules of all links.

    Attributes:
        links: names of all links.
        moved_by: how many joints lie between the base and each link.
        link: [C] index into `links`.
        ends_m: [C, 2, 3] the segments' ends in their link's frame.
        radius_m: [C].
        pairs: the pairs of links to check against each other, as indices into `links`, the one nearer the base first.
        margin_m: how near two links of a pair may come.
    """

    links: tuple[str, ...]
    moved_by: tuple[int, ...]
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


NO_CAPSULES = Capsules(
    links=(),
    moved_by=(),
    link=np.zeros(0, np.int64),
    ends_m=np.zeros((0, 2, 3)),
    radius_m=np.zeros(0),
    pairs=(),
    margin_m=0.0,
)
"""The shape of what has no arm."""


def read_capsules(table: Table, joints: int, *, hand: bool) -> Capsules:
    """Read the `collision` table of a robot with so many joints, with or without a hand.

    Raises:
        SpecError: an unknown or missing link, a pair that is no pair, a malformed capsule.
    """
    rows_of, names = table.table("links"), links_of(joints, hand=hand)
    moved_by = tuple(min(index, joints) for index in range(len(names)))
    link_index, ends, radii = [], [], []
    for index, name in enumerate(names):
        for row in rows_of.tables(name):
            link_index.append(index)
            ends.append([row.vector("from_m", 3), row.vector("to_m", 3)])
            radii.append(row.number("radius_m", positive=True))
            row.refuse_others()
    rows_of.refuse_others()
    margin_m = table.number("margin_m")
    if margin_m < 0:
        raise SpecError(f"{table.where}: margin_m must not be below 0, is {margin_m:g}")
    pairs = tuple(_pair(name, names, moved_by, table.where) for name in table.texts("pairs"))
    table.refuse_others()
    return Capsules(
        links=names,
        moved_by=moved_by,
        link=np.array(link_index, dtype=np.int64),
        ends_m=np.array(ends).reshape(-1, 2, 3),
        radius_m=np.array(radii),
        pairs=pairs,
        margin_m=margin_m,
    )


def _pair(text: str, links: tuple[str, ...], moved_by: tuple[int, ...], where: str) -> tuple[int, int]:
    names = text.split()
    if len(names) != 2:
        raise SpecError(f"{where}: a pair must be two links such as 'link1 hand', is {text!r}")
    if unknown := [name for name in names if name not in links]:
        raise SpecError(f"{where}: no link {unknown[0]!r}; links are {', '.join(links)}")
    first, second = (links.index(name) for name in names)
    if moved_by[first] >= moved_by[second]:
        raise SpecError(f"{where}: pair {text!r} must name the link nearer the base first, and two that can move apart")
    return first, second
