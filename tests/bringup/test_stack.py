"""launch/panda.launch.py and `skimo up` derive the same processes from launch/stack.yaml."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from bringup import launch_stand_ins as ros

from skimo_core.errors import SetupError, SpecError
from skimo_core.up.cli import child_environment
from skimo_core.up.stack import OnExit, ProcessSpec, argument_values, find_stack, load_stack, resolve

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
ARGUMENTS = [
    {},
    {"task": "microwave,light_switch,slide_cabinet,hinge_cabinet", "seed": "7", "driver": "multipanda"},
    {
        "bundle": "a folder/bundle",
        "endpoint": "tcp://127.0.0.1:6001",
        "params_file": "mine.yaml",
        "recordings": "somewhere else",
    },
]


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
    for item in options["parameters"]:
        if isinstance(item, str):
            command += ["--params-file", item]
        else:
            for name, value in item.items():
                command += ["-p", f"{options['name']}:{name}:={yaml_scalar(value)}"]
    return tuple(command)


def yaml_scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_style='"' if isinstance(value, str) else None).removesuffix("...\n").strip()


@pytest.mark.parametrize("given", ARGUMENTS)
def test_both_starters_run_the_same_commands_in_the_same_order(given: dict[str, str]) -> None:
    actions = [action for action in launched(given) if isinstance(action, ros.ExecuteProcess)]
    assert [action.kwargs["name"] for action in actions] == [process.name for process in upped(given)]
    assert [as_command(action) for action in actions] == [process.command for process in upped(given)]


def test_both_starters_respawn_the_same_processes_at_most_as_often() -> None:
    actions = [action for action in launched({}) if isinstance(action, ros.ExecuteProcess)]
    for action, process in zip(actions, upped({}), strict=True):
        assert action.kwargs.get("respawn", False) is (process.on_exit is OnExit.RESPAWN)
        if process.on_exit is OnExit.RESPAWN:
            assert process.max_per_minute == 3
            assert 60.0 / action.kwargs["respawn_delay"] == process.max_per_minute


def test_both_starters_end_with_the_same_vital_processes() -> None:
    handlers = [action.args[0] for action in launched({}) if isinstance(action, ros.RegisterEventHandler)]
    vital = [handler.kwargs["target_action"].kwargs["name"] for handler in handlers]
    assert vital == [process.name for process in upped({}) if process.on_exit is OnExit.STOP]
    assert set(vital) == {"twin_node", "gate_node", "policy_node"}
    for name, handler in zip(vital, handlers, strict=True):
        (end,) = handler.kwargs["on_exit"]
        with pytest.raises(RuntimeError, match=name):
            end.execute(ros.Context())
        assert end.execute(ros.Context(is_shutdown=True)) is None


def test_both_starters_set_the_same_environment() -> None:
    stack = load_stack(LAUNCH / "stack.yaml")
    launch_sets = {a.args[0]: a.args[1] for a in launched({}) if isinstance(a, ros.SetEnvironmentVariable)}
    assert launch_sets == dict(stack.environment)
    up_sets = child_environment(stack, 5, {"PATH": "there", "OMP_NUM_THREADS": "8"})
    assert up_sets.items() >= launch_sets.items()
    assert (up_sets["ROS_DOMAIN_ID"], up_sets["ROS_AUTOMATIC_DISCOVERY_RANGE"]) == ("5", "LOCALHOST")


@pytest.mark.parametrize(
    ("driver", "launch_file"),
    [("franka_ros2", "launch/franka.launch.py"), ("multipanda", "launch/real/franka.launch.py")],
)
def test_a_real_robot_gets_its_driver_and_no_twin(driver: str, launch_file: str) -> None:
    given = {"use_twin": "false", "driver": driver, "robot_ip": "172.16.0.2"}
    actions = launched(given)
    (included,) = [a for a in actions if isinstance(a, ros.IncludeLaunchDescription)]
    assert included.args[0].args[0][0].args[0][1] == launch_file
    arguments = dict(included.kwargs["launch_arguments"])
    assert arguments["robot_ip"] == "172.16.0.2"
    assert Path(arguments.get("controllers_yaml", LAUNCH / "params/franka_ros2_controllers.yaml")).is_file()
    assert "twin_node" not in [a.kwargs["name"] for a in actions if isinstance(a, ros.ExecuteProcess)]
    with pytest.raises(SetupError, match="ros2 launch"):
        upped(given)


def test_parameter_files_of_the_stack_exist_and_parse() -> None:
    for process in upped({}):
        for option, value in zip(process.command, process.command[1:], strict=False):
            if option == "--params-file":
                assert "ros__parameters" in yaml.safe_load(Path(value).read_text())["/**"]


@pytest.mark.parametrize("given", ["use_twin:=maybe", "robot:=x", "use_twin"])
def test_a_wrong_argument_is_refused_with_what_is_allowed(given: str) -> None:
    with pytest.raises(SpecError, match="want"):
        argument_values(load_stack(LAUNCH / "stack.yaml"), [given])


def test_the_checkout_s_stack_is_found() -> None:
    assert find_stack() == LAUNCH / "stack.yaml"


@pytest.mark.ros
@pytest.mark.parametrize("node", ["twin_node", "gate_node", "recorder_node", "policy_node"])
def test_every_parameter_that_the_stack_gives_is_declared_by_its_node(node: str) -> None:
    declared = {parameter.name for parameter in importlib.import_module(f"skimo_ros.{node}").PARAMETERS}
    (process,) = [process for process in upped({}) if process.name == node]
    given = {value.split(":")[1] for value in process.command if value.startswith(f"{node}:")}
    assert given and given <= declared | {"use_sim_time"}
