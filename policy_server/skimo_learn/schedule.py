"""The learning rate of a training of known length."""

from __future__ import annotations

import math

import torch


def anneal(optimizer: torch.optim.Optimizer, learning_rate: float, update: int, updates: int) -> None:
    """Set the rate for one of `updates`: on a cosine from `learning_rate` (+ 0.5 %) down to 0.5 % of it."""
    rate = learning_rate * 0.5 * (1.01 + math.cos(math.pi * update / updates))
    for group in optimizer.param_groups:
        group["lr"] = rate
