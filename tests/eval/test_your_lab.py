"""Who follows docs/your-lab.md gets from bags to a planning arm by its commands alone, in order, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from house.repository import ROOT

from skimo_core.process.isolation import free_domain

PAGE = ROOT / "docs" / "your-lab.md"
SMALL = {"DEMOS": "2", "RECIPE": "smoke", "TRIES": "1"}
BIN, DOCTOR = str(Path(sys.executable).parent), "skimo doctor --domain table"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.alone
@pytest.mark.ros
@pytest.mark.timeout(600)
def test_the_page_s_commands_lead_from_bags_to_an_arm_that_plans(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 7
    script = "\n".join(["set -euo pipefail", *blocks]).replace("$PWD/.venv/bin", BIN)
    script = script.replace(DOCTOR, f"{DOCTOR} || true")  # what this machine lacks is no fault of the page
    assert "|| true" in script
    with free_domain() as lock:
        environment = {**os.environ, **SMALL, "LAB": str(tmp_path / "lab"), "ROS_DOMAIN_ID": str(lock.domain)}
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "Traceback" not in said, said[-4000:]
    assert "ingested 2 episodes" in said and "subtasks_mean" in said, said[-4000:]
    assert {"table.png", "draft.yaml", "episodes", "run", "bundles"} <= {p.name for p in (tmp_path / "lab").iterdir()}
