"""Bodies among a domain's channels: objects whose channels say where they stand, and how they are turned.

    kettle.x, kettle.y, kettle.z            a position, m; without .z the body stays in its plane, at z = 0
    kettle.qw, .qx, .qy, .qz                and a turn as a quaternion of any length,
    block.yaw                               or about z, rad
What is left of the object channels are gauges: a door's angle, a drawer's way. Poses are in the frame of the object
states, which `objects_in_base` places in the arm's base frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.specs import ObservationSpec
from ..contract.types import Array
from .domain import Domain
from .pose import Pose
from .rig import BARE, Rig
from .rotations import matrix

XYZ, TURN, YAW = ("x", "y", "z"), ("qw", "qx", "qy", "qz"), "yaw"
LEAST_LENGTH = 1e-3
"""A shorter quaternion says nothing of a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Channels of one body, as indices into the observation.

    Attributes:
        position: of x, y and, where it has one, z.
        turn: of the quaternion's parts, or of the yaw alone; empty where nothing says how it is turned.
    """

    name: str
    position: tuple[int, ...]
    turn: tuple[int, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """All of them."""
        return (*self.position, *self.turn)

    def pose(self, seen_O: npt.NDArray[np.floating]) -> Pose | None:
        """Where it stands by an observation [O]; None where its position isn't seen."""
        position_m = np.zeros(3)
        position_m[: len(self.position)] = seen_O[list(self.position)]
        if not np.isfinite(position_m).all():
            return None
        return Pose(position_m=position_m, rotation=self._rotation(np.asarray(seen_O, np.float64)))

    def _rotation(self, seen_O: Array) -> Array:
        turn = seen_O[list(self.turn)]
        if len(turn) == 1 and np.isfinite(turn[0]):
            return matrix(np.array([np.cos(turn[0] / 2), 0.0, 0.0, np.sin(turn[0] / 2)]))
        length = float(np.linalg.norm(turn))
        return matrix(turn / length) if len(turn) == len(TURN) and length > LEAST_LENGTH else np.eye(3)


def bodies_of(observation: ObservationSpec) -> tuple[Body, ...]:
    """The bodies among a domain's object channels, in their order."""
    names = observation.names
    first = observation.joints + observation.fingers
    at = {name: k for k, name in enumerate(names) if k >= first}
    heads = [name.rpartition(".")[0] for name in at if name.endswith(".x") and len(name) > len(".x")]
    found = []
    for head in heads:
        if f"{head}.y" not in at:
            continue
        position = tuple(at[f"{head}.{part}"] for part in XYZ if f"{head}.{part}" in at)
        turn = tuple(at[f"{head}.{part}"] for part in TURN if f"{head}.{part}" in at)
        if len(turn) < len(TURN):
            turn = (at[f"{head}.{YAW}"],) if f"{head}.{YAW}" in at else ()
        found.append(Body(name=head, position=position, turn=turn))
    return tuple(found)


def gauges_of(observation: ObservationSpec, bodies: Sequence[Body]) -> tuple[int, ...]:
    """Object channels that are no body's, as indices into the observation."""
    taken = {channel for body in bodies for channel in body.channels}
    return tuple(k for k in range(observation.joints + observation.fingers, observation.size) if k not in taken)


def objects_in_base(domain: Domain, rig: Rig = BARE) -> Pose:
    """The frame of the objects' poses in the arm's base frame: as the rig has measured it, else as the domain says."""
    if (measured := rig.furniture.get(domain.name)) is not None:
        return Pose(position_m=measured.position_m, rotation=measured.rotation)
    return domain.base.inverse()
