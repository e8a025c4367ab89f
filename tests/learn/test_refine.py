"""Refining the skill policy: it imitates better, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from skimo_core.errors import SpecError
from skimo_core.tasks import Domain
from skimo_learn.data import EpisodeSet
from skimo_learn.pretrain import Pretrainer
from skimo_learn.recipes import Recipe
from skimo_learn.refine import RefineConfig, refine_policy


def test_it_imitates_better_and_leaves_the_rest_alone(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    train, held_out = episodes.split(0.2)
    learner = Pretrainer(replace(recipe, loss=replace(recipe.loss, kl_weight=1e-3)), domain, train, held_out)
    for i in range(60):
        learner.step(i / 60)
    before = float(learner.evaluate()["action_mse"])
    weights = {name: value.clone() for name, value in learner.model.state_dict().items()}
    curve = refine_policy(learner.model, train, RefineConfig(updates=400, batch=128, learning_rate=3e-3))
    assert curve[-1]["update"] == 400
    assert float(learner.evaluate()["action_mse"]) < 0.7 * before
    for name, value in learner.model.state_dict().items():
        assert torch.equal(value, weights[name]) != name.startswith("skill_policy."), name


def test_no_updates_change_nothing(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    learner = Pretrainer(recipe, domain, *episodes.split(0.2))
    weights = {name: value.clone() for name, value in learner.model.state_dict().items()}
    assert refine_policy(learner.model, episodes, RefineConfig()) == []
    assert all(torch.equal(value, weights[name]) for name, value in learner.model.state_dict().items())


@pytest.mark.parametrize("bad", [{"updates": -1}, {"batch": 0}, {"learning_rate": 0.0}])
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="refine"):
        RefineConfig(**bad)  # type: ignore[arg-type]
