"""How ros2_controllers' joint_trajectory_controller follows its topic, at its own rate, as its sources have it.

"humble" is release 2.54 with open_loop_control, "jazzy" 4.42 with interpolate_from_desired_state; both on a position
interface, with splines, and with trajectories that bring positions, velocities and accelerations (quintics). Names in
comments are those of joint_trajectory_controller.cpp and trajectory.cpp. Own words, for tests; times s, units rad.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.types import Array, JointTrajectory
from skimo_core.control.trajectory import quintics

PERIOD_S = 0.001
AT_REST = float(np.finfo(np.float32).eps)


class JointTrajectoryController:
    """One controller from its activation at `q_rad` [7]."""

    def __init__(self, distribution: str, q_rad: Array) -> None:
        self._jazzy = {"humble": False, "jazzy": True}[distribution]
        self._last = np.stack([q_rad, np.zeros_like(q_rad), np.zeros_like(q_rad)])  # last_commanded_state_
        self._last_s = 0.0  # last_commanded_time_
        self._new: JointTrajectory | None = None
        self._knots_s: Array | None = None
        self._states = self._last[None]
        self._coefficients = np.zeros((0, 6, len(q_rad)))

    def receive(self, trajectory: JointTrajectory, now_s: float) -> str:
        """Take a message; return why it is refused, or "" (validate_trajectory_msg)."""
        end_s = trajectory.start_s + trajectory.times_s[-1]
        if trajectory.start_s != 0.0 and end_s < now_s:
            return f"ends in the past, {now_s - end_s:.3f} s ago"
        if np.abs(trajectory.dq_rad_s[-1]).max() > AT_REST:
            return "velocity of the last point is not zero"
        if (np.diff(trajectory.times_s) <= 0).any():
            return "time between points is not strictly increasing"
        self._new = trajectory
        return ""

    def update(self, time_s: float) -> Array:
        """One control period; returns the commanded positions [7]."""
        if self._new is not None:
            new, self._new = self._new, None
            start_s = new.start_s or time_s  # stamp 0: from the first sample on
            # set_point_before_trajectory_msg: Humble at `time`, Jazzy at the time of the last update
            before_s = self._last_s if self._jazzy else time_s
            self._knots_s = np.concatenate([[before_s], start_s + new.times_s])
            states = np.stack([new.q_rad, new.dq_rad_s, new.ddq_rad_s2], axis=1)
            self._states = np.concatenate([self._last[None], states])
            # the point before is looked at only while the first of the message lies ahead (sample)
            first = 0 if time_s < self._knots_s[1] else 1
            self._knots_s, self._states = self._knots_s[first:], self._states[first:]
            self._coefficients = quintics(np.diff(self._knots_s), self._states)
        if self._knots_s is None:
            return self._last[0]
        self._last = self._sample(time_s + PERIOD_S if self._jazzy else time_s)  # Jazzy: command_next_
        self._last_s = time_s
        return self._last[0]

    def _sample(self, time_s: float) -> Array:
        knots_s = self._knots_s
        assert knots_s is not None
        at = int(np.searchsorted(knots_s, time_s, side="right")) - 1
        if at >= len(knots_s) - 1:
            return self._states[-1]
        powers = (time_s - knots_s[at]) ** np.arange(6)
        c = self._coefficients[at]
        first = (powers[:5] * np.arange(1, 6)) @ c[1:]
        second = (powers[:4] * np.array([2.0, 6.0, 12.0, 20.0])) @ c[2:]
        return np.stack([powers @ c, first, second])
