"""The Franka hand as position ramps with a force limit: what `move` and `grasp` do, sampled by the twin.

`move` drives both fingers to a width and pushes with up to the hand's full force; `grasp` closes towards a width and
presses with the given force on whatever lies between. A new goal replaces the old one and starts from where the
fingers are. Pure: time is an argument. Widths are the distance between the fingers: twice a finger's position.
Units m, m/s, N, s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import Array, GripperCommand

WIDTH_MAX_M = 0.08
SPEED_MAX_M_S = 0.2
FORCE_MAX_N = 70.0
"""Franka hand's data sheet: 80 mm of travel, 70 N continuous; twice 50 mm/s is its recommended speed."""


@dataclass(slots=True, kw_only=True)
class Hand:
    """The desired width over time."""

    from_m: float = WIDTH_MAX_M
    to_m: float = WIDTH_MAX_M
    since_s: float = 0.0
    speed_m_s: float = SPEED_MAX_M_S
    force_n: float = FORCE_MAX_N

    def reset(self, width_m: float, now_s: float) -> None:
        """Rest at a width."""
        self.from_m = self.to_m = width_m
        self.since_s, self.speed_m_s, self.force_n = now_s, SPEED_MAX_M_S, FORCE_MAX_N

    def command(self, goal: GripperCommand, width_m: float, now_s: float) -> None:
        """Take a goal while the fingers stand `width_m` apart.

        Raises:
            BackendError: a goal that the hand can't have.
        """
        if goal.kind not in ("move", "grasp"):
            raise BackendError(f"the hand knows 'move' and 'grasp', not {goal.kind!r}")
        if not 0.0 <= goal.width_m <= WIDTH_MAX_M:
            raise BackendError(f"hand width {goal.width_m} m is outside 0 .. {WIDTH_MAX_M} m")
        if not 0.0 < goal.speed_m_s <= SPEED_MAX_M_S:
            raise BackendError(f"hand speed {goal.speed_m_s} m/s is outside 0 .. {SPEED_MAX_M_S} m/s")
        if goal.kind == "grasp" and not 0.0 < goal.force_n <= FORCE_MAX_N:
            raise BackendError(f"grasping force {goal.force_n} N is outside 0 .. {FORCE_MAX_N} N")
        self.from_m, self.to_m, self.since_s = width_m, goal.width_m, now_s
        self.speed_m_s = goal.speed_m_s
        self.force_n = goal.force_n if goal.kind == "grasp" else FORCE_MAX_N

    def end_s(self) -> float:
        """When the ramp is over; a blocked finger may stand still before."""
        return self.since_s + abs(self.to_m - self.from_m) / self.speed_m_s

    def widths(self, times_s: Array) -> Array:
        """Desired widths [K] at `times_s` [K]."""
        way = np.maximum(times_s - self.since_s, 0.0) * self.speed_m_s
        return self.from_m + np.clip(self.to_m - self.from_m, -way, way)
