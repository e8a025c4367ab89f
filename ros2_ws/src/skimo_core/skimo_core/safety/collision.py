"""How far the arm is from itself and from its surroundings, for many joint positions at once.

The arm is capsules (robots/*.yaml), the surroundings boxes and planes (cells/*.yaml). `room` is a signed distance less
the margin that the data asks for: below 0 the arm is too near, below -margin it touches. Exact for these shapes, pure,
and vectorised over positions, pairs and obstacles: centres rule out nearly all pairs, the rest is computed in one go.

Between two positions, nothing is missed. No point of a link gets further than `reach_m[j, link]` from joint j's origin,
whatever the other joints do. So, on the way, the distance between two links changes by no more than D, the sum over the
joints between them of reach times the joint's travel, and it never falls below (d0 + d1 - D) / 2: that is `between`. The
travel is taken from the positions' difference, which is all of it where no joint turns back on the way; one that does
travels up to a dt^2 / 4 further (0.3 mrad at 20 rad/s2 and 8 ms), which lowers the bound by less than 1 mm for all joints
together. Where D is too large for the room that there is, whoever samples the motion takes more samples.

Frames and units: the arm's base frame; rad, m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..types import JOINTS, Array
from .cell import Box, Cell, exempt_table
from .kinematics import joint_frames, joint_offsets
from .limits import RobotLimits
from .shapes import LINKS, MOVED_BY

Index = npt.NDArray[np.int64]
TINY = 1e-12
NOWHERE_M = 1e3
"""Distance reported where there is nothing to come near."""


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


class Collision:
    """One arm in one cell.

    Attributes:
        pairs: names of the pairs of links that are checked.
        obstacles: names of the cell's obstacles.
        margins_m: of the obstacles.
        self_margin_m: of the pairs.
    """

    def __init__(self, limits: RobotLimits, cell: Cell) -> None:
        shape = limits.capsules
        self._limits = limits
        self.pairs = tuple(f"{LINKS[a]} and {LINKS[b]}" for a, b in shape.pairs)
        self.obstacles = cell.obstacles
        self.self_margin_m = shape.margin_m
        self.margins_m = np.array([o.margin_m for o in (*cell.boxes, *cell.planes)])
        self._frame = np.array(MOVED_BY)[shape.link]
        ends = _in_joint_frames(limits)
        self._by_frame = _grouped(self._frame, ends)
        self._radius = shape.radius_m
        bulk = shape.radius_m + np.linalg.norm(shape.ends_m[:, 1] - shape.ends_m[:, 0], axis=1) / 2
        (self._first, self._second), self._pair_of = shape.of_pairs()
        self._pair_thin = shape.radius_m[self._first] + shape.radius_m[self._second] + shape.margin_m
        self._pair_bulk = bulk[self._first] + bulk[self._second] + shape.margin_m
        self._link = shape.link
        self.reach_m = _reaches(limits, ends)
        self._pair_reach = _between(self.reach_m, shape.pairs)
        self._link_reach = _between(self.reach_m, tuple((0, k) for k in range(len(LINKS))))
        exempt = exempt_table(cell)[:, shape.link]
        self._boxes = _Boxes.of(cell.boxes, self._radius, bulk, exempt[: len(cell.boxes)])
        self._normals = np.array([p.normal for p in cell.planes]).reshape(-1, 3)
        self._plane_m = np.array([p.offset_m + p.margin_m for p in cell.planes])
        self._plane_void = np.where(exempt[len(cell.boxes) :], NOWHERE_M, 0.0)

    def room(self, q_rad: Array) -> Room:
        """The room at joint positions [K, 7], in the order in which they are passed, K >= 1."""
        ends = self._ends_at(q_rad)
        middle = (ends[:, 0] + ends[:, 1]) / 2
        self_m, pair = self._from_itself(ends, middle)
        obstacle_m, obstacle, link = self._from_obstacles(ends, middle)
        travel = np.abs(np.diff(q_rad, axis=0))
        return Room(
            self_m=self_m,
            self_pair=pair,
            obstacle_m=obstacle_m,
            obstacle=obstacle,
            link=link,
            self_between_m=_lowest_between(self_m, (travel @ self._pair_reach).max(axis=1, initial=0.0)),
            obstacle_between_m=_lowest_between(obstacle_m, (travel @ self._link_reach).max(axis=1, initial=0.0)),
        )

    def capsule_ends(self, q_rad: Array) -> Array:
        """Both ends of every capsule's segment at joint positions [K, 7]: [K, C, 2, 3] in the base frame."""
        return self._ends_at(q_rad).transpose(2, 3, 1, 0)

    def _ends_at(self, q_rad: Array) -> Array:
        """The same as [3, 2, K, C]: coordinates first, so that each is worked on as one long array."""
        rotations, origins = joint_frames(self._limits, q_rad)
        turned = np.empty((3, 2, len(q_rad), len(self._frame)))
        for frame, mine, ends in self._by_frame:  # [K, 3, 3] @ [3, 2 n]
            moved = rotations[frame] @ ends + origins[frame][:, :, None]
            turned[..., mine] = moved.reshape(len(q_rad), 3, 2, -1).transpose(1, 2, 0, 3)
        return turned

    def describe_self(self, room: Room, k: int) -> str:
        """Words for the nearest pair at position k."""
        gap_m = room.self_m[k] + self.self_margin_m
        return f"{self.pairs[room.self_pair[k]]} {_words(gap_m)}, margin {self.self_margin_m:.3f} m"

    def describe_obstacle(self, room: Room, k: int) -> str:
        """Words for the nearest obstacle at position k."""
        margin_m = self.margins_m[room.obstacle[k]]
        names = f"{LINKS[room.link[k]]} and {self.obstacles[room.obstacle[k]]}"
        return f"{names} {_words(room.obstacle_m[k] + margin_m)}, margin {margin_m:.3f} m"

    def _from_itself(self, ends: Array, middle: Array) -> tuple[Array, Index]:
        """Room [K] of the nearest pair of links, and which."""
        first, second = self._first, self._second
        count = middle.shape[1]
        if not len(first):
            return np.full(count, NOWHERE_M), np.zeros(count, np.int64)
        apart = _norm(middle.take(first, axis=2) - middle.take(second, axis=2))
        at_most = (apart - self._pair_thin).min(axis=1)
        k, p = np.nonzero(apart - self._pair_bulk <= at_most[:, None])
        table = np.full(apart.shape, np.inf)
        table[k, p] = segment_distances(ends[:, :, k, first[p]], ends[:, :, k, second[p]]) - self._pair_thin[p]
        nearest = table.argmin(axis=1)
        return table[np.arange(count), nearest], self._pair_of[nearest]

    def _from_obstacles(self, ends: Array, middle: Array) -> tuple[Array, Index, Index]:
        """Room [K] to the nearest obstacle, which, and which link comes nearest."""
        rows = np.arange(middle.shape[1])
        room, obstacle, capsule = np.full(len(rows), NOWHERE_M), np.zeros(len(rows), np.int64), np.zeros_like(rows)
        if self._boxes is not None:
            room, obstacle, capsule = self._boxes.room(ends, middle)
        if len(self._normals):
            heights = np.tensordot(self._normals, ends, axes=1).min(axis=1) - self._radius  # [planes, K, C]
            table = heights - self._plane_m[:, None, None] + self._plane_void[:, None, :]
            table = table.transpose(1, 0, 2).reshape(len(rows), -1)
            best = table.argmin(axis=1)
            nearer = table[rows, best] < room
            room = np.where(nearer, table[rows, best], room)
            boxes = len(self.obstacles) - len(self._normals)
            obstacle = np.where(nearer, boxes + best // len(self._radius), obstacle)
            capsule = np.where(nearer, best % len(self._radius), capsule)
        return room, obstacle, self._link[capsule]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Boxes:
    """The boxes of a cell.

    Attributes:
        axes: [3, B, 3] each box's axes as rows, the axis first.
        shift: [3, B] the centres along these axes.
        half_m: [3, B].
        thin_m, bulk_m: [B, C] what a capsule takes off a distance from its middle, at least and at most, margins
            included; far below zero where the capsule's link is exempt.
    """

    axes: Array
    shift: Array
    half_m: Array
    thin_m: Array
    bulk_m: Array

    @classmethod
    def of(cls, boxes: tuple[Box, ...], radius: Array, bulk: Array, exempt: npt.NDArray[np.bool_]) -> _Boxes | None:
        if not boxes:
            return None
        margin = np.array([[b.margin_m] for b in boxes]) - np.where(exempt, NOWHERE_M, 0.0)
        return cls(
            axes=np.stack([b.rotation.T for b in boxes], axis=1),
            shift=np.stack([b.centre_m @ b.rotation for b in boxes], axis=1),
            half_m=np.stack([b.half_m for b in boxes], axis=1),
            thin_m=radius + margin,
            bulk_m=bulk + margin,
        )

    def room(self, ends: Array, middle: Array) -> tuple[Array, Index, Index]:
        """Room [K] of the nearest pair of capsule and box, the box, the capsule."""
        (boxes, capsules), count = self.thin_m.shape, middle.shape[1]
        local = (self.axes.reshape(-1, 3) @ middle.reshape(3, -1)).reshape(3, boxes, count, capsules)
        local -= self.shift[:, :, None, None]
        depth = np.abs(local, out=local)
        depth -= self.half_m[:, :, None, None]
        apart = np.minimum(np.maximum(np.maximum(depth[0], depth[1]), depth[2]), 0.0)
        apart += _norm(np.maximum(depth, 0.0, out=depth))  # [B, K, C]
        at_most = (apart - self.thin_m[:, None]).min(axis=(0, 2))
        box, k, capsule = np.nonzero(apart - self.bulk_m[:, None] <= at_most[:, None])
        there = np.einsum("abm,bem->aem", self.axes[:, box].transpose(0, 2, 1), ends[:, :, k, capsule])
        there -= self.shift[:, None, box]
        table = np.full(apart.shape, np.inf)
        table[box, k, capsule] = segment_box_distances(there, self.half_m[:, box]) - self.thin_m[box, capsule]
        table = table.transpose(1, 0, 2).reshape(count, -1)
        best = table.argmin(axis=1)
        return table[np.arange(count), best], best // capsules, best % capsules


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
    return np.where((shape.link > JOINTS)[:, None, None], turned, shape.ends_m)


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
    reach = np.zeros((JOINTS, len(LINKS)))
    for link, frame in enumerate(MOVED_BY):
        mine = shape.link == link
        if frame and mine.any():
            own = (np.linalg.norm(ends[mine], axis=-1).max(axis=1) + shape.radius_m[mine]).max()
            for joint in range(frame):
                reach[joint, link] = own + ways[joint + 1 : frame].sum()
    return reach


def _between(reach_m: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    """[7, pairs] most that two links' points move against one another for each radian of a joint."""
    table = np.zeros((JOINTS, len(pairs)))
    for k, (first, second) in enumerate(pairs):
        table[MOVED_BY[first] :, k] = reach_m[MOVED_BY[first] :, second]
    return table


def _lowest_between(room: Array, moved_m: Array) -> Array:
    """Least room [K - 1] between neighbours of [K] that are `moved_m` [K - 1] apart."""
    return np.minimum((room[:-1] + room[1:] - moved_m) / 2, np.minimum(room[:-1], room[1:]))


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
