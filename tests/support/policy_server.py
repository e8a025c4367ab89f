"""A real policy server in a thread, peers that send whatever they are told, and a model that plans for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from skimo_core.contract.policy import FloatArray
from skimo_core.link import wire
from skimo_core.link.wire import Message
from skimo_server.door import DoorLimits
from skimo_server.engine import Engine
from skimo_server.inprocess import InProcessPolicy
from skimo_server.planner import Planner
from skimo_server.served import Served
from skimo_server.server import PolicyServer, ServerKeys
from skimo_server.session import Session

WAIT_S = 20.0
COMMAND = "import sys; from skimo_server.cli import serve; sys.exit(serve(sys.argv[1:]))"


def start(bundle: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A server process and its endpoint, read from its ready line."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--bundle", str(bundle), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[:3] == ["skimo", "serve:", "ready"] and words[4] == "bundle", words
    return process, words[3]


def finish(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Sends a server process a signal; returns its exit code and what it said."""
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


@contextmanager
def running(
    policy: InProcessPolicy,
    *,
    planner: Planner | None = None,
    endpoint: str | None = None,
    keys: ServerKeys | None = None,
    limits: DoorLimits | None = None,
) -> Iterator[str]:
    """A real server in a thread, on a socket of its own where no endpoint is given; gives its endpoint."""
    session = Session(Served(policy.engine, planner or policy.planner, policy.spec))
    with tempfile.TemporaryDirectory(prefix="skimo-") as folder:
        server = PolicyServer(session, endpoint or f"ipc://{folder}/socket", keys=keys, limits=limits)
        address = server.bind()
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield address
        finally:
            server.stop()
            thread.join(WAIT_S)
            assert not thread.is_alive()


@dataclass(eq=False)
class Asking:
    """Somebody who asks without a connection, of any rank."""

    client_name: str = "a client"
    standing: tuple[int, float] = (0, 0.0)
    spent_s: float = 0.0
    told: list[Message] = field(default_factory=list)

    def rank(self) -> tuple[int, float]:
        return self.standing

    def spent(self, planning_s: float) -> None:
        self.spent_s += planning_s

    def send(self, parts: list[bytes]) -> None:
        self.told.append(wire.decode(parts))


@dataclass
class RawPeer:
    """A DEALER that sends whatever it is told."""

    socket: zmq.Socket[bytes]

    def send(self, frames: list[bytes]) -> None:
        self.socket.send_multipart(frames)

    def receive(self) -> Message:
        assert self.socket.poll(int(1e3 * WAIT_S)), "the server did not answer"
        return wire.decode(self.socket.recv_multipart())

    def ask(self, frames: list[bytes]) -> Message:
        self.send(frames)
        return self.receive()


@contextmanager
def raw_peer(endpoint: str) -> Iterator[RawPeer]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    try:
        yield RawPeer(socket)
    finally:
        socket.close()


class GatedModel:
    """The engine's model, but its dynamics wait for `release`: a plan that takes as long as a test wants."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.entered = threading.Event()
        self.release = threading.Event()
        self.skill_dim, self.graphs = engine.skill_dim, engine.graphs
        self.encode, self.prior = engine.encode, engine.prior
        self.decode, self.goal_value = engine.decode, engine.goal_value
        self.reward, self.value, self.task_policy = engine.reward, engine.value, engine.task_policy

    def dynamics(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        self.entered.set()
        assert self.release.wait(WAIT_S)
        return self._engine.dynamics(latent_BD, skill_BZ)
