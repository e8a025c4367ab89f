"""A long way as commands that a gate lets through: pieces of a path, each of which ends at rest if no other follows.

    path = Travel(limits, here_rad, there_rad, start_s=now_s, share=0.2)
    while now_s < path.end_s: backend.write(JointCommand(trajectory=piece(path, now_s, limits))); wait(EVERY_S)
A gate takes no trajectory that isn't at rest within seconds, so that silence ends soon at rest. Pure; rad, s.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..contract.errors import SpecError
from ..contract.types import Array, JointTrajectory
from ..domain.robot import RobotLimits
from .braking import braking_trajectory

EVERY_S = 0.2
"""How often a piece is sent."""
AHEAD_S = 0.6
"""How far along the path a piece reaches: two of them may be lost on the way."""
STEP_S = 0.05
"""Between a piece's points; between them the arm follows a quintic."""
BRAKE_SHARE = 0.9
"""Of the acceleration limits, as actuation brakes."""
SPEED, ACCELERATION, JERK = 1.875, 5.7735, 60.0
"""The greatest speed, acceleration and jerk of the minimum-jerk polynomial over 1 rad in 1 s (Flash and Hogan 1985)."""


class Path(Protocol):
    """A motion in time that begins and ends at rest.

    Attributes:
        start_s, end_s: when it does.
    """

    start_s: float
    end_s: float

    def sample(self, times_s: Array) -> tuple[Array, Array, Array]:
        """Position, velocity and acceleration, each [K, joints], at times [K]; at rest outside."""
        ...


class Travel:
    """Straight from one joint position to another, with minimum jerk.

    Args:
        from_rad, to_rad: [joints].
        start_s: when it begins.
        share: of the robot's velocity, acceleration and jerk limits.

    Raises:
        SpecError: a position outside the joints' range, or a share that is none.
    """

    def __init__(self, limits: RobotLimits, from_rad: Array, to_rad: Array, *, start_s: float, share: float) -> None:
        if not 0 < share <= 1:
            raise SpecError(f"travel: share is {share:g}, must be in (0, 1]")
        outside = np.flatnonzero((to_rad < limits.q_min_rad) | (to_rad > limits.q_max_rad))
        if outside.size:
            joint = int(outside[0])
            low, high = limits.q_min_rad[joint], limits.q_max_rad[joint]
            raise SpecError(
                f"travel: joint {joint + 1} is to go to {to_rad[joint]:g} rad, its range is {low:g} to {high:g}"
            )
        self._from_rad, self._way_rad = from_rad, to_rad - from_rad
        far = np.abs(self._way_rad)
        least_s = (
            SPEED * far / (share * limits.dq_max_rad_s),
            np.sqrt(ACCELERATION * far / (share * limits.ddq_max_rad_s2)),
            np.cbrt(JERK * far / (share * limits.dddq_max_rad_s3)),
        )
        self._takes_s = max(float(np.max(least_s)), STEP_S)
        self.start_s, self.end_s = start_s, start_s + self._takes_s

    def sample(self, times_s: Array) -> tuple[Array, Array, Array]:
        s = np.clip((times_s - self.start_s) / self._takes_s, 0.0, 1.0)[:, None]
        way, takes_s = self._way_rad, self._takes_s
        q_rad = self._from_rad + way * s**3 * (10 - 15 * s + 6 * s**2)
        dq_rad_s = way / takes_s * 30 * s**2 * (1 - s) ** 2
        ddq_rad_s2 = way / takes_s**2 * 60 * s * (1 - s) * (1 - 2 * s)
        return q_rad, dq_rad_s, ddq_rad_s2


def piece(path: Path, now_s: float, limits: RobotLimits) -> JointTrajectory:
    """The path from `now_s` on for `AHEAD_S`, and a brake after it; all of the rest of a path that ends sooner."""
    until_s = min(now_s + AHEAD_S, path.end_s)
    times_s = np.append(np.arange(now_s + STEP_S, until_s - STEP_S / 2, STEP_S), max(until_s, now_s + STEP_S))
    q_rad, dq_rad_s, ddq_rad_s2 = path.sample(times_s)
    last = (q_rad[-1], dq_rad_s[-1], ddq_rad_s2[-1])
    brake = braking_trajectory(last, times_s[-1], limits.ddq_max_rad_s2 * BRAKE_SHARE, limits.dddq_max_rad_s3)
    if brake is not None:
        times_s = np.append(times_s, brake.start_s + brake.times_s)
        q_rad = np.concatenate([q_rad, brake.q_rad])
        dq_rad_s = np.concatenate([dq_rad_s, brake.dq_rad_s])
        ddq_rad_s2 = np.concatenate([ddq_rad_s2, brake.ddq_rad_s2])
    return JointTrajectory(
        start_s=now_s, times_s=times_s - now_s, q_rad=q_rad, dq_rad_s=dq_rad_s, ddq_rad_s2=ddq_rad_s2
    )
