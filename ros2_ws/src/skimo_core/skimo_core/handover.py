"""Puts the path under way in front of a trajectory, so that a real controller takes it over without a step.

joint_trajectory_controller starts a new trajectory from its last command when the first point lies ahead, and gets the
time of that command wrong by one of its periods (a): Humble's repeats the position once, Jazzy's goes two periods'
way in one. At 1 kHz and 1 rad/s that is an acceleration of 1000 rad/s2 for a millisecond, 100 times the arm's limit,
at every command. When the first point has passed, it looks at the points alone (b). So what goes to a driver begins in
the past, on the path that the driver follows anyway, and stays on it until the driver surely has it: whichever moment
it changes over, both paths agree there.
  (a) ros2_controllers, joint_trajectory_controller.cpp, update: Humble 2.54 sets the point before at `time` to the
      command of one period before; Jazzy 4.42 sets it at `last_commanded_time_` to the one for a period after that.
  (b) trajectory.cpp, sample: only before `first_point_timestamp` is the point before the message looked at.
Pure: time is an argument. Units rad, s.
"""

from __future__ import annotations

import numpy as np

from .trajectory import MIN_SEGMENT_S, TrajectoryFollower
from .types import JointTrajectory

LEAD_S = 1e-3
"""The trajectory's start lies so far before its first point: times are to be positive."""


def with_path_under_way(
    trajectory: JointTrajectory, follower: TrajectoryFollower, since_s: float, leave_s: float
) -> JointTrajectory:
    """Return the trajectory with the path under way in front: its states at `since_s`, at `leave_s` and at its knots.

    Args:
        trajectory: what is to be followed.
        follower: the path under way, as it was before `trajectory` replaces it.
        since_s: at or before the moment of sending, and not before the path under way begins.
        leave_s: when the driver has it at the latest; the path under way is left then, and points before are dropped.

    A follower that takes the result at any moment from `since_s` to `leave_s` makes the path that it would have made
    of `trajectory` at `leave_s`: that is the motion to judge. A trajectory that ends before `leave_s` comes back as it
    is.
    """
    ahead = trajectory.start_s + trajectory.times_s > leave_s + MIN_SEGMENT_S
    if not ahead.any():
        return trajectory
    knots_s = follower.knots_s
    between = knots_s[(knots_s > since_s + MIN_SEGMENT_S) & (knots_s < leave_s - MIN_SEGMENT_S)]
    at_s = np.concatenate([[since_s], between, [leave_s]])
    q, dq, ddq = follower.sample(at_s)
    start_s = since_s - LEAD_S
    return JointTrajectory(
        start_s=start_s,
        times_s=np.concatenate([at_s, trajectory.start_s + trajectory.times_s[ahead]]) - start_s,
        q_rad=np.concatenate([q, trajectory.q_rad[ahead]]),
        dq_rad_s=np.concatenate([dq, trajectory.dq_rad_s[ahead]]),
        ddq_rad_s2=np.concatenate([ddq, trajectory.ddq_rad_s2[ahead]]),
    )
