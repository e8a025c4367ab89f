"""The loop of every part that is trained with all else frozen: so many updates of Adam, on half a cosine."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import ranks
from .device import Repeated, make_adam
from .schedule import anneal


def descend(
    loss: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    generator: torch.Generator,
    *,
    updates: int,
    learning_rate: float,
    title: str,
    every: int = 1000,
    capture: bool = True,
) -> list[tuple[int, float]]:
    """Train `parameters` where they are; returns (update, loss) every so many updates, and at the end.

    Args:
        loss: of a batch that it draws from `generator`; with several ranks, of this one's share (ranks.py).
        learning_rate: at the start.
        title: of the progress bar.
        capture: on CUDA, each update is one captured graph.
    """
    owned = list(parameters)
    optimizer = make_adam(owned, learning_rate)

    def once() -> Tensor:
        with ranks.drawing(generator):
            found = loss()
        optimizer.zero_grad(set_to_none=True)
        found.backward()
        found = found.detach()
        ranks.average([*(p.grad for p in owned if p.grad is not None), found])
        optimizer.step()
        return found

    curve, repeated = [], Repeated(once, generator, capture=capture)
    for update in tqdm(range(updates), unit="update", mininterval=2.0, desc=title, disable=not ranks.first()):
        anneal(optimizer, learning_rate, update / updates)
        found = repeated()
        if (update + 1) % every == 0 or update + 1 == updates:
            curve.append((update + 1, float(found)))
    return curve
