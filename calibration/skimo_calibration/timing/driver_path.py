"""Where a driver wants its arm, given what it was sent and how late it took that up.

A trajectory says when the arm is to be where, so one that comes late leads along the same path, but for what lay before
it came. How a driver gets onto it differs (`JOINS`):
    splice     from where the arm is told to be then, to the first point ahead (skimo_core.control.trajectory: twins)
    message    at once onto the trajectory's own path, where its first point has passed (ros2_controllers'
               joint_trajectory_controller, Trajectory::sample, Humble 2.54 and Jazzy 4.42); else as above
Units s, rad.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from skimo_core.contract.types import Array
from skimo_core.control.trajectory import TrajectoryFollower

from .timing import Sent

JOINS = ("splice", "message")


class DriverPath:
    """The desired motion over time.

    Args:
        sent: trajectories, oldest first.
        late_s: how long after it was sent each takes effect.
        joins: how (see the module).
        rest_rad: [J] where the arm rests before the first.
    """

    def __init__(self, sent: Sequence[Sent], late_s: float, joins: str, rest_rad: Array) -> None:
        begins_s = np.array([entry.sent_s for entry in sent]) + late_s
        self._begins_s = np.maximum.accumulate(begins_s)
        follower = TrajectoryFollower(rest_rad, float(self._begins_s[0]))
        self._followers = [follower]
        for entry, begin_s in zip(sent, self._begins_s.tolist(), strict=True):
            trajectory = entry.trajectory
            follower = copy.copy(follower)
            if joins == "message" and trajectory.start_s + trajectory.times_s[0] <= begin_s:
                follower.reset(trajectory.q_rad[0], trajectory.start_s)
                follower.set(trajectory, trajectory.start_s)
            else:
                follower.set(trajectory, begin_s)
            self._followers.append(follower)

    def sample(self, times_s: Array) -> tuple[Array, Array]:
        """Positions and velocities, each [K, J], at increasing times [K]."""
        which = np.searchsorted(self._begins_s, times_s, side="right")
        edges = np.flatnonzero(np.diff(which)) + 1
        parts = np.split(times_s, edges)
        found = [self._of(int(which[k]), part) for k, part in zip([0, *edges.tolist()], parts, strict=True)]
        return np.concatenate([q for q, _ in found]), np.concatenate([dq for _, dq in found])

    def _of(self, which: int, times_s: Array) -> tuple[Array, Array]:
        follower = self._followers[which]
        q, dq, _ = follower.sample(np.maximum(times_s, follower.start_s))
        return q, dq
