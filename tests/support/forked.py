"""Processes that begin where slow imports are done: forked from one that has done nothing but import.

Each is a process of its own, with its own memory, priority, files and end, and knows nothing of those before it; only
the seconds that imports take are saved. Where a command as a person starts it is the point, a test starts that.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from skimo_core import cli

IMPORTED = (
    "torch.distributed.run",
    "skimo_learn.cli",
    "skimo_learn.finetune",
    "skimo_learn.finetune_cli",
    "skimo_promote.cli",
    "skimo_server.engine",
    "skimo_eval.inprocess",
    "skimo_sim.scenes.physics",
)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(IMPORTED))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    target: Callable[..., int | None]
    arguments: tuple[object, ...]
    said: tuple[Connection, Connection]
    where: Path
    environment: dict[str, str]


def run(
    target: Callable[..., int | None],
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 100.0,
) -> subprocess.CompletedProcess[str]:
    """Calls a function of some module in a process of its own, and waits for its end.

    Args:
        target: its return value is the process's exit code, as sys.exit takes it.
        environment: beside this process's.

    Raises:
        AssertionError: it hasn't ended in time; it and its children are killed.
    """
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(2)]  # no files: a process may be short of room for those
    asked = _Asked(
        target=target,
        arguments=arguments,
        said=(pipes[0][1], pipes[1][1]),
        where=Path.cwd(),
        environment={**os.environ, **(environment or {})},
    )
    process = CONTEXT.Process(target=_begin, args=(asked,))
    process.start()
    for _, end in pipes:
        end.close()
    with ThreadPoolExecutor(len(pipes)) as readers:
        said = [readers.submit(_all, reader) for reader, _ in pipes]
        code = _end(process, timeout_s)
    out, err = (words.result() for words in said)
    assert code is not None, f"{target.__name__} has not ended after {timeout_s:g} s; it said {out}{err}"
    return subprocess.CompletedProcess([target.__name__, *map(str, arguments)], code, out, err)


def _end(process: ForkServerProcess, timeout_s: float) -> int | None:
    """The exit code of a process; None: it was late, and is killed."""
    pid = process.pid
    assert pid is not None
    process.join(timeout_s)
    code = process.exitcode
    if code is None:
        os.killpg(pid, signal.SIGKILL)
        process.join()
    process.close()
    return code


def _all(reader: Connection) -> str:
    """What comes until nobody can write any more."""
    with reader, os.fdopen(os.dup(reader.fileno()), errors="replace") as stream:
        return stream.read()


def skimo(*words: object, timeout_s: float = 100.0) -> subprocess.CompletedProcess[str]:
    """A command of `skimo`, likewise."""
    return run(_skimo, *map(str, words), timeout_s=timeout_s)


def _skimo(*words: str) -> int:
    return cli.run(list(words), cli.installed_commands(), sys.stdout, sys.stderr)


def _begin(asked: _Asked) -> None:
    os.setpgrp()
    for number, end in enumerate(asked.said, start=1):
        os.dup2(end.fileno(), number)
        end.close()
    os.environ.clear()
    os.environ.update(asked.environment)
    os.chdir(asked.where)
    sys.exit(asked.target(*asked.arguments))
