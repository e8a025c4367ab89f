"""`skimo new-domain`: what it writes loads as it is, nothing is overwritten, wrong words are refused."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from skimo_core.domain import library
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.ingest.mapping_file import find_mappings
from skimo_core.setup.new_domain import new_domain
from skimo_core.setup.scene_objects import FREE, HINGE, SLIDE, things_in

MJCF = """
<mujoco model="lab">
  <default><default class="rail"><joint type="slide"/></default></default>
  <worldbody>
    <body name="cabinet"><body name="drawer_body"><joint name="drawer" class="rail"/></body>
      <body name="door_body"><joint name="door"/></body></body>
    <body name="cup" pos="0.5 -0.1 0.05"><freejoint/></body>
    <body name="arm"><joint name="fr3_joint1"/></body>
  </worldbody>
</mujoco>
"""
URDF = """
<robot name="lab">
  <link name="table"/><link name="lid_link"/><link name="tray_link"/>
  <joint name="lid" type="revolute"><parent link="table"/><child link="lid_link"/></joint>
  <joint name="tray" type="prismatic"><parent link="table"/><child link="tray_link"/></joint>
  <joint name="foot" type="fixed"><parent link="table"/><child link="foot_link"/></joint>
</robot>
"""


def without_a_hand(text: str) -> dict[str, Any]:
    data = yaml.safe_load(text)
    del data["finger_names"], data["hand"], data["kinematics"]["hand_yaw_rad"]
    collision = data["collision"]
    collision["links"] = {name: rows for name, rows in collision["links"].items() if name not in ("hand", "fingers")}
    collision["pairs"] = [pair for pair in collision["pairs"] if "hand" not in pair and "fingers" not in pair]
    return data


def made(tmp_path: Path, *options: str, name: str = "bench") -> Path:
    assert new_domain([name, "--out", str(tmp_path), *options]) == 0
    return tmp_path / name


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--robot", "panda"),
        ("--rate-hz", "1"),
        ("--rate-hz", "40"),
        ("--robot", "panda", "--rate-hz", "12.5"),
    ],
)
def test_what_is_written_loads_as_it_is(tmp_path: Path, options: tuple[str, ...]) -> None:
    folder = made(tmp_path, *options)
    domain = load_domain(str(folder / "domain.yaml"))
    limits = load_limits(domain.robot)
    assert domain.observation.names[:7] == limits.joint_names and domain.name == "bench"
    assert load_cell(domain.cell).name == "bench"
    (mapping,) = find_mappings(folder / "mapping.yaml", domain)
    assert mapping.domain == "bench"
    assert domain.task().subtasks[0].name == "push block"
    assert domain.starts.arm_rad == 0.1 and domain.starts.offsets
    assert (folder / "scene.yaml").is_file() and (folder / "scene.xml").is_file()


def test_a_robot_of_one_s_own_is_named_by_where_it_lies(tmp_path: Path) -> None:
    robot = tmp_path / "robots" / "lab.yaml"
    robot.parent.mkdir()
    robot.write_text(yaml.safe_dump(without_a_hand(library.find("robots", "fr3").text)))
    limits = load_limits(str(robot))
    assert limits.finger_names == ()
    folder = made(tmp_path / "domains", "--robot", str(robot))
    domain = load_domain(str(folder / "domain.yaml"))
    assert load_limits(domain.robot).digest == limits.digest
    assert domain.observation.fingers == 0
    (mapping,) = find_mappings(folder / "mapping.yaml", domain)
    assert mapping.hand is None


@pytest.mark.parametrize(("text", "ending"), [(MJCF, "xml"), (URDF, "urdf")])
def test_what_moves_in_a_scene_becomes_channels(tmp_path: Path, text: str, ending: str) -> None:
    scene = tmp_path / f"lab.{ending}"
    scene.write_text(text)
    folder = made(tmp_path / "x", "--scene", str(scene))
    domain = load_domain(str(folder / "domain.yaml"))
    objects = dict(zip(domain.observation.names, domain.observation.units))
    wanted = {
        "xml": {"drawer": "m", "door": "rad", "cup.x": "m", "cup.yaw": "rad"},
        "urdf": {"lid": "rad", "tray": "m"},
    }
    assert wanted[ending].items() <= objects.items()
    find_mappings(folder / "mapping.yaml", domain)
    words = (folder / "scene.yaml").read_text()
    assert f"model: ../../lab.{ending}" in words and not (folder / "scene.xml").exists()


def test_things_by_their_kind(tmp_path: Path) -> None:
    scene = tmp_path / "lab.xml"
    scene.write_text(MJCF)
    found = {thing.name: thing for thing in things_in(scene, but=["fr3_joint1"])}
    assert {name: thing.kind for name, thing in found.items()} == {"drawer": SLIDE, "door": HINGE, "cup": FREE}
    assert found["cup"].position_m == (0.5, -0.1, 0.05)


def test_a_scene_in_which_nothing_moves_gives_an_arm_s_domain(tmp_path: Path) -> None:
    scene = tmp_path / "still.xml"
    scene.write_text("<mujoco><worldbody><body name='table'/></worldbody></mujoco>")
    domain = load_domain(str(made(tmp_path / "x", "--scene", str(scene)) / "domain.yaml"))
    assert domain.observation.objects == ()
    assert domain.task().subtasks[0].name == "look left"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path)
    (folder / "domain.yaml").write_text("mine")
    assert new_domain(["bench", "--out", str(tmp_path)]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (folder / "domain.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["two words"], "can't name a domain"),
        (["../up"], "can't name a domain"),
        (["x" * 41], "can't name a domain"),
        (["kitchen"], "there is a domain 'kitchen' already"),
        (["a", "--rate-hz", "400"], "--rate-hz is 400, must lie in 1 to 40"),
        (["a", "--rate-hz", "nan"], "--rate-hz is nan"),
        (["a", "--robot", "r2d2"], "no robot 'r2d2'"),
        (["a", "--robot", "./gone.yaml"], "can't be read"),
        (["a", "--scene", "gone.xml"], "can't be read"),
    ],
)
def test_wrong_words_are_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    assert new_domain([*argv, "--out", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not xml", "is no XML"),
        ("<sdf/>", "its root is <sdf>"),
        ("<mujoco><worldbody><body name='a b'><freejoint/></body></worldbody></mujoco>", "can't be named so"),
        (
            "<mujoco><worldbody><body name='a'><freejoint/><body name='b'><joint name='a'/></body></body></worldbody>"
            "</mujoco>",
            "are called 'a'",
        ),
    ],
)
def test_a_scene_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    scene = tmp_path / "lab.xml"
    scene.write_text(text)
    assert new_domain(["a", "--out", str(tmp_path), "--scene", str(scene)]) == 1
    assert words in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert new_domain(["bench", "--out", str(tmp_path / "file")]) == 1
    assert "can't be written" in capsys.readouterr().err


def test_each_command_of_its_readme_is_there(tmp_path: Path) -> None:
    words = (made(tmp_path) / "README.md").read_text()
    named = set(re.findall(r"(?m)^skimo ([a-z-]+)", words))
    assert {"ingest", "pretrain", "export", "eval", "up", "record"} <= named
    assert named <= set(metadata.entry_points(group="skimo.commands").names)
    assert "$" in words and "${" not in words
