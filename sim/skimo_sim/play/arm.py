"""From what an arm's fingertips should do to the policy's own action: what teleoperators of arms have in common.

Promises
  - Uses only what is seen: joint and finger positions and object values. What it asks for does not depend on how fast
    the arm moves already (the observation doesn't hold that either): the actuator sees to accelerations.
  - Joint velocities stay within the action scale, all reduced alike; limits beyond that are the actuator's.
Units rad, m, s; world frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skimo_core.contract.specs import ActionSpec
from skimo_core.contract.types import Array, RobotState

from .clearance import Clearance
from .kinematics import ArmKinematics, rotation_vector
from .teleoperator import FloatArray

OPEN, CLOSE = 1.0, -1.0
HOME_HZ, HOME_MAX_RAD_S = 3.0, 1.0
TURN_HZ = 2.5
TURN_MAX_RAD_S = 1.6
WRIST = 4
"""The joint that tells in which of its ways to be somewhere the arm is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is seen: joint angles [7], fingertip position [3] and rotation [3, 3], mean finger position, objects [K]."""

    q_rad: Array
    tip_m: Array
    rotation: Array
    finger_m: float
    objects: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What the fingertips should do now.

    Attributes:
        velocity_m_s: [3] of the fingertips.
        rotation: [3, 3] to turn to.
        intent: of the fingers, 1 open, -1 close.
        engaged: whether the hand is where it moves the part, or should.
        q_rad: [7] joint angles to go to instead, once the hand is clear of everything.
    """

    velocity_m_s: Array
    rotation: Array
    intent: float
    engaged: bool = False
    q_rad: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmOperator:
    """Sees with an arm's kinematics, and acts in its domain's actions.

    Attributes:
        clearance: keeps the arm clear of what it may not touch; None: that is left to the gate.
        wrung_rad: how far the wrist is turned from where the posture has it when the arm begins to go to its posture
            instead, and how much further when it does nothing else: in another of the arm's ways to be somewhere the
            fingertips may get nowhere. None: the redundancy alone brings it back.
    """

    kinematics: ArmKinematics
    action: ActionSpec
    clearance: Clearance | None = None
    wrung_rad: tuple[float, float] | None = None

    def view(self, robot: RobotState, objects: Array) -> View:
        """What is seen with the arm as it is and object values [K]."""
        tip, rotation = self.kinematics.fingertips(robot.q_rad)
        return View(
            q_rad=robot.q_rad, tip_m=tip, rotation=rotation, finger_m=float(robot.finger_m.mean()), objects=objects
        )

    def act(self, wanted: Aim, view: View, posture_rad: Array) -> FloatArray:
        """The action [A] that makes the fingertips do what is `wanted`, the redundancy going to a posture [7]."""
        if wanted.q_rad is not None:
            return self._as_action(view, homing(view.q_rad, wanted.q_rad), wanted.intent)
        turn = TURN_HZ * rotation_vector(wanted.rotation, view.rotation)
        turn *= min(1.0, TURN_MAX_RAD_S / max(float(np.linalg.norm(turn)), 1e-9))
        dq = self.kinematics.joint_velocity(view.q_rad, np.r_[wanted.velocity_m_s, turn], posture_rad)
        if self.wrung_rad is not None and not wanted.engaged:
            aside_rad, more_rad = self.wrung_rad
            wrung = abs(float(view.q_rad[WRIST] - posture_rad[WRIST])) - aside_rad
            unwound = float(np.clip(wrung / more_rad, 0.0, 1.0))
            dq += unwound * (homing(view.q_rad, posture_rad) - dq)
        return self._as_action(view, dq, wanted.intent)

    def _as_action(self, view: View, dq_rad_s: Array, intent: float) -> FloatArray:
        if self.clearance is not None:
            dq_rad_s = self.clearance.keep(view.q_rad, dq_rad_s)
        velocities = dq_rad_s / self.action.scale_rad_s
        velocities /= max(1.0, float(np.abs(velocities).max()))
        fingers = np.full(self.action.size - self.action.joints, intent)
        return np.r_[velocities, fingers].astype(np.float32)


def homing(q_rad: Array, to_rad: Array) -> Array:
    """Joint velocities [7] straight to other joint angles."""
    dq_rad_s = HOME_HZ * (to_rad - q_rad)
    return dq_rad_s * min(1.0, HOME_MAX_RAD_S / max(float(np.abs(dq_rad_s).max()), 1e-9))


def toward(offset_m: Array, gain_hz: float, speed_m_s: float) -> Array:
    """A velocity that closes `offset_m` [3], no faster than `speed_m_s`."""
    velocity = gain_hz * offset_m
    return velocity * min(1.0, speed_m_s / max(float(np.linalg.norm(velocity)), 1e-9))
