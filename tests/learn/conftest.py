"""Small episodes with something to learn: a point that actions push, and an object that it drags along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from skimo_core.domain.domain import Domain, load_domain
from skimo_learn.data import EpisodeSet
from skimo_learn.recipes import Recipe, smoke

STEPS = 80
EPISODES = 10
HOLD = 40


def make_arrays(seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Observations [T + 1, 30] and actions [T, 9] of rank 2: joints integrate them, kettle and microwave follow."""
    rng = np.random.default_rng(seed)
    mixing = rng.uniform(-1.0, 1.0, (2, 9))
    observations, actions = [], []
    for _ in range(EPISODES):
        action = np.zeros((STEPS, 9), np.float32)
        for start in range(0, STEPS, HOLD):
            action[start : start + HOLD] = 0.45 * rng.uniform(-1.0, 1.0, 2) @ mixing
        observation = np.zeros((STEPS + 1, 30), np.float32)
        observation[1:, :9] = np.cumsum(0.1 * action, axis=0)
        observation[:, 24] = 0.3 + 0.4 * np.clip(np.abs(observation[:, 0]), 0.0, 1.0)
        observation[:, 22] = -0.7 * np.clip(2.0 * np.abs(observation[:, 1]), 0.0, 1.0)
        observations.append(observation)
        actions.append(action)
    return observations, actions


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def episodes() -> EpisodeSet:
    return EpisodeSet.from_arrays(*make_arrays(), source="play")


@pytest.fixture(scope="session")
def domain() -> Domain:
    return load_domain()


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    base = smoke()
    return replace(base, pretrain=replace(base.pretrain, threads=1))
