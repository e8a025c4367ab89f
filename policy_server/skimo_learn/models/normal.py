"""Diagonal normals squashed by tanh, the distribution of skills everywhere in SkiMo.

A head gives 2 Z raw numbers; mean = 5 tanh(raw / 5) and std = exp(clip(raw, -10, 2)) + 1e-4 describe the normal
BEFORE the tanh, and skill = tanh(mean + std eps) lies in (-1, 1). tanh is a bijection that both arguments of a KL
divergence share, so the closed form of the two normals is the divergence of the skills, without sampling noise.

Dimensions: any leading ones, Z skill.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MEAN_BOUND = 5.0
LOG_STD_LOW, LOG_STD_HIGH = -10.0, 2.0
STD_FLOOR = 1e-4


def split(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [..., Z] of a head's output [..., 2 Z]."""
    mean, log_std = raw.chunk(2, dim=-1)
    return MEAN_BOUND * torch.tanh(mean / MEAN_BOUND), log_std.clamp(LOG_STD_LOW, LOG_STD_HIGH).exp() + STD_FLOOR


def kl(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor) -> Tensor:
    """KL(N(mean, std) || N(other_mean, other_std)) in nats, summed over Z; returns [...]."""
    ratio = (std / other_std).square()
    return 0.5 * (ratio + ((mean - other_mean) / other_std).square() - 1.0 - ratio.log()).sum(-1)


def kl_standard(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std) || N(0, 1)) in nats, summed over Z; returns [...]."""
    return 0.5 * (std.square() + mean.square() - 1.0 - 2.0 * std.log()).sum(-1)


def log_density(mean: Tensor, std: Tensor, value: Tensor) -> Tensor:
    """Log-density in nats of `value` under N(mean, std), summed over the last dimension."""
    return -0.5 * (((value - mean) / std).square() + 2.0 * std.log() + math.log(2.0 * math.pi)).sum(-1)
