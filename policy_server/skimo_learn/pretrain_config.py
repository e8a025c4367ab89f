"""Settings of the pre-training loop, apart from it so that recipes need no training code."""

from __future__ import annotations

import os
from dataclasses import dataclass

from skimo_core.contract.errors import SpecError

MIN_SKILLS, MAX_SKILLS = 1, 10
THREADS = min(2, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How long, how fast, on what.

    Attributes:
        updates: gradient steps.
        skills: N, skills per window; gradients run through all of them.
        batch: windows per update.
        learning_rate, adam_eps: of Adam.
        cosine: lower the learning rate to 1 % along half a cosine, after a short warm-up.
        clip_norm: bound on the gradient's norm over all parameters.
        target_keep: share that the target encoder keeps at each of its updates (tau = 1 - keep).
        target_every: updates between those.
        held_out: share of the episodes that training never sees.
        seed: of initialisation, sampling and noise.
        log_every, evaluate_every, checkpoint_every: in updates.
        threads: of torch on CPUs; 2 where the machine has them. The same curve needs as many again.
    """

    updates: int = 25_000
    skills: int = 3
    batch: int = 128
    learning_rate: float = 1e-3
    adam_eps: float = 1e-7
    cosine: bool = True
    clip_norm: float = 10.0
    target_keep: float = 0.99
    target_every: int = 2
    held_out: float = 0.05
    seed: int = 0
    log_every: int = 100
    evaluate_every: int = 1000
    checkpoint_every: int = 2000
    threads: int = THREADS

    def __post_init__(self) -> None:
        if not MIN_SKILLS <= self.skills <= MAX_SKILLS:
            raise SpecError(f"pretrain skills is {self.skills}, must lie in {MIN_SKILLS} to {MAX_SKILLS}")
        for name in ("updates", "batch", "log_every", "evaluate_every", "checkpoint_every", "target_every", "threads"):
            if getattr(self, name) < 1:
                raise SpecError(f"pretrain {name} is {getattr(self, name)}, must be at least 1")
        if not 0 < self.held_out <= 0.5:
            raise SpecError(f"pretrain held_out is {self.held_out}, must lie in (0, 0.5]")
