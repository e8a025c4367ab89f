"""Reads launch/stack.yaml, the one description of the stack, and turns it into commands.

Promises
  - The same file gives the same processes here and in launch/panda.launch.py (a test compares them).
  - Everything is checked before anything is started; an error names the argument or process and what is allowed.
  - Parameters of a node are given under its name, in the order of the file, so that later ones win as in launch_ros.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from skimo_core.endpoint import Endpoint, parse_endpoint
from skimo_core.errors import SetupError, SpecError


class OnExit(str, Enum):
    """What the death of a process means."""

    STOP = "stop"
    RESPAWN = "respawn"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What answers once the process is ready: an endpoint (`endpoint.py`), or a loopback TCP port."""

    timeout_s: float
    port: int = 0
    endpoint: str = ""

    @property
    def address(self) -> Endpoint:
        return parse_endpoint(self.endpoint) if self.endpoint else Endpoint(host="127.0.0.1", port=self.port)

    def __str__(self) -> str:
        return str(self.address) if self.endpoint else f"port {self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process of the stack, ready to be started."""

    name: str
    command: tuple[str, ...]
    on_exit: OnExit
    max_per_minute: int = 0
    ready: Ready | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of the stack."""

    default: str
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The description as it stands in the file, arguments not yet put in."""

    folder: Path
    arguments: Mapping[str, Argument]
    environment: Mapping[str, str]
    processes: Sequence[Mapping[str, Any]]


def find_stack() -> Path:
    """Returns the stack.yaml of this checkout, or of the installed skimo_bringup."""
    checkout = Path(__file__).resolve().parents[5] / "launch" / "stack.yaml"
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    for path in [checkout, *(Path(prefix) / "share/skimo_bringup/launch/stack.yaml" for prefix in prefixes)]:
        if path.is_file():
            return path
    raise SetupError("no launch/stack.yaml found; run from a checkout, source the workspace, or give --stack PATH")


def load_stack(path: Path) -> Stack:
    """Reads a stack description."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    arguments = {
        name: Argument(default=item["default"], help=item["help"], choices=tuple(item.get("choices", ())))
        for name, item in data["arguments"].items()
    }
    return Stack(
        folder=path.resolve().parent,
        arguments=arguments,
        environment=data["environment"],
        processes=data["processes"],
    )


def argument_values(stack: Stack, given: Sequence[str]) -> dict[str, str]:
    """Returns the value of every argument; `given` holds `name:=value`, as for `ros2 launch`."""
    values = {name: argument.default for name, argument in stack.arguments.items()}
    for item in given:
        name, separator, value = item.partition(":=")
        if not separator or name not in values:
            raise SpecError(f"argument {item!r}: want name:=value with a name of {', '.join(values)}")
        values[name] = value
    for name, argument in stack.arguments.items():
        if argument.choices and values[name] not in argument.choices:
            raise SpecError(f"argument {name}:={values[name]}: want one of {', '.join(argument.choices)}")
    return values


def resolve(stack: Stack, values: Mapping[str, str], *, python: str = sys.executable) -> list[ProcessSpec]:
    """Returns the processes that these argument values want, in the order of their start.

    Raises:
        SetupError: one of them is another package's launch file, which only ROS's own launch can run.
    """
    values = {**values, "here": str(stack.folder)}
    wanted = [p for p in stack.processes if all(values[name] == v for name, v in p.get("when", {}).items())]
    for process in wanted:
        if "include" in process:
            raise SetupError(
                f"{process['name']} is a launch file of {process['include']['package']}, which needs ROS's own launch: "
                "ros2 launch skimo_bringup panda.launch.py (skimo up can start the twin only)"
            )
    return [_process(process, values, python) for process in wanted]


def _process(process: Mapping[str, Any], values: Mapping[str, str], python: str) -> ProcessSpec:
    if "node" in process:
        command = [python, "-m", f"{process['node']['package']}.{process['node']['executable']}"]
        command += ["--ros-args", "-r", f"__node:={process['name']}"]
        command += _parameters(process["name"], process["parameters"], values)
    else:
        command = [part.format(**values) for part in process["command"]]
    ready = process.get("ready")
    return ProcessSpec(
        name=process["name"],
        command=tuple(command),
        on_exit=OnExit(process["on_exit"]),
        max_per_minute=process.get("max_per_minute", 0),
        ready=_ready(ready, values) if ready else None,
    )


def _ready(ready: Mapping[str, Any], values: Mapping[str, str]) -> Ready:
    port, endpoint = ready.get("port", "0").format(**values), ready.get("endpoint", "").format(**values)
    if endpoint:
        parse_endpoint(endpoint)  # one that is none is refused before anything starts
    return Ready(port=int(port), endpoint=endpoint, timeout_s=ready["timeout_s"])


def _parameters(node: str, items: Sequence[str | Mapping[str, str]], values: Mapping[str, str]) -> list[str]:
    options: list[str] = []
    for item in items:
        if isinstance(item, str):
            path = item.format(**values)
            options += ["--params-file", path] if path else []
            continue
        for name, template in item.items():
            value = yaml.safe_load(template.format(**values))
            options += ["-p", f"{node}:{name}:={json.dumps(value)}"]
    return options
