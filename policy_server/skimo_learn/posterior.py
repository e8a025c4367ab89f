"""The latents of recorded states and the skills behind recorded segments, for all of a data set at once.

Dimensions: R rows of all episodes, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .data import EpisodeSet
from .models.agent import SkillModel

CHUNK_ROWS = 8192


@torch.no_grad()
def latents(model: SkillModel, episodes: EpisodeSet) -> Tensor:
    """Encoded observations [R, D]."""
    return torch.cat([model.encode(o) for o in episodes.observations_RO.split(CHUNK_ROWS)])


@torch.no_grad()
def posteriors(model: SkillModel, episodes: EpisodeSet) -> tuple[Tensor, Tensor, Tensor]:
    """First rows of all whole segments; mean and deviation [R, Z] before tanh of the segment that begins at a row.

    Where none fits, the mean is 0 and the deviation 1.
    """
    rows, horizon = len(episodes.observations_RO), model.config.horizon
    means = episodes.observations_RO.new_zeros(rows, model.config.skill)
    stds = torch.ones_like(means)
    starts = episodes.windows(horizon)
    for chunk in starts.split(CHUNK_ROWS):
        steps = chunk.unsqueeze(1) + torch.arange(horizon, device=chunk.device)
        means[chunk], stds[chunk] = model.encode_skill(episodes.observations_RO[steps], episodes.actions_RA[steps])
    return starts, means, stds
