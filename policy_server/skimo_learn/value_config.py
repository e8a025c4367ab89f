"""Settings of the goal value's training, apart from it so that recipes need no training code."""

from __future__ import annotations

from dataclasses import dataclass

from skimo_core.contract.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueConfig:
    """How the goal value is learned from play.

    Attributes:
        updates, batch, learning_rate: of Adam, with a cosine; a batch is of starting states.
        discount: per control step; the target is discount^(steps until the goal first holds).
        skills: predicted latents after 1 ... this many skills are trained on, besides the encoded ones.
        censor_steps: "never in this episode" counts as 0 only where at least so many steps were left to see it.
        seed: of sampling.
    """

    updates: int = 6000
    batch: int = 256
    learning_rate: float = 1e-3
    discount: float = 0.97
    skills: int = 4
    censor_steps: int = 60
    seed: int = 1

    def __post_init__(self) -> None:
        if self.updates < 0 or self.batch < 1 or self.skills < 0:
            raise SpecError(f"value: updates {self.updates} (>= 0), batch {self.batch} (>= 1), skills {self.skills}")
        if not 0 < self.discount < 1:
            raise SpecError(f"value: discount {self.discount} must lie in (0, 1)")
