"""The loop: it learns, its target follows, it resumes as if it had never stopped, and its settings are checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import Domain
from skimo_learn.data import EpisodeSet
from skimo_learn.overrides import with_settings
from skimo_learn.pretrain import Pretrainer, pretrain
from skimo_learn.recipes import RECIPES, Recipe


def trainer(recipe: Recipe, domain: Domain, episodes: EpisodeSet, **settings: object) -> Pretrainer:
    recipe = replace(recipe, pretrain=replace(recipe.pretrain, **settings))
    return Pretrainer(recipe, domain, *episodes.split(0.2))


def curve(run: Path) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "elapsed_s"} for line in lines]


def test_it_fits_a_small_data_set(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    model = replace(recipe.model, latent=32, hidden=64, lstm=32, policy_hidden=64)
    recipe = replace(recipe, model=model, loss=replace(recipe.loss, kl_weight=1e-3))
    learner = trainer(recipe, domain, episodes, updates=400, batch=32, learning_rate=3e-3)
    first = learner.step(0.0)
    for i in range(1, 400):
        last = learner.step(i / 400)
    assert float(last["action_mse"]) < 0.15 * float(first["action_mse"])
    assert float(last["reconstruction"]) < 0.1 * float(first["reconstruction"])
    held_out = learner.evaluate()
    assert float(held_out["action_mse"]) < 0.25 * float(first["action_mse"])
    assert float(held_out["kl"]) > 1.0


def test_the_target_follows_at_its_rate(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    learner = trainer(recipe, domain, episodes, target_keep=0.9, target_every=2)
    before = [p.clone() for p in learner.target_encoder.parameters()]
    learner.step(0.0)
    assert all(torch.equal(b, p) for b, p in zip(before, learner.target_encoder.parameters()))
    learner.step(0.0)
    online = learner.model.encoder.parameters()
    for b, p, o in zip(before, learner.target_encoder.parameters(), online):
        assert torch.allclose(p, 0.9 * b + 0.1 * o, atol=1e-6)


def test_a_resumed_run_gives_the_same_curve_and_weights(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path
) -> None:
    runs = [tmp_path / "whole", tmp_path / "resumed"]
    for run in runs:
        run.mkdir()
    settings = {"updates": 20, "checkpoint_every": 8, "log_every": 2}
    whole = trainer(recipe, domain, episodes, **settings)
    pretrain(whole, runs[0])
    cut = trainer(recipe, domain, episodes, **settings)
    original = cut.step

    def failing(progress: float):
        if cut.update == 13:
            raise KeyboardInterrupt
        return original(progress)

    cut.step = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        pretrain(cut, runs[1])
    resumed = trainer(recipe, domain, episodes, **settings)
    resumed.load(runs[1])
    assert resumed.update == 8
    pretrain(resumed, runs[1])
    assert curve(runs[0]) == curve(runs[1])
    for a, b in zip(whole.model.parameters(), resumed.model.parameters()):
        assert torch.equal(a, b)


def test_a_run_of_other_settings_is_not_resumed(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path
) -> None:
    trainer(recipe, domain, episodes).save(tmp_path)
    other = replace(recipe, loss=replace(recipe.loss, kl_weight=0.5))
    with pytest.raises(SpecError, match="begun with other settings"):
        trainer(other, domain, episodes).load(tmp_path)


def test_minutes_end_a_run(recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path) -> None:
    learner = trainer(recipe, domain, episodes, updates=100_000)
    pretrain(learner, tmp_path, minutes=1e-3)
    assert 0 < learner.update < 100_000


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    made = RECIPES[name]()
    assert Recipe.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_settings_as_text_are_checked(recipe: Recipe) -> None:
    changed = with_settings(recipe, ("loss.rho=1.0", "model.members=3", "model.residual=false", "loss.kl_weight=1"))
    assert (changed.loss.rho, changed.model.members, changed.model.residual) == (1.0, 3, False)
    for part, settings in recipe.to_dict().items():
        if isinstance(settings, dict):  # no part is forgotten
            name, value = next(iter(settings.items()))
            assert with_settings(recipe, (f"{part}.{name}={value}",)) == recipe
    for bad, message in (
        ("model.observation=12", "model.observation is 12, the domain's is 30 and can't be set; name another --domain"),
        ("model.horizon=5", "the domain's is 10"),
        ("loss.rhoo=1", "unknown setting"),
        ("rho=1", "unknown setting"),
        ("model.members=x", "must be a int"),
        ("loss.rho", "name=value"),
        ("loss.rho=2", "rho"),
    ):
        with pytest.raises(SpecError, match=message):
            with_settings(recipe, (bad,))
