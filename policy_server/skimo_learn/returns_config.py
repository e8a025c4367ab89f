"""Settings of learning a task's returns, apart from it so that recipes need no training code."""

from __future__ import annotations

from dataclasses import dataclass

from skimo_core.contract.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnsConfig:
    """How reward, critics and task policy are learned (returns.py); numbers of SkiMo's table 2 and code for Kitchen.

    Attributes:
        task: sub-tasks joined by commas, whose reward is learned.
        updates, batch, learning_rate: of Adam, with a cosine; a batch is of windows of as many skills as in joint
            pre-training.
        discount: per skill.
        rho: decay over the skills of a window.
        reward_weight, value_weight: beside the model's own losses.
        prior_weight: alpha, of the divergence from the prior that was (nats).
        encoder_rate: share of the learning rate at which encoder, dynamics and decoder learn on; 0: they stay.
        target_keep, target_every: of the slow copies of encoder and critics, as in joint pre-training.
        clip_norm: bound on each gradient's norm.
        seed: of sampling.
    """

    task: str = ""
    updates: int = 0
    batch: int = 256
    learning_rate: float = 1e-3
    discount: float = 0.99
    rho: float = 0.5
    reward_weight: float = 0.25
    value_weight: float = 0.1
    prior_weight: float = 0.5
    encoder_rate: float = 0.3
    target_keep: float = 0.99
    target_every: int = 2
    clip_norm: float = 100.0
    seed: int = 4

    def __post_init__(self) -> None:
        if self.updates < 0 or min(self.batch, self.target_every) < 1:
            raise SpecError(
                f"returns: updates {self.updates} (>= 0), batch {self.batch} (>= 1), target_every "
                f"{self.target_every} (>= 1)"
            )
        if self.updates and not self.task:
            raise SpecError("returns: task is empty; name the task whose reward is learned")
        for name in ("discount", "rho", "encoder_rate", "target_keep"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SpecError(f"returns: {name} is {getattr(self, name)}, must lie in 0 to 1")
        for name in ("learning_rate", "clip_norm"):
            if getattr(self, name) <= 0.0:
                raise SpecError(f"returns: {name} is {getattr(self, name)}, must be positive")
        for name in ("reward_weight", "value_weight", "prior_weight"):
            if getattr(self, name) < 0.0:
                raise SpecError(f"returns: {name} is {getattr(self, name)}, must not be negative")
