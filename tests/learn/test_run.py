"""A whole run: interrupted anywhere, it goes on and ends with the same weights; what can't be run is said in words."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import Domain
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_learn.cli import export, pretrain
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


def test_a_run_begins_with_anothers_weights_and_normalisation(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path
) -> None:
    train_run(recipe, domain, episodes, tmp_path / "first")
    still = replace(recipe, pretrain=replace(recipe.pretrain, updates=1, learning_rate=1e-9))
    moved = replace(episodes, observations_RO=episodes.observations_RO + 0.1)
    train_run(still, domain, moved, tmp_path / "second", start_from=tmp_path / "first")
    first, second = (load_run(tmp_path / name).model.state_dict() for name in ("first", "second"))
    for name in ("mean_O", "std_O"):
        assert torch.equal(first[name], second[name]), name
    torch.testing.assert_close(first["encoder.0.weight"], second["encoder.0.weight"])
    other = replace(recipe, model=replace(recipe.model, latent=8))
    with pytest.raises(SpecError, match=r"first: model latent is \d+, this recipe has 8; use its recipe"):
        train_run(other, domain, episodes, tmp_path / "third", start_from=tmp_path / "first")


def interrupt(*args: object, **settings: object) -> None:
    raise KeyboardInterrupt


# --- the command ----------------------------------------------------------------------------------------------------


def a_data_set(folder: Path, episodes: EpisodeSet, width: int = 30) -> Path:
    """The episodes as recordings that name nothing."""
    for e, (start, steps) in enumerate(zip(episodes.starts_E.tolist(), episodes.steps_E.tolist())):
        rows = slice(start, start + steps)
        episode = Episode(
            observations=episodes.observations_RO[start : start + steps + 1, :width].numpy(),
            actions=episodes.actions_RA[rows].numpy(),
            meta=EpisodeMeta(episode_id=f"e{e}", source="play"),
        )
        folder.mkdir(exist_ok=True)
        write_episode(folder / f"e{e}.mcap", episode)
    return folder


def refusal(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    assert pretrain(["--recipe", "smoke", *map(str, options)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("skimo pretrain: ") and said.count("\n") == 1
    return said


def test_what_doesn_t_fit_the_domain_is_said_in_words(
    episodes: EpisodeSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = a_data_set(tmp_path / "narrow", episodes, 12)
    whole = a_data_set(tmp_path / "whole", episodes)
    out = tmp_path / "run"
    said = refusal(capsys, "--data", narrow, "--out", out)
    assert "narrow: observations has width 12, this domain has 30" in said
    assert "float32 [rows, 30]" in refusal(capsys, "--data", whole, narrow, "--out", out)
    said = refusal(capsys, "--data", narrow, "--out", out, "--set", "model.observation=12")
    assert "model.observation is 12, the domain's is 30" in said
    said = refusal(capsys, "--data", whole, "--out", out, "--robot", "hal")
    assert "no robot 'hal'" in said
    assert not out.exists()


def test_a_recipe_of_another_domains_sizes_is_refused(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path
) -> None:
    for name, size in (("observation", 12), ("action", 4), ("horizon", 5)):
        other = replace(recipe, model=replace(recipe.model, **{name: size}))
        with pytest.raises(SpecError, match=rf"model {name} is {size}, domain 'kitchen' has"):
            train_run(other, domain, episodes, tmp_path / "run")


def test_an_out_that_can_t_be_written_is_said(
    episodes: EpisodeSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = a_data_set(tmp_path / "whole", episodes)
    (tmp_path / "file").write_bytes(b"x")
    for out in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        assert "choose another --out" in refusal(capsys, "--data", data, "--out", out)


@pytest.mark.parametrize("missing", ["torch", "safetensors", "tqdm"])
def test_without_torch_the_commands_say_what_to_install(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for command, options in (
        (pretrain, ["--data", str(tmp_path), "--out", str(tmp_path / "run")]),
        (export, ["--checkpoint", str(tmp_path), "--out", str(tmp_path / "b")]),
    ):
        assert command(options) == 1
        assert f"this needs {missing}: pip install 'skimo_policy_server[learn]'" in capsys.readouterr().err
