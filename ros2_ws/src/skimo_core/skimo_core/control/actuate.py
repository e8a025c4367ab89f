"""The only place where a policy's action becomes motion.

`Actuator.command` turns the domain's joint velocities and finger intents into a `JointCommand`:
  - a trajectory from the last *commanded* state: on along the path under way for a reaction time (so that a command
    on its way through processes joins it without a change), at the wanted velocity one control period after it was
    due, then half a period at that velocity (the next command may come late without a jolt), then a braking tail:
    silence ends at rest. A command that is sent later than the reaction time covers leaves the path under way later
    by as much, in whatever state the arm is by then: late, it is not steeper;
  - a hand goal when the finger intent changes, with hysteresis and at most one per `gripper_interval_s`.
Velocities are clipped to a fraction of the robot's limits, and the place where the tail comes to rest to the joint
range less a margin. An arm that brakes already, because a command is late or missing, may not manage to brake as hard
once more: where a command would leave the range, the path under way goes on. A joint is not led further away from where
it is than `lead` says, and gives way where something pushes it further: what is in the way would only be pressed the
harder, and the way back be as long. Where accelerations bound the change of velocity, all joints are held back alike,
so that the fingertips keep their direction: an action may ask for any velocity and need not know the present one.
Without joints an action stands for one control period, in a trajectory that says how long and moves nothing.
Collection, in-process runs and the full stack all use this.
Pure: time is an argument. Units rad, s.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.errors import SpecError
from ..contract.specs import ActionSpec
from ..contract.types import Array, GripperCommand, JointCommand, JointTrajectory
from ..domain.robot import RobotLimits
from .braking import braking_trajectory
from .trajectory import SHORTEST_S, TrajectoryFollower, braking_time_s

TRANSIT_MAX_S = 0.1
AT_REST_RAD_S = 1e-3
"""A commanded velocity below this counts as rest."""
STEADY_RAD_S2 = 1e-6
"""A commanded acceleration below this counts as none."""
STRAIGHT_RAD = 4e-10
STRAIGHT_RAD_S = 1e-7
"""A path that leads this near to where steady velocity would is straight: `SHORTEST_S` turns less than that into a
thousandth of the lowest jerk limit."""
LEAD_FADES = 0.15
"""Share of the greatest lead over which a joint is slowed down before it has it."""
GIVE_HZ = 5.0
"""How fast a joint gives way that lies further off than it may be led."""
TOUCH_RAD = 1e-6
"""A point this far outside the joints' range is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActuatorConfig:
    """How much of the robot's limits a policy may use.

    Attributes:
        velocity_fraction: of the joint velocity limits.
        acceleration_fraction: of the joint acceleration limits, while following and while braking.
        position_margin_rad: kept free at both ends of each joint's range.
        reaction_periods: how long, in control periods but at least `transit_s`, the path under way goes on; a command
            that reaches the arm within this time makes exactly the same path. From rest there is no such wait.
        transit_s: how long a command that was sent may take to reach the arm, through a gate that lets the path under
            way go on for `safety.path.TRANSIT_S`, or longer where that is known to be longer (`rigged.in_time`).
        grace_periods: how long, in control periods, the velocity is held before braking begins.
        open_above, close_below: mean finger intent that opens or closes the hand; between them nothing changes.
        gripper_interval_s: least time between two hand goals.
    """

    velocity_fraction: float = 0.6
    acceleration_fraction: float = 0.9
    position_margin_rad: float = 0.05
    reaction_periods: float = 0.2
    transit_s: float = 0.012
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
        if not 0 <= self.transit_s <= TRANSIT_MAX_S:
            raise SpecError(f"actuator: transit_s is {self.transit_s}, must be in [0, {TRANSIT_MAX_S:g}]")
        if self.close_below >= self.open_above:
            raise SpecError(f"actuator: close_below {self.close_below} must be less than open_above {self.open_above}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Departure:
    """Where a command leaves the path under way: `late_s + wait_s` after it was due.

    Attributes:
        late_s: how much later than a command that was sent in time.
        wait_s: the reaction time.
        q_rad: [7] the position from which `wait_s` at `dq_rad_s` leads to the departure.
        dq_rad_s, ddq_rad_s2: [7] velocity and acceleration at the departure.
        via_s: times [K], after it was due, at which the path under way changes before the departure.
    """

    late_s: float
    wait_s: float
    q_rad: Array
    dq_rad_s: Array
    ddq_rad_s2: Array
    via_s: Array


class Actuator:
    """Keeps the last commanded state; one instance per arm.

    Raises:
        SpecError: the rate is too high for what a command takes to the arm.
    """

    def __init__(self, limits: RobotLimits, spec: ActionSpec, config: ActuatorConfig | None = None) -> None:
        self.spec = spec
        self._limits = limits
        self._config = config = config or ActuatorConfig()
        self._reaction_s = max(config.reaction_periods * spec.period_s, config.transit_s)
        if spec.joints and self._reaction_s > spec.period_s / 2:
            raise SpecError(
                f"actuator: a command may take {1e3 * config.transit_s:g} ms to the arm (transit_s), more than half a "
                f"control period at {spec.rate_hz:g} Hz; lower the domain's rate"
            )
        self._follower = TrajectoryFollower(limits.home_q_rad)
        self._sent = copy.copy(self._follower)
        self._reached_s = -np.inf
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
        q, dq, _ = self._follower.at(now_s)
        return q, dq

    @property
    def reached_s(self) -> float:
        """When the last command has the velocity that was wanted, or the path under way what it has instead."""
        return self._reached_s

    def command(
        self,
        action_A: npt.NDArray[np.float32],
        due_s: float,
        sent_s: float | None = None,
        lead: tuple[Array, Array] | None = None,
    ) -> JointCommand:
        """Return the command for an action [A] in [-1, 1] that was due at `due_s` and is sent then, or at `sent_s`.

        Args:
            lead: by how much the told position leads the measured one, [7], and by how much it may, [7].

        Raises:
            SpecError: the action is not finite, out of bounds or of the wrong size.
        """
        self.spec.check(action_A)
        if not self.spec.joints:
            return self._for_a_period(action_A, due_s)
        departure = self._departure(due_s, sent_s)
        trajectory = self._trajectory(departure, self._reachable(departure, action_A, lead), due_s)
        if self._leaves_range(trajectory):
            trajectory = self._onward(departure, due_s) or trajectory
        self._reached_s = due_s + self.spec.period_s + departure.late_s
        self._sent = copy.copy(self._follower)
        self._follower.set(trajectory, due_s)
        return JointCommand(trajectory=trajectory, gripper=self._gripper(action_A[self.spec.joints :], due_s))

    def _for_a_period(self, action_A: npt.NDArray[np.float32], due_s: float) -> JointCommand:
        """The command of an action without joints: silence ends it."""
        none, period_s = np.zeros((1, 0)), self.spec.period_s
        self._reached_s = due_s + period_s
        trajectory = JointTrajectory(
            start_s=due_s, times_s=np.array([period_s]), q_rad=none, dq_rad_s=none, ddq_rad_s2=none
        )
        return JointCommand(trajectory=trajectory, others=action_A.astype(np.float64))

    def adopt(self, trajectory: JointTrajectory) -> None:
        """Go on from what a gate really sent: what `command` gave, spliced or limited, or a brake of the gate's own.

        It begins with the state of the path under way at the moment of the gate's decision.
        """
        self._follower = copy.copy(self._sent)
        self._follower.set(trajectory, trajectory.start_s + float(trajectory.times_s[0]))
        self._sent = copy.copy(self._follower)

    def withdraw(self) -> None:
        """Forget the last command's motion: a gate refused it, so the one before it still runs."""
        self._follower = copy.copy(self._sent)

    def hold(self, now_s: float) -> JointCommand | None:
        """Return a command that brakes to rest as soon as it may have reached the arm; None if that rests by then."""
        if not self.spec.joints:
            return None
        limits, share = self._limits, self._config.acceleration_fraction
        knots_s = self._follower.knots_s - now_s
        leave_s = _clear_of(knots_s, self._config.transit_s)
        stop = braking_trajectory(
            self._follower.at(now_s + leave_s), now_s + leave_s, limits.ddq_max_rad_s2 * share, limits.dddq_max_rad_s3
        )
        if stop is None:
            return None
        kept_s = np.append(knots_s[knots_s < leave_s], leave_s)
        kept_s = kept_s[kept_s > SHORTEST_S]
        q, dq, ddq = self._follower.sample(now_s + kept_s)
        trajectory = JointTrajectory(
            start_s=now_s,
            times_s=np.concatenate([kept_s, leave_s + stop.times_s]),
            q_rad=np.concatenate([q, stop.q_rad]),
            dq_rad_s=np.concatenate([dq, stop.dq_rad_s]),
            ddq_rad_s2=np.concatenate([ddq, stop.ddq_rad_s2]),
        )
        self._sent = copy.copy(self._follower)
        self._follower.set(trajectory, now_s)
        return JointCommand(trajectory=trajectory)

    def _departure(self, due_s: float, sent_s: float | None) -> _Departure:
        config = self._config
        q, dq, ddq = begins = self._follower.at(due_s)
        steady = np.abs(ddq).max() < STEADY_RAD_S2
        wait_s = 0.0 if steady and np.abs(dq).max() < AT_REST_RAD_S else self._reaction_s
        travel_s = 0.0 if sent_s is None else sent_s - due_s + config.transit_s
        knots_s = self._follower.knots_s - due_s
        late_s = _clear_of(knots_s, max(wait_s, travel_s)) - wait_s
        leaves = self._follower.at(due_s + late_s + wait_s)
        if late_s == 0.0 and _is_straight(begins, leaves, wait_s):
            ddq = np.zeros_like(q)  # straight on, exactly: play collected again is the same to the bit
        else:
            q, dq, ddq = leaves
            q = q - dq * wait_s
        via_s = knots_s[(knots_s > SHORTEST_S) & (knots_s < late_s + wait_s)]
        return _Departure(late_s=late_s, wait_s=wait_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=ddq, via_s=via_s)

    def _reachable(
        self, departure: _Departure, action_A: npt.NDArray[np.float32], lead: tuple[Array, Array] | None
    ) -> Array:
        """Clip a velocity [7] to what speed, acceleration and the room left before the joint limits allow.

        Velocity goes from (dq0, ddq0) to (dq, 0) on a cubic: its acceleration is the sum of a part that falls from
        ddq0 to -ddq0 / 3, and of one that rises to 1.5 (dq - dq0) / ramp; it stays within ddq_max if the second does
        within ddq_max - |ddq0| / 3.
        """
        config, limits, period = self._config, self._limits, self.spec.period_s
        q0, dq0 = departure.q_rad, departure.dq_rad_s
        wanted_rad_s = action_A[: self.spec.joints].astype(np.float64) * self.spec.scale_rad_s
        if lead is not None:
            wanted_rad_s = _within_lead(wanted_rad_s, *lead)
        ramp_s = period - self._reaction_s
        dq_max = limits.dq_max_rad_s * config.velocity_fraction
        ddq_max = limits.ddq_max_rad_s2 * config.acceleration_fraction
        spent = np.abs(departure.ddq_rad_s2) / 3
        change = np.clip(wanted_rad_s, -dq_max, dq_max) - dq0
        dq = dq0 + change / max(1.0, float((np.abs(change) / ((ddq_max - spent) * ramp_s / 1.5)).max()))
        brake_s = braking_time_s(np.maximum(np.abs(dq), np.abs(dq0)), ddq_max)
        reach_s = ramp_s / 2 + config.grace_periods * period + brake_s / 2
        ahead = q0 + dq0 * (period - ramp_s / 2)
        low = (limits.q_min_rad + config.position_margin_rad - ahead) / reach_s
        high = (limits.q_max_rad - config.position_margin_rad - ahead) / reach_s
        hardest = (limits.ddq_max_rad_s2 - spent) * ramp_s / 1.5
        return np.clip(np.clip(dq, np.minimum(low, 0), np.maximum(high, 0)), dq0 - hardest, dq0 + hardest)

    def _trajectory(self, departure: _Departure, dq1: Array, due_s: float) -> JointTrajectory:
        period, dq0, ddq0, wait_s = self.spec.period_s, departure.dq_rad_s, departure.ddq_rad_s2, departure.wait_s
        grace_s = self._config.grace_periods * period
        brake_s = braking_time_s(dq1, self._limits.ddq_max_rad_s2 * self._config.acceleration_fraction)
        q_ramp = departure.q_rad + dq0 * wait_s
        q1 = q_ramp + (dq0 + dq1) / 2 * (period - wait_s) + ddq0 * (period - wait_s) ** 2 / 12
        q2 = q1 + dq1 * grace_s
        rest = np.zeros_like(dq1)
        times_s = np.array([wait_s, period, period + grace_s, period + grace_s + brake_s]) + departure.late_s
        q = np.stack([q_ramp, q1, q2, q2 + dq1 * brake_s / 2])
        dq = np.stack([dq0, dq1, dq1, rest])
        ddq = np.stack([ddq0, rest, rest, rest])
        first = 0 if times_s[0] > 0 else 1
        via = self._follower.sample(due_s + departure.via_s)
        return JointTrajectory(
            start_s=due_s,
            times_s=np.concatenate([departure.via_s, times_s[first:]]),
            q_rad=np.concatenate([via[0], q[first:]]),
            dq_rad_s=np.concatenate([via[1], dq[first:]]),
            ddq_rad_s2=np.concatenate([via[2], ddq[first:]]),
        )

    def _leaves_range(self, trajectory: JointTrajectory) -> bool:
        """Whether a point lies outside the joints' range, and further than where the path under way comes to rest."""
        rest_q_rad = self._follower.at(np.inf)[0]
        low, high = np.minimum(self._limits.q_min_rad, rest_q_rad), np.maximum(self._limits.q_max_rad, rest_q_rad)
        return bool(np.maximum(trajectory.q_rad - high, low - trajectory.q_rad).max() > TOUCH_RAD)

    def _onward(self, departure: _Departure, due_s: float) -> JointTrajectory | None:
        """The path under way, as it is; None where it is over at the departure."""
        knots_s = self._follower.knots_s
        if knots_s[-1] < due_s + departure.late_s + departure.wait_s:
            return None
        ahead_s = knots_s[knots_s > due_s + SHORTEST_S]
        q, dq, ddq = self._follower.sample(ahead_s)
        return JointTrajectory(start_s=due_s, times_s=ahead_s - due_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=ddq)

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


def _within_lead(wanted_rad_s: Array, lead_rad: Array, most_rad: Array) -> Array:
    """The wanted velocity [7], less where it leads a joint near the most that it may be led, and back from beyond."""
    left = (most_rad - np.sign(wanted_rad_s) * lead_rad) / (LEAD_FADES * most_rad)
    slowed = wanted_rad_s * np.clip(left, 0.0, 1.0)
    back = GIVE_HZ * np.maximum(np.abs(lead_rad) - most_rad, 0.0)
    giving = np.where(lead_rad > 0, np.minimum(slowed, -back), np.maximum(slowed, back))
    return np.where(back > 0, giving, slowed)


def _is_straight(since: tuple[Array, Array, Array], then: tuple[Array, Array, Array], after_s: float) -> bool:
    """Whether steady velocity leads from a state (q, dq, ddq, each [7]) to another `after_s` later.

    That the first is steady doesn't tell: a path that is held for a while and then brakes may begin to in between.
    """
    (q0, dq0, ddq0), (q1, dq1, ddq1) = since, then
    steady = max(np.abs(ddq0).max(), np.abs(ddq1).max()) < STEADY_RAD_S2
    on_course = np.abs(dq1 - dq0).max() < STRAIGHT_RAD_S and np.abs(q1 - q0 - dq0 * after_s).max() < STRAIGHT_RAD
    return bool(steady and on_course)


def _clear_of(knots_s: Array, leave_s: float) -> float:
    """The first time from `leave_s` on that is no knot's neighbour: not less than `SHORTEST_S` after one."""
    for knot_s in knots_s[knots_s > SHORTEST_S]:
        if leave_s - SHORTEST_S < knot_s < leave_s:
            leave_s = float(knot_s) + SHORTEST_S
    return leave_s
