"""What may go wrong on a candidate's way, one by one: nothing is lost, the incumbent goes on driving, and the reason is
named with what to do.

More of the same stands where it belongs: who is killed, and two at once, in test_killed.py, one watch in test_watch.py,
a ledger that is edited byte by byte in test_ledger.py, damaged recordings in test_driven.py and tests/learn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from promote.conftest import (
    NO_CANARY,
    NO_SHADOW,
    PASSED,
    TRIAL,
    Family,
    Robot,
    Run,
    decisions,
    files_of_at_most,
    fill,
    flown,
    id_of,
    unmoved,
)
from support.following import OBSERVATION_O, TASK, serving, until
from support.forged import forge, nan_weights
from support.policy_server import WAIT_S

from skimo_core.contract.errors import StoreError
from skimo_core.contract.specs import Named
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.link.client import PolicyClient
from skimo_promote import cli
from skimo_promote.pace import Pace
from skimo_promote.promotion import Promotion, PromotionConfig
from skimo_promote.shadow import ShadowConfig
from skimo_promote.store import INCUMBENT, SHADOW, Store
from skimo_promote.trial import TrialConfig
from skimo_server.bundle import Bundle, load_bundle, resolve_bundle, rewrite_bundle
from skimo_server.parity import unpack
from skimo_server.testing import make_bundle
from skimo_server.trial import answers

WORKBENCH = Path(__file__).parents[1] / "eval" / "workbench.yaml"


def edited(data: bytes, change: Callable[[onnx.ModelProto, dict[str, onnx.TensorProto]], None]) -> bytes:
    """A graph with its nodes or weights changed."""
    model = onnx.ModelProto.FromString(data)
    change(model, {tensor.name: tensor for tensor in model.graph.initializer})
    return model.SerializeToString(deterministic=True)


def made_of(parent: Bundle, folder: Path, graphs: Mapping[str, bytes]) -> Path:
    """A candidate that a parent's learner could have made, its recorded answers its own."""
    graphs = {**parent.graphs, **graphs}
    known = unpack(parent.parity, parent.manifest.sizes, parent.manifest.graphs)
    inputs = {name: value for name, value in known.items() if "." not in name}
    recorded = {**inputs, **answers(graphs, inputs)}
    rewrite_bundle(replace(parent, graphs=graphs), folder, recorded=recorded)
    return folder


# --- bundles that are broken, or somebody else's ------------------------------------------------------------------


def promoted(store: Store, bundle: Path, *more: str) -> int:
    """What `skimo promote` of a store without a robot says."""
    where = ["--store", str(store.folder), "--shadow.plans", "0", "--canary.episodes", "0", "--yes"]
    return cli.promote([str(bundle), *where, *more])


def test_nan_weights_stay_out(store: Store, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nan_weights(tmp_path / "nan", first)
    assert promoted(store, tmp_path / "nan") == 1
    said = capsys.readouterr().err
    assert "decode.onnx" in said and "non-finite weight; train it again" in said
    assert unmoved(store, first) and len(store.bundles()) == 1


NORMALISED = ("observation", "observations", "goal")
Statistics = tuple[np.ndarray, np.ndarray]


def normalised(data: bytes, change: Callable[[Statistics], Statistics]) -> bytes:
    """A graph with another mean and deviation."""

    def put(model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]) -> None:
        for sub in [node for node in model.graph.node if node.op_type == "Sub" and node.input[0] in NORMALISED]:
            div = next(node for node in model.graph.node if sub.output[0] in node.input)
            names = sub.input[1], div.input[1]
            for name, value in zip(names, change(tuple(numpy_helper.to_array(weights[n]) for n in names))):  # type: ignore[arg-type]
                weights[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))

    return edited(data, put)


@pytest.mark.parametrize("which", ["in one network", "for each other", "for another table's"])
def test_a_swapped_normalisation_is_refused(
    store: Store, robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    first, candidate = resolve_bundle("kitchen"), tmp_path / "candidate"
    store.promote(store.add(first).bundle_id, "test", {})
    parent = load_bundle(first)
    if which == "for another table's":
        graphs = {name: normalised(data, lambda s: (s[0] + 2.0 * s[1], s[1])) for name, data in parent.graphs.items()}
        assert not robot.promotion().run(store.add(made_of(parent, candidate, graphs)).bundle_id)
        words = "acts otherwise altogether; look at its data and its normalisation"
        assert words in robot.said[-1] and words in store.ledger.entries()[-1].why
    else:
        changed = ["skill_policy"] if which == "in one network" else list(parent.graphs)
        forge(candidate, first, {name: normalised(parent.graphs[name], lambda s: (s[1], s[0])) for name in changed})
        assert promoted(store, candidate) == 1
        words = {
            "in one network": "skill_policy.onnx: normalises its observations otherwise than encode.onnx; export",
            "for each other": "deviation of 0 or less; swapped with the mean?",
        }
        assert words[which] in capsys.readouterr().err
    assert unmoved(store, first)


@pytest.mark.parametrize("other", ["its name", "its channels"])
def test_another_domains_bundle_is_refused(store: Store, run: Run, first: Path, tmp_path: Path, other: str) -> None:
    ours, bench = load_domain(), load_domain(WORKBENCH)
    its = bench if other == "its channels" else ours
    named = bench.named if other == "its channels" else Named(name="scullery", digest="5" * 64)
    make_bundle(tmp_path / "other", observation=its.observation, action=its.action, domain=named)
    drives, said = run(tmp_path / "other", any_parent=True)
    why = (
        "its observation is another"
        if other == "its channels"
        else f"its domain is another than the incumbent's ({named}"
    )
    assert not drives and why in said[-1] and "give it a store of its own (--store)" in said[-1]
    assert unmoved(store, first) and decisions(store, tmp_path / "other") == ["added", "refused"]


def test_a_bundle_that_the_incumbent_is_no_parent_of_is_refused(
    store: Store, run: Run, first: Path, family: Family
) -> None:
    for folder in (family.stranger, family.grandchild):  # of nobody's; of a bundle that never drove
        drives, said = run(folder)
        assert not drives and f"not from the incumbent {id_of(first)[:12]} (--any-parent allows it)" in said[-1]
        assert "learn on from the incumbent" in said[-1] and unmoved(store, first)


# --- candidates that look good -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"meddled": 5, "before_meddled": 2},
            "the gate interferes with 5.0% of its commands, of the incumbent's with 2.0%",
        ),
        ({"stops": 1}, "of its episodes end in a STOP, 0 of the incumbent's"),
    ],
)
def test_more_reward_for_more_than_twice_the_gates_interventions_is_refused(
    store: Store, run: Run, first: Path, family: Family, fields: dict[str, int], why: str
) -> None:
    flown(store, family.second, [4], against=first, before=[2], **fields)
    drives, said = run(family.second)
    assert not drives and why in said[-1] and "record more, learn on" in said[-1]
    assert unmoved(store, first)
    assert store.ledger.entries()[-1].evidence["difference"] == 2.0


@pytest.fixture
def booth(tmp_path: Path) -> Path:
    """A domain whose workspace ends 0.2 m beside the arm's foot."""
    (tmp_path / "booth.yaml").write_text(WORKBENCH.read_text().replace("cell: open", "cell: cell.yaml"))
    (tmp_path / "cell.yaml").write_text(
        "name: booth\nworkspace: {low_m: [-0.6, -0.2, -0.6], high_m: [1.0, 0.2, 1.3]}\nboxes: []\nplanes: []\n"
    )
    return tmp_path / "booth.yaml"


def steering(domain: Domain, folder: Path, left: float, parent: Bundle | None = None) -> Path:
    """A bundle that turns its first joint to the left whatever comes, and hardly moves otherwise."""

    def steer(model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]) -> None:
        weight, bias = [node for node in model.graph.node if node.op_type == "Gemm"][-1].input[1:]
        values = left * np.eye(1, domain.action.size, dtype=np.float32)[0]
        weights[bias].CopyFrom(numpy_helper.from_array(values, bias))
        weights[weight].CopyFrom(numpy_helper.from_array(0.02 * numpy_helper.to_array(weights[weight]), weight))

    source = folder.with_name(f"{folder.name}-source")
    robot = load_limits(domain.robot).named
    given = {"observation": domain.observation, "action": domain.action, "domain": domain.named, "robot": robot}
    make_bundle(source, skill_horizon=domain.horizon, **given)
    toy = load_bundle(source)
    made_of(toy, folder, {"skill_policy": edited(toy.graphs["skill_policy"], steer)})
    if parent is not None:
        rewrite_bundle(load_bundle(folder), folder.with_name("child"), parent_id=parent.manifest.bundle_id)
        return folder.with_name("child")
    return folder


def test_reward_hacked_by_leaving_the_workspace_is_refused(store: Store, run: Run, booth: Path, tmp_path: Path) -> None:
    """Really flown. Turning left earns a sub-task that the incumbent never gets, and goes on out of the workspace."""
    domain = load_domain(booth)
    first = steering(domain, tmp_path / "first", 0.0)
    hacker = steering(domain, tmp_path / "hacker", 1.0, load_bundle(first))
    trial = TrialConfig(domain=str(booth), task="look left,raise", batch=20, max_pairs=20, workers=2)
    assert run(first, trial=trial)[0]
    drives, said = run(hacker, trial=trial)
    assert not drives and "the gate interferes with 10.0% of its commands, of the incumbent's with 0.0%" in said[-1]
    assert "and promote what comes of that" in said[-1] and unmoved(store, first)
    evidence = store.ledger.entries()[-1].evidence
    assert evidence["difference"] == 1.0 and evidence["odds"] > 20.0  # better, and sure of it


def test_what_wins_in_the_twin_and_diverges_in_shadow_is_refused(
    store: Store, robot: Robot, first: Path, family: Family, tmp_path: Path
) -> None:
    """By a real server. Where channel 0 is above 5, which no recorded state is, it acts otherwise altogether."""

    def bend(model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]) -> None:
        (tanh,) = [node for node in model.graph.node if node.op_type == "Tanh"]
        pick, push = np.eye(OBSERVATION_O.size, 1), np.full((1, 9), 10.0)
        for name, value in (("pick", pick), ("edge", np.array([-5.0])), ("push", push)):
            model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        beyond = [
            helper.make_node("Gemm", ["observation", "pick", "edge"], ["over"]),
            helper.make_node("Relu", ["over"], ["beyond"]),
            helper.make_node("Gemm", ["beyond", "push"], ["pushed"]),
            helper.make_node("Add", [tanh.input[0], "pushed"], ["bent"]),
        ]
        index = list(model.graph.node).index(tanh)
        nodes = [*model.graph.node[:index], *beyond, *model.graph.node[index:]]
        tanh.input[0] = "bent"
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    parent = load_bundle(first)
    bent = made_of(parent, tmp_path / "bent", {"skill_policy": edited(parent.graphs["skill_policy"], bend)})
    candidate = store.add(bent).bundle_id
    flown(store, bent, [4], against=first, before=[2])
    store.folder.chmod(0o700)  # its server listens in it
    met_O = OBSERVATION_O.copy()
    met_O[0] = 6.0
    config = PromotionConfig(trial=TRIAL, shadow=ShadowConfig(plans=4), canary=NO_CANARY)
    promotion = Promotion(store, config, lambda words: True, robot.said.append, pace=Pace(poll_s=0.1))
    with serving(store.folder / INCUMBENT) as (_, address), PolicyClient(address) as client:
        client.connect(WAIT_S)
        goals = TASK.goals(0, OBSERVATION_O.size)
        drove: list[bool] = []
        promoter = threading.Thread(target=lambda: drove.append(promotion.run(candidate)))
        promoter.start()

        def planned() -> bool:
            plan = client.plan(met_O, goals, seed=0, warm_start_PZ=None, deadline_s=WAIT_S)
            return plan.bundle_id == id_of(first) and not promoter.is_alive()

        until(planned, "the promotion")
        promoter.join()
    assert drove == [False] and "acts otherwise altogether; record what the robot meets" in robot.said[-1]
    assert decisions(store, bent) == ["added", "fits", "sane", "simulated", "refused"]
    assert unmoved(store, first) and store.linked(SHADOW) == ""


# --- the store's disk, and its ledger ------------------------------------------------------------------------------


def test_a_disk_that_fills_up_in_mid_copy_adds_nothing(store: Store, first: Path, family: Family) -> None:
    with files_of_at_most(3000), pytest.raises(StoreError, match=r"can't be copied.*nothing was added: make room"):
        store.add(family.second)
    assert unmoved(store, first) and len(store.bundles()) == 1
    assert [path.name for path in (store.folder / "bundles").iterdir()] == [id_of(first)]
    assert store.add(family.second).bundle_id == id_of(family.second)


def test_on_a_full_disk_nothing_is_decided_and_with_room_it_goes_on(small_disk: Path, family: Family) -> None:
    store, config = Store(small_disk), PromotionConfig(trial=TRIAL, shadow=NO_SHADOW, canary=NO_CANARY)
    promotion = Promotion(store, config, lambda words: True, lambda words: None)
    assert promotion.run(store.add(family.first).bundle_id)
    second = store.add(family.second).bundle_id
    flown(store, family.second, [4], against=family.first, before=[2])
    filler = fill(small_disk)
    for _ in range(3):
        with pytest.raises(StoreError, match="make room"):
            promotion.run(second)
        with pytest.raises(StoreError, match="make room"):
            store.add(family.third)
    assert unmoved(store, family.first) and decisions(store, family.second) == ["added"]
    filler.unlink()
    assert promotion.run(second) and decisions(store, family.second) == PASSED


def test_a_link_that_cannot_be_made_leaves_the_incumbent_and_follows_later(
    store: Store, run: Run, first: Path, family: Family
) -> None:
    flown(store, family.second, [4], against=first, before=[2])
    blocked = store.folder / ".incumbent.new"
    blocked.mkdir()
    with pytest.raises(StoreError, match=r"incumbent can't be made: .*run this again"):
        run(family.second)
    assert store.linked(INCUMBENT) == id_of(first)
    blocked.rmdir()
    assert run(family.second)[0] and store.linked(INCUMBENT) == store.incumbent() == id_of(family.second)


def test_over_an_edited_ledger_nothing_is_decided(
    store: Store, robot: Robot, run: Run, first: Path, family: Family, capsys: pytest.CaptureFixture[str]
) -> None:
    flown(store, family.second, [4], against=first, before=[2])
    candidate = store.add(family.second).bundle_id
    lines = store.folder / "ledger.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole.replace(id_of(first).encode(), candidate.encode()))  # the candidate drives, it says
    with pytest.raises(StoreError, match=r"line 1 was changed; take the ledger from a backup"):
        robot.promotion().run(candidate)
    where = ["--store", str(store.folder)]
    assert promoted(store, family.second) == cli.rollback(where) == cli.ledger([*where, "--verify"]) == 1
    assert capsys.readouterr().err.count("take the ledger from a backup") == 3
    assert store.linked(INCUMBENT) == id_of(first) and list((store.folder / "bundles").iterdir())
    lines.write_bytes(whole)
    assert run(family.second)[0]
