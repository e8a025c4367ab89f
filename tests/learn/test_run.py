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
from skimo_learn.export import export_bundle, load_run
from skimo_learn.models.hand import WIDTH, WIDTH_PER_BODY
from skimo_learn.pretrain import Pretrainer
from skimo_learn.recipes import Recipe, for_domain
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


def seeing(recipe: Recipe, domain: Domain) -> Recipe:
    """The same networks, which read where the kettle is from the hand besides."""
    return for_domain(replace(recipe, model=replace(recipe.model, reach=True)), domain)


def test_networks_that_see_bodies_besides_begin_with_what_was_learned_without(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path
) -> None:
    """Their answers are the same until they learn; then what they see counts."""
    train_run(recipe, domain, episodes, tmp_path / "first")
    first = load_run(tmp_path / "first").model
    more = seeing(recipe, domain)
    trainer = Pretrainer(more, domain, *episodes.split(2))
    trainer.start_from(tmp_path / "first")
    second = trainer.model.eval()
    observed, horizon = episodes.observations_RO, recipe.model.horizon
    segments = observed[: 4 * horizon].view(4, horizon, -1), episodes.actions_RA[: 4 * horizon].view(4, horizon, -1)
    with torch.no_grad():
        for rows in (observed[:7], observed[50:57]):
            torch.testing.assert_close(first.encode(rows), second.encode(rows))
            skills = torch.randn(7, recipe.model.skill)
            torch.testing.assert_close(first.act(rows, skills), second.act(rows, skills))
        for mine, its in zip(first.encode_skill(*segments), second.encode_skill(*segments)):
            torch.testing.assert_close(mine, its)
    kept = trainer.target_encoder.state_dict()["0.weight"]
    assert not kept[:, -WIDTH_PER_BODY:].any() and kept[:, :-WIDTH_PER_BODY].all()
    learned = train_run(more, domain, episodes, tmp_path / "second", start_from=tmp_path / "first")
    assert learned["updates"] == recipe.pretrain.updates
    columns = load_run(tmp_path / "second").model.state_dict()["encoder.0.weight"][
        :, recipe.model.observation + WIDTH :
    ]
    assert columns.shape[1] == WIDTH_PER_BODY and columns.abs().min() > 0.0
    with pytest.raises(SpecError, match="second: model reach is True, this recipe has False; use its recipe"):
        train_run(recipe, domain, episodes, tmp_path / "third", start_from=tmp_path / "second")


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


def test_a_run_begins_with_a_bundle_and_is_its_descendant(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, runs, bundle = (
        a_data_set(tmp_path / "data", episodes),
        [tmp_path / "first", tmp_path / "second"],
        tmp_path / "b",
    )
    train_run(for_domain(recipe, domain), domain, episodes, runs[0])
    parent = export_bundle(load_run(runs[0]), bundle, domain)
    still = ["--updates", "1", "--set", "pretrain.learning_rate=1e-9"]
    options = ["--recipe", "smoke", "--threads", "1", "--data", str(data), "--out", str(runs[1]), *still]
    assert pretrain([*options, "--start-from", str(bundle)]) == 0
    assert pretrain([*options, "--start-from", str(bundle)]) == 0  # it goes on, though nothing is left to do
    first, second = (load_run(run).model.state_dict() for run in runs)
    torch.testing.assert_close(first["dynamics.members.0.0.weight"], second["dynamics.members.0.0.weight"])
    assert export_bundle(load_run(runs[1]), tmp_path / "child", domain).parent_id == parent.bundle_id
    capsys.readouterr()
    nothing = refusal(capsys, "--data", data, "--out", tmp_path / "third", "--start-from", "nothing")
    assert "'nothing' is no run (checkpoint.safetensors is not there), and no bundle 'nothing'" in nothing
    other = refusal(capsys, "--data", data, "--out", tmp_path / "third", "--start-from", "table")
    assert "bundle table sees the channels of domain 'table'" in other and not (tmp_path / "third").exists()
