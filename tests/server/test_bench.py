"""`skimo bench` measures a real bundle and says how, without naming the machine."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import FloatArray, Goals
from skimo_server.bench import bench
from skimo_server.inprocess import InProcessPolicy, open_policy
from skimo_server.timing import Stages, percentiles


def test_bench_writes_its_table_with_provenance(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "bench.json"
    options = ["--samples", "16", "64", "--plans", "3", "--planner", "iterations=2", "--json", str(out)]
    assert bench(["--bundle", str(bundle_folder), *options]) == 0
    assert "samples    64" in capsys.readouterr().out
    text = out.read_text()
    result = json.loads(text)
    assert [row["samples"] for row in result["rows"]] == [16, 64]
    assert result["planner"]["iterations"] == 2 and result["provenance"]["command"].startswith("skimo bench")
    assert str(tmp_path) not in text and str(bundle_folder) not in text and platform.node() not in text


def test_bench_of_no_bundle_fails_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["--bundle", "nonsense"]) == 1
    assert capsys.readouterr().err.startswith("skimo bench: no bundle 'nonsense'")


def test_settings_by_name_change_the_policy(bundle_folder: Path, observation_O: FloatArray, goals: Goals) -> None:
    policy = open_policy(bundle_folder, {"horizon": 2, "samples": 16, "elites": 4})
    plan = policy.plan(observation_O, goals, seed=0, warm_start_PZ=None, deadline_s=30.0)
    assert plan.skills_PZ.shape == (2, 10) and policy.spec.skill.plan_length == 2
    with pytest.raises(SpecError, match="colour"):
        open_policy(bundle_folder, {"colour": "red"})


def test_the_policy_checks_what_it_is_given(policy: InProcessPolicy, observation_O: FloatArray) -> None:
    with pytest.raises(SpecError, match="observation"):
        policy.act(observation_O[:5], np.zeros(10, np.float32), deadline_s=1.0)
    with pytest.raises(SpecError, match="skill"):
        policy.act(observation_O, np.full(10, 2.0, np.float32), deadline_s=1.0)


def test_stages_add_up_and_percentiles_take_any_number_of_values() -> None:
    now = iter(range(100))
    stages = Stages(lambda: float(next(now)))
    for _ in range(2):
        with stages("work"):
            pass
    assert stages.milliseconds() == {"work": 2000.0, "total": 5000.0}
    assert percentiles([]) == {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
    assert percentiles([3.0])["p99"] == 3.0
