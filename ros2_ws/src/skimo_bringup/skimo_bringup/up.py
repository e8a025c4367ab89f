"""The command `skimo up`: the stack of launch/stack.yaml, supervised, in this terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from skimo_bringup.stack import ProcessSpec, Stack, argument_values, find_stack, load_stack, resolve
from skimo_bringup.supervise import Outcome, SuperviseConfig, Supervisor
from skimo_core.contract.errors import SetupError, SkimoError, SpecError
from skimo_core.link.endpoint import answers, ros_domain
from skimo_core.process.isolation import DomainLock, free_domain, namespace_of, role
from skimo_core.process.parent import PARENT


@dataclass(frozen=True, slots=True, kw_only=True)
class UpConfig:
    """Start policy server, twin, gate, recorder and policy node from launch/stack.yaml, and keep them running."""

    arguments: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """name:=value, as for `ros2 launch`; --show-args lists the names"""
    show_args: bool = False
    """list the arguments with their defaults, and start nothing"""
    namespace: str | None = None
    """short for namespace:=NAMESPACE: everything below it, so that two arms share a ROS domain"""
    isolated: bool = False
    """draw a free ROS domain, so that nothing else on this machine is met"""
    stack: Path | None = None
    """another stack.yaml"""
    log_folder: Path | None = None
    """also write each process's output to NAME.log in this folder, and pids.json"""


def up(argv: list[str]) -> int:
    """Start the stack (server, twin, gate, recorder, policy) and supervise it."""
    config = tyro.cli(UpConfig, args=argv, prog="skimo up")
    try:
        stack = load_stack(config.stack or find_stack())
        if config.show_args:
            return _show(stack)
        outcome = start(stack, config)
    except SkimoError as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    print(f"up: ended: {outcome.reason}", file=sys.stderr)
    return outcome.exit_code


def start(stack: Stack, config: UpConfig) -> Outcome:
    """Runs the stack until it ends; refuses to start where another one already is."""
    values = argument_values(stack, _given(config), environment=child_environment(stack, 0, os.environ))
    namespace = stack.reader.namespace_of(values)
    own = role(namespace, "stack")
    if config.log_folder is not None:
        config.log_folder.mkdir(parents=True, exist_ok=True)
    with free_domain(own) if config.isolated else DomainLock(ros_domain(), own) as lock:
        os.environ["ROS_DOMAIN_ID"] = str(lock.domain)  # `local` endpoints are named for it
        environment = child_environment(stack, lock.domain, os.environ)
        processes = resolve(stack, values, environment=environment)
        _check_endpoints(processes)
        where = f"ROS domain {lock.domain}" + (f", namespace {namespace}" if namespace else "")
        _echo("up", where + "".join(f", {p.name} at {p.ready}" for p in processes if p.ready))
        times = SuperviseConfig(
            interrupt_timeout_s=stack.end.interrupt_timeout_s, terminate_timeout_s=stack.end.terminate_timeout_s
        )
        supervisor = Supervisor(
            processes, environment=environment, echo=_echo, log_folder=config.log_folder, config=times
        )
        return asyncio.run(_run(supervisor))


def _given(config: UpConfig) -> tuple[str, ...]:
    """The arguments; --namespace becomes one of them."""
    if config.namespace is None:
        return config.arguments
    asked = f"namespace:={namespace_of(config.namespace)}"
    for argument in config.arguments:
        if argument.startswith("namespace:="):
            raise SpecError(f"--namespace {config.namespace} and {argument} name it twice; give one of them")
    return (*config.arguments, asked)


def child_environment(stack: Stack, domain: int, base: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of every process: what the stack says, this domain, this interpreter's programs."""
    environment = {**base, **stack.environment, "ROS_DOMAIN_ID": str(domain)}
    environment[PARENT] = str(os.getpid())
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
    if (Path(sys.prefix) / "share" / "ament_index").is_dir():  # ROS from PyPI lives in this environment
        environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    return environment


async def _run(supervisor: Supervisor) -> Outcome:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.request_stop, f"asked to by {number.name}")
    return await supervisor.run()


def _check_endpoints(processes: list[ProcessSpec]) -> None:
    for process in processes:
        if process.ready and answers(process.ready.address):
            raise SetupError(
                f"{process.ready}, wanted by {process.name}, is taken; stop what listens there, "
                "or start in another ROS domain (ROS_DOMAIN_ID, or --isolated), or below another --namespace"
            )


def _echo(name: str, line: str) -> None:
    print(f"{name}: {line}", flush=True)


def _show(stack: Stack) -> int:
    for name, argument in stack.arguments.items():
        print(f"  {name}:={argument['default'] or repr('')}\n      {stack.reader.described(argument)}")
    return 0
