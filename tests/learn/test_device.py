"""Devices: what isn't there is refused in words, a run moves between them, and a GPU gives what a CPU gives."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import Domain
from skimo_learn.cli import pretrain
from skimo_learn.data import EpisodeSet
from skimo_learn.device import Repeated, pick_device
from skimo_learn.hindsight import draw_goals, steps_until
from skimo_learn.losses import skimo_loss
from skimo_learn.pretrain import Pretrainer
from skimo_learn.recipes import Recipe
from skimo_learn.refine import refine_policy
from skimo_learn.run import train_run
from skimo_learn.value import prepare, train_value
from skimo_learn.value_config import ValueConfig

GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not GPU, reason="no GPU here")
ABSENT = "mcap", "mcap_ros2", "tyro", "msgpack", "zmq", "ruckig", "onnxruntime"


@pytest.mark.skipif(GPU, reason="there is one here")
def test_a_gpu_that_is_not_there_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SetupError, match=r"device is cuda, but torch .* finds no GPU here; use --device cpu"):
        pick_device("cuda")
    assert pretrain(["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--device", "cuda"]) == 1
    assert "finds no GPU here" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert pick_device("auto").type == "cpu"


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(SpecError, match="device is 'tpu', must be one of auto, cpu, cuda"):
        pick_device("tpu")
    assert pick_device("cpu").type == "cpu"


def test_training_from_arrays_needs_neither_recordings_nor_a_server() -> None:
    """The libraries for those may be missing where a run is driven by a script."""
    code = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); import skimo_learn.run, skimo_learn.overrides"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checkpoint_of_another_device_goes_on_with_other_draws(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path
) -> None:
    split = episodes.split(0.2)
    made = Pretrainer(recipe, domain, *split)
    made.step(0.0)
    made.save(tmp_path, device="cuda")
    went_on = Pretrainer(recipe, domain, *split)
    went_on.load(tmp_path)
    assert went_on.update == 1
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), went_on.model.parameters()))
    assert went_on.generator.initial_seed() == recipe.pretrain.seed + 1
    went_on.step(0.1)


@needs_gpu
def test_a_gpu_computes_what_a_cpu_computes(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    """Losses and gradients of the same batch without noise, and the steps until goals hold."""
    found = {}
    for name in ("cpu", "cuda"):
        train, held_out = (part.to(torch.device(name)) for part in episodes.split(0.2))
        t = Pretrainer(recipe, domain, train, held_out)
        batch = t.train.gather(torch.arange(8, device=name))
        loss, _ = skimo_loss(t.model, t.target_encoder, recipe.loss, *batch, noise_O=t.noise_O, generator=None)
        loss.backward()
        gradients = [p.grad.cpu() for p in t.parameters if p.grad is not None]
        data = prepare(t.model, train, domain)
        rows = torch.arange(0, 100, device=name)
        goals = draw_goals(data.goals, rows, 10, ValueConfig(), torch.Generator(device=name).manual_seed(0))
        found[name] = (loss.detach().cpu(), gradients, goals)
        if name == "cuda":
            here = prepare(t.model.cpu(), episodes.split(0.2)[0], domain)
            asked = replace(goals, **{k: getattr(goals, k).cpu() for k in ("values_BO", "weights_BO", "named_B")})
            there = steps_until(data.goals, rows, goals, [0, 10], data.longest).cpu()
            same = there == steps_until(here.goals, rows.cpu(), asked, [0, 10], here.longest)
            assert float(same.float().mean()) > 0.99  # but for rounding at the tolerance
    torch.testing.assert_close(found["cpu"][0], found["cuda"][0], rtol=1e-3, atol=1e-4)
    for a, b in zip(found["cpu"][1], found["cuda"][1], strict=True):
        assert float((a - b).norm()) < 0.02 * float(b.norm()) + 1e-4  # an LSTM is computed in TF32 there


@needs_gpu
def test_captured_updates_are_those_done_one_by_one(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    train, held_out = (part.to(torch.device("cuda")) for part in episodes.split(0.2))
    curves = []
    for capture in (False, True):
        t = Pretrainer(recipe, domain, train, held_out, capture=capture)
        losses = [float(t.step(i / 40)["loss"]) for i in range(40)]
        refined = refine_policy(t.model, train, replace(recipe.refine, updates=40), domain.action, capture=capture)
        valued = train_value(t.model, train, domain, replace(recipe.value, updates=40, skills=1), capture=capture)
        curves.append([*losses, refined[-1]["action_mse"], valued[-1]["value_loss"]])
    assert curves[1] == pytest.approx(curves[0], rel=0.05)


@needs_gpu
def test_a_whole_run_on_a_gpu_is_exported_on_a_cpu(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path
) -> None:
    from skimo_learn.export import export_bundle, load_run

    short = replace(recipe, value=replace(recipe.value, skills=1))
    train_run(short, domain, episodes, tmp_path / "run", device="cuda")
    export_bundle(load_run(tmp_path / "run"), tmp_path / "bundle", domain)


def test_each_call_is_one_update() -> None:
    calls = []

    def update() -> torch.Tensor:
        calls.append(1)
        return torch.ones(())

    repeated = Repeated(update, torch.Generator(), capture=True)
    assert float(repeated()) == 1.0 and float(repeated()) == 1.0 and len(calls) == 2
