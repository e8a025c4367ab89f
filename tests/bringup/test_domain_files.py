"""A domain's files that are not where they are looked for: refused before anything starts, with what to do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from skimo_bringup.stack import argument_values, load_stack
from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.domain.packed import pack
from skimo_core.setup.new_domain import new_domain

STACK = load_stack(Path(__file__).parents[2] / "launch/stack.yaml")
ON_A_ROBOT = ("use_twin:=false", "driver:=franka_ros2", "start_driver:=false")


def domain(*given: str) -> str:
    return argument_values(STACK, given, environment={"PATH": str(Path(sys.executable).parent)})["domain"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    assert new_domain(["bench", "--out", str(tmp_path)]) == 0
    return tmp_path / "bench/domain.yaml"


@pytest.fixture
def bundle(own: Path, tmp_path: Path) -> Path:
    """What the starters read of a bundle: its manifest, and the domain that it carries."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    for name, data in pack(load_domain(own)).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_domain_s_own_file_has_all(own: Path, bundle: Path) -> None:
    assert domain(f"bundle:={bundle}", f"domain:={own}") == str(own)


def test_a_bundle_has_no_scene_and_the_remedy_is_said(bundle: Path) -> None:
    with pytest.raises(
        SpecError, match=r"bundle carries its domain, but not the scene of its twin \(scene.yaml\)"
    ) as no:
        domain(f"bundle:={bundle}")
    assert "give domain:=PATH" in str(no.value)
    assert domain(f"bundle:={bundle}", *ON_A_ROBOT) == str(bundle / "domain.yaml")  # which has none


def test_a_domain_that_was_moved_is_named(own: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"gone.yaml: there is no such file; give the path where the domain's file lies"
    ):
        domain(f"domain:={tmp_path}/gone.yaml")
    alone = tmp_path / "alone/domain.yaml"
    alone.parent.mkdir()
    shutil.copy(own, alone)
    with pytest.raises(SpecError, match=r"the scene of its twin, .*alone/scene.yaml, is not there"):
        domain(f"domain:={alone}")


@pytest.mark.parametrize("twin", ["twin: kinematic", "twin: table", "", "twin: [1]", ": ["])
def test_what_names_no_file_is_for_the_nodes_to_judge(own: Path, twin: str) -> None:
    own.write_text(own.read_text().replace("twin: scene.yaml", twin))
    assert domain(f"domain:={own}") == str(own)
