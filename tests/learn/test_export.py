"""From a run to a bundle: the same bytes from anywhere, torch and ONNX agreed, nothing of the machine inside."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file

from skimo_core.contract.errors import BundleError, SpecError
from skimo_core.contract.specs import Named
from skimo_core.domain.bodies import bodies_of, objects_in_base
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits
from skimo_learn import cli
from skimo_learn.checkpoint import CHECKPOINT, read_checkpoint
from skimo_learn.data import PARITY_INPUTS, EpisodeSet, parity_inputs
from skimo_learn.export import (
    MOST,
    TOLERANCE,
    TrainedRun,
    allowances,
    export_bundle,
    load_run,
    measure_parity,
    parity_cases,
)
from skimo_learn.graphs import bundle_graphs
from skimo_learn.models.agent import ModelConfig, SkillModel
from skimo_learn.pretrain import Pretrainer
from skimo_learn.recipes import Recipe
from skimo_learn.repack import REFERENCE, repack
from skimo_learn.run import train_run
from skimo_server.bundle import FORMAT_2_GRAPHS, load_bundle
from skimo_server.graphs import parse_graph
from skimo_server.kinds import KINDS, SKIMO
from skimo_server.parity import pack, read_arrays
from skimo_server.planner_config import PlannerConfig
from skimo_server.testing import TASK_GRAPHS, TOY_GRAPHS, make_bundle

BODIES = tuple(body.position for body in bodies_of(load_domain("kitchen").observation))


@pytest.fixture(scope="module")
def run(recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which nobody changes."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    short = replace(recipe, value=replace(recipe.value, skills=1))
    report = train_run(short, domain, episodes, folder)
    assert set(report) >= {"actions", "prediction", "skills", "value"}
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_exports_to_the_same_bytes_from_two_directories(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a" / "bundles", tmp_path / "b"
    second.mkdir()
    assert cli.export(["--checkpoint", str(run), "--out", str(first), "--name", "small"]) == 0
    monkeypatch.chdir(run.parent)
    assert cli.export(["--checkpoint", run.name, "--out", str(second / "other")]) == 0
    one, two = files(first / "small"), files(second / "other")
    assert one == two
    for name, blob in one.items():
        for word in (str(tmp_path), str(run.parent), str(Path.home()), str(Path(cli.__file__).parent), "site-packages"):
            assert word.encode() not in blob, f"{name} holds {word}"
    manifest = load_bundle(first / "small").manifest
    assert set(manifest.parity["graphs"]) == set(manifest.graphs) == {*FORMAT_2_GRAPHS, "ensemble"}
    assert manifest.kind == SKIMO
    assert all(g["max_error"] <= TOLERANCE and g["inputs"] == PARITY_INPUTS for g in manifest.parity["graphs"].values())
    assert manifest.recipe["name"] == "smoke" and manifest.dataset_digests
    assert (manifest.domain, manifest.robot.name) == (load_domain().named, "panda") and manifest.robot.digest
    assert manifest.parity["reference"] == "torch"
    spec = manifest.policy_spec
    assert len(spec.low_O) == len(spec.high_O) == 30 and all(a <= b for a, b in zip(spec.low_O, spec.high_O))
    assert spec.low_O[24] >= 0.3 and spec.high_O[24] > spec.low_O[24]


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(latent=24, hidden=32, lstm=16, low_level_encoder=True, decoder_std=True, policy_std=True),
        ModelConfig(latent=24, hidden=32, lstm=16, low_level_encoder=False, residual=True, members=3),
        ModelConfig(latent=24, hidden=32, lstm=16, low_level_encoder=False, hand_pose=True),
        ModelConfig(latent=24, hidden=32, lstm=16, low_level_encoder=True, hand_pose=True),
        ModelConfig(latent=24, hidden=32, lstm=16, skill_encoder="mlp", low_level_encoder=True, hand_pose=True),
        ModelConfig(latent=24, hidden=32, lstm=16, low_level_encoder=False, hand_pose=True, reach=True, bodies=BODIES),
        ModelConfig(latent=24, hidden=32, lstm=16, skill_encoder="mlp", low_level_encoder=False, value_octaves=3),
    ],
)
def test_every_graph_of_every_variant_agrees_with_torch(
    config: ModelConfig, recipe: Recipe, episodes: EpisodeSet
) -> None:
    torch.manual_seed(0)
    model = SkillModel(config)
    model.mount(load_limits("panda"), objects_in_base(load_domain("kitchen")))
    model.fit_normalisation(episodes.observations_RO)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape))  # biases too
    inputs = parity_inputs(episodes, config.horizon)
    run = TrainedRun(
        model=model,
        recipe=recipe,
        state={},
        parity_observations_BHO=inputs["observations"],
        parity_actions_BHA=inputs["actions"],
    )
    graphs = bundle_graphs(model)
    for name, entry in measure_parity(parity_cases(run), graphs)["graphs"].items():
        assert entry["max_error"] <= TOLERANCE, name
    assert all(TOLERANCE <= allowed <= MOST for allowed in allowances(run, parity_cases(run)).values())
    session = ort.InferenceSession(graphs["encode"], providers=["CPUExecutionProvider"])
    single = session.run(None, {"observation": np.zeros((1, 30), np.float32)})
    assert np.asarray(single[0]).shape == (1, 24)


def test_a_bundle_names_the_robot_that_its_data_was_recorded_with(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fr3 = load_limits("fr3").named
    short = replace(recipe, value=replace(recipe.value, skills=1))
    train_run(short, domain, replace(episodes, robot=fr3), tmp_path / "run")
    export = ["--checkpoint", str(tmp_path / "run"), "--out"]
    assert cli.export([*export, str(tmp_path / "b")]) == 0
    assert load_bundle(tmp_path / "b").manifest.robot == fr3
    assert cli.export([*export, str(tmp_path / "c"), "--robot", "fr3"]) == 0
    assert cli.export([*export, str(tmp_path / "d"), "--robot", "panda"]) == 1
    said = capsys.readouterr().err
    assert "recorded with robot 'fr3' (digest " in said and "not 'panda' (digest " in said
    assert not (tmp_path / "d").exists()
    with pytest.raises(SpecError, match="begun with other data"):
        train_run(short, domain, episodes, tmp_path / "run")


def test_an_out_that_can_t_be_written_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for out in (tmp_path / "file", tmp_path / "file" / "b", Path("/proc/b")):
        assert cli.export(["--checkpoint", str(run), "--out", str(out)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("skimo export: ") and "choose another --out" in said and said.count("\n") == 1


def test_weights_of_another_model_are_refused_in_words(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModelConfig(latent=24)
    monkeypatch.setattr("skimo_learn.export.SkillModel", lambda config: SkillModel(other))
    with pytest.raises(SpecError, match=r"small/checkpoint\.safetensors: its weights are not those of its recipe"):
        load_run(run)


def test_an_export_that_disagrees_is_refused(
    run: Path, domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_run(run)
    graphs = bundle_graphs(loaded.model)
    with torch.no_grad():
        loaded.model.prior_net[0].bias.add_(0.01)
    monkeypatch.setattr("skimo_learn.export.bundle_graphs", lambda model: graphs)
    with pytest.raises(BundleError, match=r"prior\.onnx: differs from torch by"):
        export_bundle(loaded, tmp_path / "bundle", domain)
    assert not (tmp_path / "bundle").exists()


def test_an_unfinished_or_absent_run_is_refused(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Pretrainer(recipe, domain, *episodes.split(0.2)).save(tmp_path)
    with pytest.raises(SpecError, match="stopped at update 0 of 20"):
        load_run(tmp_path)
    assert cli.export(["--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "b")]) == 1
    assert "holds no checkpoint" in capsys.readouterr().err


def test_a_run_whose_value_knows_no_tolerances_is_not_exported(run: Path, tmp_path: Path) -> None:
    tensors, state = read_checkpoint(run)
    del state["ranges"]
    save_file(tensors, tmp_path / CHECKPOINT, metadata={"state": json.dumps(state)})
    with pytest.raises(SpecError, match="goal value reads no tolerances; train it again"):
        load_run(tmp_path)


def as_old(folder: Path, version: int) -> dict[str, Any]:
    """Rewrites a bundle as an older format had it, its goal value reading a mask, and returns the manifest."""
    raw = json.loads((folder / "manifest.json").read_bytes())
    if "goal_value.onnx" in raw["files"]:
        graph, arrays = parse_graph("goal_value", (folder / "goal_value.onnx").read_bytes()), files(folder)
        graph.graph.input[2].name = "mask"
        for node in graph.graph.node:
            node.input[:] = ["mask" if name == "weight" else name for name in node.input]
        (folder / "goal_value.onnx").write_bytes(graph.SerializeToString(deterministic=True))
        recorded = read_arrays(arrays["parity.npz"])
        asked = {"latent": recorded["encode.latent"], "goal": recorded["goals"]}
        recorded["masks"] = (recorded.pop("weights") > 0).astype(np.float32)
        session = ort.InferenceSession((folder / "goal_value.onnx").read_bytes(), providers=["CPUExecutionProvider"])
        recorded["goal_value.value"] = np.asarray(session.run(None, {**asked, "mask": recorded["masks"]})[0])
        (folder / "parity.npz").write_bytes(pack(recorded))
    raw["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in raw["files"]}
    for name in ("bundle_id", "ranges", *(("kind", "graphs", "state", "domain") if version == 2 else ())):
        del raw[name]
    raw["format_version"] = version
    if version == 2:
        raw["limits_digest"] = raw.pop("robot")["digest"]
    raw["bundle_id"] = hashlib.sha256(json.dumps(raw, sort_keys=True).encode() + b"\n").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(raw))
    return raw


@pytest.mark.parametrize("version", [2, 3])
def test_an_old_bundle_is_written_anew_with_its_graphs(
    version: int, episodes: EpisodeSet, domain: Domain, tmp_path: Path
) -> None:
    old, robot = Named(name="", digest="1" * 64), Named(name="panda", digest="2" * 64)
    make_bundle(tmp_path / "old", observation=domain.observation, action=domain.action, robot=old)
    raw = as_old(tmp_path / "old", version)
    with pytest.raises(BundleError, match=rf"format version {version}, .* `skimo export --repack old --out NEW`"):
        load_bundle(tmp_path / "old")
    made = repack(tmp_path / "old", tmp_path / "new", episodes=None, domain=domain, robot=robot)
    assert (made.kind, made.graphs, made.state) == (SKIMO, FORMAT_2_GRAPHS, {})
    anew = {"goal_value.onnx", "parity.npz"}  # which read masks
    assert made.parent_id == raw["bundle_id"]
    assert {name for name, digest in made.files.items() if digest != raw["files"][name]} == anew
    before, after = (read_arrays((tmp_path / name / "parity.npz").read_bytes()) for name in ("old", "new"))
    assert np.array_equal(before["masks"] > 0, after["weights"] > 0) and float(after["weights"].max()) > 1.0
    assert all(np.array_equal(before[name], after[name]) for name in set(before) & set(after))
    assert made.ranges == {} and made.policy_spec.low_O == ()
    assert (made.domain, made.robot) == (domain.named, robot)
    # once more, with other recorded inputs and for other limits
    made = repack(tmp_path / "old", tmp_path / "other", episodes=episodes, domain=domain, robot=robot)
    assert made.parity["reference"] == REFERENCE and made.parity["data"] == dict(episodes.digests)
    assert {name for name, digest in made.files.items() if digest != raw["files"][name]} == anew
    assert made.ranges == episodes.ranges()
    assert cli.export(["--repack", str(tmp_path / "other"), "--out", str(tmp_path / "newer")]) == 0
    newer = load_bundle(tmp_path / "newer").manifest
    assert newer.files == made.files and newer.parent_id == made.bundle_id
    assert newer.robot.digest not in ("", robot.digest)


def test_a_format_2_bundle_without_one_of_its_graphs_is_refused(domain: Domain, tmp_path: Path) -> None:
    make_bundle(tmp_path / "old", names=[name for name in TOY_GRAPHS if name != "prior"])
    as_old(tmp_path / "old", 2)
    with pytest.raises(BundleError, match="'files' must name exactly"):
        repack(tmp_path / "old", tmp_path / "new", episodes=None, domain=domain, robot=Named(name="", digest=""))


@pytest.mark.parametrize("names", [KINDS[SKIMO].required, (*TOY_GRAPHS, *TASK_GRAPHS)])
@pytest.mark.parametrize("recorded_anew", [False, True])
def test_repacking_keeps_the_kind_and_whatever_graphs_there_are(
    episodes: EpisodeSet, domain: Domain, tmp_path: Path, names: tuple[str, ...], recorded_anew: bool
) -> None:
    before = make_bundle(tmp_path / "old", observation=domain.observation, action=domain.action, names=names)
    given = episodes if recorded_anew else None
    made = repack(tmp_path / "old", tmp_path / "new", episodes=given, domain=domain, robot=Named(name="", digest=""))
    assert (made.kind, made.graphs) == (before.kind, before.graphs) and set(made.graphs) == set(names)
    changed = {name for name, digest in made.files.items() if digest != before.files[name]}
    assert changed == ({"parity.npz"} if recorded_anew else set())


def test_a_model_is_exported_with_the_graphs_that_are_made_of_it(
    run: Path, domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its parity; what none of them reads is not recorded."""
    loaded = load_run(run)
    lean = {name: data for name, data in bundle_graphs(loaded.model).items() if name in KINDS[SKIMO].required}
    monkeypatch.setattr("skimo_learn.export.bundle_graphs", lambda model: lean)
    made = export_bundle(loaded, tmp_path / "bundle", domain, planner=PlannerConfig(score="reward"))
    assert set(made.graphs) == set(made.parity["graphs"]) == set(lean)
    arrays = read_arrays((tmp_path / "bundle" / "parity.npz").read_bytes())
    assert {name for name in arrays if "." not in name} == {"observations", "skills"}


def test_a_bundle_is_not_repacked_for_a_domain_that_it_is_not_for(
    domain: Domain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(tmp_path / "old", observation=domain.observation, action=domain.action, skill_horizon=8)
    assert cli.export(["--repack", str(tmp_path / "old"), "--out", str(tmp_path / "new")]) == 1
    assert "its skills last 8 steps, kitchen's 10" in capsys.readouterr().err


def test_export_takes_a_run_or_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.export(["--out", str(tmp_path / "b")]) == 1
    assert cli.export(["--out", str(tmp_path / "b"), "--repack", "x", "--checkpoint", "y"]) == 1
    assert capsys.readouterr().err.count("give either --checkpoint") == 2
