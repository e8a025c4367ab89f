"""What simulated backends do alike: refuse commands once stopped; lead an arm's reference along trajectories."""

from __future__ import annotations

from abc import ABC, abstractmethod

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import GripperCommand, JointCommand
from skimo_core.control.trajectory import TrajectoryFollower, check_trajectory
from skimo_core.domain.robot import RobotLimits


class Stoppable(ABC):
    """Refuses commands from a stop on."""

    NAME = "the twin"
    _stopped: str

    @abstractmethod
    def hold(self) -> None:
        """Come to rest now; a later write moves on."""

    def stop(self, reason: str) -> None:
        """Come to rest and refuse every write until `recover` or `reset`."""
        self.hold()
        self._stopped = reason

    @property
    def stop_reason(self) -> str:
        """Why commands are refused; empty if they are not."""
        return self._stopped

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise BackendError(f"{self.NAME} is stopped ({self._stopped}); an operator must reset it")


class Led(Stoppable):
    """An arm, and its hand, whose reference follows the last trajectory that was written."""

    limits: RobotLimits
    _follower: TrajectoryFollower

    @abstractmethod
    def now_s(self) -> float:
        """The clock that commands are stamped with."""

    @abstractmethod
    def command_hand(self, goal: GripperCommand) -> None:
        """Send the hand to a goal; raises BackendError if it can't have it."""

    def write(self, command: JointCommand) -> None:
        """Take a command; it replaces the one before.

        Raises:
            BackendError: stopped, or the hand can't have its goal.
            SpecError: the trajectory is malformed.
        """
        self._refuse_if_stopped()
        trajectory = check_trajectory(command.trajectory, self.limits.joints)
        if command.gripper is not None:
            self.command_hand(command.gripper)
        self._follower.set(trajectory, self.now_s())

    def hold(self) -> None:
        """Lead the reference to rest; a later write moves on."""
        self._follower.hold(self.now_s(), self.limits.ddq_max_rad_s2, self.limits.dddq_max_rad_s3)
