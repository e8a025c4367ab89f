"""A whole run: interrupted anywhere, it goes on and ends with the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from skimo_core.domain.domain import Domain
from skimo_learn.data import EpisodeSet
from skimo_learn.export import load_run
from skimo_learn.recipes import Recipe
from skimo_learn.run import train_run


@pytest.mark.parametrize("part", ["refine_policy", "train_value"])
def test_a_run_interrupted_after_pre_training_goes_on_with_the_next_part(
    part: str, recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(recipe, value=replace(recipe.value, skills=1))
    train_run(short, domain, episodes, tmp_path / "whole")
    with monkeypatch.context() as broken:
        broken.setattr(f"skimo_learn.run.{part}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_run(short, domain, episodes, tmp_path / "broken")
    train_run(short, domain, episodes, tmp_path / "broken")
    whole, broken_off = (load_run(tmp_path / name).model.state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken_off[name]) for name in whole)


def interrupt(*args: object) -> None:
    raise KeyboardInterrupt
