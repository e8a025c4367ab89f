"""What is known of the hand: its goal, how that went, and the bounds on trying again; plain data, no ROS.

A goal is asked for, sent to the driver's action, and ends in exactly one of the states that `HandState.ended` names.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import GripperCommand


class HandState(enum.IntEnum):
    """Where the newest goal stands; numbers as in skimo_msgs/HandStatus."""

    NONE = 0
    SENT = 1
    RUNNING = 2
    WAITING = 3
    SUCCEEDED = 4
    FAILED = 5
    REFUSED = 6
    HUNG = 7
    LOST = 8
    SUPERSEDED = 9
    DROPPED = 10

    @property
    def ended(self) -> bool:
        """Nothing more will come of the goal."""
        return self >= HandState.SUCCEEDED

    @property
    def bad(self) -> bool:
        """The goal ended, and the hand is not where it was to be, though nobody wanted it otherwise."""
        return self.ended and self not in (HandState.SUCCEEDED, HandState.SUPERSEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandReport:
    """The newest goal and how it went.

    Attributes:
        state: where it stands.
        goal_id: counts goals since the node started; 0: none yet.
        goal: what was asked.
        asked_s: when, node clock.
        attempts: how often it was sent, or would have been had a driver been there and the gate let it.
        reason: why it is not SUCCEEDED, in the driver's words where there are any.
    """

    state: HandState = HandState.NONE
    goal_id: int = 0
    goal: GripperCommand | None = None
    asked_s: float = 0.0
    attempts: int = 0
    reason: str = ""

    @property
    def words(self) -> str:
        """The report as a line for a person."""
        if self.goal is None:
            return "nothing asked yet"
        again = f" at attempt {self.attempts}" if self.attempts > 1 else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.goal.kind} to {self.goal.width_m:.3g} m {self.state.name}{again}{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandConfig:
    """How long the hand's driver may take, and how often a goal is tried.

    Attributes:
        attempts: in all; a goal that is refused, held by the gate or lost is tried again, one that failed is not.
        pause_s: between two attempts.
        accept_s: longest wait for the driver's answer to a goal.
        margin_s: longest wait for the result, beyond the time that the fingers need for their whole way.
        cancel_s: longest wait for an older goal's end before the newer one is sent.
    """

    attempts: int = 6
    pause_s: float = 0.5
    accept_s: float = 1.0
    margin_s: float = 3.0
    cancel_s: float = 0.5

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise SpecError(f"hand: attempts is {self.attempts}, must be at least 1")
        for name in ("pause_s", "accept_s", "margin_s", "cancel_s"):
            if not 0 < getattr(self, name) < 60:
                raise SpecError(f"hand: {name} is {getattr(self, name)}, must be between 0 and 60 s")

    def result_s(self, goal: GripperCommand, width_max_m: float) -> float:
        """The longest that a goal may run: the fingers' whole way at its speed, and the margin."""
        travel_s = width_max_m / goal.speed_m_s if goal.speed_m_s > 0 else 0.0
        return min(travel_s, 60.0) + self.margin_s
