"""What `skimo doctor` says of twins and pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from skimo_core.domain import library
from skimo_core.setup.finding import Asked
from skimo_sim import doctor


def test_a_domain_s_twin_is_made_or_its_fault_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    text = library.find("domains", "kitchen").text
    path.write_text(text.replace("twin: kitchen", "twin: kinematic"))
    assert [f.verdict for f in doctor.twin(Asked(domain=str(path)))] == ["ok"]
    path.write_text(text.replace("twin: kitchen", "twin: no_such"))
    (gone,) = doctor.twin(Asked(domain=str(path)))
    assert gone.verdict == "fail" and "no twin 'no_such'" in gone.what
    (beside,) = doctor.twin(Asked(domain=str(path), driver="multipanda"))
    assert beside.verdict == "warn"  # a robot needs none


def test_pictures_are_tried_in_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    (found,) = doctor.pictures(Asked(domain="kitchen"))
    assert found.verdict == "warn" and "MUJOCO_GL is 'glfw'" in found.what
    monkeypatch.setattr(doctor, "TRIAL", "import os; os.abort()")
    (found,) = doctor.pictures(Asked(domain="kitchen"))
    assert found.verdict == "warn" and "ended its process" in found.what


def test_what_simulates_can_be_imported() -> None:
    assert [f.verdict for f in doctor.simulation(Asked(domain="kitchen"))] == ["ok"]
