"""The flat one-step dynamics: it learns, its training goes on after an interruption, its predictions line up."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import flat
from flat import predict_flat, predict_skills, train_flat
from skimo_core.contract.errors import SpecError
from skimo_learn.data import EpisodeSet
from skimo_learn.models.agent import SkillModel
from skimo_learn.recipes import Recipe


def test_training_goes_on_after_an_interruption_as_if_it_had_never_stopped(
    recipe: Recipe, episodes: EpisodeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(recipe.pretrain, updates=6, checkpoint_every=3)
    whole, save = tmp_path / "whole", flat.save_checkpoint

    def save_and_keep_the_first(run: Path, **parts: object) -> None:
        save(run, **parts)  # type: ignore[arg-type]
        if not (tmp_path / "half").exists():
            shutil.copytree(run, tmp_path / "half")

    monkeypatch.setattr(flat, "save_checkpoint", save_and_keep_the_first)
    through = train_flat(recipe.model, recipe.loss, config, episodes, steps=5, run=whole)
    resumed = train_flat(recipe.model, recipe.loss, config, episodes, steps=5, run=tmp_path / "half")
    for name, value in through.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    with pytest.raises(SpecError, match="other settings"):
        train_flat(recipe.model, recipe.loss, config, episodes, steps=4, run=whole)


def test_it_learns_and_predicts_a_row_for_every_skill(recipe: Recipe, episodes: EpisodeSet, tmp_path: Path) -> None:
    rows = episodes.windows(20)[:3].unsqueeze(1) + torch.arange(21)
    observations, actions = episodes.observations_RO[rows], episodes.actions_RA[rows[:, :-1]]

    def error(updates: int) -> float:
        config = replace(recipe.pretrain, updates=updates, learning_rate=3e-3)
        run = tmp_path / str(updates)
        model = train_flat(recipe.model, recipe.loss, config, episodes, steps=5, run=run)
        predicted = predict_flat(model, observations[:, 0], actions, 10)
        assert predicted.shape == (2, 3, 30)
        return float((predicted - observations[:, 10::10].transpose(0, 1)).square().mean())

    assert error(150) < 0.5 * error(1)
    skills = SkillModel(recipe.model)
    assert predict_skills(skills, observations, actions).shape == (20 // recipe.model.horizon, 3, 30)
