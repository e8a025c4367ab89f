"""The shortest way to rest that keeps acceleration and jerk within their limits, joint by joint.

Ruckig (Berscheid and Kroeger, "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States", RSS 2021)
finds for each joint the time-optimal way to rest. No other admissible way is ahead of it at any moment, so a joint that
could still stop before its limit does. Its pieces of constant jerk are as short as they come and differ from joint
to joint, so the way is handed on as points on a grid of `GRID_S`, quintic between them, which overshoot what Ruckig was
allowed: hence the fractions below (tests measure what is left of the limits).
Pure. Units rad, s.
"""

from __future__ import annotations

import math

import numpy as np
from ruckig import ControlInterface, InputParameter, Ruckig, Synchronization, Trajectory

from ..contract.errors import SpecError
from ..contract.types import Array, JointTrajectory

GRID_S = 0.008
ACCELERATION_SHARE = 0.95
"""Of the acceleration given; the quintics between the grid's points reach at most 1.02 of Ruckig's."""
JERK_SHARE = 0.25
"""Of the jerk given; the quintics reach at most 2 times Ruckig's. A gentler onset costs a stop some milliseconds."""
STILL_RAD_S = 1e-9


def braking_trajectory(
    state: tuple[Array, Array, Array], start_s: float, ddq_max_rad_s2: Array, dddq_max_rad_s3: Array
) -> JointTrajectory | None:
    """The way to rest from a state (q, dq, ddq, each [7]) at `start_s`; None if that is rest already.

    Raises:
        SpecError: the state is not finite.
    """
    q, dq, ddq = state
    if not all(np.isfinite(part).all() for part in state):
        raise SpecError(f"can't brake from a state that is not finite: q {q} rad, dq {dq} rad/s, ddq {ddq} rad/s2")
    if max(np.abs(dq).max(), np.abs(ddq).max() * GRID_S) < STILL_RAD_S:
        return None
    stop = _shortest_stop(state, ddq_max_rad_s2 * ACCELERATION_SHARE, dddq_max_rad_s3 * JERK_SHARE)
    times_s = GRID_S * np.arange(1, math.ceil(stop.duration / GRID_S) + 1)
    points = np.array([stop.at_time(time_s) for time_s in times_s])
    points[-1, 1:] = 0.0  # at rest to the last bit
    return JointTrajectory(
        start_s=start_s, times_s=times_s, q_rad=points[:, 0], dq_rad_s=points[:, 1], ddq_rad_s2=points[:, 2]
    )


def _shortest_stop(state: tuple[Array, Array, Array], ddq_max_rad_s2: Array, dddq_max_rad_s3: Array) -> Trajectory:
    joints = len(state[0])
    wanted = InputParameter(joints)
    wanted.control_interface = ControlInterface.Velocity
    wanted.synchronization = Synchronization.No
    wanted.current_position, wanted.current_velocity, wanted.current_acceleration = state
    wanted.target_velocity = wanted.target_acceleration = np.zeros(joints)
    wanted.max_acceleration, wanted.max_jerk = ddq_max_rad_s2, dddq_max_rad_s3
    found = Trajectory(joints)
    result = Ruckig(joints).calculate(wanted, found)
    assert result.value >= 0, f"ruckig: {result} for finite states and positive limits"
    return found
