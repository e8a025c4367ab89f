"""`skimo twin check|show|picture` of a domain: what is fine, what to mend, and what can't be done."""

from __future__ import annotations

import re
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.lab_scene import DOMAIN, MODEL, SCENE, write_lab

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import Domain, load_domain
from skimo_sim import cli
from skimo_sim.checkup import FAULT, NOTE, OK, Finding, check_up
from skimo_sim.reach import Reach
from skimo_sim.scenes.scene import Drawable
from skimo_sim.show import show
from skimo_sim.twin import Twin
from skimo_sim.twins import make_twin

needs_gl = pytest.mark.skipif(
    find_library("EGL") is None and find_library("OSMesa") is None, reason="no GL library is installed"
)


def of(found: list[Finding], level: str) -> list[str]:
    return [finding.words for finding in found if finding.level == level]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return write_lab(tmp_path_factory.mktemp("lab"))


def test_the_example_has_nothing_to_mend() -> None:
    found = check_up(load_domain("table"), starts=10)
    assert not of(found, FAULT) and not of(found, NOTE)
    words = " / ".join(of(found, OK))
    for told in ("fr3, base at [0, 0, 0] m", "'table'", "13 of objects", "10 of 10 drawn", "x real time"):
        assert told in words


def test_a_lab_s_scene_is_fine_but_for_what_it_says_of_a_channel_that_follows(lab: Domain) -> None:
    found = check_up(lab, starts=5)
    assert not of(found, FAULT)
    assert of(found, NOTE) == [] or all("knob.x" in words or "by itself" in words for words in of(found, NOTE))


WRONG = {
    "a goal beyond the door": ({"domain": DOMAIN.replace("door: -1.0", "door: 1.0")}, "'open': door 1 rad is beyond"),
    "a goal beyond the arm": (
        {"domain": DOMAIN.replace("cup.x: 0.6, cup.y: 0.0", "cup.x: 1.4, cup.y: 0.0")},
        r"'move': cup at \[1.4, 0, 0.84\] m is 0.\d+ m beyond the tool's reach",
    ),
    "an arm that can't be so": (
        {"domain": DOMAIN.replace("move: {", "far: {goal: {fr3_joint4: 0.5}}\n  move: {")},
        "'far': fr3_joint4 0.5 rad is beyond what it can be, -3.0421 to -0.1518 rad",
    ),
    "starts off the bench": (
        {"domain": DOMAIN.replace("begun: 0.3", "places: {move: {chance: 1.0, at: [{cup.z: 1.5}]}}")},
        "5 of 5 can't be drawn; seed 0: none of 50 drawn starts",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_to_be_mended_is_a_fault(case: str, tmp_path: Path) -> None:
    files, words = WRONG[case]
    found = check_up(write_lab(tmp_path, **files), starts=5)
    assert any(re.search(words, told) for told in of(found, FAULT)), found


NOTED = {
    "another start": ({"domain": DOMAIN.replace("start: 0.84", "start: 0.86")}, "cup.z rests at 0.84"),
    "another base": (
        {"domain": "\n".join(line for line in DOMAIN.splitlines() if not line.startswith("base:"))},
        "the domain says nothing of it; .*base: {position_m: [0, 0.1, 0.8], quat_wxyz: [0.9888, 0, 0, 0.1494]}",
    ),
    "a door that swings": (
        {"model": MODEL.replace('damping="0.5"', 'damping="0.5" stiffness="0.2" springref="-0.5"')},
        "door moves by itself",
    ),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_is_only_to_be_known_is_noted(case: str, tmp_path: Path) -> None:
    files, words = NOTED[case]
    told = of(check_up(write_lab(tmp_path, **files), starts=3), NOTE)
    assert any(all(part in line for part in words.split(".*")) for line in told), told


def test_a_twin_without_a_scene_says_what_it_is_not_for(tmp_path: Path) -> None:
    found = check_up(write_lab(tmp_path, domain=DOMAIN.replace("twin: scene.yaml", "twin: kinematic")), starts=3)
    assert "no practice in simulation, no promotion's trials, no evaluation" in of(found, NOTE)[0]
    assert of(found, OK) == ["3 of 3 drawn"]


def test_reach_is_that_of_the_arm(lab: Domain) -> None:
    twin = make_twin(lab)
    assert isinstance(twin, Twin) and isinstance(twin, Drawable)
    reach, base = Reach(twin), twin.scene.base_m
    assert reach.short_of(base + np.array([0.4, 0.2, 0.3])) == 0.0
    assert 0.6 < reach.short_of(base + np.array([1.6, 0.0, 0.333])) < 0.7  # links and hand in a row: 0.91 m


def test_the_command_prints_each_point_and_fails_on_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lab(tmp_path / "good")
    assert cli.twin(["check", "--domain", str(tmp_path / "good" / "domain.yaml"), "--starts", "2"]) == 0
    assert capsys.readouterr().out.startswith("twin check: domain bench, robot fr3, twin ")
    write_lab(tmp_path / "bad", domain=DOMAIN.replace("door: -1.0", "door: 1.0"))
    assert cli.twin(["check", "--domain", str(tmp_path / "bad" / "domain.yaml"), "--starts", "2"]) == 1
    told = capsys.readouterr()
    assert "FAULT goal" in told.out and "1 fault in the twin of domain bench; see above" in told.err
    write_lab(tmp_path / "worse", scene=SCENE.replace("bench.xml", "none.xml"))
    assert cli.twin(["check", "--domain", str(tmp_path / "worse" / "domain.yaml")]) == 1
    assert "there is no file" in capsys.readouterr().err
    assert cli.twin(["check", "--domain", "table", "--starts", "0"]) == 1
    assert "starts 0 (>= 1)" in capsys.readouterr().err


def test_without_a_display_the_window_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SetupError, match=r"no display.*skimo twin picture out\.png --domain table"):
        show("table")
    with pytest.raises(SpecError, match="bench can't be drawn: its twin, 'kinematic', has no scene"):
        show(write_lab(tmp_path, domain=DOMAIN.replace("twin: scene.yaml", "twin: kinematic")).source)
    assert cli.twin(["show", "--domain", "table"]) == 1


@needs_gl
def test_each_camera_gives_a_picture(lab: Domain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--width", "96", "--height", "72"]
    assert cli.twin(["picture", str(tmp_path / "lab.png"), "--domain", lab.source, "--frames", *size]) == 0
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert names == {f"lab_{camera}.png" for camera in ("room", "left", "front", "side", "ceiling")}
    with Image.open(tmp_path / "lab_side.png") as picture:
        assert picture.size == (96, 72) and np.asarray(picture).std() > 20
    one = tmp_path / "one.png"
    assert cli.twin(["picture", str(one), "--domain", lab.source, "--camera", "side", "--seed", "1", *size]) == 0
    with Image.open(one) as moved, Image.open(tmp_path / "lab_side.png") as plain:
        assert not np.array_equal(np.asarray(moved), np.asarray(plain))
    assert cli.twin(["picture", str(one), "--domain", lab.source, "--camera", "attic", *size]) == 1
    assert "no camera 'attic'; there are" in capsys.readouterr().err
