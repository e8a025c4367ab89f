"""When plans say that they can't do a sub-task, or say that they can and it isn't done.

A plan promises, as a probability, that the open sub-task is done within its skills. Two things in a row are worth an
operator's attention:

    promising little   so many plans below `bound`
    broken promises    so many plans at or above 1 - `bound` whose skills are over, the sub-task still open

A policy that promises nothing (NaN) is never doubted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..contract.errors import SpecError
from ..contract.policy import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtConfig:
    """When to doubt, and what then.

    Attributes:
        bound: probability below which a promise is little, and above 1 less which it is firm; 0 never doubts.
        plans: how many in a row.
        hold: whether the loop holds until an operator resumes it.
    """

    bound: float = 0.2
    plans: int = 3
    hold: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.bound <= 0.5 or self.plans < 1:
            raise SpecError(f"doubt: bound is {self.bound} (0 to 0.5), plans {self.plans} (at least 1)")


class Doubt:
    """The plans of one sub-task after another; an operator's resumption clears it."""

    def __init__(self, config: DoubtConfig | None = None) -> None:
        self.config = config or DoubtConfig()
        self.clear()

    def clear(self) -> None:
        """Forget all plans."""
        self.words = ""
        self._subtask = ""
        self._little = 0
        self._promised: list[tuple[float, int]] = []

    def note(self, subtask: str, plan: Plan) -> bool:
        """Take note of a plan that takes effect; returns whether there is doubt (`words`) since it, and not before."""
        if subtask != self._subtask:
            self.clear()
            self._subtask = subtask
        promise, bound, wanted = plan.success_probability, self.config.bound, self.config.plans
        if math.isnan(promise) or bound == 0.0:
            return False
        self._promised.append((promise, len(plan.skills_PZ)))
        self._little = self._little + 1 if promise < bound else 0
        before, self.words = self.words, ""
        if self._little >= wanted:
            worst = max(p for p, _ in self._promised[-wanted:])
            self.words = f"{wanted} plans in a row promise {subtask} with at most {worst:.2f} (bound {bound:g})"
        elif len(over := self._over()[-wanted:]) == wanted and min(over) >= 1.0 - bound:
            self.words = f"{wanted} plans in a row promised {subtask} with at least {min(over):.2f}, and it is not done"
        return bool(self.words) and not before

    def _over(self) -> list[float]:
        """The promises whose skills are over, as far as one skill of each plan is run: the older, the earlier."""
        count = len(self._promised)
        return [promise for k, (promise, skills) in enumerate(self._promised) if k + skills < count]
