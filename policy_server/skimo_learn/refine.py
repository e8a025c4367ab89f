"""Refining the skill policy after joint pre-training: more of SkiMo's equation 2, with everything else frozen.

Joint pre-training is expensive per update (it runs through the skill encoder's LSTM and N skills of dynamics), and what
limits closed-loop execution on few cores is the skill policy's precision. So the posterior of every segment is computed
once, and the skill policy alone goes on: mean squared error of its mode against the executed action, at a random step
of a random segment, under z ~ q. Skill space, dynamics, prior and decoder stay as they are. Not part of SkiMo: ours.

With `perturbation_rad` the joints that the policy sees are moved, and the action it is to take leads back as well: the
actions are joint velocities, so what corrects a displacement is known. Executed skills then return to where play goes
instead of drifting from it (corrective labels: Ke et al., "CCIL: Continuity-based Data Augmentation for Corrective
Imitation Learning", ICLR 2024, who learn the dynamics that here are an integrator).

Dimensions: R rows of all episodes, B batch, H skill horizon, O observation, A action, Z skill.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skimo_core.contract.errors import SpecError
from skimo_core.contract.specs import ActionSpec

from . import ranks
from .data import EpisodeSet
from .descent import descend
from .models.agent import SkillModel
from .posterior import posteriors


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineConfig:
    """How long, how fast.

    Attributes:
        updates: gradient steps of Adam, with a cosine; 0 leaves the skill policy as joint pre-training made it.
        batch: single steps per update.
        learning_rate: at the start.
        seed: of sampling.
        perturbation_rad: standard deviation of what each joint is moved by; 0 for none.
        perturbed: share of the steps that are perturbed.
        return_s: time in which the corrected action would make up for all of it.
    """

    updates: int = 0
    batch: int = 1024
    learning_rate: float = 1e-3
    seed: int = 2
    perturbation_rad: float = 0.0
    perturbed: float = 0.5
    return_s: float = 0.4

    def __post_init__(self) -> None:
        if self.updates < 0 or self.batch < 1 or self.learning_rate <= 0:
            raise SpecError(
                f"refine: updates {self.updates} (>= 0), batch {self.batch} (>= 1), rate {self.learning_rate} (> 0)"
            )
        if self.perturbation_rad < 0 or not 0 <= self.perturbed <= 1 or self.return_s <= 0:
            raise SpecError(
                f"refine: perturbation_rad {self.perturbation_rad} (>= 0), perturbed {self.perturbed} (0 to 1), "
                f"return_s {self.return_s} (> 0)"
            )


def refine_policy(
    model: SkillModel, episodes: EpisodeSet, config: RefineConfig, action: ActionSpec, *, capture: bool = True
) -> list[dict[str, float]]:
    """Train `model.skill_policy` in place, where it and the episodes are; returns the curve (update, action_mse).

    Args:
        capture: on CUDA, each update is one captured graph.
    """
    if not config.updates:
        return []
    _, means_RZ, stds_RZ = posteriors(model, episodes)
    starts = episodes.windows(model.config.horizon, shown=True)
    device = starts.device
    generator = torch.Generator(device=device).manual_seed(config.seed)
    batch = ranks.share(config.batch, "refine")

    def loss() -> Tensor:
        start = starts[torch.randint(len(starts), (batch,), generator=generator, device=device)]
        row = start + torch.randint(model.config.horizon, start.shape, generator=generator, device=device)
        eps = torch.randn((batch, model.config.skill), generator=generator, device=device)
        skill = torch.tanh(means_RZ[start] + stds_RZ[start] * eps)
        seen, wanted = episodes.observations_RO[row], episodes.actions_RA[row]
        if config.perturbation_rad > 0:
            seen, wanted = perturb(seen, wanted, action, config, generator)
        with torch.no_grad():
            features = model.features(model.normalise(seen))
        return (torch.tanh(model.policy_n(features, skill)[0]) - wanted).square().mean()

    curve = descend(
        loss,
        model.skill_policy.parameters(),
        generator,
        updates=config.updates,
        learning_rate=config.learning_rate,
        title="skill policy",
        capture=capture,
    )
    return [{"update": update, "action_mse": error} for update, error in curve]


def perturb(
    observations_BO: Tensor, actions_BA: Tensor, action: ActionSpec, config: RefineConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Observations with some rows' joints moved, and the actions that lead back within `return_s` besides."""
    rows, joints = len(observations_BO), action.joints
    moved = config.perturbation_rad * torch.randn((rows, joints), generator=generator, device=generator.device)
    moved *= torch.rand((rows, 1), generator=generator, device=generator.device) < config.perturbed
    seen, wanted = observations_BO.clone(), actions_BA.clone()
    seen[:, :joints] += moved
    wanted[:, :joints] -= moved / (config.return_s * action.scale_rad_s)
    return seen, wanted.clamp(-1.0, 1.0)
