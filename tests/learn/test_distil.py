"""One network answers as the ensemble does, and nothing else changes; a bundle holds both, and plans ask the one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from skimo_core.domain.domain import Domain
from skimo_learn.data import EpisodeSet
from skimo_learn.distil import DistilConfig, distil
from skimo_learn.export import export_bundle, load_run
from skimo_learn.pretrain import Pretrainer
from skimo_learn.recipes import Recipe
from skimo_learn.run import train_run
from skimo_server.bundle import load_bundle
from skimo_server.engine import Engine
from skimo_server.imagination import Imagination
from skimo_server.planner_config import PlannerConfig
from skimo_server.timing import Stages


def test_it_answers_as_the_ensembles_mean_and_leaves_the_rest_alone(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet
) -> None:
    model = Pretrainer(recipe, domain, *episodes.split(0.2)).model
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    curve = distil(model, episodes, DistilConfig(updates=300, batch=64, learning_rate=3e-3))
    latent = model.encode(episodes.observations_RO[:500])
    skill = torch.tanh(torch.randn((500, 10), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        wanted, moved = model.dynamics(latent, skill), (model.dynamics(latent, skill) - latent).square().mean().sqrt()
        off = (model.step(latent, skill) - wanted).square().mean().sqrt()
    assert curve[-1]["update"] == 300 and float(off) < 0.5 * float(moved)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]) != name.startswith("distilled."), name


def test_a_model_without_it_plans_with_the_ensemble(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    alone = replace(recipe, model=replace(recipe.model, distilled=False))
    model = Pretrainer(alone, domain, *episodes.split(0.2)).model
    assert distil(model, episodes, DistilConfig(updates=5)) == []
    latent, skill = model.encode(episodes.observations_RO[:4]), torch.zeros(4, 10)
    assert torch.equal(model.step(latent, skill), model.dynamics(latent, skill))


def test_plans_ask_the_one_network_and_the_ensemble_where_disagreement_counts(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path
) -> None:
    train_run(recipe, domain, episodes, tmp_path / "run")
    run = load_run(tmp_path / "run")
    export_bundle(run, tmp_path / "bundle", domain, planner=PlannerConfig())
    engine = Engine.load(load_bundle(tmp_path / "bundle"))
    latent_BD, skill_BZ = engine.encode(np.zeros((2, 30), np.float32)), np.full((2, 10), 0.3, np.float32)
    told, none = engine.dynamics(latent_BD, skill_BZ)
    exact, disagreement_B = engine.ensemble(latent_BD, skill_BZ)
    assert none is None and disagreement_B is not None and not np.allclose(told, exact)
    for weight, wanted in ((0.0, told), (0.5, exact)):
        config = replace(PlannerConfig(), disagreement_weight=weight)
        goals = domain.task().goals(0, 30)
        imagine = Imagination(engine, config, latent_BD[:1], goals, Stages())
        np.testing.assert_array_equal(imagine.step(latent_BD, skill_BZ)[0], wanted)
