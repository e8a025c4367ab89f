"""Refining the skill policy after joint pre-training: more of SkiMo's equation 2, with everything else frozen.

Joint pre-training is expensive per update (it runs through the skill encoder's LSTM and N skills of dynamics), and what
limits closed-loop execution on few cores is the skill policy's precision. So the posterior of every segment is computed
once, and the skill policy alone goes on: mean squared error of its mode against the executed action, at a random step
of a random segment, under z ~ q. Skill space, dynamics, prior and decoder stay as they are. Not part of SkiMo: ours.

Dimensions: R rows of all episodes, B batch, H skill horizon, O observation, A action, Z skill.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from skimo_core.errors import SpecError

from .data import EpisodeSet
from .models.agent import SkillModel
from .schedule import anneal

CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineConfig:
    """How long, how fast.

    Attributes:
        updates: gradient steps of Adam, with a cosine; 0 leaves the skill policy as joint pre-training made it.
        batch: single steps per update.
        learning_rate: at the start.
        seed: of sampling.
    """

    updates: int = 0
    batch: int = 1024
    learning_rate: float = 1e-3
    seed: int = 2

    def __post_init__(self) -> None:
        if self.updates < 0 or self.batch < 1 or self.learning_rate <= 0:
            raise SpecError(
                f"refine: updates {self.updates} (>= 0), batch {self.batch} (>= 1), rate {self.learning_rate} (> 0)"
            )


def refine_policy(model: SkillModel, episodes: EpisodeSet, config: RefineConfig) -> list[dict[str, float]]:
    """Train `model.skill_policy` in place; returns the curve (update, action_mse)."""
    if not config.updates:
        return []
    starts, means_RZ, stds_RZ = _posteriors(model, episodes)
    with torch.no_grad():
        features = model.features(model.normalise(episodes.observations_RO))
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(model.skill_policy.parameters(), lr=config.learning_rate, fused=True)
    curve: list[dict[str, float]] = []
    for update in tqdm(range(config.updates), unit="update", mininterval=2.0, desc="skill policy"):
        anneal(optimizer, config.learning_rate, update, config.updates)
        start = starts[torch.randint(len(starts), (config.batch,), generator=generator)]
        row = start + torch.randint(model.config.horizon, start.shape, generator=generator)
        eps = torch.randn((config.batch, model.config.skill), generator=generator)
        skill = torch.tanh(means_RZ[start] + stds_RZ[start] * eps)
        error = torch.tanh(model.policy_n(features[row], skill)[0]) - episodes.actions_RA[row]
        loss = error.square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if update % 1000 == 999 or update + 1 == config.updates:
            curve.append({"update": update + 1, "action_mse": float(loss.detach())})
    return curve


@torch.no_grad()
def _posteriors(model: SkillModel, episodes: EpisodeSet) -> tuple[Tensor, Tensor, Tensor]:
    """First rows of all whole segments, and the posterior's mean and deviation [R, Z] at these rows."""
    rows, horizon = len(episodes.observations_RO), model.config.horizon
    means, stds = torch.zeros(rows, model.config.skill), torch.ones(rows, model.config.skill)
    starts = episodes.windows(horizon)
    for chunk in starts.split(CHUNK_ROWS):
        steps = chunk.unsqueeze(1) + torch.arange(horizon)
        means[chunk], stds[chunk] = model.encode_skill(episodes.observations_RO[steps], episodes.actions_RA[steps])
    return starts, means, stds
