"""A domain's object channels in a compiled model, as a scene file says what they are.

Joints and bodies with a free joint are read from the state and can be put where a start has them; of a body that is
part of another, and of a site, the pose of the newest physics step is told. Units m, rad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rotations import matrix, quaternion

from .physics import mujoco
from .placing import about_z
from .scene import Mark, joint_mark
from .scene_file import POSITION, TURN, VALUES, YAW, Entry

SLIDES = (int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE))
FREE = int(mujoco.mjtJoint.mjJNT_FREE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """The channels of one body or site.

    Attributes:
        source: "body" or "site".
        id: of the element.
        address: of its free joint in a state; -1: it has none, and is only told.
        at: index among the channels, by value.
    """

    source: str
    id: int
    address: int
    at: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Implements skimo_sim.scenes.scene.Objects.

    Attributes:
        size: how many channels.
        joint_at, joint_address: of the channels that are joints' values, the index and the address in a state.
        poses: the others.
        base_m, base_rotation: the frame that poses are told in, in the model's world.
    """

    size: int
    joint_at: tuple[int, ...]
    joint_address: tuple[int, ...]
    poses: tuple[Pose, ...]
    base_m: Array
    base_rotation: Array

    def read(self, data: mujoco.MjData) -> Array:
        values = np.empty(self.size)
        values[list(self.joint_at)] = data.qpos[list(self.joint_address)]
        for pose in self.poses:
            position, rotation = _pose(pose, data)
            self._tell(
                pose.at, self.base_rotation.T @ (position - self.base_m), self.base_rotation.T @ rotation, values
            )
        return values

    def put(self, qpos: Array, values: Array) -> None:
        qpos[list(self.joint_address)] = values[list(self.joint_at)]
        for pose in self.poses:
            if pose.address >= 0:
                at = slice(pose.address, pose.address + 7)
                qpos[at] = self._placed(pose.at, qpos[at], values)

    def with_own(self, values: Array, own: Array) -> Array:
        """The values [K], with the model's own [K] for each body that they all put at 0, and for what is only told."""
        found = values.copy()
        for pose in self.poses:
            at = list(pose.at.values())
            if pose.address < 0 or not values[at].any():
                found[at] = own[at]
        return found

    def marks(self, model: mujoco.MjModel, data: mujoco.MjData) -> list[Mark]:
        """The frames that the values tell of."""
        found = []
        for address in self.joint_address:
            joint = int(np.flatnonzero(model.jnt_qposadr == address)[0])
            found.append(joint_mark(model, data, joint, model.joint(joint).name))
        for pose in self.poses:
            position, rotation = _pose(pose, data)
            name = getattr(model, pose.source)(pose.id).name
            found.append(Mark(label=name, position_m=position.copy(), rotation=rotation.copy()))
        return found

    def joint_of(self, model: mujoco.MjModel, channel: int) -> int:
        """The joint whose value a channel is; -1: it is a pose's."""
        if channel not in self.joint_at:
            return -1
        return int(np.flatnonzero(model.jnt_qposadr == self.joint_address[self.joint_at.index(channel)])[0])

    def bodies_of(self, model: mujoco.MjModel, channels: set[int]) -> dict[str, int]:
        """The bodies that channels tell of, by name."""
        found = {int(model.jnt_bodyid[self.joint_of(model, k)]) for k in channels & set(self.joint_at)}
        for pose in self.poses:
            if channels & set(pose.at.values()):
                found.add(pose.id if pose.source == "body" else int(model.site_bodyid[pose.id]))
        return {model.body(body).name: body for body in sorted(found)}

    def movable(self) -> tuple[int, ...]:
        """Which channels a start can set."""
        return (*self.joint_at, *(k for pose in self.poses if pose.address >= 0 for k in pose.at.values()))

    def _tell(self, at: Mapping[str, int], position: Array, rotation: Array, values: Array) -> None:
        for value, k in at.items():
            if value in POSITION:
                values[k] = position[POSITION.index(value)]
            elif value == YAW:
                values[k] = np.arctan2(rotation[1, 0], rotation[0, 0])
        if any(value in TURN for value in at):
            turn = quaternion(rotation)
            for value in TURN:
                if value in at:
                    values[at[value]] = turn[TURN.index(value)]

    def _placed(self, at: Mapping[str, int], qpos: Array, values: Array) -> Array:
        """A free joint's state [7] with the values that there are, in what else it was."""
        position = self.base_rotation.T @ (qpos[:3] - self.base_m)
        rotation = self.base_rotation.T @ matrix(qpos[3:])
        for k, value in enumerate(POSITION):
            if value in at:
                position[k] = values[at[value]]
        if YAW in at:
            rotation = about_z(values[at[YAW]] - float(np.arctan2(rotation[1, 0], rotation[0, 0]))) @ rotation
        if TURN[0] in at:
            turn = np.array([values[at[value]] for value in TURN])
            length = float(np.linalg.norm(turn))
            rotation = matrix(turn / length) if length > 0.0 else rotation
        return np.concatenate([self.base_rotation @ position + self.base_m, quaternion(self.base_rotation @ rotation)])


def describe(
    model: mujoco.MjModel,
    names: tuple[str, ...],
    entries: Mapping[str, Entry],
    where: str,
    base: tuple[Array, Array],
) -> Described:
    """Find the channels `names` in a model.

    Args:
        base: position and rotation of the frame that poses are told in.

    Raises:
        SpecError: a channel without an entry, or with two; an entry for no channel; no such joint, body or site; a
            joint of more than one value; part of an orientation.
    """
    joints: dict[int, int] = {}
    poses: dict[tuple[str, int], dict[str, int]] = {}
    used: dict[tuple[str, int, str], str] = {}
    for k, (name, entry, value) in enumerate(_matched(names, entries, where)):
        found = _find(model, entry, where)
        if other := used.get((entry.source, found, value)):
            raise SpecError(f"{where}: channels: {other} and {name} are both {value or 'the value'} of {entry.of!r}")
        used[entry.source, found, value] = name
        if entry.source == "joint":
            joints[k] = _address(model, found, name, where)
        else:
            poses.setdefault((entry.source, found), {})[value] = k
    for (source, found), at in poses.items():
        if 0 < sum(value in TURN for value in at) < len(TURN) or (YAW in at and TURN[0] in at):
            name = getattr(model, source)(found).name
            raise SpecError(
                f"{where}: channels of {source} {name!r}: give {', '.join(TURN)} all four, or yaw, not both"
            )
    return Described(
        size=len(names),
        joint_at=tuple(joints),
        joint_address=tuple(joints.values()),
        poses=tuple(
            Pose(source=source, id=found, address=_free_address(model, source, found), at=at)
            for (source, found), at in poses.items()
        ),
        base_m=base[0],
        base_rotation=base[1],
    )


def _matched(names: tuple[str, ...], entries: Mapping[str, Entry], where: str) -> list[tuple[str, Entry, str]]:
    """Each channel's entry and which of its values it is."""
    found, wanted = [], set(entries)
    for name in names:
        stem, _, last = name.rpartition(".")
        if name in entries and stem in entries:
            raise SpecError(f"{where}: channel {name!r} is there twice: as {name!r} and within {stem!r}; keep one")
        if name not in entries and stem not in entries:
            raise SpecError(
                f"{where}: channels says nothing of {name!r}; add {name}: {{joint: NAME}}, or {stem or name}: "
                f"{{body: NAME}}; it has {', '.join(entries) or 'none'}"
            )
        key = name if name in entries else stem
        entry = entries[key]
        wanted.discard(key)
        value = "" if entry.source == "joint" else entry.value or last
        if entry.source != "joint" and value not in VALUES:
            raise SpecError(f"{where}: channel {name!r}: which value of {entry.of!r}? give value: {', '.join(VALUES)}")
        found.append((name, entry, value))
    if wanted:
        raise SpecError(
            f"{where}: channels: {sorted(wanted)[0]!r} is no channel of the domain; it has {', '.join(names)}"
        )
    return found


def names_of(model: mujoco.MjModel, source: str) -> list[str]:
    """Names of a model's joints, bodies or sites, without the arm's."""
    count = {"joint": model.njnt, "body": model.nbody, "site": model.nsite}[source]
    names = [getattr(model, source)(k).name for k in range(count)]
    return [name for name in names if name and name != "world" and not name.startswith("panda_")]


def _find(model: mujoco.MjModel, entry: Entry, where: str) -> int:
    try:
        return int(getattr(model, entry.source)(entry.of).id)
    except KeyError:
        known = ", ".join(names_of(model, entry.source)) or "none with a name"
        raise SpecError(f"{where}: the model has no {entry.source} {entry.of!r}; there are {known}") from None


def _address(model: mujoco.MjModel, joint: int, name: str, where: str) -> int:
    if model.jnt_type[joint] not in SLIDES:
        raise SpecError(
            f"{where}: channel {name!r}: joint {model.joint(joint).name!r} is neither a hinge nor a slide; name its "
            "body instead"
        )
    return int(model.jnt_qposadr[joint])


def _free_address(model: mujoco.MjModel, source: str, found: int) -> int:
    if source == "body" and model.body_jntnum[found] == 1:
        joint = int(model.body_jntadr[found])
        if model.jnt_type[joint] == FREE:
            return int(model.jnt_qposadr[joint])
    return -1


def _pose(pose: Pose, data: mujoco.MjData) -> tuple[Array, Array]:
    """Position [3] and rotation [3, 3] in the world."""
    if pose.address >= 0:
        qpos = data.qpos[pose.address : pose.address + 7]
        return qpos[:3], matrix(qpos[3:] / np.linalg.norm(qpos[3:]))
    if pose.source == "site":
        return data.site_xpos[pose.id], data.site_xmat[pose.id].reshape(3, 3)
    return data.xpos[pose.id], data.xmat[pose.id].reshape(3, 3)
