"""The only place where a policy's action becomes motion.

`Actuator.command` turns seven joint velocities and two finger intents into a `JointCommand`:
  - a trajectory from the last *commanded* state: on at the velocity it has for a reaction time (so that a command on
    its way through processes joins the path without a change), at the wanted velocity one control period after it was
    due, then half a period at that velocity (the next command may come late without a jolt), then a braking tail:
    silence ends at rest;
  - a hand goal when the finger intent changes, with hysteresis and at most one per `gripper_interval_s`.
Velocities are clipped to a fraction of the robot's limits, and the place where the tail comes to rest to the joint
range less a margin. Where accelerations bound the change of velocity, all joints are held back alike, so that the
fingertips keep their direction: an action may ask for any velocity and need not know the present one.
Collection, in-process runs and the full stack all use this.
Pure: time is an argument. Units rad, s.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import SpecError
from .safety.limits import RobotLimits
from .specs import ActionSpec
from .trajectory import TrajectoryFollower, braking_time_s
from .types import JOINTS, Array, GripperCommand, JointCommand, JointTrajectory

AT_REST_RAD_S = 1e-3
"""A commanded velocity below this counts as rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActuatorConfig:
    """How much of the robot's limits a policy may use.

    Attributes:
        velocity_fraction: of the joint velocity limits.
        acceleration_fraction: of the joint acceleration limits, while following and while braking.
        position_margin_rad: kept free at both ends of each joint's range.
        reaction_periods: how long, in control periods, the old velocity goes on; a command that reaches the arm
            within this time makes exactly the same path. From rest there is no such wait.
        grace_periods: how long, in control periods, the velocity is held before braking begins.
        open_above, close_below: mean finger intent that opens or closes the hand; between them nothing changes.
        gripper_interval_s: least time between two hand goals.
    """

    velocity_fraction: float = 0.6
    acceleration_fraction: float = 0.9
    position_margin_rad: float = 0.05
    reaction_periods: float = 0.2
    grace_periods: float = 0.5
    open_above: float = 0.3
    close_below: float = -0.3
    gripper_interval_s: float = 0.4

    def __post_init__(self) -> None:
        for name in ("velocity_fraction", "acceleration_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise SpecError(f"actuator: {name} is {getattr(self, name)}, must be in (0, 1]")
        if not 0 <= self.reaction_periods <= 0.5:
            raise SpecError(f"actuator: reaction_periods is {self.reaction_periods}, must be in [0, 0.5]")
        if self.close_below >= self.open_above:
            raise SpecError(f"actuator: close_below {self.close_below} must be less than open_above {self.open_above}")


class Actuator:
    """Keeps the last commanded state; one instance per arm."""

    def __init__(self, limits: RobotLimits, spec: ActionSpec, config: ActuatorConfig | None = None) -> None:
        self.spec = spec
        self._limits = limits
        self._config = config or ActuatorConfig()
        self._follower = TrajectoryFollower(limits.home_q_rad)
        self._sent = copy.copy(self._follower)
        self._hand_open: bool | None = None
        self._hand_changed_s = -np.inf

    def reset(self, q_rad: Array, now_s: float, *, hand_open: bool | None = None) -> None:
        """Start anew from rest at `q_rad` [7]; `hand_open` None: the first intent always commands the hand."""
        self._follower.reset(q_rad, now_s)
        self._sent = copy.copy(self._follower)
        self._hand_open = hand_open
        self._hand_changed_s = -np.inf

    def commanded(self, now_s: float) -> tuple[Array, Array]:
        """The commanded joint position and velocity, each [7], at `now_s`."""
        q, dq, _ = self._follower.sample(np.array([now_s]))
        return q[0], dq[0]

    def command(self, action_A: npt.NDArray[np.float32], due_s: float) -> JointCommand:
        """Return the command for an action [A] in [-1, 1] that is due at `due_s`.

        Raises:
            SpecError: the action is not finite, out of bounds or of the wrong size.
        """
        self.spec.check(action_A)
        q0, dq0 = self.commanded(due_s)
        wanted = action_A[: self.spec.joints].astype(np.float64) * self.spec.scale_rad_s
        trajectory = self._trajectory(q0, dq0, self._reachable(q0, dq0, wanted), due_s)
        self._sent = copy.copy(self._follower)
        self._follower.set(trajectory, due_s)
        return JointCommand(trajectory=trajectory, gripper=self._gripper(action_A[self.spec.joints :], due_s))

    def adopt(self, trajectory: JointTrajectory, now_s: float) -> None:
        """Go on from what was really sent, where a gate limited or braked what `command` gave."""
        self._follower = copy.copy(self._sent)
        self._follower.set(trajectory, now_s)

    def withdraw(self) -> None:
        """Forget the last command's motion: a gate refused it, so the one before it still runs."""
        self._follower = copy.copy(self._sent)

    def applied_action(self, action_A: npt.NDArray[np.float32], due_s: float) -> npt.NDArray[np.float32]:
        """The action that the limits let through: what `command` will execute, in the action's own scale."""
        q0, dq0 = self.commanded(due_s)
        wanted = action_A[: self.spec.joints].astype(np.float64) * self.spec.scale_rad_s
        applied = action_A.copy()
        applied[: self.spec.joints] = self._reachable(q0, dq0, wanted) / self.spec.scale_rad_s
        return np.clip(applied, -1.0, 1.0)

    def hold(self, now_s: float) -> JointCommand:
        """Return a command that brakes to rest from the commanded state."""
        self._sent = copy.copy(self._follower)
        self._follower.hold(now_s, self._limits.ddq_max_rad_s2 * self._config.acceleration_fraction)
        stop_s = max(self._follower.end_s - now_s, 0.05)
        rest = np.zeros((1, JOINTS))
        q_end = self._follower.sample(np.array([now_s + stop_s]))[0]
        return JointCommand(
            trajectory=JointTrajectory(
                start_s=now_s, times_s=np.array([stop_s]), q_rad=q_end, dq_rad_s=rest, ddq_rad_s2=rest
            )
        )

    def _reachable(self, q0: Array, dq0: Array, wanted_rad_s: Array) -> Array:
        """Clip a velocity [7] to what speed, acceleration and the room left before the joint limits allow."""
        config, limits, period = self._config, self._limits, self.spec.period_s
        ramp_s = period * (1 - config.reaction_periods)
        dq_max = limits.dq_max_rad_s * config.velocity_fraction
        ddq_max = limits.ddq_max_rad_s2 * config.acceleration_fraction
        change = np.clip(wanted_rad_s, -dq_max, dq_max) - dq0
        dq = dq0 + change / max(1.0, float((np.abs(change) / (ddq_max * ramp_s / 1.5)).max()))
        brake_s = braking_time_s(np.maximum(np.abs(dq), np.abs(dq0)), ddq_max)
        reach_s = ramp_s / 2 + config.grace_periods * period + brake_s / 2
        ahead = q0 + dq0 * (period - ramp_s / 2)
        low = (limits.q_min_rad + config.position_margin_rad - ahead) / reach_s
        high = (limits.q_max_rad - config.position_margin_rad - ahead) / reach_s
        hardest = limits.ddq_max_rad_s2 * ramp_s / 1.5
        return np.clip(np.clip(dq, np.minimum(low, 0), np.maximum(high, 0)), dq0 - hardest, dq0 + hardest)

    def _trajectory(self, q0: Array, dq0: Array, dq1: Array, due_s: float) -> JointTrajectory:
        period = self.spec.period_s
        at_rest = np.abs(dq0).max() < AT_REST_RAD_S
        reaction_s = 0.0 if at_rest else self._config.reaction_periods * period
        grace_s = self._config.grace_periods * period
        brake_s = braking_time_s(dq1, self._limits.ddq_max_rad_s2 * self._config.acceleration_fraction)
        q_ramp = q0 + dq0 * reaction_s
        q1 = q_ramp + (dq0 + dq1) / 2 * (period - reaction_s)
        q2 = q1 + dq1 * grace_s
        first = 0 if reaction_s > 0 else 1
        return JointTrajectory(
            start_s=due_s,
            times_s=np.array([reaction_s, period, period + grace_s, period + grace_s + brake_s])[first:],
            q_rad=np.stack([q_ramp, q1, q2, q2 + dq1 * brake_s / 2])[first:],
            dq_rad_s=np.stack([dq0, dq1, dq1, np.zeros(JOINTS)])[first:],
            ddq_rad_s2=np.zeros((4 - first, JOINTS)),
        )

    def _gripper(self, fingers: npt.NDArray[np.float32], now_s: float) -> GripperCommand | None:
        if fingers.size == 0:
            return None
        intent = float(fingers.mean())
        wants_open = True if intent > self._config.open_above else False if intent < self._config.close_below else None
        if wants_open is None or wants_open == self._hand_open:
            return None
        if now_s - self._hand_changed_s < self._config.gripper_interval_s:
            return None
        self._hand_open, self._hand_changed_s = wants_open, now_s
        limits = self._limits
        if wants_open:
            return GripperCommand(kind="move", width_m=limits.hand_width_max_m, speed_m_s=limits.hand_speed_m_s)
        return GripperCommand(kind="grasp", width_m=0.0, speed_m_s=limits.hand_speed_m_s, force_n=limits.hand_force_n)
