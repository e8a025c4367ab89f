"""The goal value: how soon play reaches a goal from a latent, relabelled from the same play data (no reward, no RL).

    target = discount ^ (control steps until the goal first holds)
           = 1 where it already does, 0 where it never does in the episode

"Never" is believed only where `censor_steps` were left to see it; other states are dropped. Goals are drawn in
hindsight (hindsight.py), one for each window of a batch, so that the value learns to tell its states apart. The
networks that make the latents are frozen. Encoded latents are trained on, and those predicted by the skill dynamics
under the skills of the same play, because planning asks the value of predicted ones.

Dimensions: R rows of all episodes, B batch, N states of a window, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skimo_core.domain.domain import Domain

from . import ranks
from .data import EpisodeSet
from .descent import descend
from .hindsight import NEVER, Goals, GoalSource, draw_goals, goal_source, steps_until
from .models.agent import SkillModel
from .posterior import latents, posteriors
from .value_config import ValueConfig

UNKNOWN = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueData:
    """What the value learns from, one row per recorded observation.

    Attributes:
        latents_RD: encoded.
        skill_means_RZ, skill_stds_RZ: the posterior of the segment that begins at a row, as `posteriors` gives it.
        goals: what goals are drawn from.
        longest: rows of the longest episode.
    """

    latents_RD: Tensor
    skill_means_RZ: Tensor
    skill_stds_RZ: Tensor
    goals: GoalSource
    longest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueBatch:
    """States, each with its window's goal, and targets; UNKNOWN where the episode ends too soon to tell."""

    latents_BD: Tensor
    goals_BO: Tensor
    weights_BO: Tensor
    targets_B: Tensor


@torch.no_grad()
def prepare(model: SkillModel, episodes: EpisodeSet, domain: Domain) -> ValueData:
    """Encode everything once: the networks are frozen, so batches only need looking up."""
    _, means, stds = posteriors(model, episodes)
    goals = goal_source(
        episodes.observations_RO,
        episodes.steps_E,
        domain.observation,
        list(domain.subtasks.values()),
        noise_O=torch.from_numpy(domain.noise),
        std_floor=model.config.std_floor,
    )
    longest = int(episodes.steps_E.max()) + 1
    latents_RD = latents(model, episodes)
    return ValueData(latents_RD=latents_RD, skill_means_RZ=means, skill_stds_RZ=stds, goals=goals, longest=longest)


@torch.no_grad()
def rolled_out(model: SkillModel, data: ValueData, rows: Tensor, skills: int, noise: torch.Generator | None) -> Tensor:
    """Latents [skills, B, D] predicted from the rows' encoded ones under the play's own skills."""
    latent, out = data.latents_RD[rows], []
    for i in range(skills):
        at = rows + i * model.config.horizon
        mean = data.skill_means_RZ[at]
        eps = torch.zeros_like(mean) if noise is None else torch.randn(mean.shape, generator=noise, device=mean.device)
        latent = model.step(latent, torch.tanh(mean + data.skill_stds_RZ[at] * eps))
        out.append(latent)
    return torch.stack(out) if out else latent.new_zeros(0, len(rows), model.config.latent)


def discounted_times(data: ValueData, rows: Tensor, goals: Goals, offsets: list[int], config: ValueConfig) -> Tensor:
    """Targets [N, B] of the rows at these offsets from `rows`, UNKNOWN where the episode ends too soon to tell."""
    wait = steps_until(data.goals, rows, goals, offsets, data.longest)
    left = torch.stack([data.goals.ends_R[rows] - rows - offset for offset in offsets])
    never = torch.where(left >= config.censor_steps, 0.0, UNKNOWN)
    return torch.where(wait < NEVER, config.discount ** wait.clamp(max=data.longest).float(), never)


def value_batch(
    model: SkillModel, data: ValueData, rows: Tensor, config: ValueConfig, generator: torch.Generator
) -> ValueBatch:
    """The states of windows, encoded and predicted; each window's goal is drawn for one of its states."""
    horizon = model.config.horizon
    offsets = [i * horizon for i in range(config.skills + 1)]
    chosen = torch.randint(config.skills + 1, rows.shape, generator=generator, device=rows.device)
    goals = draw_goals(data.goals, rows + chosen * horizon, horizon, config, generator)
    targets = discounted_times(data, rows, goals, offsets, config)
    encoded = torch.stack([data.latents_RD[rows + offset] for offset in offsets])
    predicted = rolled_out(model, data, rows, config.skills, generator)
    states = 2 * config.skills + 1
    return ValueBatch(
        latents_BD=torch.cat([encoded, predicted]).flatten(0, 1),
        goals_BO=goals.values_BO.repeat(states, 1),
        weights_BO=goals.weights_BO.repeat(states, 1),
        targets_B=torch.cat([targets, targets[1:]]).flatten(),
    )


def value_loss(model: SkillModel, batch: ValueBatch) -> Tensor:
    """Cross-entropy between the value and its target, both in [0, 1], over what is known to any rank."""
    known = batch.targets_B >= 0.0
    logits = model.goal_logits(batch.latents_BD, batch.goals_BO, batch.weights_BO)
    error = nn.functional.binary_cross_entropy_with_logits(logits, batch.targets_B.clamp(min=0.0), reduction="none")
    return ranks.count() * (error * known).sum() / ranks.total(known.sum()).clamp(min=1)


def train_value(
    model: SkillModel, episodes: EpisodeSet, domain: Domain, config: ValueConfig, *, capture: bool = True
) -> list[dict[str, float]]:
    """Train `model.value` in place, all else frozen, where it and the episodes are; returns the curve (update, loss).

    Args:
        capture: on CUDA, each update is one captured graph.
    """
    data = prepare(model, episodes, domain)
    starts = episodes.windows(config.skills * model.config.horizon)
    device = starts.device
    generator = torch.Generator(device=device).manual_seed(config.seed)
    batch = ranks.share(config.batch, "value")

    def loss() -> Tensor:
        rows = starts[torch.randint(len(starts), (batch,), generator=generator, device=device)]
        return value_loss(model, value_batch(model, data, rows, config, generator))

    curve = descend(
        loss,
        model.value.parameters(),
        generator,
        updates=config.updates,
        learning_rate=config.learning_rate,
        title="goal value",
        every=100,
        capture=capture,
    )
    return [{"update": update, "value_loss": error} for update, error in curve]
