"""How many nodes send what only one may send, told apart by the messages themselves.

A middleware that numbers each publisher's messages gives itself away: the numbers of one publisher only rise, those of
two that send in turn go up and down. Where there are no numbers (ROS 2 Humble), stamps and positions must do: an arm's
stamps rise, and it moves no faster than it can. One oddity may be a driver that was started anew; two are two senders.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from skimo_core.contract.types import Array

FASTEST_RAD_S = 6.0
"""No joint of the arms known here is faster (FR3: 5.26 rad/s)."""
JITTER_RAD = 0.005
ODDITIES, WITHIN_S = 2, 3.0


class SenderWatch:
    """Looks at the sequence of one arm's joint states."""

    def __init__(self) -> None:
        self._odd_s: deque[float] = deque(maxlen=ODDITIES)
        self._number: int | None = None
        self._stamp_s = -np.inf
        self._q_rad: Array | None = None

    def clear(self) -> None:
        """Only one node publishes on the topic: whatever was odd is over."""
        self._odd_s.clear()
        self._number, self._stamp_s, self._q_rad = None, -np.inf, None

    def note(self, number: int | None, stamp_s: float, q_rad: Array, now_s: float) -> None:
        """Take one state with its publisher's number of it (None: the middleware does not number)."""
        if self._q_rad is not None and self._is_odd(number, stamp_s, q_rad):
            self._odd_s.append(now_s)
        self._number, self._stamp_s, self._q_rad = number, stamp_s, q_rad

    def several(self, now_s: float) -> bool:
        """Whether more than one node sends this arm's joint states."""
        return len(self._odd_s) == ODDITIES and 0 <= now_s - self._odd_s[0] <= WITHIN_S

    def _is_odd(self, number: int | None, stamp_s: float, q_rad: Array) -> bool:
        if number is not None and self._number is not None:
            return number <= self._number
        assert self._q_rad is not None
        reach_rad = FASTEST_RAD_S * abs(stamp_s - self._stamp_s) + JITTER_RAD
        return stamp_s < self._stamp_s or not float(np.abs(q_rad - self._q_rad).max()) <= reach_rad
