"""The stack of stack.yaml as a ROS 2 launch description: `ros2 launch skimo_bringup panda.launch.py use_twin:=true`.

A translation only: stack.yaml, beside this file, says which processes there are and what their death means, and
stack_reader.py refuses what cannot be honoured, before anything is started.
"""

import importlib.util
import os
import sys
import time
from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

HERE = Path(__file__).resolve().parent
LAUNCH_OWN = {"emulate_tty", "sigterm_timeout", "sigkill_timeout"}  # configurations that ROS's launch itself reads
RESPAWN_DELAY_S, YOUNG_S, MINUTE_S = 1.0, 10.0, 60.0


def load_reader():
    spec = importlib.util.spec_from_file_location("skimo_stack_reader", HERE / "stack_reader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = load_reader()


def generate_launch_description():
    stack = reader.read_stack(HERE / "stack.yaml")
    # Not `choices`: the reader refuses wrong ones, in the same words as `skimo up`.
    declared = [
        DeclareLaunchArgument(name, default_value=argument["default"], description=reader.described(argument))
        for name, argument in stack["arguments"].items()
    ]
    environment = [SetEnvironmentVariable(name, value) for name, value in stack["environment"].items()]
    parent = SetEnvironmentVariable("SKIMO_PARENT", str(os.getpid()))
    return LaunchDescription([*declared, *environment, parent, OpaqueFunction(function=start, args=[stack])])


def start(context, stack):
    given = {name: LaunchConfiguration(name).perform(context) for name in stack["arguments"]}
    environment = dict(context.environment)
    values = reader.values_of(
        stack, {**typed_names(), **given}, here=HERE, python=sys.executable, environment=environment
    )
    actions = []
    for process in reader.wanted(stack, values):
        actions += supervised(process, stack, values, environment)
    return actions


def typed_names():
    """What this file was given on the command line; ROS's launch takes names that nobody declares without a word."""
    words = sys.argv[1:]
    at = next((i for i, word in enumerate(words) if Path(word).name == Path(__file__).name), None)
    pairs = [word.partition(":=") for word in words[at + 1 :]] if at is not None else []
    return {name: value for name, separator, value in pairs if separator and name not in LAUNCH_OWN}


def supervised(process, stack, values, environment, deaths=()):
    """Returns the process, and what its exit means; `deaths` are the times at which earlier ones of it died."""
    action = translated(process, stack, values, environment)
    began_s = time.monotonic()

    def exited(event, context):
        name, code, now_s = process["name"], event.returncode, time.monotonic()
        if context.is_shutdown or (process["on_exit"] == "finish" and code == 0):
            return None
        recent = [*(s for s in deaths if now_s - s < MINUTE_S), now_s]
        refused = code > 0 and not deaths and now_s - began_s < YOUNG_S
        if process["on_exit"] != "respawn" or refused or len(recent) > process["max_per_minute"]:
            end = OpaqueFunction(function=died, args=[name, code, len(recent)])
            return [end]
        return [TimerAction(period=RESPAWN_DELAY_S, actions=supervised(process, stack, values, environment, recent))]

    return [action, RegisterEventHandler(OnProcessExit(target_action=action, on_exit=exited))]


def died(context, name, code, times):
    """Ends the launch with exit code 1, which an event of Shutdown would not (launch reports it as success)."""
    often = f" {times} times within a minute" if times > 1 else ""
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    raise RuntimeError(f"{name} died{often} ({how}); the stack ends")


def translated(process, stack, values, environment):
    options = {
        "name": process["name"],
        "output": "screen",
        "sigterm_timeout": LaunchConfiguration("sigterm_timeout", default=str(stack["end"]["interrupt_timeout_s"])),
        "sigkill_timeout": LaunchConfiguration("sigkill_timeout", default=str(stack["end"]["terminate_timeout_s"])),
    }
    if "node" not in process:
        return ExecuteProcess(cmd=reader.command_of(process, values, environment), **options)
    parameters = [
        {name: ParameterValue(value, value_type=type(value)) for name, value in item.items()}
        if isinstance(item, dict)
        else item
        for item in reader.parameters_of(process, values, stack["arguments"])
    ]
    namespace = reader.namespace_of(values)
    below = {"namespace": namespace} if namespace else {}
    return Node(parameters=parameters, **process["node"], **below, **options)
