"""A twin without a scene: an arm that is always exactly where it is told to be, and objects that stay where they are.

For a lab that has no model of its table: everything but contact can be tried, from the policy's command through the
gate to the recording. Any robot; nothing is pushed, nothing is grasped, no torque is felt.
Time passes in `advance` only. Units rad, m, s.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.types import Array, GripperCommand, ObjectStates, RobotMode, RobotState
from skimo_core.control.trajectory import TrajectoryFollower
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits
from skimo_core.domain.tasks import Task

from .hand import Hand
from .led import Led

START_STREAM = 5
"""Which of a seed's streams of chance draws the start."""


class KinematicTwin(Led):
    """Implements skimo_core.contract.backend.SimulatedBackend."""

    def __init__(self, domain: Domain, limits: RobotLimits) -> None:
        self.domain, self.limits, self.starts = domain, limits, domain.starts
        self._hand = Hand()
        self._follower = TrajectoryFollower(limits.home_q_rad)
        self.task: Task
        self.seed: int
        self.reset()

    # --- the backend ------------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Simulated time."""
        return self._now_s

    def read(self) -> RobotState:
        """The arm and the hand as they are told to be."""
        q, dq = self.desired()
        moving = self._now_s < self._follower.end_s
        mode = RobotMode.USER_STOPPED if self._stopped else RobotMode.MOVE if moving else RobotMode.IDLE
        still = np.zeros_like(q)
        return RobotState(
            stamp_s=self._now_s,
            q_rad=q,
            dq_rad_s=dq,
            tau_nm=still,
            finger_m=np.full(2, self.hand_width_m / 2),
            mode=mode,
            desired_q_rad=q,
            tau_ext_nm=still,
        )

    def read_objects(self) -> ObjectStates:
        """The objects where they stood at the start."""
        names = self.domain.observation.objects
        return ObjectStates(stamp_s=self._now_s, names=names, values=self._objects.copy())

    # --- what a simulation can do beyond ----------------------------------------------------------------------------

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None:
        """Return to a start; older commands are void.

        Where `starts` (the domain's) vary nothing that is the robot's home, the hand open, the objects where the domain
        says that they begin.
        """
        self.task, self.seed = self.domain.task(task), seed
        self._now_s, self._stopped = now_s, ""
        spec, limits = self.domain.observation, self.limits
        home = self.domain.start.astype(np.float64)
        home[: spec.joints] = limits.home_q_rad[: spec.joints]
        home[spec.joints : spec.joints + spec.fingers] = limits.hand_width_max_m / 2
        asked = self.task.open_at_start(spec.joints + spec.fingers)
        rng = np.random.default_rng(np.random.SeedSequence([seed, START_STREAM]))
        bounds = limits.q_min_rad[: spec.joints], limits.q_max_rad[: spec.joints]
        start = self.starts.draw(home, spec, bounds, self.domain.subtasks, asked, rng)
        q_rad = limits.home_q_rad.copy()
        q_rad[: spec.joints] = start[: spec.joints]
        fingers = start[spec.joints : spec.joints + spec.fingers]
        self._objects = start[spec.joints + spec.fingers :]
        self._follower.reset(q_rad, now_s)
        self._hand.reset(2.0 * float(fingers.mean()) if fingers.size else limits.hand_width_max_m, now_s)

    def start_at(self, observation_O: Array) -> None:
        """Be, at rest, where an observation [O] says; older commands are void."""
        spec, limits = self.domain.observation, self.limits
        q_rad = limits.home_q_rad.copy()
        q_rad[: spec.joints] = observation_O[: spec.joints]
        fingers = observation_O[spec.joints : spec.joints + spec.fingers]
        self._objects = np.array(observation_O[spec.joints + spec.fingers :], np.float64)
        self._follower.reset(q_rad, self._now_s)
        width_m = 2.0 * float(fingers.mean()) if fingers.size else limits.hand_width_max_m
        self._hand.reset(min(max(width_m, 0.0), limits.hand_width_max_m), self._now_s)

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` of simulated time pass."""
        self._now_s += dt_s

    def recover(self) -> None:
        """What an operator does after a stop: hold here and take commands again."""
        self._stopped = ""
        self._follower.reset(self.desired()[0], self._now_s)

    def command_hand(self, goal: GripperCommand) -> None:
        """Send the hand to a goal; nothing lies between the fingers."""
        self._refuse_if_stopped()
        self._hand.command(goal, self.hand_width_m, self._now_s)

    def desired(self) -> tuple[Array, Array]:
        """The commanded joint position and velocity, each [joints], at this moment."""
        q, dq, _ = self._follower.at(self._now_s)
        return q, dq

    @property
    def path_at_rest(self) -> bool:
        """Whether the commanded motion has come to its end."""
        return self._now_s >= self._follower.end_s

    @property
    def hand_width_m(self) -> float:
        """Distance between the fingers."""
        return float(self._hand.widths(np.array([self._now_s]))[0])

    @property
    def hand_busy(self) -> bool:
        """Whether the fingers are on their way."""
        return self._now_s < self._hand.end_s()


def kinematic_twin(domain: Domain, limits: RobotLimits) -> KinematicTwin:
    """Registered as `kinematic`."""
    return KinematicTwin(domain, limits)
