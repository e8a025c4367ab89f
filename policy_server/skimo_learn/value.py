"""The goal value: how soon play reaches a goal from a latent, relabelled from the same play data (no reward, no RL).

    target = discount ^ (control steps until the goal's channels first come within their threshold)
           = 1 where they already are, 0 where they never do in the episode

"Never" is believed only where `censor_steps` were left to see it; other rows are dropped. The networks that make the
latents are frozen. Encoded latents are trained on, and those predicted by the skill dynamics under the skills of the
same play, because planning asks the value of predicted ones.

Dimensions: R rows of all episodes, K sub-tasks, B batch, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from skimo_core.domain.tasks import Subtask

from .data import EpisodeSet
from .models.agent import SkillModel
from .posterior import CHUNK_ROWS, posteriors
from .schedule import anneal
from .value_config import ValueConfig

UNKNOWN = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueData:
    """What the value learns from, one row per recorded observation.

    Attributes:
        latents_RD: encoded.
        skill_means_RZ, skill_stds_RZ: the posterior of the segment that begins at a row, as `posteriors` gives it.
        targets_RK: per sub-task, or UNKNOWN.
        steps_left_R: control steps to the episode's end.
        goals_KO, masks_KO: the sub-tasks' goals, raw units.
    """

    latents_RD: Tensor
    skill_means_RZ: Tensor
    skill_stds_RZ: Tensor
    targets_RK: Tensor
    steps_left_R: Tensor
    goals_KO: Tensor
    masks_KO: Tensor


def discounted_times(
    episodes: EpisodeSet, subtasks: Sequence[Subtask], *, discount: float, censor_steps: int
) -> Tensor:
    """Targets [R, K], UNKNOWN where the episode ends too soon to tell."""
    targets = torch.empty(len(episodes.observations_RO), len(subtasks))
    observations = episodes.observations_RO.numpy()
    for start, steps in zip(episodes.starts_E.tolist(), episodes.steps_E.tolist()):
        rows = slice(start, start + steps + 1)
        for k, subtask in enumerate(subtasks):
            wait = _steps_until(subtask.complete(observations[rows]))
            never = np.where(np.arange(steps, -1, -1) >= censor_steps, 0.0, UNKNOWN)
            value = np.where(np.isfinite(wait), discount**wait, never)
            targets[rows, k] = torch.from_numpy(value.astype(np.float32))
    return targets


def _steps_until(holds: np.ndarray) -> np.ndarray:
    """Per step, how many steps until `holds` is first true from there on; inf if never."""
    wait = np.full(len(holds), np.inf)
    for t in range(len(holds) - 1, -1, -1):
        wait[t] = 0.0 if holds[t] else (wait[t + 1] + 1.0 if t + 1 < len(holds) else np.inf)
    return wait


def goal_arrays(subtasks: Sequence[Subtask], size: int) -> tuple[Tensor, Tensor]:
    """Goals and masks [K, O] of sub-tasks."""
    goals, masks = torch.zeros(len(subtasks), size), torch.zeros(len(subtasks), size)
    for k, subtask in enumerate(subtasks):
        goals[k, list(subtask.channels)] = torch.tensor(subtask.goal)
        masks[k, list(subtask.channels)] = 1.0
    return goals, masks


@torch.no_grad()
def prepare(model: SkillModel, episodes: EpisodeSet, subtasks: Sequence[Subtask], config: ValueConfig) -> ValueData:
    """Encode everything once: the networks are frozen, so batches only need looking up."""
    c = model.config
    latents = torch.cat([model.encode(o) for o in episodes.observations_RO.split(CHUNK_ROWS)])
    _, means, stds = posteriors(model, episodes)
    goals, masks = goal_arrays(subtasks, c.observation)
    left = torch.cat([torch.arange(int(t), -1, -1) for t in episodes.steps_E])
    targets = discounted_times(episodes, subtasks, discount=config.discount, censor_steps=config.censor_steps)
    return ValueData(
        latents_RD=latents,
        skill_means_RZ=means,
        skill_stds_RZ=stds,
        targets_RK=targets,
        steps_left_R=left,
        goals_KO=goals,
        masks_KO=masks,
    )


@torch.no_grad()
def rolled_out(model: SkillModel, data: ValueData, rows: Tensor, skills: int, noise: torch.Generator | None) -> Tensor:
    """Latents [skills, B, D] predicted from the rows' encoded ones under the play's own skills."""
    latent, out = data.latents_RD[rows], []
    for i in range(skills):
        at = rows + i * model.config.horizon
        mean = data.skill_means_RZ[at]
        eps = torch.zeros_like(mean) if noise is None else torch.randn(mean.shape, generator=noise)
        latent = model.dynamics(latent, torch.tanh(mean + data.skill_stds_RZ[at] * eps))
        out.append(latent)
    return torch.stack(out) if out else latent.new_zeros(0, len(rows), model.config.latent)


def value_batch(
    model: SkillModel, data: ValueData, rows: Tensor, config: ValueConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, goals, masks and targets of a batch: each state, encoded and predicted, with one goal drawn for it."""
    span = torch.arange(config.skills + 1).unsqueeze(1) * model.config.horizon
    at = (rows.unsqueeze(0) + span).flatten()
    encoded = data.latents_RD[at]
    predicted = rolled_out(model, data, rows, config.skills, generator).flatten(0, 1)
    later = at[len(rows) :]
    latents, where = torch.cat([encoded, predicted]), torch.cat([at, later])
    goal = torch.randint(len(data.goals_KO), where.shape, generator=generator)
    return latents, data.goals_KO[goal], data.masks_KO[goal], data.targets_RK[where, goal]


def train_value(
    model: SkillModel, episodes: EpisodeSet, subtasks: Sequence[Subtask], config: ValueConfig
) -> list[dict[str, float]]:
    """Train `model.value` in place, all else frozen; returns the curve (update, loss).

    The loss is the cross-entropy between the value and its target, both in [0, 1].
    """
    data = prepare(model, episodes, subtasks, config)
    starts = episodes.windows(config.skills * model.config.horizon)
    generator = torch.Generator().manual_seed(config.seed)
    parameters = list(model.value.parameters())
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    curve: list[dict[str, float]] = []
    for update in tqdm(range(config.updates), unit="update", mininterval=2.0, desc="goal value"):
        anneal(optimizer, config.learning_rate, update / config.updates)
        rows = starts[torch.randint(len(starts), (config.batch,), generator=generator)]
        latents, goals, masks, targets = value_batch(model, data, rows, config, generator)
        known = targets >= 0.0
        logits = model.value(latents, model.normalise(goals), masks)
        loss = nn.functional.binary_cross_entropy_with_logits(logits[known], targets[known])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if update % 100 == 99 or update + 1 == config.updates:
            curve.append({"update": update + 1, "value_loss": float(loss.detach())})
    return curve
