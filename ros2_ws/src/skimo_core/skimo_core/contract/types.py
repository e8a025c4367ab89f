"""What flows between the parts: robot state, object states, commands and verdicts.

Frames and units: joint vectors hold joints 1..7 in Franka's convention, rad, rad/s, rad/s2, Nm; lengths m; times s in
one clock (the node's). Data only; nothing here acts.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
JOINTS = 7


class RobotMode(enum.IntEnum):
    """Franka's robot modes (franka_msgs/FrankaRobotState)."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    AUTOMATIC_ERROR_RECOVERY = 6
    UNKNOWN = 255
    """Not one of Franka's: nothing was told yet."""


class Verdict(enum.IntEnum):
    """The gate's answer to one command; the larger, the more restrictive."""

    PASS = 0
    LIMIT = 1
    HOLD = 2
    STOP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotState:
    """One sample of arm and hand.

    Attributes:
        stamp_s: when it was measured.
        q_rad, dq_rad_s, tau_nm: joint positions, velocities, measured torques, each [7].
        finger_m: positions of the two fingers [2], 0 closed .. 0.04 open.
        mode: what the robot says it is doing.
        mode_stamp_s: when it said so; None: with the rest.
        desired_q_rad: [7] the positions that the robot's controller is told to be at, where it tells.
        tau_ext_nm: [7] torques that something outside puts on the joints, where the robot tells (Franka's
            tau_ext_hat_filtered).
    """

    stamp_s: float
    q_rad: Array
    dq_rad_s: Array
    tau_nm: Array
    finger_m: Array
    mode: RobotMode = RobotMode.IDLE
    mode_stamp_s: float | None = None
    desired_q_rad: Array | None = None
    tau_ext_nm: Array | None = None

    @property
    def reference_q_rad(self) -> Array:
        """Where a command begins that begins at rest: the controller's reference if known, else what is measured."""
        return self.q_rad if self.desired_q_rad is None else self.desired_q_rad


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStates:
    """What the object tracker sees: one number per named channel [K], units as in the observation spec."""

    stamp_s: float
    names: tuple[str, ...]
    values: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class JointTrajectory:
    """Points that the arm passes, quintic between them, at rest after the last.

    Attributes:
        start_s: the time that `times_s` counts from.
        times_s: [K], increasing, > 0.
        q_rad, dq_rad_s, ddq_rad_s2: [K, 7] state at each point.
    """

    start_s: float
    times_s: Array
    q_rad: Array
    dq_rad_s: Array
    ddq_rad_s2: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperCommand:
    """A goal for the hand: `move` to a width, or `grasp` with a force whatever lies between.

    Attributes:
        kind: "move" or "grasp".
        width_m: distance between the fingers, 0 .. 0.08.
        speed_m_s: closing or opening speed.
        force_n: grasping force; 0 for a move.
    """

    kind: str
    width_m: float
    speed_m_s: float
    force_n: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCommand:
    """What actuation hands to a backend: a trajectory that ends at rest, and a hand goal if the intent changed.

    Attributes:
        others: [K] actions in [-1, 1] of a domain without an arm, which names them (`ActionSpec`); they hold until the
            trajectory, of no joints, is over, and are 0 then. None: an arm's command.
    """

    trajectory: JointTrajectory
    gripper: GripperCommand | None = None
    others: Array | None = None
