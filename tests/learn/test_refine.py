"""Refining the skill policy: it imitates better, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import Domain
from skimo_learn.data import EpisodeSet
from skimo_learn.pretrain import Pretrainer
from skimo_learn.recipes import Recipe
from skimo_learn.refine import RefineConfig, perturb, refine_policy


def test_it_imitates_better_and_leaves_the_rest_alone(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    train, held_out = episodes.split(0.2)
    learner = Pretrainer(replace(recipe, loss=replace(recipe.loss, kl_weight=1e-3)), domain, train, held_out)
    for i in range(60):
        learner.step(i / 60)
    before = float(learner.evaluate()["action_mse"])
    weights = {name: value.clone() for name, value in learner.model.state_dict().items()}
    config = RefineConfig(updates=400, batch=128, learning_rate=3e-3)
    curve = refine_policy(learner.model, train, config, domain.action)
    assert curve[-1]["update"] == 400
    assert float(learner.evaluate()["action_mse"]) < 0.7 * before
    for name, value in learner.model.state_dict().items():
        assert torch.equal(value, weights[name]) != name.startswith("skill_policy."), name


def test_no_updates_change_nothing(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    learner = Pretrainer(recipe, domain, *episodes.split(0.2))
    weights = {name: value.clone() for name, value in learner.model.state_dict().items()}
    assert refine_policy(learner.model, episodes, RefineConfig(), domain.action) == []
    assert all(torch.equal(value, weights[name]) for name, value in learner.model.state_dict().items())


def test_a_perturbed_arm_is_led_back_in_the_time_asked_for(domain: Domain, episodes: EpisodeSet) -> None:
    config = RefineConfig(perturbation_rad=0.03, perturbed=0.5, return_s=0.4)
    observations, actions = episodes.observations_RO[:2000], 0.5 * episodes.actions_RA[:2000]
    seen, wanted = perturb(observations, actions, domain.action, config, torch.Generator().manual_seed(0))
    moved = seen - observations
    joints = domain.action.joints
    assert torch.equal(moved[:, joints:], torch.zeros_like(moved[:, joints:]))
    assert moved[:, :joints].any(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert moved[:, :joints][moved.any(dim=1)].std().item() == pytest.approx(0.03, rel=0.05)
    inside = (wanted.abs() < 1.0)[:, :joints]
    velocity_rad_s = (wanted - actions)[:, :joints] * domain.action.scale_rad_s
    torch.testing.assert_close(velocity_rad_s[inside] * 0.4, -moved[:, :joints][inside], atol=1e-5, rtol=1e-4)
    assert wanted.abs().max() <= 1.0 and torch.equal(wanted[:, joints:], actions[:, joints:])


def test_corrections_bring_a_perturbed_arm_closer(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    train, held_out = episodes.split(0.2)
    errors = {}
    for perturbation_rad in (0.0, 0.3):
        learner = Pretrainer(recipe, domain, train, held_out)
        for i in range(60):
            learner.step(i / 60)
        config = RefineConfig(updates=600, batch=128, learning_rate=3e-3, perturbation_rad=perturbation_rad)
        refine_policy(learner.model, train, config, domain.action)
        asked = RefineConfig(perturbation_rad=0.3, perturbed=1.0)
        seen, wanted = perturb(
            held_out.observations_RO, held_out.actions_RA, domain.action, asked, torch.Generator().manual_seed(1)
        )
        with torch.no_grad():
            features = learner.model.features(learner.model.normalise(seen))
            skill = torch.zeros((len(seen), learner.model.config.skill))
            action = torch.tanh(learner.model.policy_n(features, skill)[0])
        errors[perturbation_rad] = (action - wanted).square().mean().item()
    assert errors[0.3] < 0.9 * errors[0.0], errors


@pytest.mark.parametrize(
    "bad",
    [
        {"updates": -1},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"perturbation_rad": -0.1},
        {"perturbed": 1.5},
        {"return_s": 0.0},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="refine"):
        RefineConfig(**bad)  # type: ignore[arg-type]
