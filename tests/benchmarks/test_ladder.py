"""The benchmark scripts run as their docstrings say; their figures are committed, not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("script", ["ladder.py", "open_loop.py", "typed_goals.py"])
def test_a_script_explains_itself(script: str) -> None:
    assert "--out" in run(script, "--help").stdout
