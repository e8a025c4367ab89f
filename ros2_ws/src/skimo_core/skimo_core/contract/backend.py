"""What a control loop asks of an arm, real or simulated.

Implementations: twins in process (with physics, or kinematic), and the ROS 2 graph behind an adapter per driver stack.
All pass one contract suite (`tests/contracts`).
"""

from __future__ import annotations

from typing import Protocol

from .types import Array, GripperCommand, JointCommand, ObjectStates, RobotState


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


class SimulatedBackend(Backend, Protocol):
    """A backend whose time passes in `advance` alone: what evaluation, environments and the twin's node ask for."""

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None:
        """Return to the initial state; older commands are void, the clock reads `now_s`."""
        ...

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` pass; raises SimulationError if the simulation diverged."""
        ...

    def recover(self) -> None:
        """What an operator does after a stop: hold here and take commands again."""
        ...

    def command_hand(self, goal: GripperCommand) -> None:
        """Send the hand to a goal; raises BackendError if it can't have it."""
        ...

    def desired(self) -> tuple[Array, Array]:
        """The commanded joint position and velocity, each [joints], at this moment."""
        ...

    @property
    def path_at_rest(self) -> bool:
        """Whether the commanded motion has come to its end."""
        ...

    @property
    def hand_width_m(self) -> float:
        """Distance between the fingers."""
        ...

    @property
    def hand_busy(self) -> bool:
        """Whether the fingers are on their way, or still moving."""
        ...
