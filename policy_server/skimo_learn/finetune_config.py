"""Settings of learning on, apart from it so that a command line needs no training code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skimo_core.contract.errors import SpecError

MAX_EMPHASIS = 100
Objective = Literal["corrections", "successes", "returns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """How a round is made.

    Attributes:
        objective: what is learned (finetune.py).
        task: whose returns are learned, as in skimo eval; only with those.
        every: new episodes that make a round.
        share: of what is learned from, the robot's part; the rest is the bundle's own data.
        emphasis: how many times as often as the rest of the robot's part that is seen in which a person acts.
        offline_episodes: of that data, at most so many, drawn anew each round.
        seed: of what is drawn.
        threads: of torch on CPUs; a robot's machine needs its other cores.
        set: settings of the recipe as part.name=value, as in skimo pretrain.
    """

    objective: Objective = "corrections"
    task: str = ""
    every: int = 10
    share: float = 0.3
    emphasis: int = 3
    offline_episodes: int = 1500
    seed: int = 0
    threads: int = 1
    set: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.every < 1 or self.offline_episodes < 2 or self.threads < 1:
            raise SpecError(
                f"every {self.every} (>= 1), offline_episodes {self.offline_episodes} (>= 2), threads {self.threads} "
                "(>= 1)"
            )
        if (self.objective == "returns") != bool(self.task):
            raise SpecError(
                f"objective {self.objective} with task {self.task!r}: returns are of one task, the others of none; "
                "give both --learn.objective returns and --learn.task TASK, or neither"
            )
        if not 1 <= self.emphasis <= MAX_EMPHASIS:
            raise SpecError(f"emphasis is {self.emphasis}, must lie in 1 to {MAX_EMPHASIS}")
        if not 0.0 < self.share < 1.0:
            raise SpecError(f"share is {self.share}, must lie between 0 and 1")
