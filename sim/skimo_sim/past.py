"""Rows of numbers over time, as a sensor that is late tells them: those of some time ago, linearly between two notes.

For one reader; what nobody will ask for any more is dropped. Units s, and the rows' own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import replace

import numpy as np

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.types import Array, RobotState

NUMBERS = ("q_rad", "dq_rad_s", "tau_nm", "finger_m", "desired_q_rad", "tau_ext_nm")
"""What a robot state holds that is measured."""


class Past:
    """What was noted.

    Args:
        late_s: for how long before the newest note it is remembered.
    """

    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._times_s: deque[float] = deque()
        self._rows: deque[Array] = deque()

    def clear(self) -> None:
        """Forget everything."""
        self._times_s.clear()
        self._rows.clear()

    def note(self, now_s: float, row: Array) -> None:
        """Keep the row [K] of this moment; a second one of the same moment takes the first one's place."""
        if self._times_s and self._times_s[-1] == now_s:
            self._rows[-1] = row
            return
        self._times_s.append(now_s)
        self._rows.append(row)
        while len(self._times_s) > 1 and self._times_s[1] <= now_s - self._late_s:
            self._times_s.popleft()
            self._rows.popleft()

    def at(self, time_s: float) -> Array:
        """The row [K] of then; before the first note that one, after the last that."""
        after = bisect_right(self._times_s, time_s)
        if after == 0:
            return self._rows[0].copy()
        if after == len(self._times_s):
            return self._rows[-1].copy()
        since_s, until_s = self._times_s[after - 1], self._times_s[after]
        before, behind = self._rows[after - 1], self._rows[after]
        return (behind - before) / (until_s - since_s) * (time_s - since_s) + before


class PastStates:
    """What an arm told of itself and of its reference, as late as it is told; its mode is told at once.

    Args:
        late_s: how late.
    """

    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._states, self._desired = Past(late_s), Past(late_s)

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._desired.clear()

    def note(self, twin: SimulatedBackend) -> None:
        """Keep what it tells now."""
        state = twin.read()
        self._states.note(state.stamp_s, np.concatenate(list(_numbers(state).values())))
        self._desired.note(state.stamp_s, np.concatenate(twin.desired()))

    def late(self, state: RobotState) -> RobotState:
        """A state of now as it is told."""
        now = _numbers(state)
        ends = np.cumsum([len(values) for values in now.values()])
        then = np.split(self._states.at(state.stamp_s - self._late_s), ends[:-1])
        return replace(state, **dict(zip(now, then)))

    def desired(self, now_s: float) -> tuple[Array, Array]:
        """The reference's position and velocity, each [joints], as they are told now."""
        q, dq = np.split(self._desired.at(now_s - self._late_s), 2)
        return q, dq


def _numbers(state: RobotState) -> dict[str, Array]:
    """By field."""
    return {name: values for name in NUMBERS if (values := getattr(state, name)) is not None}
