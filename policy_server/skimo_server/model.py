"""What the planner asks of a skill model: batched functions, numpy in, numpy out, of which some may be missing.

Implemented by the engine (the bundle's networks), by the twin itself for comparison, and by linear models in tests.
All arrays are float32; every row of a batch is independent of the others.

Dimensions: B batch, O observation, Z skill, D latent.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class SkillModel(Protocol):
    """A latent model that steps one skill at a time (SkiMo, Shi et al. 2022, section 3.2)."""

    @property
    def skill_dim(self) -> int:
        """Z."""
        ...

    @property
    def graphs(self) -> Collection[str]:
        """Which functions it has, by name: encode, dynamics and decode in any case; the planner asks no other one."""
        ...

    def encode(self, observation_BO: FloatArray) -> FloatArray:
        """Latents [B, D] of observations."""
        ...

    def prior(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and std [B, Z] of the skill prior before tanh: skill = tanh(mean + std * eps)."""
        ...

    def dynamics(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """Latents [B, D] after the skills, and the ensemble's disagreement [B] where there is one."""
        ...

    def ensemble(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """As `dynamics`, by the ensemble from which that was distilled."""
        ...

    def decode(self, latent_BD: FloatArray) -> FloatArray:
        """Observations [B, O] of latents, in the channels' units."""
        ...

    def goal_value(self, latent_BD: FloatArray, goal_BO: FloatArray, weight_BO: FloatArray) -> FloatArray:
        """How near completion each goal is, [B] in 0..1 (discounted steps to completion).

        Weights are 1 over the tolerance per channel, 0 where it is no part of the goal (`Goals.precision_KO`).
        """
        ...

    def reward(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> FloatArray:
        """What each skill earns [B] from its latent on, as learned."""
        ...

    def value(self, latent_BD: FloatArray) -> FloatArray:
        """What the states from each latent on earn [B], as learned."""
        ...

    def task_policy(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and std [B, Z] of a task's skills before tanh, as `prior` gives those of the data."""
        ...
