"""Joint pre-training on play data (SkiMo, Shi et al. 2022, algorithm 1), resumable and seeded.

A run folder holds
    run.json                 recipe, data digests, commit
    metrics.jsonl            one line per logged update and per evaluation on held-out episodes
    checkpoint.safetensors   everything needed to go on (checkpoint.py)
    report.json              what report.py measured at the end
The same recipe, data and seed give the same curve on the same machine and thread count, whether interrupted or not. On
another device the curve is another one, of the same quality. Several ranks (ranks.py) give one process's curve, but for
rounding.

Dimensions: B windows, W states of a window, N skills, H skill horizon, R rows of all episodes, O observation, A action.
"""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from skimo_core.contract.errors import SpecError
from skimo_core.domain.bodies import objects_in_base
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits

from . import ranks
from .checkpoint import CHECKPOINT, load_weights, part, read_checkpoint, restore_adam, save_checkpoint
from .data import EpisodeSet
from .device import Repeated, make_adam
from .losses import Metrics, skimo_loss
from .models.agent import SkillModel, seeing_bodies
from .pretrain_config import PretrainConfig
from .recipes import Recipe
from .schedule import anneal, follow

WARM_UP_UPDATES = 200
EVALUATION_WINDOWS = 512
TRAINED_LATER = ("value.", "distilled.", "heads.")
"""Weights that joint pre-training doesn't touch."""


@dataclass(slots=True, kw_only=True)
class Windows:
    """Windows of N skills in a set of episodes, gathered by row number."""

    observations_RO: Tensor  # normalised
    actions_RA: Tensor
    shown_R: Tensor
    first_rows: Tensor
    skills: int
    horizon: int

    def gather(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised observations [B, W, O] and actions [B, N, H, A] of the chosen windows; [B, N] whether shown."""
        steps = torch.arange(self.skills * self.horizon + 1, device=chosen.device)
        rows = self.first_rows[chosen].unsqueeze(1) + steps
        segments = rows[:, :-1].view(len(chosen), self.skills, self.horizon)
        return self.observations_RO[rows], self.actions_RA[segments], self.shown_R[segments].all(-1)


class Pretrainer:
    """The training state and its one step; `pretrain` below drives it. It runs where the episodes are."""

    def __init__(
        self, recipe: Recipe, domain: Domain, train: EpisodeSet, held_out: EpisodeSet, *, capture: bool = True
    ) -> None:
        """Args: capture: on CUDA, each update is one captured graph (device.py)."""
        self.recipe = recipe
        self.device = device = train.observations_RO.device
        self.config: PretrainConfig = recipe.pretrain
        torch.set_num_threads(ranks.threads(self.config.threads))
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.model = SkillModel(recipe.model)
        self.model.mount(load_limits(domain.robot), objects_in_base(domain))
        self.model.fit_normalisation(train.observations_RO.cpu())
        self.model.to(device)
        self.target_encoder = copy.deepcopy(self.model.encoder).requires_grad_(False)
        self.parameters = [p for name, p in self.model.named_parameters() if not name.startswith(TRAINED_LATER)]
        self.optimizer = make_adam(self.parameters, self.config.learning_rate, eps=self.config.adam_eps)
        self.generator = torch.Generator(device=device).manual_seed(self.config.seed)
        self._noise_O, self._episodes = torch.from_numpy(domain.noise).to(device), (train, held_out)
        self._normalise()
        self.update = 0
        self.elapsed_s = 0.0
        self._batch = ranks.share(self.config.batch, "pretrain")
        self._repeated = Repeated(self._update, self.generator, capture=capture)

    def _normalise(self) -> None:
        self.noise_O = self._noise_O / self.model.std_O
        self.train, self.held_out = (self._windows(episodes) for episodes in self._episodes)

    def _windows(self, episodes: EpisodeSet) -> Windows:
        c = self.config
        return Windows(
            observations_RO=self.model.normalise(episodes.observations_RO),
            actions_RA=episodes.actions_RA,
            shown_R=episodes.shown_R,
            first_rows=episodes.windows(c.skills * self.recipe.model.horizon),
            skills=c.skills,
            horizon=self.recipe.model.horizon,
        )

    def step(self, progress: float) -> Metrics:
        """One update; `progress` in 0..1 sets the learning rate."""
        self._set_learning_rate(progress)
        metrics = self._repeated()
        self.update += 1
        if self.update % self.config.target_every == 0:
            follow(self.target_encoder, self.model.encoder, self.config.target_keep)
        return metrics

    def _update(self) -> Metrics:
        count = len(self.train.first_rows)
        with ranks.drawing(self.generator):
            chosen = torch.randint(count, (self._batch,), generator=self.generator, device=self.device)
            loss, metrics = self._loss(self.train, chosen, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average([*(p.grad for p in self.parameters if p.grad is not None), *metrics.values()])
        metrics["gradient_norm"] = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.optimizer.step()
        return metrics

    @torch.no_grad()
    def evaluate(self) -> Metrics:
        """The losses on held-out windows, evenly spread, with modes instead of samples."""
        count = len(self.held_out.first_rows)
        chosen = torch.linspace(0, count - 1, min(EVALUATION_WINDOWS, count)).long().to(self.device)
        return self._loss(self.held_out, chosen, None)[1]

    def _loss(self, windows: Windows, chosen: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Metrics]:
        observations, actions, shown = windows.gather(chosen)
        config, weight = self.recipe.loss, 1.0
        if generator is not None and ranks.count() > 1:
            # these two are means over what is shown, of which the ranks have more or less
            weight = ranks.count() * float(shown.sum() / ranks.total(shown.sum()).clamp(min=1))
            config = replace(
                config, policy_weight=weight * config.policy_weight, prior_weight=weight * config.prior_weight
            )
        loss, metrics = skimo_loss(
            self.model,
            self.target_encoder,
            config,
            observations,
            actions,
            shown,
            noise_O=self.noise_O,
            generator=generator,
        )
        if weight != 1.0:
            metrics |= {name: weight * metrics[name] for name in ("action_mse", "prior_kl")}
        return loss, metrics

    def _set_learning_rate(self, progress: float) -> None:
        warm_up = min(1.0, (self.update + 1) / WARM_UP_UPDATES)
        anneal(self.optimizer, self.config.learning_rate, progress if self.config.cosine else 0.0, warm_up=warm_up)

    def save(self, run: Path, *, extra: dict[str, Tensor] | None = None, **state: Any) -> None:
        """Write the checkpoint, with further JSON state and tensors by name; rank 0 does."""
        if not ranks.first():
            return
        save_checkpoint(
            run,
            modules={"model": self.model, "target": self.target_encoder},
            optimizer=self.optimizer,
            generators={"train": self.generator},
            state={
                "update": self.update,
                "elapsed_s": self.elapsed_s,
                "device": self.device.type,
                "recipe": self.recipe.to_dict(),
                **state,
            },
            extra=extra,
        )

    def start_from(self, run: Path) -> dict[str, Any]:
        """Begin with the weights, and the normalisation, of another run instead of random ones; returns its JSON state.

        A recipe with `model.reach` may begin with a run without it: what was learned is kept, and bodies are read too.

        Raises:
            SpecError: it has other networks.
        """
        tensors, state = read_checkpoint(run)
        mine, its = self.recipe.model, Recipe.from_dict(state["recipe"]).model
        sees_more = mine.reach and not its.reach
        if name := mine.unlike(replace(its, reach=True, bodies=mine.bodies) if sees_more else its):
            theirs, ours = getattr(its, name), getattr(mine, name)
            raise SpecError(f"{run.name}: model {name} is {theirs}, this recipe has {ours}; use its recipe")
        for network, prefix in ((self.model, "model"), (self.target_encoder, "target")):
            weights = part(tensors, prefix)
            if sees_more:
                weights = seeing_bodies(weights, network.state_dict(), mine.observation)
            load_weights(network, weights, run)
        self._normalise()
        return state

    def load(self, run: Path) -> dict[str, Any]:
        """Go on from a checkpoint; returns its JSON state. Made on another device, it goes on with other draws.

        Raises:
            SpecError: it was made with another recipe, or by another version.
        """
        tensors, state = read_checkpoint(run)
        if Recipe.from_dict(state["recipe"]) != self.recipe:
            raise SpecError(f"{run.name}: was begun with other settings; resume with the same, or choose another --out")
        load_weights(self.model, part(tensors, "model"), run)
        load_weights(self.target_encoder, part(tensors, "target"), run)
        restore_adam(self.optimizer, tensors)
        self.update, self.elapsed_s = int(state["update"]), float(state["elapsed_s"])
        if state["device"] == self.device.type:
            self.generator.set_state(tensors["rng/train"])
        else:
            self.generator.manual_seed(self.config.seed + self.update)
        return state


def pretrain(
    trainer: Pretrainer, run: Path, *, minutes: float | None = None, state: dict[str, Any] | None = None
) -> None:
    """Train to the end of the recipe's updates or, if sooner, of `minutes` (the learning rate then follows the clock).

    Begins at `trainer.update`, appends to RUN/metrics.jsonl what is newer, and leaves a checkpoint.
    """
    config, state = trainer.config, state or {}
    budget_s = math.inf if minutes is None else 60.0 * minutes
    metrics_path = run / "metrics.jsonl"
    _drop_newer(metrics_path, trainer.update)
    bar = tqdm(
        total=config.updates,
        initial=trainer.update,
        unit="update",
        mininterval=2.0,
        desc="pre-training",
        disable=not ranks.first(),
    )
    before = time.monotonic()
    with bar, open(metrics_path, "a", encoding="utf-8") as log:
        while trainer.update < config.updates and trainer.elapsed_s < budget_s:
            progress = max(trainer.update / config.updates, trainer.elapsed_s / budget_s)
            metrics = trainer.step(progress)
            now = time.monotonic()
            trainer.elapsed_s, before = ranks.number_of_first(trainer.elapsed_s + now - before), now
            bar.update()
            last = trainer.update == config.updates
            if last or trainer.update % config.log_every == 0:
                row = _log(log, "train", trainer, metrics)
                bar.set_postfix({k: f"{row[k]:.3g}" for k in ("loss", "action_mse", "kl", "consistency")})
            if last or trainer.update % config.evaluate_every == 0:
                _log(log, "held_out", trainer, trainer.evaluate())
            if trainer.update % config.checkpoint_every == 0:
                trainer.save(run, **state)
    trainer.save(run, **state)


def can_resume(run: Path) -> bool:
    """Whether a run folder holds a checkpoint."""
    return (run / CHECKPOINT).is_file()


def _log(log: Any, kind: str, trainer: Pretrainer, metrics: Metrics) -> dict[str, float]:
    row = {name: float(value) for name, value in metrics.items()}
    if not math.isfinite(row["loss"]):
        raise SpecError(
            f"the loss is {row['loss']} after {trainer.update} updates; lower pretrain.learning_rate or clean the data"
        )
    entry = {"kind": kind, "update": trainer.update, "elapsed_s": round(trainer.elapsed_s, 3), **row}
    log.write(json.dumps(entry, sort_keys=True) + "\n")
    log.flush()
    return row


def _drop_newer(path: Path, update: int) -> None:
    """Forget metrics logged after the checkpoint that a run goes on from, and a line that its writer died over."""
    if path.is_file():
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        lines = [line for line in whole if json.loads(line)["update"] <= update]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
