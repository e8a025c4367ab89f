"""How far the arm is from itself and from its surroundings, for many joint positions at once.

The arm is capsules (robots/*.yaml), the surroundings boxes and planes (cells/*.yaml). `room` is a signed distance less
the margin that the data asks for: below 0 the arm is too near, below -margin it touches. Exact for these shapes, pure,
and vectorised over positions and contacts (two capsules, or a capsule and an obstacle, that may meet).

Between two positions, nothing is missed. No point of a link gets further than `reach_m[j, link]` from the origin of
joint j, whatever the other joints do. So, on the way, the distance of a contact changes by no more than D, the sum over
the joints between its sides of reach times the way that the joint makes, and it never falls below (d0 + d1 - D) / 2.
Where that is too little, `along` looks closer; what the whole motion can't bring near, it doesn't look at.

Frames and units: the arm's base frame; rad, m. Dimensions: K positions, C capsules, N contacts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.types import Array
from ..domain.cell import Box, Cell, exempt_table
from ..domain.kinematics import Frames, joint_frames, joint_offsets
from ..domain.robot import RobotLimits
from ..domain.shapes import Capsules

Index = npt.NDArray[np.int64]
TINY = 1e-12
NOWHERE_M = 1e3
"""Distance reported where there is nothing to come near."""
LOWEST_M = -NOWHERE_M
"""Nothing is nearer: bounds will do."""
NEAR_M = 0.08
"""Along a motion, room beyond this is not told apart."""
REFINEMENTS, CLOSER = 4, 4
"""How often, and by how much, the looks get denser where the arm passes something closely."""
JointsOverTime = Callable[[Array], Array]
"""From times [K] to one number for each joint, [K, 7]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is left at each of K positions, and at least between each and the next; m, margins taken off.

    Attributes:
        self_m, self_pair: [K] room of the nearest pair of links, and its index into `Collision.pairs`.
        obstacle_m, obstacle, link: [K] room to the nearest obstacle, its index into `Collision.obstacles`, the link's.
        self_between_m, obstacle_between_m: [K - 1].
    """

    self_m: Array
    self_pair: Index
    obstacle_m: Array
    obstacle: Index
    link: Index
    self_between_m: Array
    obstacle_between_m: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contacts:
    """What may meet: two capsules each, then a capsule and a box, then a capsule and a plane.

    Attributes:
        ends: (N1, N2, N): where the first kind ends, the second, and the third.
        capsule, other: [N] the capsule; the second capsule, the box, the plane.
        name: [N] index into `Collision.pairs`, or into `Collision.obstacles`.
        thin_m, bulk_m: [N] what a capsule, or two, take off a distance from their axes and from their middles.
        reach_m: [7, N] most that the two sides move against one another for each radian of a joint.
    """

    ends: tuple[int, int, int]
    capsule: Index
    other: Index
    name: Index
    thin_m: Array
    bulk_m: Array
    reach_m: Array

    def of(self, kept: Index) -> _Contacts:
        """Those of the given indices, in order."""
        return _Contacts(
            ends=(int((kept < self.ends[0]).sum()), int((kept < self.ends[1]).sum()), len(kept)),
            capsule=self.capsule[kept],
            other=self.other[kept],
            name=self.name[kept],
            thin_m=self.thin_m[kept],
            bulk_m=self.bulk_m[kept],
            reach_m=self.reach_m[:, kept],
        )

    def between_m(self, room_m: Array, travel_rad: Array) -> Array:
        """Least room [K - 1, N] between neighbours of `room_m` [K, N], who have come `travel_rad` [K, 7] so far."""
        moved_m = np.diff(travel_rad, axis=0) @ self.reach_m
        return np.minimum((room_m[:-1] + room_m[1:] - moved_m) / 2, np.minimum(room_m[:-1], room_m[1:]))


class Collision:
    """One arm in one cell.

    Attributes:
        pairs: names of the pairs of links that are checked.
        obstacles: names of the cell's obstacles.
        margins_m: of the obstacles.
        self_margin_m: of the pairs.
        reach_m: [7, links] how far from joint j's origin any point of a link can get; 0 where j doesn't move it.
    """

    def __init__(self, limits: RobotLimits, cell: Cell) -> None:
        shape = limits.capsules
        self._limits = limits
        self.pairs = tuple(f"{shape.links[a]} and {shape.links[b]}" for a, b in shape.pairs)
        self.obstacles = cell.obstacles
        self.self_margin_m = shape.margin_m
        self.margins_m = np.array([o.margin_m for o in (*cell.boxes, *cell.planes)])
        self._frame = np.array(shape.moved_by)[shape.link]
        ends = _in_joint_frames(limits)
        self._by_frame = _grouped(self._frame, ends)
        self._link = shape.link
        self.reach_m = _reaches(limits, ends)
        self._boxes = _Boxes.of(cell.boxes)
        self._normals = np.array([p.normal for p in cell.planes]).reshape(-1, 3)
        self._plane_m = np.array([p.offset_m for p in cell.planes])
        self._contacts = self._all_contacts(cell)

    def _all_contacts(self, cell: Cell) -> _Contacts:
        shape = self._limits.capsules
        (first, second), pair = shape.of_pairs()
        obstacle, capsule = np.nonzero(~exempt_table(cell, self._limits.capsules.links)[:, shape.link])
        half_m = np.linalg.norm(shape.ends_m[:, 1] - shape.ends_m[:, 0], axis=1) / 2
        margin_m = np.concatenate([np.full(len(pair), shape.margin_m), self.margins_m[obstacle]])
        capsules = np.concatenate([first, capsule])
        thin_m = shape.radius_m[capsules] + margin_m
        thin_m[: len(pair)] += shape.radius_m[second]
        bulk_m = thin_m + half_m[capsules]
        bulk_m[: len(pair)] += half_m[second]
        boxes = len(cell.boxes)
        return _Contacts(
            ends=(len(pair), len(pair) + int((obstacle < boxes).sum()), len(capsules)),
            capsule=capsules,
            other=np.concatenate([second, np.where(obstacle < boxes, obstacle, obstacle - boxes)]),
            name=np.concatenate([pair, obstacle]),
            thin_m=thin_m,
            bulk_m=bulk_m,
            reach_m=np.hstack([_between(self.reach_m, shape)[:, pair], self.reach_m[:, shape.link[capsule]]]),
        )

    def room(self, q_rad: Array) -> Room:
        """The room at joint positions [K, 7], K >= 1, and between them if each joint goes straight from each to the
        next."""
        travel_rad = np.zeros_like(q_rad)
        np.cumsum(np.abs(np.diff(q_rad, axis=0)), axis=0, out=travel_rad[1:])
        room_m = self._rooms(self._contacts, self._ends_in(joint_frames(self._limits, q_rad)), np.inf)
        return self._told(self._contacts, room_m, travel_rad, NOWHERE_M)

    def along(self, times_s: Array, frames: Frames, position_at: JointsOverTime, travel_until: JointsOverTime) -> Room:
        """The room along a motion: at `times_s` [K] and, where that doesn't tell that there is room, between them.

        Args:
            times_s: increasing; from the first to the last, nothing is missed.
            frames: the joints' at these times.
            position_at: joint positions.
            travel_until: the ways that the joints have made by then, back and forth, or more.

        Returns:
            the room at no fewer times, exact below `NEAR_M`, and at least that much elsewhere.
        """
        ends, travel_rad = self._ends_in(frames), travel_until(times_s)
        contacts = self._that_may_come_near(ends, travel_rad)
        room_m = self._rooms(contacts, ends, NEAR_M)
        for _ in range(REFINEMENTS):
            unsure = (contacts.between_m(room_m, travel_rad) < 0).any(axis=1)
            if not unsure.any() or (room_m < 0).any():
                break
            start_s, step_s = times_s[:-1][unsure], np.diff(times_s)[unsure]
            more_s = (start_s[:, None] + step_s[:, None] * np.arange(1, CLOSER) / CLOSER).ravel()
            place = np.repeat(np.flatnonzero(unsure) + 1, CLOSER - 1)
            more_ends = self._ends_in(joint_frames(self._limits, position_at(more_s)))
            times_s = np.insert(times_s, place, more_s)
            travel_rad = np.insert(travel_rad, place, travel_until(more_s), axis=0)
            room_m = np.insert(room_m, place, self._rooms(contacts, more_ends, NEAR_M), axis=0)
        return self._told(contacts, room_m, travel_rad, NEAR_M)

    def _that_may_come_near(self, ends: Array, travel_rad: Array) -> _Contacts:
        """The contacts which a motion can bring nearer than `NEAR_M`, judged from half way."""
        half = len(travel_rad) // 2
        least_m = self._rooms(self._contacts, ends[:, :, half : half + 1], LOWEST_M)[0]
        ways_rad = np.stack([travel_rad[half] - travel_rad[0], travel_rad[-1] - travel_rad[half]])
        moved_m = (ways_rad @ self._contacts.reach_m).max(axis=0)
        return self._contacts.of(np.flatnonzero(least_m - moved_m < NEAR_M))

    def _told(self, contacts: _Contacts, room_m: Array, travel_rad: Array, none_m: float) -> Room:
        """The room [K, N] of all contacts in short; `none_m`: what is reported where there are none."""
        own = contacts.ends[0]
        between_m, rows = contacts.between_m(room_m, travel_rad), np.arange(len(room_m))
        nearest = np.zeros((2, len(rows)), np.int64)
        least_m, least_between_m = np.full((2, len(rows)), none_m), np.full((2, len(rows) - 1), none_m)
        for kind, part in enumerate((slice(0, own), slice(own, None))):
            if room_m[:, part].size:
                nearest[kind] = room_m[:, part].argmin(axis=1) + part.start
                least_m[kind] = np.minimum(room_m[rows, nearest[kind]], none_m)
                least_between_m[kind] = np.minimum(between_m[:, part].min(axis=1), none_m)
        names = np.append(contacts.name, 0)
        capsules = np.append(contacts.capsule, 0)
        return Room(
            self_m=least_m[0],
            self_pair=names[nearest[0]],
            obstacle_m=least_m[1],
            obstacle=names[nearest[1]],
            link=self._link[capsules[nearest[1]]],
            self_between_m=least_between_m[0],
            obstacle_between_m=least_between_m[1],
        )

    def capsule_ends(self, q_rad: Array) -> Array:
        """Both ends of every capsule's segment at joint positions [K, 7]: [K, C, 2, 3] in the base frame."""
        return self._ends_in(joint_frames(self._limits, q_rad)).transpose(2, 3, 1, 0)

    def _ends_in(self, frames: Frames) -> Array:
        """The same as [3, 2, K, C]: coordinates first, so that each is worked on as one long array."""
        rotations, origins = frames
        count = origins.shape[1]
        turned = np.empty((3, 2, count, len(self._frame)))
        for frame, mine, ends in self._by_frame:  # [K, 3, 3] @ [3, 2 n]
            moved = rotations[frame] @ ends + origins[frame][:, :, None]
            turned[..., mine] = moved.reshape(count, 3, 2, -1).transpose(1, 2, 0, 3)
        return turned

    def describe_self(self, room: Room, k: int) -> str:
        """Words for the nearest pair at position k."""
        gap_m = room.self_m[k] + self.self_margin_m
        return f"{self.pairs[room.self_pair[k]]} {_words(gap_m)}, margin {self.self_margin_m:.3f} m"

    def describe_obstacle(self, room: Room, k: int) -> str:
        """Words for the nearest obstacle at position k."""
        margin_m = self.margins_m[room.obstacle[k]]
        names = f"{self._limits.capsules.links[room.link[k]]} and {self.obstacles[room.obstacle[k]]}"
        return f"{names} {_words(room.obstacle_m[k] + margin_m)}, margin {margin_m:.3f} m"

    def _rooms(self, contacts: _Contacts, ends: Array, near_m: float) -> Array:
        """Room [K, N] of each contact, given the ends [3, 2, K, C]: never too much, and exact where below `near_m`.

        With `near_m` infinite it is exact where it is the least of all pairs of links, or of all boxes.
        """
        middle = (ends[:, 0] + ends[:, 1]) / 2
        own, boxes, _ = contacts.ends
        room_m = np.empty((ends.shape[2], contacts.ends[2]))
        parts = slice(0, own), slice(own, boxes), slice(boxes, None)
        for part, rooms in zip(parts, (self._from_itself, self._boxes.room, self._from_planes)):
            if room_m[:, part].size:
                capsule, other, thin_m = contacts.capsule[part], contacts.other[part], contacts.thin_m[part]
                room_m[:, part] = rooms(ends, middle, capsule, other, thin_m, contacts.bulk_m[part], near_m)
        return room_m

    def _from_itself(
        self, ends: Array, middle: Array, first: Index, second: Index, thin_m: Array, bulk_m: Array, near_m: float
    ) -> Array:
        """Room [K, N1] of pairs of capsules."""
        room_m = _norm(middle.take(first, axis=2) - middle.take(second, axis=2)) - bulk_m
        k, n = _worth_a_look(room_m, thin_m, bulk_m, near_m)
        if len(k):
            room_m[k, n] = segment_distances(ends[:, :, k, first[n]], ends[:, :, k, second[n]]) - thin_m[n]
        return room_m

    def _from_planes(
        self, ends: Array, middle: Array, capsule: Index, plane: Index, thin_m: Array, bulk_m: Array, near_m: float
    ) -> Array:
        """Room [K, N3] of capsules and planes; always exact."""
        heights_m = np.einsum("na,aekn->ekn", self._normals[plane], ends.take(capsule, axis=3)).min(axis=0)
        return heights_m - self._plane_m[plane] - thin_m


@dataclass(frozen=True, slots=True, kw_only=True)
class _Boxes:
    """The boxes of a cell.

    Attributes:
        axes: [B, 3, 3] each box's axes as rows.
        shift: [3, B] the centres along these axes.
        half_m: [3, B].
    """

    axes: Array
    shift: Array
    half_m: Array

    @classmethod
    def of(cls, boxes: tuple[Box, ...]) -> _Boxes:
        return cls(
            axes=np.array([b.rotation.T for b in boxes]).reshape(-1, 3, 3),
            shift=np.array([b.centre_m @ b.rotation for b in boxes]).reshape(-1, 3).T,
            half_m=np.array([b.half_m for b in boxes]).reshape(-1, 3).T,
        )

    def room(
        self, ends: Array, middle: Array, capsule: Index, box: Index, thin_m: Array, bulk_m: Array, near_m: float
    ) -> Array:
        """Room [K, N2] of capsules and boxes."""
        axes, shift, half_m = self.axes[box], self.shift[:, box], self.half_m[:, box]
        depth = np.einsum("nab,bkn->akn", axes, middle.take(capsule, axis=2))
        depth = np.abs(depth - shift[:, None]) - half_m[:, None]
        room_m = np.minimum(depth.max(axis=0), 0.0) + _norm(np.maximum(depth, 0.0)) - bulk_m
        k, n = _worth_a_look(room_m, thin_m, bulk_m, near_m)
        if len(k):
            there = np.einsum("mab,bem->aem", axes[n], ends[:, :, k, capsule[n]]) - shift[:, None, n]
            room_m[k, n] = segment_box_distances(there, half_m[:, n]) - thin_m[n]
        return room_m


def _worth_a_look(at_least_m: Array, thin_m: Array, bulk_m: Array, near_m: float) -> tuple[Index, Index]:
    """Positions and contacts whose room, of which a bound [K, N] is known, is to be found exactly."""
    if np.isfinite(near_m):
        k, n = np.nonzero(at_least_m < near_m)
    else:
        k, n = np.nonzero(at_least_m <= (at_least_m + (bulk_m - thin_m)).min(axis=1, keepdims=True))
    return k, n


def segment_distances(first: Array, second: Array) -> Array:
    """Distance [M] between segments, each [3, 2, M] (Ericson, "Real-Time Collision Detection", 2005, section 5.1.9)."""
    u, v, w = first[:, 1] - first[:, 0], second[:, 1] - second[:, 0], first[:, 0] - second[:, 0]
    uu, vv, uv = _dot(u, u) + TINY, _dot(v, v) + TINY, _dot(u, v)
    uw, vw = _dot(u, w), _dot(v, w)
    s = _unit((uv * vw - uw * vv) / np.maximum(uu * vv - uv * uv, TINY))
    t = _unit((uv * s + vw) / vv)
    s = _unit((uv * t - uw) / uu)
    return _norm(w + s * u - t * v)


def segment_box_distances(ends: Array, half_m: Array) -> Array:
    """Signed distance [M] from segments [3, 2, M] to boxes about the origin with half extents [3, M].

    Below 0 the segment enters the box: minus the way that its deepest point has to the nearest face. The squared
    distance of a point that runs along the segment is convex, and quadratic between the places where it crosses the
    planes of the faces; its slope there tells which stretch holds the minimum, and the minimum is exact.
    """
    start, way = ends[:, 0], ends[:, 1] - ends[:, 0]
    steady = np.where(np.abs(way) < TINY, TINY, way)
    t = np.zeros((8, start.shape[1]))
    t[:3], t[3:6], t[7] = _unit((half_m - start) / steady), _unit((-half_m - start) / steady), 1.0
    t.sort(axis=0)
    points = start[:, None] + t * way[:, None]  # [3, 8, M]
    outside = points - np.clip(points, -half_m[:, None], half_m[:, None])
    slope = _dot(outside, way[:, None])
    columns = np.arange(t.shape[1])
    right = np.minimum((slope < 0).sum(axis=0), 7)
    left = np.maximum(right - 1, 0)
    rise = slope[right, columns] - slope[left, columns]
    share = _unit(-slope[left, columns] / np.where(rise > TINY, rise, 1.0))
    best = t[left, columns] + share * (t[right, columns] - t[left, columns])
    distance = _norm(np.maximum(np.abs(start + best * way) - half_m, 0.0))
    inside = np.flatnonzero(distance <= TINY)
    if len(inside):
        distance[inside] = -_depths(start[:, inside], way[:, inside], half_m[:, inside])
    return distance


def _depths(start: Array, way: Array, half_m: Array) -> Array:
    """How deep [M] the deepest point of each segment lies in its box: the largest of the least distances to a face.

    Each face's distance is linear along the segment, so the largest minimum lies at an end or where two are equal.
    """
    level = np.concatenate([half_m - start, half_m + start])
    rate = np.concatenate([-way, way])
    i, j = np.triu_indices(6, 1)
    slower = rate[i] - rate[j]
    meet = (level[j] - level[i]) / np.where(np.abs(slower) < TINY, np.inf, slower)
    t = np.concatenate([_unit(meet), np.zeros_like(start[:1]), np.ones_like(start[:1])])
    return (level[:, None] + t * rate[:, None]).min(axis=0).max(axis=0)


def _in_joint_frames(limits: RobotLimits) -> Array:
    """The capsules' ends [C, 2, 3] in the frame of the joint that moves them (hand and fingers: joint 7's)."""
    shape = limits.capsules
    c, s = np.cos(limits.hand_yaw_rad), np.sin(limits.hand_yaw_rad)
    turned = shape.ends_m @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]) + [0.0, 0.0, limits.flange_m]
    return np.where((shape.link > limits.joints)[:, None, None], turned, shape.ends_m)


def _grouped(frames: Index, ends: Array) -> list[tuple[int, Index, Array]]:
    """For each joint frame that carries capsules: it, their indices [n], their ends [3, 2 n] (all first ends first)."""
    groups = []
    for frame in np.unique(frames):
        mine = np.flatnonzero(frames == frame)
        groups.append((int(frame), mine, ends[mine].transpose(2, 1, 0).reshape(3, -1).copy()))
    return groups


def _reaches(limits: RobotLimits, ends: Array) -> Array:
    """[7, links] how far from joint j's origin any point of a link can get; 0 for links that the joint doesn't move."""
    shape, ways = limits.capsules, np.linalg.norm(joint_offsets(limits), axis=1)
    reach = np.zeros((limits.joints, len(shape.links)))
    for link, frame in enumerate(shape.moved_by):
        mine = shape.link == link
        if frame and mine.any():
            own = (np.linalg.norm(ends[mine], axis=-1).max(axis=1) + shape.radius_m[mine]).max()
            for joint in range(frame):
                reach[joint, link] = own + ways[joint + 1 : frame].sum()
    return reach


def _between(reach_m: Array, shape: Capsules) -> Array:
    """[7, pairs] most that two links' points move against one another for each radian of a joint."""
    table = np.zeros((len(reach_m), len(shape.pairs)))
    for k, (first, second) in enumerate(shape.pairs):
        table[shape.moved_by[first] :, k] = reach_m[shape.moved_by[first] :, second]
    return table


def _norm(vectors: Array) -> Array:
    """Length of vectors [3, ...]."""
    return np.sqrt(_dot(vectors, vectors))


def _dot(a: Array, b: Array) -> Array:
    """Product of vectors [3, ...]."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(t: Array) -> Array:
    return np.minimum(np.maximum(t, 0.0), 1.0)


def _words(gap_m: float) -> str:
    return f"would be {gap_m:.3f} m apart" if gap_m >= 0 else f"would overlap by {-gap_m:.3f} m"
