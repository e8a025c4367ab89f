"""What a control loop asks of an arm, real or simulated.

Implementations: the MuJoCo twin in process, and the ROS 2 graph behind an adapter per driver stack. All pass one
contract suite (`tests/contracts`).
"""

from __future__ import annotations

from typing import Protocol

from .types import JointCommand, ObjectStates, RobotState


class Backend(Protocol):
    """An arm with a hand, and a tracker of the objects around it. Times are in the backend's clock, s."""

    def now_s(self) -> float:
        """The backend's clock."""
        ...

    def read(self) -> RobotState:
        """The newest robot state; raises MissingError while none has come."""
        ...

    def read_objects(self) -> ObjectStates:
        """The newest object states; raises MissingError while none have come."""
        ...

    def write(self, command: JointCommand) -> None:
        """Take a command; it replaces the one before. Raises BackendError when stopped."""
        ...

    def hold(self) -> None:
        """Brake to rest now and stay; a later write moves on."""
        ...

    def stop(self, reason: str) -> None:
        """Brake to rest and refuse every write until an operator resets the backend."""
        ...
