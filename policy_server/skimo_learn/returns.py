"""What a task's skills earn, and a policy over them: SkiMo's downstream phase (Shi et al. 2022, algorithm 3).

On windows of N skills, z the skill behind what was executed, r the sub-tasks completed in it,
    model    the losses of joint pre-training on encoder, dynamics and decoder, and
             sum_i rho^i (R(h_i, z_i) - r_i)^2 + (R(g_i, z_i) - r_i)^2, and the same of both critics towards
             y_i = r_i + discount (1 - d_i) min Q_slow(g_{i+1}, z'), z' ~ policy;  h predicted from h_0, g encoded
    policy   - sum_i rho^i min Q(g_i, z') + alpha KL(policy(g_i) || prior that was)
Skill encoder and skill policy stay: skills keep their meaning.

Differences to the paper and its code, on purpose: rewards of play and of a robot's episodes alike are told from what
was observed, so that play teaches a task's returns too; a sub-task counts as done at a window's start where its goal
holds there; the task's end, not that of an episode's time, is the end of returns; the policy improves at every latent
of a window, not at the first alone; skills are those behind what was executed, since an arm that was held back did
something else than was asked for. The prior goes on learning what was shown, so that it fits the encoder.

Dimensions: B windows, N skills, H skill horizon, R rows of all episodes, K sub-tasks, O observation, D latent, Z skill.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from skimo_core.contract.errors import SpecError
from skimo_core.domain.tasks import Subtask

from . import ranks
from .data import EpisodeSet
from .device import make_adam
from .hindsight import subtask_arrays
from .losses import LossConfig, model_error
from .models import normal
from .models.agent import SkillModel, TaskHeads
from .posterior import posteriors
from .returns_config import ReturnsConfig
from .schedule import anneal, follow


def learn_returns(
    model: SkillModel,
    episodes: EpisodeSet,
    subtasks: Sequence[Subtask],
    config: ReturnsConfig,
    loss: LossConfig,
    *,
    skills: int,
) -> list[dict[str, float]]:
    """Train `model` in place, where it and the episodes are; returns the curve, a row every hundredth of the updates.

    Args:
        subtasks: of the task, in order.
        loss: of the model.
        skills: N, of a window.

    Raises:
        SpecError: the model has no networks for it.
    """
    if not config.updates:
        return []
    if model.heads is None:
        raise SpecError("returns: the model has no reward, critics and task policy; set model.task_heads")
    learner = _Returns(model, model.heads, episodes, subtasks, config, loss, skills)
    curve, every = [], max(1, config.updates // 100)
    for update in tqdm(
        range(config.updates), unit="update", mininterval=2.0, desc="returns", disable=not ranks.first()
    ):
        row = learner.step(update / config.updates)
        if (update + 1) % every == 0 or update + 1 == config.updates:
            curve.append({"update": update + 1, **{name: float(value) for name, value in row.items()}})
    return curve


def with_heads(model: SkillModel, seed: int) -> SkillModel:
    """The model with networks for a task's returns, which know nothing yet; the policy begins as the prior."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wider = SkillModel(replace(model.config, task_heads=True))
    assert wider.heads is not None
    wider.load_state_dict({**wider.state_dict(), **model.state_dict()})
    wider.heads.policy.load_state_dict(model.prior_net.state_dict())
    return wider


def rewards(observations_BWO: Tensor, goals_KO: Tensor, weights_KO: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Sub-tasks [B, N] completed in each skill of windows of W = N H + 1 states, and whether none was left after it.

    In order, each once; those whose goals hold at a window's start count as done before it.
    """
    batch, states, _ = observations_BWO.shape
    off = (observations_BWO.unsqueeze(2) - goals_KO) * weights_KO
    holds_BWK = off.square().sum(-1) < 1.0
    holds_BWK = torch.cat([holds_BWK, torch.zeros_like(holds_BWK[..., :1])], dim=-1)  # of what comes after the last
    done_B = torch.zeros(batch, dtype=torch.long, device=off.device)
    counts = []
    for state in range(states):
        for _ in range(len(goals_KO)):
            done_B = done_B + holds_BWK[:, state].gather(1, done_B.unsqueeze(1)).squeeze(1).long()
        counts.append(done_B)
    done_BN = torch.stack(counts, 1)[:, ::horizon]
    return done_BN.diff(dim=1).float(), done_BN[:, 1:] == len(goals_KO)


class _Returns:
    """The state of this training, and its one update."""

    def __init__(
        self,
        model: SkillModel,
        heads: TaskHeads,
        episodes: EpisodeSet,
        subtasks: Sequence[Subtask],
        config: ReturnsConfig,
        loss: LossConfig,
        skills: int,
    ) -> None:
        self.model, self.heads, self.config, self.loss = model, heads, config, loss
        self.skills, self.horizon = skills, model.config.horizon
        observations = episodes.observations_RO
        device = observations.device
        self.observations_RO = observations
        self.normalised_RO = model.normalise(observations)
        self.shown_R = episodes.shown_R
        self.goals_KO, self.weights_KO = (a.to(device) for a in subtask_arrays(subtasks, observations.shape[1]))
        self.starts = episodes.windows(skills * self.horizon)
        _, self.means_RZ, self.stds_RZ = posteriors(model, episodes)
        self.slow_encoder = copy.deepcopy(model.encoder).requires_grad_(False)
        self.slow_critics = copy.deepcopy(heads.critics).requires_grad_(False)
        self.first_encoder = copy.deepcopy(model.encoder).requires_grad_(False)
        self.first_prior = copy.deepcopy(model.prior_net).requires_grad_(False)
        world = [*model.encoder.parameters(), *model.dynamics.parameters(), *model.decoder.parameters()]
        self.world = world if config.encoder_rate else []
        self.learned = [*heads.reward.parameters(), *heads.critics.parameters(), *model.prior_net.parameters()]
        self.actor = list(heads.policy.parameters())
        self.optimizers = [
            (make_adam(parameters, config.learning_rate * share), config.learning_rate * share)
            for parameters, share in ((self.world, config.encoder_rate), (self.learned, 1.0), (self.actor, 1.0))
            if parameters
        ]
        self.generator = torch.Generator(device=device).manual_seed(config.seed)
        self.batch = ranks.share(config.batch, "returns")
        self.updates = 0

    def step(self, progress: float) -> dict[str, Tensor]:
        """One update of the model and of the policy, both from what they were before it."""
        c = self.config
        for optimizer, rate in self.optimizers:
            anneal(optimizer, rate, progress)
            optimizer.zero_grad(set_to_none=True)
        with ranks.drawing(self.generator):
            told = self._gradients()
        owned = [p for parameters in (self.world, self.learned, self.actor) for p in parameters]
        ranks.average([*(p.grad for p in owned if p.grad is not None), *told.values()])
        for parameters in (self.world, self.learned, self.actor):
            if parameters:
                torch.nn.utils.clip_grad_norm_(parameters, c.clip_norm)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        self.updates += 1
        if self.updates % c.target_every == 0:
            follow(self.slow_encoder, self.model.encoder, c.target_keep)
            follow(self.slow_critics, self.heads.critics, c.target_keep)
        return told

    def _gradients(self) -> dict[str, Tensor]:
        """Those of a batch, left with the parameters; and what to tell of it."""
        rows_B = self.starts[
            torch.randint(len(self.starts), (self.batch,), generator=self.generator, device=self.starts.device)
        ]
        steps = rows_B.unsqueeze(1) + torch.arange(self.skills * self.horizon + 1, device=rows_B.device)
        reward_BN, ended_BN = rewards(self.observations_RO[steps], self.goals_KO, self.weights_KO, self.horizon)
        states = self.normalised_RO[steps][:, :: self.horizon]
        first = steps[:, : -1 : self.horizon]
        skills_BNZ = self._skills(first)

        latents, total, metrics = self._model_loss(states, skills_BNZ)
        returns, found = self._return_losses(latents, skills_BNZ, reward_BN, ended_BN)
        total = total + returns + self._prior_loss(latents, first)
        total.backward()
        known = latents.detach()[:, :-1].reshape(-1, latents.shape[-1])
        actor, told = self._actor_loss(known, states[:, :-1].reshape(len(known), -1))
        gradients = torch.autograd.grad(actor, self.actor)
        for parameter, gradient in zip(self.actor, gradients):
            parameter.grad = gradient
        return {**metrics, **found, **told}

    def _skills(self, first_BN: Tensor) -> Tensor:
        mean = self.means_RZ[first_BN]
        eps = torch.randn(mean.shape, generator=self.generator, device=mean.device)
        return torch.tanh(mean + self.stds_RZ[first_BN] * eps)

    def _model_loss(self, states: Tensor, skills_BNZ: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if not self.world:
            with torch.no_grad():
                return self.model.encode_n(states), states.new_zeros(()), {}
        return model_error(self.model, self.slow_encoder, self.loss, states, skills_BNZ)

    def _return_losses(
        self, latents: Tensor, skills_BNZ: Tensor, reward_BN: Tensor, ended_BN: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of reward and critics, on predicted latents weighted rho^i and on encoded ones."""
        c, heads = self.config, self.heads
        with torch.no_grad():
            following = latents[:, 1:].reshape(-1, latents.shape[-1])
            later = heads.least(self.slow_critics, following, self._sampled(following)).view_as(reward_BN)
            targets_BN = reward_BN + c.discount * torch.where(ended_BN, 0.0, later)
        predicted = latents[:, 0]
        reward_error = value_error = latents.new_zeros(())
        for i in range(self.skills):
            skill = skills_BNZ[:, i]
            for latent, weight in ((predicted, c.rho**i), (latents[:, i], 1.0)):
                both = torch.cat([latent, skill], dim=-1)
                reward_error = (
                    reward_error + weight * (heads.reward(both).squeeze(-1) - reward_BN[:, i]).square().mean()
                )
                for critic in heads.critics:
                    error = (critic(both).squeeze(-1) - targets_BN[:, i]).square().mean()
                    value_error = value_error + weight * error
            predicted = self.model.dynamics(predicted, skill)
        total = c.reward_weight * reward_error + c.value_weight * value_error
        told = {"reward": reward_error, "value": value_error, "return": targets_BN.mean()}
        return total, {name: value.detach() for name, value in told.items()}

    def _prior_loss(self, latents: Tensor, first_BN: Tensor) -> Tensor:
        """Of the skill prior on segments that are shown, as in joint pre-training."""
        within = first_BN.unsqueeze(-1) + torch.arange(self.horizon, device=first_BN.device)
        shown = self.shown_R[within].all(-1).float()
        mean, std = normal.split(self.model.prior_net(latents[:, :-1].detach()))
        divergence = normal.kl(self.means_RZ[first_BN], self.stds_RZ[first_BN], mean, std)
        return ranks.count() * (divergence * shown).sum() / ranks.total(shown.sum()).clamp(min=1.0)

    def _actor_loss(self, latent_BD: Tensor, states_BO: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the policy, over N B latents whose rho^i follow the order of a window's skills."""
        c = self.config
        weight = c.rho ** torch.arange(self.skills, device=latent_BD.device).repeat(len(latent_BD) // self.skills)
        mean, std = normal.split(self.heads.policy(latent_BD))
        eps = torch.randn(mean.shape, generator=self.generator, device=mean.device)
        value = self.heads.least(self.heads.critics, latent_BD, torch.tanh(mean + std * eps))
        with torch.no_grad():
            before = normal.split(self.first_prior(self.first_encoder(self.model.with_hand(states_BO))))
        divergence = normal.kl(mean, std, *before)
        loss = (weight * (c.prior_weight * divergence - value)).mean() * self.skills
        return loss, {"policy_value": value.mean().detach(), "policy_kl": divergence.mean().detach()}

    def _sampled(self, latent_BD: Tensor) -> Tensor:
        mean, std = normal.split(self.heads.policy(latent_BD))
        return torch.tanh(mean + std * torch.randn(mean.shape, generator=self.generator, device=mean.device))
