"""Commands that try to get a motion past the gate which the limits forbid.

Each maker draws a command for the arm as it is told to be at `now_s`. What they aim at: excursions between points,
points nearer than any controller steps, numbers at the edge of what passes, stamps from the past and the future, ends
that are not at rest, starts at the joint limits. `sharpened` scales a command until it only just passes.
Seeded by the generator handed in; pure otherwise. Units rad, s.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np

from ..contract.types import Array, JointCommand, JointTrajectory, RobotState, Verdict
from ..domain.robot import RobotLimits
from .gate import Gate

State = tuple[Array, Array, Array]
Maker = Callable[[np.random.Generator, RobotLimits, State, float], JointTrajectory]
PERIOD_S = 0.08
BISECTIONS = 6


def wandering(rng: np.random.Generator, limits: RobotLimits, state: State, now_s: float) -> JointTrajectory:
    """What a policy's actuation sends: to a velocity in one period, a while at it, to rest."""
    q, dq, ddq = state
    wanted = dq + rng.uniform(-1, 1) * rng.uniform(-1, 1, limits.joints) * limits.ddq_max_rad_s2 * PERIOD_S
    lead_s, grace_s, brake_s = 0.2 * PERIOD_S, rng.uniform(0.02, 0.1), rng.uniform(0.05, 0.4)
    q0 = q + dq * lead_s + ddq * lead_s**2 / 2
    q1 = q0 + (dq + wanted) / 2 * (PERIOD_S - lead_s)
    points = [(q1, wanted), (q1 + wanted * grace_s, wanted), (q1 + wanted * (grace_s + brake_s / 2), 0 * dq)]
    times_s = np.cumsum([PERIOD_S, grace_s, brake_s])
    still = np.zeros((3, limits.joints))
    return _trajectory(now_s, times_s, np.stack([p[0] for p in points]), np.stack([p[1] for p in points]), still)


def scattered(rng: np.random.Generator, limits: RobotLimits, state: State, now_s: float) -> JointTrajectory:
    """Points anywhere, any distance apart in time, with any velocities and accelerations."""
    count = int(rng.integers(1, 9))
    shortest = rng.choice([-3.5, -2.7, -2.0, -1.5])
    times_s = np.cumsum(10 ** rng.uniform(shortest, -0.4, count)) + 10 ** rng.uniform(-3, -1)
    reach = 10 ** rng.uniform(-4, 0)
    q = state[0] + reach * rng.normal(size=(count, limits.joints)) * _some(rng, limits.joints)
    dq = 10 ** rng.uniform(-3, 0.5) * rng.normal(size=(count, limits.joints)) * rng.integers(0, 2)
    ddq = 10 ** rng.uniform(-2, 1.5) * rng.normal(size=(count, limits.joints)) * rng.integers(0, 2)
    return _trajectory(now_s, times_s, q, dq, ddq)


def hidden(rng: np.random.Generator, limits: RobotLimits, state: State, now_s: float) -> JointTrajectory:
    """Out and back between two looks: rest, an excursion of some milliseconds, rest."""
    start_s, short_s = rng.uniform(0.005, 0.1), 10 ** rng.uniform(-2.8, -1.3)
    times_s = np.array([start_s, start_s + short_s, start_s + 2 * short_s, start_s + rng.uniform(0.15, 0.8)])
    size = 10 ** rng.uniform(-5, 0.5)
    q = np.repeat(state[0][None], 4, axis=0)
    q[1] += size * rng.normal(size=limits.joints) * _some(rng, limits.joints)
    dq = np.zeros((4, limits.joints))
    if rng.random() < 0.5:  # hide it in the velocity of a point, or in its acceleration
        q[1] = q[0]
        dq[1] = size / short_s * rng.normal(size=limits.joints) * _some(rng, limits.joints)
    ddq = np.zeros((4, limits.joints))
    ddq[1:3] = rng.integers(0, 2) * rng.normal(size=(2, limits.joints)) * size / short_s**2
    return _trajectory(now_s, times_s, q, dq, ddq)


def to_the_edge(rng: np.random.Generator, limits: RobotLimits, state: State, now_s: float) -> JointTrajectory:
    """As fast as the limits may allow towards the ends of the joints' ranges, and around them."""
    goal = np.where(rng.random(limits.joints) < 0.5, limits.q_min_rad, limits.q_max_rad)
    share = rng.uniform(0, 1.1, limits.joints) * _some(rng, limits.joints)
    way = share * (goal - state[0])
    fastest_s = float((2.0 * np.abs(way) / limits.dq_max_rad_s).max())
    duration_s = max(0.02, fastest_s * rng.uniform(0.5, 1.5))
    still = np.zeros((1, limits.joints))
    return _trajectory(now_s, np.array([duration_s]), (state[0] + way)[None], still, still)


def mistimed(rng: np.random.Generator, limits: RobotLimits, state: State, now_s: float) -> JointTrajectory:
    """A decent command with a stamp from the past or the future."""
    decent = MAKERS[int(rng.integers(0, 4))](rng, limits, state, now_s)
    off_s = rng.choice([-0.05, -0.02, 0.01, 0.02, 0.19]) * rng.uniform(0.5, 1.1)
    return dataclasses.replace(decent, start_s=now_s + off_s)


MAKERS: tuple[Maker, ...] = (wandering, scattered, hidden, to_the_edge, mistimed)


def sharpened(gate: Gate, trajectory: JointTrajectory, robot: RobotState, now_s: float) -> tuple[JointTrajectory, int]:
    """The trajectory with what it adds to where the robot is scaled so that it only just passes, and the tries it took.

    Each try is judged by a copy of the gate.
    """
    low, high, best = 0.0, 4.0, None
    for _ in range(BISECTIONS):
        scale = (low + high) / 2
        tried = scaled(trajectory, robot.q_rad, scale)
        verdict = copy.deepcopy(gate).consider(JointCommand(trajectory=tried), robot, now_s).verdict
        if verdict is Verdict.PASS:
            low, best = scale, tried
        else:
            high = scale
    return best or trajectory, BISECTIONS


def scaled(trajectory: JointTrajectory, q_rad: Array, scale: float) -> JointTrajectory:
    """The trajectory with everything that it does from `q_rad` [7] on made larger."""
    return dataclasses.replace(
        trajectory,
        q_rad=q_rad + scale * (trajectory.q_rad - q_rad),
        dq_rad_s=scale * trajectory.dq_rad_s,
        ddq_rad_s2=scale * trajectory.ddq_rad_s2,
    )


def _some(rng: np.random.Generator, joints: int) -> Array:
    """[7] ones for one joint or for several."""
    if rng.random() < 0.4:
        return np.eye(joints)[rng.integers(0, joints)]
    return (rng.random(joints) < rng.choice([0.3, 1.0])).astype(np.float64)


def _trajectory(start_s: float, times_s: Array, q: Array, dq: Array, ddq: Array) -> JointTrajectory:
    """The points as a trajectory that ends at rest."""
    dq, ddq = dq.copy(), ddq.copy()
    dq[-1] = ddq[-1] = 0.0
    return JointTrajectory(start_s=start_s, times_s=times_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=ddq)
