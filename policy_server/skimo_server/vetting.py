"""Vetting a bundle in a process of its own, so that no file can stall or exhaust the one that asks.

Promises
  - Nothing of a bundle's graphs or arrays is parsed, loaded or run here before a child process has done all of it
    within `Budget`: processor time and address space by the kernel's limits, wall time by ending it.
  - The verdict is JSON; nothing is unpickled. How a child dies is a verdict too.
  - What passed is remembered by its content in this process only, so that a second load costs nothing.
It never repairs anything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skimo_core.contract.errors import BundleError, SetupError

VERSION = 2  # of what is checked
CHILD = "skimo_server.vetting_child"
IDLE_TIMES = 60
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What vetting one bundle may take.

    Attributes:
        cpu_s: processor time; on a quiet machine that is the wall time.
        wall_s: wall time, longer, for a machine that is busy with others; IDLE_TIMES that for a process that runs while
            a core has nothing else to do (SCHED_IDLE), as a learner beside a robot does, and waits for its turn.
        memory_bytes: address space.
    """

    cpu_s: int = 8
    wall_s: float = 60.0
    memory_bytes: int = 1_000_000_000

    @property
    def patience_s(self) -> float:
        """Wall time that it may take in this process."""
        return self.wall_s * (IDLE_TIMES if os.sched_getscheduler(0) == os.SCHED_IDLE else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What a vetting took, and the graphs' own answers where they were asked for."""

    cpu_s: float
    peak_bytes: int
    answers: Mapping[str, Any]


_passed: set[tuple[int, str]] = set()


def vet(
    files: Mapping[str, bytes],
    *,
    content: str,
    sizes: Mapping[str, int],
    joints: int,
    budget: Budget = Budget(),
) -> Passed | None:
    """Vets a bundle's files; None if this process has already.

    Args:
        files: graphs and recorded inputs by file name.
        content: the bundle's id, which holds every file's hash and the sizes.
        sizes, joints: as in the manifest.

    Raises:
        BundleError: refused, with the reason.
        SetupError: the child process can't work here.
    """
    if (VERSION, content) in _passed:
        return None
    passed = _run("vet", files, sizes, joints, budget)
    _passed.add((VERSION, content))
    return passed


def answer(files: Mapping[str, bytes], sizes: Mapping[str, int], budget: Budget = Budget()) -> Mapping[str, Any]:
    """The graphs' own answers to recorded inputs, as nested lists by name; checked and run as in `vet`."""
    return _run("answer", files, sizes, 0, budget).answers


def _run(job: str, files: Mapping[str, bytes], sizes: Mapping[str, int], joints: int, budget: Budget) -> Passed:
    header = {
        "job": job,
        "cpu_s": budget.cpu_s,
        "memory_bytes": budget.memory_bytes,
        "sizes": dict(sizes),
        "joints": joints,
        "files": [[name, len(data)] for name, data in files.items()],
    }
    given = b"".join([json.dumps(header).encode() + b"\n", *files.values()])
    command = [sys.executable, "-P", "-m", CHILD]
    environment = {**os.environ, **ONE_THREAD, "MALLOC_ARENA_MAX": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as child:  # type: ignore[call-overload]
        try:
            out, err = child.communicate(given, timeout=budget.patience_s)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
            raise BundleError(
                f"{_last_stage(out)} took more than {budget.patience_s:g} s; export a smaller bundle"
            ) from None
        except BaseException:
            child.kill()
            raise
    return _verdict(out, err, child.returncode, budget)


def _verdict(out: bytes, err: bytes, code: int, budget: Budget) -> Passed:
    last = _messages(out)[-1] if _messages(out) else {}
    memory = f"{_last_stage(out)} needs more than {budget.memory_bytes / 1e6:.0f} MB of memory; export a smaller bundle"
    if "passed" in last:
        return Passed(**last["passed"])
    if "refused" in last:
        text = last["refused"]
        stage = "" if last.get("known") else f"{_last_stage(out)}: "
        raise BundleError(memory if last.get("memory") else f"{stage}{text}")
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        raise BundleError(
            f"{_last_stage(out)} took more than {budget.cpu_s} s of processor time; export a smaller bundle"
        )
    if code == -signal.SIGABRT and (b"bad_alloc" in err or b"MemoryError" in err):
        raise BundleError(memory)
    if code < 0:
        raise BundleError(
            f"{_last_stage(out)} ended the vetting process with {signal.Signals(-code).name}; don't use it"
        )
    words = (err.decode("utf-8", "replace").strip().splitlines() or ["no word"])[-1][:200]
    raise SetupError(
        f"bundles can't be vetted here: {CHILD} ended with {code} ({words}); install skimo_policy_server again"
    )


def _messages(out: bytes) -> list[dict[str, Any]]:
    found = []
    for line in out.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict):
            found.append(message)
    return found


def _last_stage(out: bytes) -> str:
    stages = [message["stage"] for message in _messages(out) if "stage" in message]
    return str(stages[-1]) if stages else "bundle: starting the vetting"
