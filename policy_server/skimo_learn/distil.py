"""Distilling the dynamics ensemble into one network of a member's size, which plans ask in its place.

The ensemble's mean is what the planner uses of it, at three times a member's cost. The one network learns to answer
alike (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015): where plans ask, from encoded
latents of play and from those the ensemble predicts from them, under the play's own skills and under the prior's. All
else is frozen. Not part of SkiMo: ours.

Dimensions: R rows of all episodes, B batch, D latent, Z skill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skimo_core.contract.errors import SpecError

from . import ranks
from .data import EpisodeSet
from .descent import descend
from .models.agent import SkillModel
from .posterior import latents, posteriors


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilConfig:
    """How long, how fast.

    Attributes:
        updates: gradient steps of Adam, with a cosine.
        batch: latents per update, each asked `skills` times in a row.
        learning_rate: at the start.
        skills: how many skills ahead.
        proposed: share of the skills that are the prior's; the rest are the play's own.
        seed: of sampling.
    """

    updates: int = 0
    batch: int = 512
    learning_rate: float = 1e-3
    skills: int = 3
    proposed: float = 0.7
    seed: int = 3

    def __post_init__(self) -> None:
        if (
            self.updates < 0
            or min(self.batch, self.skills) < 1
            or self.learning_rate <= 0
            or not 0 <= self.proposed <= 1
        ):
            raise SpecError(
                f"distil: updates {self.updates} (>= 0), batch {self.batch} (>= 1), skills {self.skills} (>= 1), "
                f"rate {self.learning_rate} (> 0), proposed {self.proposed} (0 to 1)"
            )


def distil(
    model: SkillModel, episodes: EpisodeSet, config: DistilConfig, *, capture: bool = True
) -> list[dict[str, float]]:
    """Train `model.distilled` in place, where it and the episodes are; returns the curve (update, latent_rmse).

    Args:
        capture: on CUDA, each update is one captured graph.
    """
    student = model.distilled
    if student is None or not config.updates:
        return []
    latents_RD = latents(model, episodes)
    starts, means_RZ, stds_RZ = posteriors(model, episodes)
    generator = torch.Generator(device=starts.device).manual_seed(config.seed)
    batch = ranks.share(config.batch, "distil")

    @torch.no_grad()
    def asked() -> tuple[Tensor, Tensor, Tensor]:
        """Latents, skills and the ensemble's answers, [skills * B, ...]."""
        rows = starts[torch.randint(len(starts), (batch,), generator=generator, device=starts.device)]
        latent, found = latents_RD[rows], []
        for _ in range(config.skills):
            proposed = torch.rand((len(rows), 1), generator=generator, device=rows.device) < config.proposed
            means = [torch.where(proposed, p, q[rows]) for p, q in zip(model.prior(latent), (means_RZ, stds_RZ))]
            eps = torch.randn(means[0].shape, generator=generator, device=rows.device)
            skill = torch.tanh(means[0] + means[1] * eps)
            answer = model.dynamics(latent, skill)
            found.append((latent, skill, answer))
            latent = answer
        asked_BD, skills_BZ, answers_BD = (torch.cat(parts) for parts in zip(*found))
        return asked_BD, skills_BZ, answers_BD

    def loss() -> Tensor:
        latents_BD, skills_BZ, answers_BD = asked()
        return (student(latents_BD, skills_BZ) - answers_BD).square().mean()

    curve = descend(
        loss,
        student.parameters(),
        generator,
        updates=config.updates,
        learning_rate=config.learning_rate,
        title="distilling",
        capture=capture,
    )
    return [{"update": update, "latent_rmse": math.sqrt(error)} for update, error in curve]
