"""launch/panda.launch.py and `skimo up` derive the same processes from launch/stack.yaml."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from bringup import launch_stand_ins as ros

from skimo_bringup.stack import OnExit, ProcessSpec, argument_values, find_stack, load_stack, resolve
from skimo_bringup.up import child_environment
from skimo_core.contract.errors import SpecError
from skimo_core.process.parent import PARENT

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
ARGUMENTS = [
    {},
    {"task": "microwave,light_switch,slide_cabinet,hinge_cabinet", "seed": "7", "driver": "multipanda"},
    {
        "bundle": "PLACE/a bundle",
        "endpoint": "tcp://127.0.0.1:6001",
        "params_file": "PLACE/mine.yaml",
        "recordings": "somewhere else",
    },
    {"namespace": "left"},
    {"rig": "lab.yaml", "robot_serial": "295341", "rig_max_age_days": "30"},
    {"policy": "false"},
    {"use_tracker": "true", "rig": "kitchen_twin"},
    {"use_tf": "true"},
]
ROBOTS = {
    "franka_ros2": ("jazzy", "launch/franka.launch.py"),
    "multipanda": ("humble", "launch/real/franka.launch.py"),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle, a parameter file, a workspace with both drivers' launch files and a `ros2`, all of them found."""
    (tmp_path / "a bundle").mkdir()
    (tmp_path / "a bundle/manifest.json").write_text("{}")
    (tmp_path / "mine.yaml").write_text("/**: {ros__parameters: {}}")
    for _, launch_file in ROBOTS.values():
        path = tmp_path / "share/franka_bringup" / launch_file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "ros2").touch(mode=0o755)
    programs = [str(Path(sys.executable).parent), os.environ["PATH"], str(tmp_path)]
    monkeypatch.setenv("PATH", os.pathsep.join(programs))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    return tmp_path


def filled(given: dict[str, str], place: Path) -> dict[str, str]:
    return {name: value.replace("PLACE", str(place)) for name, value in given.items()}


def launched(given: dict[str, str]) -> list[ros.Kept]:
    return ros.actions_of(LAUNCH / "panda.launch.py", given)


def upped(given: dict[str, str]) -> list[ProcessSpec]:
    stack = load_stack(LAUNCH / "stack.yaml")
    return resolve(stack, argument_values(stack, [f"{name}:={value}" for name, value in given.items()]))


def as_command(action: ros.Kept) -> tuple[str, ...]:
    """The command line that `skimo up` is to use for an action of launch."""
    options = action.kwargs
    if not isinstance(action, ros.Node):
        return tuple(options["cmd"])
    command = [sys.executable, "-m", f"{options['package']}.{options['executable']}"]
    command += ["--ros-args", "-r", f"__node:={options['name']}"]
    command += ["-r", f"__ns:={options['namespace']}"] if "namespace" in options else []
    for item in options["parameters"]:
        if isinstance(item, str):
            command += ["--params-file", item]
        else:
            for name, parameter in item.items():
                (value,) = parameter.args
                assert parameter.kwargs["value_type"] is type(value)  # else launch_ros reads text as YAML
                command += ["-p", f"{name}:={yaml_scalar(value)}"]
    return tuple(command)


def yaml_scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_style='"' if isinstance(value, str) else None).removesuffix("...\n").strip()


@pytest.mark.parametrize("given", ARGUMENTS)
def test_both_starters_run_the_same_commands_in_the_same_order(given: dict[str, str], place: Path) -> None:
    given = filled(given, place)
    actions = [action for action in launched(given) if isinstance(action, ros.ExecuteProcess)]
    assert [action.kwargs["name"] for action in actions] == [process.name for process in upped(given)]
    assert [as_command(action) for action in actions] == [process.command for process in upped(given)]


def exits(given: dict[str, str]) -> dict[str, Callable[[int], list[ros.Kept] | None]]:
    """By process, what the launch file does when it exits with a code."""
    handlers = [action.args[0].kwargs for action in launched(given) if isinstance(action, ros.RegisterEventHandler)]
    return {
        handler["target_action"].kwargs["name"]: lambda code, h=handler: h["on_exit"](
            ros.ProcessExited(code), ros.Context()
        )
        for handler in handlers
    }


def ends_the_launch(reaction: list[ros.Kept] | None, name: str, how: str = "died") -> bool:
    if not reaction or not isinstance(reaction[0], ros.OpaqueFunction):
        return False
    with pytest.raises(RuntimeError, match=f"{name} {how}"):
        reaction[0].execute(ros.Context())
    return True


def test_both_starters_respawn_the_same_processes_at_most_as_often() -> None:
    on_exit = exits({})
    for process in upped({}):
        reaction = on_exit[process.name](-9)
        if process.on_exit is not OnExit.RESPAWN:
            assert ends_the_launch(reaction, process.name)
            continue
        assert process.max_per_minute == 3
        for _ in range(process.max_per_minute):
            assert reaction is not None
            (again,) = reaction
            assert isinstance(again, ros.TimerAction)
            respawned, handler = again.kwargs["actions"]
            assert respawned.kwargs["name"] == process.name
            reaction = handler.args[0].kwargs["on_exit"](ros.ProcessExited(1), ros.Context())
        assert ends_the_launch(reaction, process.name, "died 4 times within a minute")


def test_both_starters_end_with_the_same_vital_processes() -> None:
    vital = {process.name for process in upped({}) if process.on_exit is OnExit.STOP}
    assert vital == {"twin_node", "gate_node", "policy_node"}
    assert {name for name, exited in exits({}).items() if ends_the_launch(exited(0), name)} == vital


def test_what_cannot_work_is_not_started_again() -> None:
    """A server without its bundle, a recorder without its folder: an exit code in the first seconds ends the launch."""
    assert {name for name, exited in exits({}).items() if not ends_the_launch(exited(1), name)} == set()


def test_an_exit_while_the_launch_ends_means_nothing() -> None:
    handlers = [action.args[0].kwargs for action in launched({}) if isinstance(action, ros.RegisterEventHandler)]
    assert [h["on_exit"](ros.ProcessExited(1), ros.Context(is_shutdown=True)) for h in handlers] == [None] * 5


def test_both_starters_set_the_same_environment() -> None:
    stack = load_stack(LAUNCH / "stack.yaml")
    launch_sets = {a.args[0]: a.args[1] for a in launched({}) if isinstance(a, ros.SetEnvironmentVariable)}
    assert launch_sets == dict(stack.environment) | {PARENT: str(os.getpid())}
    up_sets = child_environment(stack, 5, {"PATH": "there", "OMP_NUM_THREADS": "8"})
    assert up_sets.items() >= launch_sets.items()
    assert (up_sets["ROS_DOMAIN_ID"], up_sets["ROS_AUTOMATIC_DISCOVERY_RANGE"]) == ("5", "LOCALHOST")


@pytest.mark.parametrize("driver", ROBOTS)
def test_a_real_robot_gets_its_driver_and_no_twin(driver: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distro, launch_file = ROBOTS[driver]
    monkeypatch.setenv("ROS_DISTRO", distro)
    given = {"use_twin": "false", "driver": driver, "robot_ip": "172.16.0.2"}
    processes = {process.name: process for process in upped(given)}
    assert list(processes)[1:3] == [f"{driver}_driver", "joint_trajectory_controller_spawner"]
    assert "twin_node" not in processes
    command = processes[f"{driver}_driver"].command
    path = str(place / "share/franka_bringup" / launch_file)
    assert command[1:7] == ("-m", "skimo_bringup.driver", "--", "ros2", "launch", path)
    assert "robot_ip:=172.16.0.2" in command
    assert processes[f"{driver}_driver"].on_exit is OnExit.STOP
    spawner = processes["joint_trajectory_controller_spawner"]
    assert spawner.on_exit is OnExit.FINISH
    controllers = Path(spawner.command[spawner.command.index("--param-file") + 1])
    assert controllers == LAUNCH / f"params/controllers_{driver}_{distro}.yaml"
    assert [as_command(a) for a in launched(given) if isinstance(a, ros.ExecuteProcess)] == [
        process.command for process in processes.values()
    ]


def test_below_a_namespace_the_driver_is_below_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    given = {"use_twin": "false", "driver": "franka_ros2", "robot_ip": "172.16.0.2"}
    beside = {process.name: process.command for process in upped(given)}
    below = {process.name: process.command for process in upped(given | {"namespace": "left/"})}
    driver, spawner = "franka_ros2_driver", "joint_trajectory_controller_spawner"
    assert below[driver][3:5] == ("/left", "--") and "namespace:=/left" in below[driver]
    assert not [word for word in beside[driver] if word.endswith(":=") or word.startswith("namespace")]
    assert "/left/controller_manager" in below[spawner] and "/controller_manager" in beside[spawner]


@pytest.mark.parametrize(("given", "below"), [("left", "/left"), ("/lab/left/", "/lab/left"), ("/", ""), ("", "")])
def test_two_namespaces_share_neither_nodes_nor_the_servers_socket(given: str, below: str) -> None:
    for process in upped({"namespace": given}):
        if process.name == "server":
            assert process.command[-1] == f"local{below}"
            assert process.ready is not None and process.ready.endpoint == f"local{below}"
        elif below:
            assert process.command[process.command.index(f"__ns:={below}") - 1] == "-r"
            assert process.name != "policy_node" or f'endpoint:="local{below}"' in process.command
        else:
            assert not [word for word in process.command if "__ns" in word]


def test_an_endpoint_that_was_given_is_left_alone() -> None:
    server = upped({"namespace": "left", "endpoint": "ipc:///run/there"})[0]
    assert server.command[-1] == "ipc:///run/there"


def test_a_failed_spawner_ends_both_and_a_finished_one_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    exited = exits({"use_twin": "false", "driver": "franka_ros2", "robot_ip": "172.16.0.2"})
    name = "joint_trajectory_controller_spawner"
    assert exited[name](0) is None
    assert ends_the_launch(exited[name](1), name)
    assert ends_the_launch(exited["franka_ros2_driver"](0), "franka_ros2_driver")


def test_parameter_files_of_the_stack_exist_and_parse() -> None:
    for process in upped({}):
        for option, value in zip(process.command, process.command[1:], strict=False):
            if option == "--params-file":
                assert "ros__parameters" in yaml.safe_load(Path(value).read_text())["/**"]


@pytest.mark.parametrize("given", ["use_twin", ":=x", "task=kettle"])
def test_what_is_no_argument_is_refused_with_what_is(given: str) -> None:
    with pytest.raises(SpecError, match="want name:=value with a name of use_twin"):
        argument_values(load_stack(LAUNCH / "stack.yaml"), [given])


def test_the_checkout_s_stack_is_found() -> None:
    assert find_stack() == LAUNCH / "stack.yaml"


@pytest.mark.ros
@pytest.mark.parametrize("node", ["twin_node", "gate_node", "recorder_node", "policy_node"])
def test_every_parameter_that_the_stack_gives_is_declared_by_its_node(node: str) -> None:
    declared = {parameter.name for parameter in importlib.import_module(f"skimo_ros.{node}").PARAMETERS}
    (process,) = [process for process in upped({}) if process.name == node]
    pairs = zip(process.command, process.command[1:], strict=False)
    given = {value.partition(":=")[0] for option, value in pairs if option == "-p"}
    assert given and given <= declared
