"""The policy server: a ZeroMQ ROUTER on loopback, one thread that answers, one that plans.

Promises
  - `act`, `hello` and `health` are answered at once, also while a plan is being made.
  - Of each client only the newest plan request waits; the one it replaces is answered "superseded". At most
    MAX_WAITING clients wait; one more is answered "busy".
  - No message ends or blocks the server: malformed ones get a coded reply, frames over MAX_MESSAGE_BYTES are cut off
    by libzmq with their connection, replies to clients that are gone are dropped.
  - It binds to a loopback address or not at all: there is no authentication yet, and whoever may ask may load the
    machine and read the bundle's specs.
  - `stop` may be called from any thread or a signal handler; `serve` returns after the plan under way.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import signal
import threading
from collections import deque
from types import TracebackType

import zmq

from skimo_core import wire
from skimo_core.errors import SetupError, WireError
from skimo_core.wire import Message

from .session import PlanJob, Session

log = logging.getLogger(__name__)

DEFAULT_PORT = 5757
MAX_WAITING = 16
MAX_MESSAGE_BYTES = 2 * wire.MAX_FRAME_BYTES
MAX_FRAMES = 2 + wire.MAX_ARRAYS
HIGH_WATER_MARK = 64
JOIN_TIMEOUT_S = 5.0


class PlanQueue:
    """The newest plan request of each client, oldest client first."""

    def __init__(self, capacity: int = MAX_WAITING) -> None:
        self._capacity = capacity
        self._jobs: dict[bytes, PlanJob] = {}
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: PlanJob) -> PlanJob | None:
        """Adds a job and returns the one that it replaces, which loses nothing of its place.

        Raises:
            WireError: "busy", too many clients wait.
        """
        with self._changed:
            if job.client not in self._jobs and len(self._jobs) >= self._capacity:
                raise WireError(
                    "busy", f"{len(self._jobs)} clients wait for plans, at most {self._capacity}; try later"
                )
            replaced = self._jobs.get(job.client)
            self._jobs[job.client] = job
            self._changed.notify()
            return replaced

    def take(self) -> PlanJob | None:
        """Waits for the next job; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._jobs))
            if self._closed:
                return None
            return self._jobs.pop(next(iter(self._jobs)))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class PolicyServer:
    """Serves one session; `bind`, then `serve` in the thread that is to do the answering."""

    def __init__(self, session: Session, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        """Args: port 0 takes a free one; see `endpoint` after `bind`."""
        self._session = session
        self._host, self._port = host, port
        self._queue = PlanQueue()
        self._done: deque[tuple[bytes, Message]] = deque()
        self._stopping = threading.Event()
        self._socket: zmq.Socket[bytes] | None = None
        self._wake: tuple[int, int] | None = None
        self._owns_signals = False
        self.endpoint = ""

    def __enter__(self) -> PolicyServer:
        self.bind()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def bind(self) -> str:
        """Opens the port and returns the endpoint.

        Raises:
            SetupError: not a loopback address, or the port is taken.
        """
        check_loopback(self._host)
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        try:
            socket.bind(f"tcp://{self._host}:{self._port or '*'}")
        except zmq.ZMQError as error:
            socket.close()
            if error.errno == errno.EADDRINUSE:
                raise SetupError(
                    f"port {self._port} of {self._host} is in use; stop the other server or choose another --port"
                ) from None
            raise SetupError(f"can't listen on {self._host}:{self._port}: {error}; choose another --port") from None
        self._socket = socket
        self._wake = os.pipe()
        os.set_blocking(self._wake[1], False)
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        return self.endpoint

    def serve(self) -> None:
        """Answers until `stop`; then ends the worker after the plan under way and closes the port."""
        socket, wake = self._socket, self._wake
        assert socket is not None and wake is not None, "bind() comes before serve()"
        worker = threading.Thread(target=self._work, name="skimo-planner", daemon=True)
        worker.start()
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(wake[0], zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll())
                if wake[0] in ready:
                    os.read(wake[0], 4096)
                while self._done:
                    self._send(*self._done.popleft())
                if socket in ready:
                    self._receive(socket)
        finally:
            self._queue.close()
            worker.join(JOIN_TIMEOUT_S)
            while self._done:
                self._send(*self._done.popleft())
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
        """Closes the port; harmless twice."""
        if self._owns_signals:
            signal.set_wakeup_fd(-1)
            self._owns_signals = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._wake is not None:
            ends, self._wake = self._wake, None
            for end in ends:
                os.close(end)

    def _receive(self, socket: zmq.Socket[bytes]) -> None:
        """Takes one message, keeping at most MAX_FRAMES + 1 of its frames, and answers or queues it."""
        frames: list[bytes] = []
        while True:
            frame = socket.recv(zmq.NOBLOCK)
            if len(frames) <= MAX_FRAMES:
                frames.append(frame)
            if not socket.getsockopt(zmq.RCVMORE):
                break
        client, content = frames[0], frames[1:]
        found = self._session.answer(client, content, len(self._queue))
        if isinstance(found, Message):
            self._send(client, found)
            return
        try:
            replaced = self._queue.put(found)
        except WireError as error:
            self._send(client, self._session.refusal("plan", found.request_id, error))
            return
        if replaced is not None:
            error = WireError("superseded", f"request {found.request_id} of the same client took its place")
            self._send(client, self._session.refusal("plan", replaced.request_id, error))

    def _send(self, client: bytes, reply: Message) -> None:
        if self._socket is not None:
            with contextlib.suppress(zmq.Again):  # the client takes nothing any more: it is gone or stuck
                self._socket.send_multipart([client, *wire.encode(reply)], zmq.NOBLOCK)

    def _work(self) -> None:
        """The planner's thread."""
        while (job := self._queue.take()) is not None:
            self._done.append((job.client, self._session.plan(job)))
            self._notify()

    def _notify(self) -> None:
        wake = self._wake
        if wake is not None:
            with contextlib.suppress(OSError):  # full: a wake-up is already on its way; closed: nobody waits
                os.write(wake[1], b"x")


def check_loopback(host: str) -> None:
    """Refuses every address but this machine's own.

    Raises:
        SetupError: another address or a name.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SetupError(
            f"host {host!r} is not a loopback address, and this server has no authentication; "
            "use 127.0.0.1, and reach it from another machine through an SSH tunnel"
        )
