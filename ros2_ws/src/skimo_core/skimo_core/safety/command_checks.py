"""Whether a command may be followed at all: its form, its time, where it begins, and the hand's goal.

One pure function per check (see `checks`). Units rad, s, m, N.
"""

from __future__ import annotations

import numpy as np

from ..contract.errors import SpecError
from ..contract.types import Verdict
from ..control.trajectory import check_trajectory
from ..domain.robot import RobotLimits
from .situation import Check, Finding, GateConfig, Situation


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
        times_s = check_trajectory(s.trajectory, limits.joints).times_s
    except SpecError as error:
        return Finding(check="command_form", verdict=Verdict.HOLD, reason=str(error))
    if len(times_s) > config.points_max:
        reason = f"the trajectory has {len(times_s)} points, at most {config.points_max}"
    elif (shortest_s := float(np.diff(times_s).min(initial=np.inf))) < config.segment_min_s * (1 - 1e-6):
        reason = f"two points lie {shortest_s * 1e3:.3f} ms apart, at least {config.segment_min_s * 1e3:.3f} ms"
    elif times_s[-1] > config.duration_max_s:
        reason = f"the trajectory ends after {times_s[-1]:.2f} s, bound {config.duration_max_s:.2f} s"
    else:
        return None
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


def points_are_within_reach(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    """No point lies further from the desired position than full speed covers by then."""
    if s.motion is None or s.trajectory is None:
        return None
    dt_s = s.trajectory.start_s + s.trajectory.times_s - s.now_s
    ahead = dt_s > 0
    gap = np.abs(s.trajectory.q_rad[ahead] - s.desired_q_rad) - limits.dq_max_rad_s * dt_s[ahead, None]
    k, joint = np.unravel_index(int(gap.argmax()), gap.shape)
    if gap[k, joint] <= config.start_gap_rad:
        return None
    reason = (
        f"joint {joint + 1} would have to be {gap[k, joint]:.3f} rad further from the desired position than full speed "
        f"covers, bound {config.start_gap_rad:.3f} rad; the sender has lost track of the arm"
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


FORM_CHECKS: tuple[Check, ...] = (command_is_finite, command_is_well_formed)
"""Only where these hold is there a motion to look at."""

COMMAND_CHECKS: tuple[Check, ...] = (
    *FORM_CHECKS,
    command_is_in_time,
    command_is_in_sequence,
    points_are_within_reach,
    gripper_goal_is_possible,
)
