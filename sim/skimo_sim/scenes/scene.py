"""A scene as the twin has it: one compiled model with an arm at its head, and what of it the object channels are.

Frames: the scene's own world, z up. Units m, rad.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from skimo_core.contract.types import JOINTS, Array
from skimo_core.domain.rig import Placement

from .arm import FINGERS, Arm
from .physics import mujoco

OWN = JOINTS + FINGERS
"""How many positions, velocities and actuators at the head of a model are arm and hand."""
SLEEP = int(getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", 0))
"""Objects at rest that nothing touches are left out of the computation, where MuJoCo can do that (3.4 on)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A frame to be drawn: its origin [3] and axes [3, 3] in the scene's world, and what is written beside it."""

    label: str
    position_m: Array
    rotation: Array


class Objects(Protocol):
    """What a domain's object channels are in a model, K of them in the domain's order."""

    def read(self, data: mujoco.MjData) -> Array:
        """Their values [K] now."""
        ...

    def put(self, qpos: Array, values: Array) -> None:
        """Make a state [nq], in place, one in which they have the values [K]; what only follows others is left."""
        ...

    def marks(self, model: mujoco.MjModel, data: mujoco.MjData) -> list[Mark]:
        """The frames that the values tell of, as they stand."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Objects whose channels are all that a state holds behind arm and hand, in that order."""

    def read(self, data: mujoco.MjData) -> Array:
        return data.qpos[OWN:].copy()

    def put(self, qpos: Array, values: Array) -> None:
        qpos[OWN:] = values

    def marks(self, model: mujoco.MjModel, data: mujoco.MjData) -> list[Mark]:
        """The frames of the joints behind arm and hand."""
        joints = np.flatnonzero(model.jnt_qposadr >= OWN)
        return [joint_mark(model, data, int(joint), model.joint(int(joint)).name) for joint in joints]


def joint_mark(model: mujoco.MjModel, data: mujoco.MjData, joint: int, label: str) -> Mark:
    """The frame of a joint: z along its axis; of a free body its own."""
    if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
        body = int(model.jnt_bodyid[joint])
        return Mark(label=label, position_m=data.xpos[body].copy(), rotation=data.xmat[body].reshape(3, 3).copy())
    quat, rotation = np.zeros(4), np.zeros(9)
    mujoco.mju_quatZ2Vec(quat, data.xaxis[joint])
    mujoco.mju_quat2Mat(rotation, quat)
    return Mark(label=label, position_m=data.xanchor[joint].copy(), rotation=rotation.reshape(3, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A compiled scene.

    Attributes:
        name: what a rig calls its furniture.
        model: the MuJoCo model; positions, velocities and actuators of arm and hand are its first.
        arm: how its arm is driven.
        start_qpos: [nq] the initial state.
        objects: the domain's object channels in it.
        base_m, base_rotation: [3] and [3, 3] where the arm's base stands.
        fingertip_m: from the hand's frame to the middle of the fingers' pads, along the hand's axis.
    """

    name: str
    model: mujoco.MjModel
    arm: Arm
    start_qpos: Array
    objects: Objects
    base_m: Array
    base_rotation: Array
    fingertip_m: float


Dress = Callable[[mujoco.MjSpec], None]


class Build(Protocol):
    """Compiles a scene, as often as an arm changes or somebody wants to look at it."""

    def __call__(
        self,
        arm: str,
        *,
        visual: bool = False,
        placement: Placement | None = None,
        dress: Dress | None = None,
    ) -> Scene:
        """The scene with that arm.

        Args:
            visual: with what is only there to be looked at.
            placement: where the scene's frame lies in the arm's base frame; None: as it says itself.
            dress: adds to the scene what else is to be seen in it.

        Raises:
            SpecError: an unknown arm, or one that would stand somewhere else.
            SetupError: its files are not installed.
        """
        ...


@runtime_checkable
class Drawable(Protocol):
    """A twin with a scene to look at."""

    data: mujoco.MjData

    def start(self, seed: int | None) -> None:
        """Put it at the start that a seed draws, or at the plain one."""
        ...

    def drawn(self) -> Scene:
        """Its scene with what is only there to be looked at."""
        ...

    def state_of(self, observation: Array) -> Array:
        """The state [nq] that an observation [O] tells of."""
        ...
