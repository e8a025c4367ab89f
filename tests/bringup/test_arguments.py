"""What a human gives and cannot be honoured: refused by both starters, before anything starts, in the same words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from bringup import launch_stand_ins as ros

from skimo_bringup.stack import argument_values, load_stack, resolve
from skimo_bringup.up import child_environment
from skimo_core.contract.errors import SpecError

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
ROBOT = {"use_twin": "false", "driver": "franka_ros2", "robot_ip": "172.16.0.2"}

WRONG: dict[str, tuple[dict[str, str], str]] = {
    "parameter file that is not there": (
        {"params_file": "PLACE/none.yaml"},
        "cannot read PLACE/none.yaml: No such file",
    ),
    "parameter file at home that is not there": ({"params_file": "~/none.yaml"}, "cannot read HOME/none.yaml"),
    "parameter file that is a folder": ({"params_file": "PLACE"}, "cannot read PLACE: Is a directory"),
    "parameter file that cannot be read": ({"params_file": "PLACE/loop"}, "cannot read PLACE/loop: "),
    "parameter file that is no YAML": ({"params_file": "PLACE/broken.yaml"}, "PLACE/broken.yaml is no YAML"),
    "parameter file of bytes": ({"params_file": "PLACE/bytes.yaml"}, "PLACE/bytes.yaml is no YAML"),
    "empty parameter file": ({"params_file": "PLACE/empty.yaml"}, "holds no parameters"),
    "parameter file of a list": ({"params_file": "PLACE/list.yaml"}, "holds no parameters"),
    "parameters of nobody": ({"params_file": "PLACE/nobody.yaml"}, "'gate_nod' is no node of this stack"),
    "parameters without their heading": ({"params_file": "PLACE/bare.yaml"}, "holds no ros__parameters"),
    "parameters left empty": ({"params_file": "PLACE/hollow.yaml"}, "holds no ros__parameters"),
    "misspelt name": ({"task_": "kettle"}, "unknown argument 'task_'; did you mean task?"),
    "unknown name": ({"velocity": "2"}, "unknown argument 'velocity' (there are use_twin,"),
    "not among the choices": ({"driver": "franka"}, "driver:=franka: want one of twin, franka_ros2, multipanda"),
    "neither true nor false": ({"use_twin": "maybe"}, "use_twin:=maybe: want one of true, false"),
    "seed that is no number": ({"seed": "seven"}, "seed:=seven: want a whole number, 0 to 2147483647"),
    "seed that is a fraction": ({"seed": "1.5"}, "seed:=1.5: want a whole number"),
    "seed below its bound": ({"seed": "-1"}, "seed:=-1: want a whole number"),
    "seed beyond its bound": ({"seed": "2147483648"}, "want a whole number, 0 to 2147483647"),
    "bundle that is not there": ({"bundle": "PLACE/none"}, "PLACE/none is no bundle: it has no manifest.json"),
    "bundle that is no bundle": ({"bundle": "PLACE"}, "PLACE is no bundle"),
    "no bundle": ({"bundle": ""}, "bundle:=: is empty"),
    "program that is not there": ({"skimo": "PLACE/none"}, "skimo:=PLACE/none: no program there"),
    "program that is not on the path": ({"skimo": "skimmo"}, "skimo:=skimmo: no such program on the PATH"),
    "program that is no program": ({"skimo": "PLACE/broken.yaml"}, "no program there"),
    "namespace that is none": ({"namespace": "left-arm"}, "namespace:=left-arm: want words of letters, digits and _"),
    "parameters beside the namespace": (
        {"namespace": "left", "params_file": "PLACE/gate.yaml"},
        "PLACE/gate.yaml: 'gate_node' would reach nobody, for the nodes are below /left; write /left/gate_node",
    ),
    "namespace for a driver that takes none": (
        {"namespace": "left", "use_twin": "false", "driver": "multipanda", "robot_ip": "172.16.0.2"},
        "namespace:=/left cannot be given to multipanda_ros2",
    ),
    "recordings in a file": ({"recordings": "PLACE/broken.yaml"}, "PLACE/broken.yaml is no folder"),
    "recordings below a file": ({"recordings": "PLACE/broken.yaml/deep"}, "PLACE/broken.yaml is no folder"),
    "recordings at a dangling link": ({"recordings": "PLACE/dangling"}, "PLACE/dangling is no folder"),
    "robot without a driver": (
        {"use_twin": "false", "robot_ip": "172.16.0.2"},
        "use_twin:=false needs a robot's driver",
    ),
    "robot without an address": ({"use_twin": "false", "driver": "franka_ros2"}, "use_twin:=false needs the robot's"),
    "address of no robot": ({"robot_ip": "172.16.0.2"}, "robot_ip:=172.16.0.2 would reach no robot"),
    "address that is none": (ROBOT | {"robot_ip": "172.16.0"}, "want an address such as 172.16.0.2"),
    "driver of no known distribution": (ROBOT, "franka_ros2 is not known on ROS (ROS_DISTRO is not set)"),
    "driver that is not installed": (ROBOT, "launch/franka.launch.py of the package franka_bringup, which no prefix"),
    "exploration that is no number": ({"explore": "wide"}, "explore:=wide: want a number, 0 to 2"),
    "exploration below its bound": ({"explore": "-0.1"}, "explore:=-0.1: want a number, 0 to 2"),
    "exploration beyond its bound": ({"explore": "2.1"}, "explore:=2.1: want a number, 0 to 2"),
    "exploration without end": ({"explore": "nan"}, "explore:=nan: want a number, 0 to 2"),
    "two faults at once": ({"seed": "x", "use_twin": "y"}, "want one of true, false; seed:=x"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files of every wrong kind; also the home, and without any ROS."""
    (tmp_path / "broken.yaml").write_text("a: [1, 2\nb: 3")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "nobody.yaml").write_text("gate_nod: {ros__parameters: {workspace_low_m: [0.3, -0.3, 0.1]}}\n")
    (tmp_path / "bare.yaml").write_text("gate_node: {workspace_low_m: [0.3, -0.3, 0.1]}\n")
    (tmp_path / "gate.yaml").write_text("gate_node: {ros__parameters: {settle_s: 2.0}}\n")
    (tmp_path / "hollow.yaml").write_text("gate_node:\n  ros__parameters:\n")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def filled(given: Mapping[str, str], place: Path) -> dict[str, str]:
    return {name: value.replace("PLACE", str(place)) for name, value in given.items()}


def up_refuses(given: Mapping[str, str]) -> str:
    """The words with which `skimo up` refuses."""
    stack = load_stack(LAUNCH / "stack.yaml")
    environment = child_environment(stack, 0, os.environ)
    with pytest.raises(SpecError) as refused:
        argument_values(stack, [f"{name}:={value}" for name, value in given.items()], environment=environment)
    return str(refused.value)


def launch_refuses(given: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The words with which the launch file refuses, given the same on its command line."""
    typed = [f"{name}:={value}" for name, value in given.items()]
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "skimo_bringup", "panda.launch.py", *typed])
    with pytest.raises(ValueError) as refused:
        ros.actions_of(LAUNCH / "panda.launch.py", dict(given))
    return str(refused.value)


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_honoured_is_refused_by_both_in_the_same_words(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, words = filled(WRONG[case][0], place), WRONG[case][1]
    told = up_refuses(given)
    assert words.replace("PLACE", str(place)).replace("HOME", str(place)) in told
    assert launch_refuses(given, monkeypatch) == told


def test_a_link_to_a_bundle_stays_a_link_so_that_it_can_be_followed(place: Path) -> None:
    (place / "bundle").mkdir()
    (place / "bundle" / "manifest.json").touch()
    (place / "incumbent").symlink_to("bundle")
    stack = load_stack(LAUNCH / "stack.yaml")
    environment = child_environment(stack, 0, os.environ)
    values = argument_values(stack, ["bundle:=~/incumbent"], environment=environment)
    assert values["bundle"] == str(place / "incumbent")


def test_the_command_says_it_and_ends_with_1(place: Path, ros_domain: int) -> None:
    command = [sys.executable, "-m", "skimo_core.cli", "up", "params_file:=~/none.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == f"up: params_file:=~/none.yaml: cannot read {place}/none.yaml: No such file or directory\n"
    assert done.stdout == ""  # nothing was started


def test_names_that_ros_launch_itself_reads_are_no_fault_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", str(LAUNCH / "panda.launch.py"), "emulate_tty:=true"])
    assert ros.actions_of(LAUNCH / "panda.launch.py", {})


def test_names_on_the_command_line_of_another_launch_file_are_its_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "cell", "cell.launch.py", "conveyor:=true"])
    assert ros.actions_of(LAUNCH / "panda.launch.py", {})


def test_a_parameter_file_at_home_reaches_the_nodes(place: Path) -> None:
    (place / "cell.yaml").write_text("/**/gate_node: {ros__parameters: {workspace_low_m: [0.3, -0.3, 0.1]}}\n")
    stack = load_stack(LAUNCH / "stack.yaml")
    values = argument_values(stack, ["params_file:=~/cell.yaml"], environment=child_environment(stack, 0, os.environ))
    gate = next(process for process in resolve(stack, values) if process.name == "gate_node")
    assert gate.command[-2:] == ("--params-file", str(place / "cell.yaml"))
    actions = ros.actions_of(LAUNCH / "panda.launch.py", {"params_file": "~/cell.yaml"})
    (launched,) = [a for a in actions if a.kwargs.get("name") == "gate_node"]
    assert launched.kwargs["parameters"][-1] == str(place / "cell.yaml")


TEXTS = (
    "20261126",
    "1e5",
    "true",
    "null",
    "0x1F",
    "a: b",
    "~",
    '"x"',
    "[1]",
    "{a}",
    "Küche",
    "12:30:45",
    "a & b=-0.4±0.1 c=1",
)


def test_text_stays_text_however_much_it_looks_like_something_else(place: Path) -> None:
    stack = load_stack(LAUNCH / "stack.yaml")
    environment = child_environment(stack, 0, os.environ)
    for text in TEXTS:
        values = argument_values(stack, [f"task:={text}", "seed:=7"], environment=environment)
        command = next(p.command for p in resolve(stack, values, environment=environment) if p.name == "twin_node")
        options = dict(item.removeprefix("twin_node:").split(":=", 1) for item in command if ":=" in item)
        assert {name: yaml.safe_load(options[name]) for name in ("task", "seed")} == {"task": text, "seed": 7}
        actions = ros.actions_of(LAUNCH / "panda.launch.py", {"task": text, "seed": "7"})
        (twin,) = [a for a in actions if a.kwargs.get("name") == "twin_node"]
        typed = next(item for item in twin.kwargs["parameters"] if isinstance(item, dict))
        assert (typed["task"].args[0], typed["task"].kwargs["value_type"]) == (text, str)
        assert (typed["seed"].args[0], typed["seed"].kwargs["value_type"]) == (7, int)


def test_a_folder_named_like_a_number_is_a_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    stack = load_stack(LAUNCH / "stack.yaml")
    values = argument_values(stack, ["recordings:=20261126"], environment=child_environment(stack, 0, os.environ))
    assert values["recordings"] == str(place / "20261126")


@pytest.mark.filterwarnings("ignore")
def test_ros_launch_itself_refuses_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, where it is installed: exit code 1, and no process was started."""
    pytest.importorskip("launch_ros")
    for case, (given, _) in list(WRONG.items())[:: int(os.environ.get("SKIMO_EVERY", "6"))]:
        if "" in given.values():
            continue  # ros2 launch itself refuses NAME:= without a value
        typed = [f"{name}:={value}" for name, value in filled(given, place).items()]
        command = ["ros2", "launch", str(LAUNCH / "panda.launch.py"), *typed]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1, case
        assert up_refuses(filled(given, place)) in done.stdout + done.stderr, case
        assert "process started" not in done.stdout + done.stderr, case
