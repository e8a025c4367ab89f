"""A server with keys: who is on the list is served, everybody else is told why, and nobody fills its memory."""

from __future__ import annotations

import logging
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zmq
from support.policy_server import WAIT_S, running
from support.waiting import wait_until

from skimo_core.contract.errors import DeadlineError, UnreachableError
from skimo_core.contract.policy import FloatArray, Goals
from skimo_core.link import wire
from skimo_core.link.client import PolicyClient
from skimo_core.link.keys import CLIENT_SECRET, SERVER_SECRET, AllowList, make_pair, trust
from skimo_core.link.wire import Message
from skimo_server.inprocess import InProcessPolicy
from skimo_server.server import ServerKeys

HELLO = wire.encode(Message(op="hello", request_id=1))


@dataclass
class Closed:
    """A server with keys, and a client's folder."""

    endpoint: str
    server_folder: Path
    client_folder: Path

    def client(self, folder: Path | None = None) -> PolicyClient:
        return PolicyClient(self.endpoint, keys=folder or self.client_folder)

    def allow(self) -> None:
        AllowList(self.server_folder).add("lab-pc", make_pair(self.client_folder, CLIENT_SECRET).public)


@pytest.fixture
def closed(policy: InProcessPolicy, tmp_path: Path) -> Iterator[Closed]:
    server, client = tmp_path / "server", tmp_path / "client"
    own = make_pair(server, SERVER_SECRET)
    make_pair(client, CLIENT_SECRET)
    trust(client, own.public)
    keys = ServerKeys(own=own, allowed=AllowList(server))
    with running(policy, endpoint="tcp://127.0.0.1:0", keys=keys) as endpoint:
        yield Closed(endpoint, server, client)


def test_a_client_on_the_list_plans_and_acts(closed: Closed, observation_O: FloatArray, goals: Goals) -> None:
    closed.allow()
    with closed.client() as client:
        client.connect(WAIT_S)
        plan = client.plan(observation_O, goals, seed=1, warm_start_PZ=None, deadline_s=WAIT_S)
        assert client.act(observation_O, plan.skills_PZ[0], deadline_s=WAIT_S).shape == (9,)


def test_an_unknown_key_is_told_so_and_logged(closed: Closed, caplog: pytest.LogCaptureFixture) -> None:
    key = make_pair(closed.client_folder, CLIENT_SECRET).public
    with closed.client() as client, pytest.raises(UnreachableError, match=r"refuses this client's key.*keys add"):
        client.connect(WAIT_S)
    assert f"refused key {key}, which is not on the list" in caplog.text


def test_no_key_is_told_so_and_logged(closed: Closed, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closed.client(tmp_path / "none") as client, pytest.raises(UnreachableError, match="wants keys"):
        client.connect(WAIT_S)
    with closed.client(tmp_path / "none") as client, pytest.raises(UnreachableError):
        client.connect(WAIT_S)
    wait_until(lambda: "showed no key" in caplog.text, "the server's word", WAIT_S)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_another_server_than_the_trusted_one_is_not_spoken_to(closed: Closed) -> None:
    closed.allow()
    trust(closed.client_folder, "ab" * 32)
    with closed.client() as client, pytest.raises(UnreachableError, match="skimo keys trust"):
        client.connect(1.0)


def test_who_is_taken_off_the_list_is_refused_from_the_next_message_on(
    closed: Closed, observation_O: FloatArray
) -> None:
    closed.allow()
    with closed.client() as client:
        client.connect(WAIT_S)
        AllowList(closed.server_folder).remove("lab-pc")
        with pytest.raises((DeadlineError, UnreachableError)):
            client.act(observation_O, np.zeros(10, np.float32), deadline_s=0.2)
        with pytest.raises(UnreachableError, match="refuses this client's key"):
            client.act(observation_O, np.zeros(10, np.float32), deadline_s=WAIT_S)


def test_a_client_with_a_key_can_t_fill_the_server_s_memory(closed: Closed, observation_O: FloatArray) -> None:
    """Its message never ends; its connection does, and others are answered meanwhile."""
    closed.allow()
    own = make_pair(closed.client_folder, CLIENT_SECRET)
    part, before_kb = bytes(60_000), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer, closed.client() as honest:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.CURVE_SERVERKEY, bytes.fromhex(make_pair(closed.server_folder, SERVER_SECRET).public))
        dealer.setsockopt(zmq.CURVE_PUBLICKEY, bytes.fromhex(own.public))
        dealer.setsockopt(zmq.CURVE_SECRETKEY, bytes.fromhex(own.secret))
        dealer.connect(closed.endpoint)
        dealer.send_multipart(HELLO)
        assert dealer.poll(int(1e3 * WAIT_S))
        dealer.recv_multipart()
        honest.connect(WAIT_S)
        for _ in range(200):
            with suppress(zmq.Again):
                dealer.send(part, zmq.SNDMORE | zmq.NOBLOCK)
        for _ in range(20):
            honest.act(observation_O, np.zeros(10, np.float32), deadline_s=WAIT_S)
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb < 60_000, "12 MB wait in the sender itself; no more than the budget in the server"


def test_a_stranger_s_bytes_end_its_connection(closed: Closed, observation_O: FloatArray) -> None:
    closed.allow()
    host, _, port = closed.endpoint.removeprefix("tcp://").rpartition(":")

    def pour() -> None:
        with suppress(OSError), socket.create_connection((host, int(port)), WAIT_S) as peer:
            while True:
                peer.sendall(b"\x01\xff" + bytes(255))

    pouring = threading.Thread(target=pour)
    pouring.start()
    with closed.client() as client:
        client.connect(WAIT_S)
        client.act(observation_O, np.zeros(10, np.float32), deadline_s=WAIT_S)
    pouring.join(WAIT_S)
    assert not pouring.is_alive()
