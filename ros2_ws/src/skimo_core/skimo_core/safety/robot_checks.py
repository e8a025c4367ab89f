"""Whether the robot, and what is known of it, is fit to move: looked at all the time, command or no command.

One pure function per check (see `checks`). Units rad, rad/s, Nm, s.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contract.types import Array, RobotMode, Verdict
from ..domain.cell import FREE
from ..domain.robot import RobotLimits
from .situation import Check, Finding, GateConfig, Situation

FIT_MODES = (RobotMode.IDLE, RobotMode.MOVE)
WAITING_MODES = (RobotMode.GUIDING, RobotMode.AUTOMATIC_ERROR_RECOVERY, RobotMode.UNKNOWN)

SIDE_RAD = 0.005
"""A joint this far from where it was told to be is pushed to that side; nearer, it may be noise or lag."""
AGAINST_RAD = 0.001


def robot_state_is_fresh(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.robot is None:
        return Finding(check="state_missing", verdict=Verdict.STOP, reason="no robot state came; is the driver up?")
    age_s = s.now_s - s.robot.stamp_s
    if -config.skew_max_s <= age_s <= config.state_age_max_s:
        return None
    if age_s < 0:
        reason = (
            f"the robot's clock is {-1e3 * age_s:.0f} ms ahead of this machine's, bound {1e3 * config.skew_max_s:.0f} "
            "ms; synchronise the clocks (chrony, PTP)"
        )
        lost = -age_s > config.state_lost_s
        return Finding(check="state_ahead", verdict=Verdict.STOP if lost else Verdict.HOLD, reason=reason)
    lost = s.now_s - max(s.robot.stamp_s, s.awake_s) > config.state_lost_s
    bound_ms = 1e3 * (config.state_lost_s if lost else config.state_age_max_s)
    reason = f"robot state is {age_s * 1e3:.0f} ms old, bound {bound_ms:.0f} ms; is the driver alive, are clocks equal?"
    return Finding(check="state_stale", verdict=Verdict.STOP if lost else Verdict.HOLD, reason=reason)


def robot_state_is_finite(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.robot is None:
        return None
    told = {
        "q": s.robot.q_rad,
        "dq": s.robot.dq_rad_s,
        "desired q": s.robot.desired_q_rad,
        "external torque": s.robot.tau_ext_nm,
    }
    for name, values in told.items():
        if values is not None and not np.isfinite(values).all():
            reason = f"robot state is not finite: {name} {values}; check the driver"
            return Finding(check="state_finite", verdict=Verdict.STOP, reason=reason)
    return None


def robot_state_is_plausible(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    """A measurement that no arm of this kind can give: another arm's, degrees for radians, a broken encoder."""
    if s.robot is None:
        return None
    q, dq = s.robot.q_rad, np.abs(s.robot.dq_rad_s)
    outside = np.maximum(q - limits.q_max_rad, limits.q_min_rad - q) - config.position_slack_rad
    joint = int(np.argmax(outside))
    if outside[joint] > 0:
        reason = (
            f"joint {joint + 1} is measured at {q[joint]:.3f} rad, its range is {limits.q_min_rad[joint]:.3f} to "
            f"{limits.q_max_rad[joint]:.3f} rad; is this a {limits.name}, are units rad?"
        )
        return Finding(check="state_plausible", verdict=Verdict.STOP, reason=reason)
    share = dq / (limits.dq_max_rad_s * config.velocity_slack)
    joint = int(np.argmax(share))
    if share[joint] <= 1:
        return None
    reason = (
        f"joint {joint + 1} is measured at {dq[joint]:.3f} rad/s, its limit is {limits.dq_max_rad_s[joint]:.3f} rad/s; "
        "something moves the arm, or the driver's velocities are wrong"
    )
    return Finding(check="state_plausible", verdict=Verdict.STOP, reason=reason)


def robot_mode_is_fit(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.robot is None:
        return None
    mode, told_s = s.robot.mode, s.robot.mode_stamp_s
    if told_s is not None and s.now_s - max(told_s, s.awake_s) > config.state_lost_s:
        reason = (
            f"the robot's mode was told {s.now_s - told_s:.2f} s ago, bound {config.state_lost_s:.2f} s; "
            "is its state broadcaster alive?"
        )
        return Finding(check="robot_mode_silent", verdict=Verdict.STOP, reason=reason)
    if mode in FIT_MODES:
        return None
    remedy = "is its state broadcaster up?" if mode is RobotMode.UNKNOWN else "recover the robot, then reset the gate"
    verdict = Verdict.HOLD if mode in WAITING_MODES else Verdict.STOP
    return Finding(check="robot_mode", verdict=verdict, reason=f"robot mode is {mode.name}; {remedy}")


def arm_follows(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    """The arm is where it was told to be at the time of its state."""
    if s.robot is None or s.expected_q_rad is None:
        return None
    gap = np.abs(s.robot.q_rad - s.expected_q_rad)
    contact = config.contact or FREE
    hold, stop = (np.broadcast_to(b, gap.shape) for b in (contact.tracking_hold_rad, contact.tracking_stop_rad))
    pushed = np.flatnonzero(gap > hold)
    if pushed.size and not (gap > stop).any() and _gives_way(s, pushed):
        return None
    if s.rested_s > config.arrival_s:
        stop = hold
    return _beyond("tracking", gap, hold, stop, "lies", "does the driver take commands, is something in the way?")


def controller_obeys(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    """The controller's own reference is what it was told: nobody else commands it."""
    if s.robot is None or s.robot.desired_q_rad is None or s.expected_reference_q_rad is None:
        return None
    gap = np.abs(s.robot.desired_q_rad - s.expected_reference_q_rad)
    hold, stop = np.full_like(gap, config.reference_hold_rad), np.full_like(gap, config.reference_stop_rad)
    return _beyond("reference", gap, hold, stop, "is led", "does somebody else command the driver?")


def external_torque_is_within(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.robot is None or s.robot.tau_ext_nm is None:
        return None
    reflex, contact = limits.reflex_tau_nm, config.contact or FREE
    share = np.abs(s.robot.tau_ext_nm) / reflex
    joint = int(np.argmax(share))
    if share[joint] <= contact.torque_hold_share:
        return None
    stop = share[joint] > contact.torque_stop_share
    if not stop and _gives_way(s, np.flatnonzero(share > contact.torque_hold_share)):
        return None
    bound_nm = reflex[joint] * (contact.torque_stop_share if stop else contact.torque_hold_share)
    reason = (
        f"joint {joint + 1} feels {abs(s.robot.tau_ext_nm[joint]):.1f} Nm from outside, bound {bound_nm:.1f} Nm; "
        "free the arm"
    )
    return Finding(check="external_torque", verdict=Verdict.STOP if stop else Verdict.HOLD, reason=reason)


def _gives_way(s: Situation, pushed: npt.NDArray[np.intp]) -> bool:
    """Whether the command only relieves the `pushed` joints (their numbers): an arm held in a press gets out so.

    A pressed joint lies off where it was told to be, on the side that it is pushed to: the told position has to go to
    that side and nowhere else. Where it hardly lies off, the side is not known.
    """
    if s.robot is None or s.motion is None or s.trajectory is None:
        return False
    off_rad = (s.robot.q_rad - s.desired_q_rad)[pushed]
    side, start_rad = np.sign(off_rad), s.motion.start_q_rad[pushed]
    lowest, highest = s.motion.q.low.min(axis=0)[pushed], s.motion.q.high.max(axis=0)[pushed]
    against_rad = np.where(side > 0, start_rad - lowest, highest - start_rad)
    relief_rad = side * (s.trajectory.q_rad[-1][pushed] - start_rad)
    return bool((np.abs(off_rad) > SIDE_RAD).all() and (against_rad < AGAINST_RAD).all() and (relief_rad > 0.0).all())


def _beyond(check: str, gap: Array, hold: Array, stop: Array, verb: str, remedy: str) -> Finding | None:
    """HOLD or STOP for the joint whose gap [7] is furthest beyond its bound."""
    if (gap <= hold).all():
        return None
    verdict, bound = (Verdict.STOP, stop) if (gap > stop).any() else (Verdict.HOLD, hold)
    joint = int(np.argmax(gap / bound))
    reason = (
        f"joint {joint + 1} {verb} {gap[joint]:.3f} rad from where it was told to be, bound {bound[joint]:.3f} rad; "
        f"{remedy}"
    )
    return Finding(check=check, verdict=verdict, reason=reason)


ROBOT_CHECKS: tuple[Check, ...] = (
    robot_state_is_fresh,
    robot_state_is_finite,
    robot_state_is_plausible,
    robot_mode_is_fit,
    arm_follows,
    controller_obeys,
    external_torque_is_within,
)
"""What must hold at any time, command or no command."""
