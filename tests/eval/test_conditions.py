"""Evaluation under conditions: paired seeds, files that a person reads, reliability, random orders, comparison."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from skimo_core.contract.errors import SpecError
from skimo_core.domain import library
from skimo_core.domain.domain import load_domain
from skimo_eval import compare, evaluate
from skimo_eval.orders import mixed_orders, random_orders, tasks_of
from skimo_eval.report import write_report
from skimo_eval.results import dump, read_results
from skimo_eval.statistics import pooled, reliability, share_interval
from skimo_server.planner_config import PlannerConfig
from skimo_server.testing import make_bundle

CONDITIONS = "papers,encoders_2"
SEEDS = (5, 6)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that knows nothing, and the kitchen with short episodes."""
    folder = tmp_path_factory.mktemp("lab")
    domain = load_domain()
    planner = PlannerConfig(samples=16, elites=4, horizon=2)
    make_bundle(folder / "toy", observation=domain.observation, action=domain.action, planner=planner)
    words = library.find("domains", "kitchen").text
    (folder / "short.yaml").write_text(words.replace("step_limit: 280", "step_limit: 24"))
    return folder


def flown(lab: Path, *words: object) -> list[str]:
    argv = ["--bundle", lab / "toy", "--domain", lab / "short.yaml", "--task", "microwave,kettle", "--workers", 1]
    return [str(word) for word in (*argv, "--episodes", len(SEEDS), "--seed", SEEDS[0], *words)]


@pytest.fixture(scope="module")
def ran(lab: Path) -> Path:
    out = lab / "report"
    assert evaluate.main(flown(lab, "--condition", CONDITIONS, "--out", out)) == 0
    return out


@pytest.fixture
def results(ran: Path) -> dict[str, Any]:
    return read_results(ran / "conditions.json")


def test_the_same_seeds_are_flown_under_every_condition(results: dict[str, Any]) -> None:
    assert list(results["conditions"]) == CONDITIONS.split(",") and results["subtasks"] == 2
    for figures in results["conditions"].values():
        assert [e["seed"] for e in figures["episodes_detail"]] == list(SEEDS)
        assert all(e["task"] == ["microwave", "kettle"] for e in figures["episodes_detail"])
        bins = figures["reliability"]
        plans = sum(len(e["predicted_success"]) for e in figures["episodes_detail"])
        assert sum(b["count"] for b in bins) == plans == figures["planned_against_realised"]["plans"] > 0
        assert all(len(e["came_true"]) == len(e["predicted_success"]) for e in figures["episodes_detail"])
    both = [sum(b["count"] for b in f["reliability"]) for f in results["conditions"].values()]
    assert sum(b["count"] for b in results["reliability"]) == sum(both)
    one, other = (
        [e["predicted_success"] for e in figures["episodes_detail"]] for figures in results["conditions"].values()
    )
    assert one != other  # what the encoders say is what is planned with


def test_the_files_are_what_a_person_reads(ran: Path, lab: Path) -> None:
    table = (ran / "conditions.md").read_text()
    for name in CONDITIONS.split(","):
        assert f"| {name} | " in table
    assert "a joint calibration that is a degree off" in table and "seeds 5 to 6" in table
    for name in ("conditions.png", "reliability.png"):
        with Image.open(ran / name) as picture:
            assert picture.width > 500 and len(np.unique(np.asarray(picture))) > 20
    text = (ran / "conditions.json").read_text()
    assert str(lab) not in text and f"--condition {CONDITIONS}" in text


def test_one_condition_is_written_flat_and_read_alike(lab: Path, results: dict[str, Any]) -> None:
    path = lab / "one.json"
    assert evaluate.main(flown(lab, "--condition", "papers", "--json", path)) == 0
    one = read_results(path)
    assert one["condition"] == "papers" and one["subtasks_mean"] == results["conditions"]["papers"]["subtasks_mean"]
    detail = one["conditions"]["papers"]["episodes_detail"]
    assert [e["steps"] for e in detail] == [
        e["steps"] for e in results["conditions"]["papers"]["episodes_detail"]
    ]  # alone or among others


def test_a_condition_that_cannot_be_is_refused_before_anything_flies(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(flown(lab, "--condition", "papers,paper")) == 1
    assert "no condition 'paper'; there are" in capsys.readouterr().err
    bad = lab / "bad.yaml"
    bad.write_text("why: it has no fridge\njoints: {fridge: {friction: 2}}\n")
    assert evaluate.main(flown(lab, "--condition", f"papers,{bad}")) == 1
    said = capsys.readouterr()
    assert "the scene has no joint 'fridge'" in said.err and "episode" not in said.out
    assert evaluate.main(flown(lab, "--condition", str(bad))) == 1
    assert "the scene has no joint 'fridge'" in capsys.readouterr().err


def test_the_full_stack_hears_of_a_condition_in_each_node_s_words(tmp_path: Path) -> None:
    full_stack = pytest.importorskip("skimo_eval.full_stack", exc_type=ImportError)
    written = full_stack.write_parameters(tmp_path / "p.yaml", "noisy", load_domain())
    assert yaml.safe_load(written.read_text()) == {
        "/**": {"ros__parameters": {"condition": "noisy", "noise_factor": 3.0, "patience": 1.0}}
    }
    own = tmp_path / "own.yaml"
    own.write_text("why: because\nstarts: none\n")
    written = full_stack.write_parameters(tmp_path / "p.yaml", str(own), load_domain())
    assert yaml.safe_load(written.read_text())["/**"]["ros__parameters"]["condition"] == str(own)


# --- reliability -----------------------------------------------------------------------------------------------------


def test_plans_are_binned_by_what_they_predicted() -> None:
    bins = reliability([(0.0, False), (0.95, True), (0.91, False), (1.0, True), (0.55, True)])
    assert [b["count"] for b in bins] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert bins[9]["mean_predicted"] == pytest.approx(2.86 / 3) and bins[9]["realised"] == pytest.approx(2 / 3)
    assert bins[1]["realised"] is None and (bins[9]["from"], bins[9]["to"]) == (0.9, 1.0)


def test_pooled_bins_are_those_of_all_plans() -> None:
    rng = np.random.default_rng(0)
    plans = [(float(p), bool(rng.random() < p)) for p in rng.random(200)]
    whole, parts = reliability(plans), pooled([reliability(plans[:30]), reliability(plans[30:])])
    for one, other in zip(whole, parts):
        assert one == pytest.approx(other)


def test_the_interval_of_a_share_holds_it_and_stays_within_bounds() -> None:
    for came, of in ((0, 5), (5, 5), (3, 10), (300, 1000)):
        low, high = share_interval(came, of)
        assert 0 <= low <= came / of + 1e-12 and came / of - 1e-12 <= high <= 1 and low < high
    assert share_interval(0, 0) == (0.0, 1.0)
    assert np.diff(share_interval(300, 1000)) < np.diff(share_interval(3, 10))


def test_the_full_stack_s_plans_are_held_against_what_came_of_them() -> None:
    pytest.importorskip("rclpy")
    from skimo_eval.full_stack import summarise_watched
    from skimo_ros.evaluator import Promise, Watched

    def promise(subtask: str, since_s: float, probability: float) -> Promise:
        return Promise(subtask=subtask, since_s=since_s, within_s=2.4, probability=probability)

    promises = [promise("kettle", 0.0, 0.9), promise("kettle", 2.0, 0.8), promise("microwave", 5.0, 0.2)]
    first = Watched(seed=0, task=("kettle", "microwave"), completed=[("kettle", 4.0)], promises=promises)
    other = Watched(seed=1, task=("microwave", "light switch"))
    figures = summarise_watched([first, other])
    assert figures["episodes_detail"][0]["came_true"] == [0, 1, 0]
    assert figures["planned_against_realised"]["precision"] == 0.5
    assert figures["success_per_subtask"] == {"kettle": 1.0, "microwave": 0.0, "light switch": 0.0}
    assert [b["count"] for b in figures["reliability"]] == [0, 0, 1, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.ros
def test_a_stack_after_another_is_met_in_its_own_ros_domain() -> None:
    """Each condition's stack has a domain of its own; a context goes on with the one that it began with."""
    code = (
        "import os, rclpy; from skimo_ros.operator import end_ros, init_ros\n"
        "for domain in (41, 42):\n"
        "    os.environ['ROS_DOMAIN_ID'] = str(domain); init_ros()\n"
        "    assert rclpy.get_default_context().get_domain_id() == domain\n"
        "    rclpy.create_node('somebody').destroy_node(); end_ros()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# --- random orders ---------------------------------------------------------------------------------------------------


def test_mixed_orders_are_the_domain_s_tasks_and_random_ones_in_turn() -> None:
    domain = load_domain("kitchen")
    mixed = mixed_orders(domain, 9, 3)
    named = list(domain.orders)
    assert mixed[1::2] == [named[k % len(named)] for k in range(4)]
    assert len(set(mixed[::2])) == 5 and not set(mixed[::2]) & set(named)
    assert set(mixed[::2]) == set(random_orders(domain, 5, 3))
    alone = replace(domain, orders={})
    assert len(mixed_orders(alone, 4, 3)) == 4


def test_random_orders_are_drawn_from_the_seed() -> None:
    domain = load_domain()
    orders = random_orders(domain, 20, 3)
    assert orders == random_orders(domain, 20, 3) != random_orders(domain, 20, 4)
    names = [tuple(order.split(",")) for order in orders]
    assert len(set(names)) == 20 and not set(names) & set(domain.orders.values())
    assert all(len(domain.task(order).subtasks) == 4 for order in orders)
    assert tasks_of(domain, "random", 20, 3) == ("random", orders)
    assert tasks_of(domain, "", 2, 3) == ("kitchen", ["kitchen", "kitchen"])
    with pytest.raises(SpecError, match="841 random orders were asked for; domain kitchen has 838"):
        random_orders(domain, 841, 0)


# --- comparison ------------------------------------------------------------------------------------------------------


def made_up(path: Path, done: dict[str, list[int]], bundle: str = "a", seed: int = 0) -> Path:
    conditions = {
        name: {
            "episodes_detail": [
                {"seed": seed + i, "task": ["microwave", "kettle"], "subtasks_done": k} for i, k in enumerate(counts)
            ]
        }
        for name, counts in done.items()
    }
    whole = {"bundle": bundle, "bundle_id": bundle * 8, "task": "t", "subtasks": 2, "conditions": conditions}
    path.write_text(json.dumps(whole))
    return path


def test_better_worse_and_not_known_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = made_up(tmp_path / "a.json", {"up": [0] * 8, "down": [2] * 8, "same": [1] * 8, "few": [1, 1, 0, 0, 1, 1, 1, 1]})
    b = made_up(
        tmp_path / "b.json",
        {"up": [1, 2] * 4, "down": [0, 1] * 4, "same": [1] * 8, "few": [1, 1, 2, 2, 2, 2, 2, 1]},
        "b",
    )
    out = tmp_path / "out.json"
    assert compare.main([str(a), str(b), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "up: A 0.00 B 1.50, difference +1.50 (95 % +1.12 .. +1.88): better" in said
    assert "down: A 2.00 B 0.50" in said and "): worse" in said
    assert "same: A 1.00 B 1.00, difference +0.00 (95 % +0.00 .. +0.00): no difference seen with 8 pairs" in said
    assert "few: A 0.75 B 1.62" in said and said.count("no difference seen with 8 pairs") == 2  # five differ
    assert "all 4 conditions: " in said
    figures = json.loads(out.read_text())
    assert figures["conditions"]["up"]["verdict"] == "better" and figures["b"]["bundle"] == "b"


def test_a_comparison_the_other_way_round_is_the_same_the_other_way_round(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a, b = (
        made_up(tmp_path / f"{n}.json", {c: [int(k) for k in rng.integers(0, 3, 12)] for c in ("one", "two")})
        for n in "ab"
    )
    there = compare.compare(read_results(a), read_results(b), ("a", "b"))
    back = compare.compare(read_results(b), read_results(a), ("b", "a"))
    for one, other in zip(there, back):
        low, high = one.interval_95
        assert one.difference == pytest.approx(-other.difference) and low <= one.difference <= high
        assert other.interval_95 == pytest.approx((-high, -low), abs=0.1)


def test_a_flown_result_compares_with_itself(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(ran / "conditions.json")] * 2) == 0
    said = capsys.readouterr().out
    assert said.count("no difference seen with 2 pairs") == 2 and "no difference seen with 4 pairs" in said


def test_bundles_are_flown_first(lab: Path, monkeypatch: pytest.MonkeyPatch, results: dict[str, Any]) -> None:
    asked = []

    def fly(args: evaluate.Args) -> dict[str, Any]:
        asked.append(args)
        return results

    monkeypatch.setattr(compare, "evaluate", fly)
    words = ["old", "new", "--episodes", "2", "--seed", "9", "--condition", "papers", "--task", "kettle"]
    assert compare.main(words) == 0
    assert [args.bundle for args in asked] == ["old", "new"]
    assert all((a.episodes, a.seed, a.condition, a.task) == (2, 9, "papers", "kettle") for a in asked)


@pytest.mark.parametrize("what", ["seeds", "conditions", "tasks"])
def test_what_does_not_pair_is_refused_and_both_are_named(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a = made_up(tmp_path / "a.json", {"one": [1, 1]})
    b = made_up(tmp_path / "b.json", {"two" if what == "conditions" else "one": [1, 1]}, seed=4 * (what == "seeds"))
    if what == "tasks":
        b.write_text(a.read_text().replace("microwave", "top burner"))
    assert compare.main([str(a), str(b)]) == 1
    said = capsys.readouterr().err
    assert f"{what}" in said and "differ" in said and f"{a} has" in said and f"{b} has" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("{", "can't be read as JSON"),
        ("[]", "is no table"),
        ('{"task": "kitchen"}', "lacks 'bundle_id'"),
        ('{"bundle_id": "a", "task": "t", "subtasks": 2, "conditions": {}}', "holds no condition"),
        ('{"bundle_id": "a", "task": "t", "subtasks": 2, "conditions": {"x": {"episodes_detail": [{}]}}}', "'x' holds"),
        ('{"bundle_id": "a", "task": "t", "subtasks": 2, "conditions": {"x": 3}}', "'x' holds no episodes"),
    ],
)
def test_a_file_that_is_no_result_is_refused_in_words(tmp_path: Path, words: str, complaint: str) -> None:
    (tmp_path / "a.json").write_text(words)
    with pytest.raises(SpecError, match=complaint):
        read_results(tmp_path / "a.json")
    with pytest.raises(SpecError, match=r"none\.json can't be read"):
        read_results(tmp_path / "none.json")


def test_lists_of_numbers_take_a_line_and_nothing_else_changes(results: dict[str, Any]) -> None:
    odd = results | {"odd": ["[\n 1,\n 2\n]", [], [[1, 2], [None, True]], {"a": [1.5, -2e-9]}]}
    assert json.loads(dump(odd)) == odd
    assert max(map(len, dump({"x": list(range(50))}).splitlines())) > 150


def test_a_report_of_a_stack_without_plans_is_drawn_all_the_same(tmp_path: Path, results: dict[str, Any]) -> None:
    bare = copy.deepcopy(results) | {"reliability": None}
    for figures in bare["conditions"].values():
        del figures["reliability"], figures["planned_against_realised"]
    write_report(tmp_path, bare)
    assert "| - |" in (tmp_path / "conditions.md").read_text() and (tmp_path / "conditions.png").exists()
