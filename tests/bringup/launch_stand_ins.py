"""Handwritten stand-ins for the classes of ROS's `launch` and `launch_ros` that panda.launch.py uses.

ROS's launch is not on PyPI. These keep what they are given, and the translation under test does the rest.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any


class Kept:
    """Keeps its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


class LaunchDescription(Kept): ...


class DeclareLaunchArgument(Kept): ...


class SetEnvironmentVariable(Kept): ...


class ExecuteProcess(Kept): ...


class Node(ExecuteProcess): ...


class RegisterEventHandler(Kept): ...


class OnProcessExit(Kept): ...


class TimerAction(Kept): ...


class ParameterValue(Kept): ...


@dataclass
class ProcessExited:
    """The event of a process's end."""

    returncode: int


@dataclass
class Context:
    """What launch gives to functions and substitutions."""

    launch_configurations: dict[str, str] = field(default_factory=dict)
    is_shutdown: bool = False
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


class LaunchConfiguration(Kept):
    def perform(self, context: Context) -> str:
        return context.launch_configurations[self.args[0]]


class OpaqueFunction(Kept):
    def execute(self, context: Context) -> Any:
        return self.kwargs["function"](context, *self.kwargs.get("args", ()))


MODULES: dict[str, tuple[type, ...]] = {
    "launch": (LaunchDescription,),
    "launch.actions": (
        DeclareLaunchArgument,
        ExecuteProcess,
        OpaqueFunction,
        RegisterEventHandler,
        SetEnvironmentVariable,
        TimerAction,
    ),
    "launch.event_handlers": (OnProcessExit,),
    "launch.substitutions": (LaunchConfiguration,),
    "launch_ros": (),
    "launch_ros.actions": (Node,),
    "launch_ros.parameter_descriptions": (ParameterValue,),
}


@contextmanager
def installed() -> Iterator[None]:
    """Makes the stand-ins importable under ROS's names, and takes them away again."""
    before = {name: sys.modules.get(name) for name in MODULES}
    for name, classes in MODULES.items():
        module = ModuleType(name)
        for kept in classes:
            setattr(module, kept.__name__, kept)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def actions_of(launch_file: Path, given: dict[str, str], environment: Mapping[str, str] | None = None) -> list[Kept]:
    """Returns every action that a launch file gives for these arguments, those inside functions too."""
    with installed():
        spec = importlib.util.spec_from_file_location("launch_file_under_test", launch_file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (described,) = module.generate_launch_description().args
        defaults = {a.args[0]: a.kwargs["default_value"] for a in described if isinstance(a, DeclareLaunchArgument)}
        context = Context({**defaults, **given}, environment=dict(os.environ if environment is None else environment))
        flat: list[Kept] = []
        for action in described:
            flat += action.execute(context) if isinstance(action, OpaqueFunction) else [action]
        return flat
