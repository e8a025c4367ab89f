"""An arm as its rig says it is: joints corrected by their encoders' offsets, stamps by what they are late.

Everything that a driver is told or tells is in its encoders' terms, as Franka's is. Whoever reasons about where the arm
is (policy, gate, collision, goals) works with the true angles; this is the one place where the two are exchanged.

    true angle = what the encoder reads - its offset             a trajectory that is told = the true one + the offset
    measured at = stamped at - latency
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..contract.backend import SimulatedBackend
from ..contract.errors import SpecError
from ..contract.types import Array, GripperCommand, JointCommand, JointTrajectory, ObjectStates, RobotState
from ..domain.rig import Rig
from ..domain.robot import RobotLimits
from .actuate import TRANSIT_MAX_S, ActuatorConfig
from .trajectory import ARRIVAL_S


def _offset_rad(rig: Rig) -> Array | float:
    """What the encoders are off; 0 where nobody measured it, of however many joints."""
    return 0.0 if rig.joints is None else rig.joints.offset_rad


def corrected(state: RobotState, rig: Rig) -> RobotState:
    """What a driver told, with true angles and the time at which they were measured."""
    offset_rad, desired = _offset_rad(rig), state.desired_q_rad
    return replace(
        state,
        stamp_s=state.stamp_s - rig.state_s,
        mode_stamp_s=None if state.mode_stamp_s is None else state.mode_stamp_s - rig.state_s,
        q_rad=state.q_rad - offset_rad,
        desired_q_rad=None if desired is None else desired - offset_rad,
    )


def told(trajectory: JointTrajectory, rig: Rig) -> JointTrajectory:
    """A trajectory of true angles as the driver must be told it."""
    return replace(trajectory, q_rad=trajectory.q_rad + _offset_rad(rig))


def meant(trajectory: JointTrajectory, rig: Rig) -> JointTrajectory:
    """The trajectory of true angles that a driver was told: the inverse of `told`."""
    return replace(trajectory, q_rad=trajectory.q_rad - _offset_rad(rig))


def narrowed(limits: RobotLimits, rig: Rig) -> RobotLimits:
    """Limits on true angles that keep both the joints and what their encoders read within the robot's range."""
    offset_rad = np.asarray(_offset_rad(rig))
    return replace(
        limits,
        q_min_rad=limits.q_min_rad + np.maximum(-offset_rad, 0.0),
        q_max_rad=limits.q_max_rad - np.maximum(offset_rad, 0.0),
    )


def beyond_arrival_s(rig: Rig) -> float:
    """How much longer by the rig a command takes to the arm than any may (`ARRIVAL_S`)."""
    return max(0.0, rig.command_s - ARRIVAL_S)


def in_time(config: ActuatorConfig, rig: Rig) -> ActuatorConfig:
    """Actuation that leaves a command so much longer to the arm, through a gate that does too (`gate_in_time`).

    A trajectory says when the arm is to be where. While the path under way goes on until the command has arrived, the
    arm is there in time, however long that takes: nobody has to look for it where it was told to be earlier.

    Raises:
        SpecError: it takes too long for that.
    """
    transit_s = config.transit_s + beyond_arrival_s(rig)
    if transit_s > TRANSIT_MAX_S:
        raise SpecError(
            f"rig {rig.name}: commands take effect {1e3 * rig.command_s:.0f} ms late, and there may be at most "
            f"{1e3 * (TRANSIT_MAX_S - config.transit_s + ARRIVAL_S):.0f} ms; mend the connection to the driver, then "
            "measure it again (skimo calibrate latency)"
        )
    return replace(config, transit_s=transit_s)


class RiggedBackend:
    """A simulated arm seen through a rig: implements skimo_core.contract.backend.SimulatedBackend round another one."""

    def __init__(self, inside: SimulatedBackend, rig: Rig) -> None:
        self.inside, self.rig = inside, rig

    def now_s(self) -> float:
        return self.inside.now_s()

    def read(self) -> RobotState:
        return corrected(self.inside.read(), self.rig)

    def read_objects(self) -> ObjectStates:
        """The object states, stamped when they were seen."""
        states = self.inside.read_objects()
        return replace(states, stamp_s=states.stamp_s - self.rig.camera_s)

    def write(self, command: JointCommand) -> None:
        self.inside.write(replace(command, trajectory=told(command.trajectory, self.rig)))

    def hold(self) -> None:
        self.inside.hold()

    def stop(self, reason: str) -> None:
        self.inside.stop(reason)

    # --- simulated time ---------------------------------------------------------------------------------------------

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None:
        self.inside.reset(task, seed, now_s=now_s)

    def advance(self, dt_s: float) -> None:
        self.inside.advance(dt_s)

    def recover(self) -> None:
        self.inside.recover()

    def command_hand(self, goal: GripperCommand) -> None:
        self.inside.command_hand(goal)

    def desired(self) -> tuple[Array, Array]:
        q_rad, dq_rad_s = self.inside.desired()
        return q_rad - _offset_rad(self.rig), dq_rad_s

    @property
    def path_at_rest(self) -> bool:
        return self.inside.path_at_rest

    @property
    def hand_width_m(self) -> float:
        return self.inside.hand_width_m

    @property
    def hand_busy(self) -> bool:
        return self.inside.hand_busy
