"""Joint trajectories as a joint_trajectory_controller follows them: quintic between points, at rest after the last.

`TrajectoryFollower` is the reference for what a backend does with a command: a new trajectory replaces the old one
and starts from the state *desired* at that moment (`interpolate_from_desired_state: true`), running to the first of
its points that still lies ahead. So a command that comes a few milliseconds late still meets its points in time, and
silence ends at rest. A trajectory ends without velocity and without acceleration: a controller that holds its last
position would make a step of what is left. Pure: time is an argument. Units rad, s.
"""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt

from ..contract.errors import SpecError
from ..contract.types import Array, JointTrajectory
from .braking import braking_trajectory

MIN_SEGMENT_S = 1e-4
"""Points nearer than this to 'now' count as passed."""
ARRIVAL_S = 0.003
"""A trajectory is with the driver within this time: a hop between two nodes takes 0.5 ms in the median and 1.3 ms at
the 99th percentile on an idle machine. Where it takes longer, that is measured (`rigged`)."""
SHORTEST_S = 0.002
"""Segments of trajectories that are made here last at least this long: over shorter ones the last bits of positions
and times turn into jerk."""


def check_trajectory(trajectory: JointTrajectory, joints: int) -> JointTrajectory:
    """Return the trajectory if its arrays fit together and so many joints, are finite, in order and end at rest.

    Raises:
        SpecError: naming what is wrong.
    """
    k = len(trajectory.times_s)
    if k == 0:
        raise SpecError("trajectory: no points; send at least one")
    for name in ("q_rad", "dq_rad_s", "ddq_rad_s2"):
        array = getattr(trajectory, name)
        if array.shape != (k, joints):
            raise SpecError(f"trajectory: {name} has shape {array.shape}, must be ({k}, {joints})")
        if not np.isfinite(array).all():
            raise SpecError(f"trajectory: {name} holds a non-finite number")
    times = trajectory.times_s
    if not np.isfinite(times).all() or times[0] <= 0 or (np.diff(times) <= 0).any():
        raise SpecError(f"trajectory: times {times} s must be finite, positive and increasing")
    for name, unit in (("dq_rad_s", "rad/s"), ("ddq_rad_s2", "rad/s2")):
        worst = np.abs(getattr(trajectory, name)[-1]).max(initial=0.0)
        if worst > 1e-6:
            raise SpecError(
                f"trajectory: ends with {worst:.3g} {unit}; its last point must be at rest, "
                "so that silence stops the arm"
            )
    return trajectory


_POWERS = np.arange(6)
_DERIVATIVE_FACTORS = np.array([[1.0] * 6, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 2.0, 6.0, 12.0, 20.0]])
_DERIVATIVE_POWERS = np.array([[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4], [0, 0, 0, 1, 2, 3]])
"""Of position, velocity and acceleration: what the powers of time in a quintic become."""


class TrajectoryFollower:
    """The desired joint state over time, given the trajectories commanded so far."""

    def __init__(self, q_rad: Array, now_s: float = 0.0) -> None:
        self.reset(q_rad, now_s)

    def reset(self, q_rad: Array, now_s: float) -> None:
        """Forget every command; be at rest at `q_rad` [7] from `now_s` on."""
        joints = len(q_rad)
        state = np.zeros((1, 3, joints))
        state[0, 0] = q_rad
        self._knots_s = np.array([now_s])
        self._states = state
        self._coefficients = np.zeros((0, 6, joints))

    def set(self, trajectory: JointTrajectory, now_s: float) -> None:
        """Replace the current trajectory at `now_s`; points already passed are dropped."""
        self._replace(trajectory, now_s)

    def hold(self, now_s: float, ddq_max_rad_s2: Array, dddq_max_rad_s3: Array) -> None:
        """Brake to rest from the state desired at `now_s`, within the given accelerations and jerks, each [7]."""
        if (stop := braking_trajectory(self.at(now_s), now_s, ddq_max_rad_s2, dddq_max_rad_s3)) is not None:
            self._replace(stop, now_s)

    def shifted(self, by_s: float) -> TrajectoryFollower:
        """The same motion on a clock that reads `by_s` more."""
        moved = copy.copy(self)
        moved._knots_s = self._knots_s + by_s
        return moved

    @property
    def knots_s(self) -> Array:
        """Times [K] of the current trajectory's start and points."""
        return self._knots_s

    @property
    def start_s(self) -> float:
        """Since when this is the motion."""
        return float(self._knots_s[0])

    @property
    def end_s(self) -> float:
        """When the arm is at rest if nothing more is commanded."""
        return float(self._knots_s[-1])

    @property
    def coefficients(self) -> Array:
        """[S, 6, 7] powers of the time since each segment's start, s; segment i lies between knots i and i + 1."""
        return self._coefficients

    def at(self, time_s: float) -> tuple[Array, Array, Array]:
        """Desired q, dq, ddq, each [7], at one time (not before the last `set`)."""
        if len(self._coefficients) == 0 or time_s >= self._knots_s[-1]:
            return tuple(self._states[-1].copy())
        segment = max(int(np.searchsorted(self._knots_s, time_s, side="right")) - 1, 0)
        tau = max(time_s - self._knots_s[segment], 0.0)
        powers = tau**_POWERS
        q, dq, ddq = (_DERIVATIVE_FACTORS * powers[_DERIVATIVE_POWERS]) @ self._coefficients[segment]
        return q, dq, ddq

    def sample(self, times_s: Array) -> tuple[Array, Array, Array]:
        """Return desired q, dq, ddq, each [K, 7], at `times_s` [K] (not before the last `set`)."""
        times = np.asarray(times_s, dtype=np.float64)
        if len(self._coefficients) == 0:
            still = np.zeros((len(times), self._states.shape[2]))
            return self.positions(times), still, still.copy()
        c, tau, over = self._pieces(times)
        powers = tau**_POWERS
        q = np.einsum("kp,kpj->kj", powers, c)
        dq = np.einsum("kp,kpj->kj", powers[:, :5] * np.arange(1, 6), c[:, 1:])
        ddq = np.einsum("kp,kpj->kj", powers[:, :4] * np.array([2.0, 6.0, 12.0, 20.0]), c[:, 2:])
        q[over], dq[over], ddq[over] = self._states[-1, 0], 0.0, 0.0
        return q, dq, ddq

    def positions(self, times_s: Array) -> Array:
        """Desired q [K, 7] at `times_s` [K] (not before the last `set`)."""
        if len(self._coefficients) == 0:
            return np.repeat(self._states[:1, 0], len(times_s), axis=0)
        c, tau, over = self._pieces(times_s)
        q = c[:, 5]
        for power in range(4, -1, -1):
            q = q * tau + c[:, power]
        q[over] = self._states[-1, 0]
        return q

    def _pieces(self, times_s: Array) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        """Of each of [K]: its segment's coefficients [K, 6, 7], the time since its start [K, 1], whether it is over."""
        at = np.clip(np.searchsorted(self._knots_s, times_s, side="right") - 1, 0, len(self._coefficients) - 1)
        tau = np.clip(times_s, self._knots_s[0], self._knots_s[-1]) - self._knots_s[at]
        return self._coefficients[at], tau[:, None], times_s >= self._knots_s[-1]

    def _replace(self, trajectory: JointTrajectory, now_s: float) -> None:
        start = np.stack(self.at(now_s))
        ahead = trajectory.start_s + trajectory.times_s > now_s + MIN_SEGMENT_S
        if not ahead.any():
            return
        points = np.stack([trajectory.q_rad, trajectory.dq_rad_s, trajectory.ddq_rad_s2], axis=1)[ahead]
        self._knots_s = np.concatenate([[now_s], trajectory.start_s + trajectory.times_s[ahead]])
        self._states = np.concatenate([start[None], points])
        self._coefficients = quintics(np.diff(self._knots_s), self._states)


def braking_time_s(dq_rad_s: Array, ddq_max_rad_s2: Array, least_s: float = 0.05) -> float:
    """The time in which every joint can come to rest on a quintic that starts and ends without acceleration.

    Such a ramp of velocity by dv in time T peaks at an acceleration of 1.5 dv / T.
    """
    return max(least_s, float((1.5 * np.abs(dq_rad_s) / ddq_max_rad_s2).max()))


def quintics(durations_s: Array, states: Array) -> Array:
    """Coefficients [K, 6, 7] of the quintics that join `states` [K+1, 3, 7] (q, dq, ddq) in `durations_s` [K]."""
    h = durations_s[:, None]
    (q0, v0, a0), (q1, v1, a1) = states[:-1].transpose(1, 0, 2), states[1:].transpose(1, 0, 2)
    dq, dv, da = q1 - q0 - v0 * h - a0 * h**2 / 2, v1 - v0 - a0 * h, a1 - a0
    c3 = (10 * dq - 4 * dv * h + da * h**2 / 2) / h**3
    c4 = (-15 * dq + 7 * dv * h - da * h**2) / h**4
    c5 = (6 * dq - 3 * dv * h + da * h**2 / 2) / h**5
    return np.stack([q0, v0, a0 / 2, c3, c4, c5], axis=1)
