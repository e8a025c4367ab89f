"""What the gate looks at: one pure function per check, and the table of them.

A check takes the `Situation` (the command, the robot, the clock, the motion that the command would make) and returns a
`Finding` or None. It changes nothing and knows of no other check; the gate takes the most restrictive verdict.
  STOP   the robot or what is known of it is not fit to move: lost, missing, non-finite, an error mode
  HOLD   this command is not fit to be followed; the one before it still ends at rest
  LIMIT  this command asks a little too much; as much of it as the limits allow may pass
Units rad, s, m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import SpecError
from ..trajectory import TrajectoryFollower, check_trajectory
from ..types import Array, GripperCommand, JointTrajectory, RobotMode, RobotState, Verdict
from .kinematics import POINTS, arm_points
from .limits import RobotLimits

FIT_MODES = (RobotMode.IDLE, RobotMode.MOVE)
WAITING_MODES = (RobotMode.GUIDING, RobotMode.AUTOMATIC_ERROR_RECOVERY)
STAMP_TOLERANCE_S = 0.02
"""Stamps this far ahead of the clock are jitter, not nonsense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """How strict the gate is. The limits themselves are the robot's.

    Attributes:
        state_age_max_s: with an older robot state no command is followed.
        state_lost_s: with one older than this the arm is stopped.
        command_age_max_s, command_ahead_max_s: a command whose start lies further back or ahead is refused.
        duration_max_s: a trajectory must be at rest by then.
        start_gap_rad: how far a trajectory may lie from the desired position, beyond what full speed covers.
        tolerance: of a limit, below which an excess is not noticed (0.02: two per cent).
        excess_max: of a limit, above which a command is refused rather than limited.
        workspace_low_m, workspace_high_m: box in the base frame; None: the robot's own.
        sample_s: spacing at which the motion is looked at.
    """

    state_age_max_s: float = 0.1
    state_lost_s: float = 0.5
    command_age_max_s: float = 0.06
    command_ahead_max_s: float = 0.2
    duration_max_s: float = 2.0
    start_gap_rad: float = 0.05
    tolerance: float = 0.02
    excess_max: float = 0.5
    workspace_low_m: tuple[float, float, float] | None = None
    workspace_high_m: tuple[float, float, float] | None = None
    sample_s: float = 0.008

    def __post_init__(self) -> None:
        for name in (
            "state_age_max_s",
            "state_lost_s",
            "command_age_max_s",
            "duration_max_s",
            "sample_s",
            "start_gap_rad",
        ):
            if not getattr(self, name) > 0:
                raise SpecError(f"gate: {name} is {getattr(self, name)}, must be positive")
        if not 0 <= self.tolerance <= self.excess_max:
            raise SpecError(f"gate: tolerance {self.tolerance} must be in [0, excess_max {self.excess_max}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """The desired motion that a command leads to, sampled from now to rest.

    Attributes:
        times_s: [K].
        q_rad, dq_rad_s, ddq_rad_s2: each [K, 7].
        points_m: [K, 4, 3] the arm's `POINTS` in the base frame.
    """

    times_s: Array
    q_rad: Array
    dq_rad_s: Array
    ddq_rad_s2: Array
    points_m: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that a check may look at.

    Attributes:
        now_s: the gate's clock.
        robot: newest robot state; None if none ever came.
        desired_q_rad: [7] the position desired now.
        last_start_s: start of the last trajectory let through.
        trajectory: the one proposed; None when only the robot is looked at.
        gripper: the hand goal proposed, if any.
        motion: where the trajectory leads; None if there is none, or it is malformed.
    """

    now_s: float
    robot: RobotState | None
    desired_q_rad: Array
    last_start_s: float = -np.inf
    trajectory: JointTrajectory | None = None
    gripper: GripperCommand | None = None
    motion: Motion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's objection."""

    check: str
    verdict: Verdict
    reason: str


Check = Callable[[Situation, RobotLimits, GateConfig], "Finding | None"]


def sample_motion(follower: TrajectoryFollower, now_s: float, limits: RobotLimits, config: GateConfig) -> Motion:
    """The motion of `follower` from `now_s` to rest, at the config's spacing and at every point."""
    end_s = min(follower.end_s, now_s + config.duration_max_s)
    grid = np.arange(now_s, max(end_s, now_s) + config.sample_s, config.sample_s)
    times = np.union1d(grid, follower.knots_s[follower.knots_s > now_s])
    q, dq, ddq = follower.sample(times)
    return Motion(times_s=times, q_rad=q, dq_rad_s=dq, ddq_rad_s2=ddq, points_m=arm_points(limits, q))


# --- the robot -----------------------------------------------------------------------------------------------------


def robot_state_is_fresh(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.robot is None:
        return Finding(check="state_missing", verdict=Verdict.STOP, reason="no robot state came; is the driver up?")
    age_s = s.now_s - s.robot.stamp_s
    if -STAMP_TOLERANCE_S <= age_s <= config.state_age_max_s:
        return None
    lost = age_s > config.state_lost_s or age_s < 0
    bound_ms = 1e3 * (config.state_lost_s if lost else config.state_age_max_s)
    reason = f"robot state is {age_s * 1e3:.0f} ms old, bound {bound_ms:.0f} ms; is the driver alive, are clocks equal?"
    return Finding(check="state_stale", verdict=Verdict.STOP if lost else Verdict.HOLD, reason=reason)


def robot_state_is_finite(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.robot is None or (np.isfinite(s.robot.q_rad).all() and np.isfinite(s.robot.dq_rad_s).all()):
        return None
    reason = f"robot state is not finite: q {s.robot.q_rad} rad, dq {s.robot.dq_rad_s} rad/s; check the driver"
    return Finding(check="state_finite", verdict=Verdict.STOP, reason=reason)


def robot_mode_is_fit(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.robot is None or s.robot.mode in FIT_MODES:
        return None
    verdict = Verdict.HOLD if s.robot.mode in WAITING_MODES else Verdict.STOP
    reason = f"robot mode is {s.robot.mode.name}; recover the robot, then reset the gate"
    return Finding(check="robot_mode", verdict=verdict, reason=reason)


# --- the command ---------------------------------------------------------------------------------------------------


def command_is_finite(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    t = s.trajectory
    arrays = () if t is None else (t.times_s, t.q_rad, t.dq_rad_s, t.ddq_rad_s2, np.array(t.start_s))
    if all(np.isfinite(a).all() for a in arrays):
        return None
    reason = "the trajectory holds a non-finite number; its sender is broken"
    return Finding(check="command_finite", verdict=Verdict.STOP, reason=reason)


def command_is_well_formed(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.trajectory is None:
        return None
    try:
        check_trajectory(s.trajectory)
    except SpecError as error:
        return Finding(check="command_form", verdict=Verdict.HOLD, reason=str(error))
    if s.trajectory.times_s[-1] <= config.duration_max_s:
        return None
    reason = f"the trajectory ends after {s.trajectory.times_s[-1]:.2f} s, bound {config.duration_max_s:.2f} s"
    return Finding(check="command_form", verdict=Verdict.HOLD, reason=reason)


def command_is_in_time(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.trajectory is None:
        return None
    age_s, low_s, high_s = s.now_s - s.trajectory.start_s, -config.command_ahead_max_s, config.command_age_max_s
    if low_s <= age_s <= high_s:
        return None
    reason = f"the command is {age_s * 1e3:.0f} ms old, bounds {low_s * 1e3:.0f} and {high_s * 1e3:.0f} ms"
    return Finding(check="command_stale", verdict=Verdict.HOLD, reason=reason)


def command_is_in_sequence(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.trajectory is None or s.trajectory.start_s > s.last_start_s:
        return None
    reason = f"the command starts {(s.last_start_s - s.trajectory.start_s) * 1e3:.0f} ms before one already followed"
    return Finding(check="command_order", verdict=Verdict.HOLD, reason=reason)


def start_is_continuous(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None or s.trajectory is None:
        return None
    ahead = s.trajectory.start_s + s.trajectory.times_s > s.now_s
    if not ahead.any():
        return Finding(check="start_gap", verdict=Verdict.HOLD, reason="every point of the trajectory lies in the past")
    first = int(np.argmax(ahead))
    dt_s = s.trajectory.start_s + s.trajectory.times_s[first] - s.now_s
    gap = np.abs(s.trajectory.q_rad[first] - s.desired_q_rad) - limits.dq_max_rad_s * dt_s
    joint = int(gap.argmax())
    if gap[joint] <= config.start_gap_rad:
        return None
    reason = (
        f"joint {joint + 1} starts {gap[joint]:.3f} rad further from the desired position than full speed covers, "
        f"bound {config.start_gap_rad:.3f} rad; the sender has lost track of the arm"
    )
    return Finding(check="start_gap", verdict=Verdict.HOLD, reason=reason)


def gripper_goal_is_possible(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    g = s.gripper
    if g is None:
        return None
    numbers = (("width_m", g.width_m, limits.hand_width_max_m), ("speed_m_s", g.speed_m_s, limits.hand_speed_m_s))
    for name, value, bound in (*numbers, ("force_n", g.force_n, limits.hand_force_n)):
        if not 0 <= value <= bound * (1 + config.tolerance):
            reason = f"hand goal {g.kind}: {name} is {value:g}, bounds 0 to {bound:g}"
            return Finding(check="gripper", verdict=Verdict.HOLD, reason=reason)
    return None


# --- the motion ----------------------------------------------------------------------------------------------------


def positions_are_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None:
        return None
    excess = np.maximum(s.motion.q_rad - limits.q_max_rad, limits.q_min_rad - s.motion.q_rad)
    excess = excess - np.maximum(excess[:1], 0.0)  # an arm already outside may come back
    return _excess("joint_position", excess, limits.q_max_rad - limits.q_min_rad, s.motion.q_rad, "rad", config)


def velocities_are_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None:
        return None
    excess = np.abs(s.motion.dq_rad_s) - limits.dq_max_rad_s
    return _excess("joint_velocity", excess, limits.dq_max_rad_s, s.motion.dq_rad_s, "rad/s", config)


def accelerations_are_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None:
        return None
    excess = np.abs(s.motion.ddq_rad_s2) - limits.ddq_max_rad_s2
    return _excess("joint_acceleration", excess, limits.ddq_max_rad_s2, s.motion.ddq_rad_s2, "rad/s2", config)


def workspace_is_kept(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    """Points of the arm stay inside the box; one already outside may move, but not further out."""
    if s.motion is None:
        return None
    low = np.array(config.workspace_low_m or limits.workspace_low_m)
    high = np.array(config.workspace_high_m or limits.workspace_high_m)
    points = s.motion.points_m
    outside = np.maximum(points - high, low - points)
    outside = outside - np.maximum(outside[:1], 0.0)
    k, point, axis = np.unravel_index(int(outside.argmax()), outside.shape)
    if outside[k, point, axis] <= 1e-6:
        return None
    reason = (
        f"{POINTS[point]} would reach {'xyz'[axis]} = {points[k, point, axis]:.3f} m, "
        f"bounds {low[axis]:.3f} to {high[axis]:.3f} m in the base frame"
    )
    return Finding(check="workspace", verdict=Verdict.HOLD, reason=reason)


def tool_speed_is_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None or len(s.motion.times_s) < 2:
        return None
    dt = np.maximum(np.diff(s.motion.times_s), 1e-4)
    tool = s.motion.points_m[:, -1]
    speed = float((np.linalg.norm(np.diff(tool, axis=0), axis=1) / dt).max())
    if speed <= limits.cartesian_velocity_max_m_s * (1 + config.tolerance):
        return None
    reason = f"the tool would move at {speed:.2f} m/s, bound {limits.cartesian_velocity_max_m_s:.2f} m/s"
    return Finding(check="tool_speed", verdict=Verdict.HOLD, reason=reason)


def _excess(
    check: str, excess_KJ: Array, scale_J: Array, values_KJ: Array, unit: str, config: GateConfig
) -> Finding | None:
    """LIMIT or HOLD for the joint that is furthest beyond its limit, relative to `scale_J`."""
    relative = excess_KJ / scale_J
    k, joint = np.unravel_index(int(relative.argmax()), relative.shape)
    if relative[k, joint] <= (1e-6 if check == "joint_position" else config.tolerance):
        return None
    verdict = Verdict.LIMIT if relative[k, joint] <= config.excess_max else Verdict.HOLD
    value, excess = values_KJ[k, joint], excess_KJ[k, joint]
    reason = f"joint {joint + 1} would reach {value:.3f} {unit}, {excess:.3f} {unit} too much"
    return Finding(check=check, verdict=verdict, reason=reason)


ROBOT_CHECKS: tuple[Check, ...] = (robot_state_is_fresh, robot_state_is_finite, robot_mode_is_fit)
"""What must hold at any time, command or no command."""

COMMAND_CHECKS: tuple[Check, ...] = (
    command_is_finite,
    command_is_well_formed,
    command_is_in_time,
    command_is_in_sequence,
    start_is_continuous,
    gripper_goal_is_possible,
    positions_are_within,
    velocities_are_within,
    accelerations_are_within,
    workspace_is_kept,
    tool_speed_is_within,
)
"""What must hold of a command."""

CHECKS: tuple[Check, ...] = ROBOT_CHECKS + COMMAND_CHECKS


def assess(
    situation: Situation, limits: RobotLimits, config: GateConfig, checks: tuple[Check, ...] = CHECKS
) -> tuple[Verdict, tuple[Finding, ...]]:
    """The most restrictive verdict and every finding, the gravest first; the order of `checks` does not matter."""
    findings = [f for check in checks if (f := check(situation, limits, config)) is not None]
    findings.sort(key=lambda f: (-f.verdict, f.check, f.reason))
    return max((f.verdict for f in findings), default=Verdict.PASS), tuple(findings)
