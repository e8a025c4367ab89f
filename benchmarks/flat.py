"""A flat one-step dynamics model, to compare the skill dynamics with (SkiMo, Shi et al. 2022, figure 9).

The same encoder, decoder and dynamics network, losses, data and number of updates; one step is one control step, and
the recorded action stands where the skill stood. It is a `SkillModel` of horizon 1 whose other parts are never used.

Dimensions: B windows, N steps, O observation, A action, D latent.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from skimo_core.contract.errors import SpecError
from skimo_learn.checkpoint import CHECKPOINT, part, read_checkpoint, restore_adam, save_checkpoint
from skimo_learn.data import EpisodeSet
from skimo_learn.losses import LossConfig, model_error
from skimo_learn.models.agent import ModelConfig, SkillModel
from skimo_learn.pretrain_config import PretrainConfig
from skimo_learn.schedule import anneal


def train_flat(
    base: ModelConfig, loss: LossConfig, config: PretrainConfig, episodes: EpisodeSet, *, steps: int, run: Path
) -> SkillModel:
    """Train a flat model on windows of `steps` control steps, gradients through all of them.

    Args:
        run: folder of its checkpoints; training goes on where one of the same settings and data stopped.
    """
    torch.manual_seed(config.seed)
    model = SkillModel(replace(base, horizon=1, skill=base.action, lstm=1, policy_hidden=1, value_hidden=1))
    model.fit_normalisation(episodes.observations_RO)
    target = copy.deepcopy(model.encoder).requires_grad_(False)
    parameters = [p for net in (model.encoder, model.decoder, model.dynamics) for p in net.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, eps=config.adam_eps, fused=True)
    generator = torch.Generator().manual_seed(config.seed)
    observations, starts = model.normalise(episodes.observations_RO), episodes.windows(steps)
    settings = {
        "model": asdict(base),
        "loss": asdict(loss),
        "pretrain": asdict(config),
        "steps": steps,
        "data": dict(episodes.digests),
    }
    first = _resume(run, settings, model, target, optimizer, generator)
    for update in tqdm(range(first, config.updates), unit="update", mininterval=2.0, desc="flat model"):
        anneal(optimizer, config.learning_rate, update / config.updates)
        chosen = starts[torch.randint(len(starts), (config.batch,), generator=generator)]
        rows = chosen.unsqueeze(1) + torch.arange(steps + 1)
        _, error, _ = model_error(model, target, loss, observations[rows], episodes.actions_RA[rows[:, :-1]])
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        if update % config.target_every == 0:
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), model.encoder.parameters()):
                    slow.lerp_(fast, 1.0 - config.target_keep)
        if (update + 1) % config.checkpoint_every == 0 or update + 1 == config.updates:
            save_checkpoint(
                run,
                modules={"model": model, "target": target},
                optimizer=optimizer,
                generators={"train": generator},
                state={"settings": settings, "update": update + 1},
            )
    return model


def _resume(
    run: Path,
    settings: dict[str, Any],
    model: SkillModel,
    target: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> int:
    """Put everything back as the checkpoint in `run` has it; returns the next update, 0 where there is none.

    Raises:
        SpecError: the checkpoint is of other settings or data.
    """
    run.mkdir(parents=True, exist_ok=True)
    if not (run / CHECKPOINT).is_file():
        return 0
    tensors, state = read_checkpoint(run)
    if state["settings"] != json.loads(json.dumps(settings)):
        raise SpecError(f"{run.name}: holds a flat model of other settings or data; choose another folder")
    model.load_state_dict(part(tensors, "model"))
    target.load_state_dict(part(tensors, "target"))
    restore_adam(optimizer, tensors)
    generator.set_state(tensors["rng/train"])
    return int(state["update"])


@torch.no_grad()
def predict_flat(model: SkillModel, observation_BO: Tensor, actions_BTA: Tensor, every: int) -> Tensor:
    """Raw observations [T / every, B, O] predicted under recorded actions."""
    latent, out = model.encode(observation_BO), []
    for t in range(actions_BTA.shape[1]):
        latent = model.dynamics(latent, actions_BTA[:, t])
        if (t + 1) % every == 0:
            out.append(model.decode(latent))
    return torch.stack(out)


@torch.no_grad()
def predict_skills(model: SkillModel, observations_BWO: Tensor, actions_BTA: Tensor) -> Tensor:
    """Raw observations [T / H, B, O] predicted by the skill dynamics under the recorded segments' skills (their modes).

    Args:
        observations_BWO: recorded, at least T rows; they enter through the skill encoder and the first state only.
    """
    horizon = model.config.horizon
    latent, out = model.encode(observations_BWO[:, 0]), []
    for first in range(0, actions_BTA.shape[1], horizon):
        steps = slice(first, first + horizon)
        mean, _ = model.encode_skill(observations_BWO[:, steps], actions_BTA[:, steps])
        latent = model.dynamics(latent, torch.tanh(mean))
        out.append(model.decode(latent))
    return torch.stack(out)
