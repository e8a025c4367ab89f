"""The joint pre-training objective: SkiMo (Shi et al. 2022) equations 2 to 5 over a window of N skills.

    skill   weight * action error of the skill policy under z_i ~ q(segment i)  +  kl_weight * KL(q || N(0, 1))
    model   reconstruction of encoded states  +  weight * sum_i rho^i |h_{i+1} - target_encoder(s_{i+1})|^2
            with h_0 = encoder(s_0), h_{i+1} = D(h_i, z_i): gradients run through all N skills, and through z_i
            into the skill encoder
    prior   KL( stop_gradient(q_i) || prior(encoder(s_i)) )

Where the paper and its code differ, or where we add something, there is a named option. Observations are normalised.
Segments in which a policy acted, and nobody showed how it is done, teach the model and the skill encoder what comes of
them: neither the skill policy nor the prior learns from those.

Dimensions: B windows, N skills, H skill horizon, W = N H + 1 states, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from skimo_core.contract.errors import SpecError

from .models import normal
from .models.agent import SkillModel

ACTION_BOUND = 0.999  # before atanh
CONSISTENCY_CLIP = 1e4

Metrics = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights and forms of the losses.

    Attributes:
        kl_weight: of KL(q || N(0, 1)) in nats: how compact the skill space is. The first thing to tune.
        policy_weight: of the action error (SkiMo table 2: 2).
        reconstruction_weight: of encoded latents.
        predicted_weight: of the reconstruction of PREDICTED latents, weighted rho^i (0: as the paper).
        consistency_weight: of latent consistency (code: 2).
        prior_weight: of the skill prior.
        rho: decay over the N skills of consistency (code: 0.5; paper: 1).
        decoder_loss: squared error summed over O (eq. 3), or Gaussian negative log-likelihood (code).
        action_loss: squared error of the mode averaged over A (code), or negative log-likelihood (eq. 2).
        joint: gradients from the dynamics into the skill encoder; False is the ablation "w/o joint training".
        prior_trains_encoder: gradients from the prior's loss into the state encoder (code).
        share_by_skills: divide the model's gradient by N (code).
        policy_noise: uniform noise added to what the skill policy reads, in half widths of the domain's observation
            noise; a recording is already noisy, so this asks for more robustness than that.
        policy_steps: control steps drawn from each segment for the action error; 0 takes all H, as SkiMo does. Fewer
            cost less and estimate the same.
    """

    kl_weight: float = 1e-4
    policy_weight: float = 2.0
    reconstruction_weight: float = 1.0
    predicted_weight: float = 0.0
    consistency_weight: float = 2.0
    prior_weight: float = 1.0
    rho: float = 0.5
    decoder_loss: Literal["mse", "nll"] = "nll"
    action_loss: Literal["mse", "nll"] = "mse"
    joint: bool = True
    prior_trains_encoder: bool = True
    share_by_skills: bool = True
    policy_noise: float = 0.0
    policy_steps: int = 0

    def __post_init__(self) -> None:
        not_negative = "kl_weight", "policy_weight", "reconstruction_weight", "predicted_weight", "policy_noise"
        for name in (*not_negative, "policy_steps"):
            if getattr(self, name) < 0:
                raise SpecError(f"loss {name} is {getattr(self, name)}, must not be negative")
        if not 0 < self.rho <= 1:
            raise SpecError(f"loss rho is {self.rho}, must lie in (0, 1]")


def skimo_loss(
    model: SkillModel,
    target_encoder: nn.Module,
    config: LossConfig,
    observations_BWO: Tensor,
    actions_BNHA: Tensor,
    shown_BN: Tensor,
    *,
    noise_O: Tensor,
    generator: torch.Generator | None,
) -> tuple[Tensor, Metrics]:
    """The objective of a batch and its parts.

    Args:
        observations_BWO: normalised.
        shown_BN: whether every action of a segment shows how it is done.
        noise_O: half widths of the observation noise, normalised.
        generator: of all noise; None takes the modes instead (for evaluation).
    """
    batch, skills, horizon, _ = actions_BNHA.shape
    segments = observations_BWO[:, :-1].reshape(batch * skills, horizon, -1)
    actions = actions_BNHA.reshape(batch * skills, horizon, -1)

    features = model.features(segments)
    mean, std = normal.split(model.skill_encoder(features, actions))
    skill = torch.tanh(mean if generator is None else mean + std * _standard(mean, generator))
    seen, executed = segments, actions
    if config.policy_steps and generator is not None:
        steps = torch.rand((len(segments), horizon), generator=generator, device=segments.device).argsort(1)[
            :, : config.policy_steps
        ]
        rows = torch.arange(len(segments), device=segments.device).unsqueeze(1)
        seen, executed, features = segments[rows, steps], actions[rows, steps], features[rows, steps]
    if config.policy_noise and generator is not None:
        spread = 2.0 * torch.rand(seen.shape, generator=generator, device=seen.device) - 1.0
        features = model.features(seen + spread * (config.policy_noise * noise_O))
    shown = shown_BN.reshape(-1).float()
    action_error, metrics = _action_error(model, config, features, skill, executed, shown)
    kl = normal.kl_standard(mean, std).mean()

    states = observations_BWO[:, ::horizon]
    skills_BNZ = skill.view(batch, skills, -1)
    latents, world_error, model_metrics = model_error(
        model, target_encoder, config, states, skills_BNZ if config.joint else skills_BNZ.detach()
    )

    known = latents[:, :-1].reshape(batch * skills, -1)
    prior_mean, prior_std = normal.split(
        model.prior_net(known if config.joint and config.prior_trains_encoder else known.detach())
    )
    prior_kl = _mean_of(normal.kl(mean.detach(), std.detach(), prior_mean, prior_std), shown)

    total = config.policy_weight * action_error + config.kl_weight * kl + config.prior_weight * prior_kl
    total = total + (world_error / skills if config.share_by_skills else world_error)
    metrics |= model_metrics | {"kl": kl.detach(), "prior_kl": prior_kl.detach(), "loss": total.detach()}
    return total, metrics


def _mean_of(values_S: Tensor, shown_S: Tensor) -> Tensor:
    """The mean over the segments that are shown."""
    return (values_S * shown_S).sum() / shown_S.sum().clamp(min=1.0)


def _action_error(
    model: SkillModel, config: LossConfig, features: Tensor, skill: Tensor, actions: Tensor, shown_S: Tensor
) -> tuple[Tensor, Metrics]:
    mean, std = model.policy_n(features, skill.unsqueeze(1).expand(-1, features.shape[1], -1))
    squared = _mean_of((torch.tanh(mean) - actions).square().mean((1, 2)), shown_S)
    metrics = {"action_mse": squared.detach()}
    if config.action_loss == "mse":
        return squared, metrics
    assert std is not None, "action_loss nll needs policy_std"
    before_tanh = torch.atanh(actions.clamp(-ACTION_BOUND, ACTION_BOUND))
    return -_mean_of(normal.log_density(mean, std, before_tanh).mean(1), shown_S), metrics


def model_error(
    model: SkillModel, target_encoder: nn.Module, config: LossConfig, states: Tensor, skills_BNZ: Tensor
) -> tuple[Tensor, Tensor, Metrics]:
    """Latents [B, N + 1, D] of the states, and the reconstruction and consistency losses."""
    latents = model.encode_n(states)
    reconstruction = _decoder_error(model, config, latents, states)
    with torch.no_grad():
        targets = target_encoder(model.with_hand(states[:, 1:]))
    members = len(model.dynamics.members)
    predicted = [latents[:, 0]] * members
    consistency = latents.new_zeros(())
    decoded = latents.new_zeros(())
    for i in range(skills_BNZ.shape[1]):
        predicted = model.dynamics.each(predicted, skills_BNZ[:, i])
        for latent in predicted:
            weight = config.rho**i / members
            consistency = consistency + weight * (latent - targets[:, i]).square().mean()
            if config.predicted_weight:
                decoded = decoded + weight * _decoder_error(model, config, latent, states[:, i + 1])
    total = (
        config.reconstruction_weight * reconstruction
        + config.consistency_weight * consistency.clamp(max=CONSISTENCY_CLIP)
        + config.predicted_weight * decoded
    )
    metrics = {"reconstruction": reconstruction, "consistency": consistency, "predicted": decoded}
    return latents, total, {name: value.detach() for name, value in metrics.items()}


def _decoder_error(model: SkillModel, config: LossConfig, latent: Tensor, states: Tensor) -> Tensor:
    """Summed over O, averaged over everything else."""
    mean, std = model.decode_n(latent)
    if config.decoder_loss == "mse":
        return (mean - states).square().sum(-1).mean()
    assert std is not None, "decoder_loss nll needs decoder_std"
    return -normal.log_density(mean, std, states).mean()


def _standard(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)
