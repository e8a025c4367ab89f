"""Settings of learning on, apart from it so that a command line needs no training code."""

from __future__ import annotations

from dataclasses import dataclass

from skimo_core.contract.errors import SpecError
from skimo_core.episodes.experience import Shows


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """How a round is made.

    Attributes:
        objective: successes or corrections (finetune.py).
        every: new episodes that make a round.
        share: of what is learned from, the robot's part; the rest is the bundle's own data.
        offline_episodes: of that data, at most so many, drawn anew each round.
        seed: of what is drawn.
        threads: of torch on CPUs; a robot's machine needs its other cores.
        set: settings of the recipe as part.name=value, as in skimo pretrain.
    """

    objective: Shows = "corrections"
    every: int = 10
    share: float = 0.3
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
        if not 0.0 < self.share < 1.0:
            raise SpecError(f"share is {self.share}, must lie between 0 and 1")
