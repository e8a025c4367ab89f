"""Whether the motion that a command leads to keeps the limits, at every instant until it is at rest.

Joint position, velocity, acceleration and jerk are bounded part by part (`bounds`), not sampled. What depends on where
the arm's points are is looked at along the motion, so densely that no point strays further than `Motion.stray_m`
between two looks, and judged with that much less room.
One pure function per check (see `checks`). Units rad, rad/s, rad/s2, rad/s3, m, m/s.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..contract.types import Array, Verdict
from ..domain.kinematics import POINTS
from ..domain.robot import RobotLimits
from .bounds import Extent
from .collision import Room
from .situation import Check, Finding, GateConfig, Looks, Situation

TOUCH = 1e-6
PLAINLY_SLOWER = 0.6
"""Of the bound: a mean speed at a glance, above which the speed is looked at closely."""


def positions_are_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    """An arm that is outside already may come back, and go no further."""
    if s.motion is None:
        return None
    start = s.motion.start_q_rad
    low, high = np.minimum(limits.q_min_rad, start), np.maximum(limits.q_max_rad, start)
    scale = limits.q_max_rad - limits.q_min_rad
    return _excess("joint_position", s.motion.q, low, high, scale, "rad", config, TOUCH)


def velocities_are_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None:
        return None
    low, _ = limits.velocity_bounds(s.motion.q.low)
    _, high = limits.velocity_bounds(s.motion.q.high)  # limits fall towards the ends of a joint's range
    return _excess("joint_velocity", s.motion.dq, low, high, limits.dq_max_rad_s, "rad/s", config)


def accelerations_are_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None:
        return None
    bound = limits.ddq_max_rad_s2
    return _excess("joint_acceleration", s.motion.ddq, -bound, bound, bound, "rad/s2", config)


def jerks_are_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None:
        return None
    bound = limits.dddq_max_rad_s3
    return _excess("joint_jerk", s.motion.dddq, -bound, bound, bound, "rad/s3", config)


def workspace_is_kept(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    """Points of the arm stay inside the box; one that is outside already may move, but not further out."""
    if s.motion is None or _out_of_workspace(s.motion.glance, limits, config) is None:
        return None
    return _out_of_workspace(s.motion.closely(), limits, config)


def _out_of_workspace(looks: Looks, limits: RobotLimits, config: GateConfig) -> Finding | None:
    low = np.array(config.workspace_low_m or limits.workspace_low_m)
    high = np.array(config.workspace_high_m or limits.workspace_high_m)
    points = looks.points_m
    outside = np.maximum(points - high, low - points) + looks.stray_m
    outside = outside - np.maximum(outside[:1], 0.0)
    k, point, axis = np.unravel_index(int(outside.argmax()), outside.shape)
    if outside[k, point, axis] <= TOUCH:
        return None
    reason = (
        f"{POINTS[point]} would reach {'xyz'[axis]} = {points[k, point, axis]:.3f} m, "
        f"bounds {low[axis]:.3f} to {high[axis]:.3f} m in the base frame"
    )
    return Finding(check="workspace", verdict=Verdict.HOLD, reason=reason)


def tool_speed_is_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    """Mean speeds between looks; with joint accelerations bounded they are within some per cent of the peak."""
    bound = limits.cartesian_velocity_max_m_s
    if s.motion is None or _tool_speed(s.motion.glance) <= PLAINLY_SLOWER * bound:
        return None
    speed = _tool_speed(s.motion.closely())
    if speed <= bound:
        return None
    reason = f"the tool would move at {speed:.2f} m/s, bound {bound:.2f} m/s"
    return Finding(check="tool_speed", verdict=Verdict.HOLD, reason=reason)


def _tool_speed(looks: Looks) -> float:
    """The largest mean speed of the tool between two looks, m/s."""
    tool = looks.points_m[:, -1]
    return float((np.linalg.norm(np.diff(tool, axis=0), axis=1) / np.diff(looks.times_s)).max())


def arm_keeps_clear_of_itself(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None or s.motion.room is None or s.motion.collision is None:
        return None
    room = s.motion.room
    return _too_near("self_collision", room.self_m, room.self_between_m, room, s.motion.collision.describe_self, config)


def arm_keeps_clear_of_obstacles(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.motion is None or s.motion.room is None or s.motion.collision is None:
        return None
    room = s.motion.room
    describe = s.motion.collision.describe_obstacle
    return _too_near("obstacle", room.obstacle_m, room.obstacle_between_m, room, describe, config)


def _too_near(
    check: str, room_m: Array, between_m: Array, room: Room, describe: Callable[[Room, int], str], config: GateConfig
) -> Finding | None:
    """HOLD where there is too little room; an arm that is too near already may leave, and come no nearer."""
    least_m = min(room_m.min(), between_m.min(initial=0.0))
    enough = room_m.min() >= room_m[0] - config.retreat_m if room_m[0] < 0 else least_m >= 0
    if enough:
        return None
    return Finding(check=check, verdict=Verdict.HOLD, reason=describe(room, int(room_m.argmin())))


def _excess(
    check: str,
    extent: Extent,
    low: Array,
    high: Array,
    scale: Array,
    unit: str,
    config: GateConfig,
    tolerance: float | None = None,
) -> Finding | None:
    """LIMIT or HOLD for the joint that goes furthest beyond its bounds, [7] or [P, 7], relative to `scale` [7]."""
    over_PJ = np.maximum(extent.high - high, low - extent.low)
    relative = over_PJ / scale
    part, joint = np.unravel_index(int(relative.argmax()), relative.shape)
    worst = relative[part, joint]
    if worst <= (config.tolerance if tolerance is None else tolerance):
        return None
    verdict = Verdict.LIMIT if worst <= config.excess_max else Verdict.HOLD
    above = bool((extent.high - high)[part, joint] >= (low - extent.low)[part, joint])
    value = extent.high[part, joint] if above else extent.low[part, joint]
    reason = f"joint {joint + 1} would reach {value:.3f} {unit}, {over_PJ[part, joint]:.3f} {unit} too much"
    return Finding(check=check, verdict=verdict, reason=reason)


MOTION_CHECKS: tuple[Check, ...] = (
    positions_are_within,
    velocities_are_within,
    accelerations_are_within,
    jerks_are_within,
    workspace_is_kept,
    tool_speed_is_within,
    arm_keeps_clear_of_itself,
    arm_keeps_clear_of_obstacles,
)
