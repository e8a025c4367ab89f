"""A recorded path led again, slower: the joint positions of an episode as a motion that a gate lets through.

    path = Retimed(limits, q_rad, period_s, start_s=now_s, speed=0.5)
    lead(path, backend, limits, wait)
Through each position on the grid, quintic in between, from rest to rest. Where the speed that is asked for would take
more than a share of the robot's limits, all of the path is slowed alike (`Retimed.slower`). Pure; rad, s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..contract.backend import Backend
from ..contract.errors import BackendError, SpecError
from ..contract.types import Array, GripperCommand, JointCommand, JointTrajectory
from ..domain.robot import RobotLimits
from .actuate import ActuatorConfig
from .trajectory import TrajectoryFollower
from .travel import EVERY_S, Path, piece

SHARE = 0.5
"""Of the robot's velocity, acceleration and jerk limits that a path led again may use."""
WITHIN = np.linspace(0.0, 1.0, 9)
"""Where a segment's derivatives are looked at."""


class Retimed:
    """A `travel.Path` along recorded positions.

    Args:
        q_rad: [T + 1, J], one each `period_s`.
        start_s: when it begins.
        speed: share of the speed at which it was recorded.

    Attributes:
        slower: how many times as long as the recording it takes, 1 / speed or more.
        bound_by: what makes it slower than asked for, in words; empty: nothing.

    Raises:
        SpecError: fewer than two positions, one outside the joints' range, a speed that is none.
    """

    def __init__(
        self, limits: RobotLimits, q_rad: Array, period_s: float, *, start_s: float = 0.0, speed: float = 1.0
    ) -> None:
        if not 0 < speed <= 1:
            raise SpecError(f"replay: speed is {speed:g}, must be in (0, 1]")
        if len(q_rad) < 2:
            raise SpecError(f"replay: {len(q_rad)} positions make no path, needs at least 2")
        _check_range(limits, q_rad)
        dq, ddq = np.zeros_like(q_rad), np.zeros_like(q_rad)
        dq[1:-1] = (q_rad[2:] - q_rad[:-2]) / (2 * period_s)
        ddq[1:-1] = (q_rad[2:] - 2 * q_rad[1:-1] + q_rad[:-2]) / period_s**2
        self._follower = TrajectoryFollower(q_rad[0], 0.0)
        times_s = period_s * np.arange(1.0, len(q_rad))
        points = JointTrajectory(start_s=0.0, times_s=times_s, q_rad=q_rad[1:], dq_rad_s=dq[1:], ddq_rad_s2=ddq[1:])
        self._follower.set(points, 0.0)
        needed, words = self._needed(limits, period_s)
        self.slower = max(1 / speed, needed)
        self.bound_by = words if needed > 1 / speed else ""
        self.start_s, self._period_s = start_s, period_s
        self.end_s = start_s + self.slower * float(times_s[-1])

    def begun_at(self, start_s: float) -> Retimed:
        """The same path at another time."""
        moved = object.__new__(Retimed)
        moved.__dict__.update(self.__dict__)
        moved.start_s, moved.end_s = start_s, start_s + self.end_s - self.start_s
        return moved

    def due_s(self, step: float) -> float:
        """When it passes the position of a control step."""
        return self.start_s + self.slower * self._period_s * step

    def sample(self, times_s: Array) -> tuple[Array, Array, Array]:
        q, dq, ddq = self._follower.sample(np.maximum(times_s - self.start_s, 0.0) / self.slower)
        return q, dq / self.slower, ddq / self.slower**2

    def _needed(self, limits: RobotLimits, period_s: float) -> tuple[float, str]:
        """How many times slower than recorded the path must be at least, and what asks for it."""
        segments = len(self._follower.coefficients)
        tau = WITHIN * period_s
        q, dq, ddq = self._follower.sample((period_s * np.arange(segments)[:, None] + tau).ravel())
        low, high = limits.velocity_bounds(q)
        room = np.maximum(np.where(dq < 0, -low, high), 0.02 * limits.dq_max_rad_s)
        powers = np.stack([np.full_like(tau, 6.0), 24 * tau, 60 * tau**2])
        jerk = np.einsum("kt,skj->stj", powers, self._follower.coefficients[:, 3:]).reshape(-1, q.shape[1])
        found = []
        for what, ratio, root in (
            ("velocity", np.abs(dq) / room, 1.0),
            ("acceleration", np.abs(ddq) / limits.ddq_max_rad_s2, 2.0),
            ("jerk", np.abs(jerk) / limits.dddq_max_rad_s3, 3.0),
        ):
            worst = np.unravel_index(int(ratio.argmax()), ratio.shape)
            found.append(((float(ratio[worst]) / SHARE) ** (1 / root), f"joint {int(worst[1]) + 1}'s {what}"))
        return max(found)


def _check_range(limits: RobotLimits, q_rad: Array) -> None:
    outside = np.argwhere((q_rad < limits.q_min_rad) | (q_rad > limits.q_max_rad))
    if len(outside):
        step, joint = map(int, outside[0])
        raise SpecError(
            f"replay: step {step} has joint {joint + 1} at {q_rad[step, joint]:.4f} rad, its range is "
            f"{limits.q_min_rad[joint]:g} to {limits.q_max_rad[joint]:g} rad; is it this robot's, and its rig the same?"
        )


def hand_goals(
    actions_TA: npt.NDArray[np.float32], joints: int, limits: RobotLimits, config: ActuatorConfig | None = None
) -> list[tuple[int, GripperCommand]]:
    """What the hand is told at which control step, as actuation reads the finger intents of actions [T, A]."""
    config = config or ActuatorConfig()
    if actions_TA.shape[1] <= joints or not limits.hand_width_max_m:
        return []
    goals: list[tuple[int, GripperCommand]] = []
    opened: bool | None = None
    for step, intent in enumerate(actions_TA[:, joints:].mean(axis=1)):
        wants = True if intent > config.open_above else False if intent < config.close_below else opened
        if wants is None or wants == opened:
            continue
        opened, speed_m_s = wants, limits.hand_speed_m_s
        if opened:
            goal = GripperCommand(kind="move", width_m=limits.hand_width_max_m, speed_m_s=speed_m_s)
        else:
            goal = GripperCommand(kind="grasp", width_m=0.0, speed_m_s=speed_m_s, force_n=limits.hand_force_n)
        goals.append((step, goal))
    return goals


def lead(
    path: Path,
    backend: Backend,
    limits: RobotLimits,
    wait: Callable[[float], None],
    goals: Sequence[tuple[float, GripperCommand]] = (),
    why_held: Callable[[], str] = lambda: "",
) -> None:
    """Lead an arm along a path to its end.

    Args:
        wait: lets so much time pass in the backend's clock.
        goals: of the hand, each with the time from which on it holds, in order.
        why_held: why a gate holds the arm; "" while it doesn't. The path would run away from an arm that is held.

    Raises:
        BackendError: the arm was stopped, or is held.
    """
    left = deque(goals)
    while (now_s := backend.now_s()) < path.end_s:
        goal = None
        while left and left[0][0] <= now_s:
            goal = left.popleft()[1]
        backend.write(JointCommand(trajectory=piece(path, now_s, limits), gripper=goal))
        wait(EVERY_S)
        if why := why_held():
            raise BackendError(f"the gate held the arm: {why}")
