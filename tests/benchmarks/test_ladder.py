"""The benchmark scripts run as their docstrings say; their figures are committed, not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from skimo_eval.inprocess import Job, World, bundle_policy
from skimo_eval.trials import truth
from skimo_server.bundle import resolve_bundle
from skimo_sim.play.collect import collect, make_episode

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *(str(a) for a in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_ladder_runs_rung_by_rung_and_keeps_what_was_run_before(tmp_path: Path) -> None:
    collect(tmp_path / "held-out", episodes=1, seed=100000, workers=1, make=partial(make_episode, "kitchen"))
    few = ("--seeds", 1, "--orders", 1, "--workers", 1, "--out", tmp_path / "ladder")
    for rung in ("prior", "replay"):
        done = run("ladder.py", *few, "--held-out", tmp_path / "held-out", "--rungs", rung)
        assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "ladder.json").read_text())
    assert list(results) == ["replay", "prior"]
    assert list(results["prior"]["tasks"]) == ["kitchen", "misaligned", "random orders"]
    for rung, result in results.items():
        assert f"--rungs {rung}" in result["provenance"]["command"] and len(result["bundle"]) == 64
        for figures in result["tasks"].values():
            each = figures["subtasks_per_episode"]
            assert figures["subtasks_mean"] == pytest.approx(sum(each) / len(each)) and figures["episodes"] == len(each)
    assert results["replay"]["tasks"]["held-out play"]["subtasks_mean"] >= 1.0, "play that is replayed does something"
    assert (tmp_path / "ladder.md").read_text().count("\n") == 2 + 1 + 3


def test_the_ladder_of_goals_keeps_goals_and_rungs_that_were_run_before(tmp_path: Path) -> None:
    few = ("--seeds", 2, "--workers", 1, "--out", tmp_path / "goals", "--goals")
    for goal, rungs in (("microwave closed", ("script", "replay")), ("light_switch=-0.5", ("script", "prior"))):
        done = run("goal_ladder.py", *few, goal, "--rungs", *rungs)
        assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "goals.json").read_text())
    assert {rung: list(result["goals"]) for rung, result in results.items()} == {
        "script": ["microwave closed", "light_switch=-0.5"],
        "replay": ["microwave closed"],
        "prior": ["light_switch=-0.5"],
    }
    assert results["script"]["goals"] == {"microwave closed": [True, True], "light_switch=-0.5": None}
    assert results["replay"]["goals"]["microwave closed"] == [True, True], "a script's skills do what it does"
    table = (tmp_path / "goals.md").read_text()
    assert "| `microwave closed` | 2 of 2 | 2 of 2 | - |" in table


@pytest.mark.parametrize("half", ["plan", "act"])
def test_half_of_the_policy_sees_what_is_true(half: Literal["plan", "act"], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from clear_sight import clear_sight, fly_seeing

    lab, folder = World().build("encoders_5"), resolve_bundle("kitchen")
    policy, plain = clear_sight(folder, half), bundle_policy(folder, {})
    lab.twin.reset("kitchen", 0)
    task, true_O = lab.domain.task("kitchen"), truth(lab.domain, lab.twin)
    told_O = true_O + np.float32(0.05) * np.eye(30, dtype=np.float32)[1]
    skill_Z = np.zeros(policy.spec.skill.dim, np.float32)
    asked: dict[str, Any] = {"goals": task.goals(0, 30), "seed": 1, "warm_start_PZ": None, "deadline_s": 9.0}
    policy.seen_O = true_O
    seen = {"plan": told_O, "act": told_O} | {half: true_O}
    assert policy.plan(told_O, **asked).value == plain.plan(seen["plan"], **asked).value
    action = policy.act(told_O, skill_Z, deadline_s=1.0)
    np.testing.assert_array_equal(action, plain.act(seen["act"], skill_Z, deadline_s=1.0))
    assert plain.plan(told_O, **asked).value != plain.plan(true_O, **asked).value
    fly_seeing(lab, policy, Job(task="hinge half open", seed=1, condition="encoders_5"))
    assert np.abs(policy.seen_O - true_O).max() > 0.01, "it is told anew at every step"


@pytest.mark.parametrize("script", ["ladder.py", "goal_ladder.py", "open_loop.py", "typed_goals.py"])
def test_a_script_explains_itself(script: str) -> None:
    assert "--out" in run(script, "--help").stdout
