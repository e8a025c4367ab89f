"""Attacks on a real policy server, each beside an honest client that acts and plans as a robot in mid-episode does.

    python benchmarks/attack_server.py                 # benchmarks/results/attack_server.json

The server is `skimo serve` as a process; attackers are processes of their own that speak ZMTP by raw bytes where a
ZeroMQ socket would be too polite. Measured: the server's peak resident memory, and of the honest client every action's
and plan's time against its deadline (40 ms, 0.9 s). "quiet" is the same without an attacker; "watched_ms" is the
longest pause that a thread of the honest process which does nothing but sleep saw meanwhile: on a machine that others
use, a late answer at such a pause says nothing about the server.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skimo_core.contract.errors import PolicyError
from skimo_core.domain.domain import load_domain
from skimo_core.link import protocol, wire
from skimo_core.link.client import PolicyClient
from skimo_core.link.wire import Message
from skimo_core.process.provenance import provenance

RESULT = Path(__file__).parent / "results" / "attack_server.json"
ACT_DEADLINE_S, PLAN_DEADLINE_S = 0.04, 0.9
PERIOD_S, STEPS_PER_PLAN = 0.08, 10
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
DOMAIN = load_domain()
OBSERVATION_O = np.zeros(DOMAIN.observation.size, np.float32)

Attack = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attack did to the server and to the honest client."""

    server_peak_mb: float
    server_growth_mb: float
    acts: int
    acts_late: int
    act_ms_p50: float
    act_ms_p99: float
    act_ms_max: float
    plans: int
    plans_failed: int
    plan_ms_max: float
    watched_ms: float


def raw(path: str) -> socket.socket:
    """A connection past its handshake."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(5.0)
    peer.connect(path)
    peer.sendall(GREETING + READY)
    return peer


def again(path: str, send: Callable[[socket.socket], None]) -> None:
    """Connects anew whenever the server has had enough."""
    while True:
        with suppress(OSError), raw(path) as peer:
            while True:
                send(peer)


def endless_message(path: str) -> None:
    """Frames flagged "more", for ever, as fast as they are taken."""
    frame = struct.pack(">BQ", 3, 64 * 1024) + bytes(64 * 1024)
    again(path, lambda peer: peer.sendall(frame * 4))


def endless_message_slowly(path: str) -> None:
    """The same in small pieces, after a message in order on the same connection."""
    hello = wire.encode(Message(op="hello", request_id=1))[0]

    def send(peer: socket.socket) -> None:
        peer.sendall(bytes([0, len(hello)]) + hello)
        for _ in range(2000):
            peer.sendall(b"\x01\x40" + bytes(64))
            time.sleep(0.001)

    again(path, send)


def empty_parts(path: str) -> None:
    """Messages of a hundred thousand empty parts, 200 kB each."""
    again(path, lambda peer: peer.sendall(b"\x01\x00" * 100_000 + b"\x00\x00"))


def many_empty_parts(path: str) -> None:
    """Messages of three million empty parts, 6 MB each."""
    again(path, lambda peer: peer.sendall(b"\x01\x00" * 3_000_000 + b"\x00\x00"))


def large_messages(path: str) -> None:
    """Messages of 80 MB in parts of 1 MB."""
    part = struct.pack(">BQ", 3, 10**6) + bytes(10**6)
    again(path, lambda peer: peer.sendall(part * 79 + b"\x00\x00"))


def connections(path: str) -> None:
    """A thousand connections at a time, that say nothing."""
    while True:
        peers = []
        for _ in range(1000):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            with suppress(OSError):
                peer.connect(path)
            peers.append(peer)
        for peer in peers:
            peer.close()


def flood(path: str) -> None:
    """Actions in order, as fast as they are taken, whose replies are never read."""
    action = protocol.act_request(OBSERVATION_O, np.zeros(10, np.float32), 1, 1.0)
    head, *rest = wire.encode(action)
    parts = struct.pack(">BQ", 3, len(head)) + head
    for at, part in enumerate(rest):
        parts += bytes([0 if at + 1 == len(rest) else 1, len(part)]) + part
    again(path, lambda peer: peer.sendall(parts * 50))


def planning(path: str) -> None:
    """A client in order that plans without a pause and with all the patience that there is."""
    goals = DOMAIN.task("kitchen").goals(0, DOMAIN.observation.size)
    while True:
        with suppress(PolicyError), PolicyClient(f"ipc://{path}") as client:
            client.connect(5.0)
            while True:
                client.plan(OBSERVATION_O, goals, seed=1, warm_start_PZ=None, deadline_s=60.0)


ATTACKS: dict[str, tuple[Attack | None, int]] = {
    "quiet": (None, 0),
    "endless_message": (endless_message, 1),
    "endless_message_of_eight": (endless_message, 8),
    "endless_message_slowly": (endless_message_slowly, 4),
    "empty_parts": (empty_parts, 1),
    "many_empty_parts": (many_empty_parts, 1),
    "large_messages": (large_messages, 2),
    "connections": (connections, 2),
    "flood": (flood, 4),
    "twenty_plan": (planning, 20),
}


@contextmanager
def serving(bundle: str) -> Iterator[tuple[str, int]]:
    """A server process; gives its socket's path and its process id."""
    with tempfile.TemporaryDirectory(prefix="skimo-") as folder:
        path = f"{folder}/socket"
        command = [sys.executable, "-m", "skimo_core.cli", "serve", "--bundle", bundle, "--endpoint", f"ipc://{path}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert " ready " in line, line
            try:
                yield path, server.pid
                assert server.poll() is None, "the server died"
            finally:
                server.terminate()


def memory_mb(pid: int, name: str) -> float:
    """VmRSS or VmHWM of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1024


def run_attack(name: str, bundle: str, seconds: float) -> Outcome:
    """One attack on a fresh server; the honest client was there a second before."""
    attack, count = ATTACKS[name]
    with serving(bundle) as (path, pid):
        before_mb: list[float] = []
        context = multiprocessing.get_context("spawn")
        ready, go = context.Semaphore(0), context.Event()
        attackers = [
            context.Process(target=when_told, args=(attack, path, ready, go), daemon=True) for _ in range(count)
        ]
        for attacker in attackers:
            attacker.start()
        for _ in attackers:
            ready.acquire()

        def begin() -> None:
            before_mb.append(memory_mb(pid, "VmRSS"))
            go.set()

        try:
            act_ms, plan_ms, failed, watched_ms = honest(path, seconds, begin)
        finally:
            for attacker in attackers:
                attacker.kill()
                attacker.join()
        peak_mb = memory_mb(pid, "VmHWM")
    return Outcome(
        server_peak_mb=round(peak_mb, 1),
        server_growth_mb=round(peak_mb - before_mb[0], 1),
        acts=len(act_ms),
        acts_late=sum(ms > 1e3 * ACT_DEADLINE_S for ms in act_ms),
        act_ms_p50=round(float(np.median(act_ms)), 2),
        act_ms_p99=round(float(np.percentile(act_ms, 99)), 2),
        act_ms_max=round(max(act_ms), 2),
        plans=len(plan_ms),
        plans_failed=failed,
        plan_ms_max=round(max(plan_ms), 1),
        watched_ms=round(watched_ms, 1),
    )


def when_told(attack: Attack, path: str, ready: Any, go: Any) -> None:
    """Attacks once `go` is set: that its process starts, with all that it imports, is no part of the attack."""
    ready.release()
    go.wait()
    attack(path)


def honest(path: str, seconds: float, begin: Callable[[], None]) -> tuple[list[float], list[float], int, float]:
    """Times of actions and plans of an episode, plans that failed, and the longest pause of this process."""
    acting, planner = PolicyClient(f"ipc://{path}"), PolicyClient(f"ipc://{path}")
    goals, skill_Z = DOMAIN.task("kitchen").goals(0, DOMAIN.observation.size), np.zeros(10, np.float32)
    act_ms: list[float] = []
    plan_ms: list[float] = []
    failed = 0

    def plan() -> None:
        nonlocal failed
        began_s = time.monotonic()
        try:
            planner.plan(OBSERVATION_O, goals, seed=1, warm_start_PZ=None, deadline_s=PLAN_DEADLINE_S)
        except PolicyError:
            failed += 1
        plan_ms.append(1e3 * (time.monotonic() - began_s))

    with acting, planner, watch() as pauses:
        acting.connect(10.0)
        planner.connect(10.0)
        planner.plan(OBSERVATION_O, goals, seed=1, warm_start_PZ=None, deadline_s=10.0)
        begun, due_s = False, time.monotonic()
        end_s, thread = due_s + 1.0 + seconds, threading.Thread(target=plan)
        for step in range(10**9):
            due_s += PERIOD_S
            time.sleep(max(0.0, due_s - time.monotonic()))
            if due_s > end_s:
                break
            if step >= 1.0 / PERIOD_S and not begun:
                begun = True
                begin()
            if step % STEPS_PER_PLAN == 0 and not thread.is_alive():
                thread = threading.Thread(target=plan)
                thread.start()
            began_s = time.monotonic()
            with suppress(PolicyError):
                acting.act(OBSERVATION_O, skill_Z, deadline_s=ACT_DEADLINE_S)
            act_ms.append(1e3 * (time.monotonic() - began_s))
        if thread.ident is not None:
            thread.join()
    return act_ms, plan_ms, failed, 1e3 * max(pauses, default=0.0)


@contextmanager
def watch() -> Iterator[list[float]]:
    """Pauses of this process: how much longer than asked a thread slept, in seconds."""
    pauses: list[float] = []
    stop = threading.Event()

    def sleep() -> None:
        while not stop.is_set():
            began_s = time.monotonic()
            time.sleep(0.002)
            pauses.append(time.monotonic() - began_s - 0.002)

    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    yield pauses
    stop.set()
    thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="kitchen")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--attacks", nargs="*", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for name in options.attacks:
        found[name] = asdict(run_attack(name, options.bundle, options.seconds))
        print(name, json.dumps(found[name]), flush=True)
    command = f"python benchmarks/attack_server.py --bundle {options.bundle} --seconds {options.seconds:g}"
    result = {**provenance(command, None, ("numpy", "onnxruntime", "pyzmq")), "attacks": found}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
