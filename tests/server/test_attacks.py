"""Each attack in short, on a real server process: its memory stays, and a client that was there before is answered.

How long answers take under attack is measured by benchmarks/attack_server.py; here they only have to come, since test
machines are busy.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zmq
from support.policy_server import WAIT_S

from skimo_core.contract.policy import FloatArray, Goals
from skimo_core.link.client import PolicyClient
from skimo_server import zmtp
from skimo_server.door import DoorLimits

READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
MAX_GROWTH_MB = 40.0
SENT_BYTES = 64 * 1024 * 1024
LARGE_PART = struct.pack(">BQ", 3, 10**5) + bytes(10**5)


@dataclass
class Served:
    """A server process."""

    path: str
    pid: int

    def peak_mb(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def raw(self) -> socket.socket:
        """A connection past its handshake."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(WAIT_S)
        peer.connect(self.path)
        peer.sendall(zmtp.GREETING + READY)
        return peer


@pytest.fixture(scope="module")
def served(bundle_folder: Path) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="skimo-") as folder:
        command = [sys.executable, "-m", "skimo_core.cli", "serve", "--bundle", str(bundle_folder)]
        with subprocess.Popen(
            [*command, "--endpoint", f"ipc://{folder}/socket"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None and b" ready " in process.stdout.readline()
            yield Served(f"{folder}/socket", process.pid)
            assert process.poll() is None, "an attack ended the server"
            process.terminate()
            assert process.wait(WAIT_S) == 0


def pour(peer: socket.socket, piece: bytes) -> None:
    """Sends until the server has had enough; fails if it takes SENT_BYTES."""
    sent = 0
    peer.settimeout(DoorLimits().unfinished_s + DoorLimits().penalty_s + WAIT_S)
    with suppress(OSError):
        while sent < SENT_BYTES:
            peer.sendall(piece)
            sent += len(piece)
    assert sent < SENT_BYTES, "the server reads on and on"


POURED: dict[str, bytes] = {
    "endless message": LARGE_PART,
    "endless message of small parts": (b"\x01\x40" + bytes(64)) * 1000,
    "200 kB of empty parts": b"\x01\x00" * 100_000 + b"\x00\x00",
    "6 MB of empty parts": b"\x01\x00" * 3_000_000 + b"\x00\x00",
    "80 MB": LARGE_PART * 800 + b"\x00\x00",
    "empty messages": b"\x00\x00" * 100_000,
}


@pytest.mark.parametrize("name", POURED)
def test_what_is_poured_in_is_cut_off_and_costs_no_memory(served: Served, observation_O: FloatArray, name: str) -> None:
    before_mb, skill_Z = served.peak_mb(), np.zeros(10, np.float32)
    with PolicyClient(f"ipc://{served.path}") as honest, served.raw() as peer:
        honest.connect(WAIT_S)
        pouring = threading.Thread(target=pour, args=(peer, POURED[name]))
        pouring.start()
        answered = 0
        while pouring.is_alive() or not answered:
            honest.act(observation_O, skill_Z, deadline_s=2.0)
            answered += 1
        pouring.join()
    assert served.peak_mb() - before_mb < MAX_GROWTH_MB


def test_a_thousand_connections_leave_the_honest_client_its_own(served: Served, observation_O: FloatArray) -> None:
    before_mb, skill_Z, peers = served.peak_mb(), np.zeros(10, np.float32), []
    with PolicyClient(f"ipc://{served.path}") as honest:
        honest.connect(WAIT_S)
        try:
            for at in range(1000):
                peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                peers.append(peer)
                with suppress(BlockingIOError):  # the queue of newcomers is full
                    peer.connect(served.path)
                if at % 100 == 0:
                    honest.act(observation_O, skill_Z, deadline_s=2.0)
        finally:
            for peer in peers:
                peer.close()
        honest.act(observation_O, skill_Z, deadline_s=2.0)
    assert served.peak_mb() - before_mb < MAX_GROWTH_MB


def test_a_handshake_or_a_message_left_unfinished_ends(served: Served) -> None:
    def ended(send: bytes) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(WAIT_S)
            peer.connect(served.path)
            peer.sendall(send)
            while peer.recv(4096):  # until the end: a time-out would raise
                pass
            return True

    assert ended(b"\xff") and ended(zmtp.GREETING + READY + b"\x01\x01a\x00\x05bc")


PLANNER = """
import sys
import numpy as np
from skimo_core.link.client import PolicyClient
from skimo_core.contract.errors import PolicyError
from skimo_core.contract.policy import Goals
masks = np.eye(2, 30, 9, dtype=np.float32)
goals = Goals(values_KO=np.zeros((2, 30), np.float32), weights_KO=masks, thresholds_K=np.full(2, 0.3, np.float32))
client = PolicyClient(sys.argv[1])
client.connect(20.0)
print("plans", flush=True)
while True:
    try:
        client.plan(np.zeros(30, np.float32), goals, seed=1, warm_start_PZ=None, deadline_s=60.0)
    except PolicyError:
        pass
"""


def test_processes_that_plan_without_a_pause_leave_the_first_one_its_plans(
    served: Served, observation_O: FloatArray, goals: Goals
) -> None:
    endpoint = f"ipc://{served.path}"
    with PolicyClient(endpoint) as first:
        first.connect(WAIT_S)
        others: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(3):
                first.plan(observation_O, goals, seed=1, warm_start_PZ=None, deadline_s=5.0)
                command = [sys.executable, "-c", PLANNER, endpoint]
                others.append(subprocess.Popen(command, stdout=subprocess.PIPE))
                stream = others[-1].stdout
                assert stream is not None and stream.readline() == b"plans\n"
            for _ in range(3):
                first.plan(observation_O, goals, seed=1, warm_start_PZ=None, deadline_s=5.0)
        finally:
            for other in others:
                other.kill()
                other.communicate()


def test_an_ordinary_dealer_with_heartbeats_is_answered(served: Served) -> None:
    with zmq.Context.instance().socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.HEARTBEAT_IVL, 10)
        dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)
        dealer.connect(f"ipc://{served.path}")
        for _ in range(10):
            dealer.send_multipart([b"nonsense"])
            assert dealer.poll(int(1e3 * WAIT_S))
            assert b"malformed" in b"".join(dealer.recv_multipart())
            assert not dealer.poll(15)  # time for a ping and its pong
