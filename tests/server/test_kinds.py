"""A bundle has the graphs of its kind: what it may lack it is served without, what it must not have is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.policy_server import running

from skimo_core.contract.errors import BundleError, SpecError
from skimo_core.contract.policy import FloatArray, Goals, Plan
from skimo_core.link.client import PolicyClient
from skimo_server import cli
from skimo_server.bundle import load_bundle, write_bundle
from skimo_server.graphs import SIGNATURES, check_graph
from skimo_server.inprocess import InProcessPolicy
from skimo_server.kinds import KINDS, SKIMO, check_agent
from skimo_server.parity import RECORDED, recorded_inputs
from skimo_server.planner import Planner
from skimo_server.planner_config import PlannerConfig, with_settings
from skimo_server.testing import GUARD_GRAPHS, TASK_GRAPHS, TOY_GRAPHS, make_bundle, toy_graphs, toy_recorded, toy_specs
from skimo_server.trial import MAX_RETURN, answers, try_graphs

SIZES = {"H": 10, "O": 30, "A": 9, "Z": 10, "D": 12}
REQUIRED, OPTIONAL = KINDS[SKIMO].required, KINDS[SKIMO].optional
LEARNED = ("proposer=task_policy", "score=learned_reward+learned_value")


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only what a bundle must have."""
    folder = tmp_path_factory.mktemp("lean") / "b"
    make_bundle(folder, names=REQUIRED)
    return folder


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a bundle may have."""
    folder = tmp_path_factory.mktemp("rich") / "b"
    make_bundle(folder, names=(*TOY_GRAPHS, *TASK_GRAPHS, *GUARD_GRAPHS))
    return folder


def plan(folder: Path, observation_O: FloatArray, goals: Goals, *settings: str) -> Plan:
    policy = InProcessPolicy.load(str(folder), settings=settings)
    first = policy.plan(observation_O, goals, seed=3, warm_start_PZ=None, deadline_s=60.0)
    return policy.plan(observation_O, goals, seed=4, warm_start_PZ=first.warm_start_PZ, deadline_s=60.0)


def assert_same(one: Plan, other: Plan) -> None:
    for name in ("skills_PZ", "warm_start_PZ", "predicted_PO"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.value, one.success_probability) == (other.value, other.success_probability)


def test_every_graph_of_every_kind_has_a_signature_and_no_other_has() -> None:
    assert {name for kind in KINDS.values() for name in (*kind.required, *kind.optional)} == set(SIGNATURES)


@pytest.mark.parametrize("settings", [(), ("proposals=gaussian",), ("proposals=mixed", "warm_start=mean")])
def test_a_bundle_without_optional_graphs_is_served(
    lean: Path, observation_O: FloatArray, goals: Goals, settings: tuple[str, ...]
) -> None:
    assert {p.name for p in lean.iterdir()} == {"manifest.json", "parity.npz", *(f"{n}.onnx" for n in REQUIRED)}
    policy = InProcessPolicy.load(str(lean), settings=settings)
    assert policy.engine.graphs == set(REQUIRED)
    with running(policy) as endpoint, PolicyClient(endpoint) as client:
        assert client.connect() == policy.spec
        there = client.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0)
        assert_same(there, policy.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0))
        again = client.plan(observation_O, goals, seed=5, warm_start_PZ=there.warm_start_PZ, deadline_s=30.0)
        assert np.abs(client.act(observation_O, again.skills_PZ[0], deadline_s=5.0)).max() <= 1


def test_a_bundle_with_all_graphs_is_served_by_what_it_learned(
    rich: Path, observation_O: FloatArray, goals: Goals
) -> None:
    policy = InProcessPolicy.load(str(rich), settings=LEARNED)
    assert policy.engine.graphs == {*REQUIRED, *OPTIONAL}
    with running(policy) as endpoint, PolicyClient(endpoint) as client:
        client.connect()
        there = client.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0)
        assert_same(there, policy.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0))
    assert not np.array_equal(there.skills_PZ, plan(rich, observation_O, goals).skills_PZ)


@pytest.mark.parametrize("settings", [(), ("score=reward+value", "proposals=mixed"), ("proposals=gaussian",)])
def test_graphs_that_no_setting_asks_for_change_no_plan(
    rich: Path, bundle_folder: Path, observation_O: FloatArray, goals: Goals, settings: tuple[str, ...]
) -> None:
    assert_same(plan(rich, observation_O, goals, *settings), plan(bundle_folder, observation_O, goals, *settings))


def test_without_a_goal_value_that_term_is_nothing(
    tmp_path: Path, bundle_folder: Path, observation_O: FloatArray, goals: Goals
) -> None:
    make_bundle(tmp_path / "b", names=[name for name in TOY_GRAPHS if name != "goal_value"])
    both = plan(tmp_path / "b", observation_O, goals, "score=reward+value")
    assert_same(both, plan(bundle_folder, observation_O, goals, "score=reward"))


@pytest.mark.parametrize("name", OPTIONAL)
def test_verify_tells_the_graphs_of_a_bundle_with_any_one_optional_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    manifest = make_bundle(tmp_path / "b", names=(*REQUIRED, name))
    assert manifest.graphs == tuple(sorted((*REQUIRED, name))) and manifest.kind == SKIMO
    assert cli.verify([str(tmp_path / "b")]) == 0
    assert f"kind skimo: {', '.join(manifest.graphs)}\n" in capsys.readouterr().out


def test_a_graph_that_is_not_there_can_t_be_asked(lean: Path) -> None:
    engine = InProcessPolicy.load(str(lean)).engine
    with pytest.raises(BundleError, match=r"has no skill_encoder\.onnx, only decode, dynamics, encode, skill_policy"):
        engine.encode_skill(np.zeros((1, 10, 30), np.float32), np.zeros((1, 10, 9), np.float32))


def test_inputs_that_no_graph_reads_are_not_recorded() -> None:
    assert recorded_inputs(REQUIRED) == {"observations", "skills"}
    assert recorded_inputs(("encode",)) == {"observations"}
    assert recorded_inputs(TOY_GRAPHS) == set(RECORDED)


SETTINGS = [
    ("goal_value", "score=value", "planner score is 'value', which asks for graph 'goal_value'"),
    ("reward", "score=reward+learned_reward", "score is 'reward.learned_reward', which asks for graph 'reward'"),
    ("value", "score=value+learned_value", "score is 'value.learned_value', which asks for graph 'value'"),
    ("task_policy", "proposer=task_policy", "proposer is 'task_policy', which asks for graph 'task_policy'"),
    ("prior", "surprise_weight=0.1", "surprise_weight is 0.1, which asks for graph 'prior'"),
]


@pytest.mark.parametrize(("name", "setting", "reason"), SETTINGS)
def test_a_setting_that_asks_for_a_missing_graph_is_refused_at_load(
    lean: Path, rich: Path, tmp_path: Path, name: str, setting: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given to a server, or written into a bundle."""
    with pytest.raises(SpecError, match=f"{reason}, .*or a bundle with {name}.onnx"):
        InProcessPolicy.load(str(lean), settings=[setting])
    assert cli.serve(["--bundle", str(lean), "--port", "0", "--planner", setting]) == 1
    assert f"asks for graph '{name}'" in capsys.readouterr().err
    planner = with_settings(PlannerConfig(score="reward"), [setting])
    with pytest.raises(BundleError, match=rf"manifest\.json: .*{reason}"):
        make_bundle(tmp_path / "b", names=REQUIRED, planner=planner)
    assert not list(tmp_path.iterdir())
    InProcessPolicy.load(str(rich), settings=[setting])


def rewrite(folder: Path, source: Path, change: Callable[[dict], object]) -> Path:
    """A copy with a changed manifest, whose id fits again."""
    shutil.copytree(source, folder)
    raw = json.loads((folder / "manifest.json").read_bytes())
    change(raw)
    raw.pop("bundle_id")
    raw["bundle_id"] = hashlib.sha256(json.dumps(raw, sort_keys=True).encode() + b"\n").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(raw))
    return folder


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(kind="dreamer"), "kind is 'dreamer', known are 'skimo'; export it as one of these"),
        (lambda m: m.update(kind=["skimo"]), "kind is a list"),
        (lambda m: m.pop("kind"), "field 'kind' is missing or unknown"),
        (lambda m: m["graphs"].remove("decode"), "graph 'decode' is missing, .* must have encode, dynamics, decode"),
        (lambda m: m["graphs"].append("witness"), "graph 'witness' is unknown, .* may have ensemble, prior"),
        (lambda m: m["graphs"].append("z" * 999), "graph 'z{79}[.]{3} is unknown"),
        (lambda m: m["graphs"].append("encode"), "graphs must be names in order, each once"),
        (lambda m: m["graphs"].append(7), "graphs must be names in order, each once"),
        (lambda m: m["graphs"].reverse(), "graphs must be names in order, each once"),
        (lambda m: m.update(graphs="encode"), "graphs is a str"),
        (lambda m: m.update(graphs=sorted([*m["graphs"], "value"])), "'files' must name exactly"),
        (lambda m: m["files"].update({"value.onnx": "0" * 64}), "'files' must name exactly"),
        (lambda m: m.update(state={"hidden": [200]}), r"state is {'hidden': \[200\]}, must be empty: no kind that rem"),
        (lambda m: m.update(state=[]), "state is a list"),
        (lambda m: m.pop("state"), "field 'state' is missing or unknown"),
    ],
)
def test_another_agent_than_the_kinds_know_is_refused(
    lean: Path, tmp_path: Path, change: Callable[[dict], object], reason: str
) -> None:
    with pytest.raises(BundleError, match=rf"^manifest\.json: .*{reason}"):
        load_bundle(rewrite(tmp_path / "b", lean, change))


def test_a_graph_file_that_the_manifest_does_not_name_is_refused(lean: Path, rich: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lean, tmp_path / "b"))
    shutil.copy(rich / "value.onnx", folder)
    with pytest.raises(BundleError, match=r"value\.onnx: is no part"):
        load_bundle(folder)


def test_what_the_kinds_refuse_is_not_written(tmp_path: Path) -> None:
    graphs = toy_graphs(SIZES)
    observation, action = toy_specs()
    given = {"recorded": toy_recorded(graphs, SIZES), "observation": observation, "action": action}
    sizes = {"skill_horizon": 10, "skill_dim": 10, "latent_dim": 12}
    with pytest.raises(BundleError, match="kind is 'dreamer'"):
        write_bundle(tmp_path / "b", graphs=graphs, kind="dreamer", **given, **sizes)
    with pytest.raises(BundleError, match="graph 'actor' is unknown"):
        write_bundle(tmp_path / "b", graphs={**graphs, "actor": graphs["decode"]}, **given, **sizes)
    check_agent(SKIMO, (*REQUIRED, *OPTIONAL), {})
    assert not list(tmp_path.iterdir())


def swollen(name: str, graphs: dict[str, bytes], factor: float) -> bytes:
    """The same graph with an output layer so many times as large."""
    model = onnx.ModelProto.FromString(graphs[name])
    weight = [t for t in model.graph.initializer if len(t.dims) == 2][-1]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", ["reward", "value"])
def test_returns_in_another_unit_are_refused(name: str) -> None:
    graphs = toy_graphs(SIZES, names=(*TOY_GRAPHS, *TASK_GRAPHS))
    inputs = {key: value for key, value in toy_recorded(graphs, SIZES).items() if "." not in key}
    try_graphs(graphs, {**inputs, **answers(graphs, inputs)}, 7)
    graphs[name] = swollen(name, graphs, 1e6)
    check_graph(name, graphs[name], SIZES)
    with pytest.raises(BundleError, match=rf"{name}\.onnx: {name} of the recorded inputs .* at most {MAX_RETURN:g}"):
        try_graphs(graphs, {**inputs, **answers(graphs, inputs)}, 7)


def negated(model: onnx.ModelProto) -> bytes:
    """The same graph whose deviations are negative."""
    last = next(node for node in model.graph.node if "std" in node.output)
    last.output[0] = "positive"
    model.graph.node.append(onnx.helper.make_node("Neg", ["positive"], ["std"]))
    return model.SerializeToString(deterministic=True)


def test_a_task_policy_is_vetted_as_the_prior_is() -> None:
    graphs = toy_graphs(SIZES, names=(*TOY_GRAPHS, *TASK_GRAPHS))
    inputs = {key: value for key, value in toy_recorded(graphs, SIZES).items() if "." not in key}
    graphs["task_policy"] = negated(onnx.ModelProto.FromString(graphs["task_policy"]))
    with pytest.raises(BundleError, match=r"task_policy\.onnx: output 'std' .* must be within 0 to inf"):
        answers(graphs, inputs)


def test_surprise_is_the_prior_s_alone(rich: Path) -> None:
    engine = InProcessPolicy.load(str(rich)).engine
    with pytest.raises(SpecError, match=r"surprise_weight is 0\.1, but proposer is task_policy"):
        Planner(engine, replace(engine.manifest.planner, proposer="task_policy", surprise_weight=0.1))
