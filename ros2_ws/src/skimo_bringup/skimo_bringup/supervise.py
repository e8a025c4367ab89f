"""Starts processes in order, watches them, and ends them in reverse order: policy first, so that the arm is at rest.

Promises
  - Every process leads its own process group, so a terminal's Ctrl-C reaches only the supervisor, which stops them
    one by one: SIGINT, after a while SIGTERM, at last SIGKILL to the whole group.
  - If the supervisor itself is killed, the kernel sends SIGINT to every process (PR_SET_PDEATHSIG).
  - The death of a vital process ends the stack with exit code 1 and a reason that names it and quotes its last lines.
  - A process that may respawn is started again after a delay, at most `max_per_minute` times in a minute; one more
    death, or death before it was ever ready, ends the stack. So does an exit code in the first seconds of its first
    life: what it was given cannot work, and a second start would not mend it.
  - A helper may end by itself; its failure ends the stack, as a vital death does.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skimo_bringup.stack import OnExit, ProcessSpec
from skimo_core.link.endpoint import Endpoint

Echo = Callable[[str, str], None]
LAST_LINES = 8
MINUTE_S = 60.0
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperviseConfig:
    """Times of the supervisor, in seconds."""

    interrupt_timeout_s: float = 8.0
    terminate_timeout_s: float = 3.0
    respawn_delay_s: float = 1.0
    young_s: float = 10.0
    poll_s: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the stack ended: exit code and reason."""

    exit_code: int
    reason: str


@dataclass(slots=True)
class _Running:
    """One process and what is known of it."""

    spec: ProcessSpec
    process: asyncio.subprocess.Process | None = None
    was_ready: bool = False
    began_s: float = 0.0
    deaths_s: collections.deque[float] = field(default_factory=collections.deque)
    last_lines: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=LAST_LINES))
    watcher: asyncio.Task[None] | None = None


class Supervisor:
    """Runs one stack once; `run` returns when everything it started has ended."""

    def __init__(
        self,
        processes: Sequence[ProcessSpec],
        *,
        environment: Mapping[str, str],
        echo: Echo,
        log_folder: Path | None = None,
        config: SuperviseConfig | None = None,
    ) -> None:
        self._running = [_Running(spec) for spec in processes]
        self._environment = dict(environment)
        self._echo = echo
        self._log_folder = log_folder
        self._config = config or SuperviseConfig()
        self._stopping = False
        self._ended: asyncio.Future[Outcome] | None = None

    def pids(self) -> dict[str, int]:
        """Returns the process ids of what runs now, by name."""
        alive = {r.spec.name: r.process for r in self._running}
        return {name: p.pid for name, p in alive.items() if p is not None and p.returncode is None}

    def request_stop(self, reason: str) -> None:
        """Asks for an orderly end, exit code 0. Safe to call from a signal handler of the loop, and twice."""
        self._end(Outcome(exit_code=0, reason=reason))

    async def run(self) -> Outcome:
        """Starts everything, waits for the end, stops everything."""
        self._ended = asyncio.get_running_loop().create_future()
        try:
            for running in self._running:
                await self._start(running)
                await self._wait_ready(running)
                if self._ended.done():
                    break
            else:
                self._echo("up", f"{len(self._running)} processes run; Ctrl-C ends them")
            outcome = await self._ended
        finally:
            unwilling = await self._stop_all()
        if unwilling and outcome.exit_code == 0:
            return Outcome(exit_code=1, reason=f"{', '.join(unwilling)} did not stop when asked and had to be killed")
        return outcome

    def _end(self, outcome: Outcome) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(outcome)

    async def _start(self, running: _Running) -> None:
        spec = running.spec
        # Not stdout=PIPE: asyncio's wait() would then wait for all who hold the pipe (python/cpython #119710).
        source, sink = os.pipe()
        try:
            running.process = await asyncio.create_subprocess_exec(
                *spec.command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            os.close(source)
            self._end(Outcome(exit_code=1, reason=f"{spec.name}: cannot start {spec.command[0]}: {error.strerror}"))
            return
        finally:
            os.close(sink)
        running.last_lines.clear()
        running.began_s = time.monotonic()
        running.watcher = asyncio.create_task(self._watch(running, running.process, source))
        self._note_pids()

    async def _wait_ready(self, running: _Running) -> None:
        """Waits until the process answers where it should; without such a place it counts as ready at once."""
        ready, process = running.spec.ready, running.process
        assert self._ended is not None
        if process is None:
            return
        deadline_s = time.monotonic() + (ready.timeout_s if ready else 0.0)
        while ready and not await _answers(ready.address):
            if self._ended.done() or process.returncode is not None:
                return
            if time.monotonic() > deadline_s:
                reason = f"{running.spec.name}: nothing answers on {ready} after {ready.timeout_s:g} s"
                self._end(Outcome(exit_code=1, reason=reason))
                return
            await asyncio.sleep(self._config.poll_s)
        running.was_ready = True

    async def _watch(self, running: _Running, process: asyncio.subprocess.Process, source: int) -> None:
        """Passes on the output of one process until it dies, and decides what its death means."""
        pump = asyncio.create_task(self._pump(running, source))
        code = await process.wait()
        _signal_group(process, signal.SIGKILL)  # whatever it left behind
        await pump
        if self._stopping:
            return
        name, how = running.spec.name, _how(code)
        if running.spec.on_exit is OnExit.FINISH and code == 0:
            self._echo("up", f"{name} ended ({how})")
        elif running.spec.on_exit is OnExit.RESPAWN and self._may_respawn(running, code):
            self._echo("up", f"{name} died ({how}); it is started again")
            await asyncio.sleep(self._config.respawn_delay_s)
            if not self._stopping:
                await self._start(running)
        else:
            self._end(Outcome(exit_code=1, reason=self._death(running, how)))

    def _may_respawn(self, running: _Running, code: int) -> bool:
        now_s = time.monotonic()
        refused = code > 0 and not running.deaths_s and now_s - running.began_s < self._config.young_s
        running.deaths_s.append(now_s)
        while now_s - running.deaths_s[0] > MINUTE_S:
            running.deaths_s.popleft()
        return running.was_ready and not refused and len(running.deaths_s) <= running.spec.max_per_minute

    def _death(self, running: _Running, how: str) -> str:
        often = f" {len(running.deaths_s)} times within a minute" if len(running.deaths_s) > 1 else ""
        quoted = "".join(f"\n    {line}" for line in running.last_lines)
        return f"{running.spec.name} died{often} ({how})" + (f"; its last lines:{quoted}" if quoted else "")

    async def _pump(self, running: _Running, source: int) -> None:
        """Reads until nobody holds the other end of the pipe any more."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(source, "rb"))
        with contextlib.closing(transport), contextlib.ExitStack() as stack:
            log = None
            if self._log_folder is not None:
                log = stack.enter_context(open(self._log_folder / f"{running.spec.name}.log", "ab"))
            rest = b""
            while chunk := await reader.read(1 << 16):
                if log is not None:
                    log.write(chunk)
                    log.flush()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._line(running, line)
            if rest:
                self._line(running, rest)

    def _line(self, running: _Running, raw: bytes) -> None:
        text = raw.decode("utf-8", errors="replace").rstrip()
        running.last_lines.append(text)
        self._echo(running.spec.name, text)

    def _note_pids(self) -> None:
        if self._log_folder is not None:
            (self._log_folder / "pids.json").write_text(json.dumps(self.pids()), encoding="utf-8")

    async def _stop_all(self) -> list[str]:
        """Ends every process, last started first; returns the names of those that had to be killed."""
        self._stopping = True
        unwilling: list[str] = []
        while True:
            unwilling += [r.spec.name for r in reversed(self._running) if not await self._stop(r)]
            await asyncio.gather(*(r.watcher for r in self._running if r.watcher is not None))
            if not self.pids():  # a respawn can have been under way
                return unwilling

    async def _stop(self, running: _Running) -> bool:
        process = running.process
        if process is None or process.returncode is not None:
            return True
        steps = (
            (signal.SIGINT, self._config.interrupt_timeout_s),
            (signal.SIGTERM, self._config.terminate_timeout_s),
        )
        for number, timeout_s in steps:
            _signal_group(process, number)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), timeout_s)
                return True
        _signal_group(process, signal.SIGKILL)
        await process.wait()
        return False


def _die_with_parent() -> None:
    """Runs in the child before it starts its program."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


async def _answers(address: Endpoint) -> bool:
    try:
        if address.path is not None:
            _, writer = await asyncio.open_unix_connection(address.path)
        else:
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
