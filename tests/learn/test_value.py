"""The goal value: its targets are what play did, and it learns them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from skimo_core.domain.domain import Domain
from skimo_core.domain.tasks import Subtask
from skimo_learn.data import EpisodeSet
from skimo_learn.models.agent import SkillModel
from skimo_learn.recipes import Recipe
from skimo_learn.value import UNKNOWN, discounted_times, prepare, train_value


def test_targets_are_discounted_waits_with_the_end_unknown() -> None:
    observation = np.zeros((11, 30), np.float32)
    observation[6:8, 22] = 1.0
    episodes = EpisodeSet.from_arrays([observation], [np.zeros((10, 9), np.float32)])
    subtask = Subtask(name="microwave", channels=(22,), goal=(1.0,), threshold=0.3)
    target = discounted_times(episodes, [subtask], discount=0.5, censor_steps=2)[:, 0].tolist()
    assert target[:9] == pytest.approx([0.5**6, 0.5**5, 0.5**4, 0.5**3, 0.25, 0.5, 1.0, 1.0, 0.0])
    assert target[9:] == [UNKNOWN, UNKNOWN]


def test_it_learns_from_play_and_leaves_the_rest_alone(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    torch.manual_seed(0)
    model = SkillModel(recipe.model)
    model.fit_normalisation(episodes.observations_RO)
    before = {n: p.clone() for n, p in model.named_parameters() if not n.startswith("value.")}
    config = replace(recipe.value, updates=400, batch=32, skills=2, censor_steps=10)
    curve = train_value(model, episodes, list(domain.subtasks.values()), config)
    assert curve[-1]["value_loss"] < 0.4
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)
    subtask = domain.subtasks["microwave"]
    data = prepare(model, episodes, [subtask], config)
    done = data.targets_RK[:, 0] == 1.0
    far = data.targets_RK[:, 0] == 0.0
    assert done.any() and far.any()
    goal, mask = (a.expand(len(data.latents_RD), -1) for a in (data.goals_KO, data.masks_KO))
    value = model.goal_value(data.latents_RD, goal, mask).detach()
    assert float(value[done].mean()) > float(value[far].mean()) + 0.2
