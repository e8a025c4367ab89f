"""What goes on beside the gradient: the learning rate of a training of known length, and slow copies of networks."""

from __future__ import annotations

import math

import torch
from torch import nn

FINAL_SHARE = 0.01
"""Of the first learning rate, at the end of the cosine."""


def anneal(optimizer: torch.optim.Optimizer, learning_rate: float, progress: float, *, warm_up: float = 1.0) -> None:
    """Set the rate at `progress` in 0..1: on half a cosine from `learning_rate` down to FINAL_SHARE of it.

    Args:
        warm_up: share of it that holds at the beginning, 1 when that is over.
    """
    share = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    for group in optimizer.param_groups:
        rate = learning_rate * (FINAL_SHARE + (1.0 - FINAL_SHARE) * share) * warm_up
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def follow(slow: nn.Module, fast: nn.Module, keep: float) -> None:
    """Move a slow copy towards its network: of what it is it keeps this share."""
    old, new = ([p.detach() for p in net.parameters()] for net in (slow, fast))
    torch._foreach_lerp_(old, new, 1.0 - keep)
