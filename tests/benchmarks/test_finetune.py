"""The experiment's table and picture, from results of runs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from skimo_eval.improve import Round


def result(folder: Path, name: str, condition: str, rounds: list[Round], **more: object) -> None:
    found = {"name": name, "condition": condition, "objective": "corrections", "seed": 0, **more}
    (folder / f"{name}.json").write_text(json.dumps(found | {"rounds": [asdict(r) for r in rounds]}))


def test_a_run_is_a_row_by_what_drives_in_the_end(tmp_path: Path) -> None:
    first = Round(number=0, candidate="a" * 12, worth=(2, 2), unchanged=(4, 4), promoted=True)
    good = Round(number=1, helps=20, robot_s=120, person_s=30, worth=(4, 3), unchanged=(3, 3), promoted=True)
    worse = Round(number=2, helps=5, robot_s=60, person_s=6, worth=(1, 1), unchanged=(4, 4))
    result(tmp_path, "low-corrections-0", "low", [first, good, worse])
    result(tmp_path, "low-corrections_more-0", "low", [first, worse], share=0.6)
    result(tmp_path, "aside-corrections-0", "aside", [first, good], share=0.3)
    (tmp_path / "full_stack.json").write_text("{}")  # another thing's result
    script = Path(__file__).parents[2] / "benchmarks" / "finetune.py"
    done = subprocess.run(
        [sys.executable, str(script), "table", "--out", str(tmp_path)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.strip().splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == [
        "aside-corrections-0",
        "low-corrections-0",
        "low-corrections_more-0",
    ]
    assert "| 0.3 | 2.00 | 3.50 | 3.50 (3.00 .. 4.00) | 3.00 | 75% of 2.00 | 25 | 3.0 | 0.6 | 1 of 2 | 0 |" in rows[1]
    assert "| 0.6 | 2.00 | 1.00 | 2.00 (2.00 .. 2.00) | 4.00 | 0% of 2.00 | 5 | 1.0 | 0.1 | 1 of 1 | 0 |" in rows[2]
    assert (tmp_path / "finetune.md").read_text() == done.stdout.rstrip("\n") + "\n"
    assert (tmp_path / "finetune.png").stat().st_size > 1000


@pytest.mark.parametrize("script", ["finetune.py", "finetune_stack.py"])
def test_a_script_explains_itself(script: str) -> None:
    script_path = Path(__file__).parents[2] / "benchmarks" / script
    done = subprocess.run([sys.executable, str(script_path), "--help"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "usage" in done.stdout
