"""What the driver has been told, and what a proposed trajectory makes of it.

`splice` is what goes out: it begins on the path under way, in the past, and stays on it for `TRANSIT_S`, so that a
driver that gets it within `ARRIVAL_S` moves as the gate foresaw; then come the proposed points that still lie ahead.
Where commands take longer, it stays on it longer (`GateConfig.leave_after_s`).
  - A point in the past, because joint_trajectory_controller starts a message whose first point lies ahead from its last
    command, and takes that for one period earlier or later than it was: a step of position at every command. Where
    the first point has passed, it looks at the message's points alone (ros2_controllers, joint_trajectory_controller
    update and Trajectory::sample, Humble 2.54 and Jazzy 4.42).
  - No stamp ahead of the clock: it would replace the path under way at once, and wait (ros2_controllers #2607).
`ToldPath` remembers what was told for as long as robot states may be old.
Pure: time is an argument. Units rad, s.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass

import numpy as np

from ..contract.types import Array, JointTrajectory
from ..control.trajectory import ARRIVAL_S, SHORTEST_S, TrajectoryFollower

TRANSIT_S = 2 * ARRIVAL_S
"""Longer than that: a driver that bends its path to the first point ahead does so in what is left when the message
arrives, and in less than 3 ms the last bits of where it is turn into jerk."""
LEAD_S = 0.001
"""A message's start lies at least so far before its first point: times are to be positive."""
MEMORY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A trajectory that may go out, and the motion from now to rest that it leads to."""

    trajectory: JointTrajectory
    follower: TrajectoryFollower

    @classmethod
    def make(cls, current: TrajectoryFollower, trajectory: JointTrajectory, now_s: float) -> Proposal:
        """What a driver does that follows `current` and gets `trajectory` at `now_s`."""
        follower = copy.copy(current)
        follower.set(trajectory, now_s)
        return cls(trajectory=trajectory, follower=follower)


class ToldPath:
    """The motion that the driver was told, over time."""

    def __init__(self, q_rad: Array, now_s: float) -> None:
        self.now = TrajectoryFollower(q_rad, now_s)
        self._before: deque[TrajectoryFollower] = deque()

    def take(self, follower: TrajectoryFollower) -> None:
        """From its start on, `follower` is what the driver was told."""
        self._before.append(self.now)
        self.now = follower
        while len(self._before) > 1 and self._before[1].start_s < follower.start_s - MEMORY_S:
            self._before.popleft()

    def expected(self, stamp_s: float) -> Array | None:
        """[7] the position told for a time not after now; None for one before memory reaches."""
        for follower in (self.now, *reversed(self._before)):
            if follower.start_s <= stamp_s:
                return follower.at(stamp_s)[0]
        return None

    def at_rest(self, now_s: float) -> bool:
        return now_s >= self.now.end_s


def splice(
    current: TrajectoryFollower, trajectory: JointTrajectory, now_s: float, leave_after_s: float = TRANSIT_S
) -> Proposal | None:
    """What goes out for a trajectory proposed at `now_s`; None if none of its points lies far enough ahead."""
    leave_s = now_s + leave_after_s
    start_s = min(trajectory.start_s, now_s - LEAD_S)
    points_s = trajectory.start_s + trajectory.times_s
    ahead = points_s >= leave_s + SHORTEST_S
    if not ahead.any():
        return None
    knots_s = current.knots_s
    between_s = knots_s[(knots_s > now_s + SHORTEST_S) & (knots_s < leave_s - SHORTEST_S)]
    kept_s = np.concatenate([[now_s], between_s, [leave_s]])
    kept = current.sample(kept_s)
    proposed = trajectory.q_rad[ahead], trajectory.dq_rad_s[ahead], trajectory.ddq_rad_s2[ahead]
    q, dq, ddq = (np.concatenate(pair) for pair in zip(kept, proposed))
    times_s = np.concatenate([kept_s, points_s[ahead]]) - start_s
    spliced = JointTrajectory(start_s=start_s, times_s=times_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=ddq)
    return Proposal.make(current, spliced, now_s)


def blend(current: TrajectoryFollower, proposed: TrajectoryFollower, now_s: float) -> tuple[Array, Array, Array]:
    """Both motions on common knots: durations [S], states of `current` and of `proposed` [S + 1, 3, 7].

    Knots are moved to a grid of `SHORTEST_S`, counted from `now_s`.
    """
    knots_s = np.concatenate([current.knots_s, proposed.knots_s])
    steps = np.unique(np.ceil((knots_s[knots_s > now_s] - now_s) / SHORTEST_S))
    times_s = np.append(0.0, steps * SHORTEST_S)
    ours, theirs = (np.stack(follower.sample(now_s + times_s), axis=1) for follower in (current, proposed))
    return np.diff(times_s), ours, theirs
