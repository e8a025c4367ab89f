"""The stack as a child process: `skimo up` in a ROS domain of its own, its output kept, ended without leftovers.

What it costs, and what the machine did meanwhile, is measured from outside (`metered`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from skimo_core.process.isolation import free_domain

from .pauses import Pause, PauseWatch

STOP_S = 20.0
LINES = 200


@dataclass(slots=True, kw_only=True)
class Metered:
    """What a stretch of time cost, known when it is over.

    Attributes:
        cpu_cores: processor seconds per second, of each process of the stack, by name.
        cpu_cores_stolen: what other virtual machines took; 0 where the system does not tell.
        pauses: of the machine.
    """

    cpu_cores: dict[str, float] = field(default_factory=dict)
    cpu_cores_stolen: float = 0.0
    pauses: tuple[Pause, ...] = ()


class StackProcess:
    """Starts on entering, stops on leaving; `alive` says whether it still runs.

    Args:
        arguments: of launch/stack.yaml, by name.
        recordings: folder of the recordings.
        logs: folder for the processes' output.
    """

    def __init__(self, arguments: Mapping[str, str], *, recordings: Path, logs: Path) -> None:
        given = {**arguments, "recordings": str(recordings)}
        self._arguments = [f"{name}:={value}" for name, value in given.items() if value]
        self.logs = logs
        self.tail: deque[str] = deque(maxlen=LINES)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> StackProcess:
        with free_domain() as lock:
            domain = lock.domain
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        command = [sys.executable, "-m", "skimo_core.cli", "up", "--log-folder", str(self.logs), *self._arguments]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        threading.Thread(target=self._keep, args=(self._process.stdout,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @contextmanager
    def metered(self) -> Iterator[Metered]:
        """Measure from entering to leaving; the figures are filled in at the end."""
        metered = Metered()
        before, began_s, stolen_s = self.cpu_seconds(), time.monotonic(), _stolen_s()
        with PauseWatch() as watch:
            yield metered
        wall_s = time.monotonic() - began_s
        metered.cpu_cores = {name: (s - before.get(name, 0.0)) / wall_s for name, s in self.cpu_seconds().items()}
        metered.cpu_cores_stolen = (_stolen_s() - stolen_s) / wall_s
        metered.pauses = watch.pauses

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time used so far by each process of the stack, by name."""
        index = self.logs / "pids.json"
        if not index.exists():
            return {}
        used = {}
        for name, pid in json.loads(index.read_text(encoding="utf-8")).items():
            try:
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
                used[name] = sum(sum(p.cpu_times()[:2]) for p in family)
            except psutil.Error:
                continue
        return used

    def _keep(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.tail.append(line.rstrip())


def _stolen_s() -> float:
    return getattr(psutil.cpu_times(), "steal", 0.0)
