"""The actions of whoever moved an arm, read off where its joints and fingers went: teleoperation, foreign recordings.

Promises
  - Executing them (`actuate`) leads along the same path, in time: an action is the velocity that the arm has when its
    control period ends, as in a policy's recordings (`Commander.applied`). It is taken as the mean velocity over one
    period about that moment: what the arm went in all is in the sum of them, so nothing drifts. Mean velocities of the
    period itself would come half a period late, five times as far from the path.
  - Finger intents say open (1) or close (-1) from when the width changes, and on until it changes back; 0 (keep) where
    the hand stands somewhere between and nobody has moved it yet.
  - What is faster than an action can say, or than the robot can be, is cut and counted, never in silence (`Excess`).
Pure. Units rad, rad/s, m, s. J joints, T control steps, K samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..contract.specs import ActionSpec
from ..contract.types import Array
from ..domain.robot import RobotLimits

AHEAD_PERIODS = 1.5
"""So many periods after a step is due its action is known."""
MOVED_SHARE, ENDS_SHARE = 0.05, 0.1
"""Of the hand's greatest width: a change of width that is one, and how near to either end counts as there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """Velocities that were cut.

    Attributes:
        steps: how many control steps have one.
        joint: index of the joint that goes furthest beyond its bound.
        velocity_rad_s, bound_rad_s: its velocity, and the bound.
    """

    steps: int
    joint: int
    velocity_rad_s: float
    bound_rad_s: float

    def more_than(self, before: Excess | None) -> Excess:
        """This one together with an earlier one."""
        if before is None:
            return self
        worse = max(self, before, key=lambda e: e.velocity_rad_s / e.bound_rad_s)
        return replace(worse, steps=self.steps + before.steps)


def velocities_rad_s(times_s: Array, q_rad_KJ: Array, due_s: Array, period_s: float) -> Array:
    """The velocity [T, J] that each control step due at `due_s` [T] leads to.

    Args:
        times_s: [K] of the samples, increasing; on the grid, or denser, or not evenly.
        q_rad_KJ: positions, linear in between. Beyond either end nothing is known: the mean over what is.
    """
    from_s = np.clip(due_s + period_s / 2, times_s[0], times_s[-1])
    to_s = np.clip(due_s + AHEAD_PERIODS * period_s, times_s[0], times_s[-1])
    over_s = (to_s - from_s)[:, None]
    way_rad = _at(times_s, q_rad_KJ, to_s) - _at(times_s, q_rad_KJ, from_s)
    return np.divide(way_rad, over_s, out=np.zeros_like(way_rad), where=over_s > 0)


def _at(times_s: Array, q_rad_KJ: Array, at_s: Array) -> Array:
    return np.stack([np.interp(at_s, times_s, joint) for joint in q_rad_KJ.T], axis=1)


def joint_actions(
    velocity_rad_s: Array, spec: ActionSpec, limits: RobotLimits
) -> tuple[npt.NDArray[np.float32], Excess | None]:
    """Actions [T, J] in -1 to 1 for velocities [T, J], and what had to be cut for that; None: nothing."""
    bound_rad_s = np.minimum(limits.dq_max_rad_s[: spec.joints], spec.scale_rad_s)
    within = np.clip(velocity_rad_s, -bound_rad_s, bound_rad_s)
    actions = np.clip(within / spec.scale_rad_s, -1.0, 1.0).astype(np.float32)
    beyond = np.abs(velocity_rad_s) / bound_rad_s
    if not beyond.size or beyond.max() <= 1.0:
        return actions, None
    row, joint = np.unravel_index(int(beyond.argmax()), beyond.shape)
    excess = Excess(
        steps=int((beyond > 1.0).any(axis=1).sum()),
        joint=int(joint),
        velocity_rad_s=float(abs(velocity_rad_s[row, joint])),
        bound_rad_s=float(bound_rad_s[joint]),
    )
    return actions, excess


class FingerIntents:
    """Intents from the hand's width over time.

    Args:
        width_m: of the hand at the start.
        width_max_m: the hand's greatest.
    """

    def __init__(self, width_m: float, width_max_m: float) -> None:
        self._moved_m = MOVED_SHARE * width_max_m
        self._low_m = self._high_m = width_m
        opened, closed = width_m > (1 - ENDS_SHARE) * width_max_m, width_m < ENDS_SHARE * width_max_m
        self.intent = 1.0 if opened else -1.0 if closed else 0.0

    def next(self, width_m: float) -> float:
        """The intent of the control step that leads to this width."""
        if width_m > self._low_m + self._moved_m:
            self.intent, self._low_m, self._high_m = 1.0, width_m, width_m
        elif width_m < self._high_m - self._moved_m:
            self.intent, self._low_m, self._high_m = -1.0, width_m, width_m
        else:
            self._low_m, self._high_m = min(self._low_m, width_m), max(self._high_m, width_m)
        return self.intent
