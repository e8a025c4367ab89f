"""The maze's walls, from a seed, and the shortest ways between them.

The generator is that of SkiMo's maze (Shi et al. 2022, appendix on environments; Pertsch et al., "Accelerating
Reinforcement Learning with Learned Skill Priors", 2020), draw for draw: until a quarter of the cells are wall, a wall
of random orientation and of 0.3 to 0.5 sides is added where few walls are, with a door of one cell, whose four diagonal
neighbours become wall. One ring of wall stands around. SkiMo's maze is seed 0 of 40 cells.

Cells are squares of 1 m; cell (i, j) has its middle at x = i, y = j, the ring included: the inner ones are 1 .. size.
"""

from __future__ import annotations

import functools
import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array

Cells = npt.NDArray[np.bool_]
Cell = tuple[int, int]
DIAGONAL = float(np.sqrt(2.0))
BESIDE = 2
"""Cells on each side of a wall in which others are counted, and so the least way between it and the ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WallConfig:
    """How walls are drawn.

    Attributes:
        size: inner cells along each side.
        coverage: share of them that is wall at least.
        shortest, longest: of a wall, in sides.
        sharpness: how strongly a wall keeps off others: weights are exp(-sharpness * coverage around it).
    """

    size: int = 40
    coverage: float = 0.25
    shortest: float = 0.3
    longest: float = 0.5
    sharpness: float = 20.0

    def __post_init__(self) -> None:
        if not (self.size >= 10 and 0 < self.coverage < 0.5 and 0 < self.shortest <= self.longest <= 1):
            raise SpecError(
                f"walls: size {self.size} (at least 10), coverage {self.coverage} (above 0, below 0.5), lengths "
                f"{self.shortest} to {self.longest} sides (above 0, at most 1)"
            )


def draw_walls(seed: int = 0, config: WallConfig | None = None) -> Cells:
    """Where walls stand [size + 2, size + 2], the ring included."""
    config, rng = config or WallConfig(), np.random.default_rng(seed)
    inner = np.zeros((config.size, config.size), bool)
    while inner.mean() < config.coverage:
        upright = rng.random() < 0.5  # along the first axis
        _add_wall(inner if upright else inner.T, inner.shape[0], upright, config, rng)
    return np.pad(inner, 1, constant_values=True)


def _add_wall(cells: Cells, size: int, upright: bool, config: WallConfig, rng: np.random.Generator) -> None:
    """One wall along the first axis of `cells`, which are the maze's or, where not `upright`, their transpose."""
    length = max(int((config.longest - config.shortest) * size * rng.random() + config.shortest * size), 3)
    door = int(rng.choice(length - 2)) + 1
    covered = sliding_window_view(cells, (length, 2 * BESIDE + 1)).mean(axis=(2, 3))
    weights = np.exp(-config.sharpness * covered)
    weights = weights if upright else weights.T  # places are counted by the maze's own rows
    place = np.unravel_index(rng.choice(weights.size, p=(weights / weights.sum()).ravel()), weights.shape)
    along, across = (int(at) for at in (place if upright else place[::-1]))
    across += BESIDE
    cells[along : along + length, across] = True
    cells[along + door, across] = False
    for aside in (-1, 1):
        cells[along + door - 1, across + aside] = cells[along + door + 1, across + aside] = True


@functools.cache
def neighbours(i: int, j: int) -> tuple[tuple[Cell, float], ...]:
    """The eight cells around one, and how far they are."""
    around = ((di, dj) for di in (-1, 0, 1) for dj in (-1, 0, 1) if di or dj)
    return tuple(((i + di, j + dj), DIAGONAL if di and dj else 1.0) for di, dj in around)


def distances(walls: Cells, goal: Cell) -> Array:
    """The shortest way from each cell to `goal`, m [size + 2, size + 2]; infinite from walls and what they shut off.

    A way goes through cells' middles, straight or diagonally where neither corner beside it is wall.
    """
    far = np.full(walls.shape, np.inf)
    if walls[goal]:
        return far
    far[goal] = 0.0
    heap = [(0.0, goal)]
    while heap:
        done, (i, j) = heapq.heappop(heap)
        if done > far[i, j]:
            continue
        for (k, m), step in neighbours(i, j):
            if walls[k, m] or walls[i, m] or walls[k, j] or done + step >= far[k, m]:
                continue
            far[k, m] = done + step
            heapq.heappush(heap, (done + step, (k, m)))
    return far


def way(walls: Cells, far: Array, start: Cell) -> list[Cell]:
    """Cells from `start` down to where `far` (`distances`) is 0, both included; empty where there is no way."""
    if not np.isfinite(far[start]):
        return []
    cells = [start]
    while far[cells[-1]] > 0.0:
        i, j = cells[-1]
        ahead = [(far[k, m] + step, (k, m)) for (k, m), step in neighbours(i, j) if not (walls[i, m] or walls[k, j])]
        cells.append(min(ahead)[1])
    return cells


def connected(walls: Cells) -> Cells:
    """The largest set of free cells that are joined by ways."""
    left, largest = ~walls, np.zeros_like(walls)
    while left.any():
        first = np.argwhere(left)[0]
        found = np.isfinite(distances(walls, (int(first[0]), int(first[1]))))
        if found.sum() > largest.sum():
            largest = found
        left = left & ~found
    return largest
