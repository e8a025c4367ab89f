"""The policy server: one thread that reads and answers, one that plans.

    door (plain or with keys) -> session.answer -> reply, or a plan in the queue -> planner's thread -> reply

Promises
  - `act`, `hello` and `health` are answered at once, also while a plan is being made.
  - Clients in mid-use come before newcomers, for messages (`door.py`) and for plans (`plan_queue.py`); what any client
    may cost in memory and time is bounded before it is spent.
  - No message ends or blocks the server: malformed ones get a coded reply, after several of them or one that can't be
    read to its end the connection goes, replies to clients that are gone are dropped.
  - It listens where only its user comes in (a Unix socket), or where clients show a key on the list (TCP); on a
    loopback port without keys only if its user says that every local user may use it; nowhere else.
  - The session may swap bundles while it is served, between two messages.
  - `stop` may be called from any thread or a signal handler; `serve` returns after the plan under way.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import zmq

from skimo_core.contract.errors import SetupError, WireError
from skimo_core.link import wire
from skimo_core.link.endpoint import LOCAL, Endpoint, parse_endpoint
from skimo_core.link.keys import AllowList, KeyPair
from skimo_core.link.wire import Message

from .clients import Clients
from .curve_door import CurveDoor, KeyedConnection
from .door import Connection, DoorLimits, PlainDoor
from .notices import Notices
from .plan_queue import Asker, PlanJob, PlanQueue
from .session import Session
from .timing import Clock

log = logging.getLogger(__name__)

TIDY_S = 0.25
JOIN_TIMEOUT_S = 5.0
USES = frozenset({"act", "plan"})
FAULTS = frozenset({"malformed", "version", "op", "size", "dtype"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKeys:
    """The server's own pair, and who may use it."""

    own: KeyPair
    allowed: AllowList


class PolicyServer:
    """Serves one session; `bind`, then `serve` in the thread that is to do the answering."""

    def __init__(
        self,
        session: Session,
        endpoint: str = LOCAL,
        *,
        keys: ServerKeys | None = None,
        open_to_local_users: bool = False,
        limits: DoorLimits | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Args: see `skimo_core.link.endpoint`; `endpoint` tells after `bind` which port 0 became. Keys: for TCP."""
        self._session, self._wanted, self._keys = session, endpoint, keys
        self._open_to_local_users, self._limits, self._clock = open_to_local_users, limits or DoorLimits(), clock
        self._clients = Clients()
        self._queue = PlanQueue()
        self._poller = zmq.Poller()
        self._notices = Notices(log, clock)
        self._done: deque[tuple[Asker, Message]] = deque()
        self._stopping = threading.Event()
        self._door: PlainDoor | CurveDoor | None = None
        self._wake: tuple[int, int] | None = None
        self._owns_signals = False
        self.endpoint = ""

    def __enter__(self) -> PolicyServer:
        self.bind()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def bind(self) -> str:
        """Opens the door and returns the endpoint.

        Raises:
            SetupError: an address that needs keys and has none, or one that is taken.
        """
        door = self._make_door(parse_endpoint(self._wanted))
        self.endpoint = str(door.open())
        self._door = door
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        self._poller.register(self._wake[0], zmq.POLLIN)
        return self.endpoint

    def serve(self) -> None:
        """Answers until `stop`; then ends the worker after the plan under way and closes the door."""
        assert self._door is not None, "bind() comes before serve()"
        worker = threading.Thread(target=self._work, name="skimo-planner", daemon=True)
        worker.start()
        tidied_s = self._clock()
        try:
            while not self._stopping.is_set():
                self._turn(self._door)
                if self._clock() - tidied_s > TIDY_S:
                    tidied_s = self._clock()
                    self._door.tidy()
                    self._clients.forget(tidied_s)
        finally:
            self._queue.close()
            worker.join(JOIN_TIMEOUT_S)
            self._send_plans()
            self.close()

    def stop(self) -> None:
        """Asks `serve` to return."""
        self._stopping.set()
        self._notify()

    def stop_on(self, *numbers: int) -> None:
        """Makes these signals call `stop`; from the main thread, after `bind`.

        The operating system may give a signal to any thread, while Python runs handlers in the main one alone, which
        may sleep in a poll: the wake-up descriptor rouses it.
        """
        assert self._wake is not None, "bind() comes before stop_on()"
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: self.stop())
        self._owns_signals = True

    def close(self) -> None:
        """Closes the door; harmless twice."""
        if self._owns_signals:
            signal.set_wakeup_fd(-1)
            self._owns_signals = False
        if self._door is not None:
            self._door.close()
            self._door = None
        if self._wake is not None:
            self._poller.unregister(self._wake[0])
            ends, self._wake = self._wake, None
            for end in ends:
                os.close(end)

    def _make_door(self, endpoint: Endpoint) -> PlainDoor | CurveDoor:
        if endpoint.path is None and self._keys is not None:
            own, allowed = self._keys.own, self._keys.allowed
            return CurveDoor(endpoint, own, allowed, self._clients, self._poller, **self._bounds())
        if endpoint.path is None:
            check_without_keys(endpoint, self._open_to_local_users)
        return PlainDoor(endpoint, self._clients, self._poller, **self._bounds())

    def _bounds(self) -> dict[str, Any]:
        return {"limits": self._limits, "clock": self._clock, "gone": self._queue.drop}

    def _turn(self, door: PlainDoor | CurveDoor) -> None:
        """Waits for something to do, and does a little of it for everybody whose turn it is."""
        assert self._wake is not None
        ready = dict(self._poller.poll(0 if door.hurried else round(1e3 * TIDY_S)))
        if self._wake[0] in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake[0], 4096)
        self._send_plans()
        try:
            for connection, found in door.take(ready):
                self._answer(connection, found)
                self._send_plans()
        except Exception as error:  # the process's border: whatever one turn meets, the next one serves the others
            self._notices.tell("turn", f"unforeseen fault in a turn: {type(error).__name__}: {error}")

    def _answer(self, connection: Connection | KeyedConnection, found: list[bytes] | WireError) -> None:
        """Answers one message, or queues its plan."""
        if isinstance(found, WireError):
            connection.send(wire.encode(self._session.refusal("error", 0, found)))
            connection.fault(last=True)
            return
        answer = self._session.answer(connection, found, len(self._queue))
        if isinstance(answer, PlanJob):
            connection.client.used(self._clock())
            self._enqueue(answer)
            return
        if answer.code == "ok" and answer.op in USES:
            connection.client.used(self._clock())
        connection.send(wire.encode(answer))
        if answer.code in FAULTS:
            connection.fault(last=False)

    def _enqueue(self, job: PlanJob) -> None:
        try:
            given_up = self._queue.put(job)
        except WireError as error:
            job.asker.send(wire.encode(self._session.refusal("plan", job.request_id, error)))
            return
        if given_up is not None:
            other, error = given_up
            other.asker.send(wire.encode(self._session.refusal("plan", other.request_id, error)))

    def _send_plans(self) -> None:
        while self._done:
            asker, reply = self._done.popleft()
            asker.send(wire.encode(reply))

    def _work(self) -> None:
        """The planner's thread."""
        while (job := self._queue.take()) is not None:
            began_s = self._clock()
            reply = self._session.plan(job)
            job.asker.spent(self._clock() - began_s)
            self._done.append((job.asker, reply))
            self._notify()

    def _notify(self) -> None:
        wake = self._wake
        if wake is not None:
            with contextlib.suppress(OSError):  # full: a wake-up is already on its way; closed: nobody waits
                os.write(wake[1], b"x")


def check_without_keys(endpoint: Endpoint, open_to_local_users: bool) -> None:
    """Refuses a TCP endpoint that the wrong people could reach.

    Raises:
        SetupError: another address than loopback, or loopback without its user's word.
    """
    try:
        loopback = ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SetupError(
            f"{endpoint} is not a loopback address: other machines could use the server, so it needs keys "
            "(skimo keys server, skimo keys add)"
        )
    if not open_to_local_users:
        raise SetupError(
            f"every user of this machine could use {endpoint}: leave the port out for a socket of your own, make keys "
            "(skimo keys server, skimo keys add), or say --open-to-local-users"
        )
