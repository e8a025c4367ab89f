"""`skimo twin` and `skimo render`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skimo_sim import cli


def test_twin_check_reports_error_per_joint_and_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tracking.json"
    assert cli.twin(["check", "--episodes", "1", "--steps", "30", "--json-path", str(out)]) == 0
    assert "free rms mrad" in capsys.readouterr().out
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert len(figures["free_motion_mrad"]["rms"]) == 7
    assert figures["provenance"]["seed"] == 0 and str(tmp_path) not in out.read_text(encoding="utf-8")


def test_errors_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.twin(["check", "--arm", "ur5"]) == 1
    assert "no arm 'ur5'" in capsys.readouterr().err
    assert cli.render([str(tmp_path / "missing.mcap")]) == 1
    assert "missing.mcap" in capsys.readouterr().err
