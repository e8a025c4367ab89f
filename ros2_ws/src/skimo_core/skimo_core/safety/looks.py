"""When to look at a motion, so that nothing of the arm goes far between two looks.

How far a joint goes is bounded part by part by its speed's bounds (`bounds`), back and forth counted both, so nothing
that happens between two looks is missed. Pure. Units rad, s, m. Dimensions: S segments, P parts, K looks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract.types import Array
from ..domain.robot import RobotLimits
from .bounds import PIECES, Extent

LOOKS_MAX = 1000
"""A motion that needs more is too fast by far, and refused for that."""
HAND_M = 0.12
"""The hand reaches this far around the tool's axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """The way that each joint makes at most, over time.

    Attributes:
        times_s: [P + 1] the parts' ends.
        ways_rad: [P + 1, 7] what each joint has made until then.
    """

    times_s: Array
    ways_rad: Array

    @classmethod
    def of(cls, knots_s: Array, dq: Extent) -> Travel:
        """The travel of a motion with knots [S + 1], whose velocity's extent is `dq` (parts [PIECES * S, 7])."""
        durations_s = np.diff(knots_s)
        fastest_rad_s = dq.size.reshape(PIECES, len(durations_s), -1).transpose(1, 0, 2)
        ways_rad = np.zeros((dq.size.shape[0] + 1, dq.size.shape[1]))
        np.cumsum(
            (fastest_rad_s * (durations_s / PIECES)[:, None, None]).reshape(-1, dq.size.shape[1]),
            axis=0,
            out=ways_rad[1:],
        )
        times_s = knots_s[:-1, None] + durations_s[:, None] * np.arange(PIECES) / PIECES
        return cls(times_s=np.append(times_s.ravel(), knots_s[-1]), ways_rad=ways_rad)

    def until(self, times_s: Array) -> Array:
        """[K, 7] the ways made by `times_s` [K]; what lies between two of them is an upper bound."""
        part = np.clip(np.searchsorted(self.times_s, times_s, side="right") - 1, 0, len(self.times_s) - 2)
        share = (times_s - self.times_s[part]) / np.diff(self.times_s)[part]
        return self.ways_rad[part] + np.clip(share, 0.0, 1.0)[:, None] * np.diff(self.ways_rad, axis=0)[part]

    def looks(self, limits: RobotLimits, apart_m: float) -> tuple[Array, float]:
        """Times [K] from first to last, so that no point of the arm goes further than `apart_m` between two, and how
        far one can be from where it is at the nearest."""
        ways_m = self.ways_rad @ levers(limits)
        count = int(np.clip(np.ceil(ways_m[-1] / apart_m), 1, LOOKS_MAX))
        times_s = np.interp(np.linspace(0.0, ways_m[-1], count + 1), ways_m, self.times_s)
        times_s[0], times_s[-1] = self.times_s[0], self.times_s[-1]
        return times_s, float(ways_m[-1] / count) / 2


def levers(limits: RobotLimits) -> Array:
    """[7] how far any point of the arm can be from each joint's axis, m: the links after it, stretched out."""
    links_m = np.hypot(limits.dh_a_m, limits.dh_d_m)
    beyond_m = np.append(np.cumsum(links_m[:0:-1])[::-1], 0.0)
    return beyond_m + limits.tool_m + HAND_M
