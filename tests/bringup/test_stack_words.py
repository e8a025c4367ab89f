"""A stack's description that is malformed is refused in words, and a driver that runs elsewhere is left alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from house.repository import ROOT

from skimo_bringup.stack import argument_values, load_stack, resolve
from skimo_bringup.up import up
from skimo_core.contract.errors import SetupError, SpecError

STACK = ROOT / "launch/stack.yaml"


def names_of(*given: str) -> list[str]:
    stack = load_stack(STACK)
    environment = {"PATH": str(Path(sys.executable).parent), "ROS_DISTRO": "jazzy"}
    values = argument_values(stack, given, environment=environment)
    return [process.name for process in resolve(stack, values, environment=environment)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("environment"), "environment must be a table, is None"),
        (lambda s: s.pop("processes"), "processes must be a list, is None"),
        (lambda s: s["arguments"]["use_twin"].update(default=True), "use_twin: default is True, must be text"),
        (lambda s: s["arguments"]["use_twin"].pop("help"), "use_twin must have default, type and help"),
        (lambda s: s["arguments"]["use_twin"].update(type="maybe"), "use_twin: type is 'maybe', must be one of text"),
        (lambda s: s["environment"].update(OMP_NUM_THREADS=1), "OMP_NUM_THREADS is 1, must be text"),
        (lambda s: s["processes"][0].update(on_exit="explode"), "process server: on_exit is 'explode', must be one of"),
        (lambda s: s["processes"][0].pop("on_exit"), "process server: on_exit is None"),
        (lambda s: s["processes"][0].pop("command"), "process server must have one of node, command, driver, has none"),
        (lambda s: s["processes"][0].update(command=["a", 1]), "command must be a list of words"),
        (lambda s: s["processes"][0].update(when={"policy": True}), "when policy is True"),
        (lambda s: s["processes"][0].update(when={"polish": "true"}), "when polish is 'true'"),
        (lambda s: s["processes"].append({"node": {}}), "must be a table with a name"),
        (lambda s: s["processes"][-1].pop("parameters"), "policy_node: parameters must be a list"),
        (lambda s: s["processes"][-1].update(node={"package": "x"}), "policy_node: node must have package, executable"),
    ],
)
def test_a_malformed_description_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change, words: str
) -> None:
    stack = yaml.safe_load(STACK.read_text())
    change(stack)
    path = tmp_path / "stack.yaml"
    path.write_text(yaml.safe_dump(stack, sort_keys=False))
    assert up(["--stack", str(path), "--show-args"]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "it is no YAML"), ("- 1", "must be a table with arguments"), ("", "must be a table")]
)
def test_what_is_no_description_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text(text)
    with pytest.raises(SetupError, match=words):
        load_stack(path)
    with pytest.raises(SetupError, match="No such file"):
        load_stack(tmp_path / "gone.yaml")


def test_a_driver_that_runs_elsewhere_is_not_started() -> None:
    ours = names_of("use_twin:=false", "driver:=franka_ros2", "start_driver:=false")
    assert ours == ["server", "gate_node", "recorder_node", "policy_node"]


def test_a_driver_of_one_s_own_is_a_file_of_names(tmp_path: Path) -> None:
    names = tmp_path / "own.yaml"
    names.write_text("like: franka_ros2\n")
    given = ("use_twin:=false", f"driver:={names}")
    assert "gate_node" in names_of(*given, "start_driver:=false")
    with pytest.raises(SpecError, match="start it yourself, and give start_driver:=false"):
        names_of(*given)
    with pytest.raises(SpecError, match="or a file's path"):
        names_of("use_twin:=false", f"driver:={tmp_path}/gone.yaml", "start_driver:=false")
    with pytest.raises(SpecError, match="start_driver:=false is of a robot's driver"):
        names_of("start_driver:=false")
