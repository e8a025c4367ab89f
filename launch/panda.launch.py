"""The stack of stack.yaml as a ROS 2 launch description: `ros2 launch skimo_bringup panda.launch.py use_twin:=true`.

A translation only: stack.yaml, beside this file, says which processes there are and what their death means.
"""

from pathlib import Path

import yaml
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

HERE = Path(__file__).resolve().parent


def generate_launch_description():
    stack = yaml.safe_load((HERE / "stack.yaml").read_text())
    declared = [
        DeclareLaunchArgument(
            name, default_value=argument["default"], description=argument["help"], choices=argument.get("choices")
        )
        for name, argument in stack["arguments"].items()
    ]
    environment = [SetEnvironmentVariable(name, value) for name, value in stack["environment"].items()]
    return LaunchDescription([*declared, *environment, OpaqueFunction(function=start, args=[stack])])


def start(context, stack):
    values = {name: LaunchConfiguration(name).perform(context) for name in stack["arguments"]}
    values["here"] = str(HERE)
    wanted = [
        process
        for process in stack["processes"]
        if all(values[name] == value for name, value in process.get("when", {}).items())
    ]
    return [action for process in wanted for action in actions(process, values)]


def actions(process, values):
    if "include" in process:
        return [include(process["include"], values)]
    if process["on_exit"] == "respawn":
        respawn = {"respawn": True, "respawn_delay": 60.0 / process["max_per_minute"]}
    else:
        respawn = {}
    if "node" in process:
        action = Node(
            name=process["name"],
            parameters=parameters(process["parameters"], values),
            output="screen",
            **process["node"],
            **respawn,
        )
    else:
        command = [part.format(**values) for part in process["command"]]
        action = ExecuteProcess(name=process["name"], cmd=command, output="screen", **respawn)
    if process["on_exit"] != "stop":
        return [action]
    end = OpaqueFunction(function=died, args=[process["name"]])
    return [action, RegisterEventHandler(OnProcessExit(target_action=action, on_exit=[end]))]


def died(context, name):
    """Ends the launch with exit code 1, which an event of Shutdown would not (launch reports it as success)."""
    if not context.is_shutdown:
        raise RuntimeError(f"{name} died; the stack ends")


def parameters(items, values):
    translated = []
    for item in items:
        if isinstance(item, dict):
            translated.append({name: yaml.safe_load(value.format(**values)) for name, value in item.items()})
        elif item.format(**values):
            translated.append(item.format(**values))
    return translated


def include(description, values):
    path = PathJoinSubstitution([FindPackageShare(description["package"]), description["launch_file"]])
    arguments = {name: value.format(**values) for name, value in description["arguments"].items()}
    return IncludeLaunchDescription(PythonLaunchDescriptionSource([path]), launch_arguments=arguments.items())
