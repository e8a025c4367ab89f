"""Turns launch/stack.yaml, the one description of the stack, into commands.

Promises
  - The same file gives the same processes here and in launch/panda.launch.py (a test compares them): both read it
    through launch/stack_reader.py, which is loaded from beside it.
  - Everything is checked before anything is started; an error names the argument or process and what is allowed.
  - Parameters of a node are given in the order of the file, so that later ones win as in launch_ros; without its name,
    for ROS takes a name on a command line as that of a node below no namespace. Each process is one node.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.link.endpoint import Endpoint, parse_endpoint


class OnExit(str, Enum):
    """What the death of a process means."""

    STOP = "stop"
    RESPAWN = "respawn"
    FINISH = "finish"


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
class End:
    """How long an end waits after SIGINT, and then after SIGTERM, s."""

    interrupt_timeout_s: float = 8.0
    terminate_timeout_s: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The description as it stands in the file, arguments not yet put in, and the module that reads it."""

    folder: Path
    data: Mapping[str, Any]
    reader: ModuleType

    @property
    def arguments(self) -> Mapping[str, Mapping[str, Any]]:
        return self.data["arguments"]

    @property
    def environment(self) -> Mapping[str, str]:
        return self.data["environment"]

    @property
    def end(self) -> End:
        return End(**self.data.get("end", {}))


def find_stack() -> Path:
    """Returns the stack.yaml of this checkout, or of the installed skimo_bringup."""
    checkout = Path(__file__).resolve().parents[4] / "launch" / "stack.yaml"
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    for path in [checkout, *(Path(prefix) / "share/skimo_bringup/launch/stack.yaml" for prefix in prefixes)]:
        if path.is_file():
            return path
    raise SetupError("no launch/stack.yaml found; run from a checkout, source the workspace, or give --stack PATH")


def load_stack(path: Path) -> Stack:
    """Reads a stack description.

    Raises:
        SetupError: the file cannot be read.
    """
    reader = _reader(path.resolve().parent)
    try:
        data = reader.read_stack(path)
    except OSError as error:
        raise SetupError(f"cannot read the stack's description {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise SetupError(f"cannot take the stack's description {path}: {error}") from None
    return Stack(folder=path.resolve().parent, data=data, reader=reader)


def _reader(folder: Path) -> ModuleType:
    """The stack_reader.py beside a stack.yaml, else that of the stack that is found."""
    beside = folder / "stack_reader.py"
    path = beside if beside.is_file() else find_stack().parent / "stack_reader.py"
    spec = importlib.util.spec_from_file_location("skimo_stack_reader", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def argument_values(
    stack: Stack, given: Sequence[str], *, python: str = sys.executable, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Returns the value of every argument; `given` holds `name:=value`, as for `ros2 launch`.

    Raises:
        SpecError: something that was given cannot be honoured.
    """
    pairs = [item.partition(":=") for item in given]
    for (name, separator, _), item in zip(pairs, given, strict=True):
        if not separator or not name:
            raise SpecError(f"argument {item!r}: want name:=value with a name of {', '.join(stack.arguments)}")
    values = {name: value for name, _, value in pairs}
    try:
        return stack.reader.values_of(
            stack.data,
            values,
            here=stack.folder,
            python=python,
            environment=os.environ if environment is None else environment,
        )
    except stack.reader.Refused as refused:
        raise SpecError(str(refused)) from None


def resolve(
    stack: Stack, values: Mapping[str, str], *, environment: Mapping[str, str] | None = None
) -> list[ProcessSpec]:
    """Returns the processes that these values of `argument_values` want, in the order of their start."""
    environment = os.environ if environment is None else environment
    return [_process(stack, process, values, environment) for process in stack.reader.wanted(stack.data, values)]


def _process(
    stack: Stack, process: Mapping[str, Any], values: Mapping[str, str], environment: Mapping[str, str]
) -> ProcessSpec:
    if "node" in process:
        command = [values["python"], "-m", f"{process['node']['package']}.{process['node']['executable']}"]
        namespace = stack.reader.namespace_of(values)
        command += ["--ros-args", "-r", f"__node:={process['name']}"]
        command += ["-r", f"__ns:={namespace}"] if namespace else []
        command += _options(stack.reader.parameters_of(process, values, stack.arguments))
    else:
        command = stack.reader.command_of(process, values, environment)
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


def _options(parameters: Sequence[str | Mapping[str, Any]]) -> list[str]:
    """The command line's form of a node's parameters; JSON is YAML whose types cannot be mistaken."""
    options: list[str] = []
    for item in parameters:
        if isinstance(item, str):
            options += ["--params-file", item]
            continue
        for name, value in item.items():
            options += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]
    return options
