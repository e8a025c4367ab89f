"""Back along the way that the arm came, where the gate refuses one command after another.

An arm that is held sees the same as before, so its policy asks for the same again, and is refused again. The way by
which it came was free, so it goes back on that for a while, command by command through the gate like any other, and
plans anew from there. Held again before the next sub-task is done, it goes back further.

    note      a control period is over: where the arm is told to be, and whether the gate refused its command
    action    the next action on the way back; None: there is nothing to go back from, the policy goes on
Pure. Units rad, s.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ..contract.errors import SpecError
from ..contract.policy import FloatArray
from ..contract.specs import ActionSpec
from ..contract.types import Array

REMEMBERED = 100
"""Control periods of the way that are remembered."""
STILL_RAD = 1e-3
"""A way shorter than this is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetraceConfig:
    """When to go back, and how far.

    Attributes:
        refused: commands that the gate refused in a row; 0: never go back.
        steps: control periods of the way in that are gone back the first time, twice as many the second, and so on.
    """

    refused: int = 5
    steps: int = 10

    def __post_init__(self) -> None:
        if self.refused < 0 or not 1 <= self.steps <= REMEMBERED:
            raise SpecError(
                f"retrace: refused is {self.refused} (at least 0, which is never), steps {self.steps} (1 to "
                f"{REMEMBERED})"
            )


class Retrace:
    """The way of one arm."""

    def __init__(self, spec: ActionSpec, config: RetraceConfig | None = None) -> None:
        self.config = config or RetraceConfig()
        self._spec = spec
        self.clear()

    def clear(self) -> None:
        """Forget the way."""
        self._way: deque[Array] = deque(maxlen=REMEMBERED)
        self._refused = 0
        self._left = 0
        self._times = 0

    @property
    def left(self) -> int:
        """Control periods that are still to be gone back."""
        return self._left

    @property
    def reason(self) -> str:
        """Why the arm goes back."""
        return f"back the way it came: the gate refused {self.config.refused} commands in a row"

    def moved_on(self) -> None:
        """A sub-task is done: held again, the arm goes back as little as the first time."""
        self._times = 0

    def stop(self) -> None:
        """Somebody else decides what comes next."""
        self._refused = self._left = 0

    def note(self, told_rad: Array, *, refused: bool) -> None:
        """Take note of a control period, whoever acted in it.

        Args:
            told_rad: [7] where the arm is told to be at its end.
            refused: whether the gate refused the command that was sent in it.
        """
        self._refused = self._refused + 1 if refused else 0
        if not self._left and not (self._way and _same(self._way[-1], told_rad)):
            self._way.append(told_rad.copy())
        if self.config.refused and self._refused >= self.config.refused:
            self._turn(told_rad)

    def action(self, told_rad: Array) -> FloatArray | None:
        """The action [A] for the next control period, hand as it is.

        Args:
            told_rad: [7] where the arm is told to be when it begins.
        """
        if not self._left:
            return None
        action_A = np.zeros(self._spec.size, np.float32)
        back_rad_s = (self._way.pop() - told_rad) / self._spec.period_s
        self._left -= 1
        action_A[: self._spec.joints] = np.clip(back_rad_s / self._spec.scale_rad_s, -1.0, 1.0)
        return action_A

    def _turn(self, told_rad: Array) -> None:
        if self._left:  # no way out either: what holds the arm does so whatever it is asked
            self._way.clear()
            self.stop()
            return
        self._times, self._refused = self._times + 1, 0
        while self._way and _same(self._way[-1], told_rad):
            self._way.pop()
        self._left = min(self._times * self.config.steps, len(self._way))


def _same(here_rad: Array, there_rad: Array) -> bool:
    return bool(np.abs(here_rad - there_rad).max(initial=0.0) < STILL_RAD)
