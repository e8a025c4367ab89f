"""The way in for clients without keys: a Unix socket, or a loopback TCP port that its user opened to everybody.

Promises
  - What a connection may cost is bounded before anything is kept: bytes and parts of a message, bytes that it doesn't
    take, the time of a handshake and of an unfinished message, connections of one client and of all.
  - A turn reads one message of each senior client and one of all others, which take turns: whoever floods, the
    longest-standing clients wait for one message at most.
  - Whoever sends what can't be read to its end, or too much of what is malformed, is not read any more and waits
    `penalty_s` for the end of its connection: reconnecting without a pause would cost others more than the message.
  - When all places are taken, the connection that was silent longest goes, and one of a client in mid-use never goes
    for a newcomer.
Everything here runs in the server's thread.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import zmq

from skimo_core.contract.errors import SetupError, WireError
from skimo_core.link.endpoint import Endpoint

from . import zmtp
from .clients import Client, Clients
from .notices import Notices
from .timing import Clock
from .unix_listener import UnixListener

log = logging.getLogger(__name__)

BACKLOG = 128
CHUNK_BYTES = 64 * 1024
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of SO_PEERCRED (unix(7))


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """What clients may cost.

    Attributes:
        connections, per_client: places, and how many of them one client may take.
        message_bytes, parts: of one message; `wire.decode` asks for less, and answers what is a little over.
        unsent_bytes: replies that a client hasn't taken.
        handshake_s, unfinished_s: from connecting to READY, and from a message's first byte to its last.
        settled_s: how long a silent newcomer keeps its place when all are taken.
        faults: malformed messages after which a connection is closed.
        penalty_s: how long one that is closed for what it sent stays open, unread.
    """

    connections: int = 64
    per_client: int = 16
    message_bytes: int = 256 * 1024
    parts: int = 64
    unsent_bytes: int = 512 * 1024
    handshake_s: float = 2.0
    unfinished_s: float = 2.0
    settled_s: float = 1.0
    faults: int = 16
    penalty_s: float = 1.0


@dataclass(slots=True, eq=False, kw_only=True)
class Peer:
    """One peer of a door, and who it is; an `Asker`."""

    door: Any
    client: Client
    clock: Clock

    @property
    def client_name(self) -> str:
        return self.client.name

    def rank(self) -> tuple[int, float]:
        return self.client.rank(self.clock())

    def spent(self, planning_s: float) -> None:
        self.client.spent(planning_s, self.clock())

    def send(self, parts: list[bytes]) -> None:
        self.door.send(self, parts)

    def fault(self, *, last: bool) -> None:
        """The peer sent something malformed; it goes at once if nothing after it can be read, else after many."""
        self.door.fault(self, last=last)


@dataclass(slots=True, eq=False, kw_only=True)
class Connection(Peer):
    """One peer of the plain door."""

    socket: socket.socket
    reader: zmtp.Reader
    opened_s: float
    heard_s: float = 0.0
    unfinished_s: float | None = None
    out: bytearray = field(default_factory=bytearray)
    faults: int = 0
    ends_s: float | None = None
    turn: int = 0
    said_ready: bool = False
    may_have_more: bool = False
    closing: bool = False

    def dispensable(self, now_s: float) -> tuple[int, float]:
        """Larger goes first when places are short: the silent by how long, then the active by how new."""
        if self.ends_s is not None:
            return 2, 0.0
        if self.client.active(now_s):
            return 0, self.client.since_s
        return 1, now_s - self.heard_s


class PlainDoor:
    """Listens at an endpoint and reads ZMTP itself (`zmtp.py`)."""

    def __init__(
        self,
        endpoint: Endpoint,
        clients: Clients,
        poller: zmq.Poller,
        *,
        limits: DoorLimits,
        clock: Clock,
        gone: Callable[[Connection], None],
    ) -> None:
        """Args: `gone` is told of every connection that ends."""
        self._endpoint, self._clients, self._poller = endpoint, clients, poller
        self._limits, self._clock, self._gone = limits, clock, gone
        self._notices = Notices(log, clock)
        self._listener: socket.socket | None = None
        self._unix: UnixListener | None = None
        self._connections: dict[int, Connection] = {}
        self._turns = 0

    def open(self) -> Endpoint:
        """Listens; returns the endpoint with the port that it got.

        Raises:
            SetupError: the address is taken or not to be had.
        """
        if self._endpoint.path is not None:
            self._unix = UnixListener(self._endpoint.path, BACKLOG)
            self._listener = self._unix.open()
        else:
            self._listener = listen_tcp(self._endpoint)
            self._endpoint = Endpoint(host=self._endpoint.host, port=self._listener.getsockname()[1])
        self._poller.register(self._listener.fileno(), zmq.POLLIN)
        return self._endpoint

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection, "")
        if self._listener is not None:
            self._poller.unregister(self._listener.fileno())
            self._listener.close()
            self._listener = None
        if self._unix is not None:
            self._unix.close()

    @property
    def hurried(self) -> bool:
        """Whether something is left to read without waiting."""
        return any(connection.may_have_more for connection in self._connections.values())

    def take(self, ready: Mapping[object, int]) -> Iterator[tuple[Connection, list[bytes] | WireError]]:
        """The messages of one turn; after a WireError nothing more can be read: tell its peer, then `fault`."""
        assert self._listener is not None
        if self._listener.fileno() in ready:
            self._accept()
        for connection in list(self._connections.values()):
            if ready.get(connection.socket.fileno(), 0) & zmq.POLLOUT and connection.ends_s is None:
                self._flush(connection)
        for connection in self._turn(ready):
            found = self._read(connection)
            if found is not None and not connection.closing and connection.ends_s is None:
                yield connection, found

    def send(self, connection: Connection, parts: list[bytes]) -> None:
        """Sends what the peer takes now and keeps the rest, if it is little."""
        if not connection.closing and connection.ends_s is None:
            self._write(connection, zmtp.message(parts))

    def fault(self, connection: Connection, *, last: bool) -> None:
        """See `Connection.fault`."""
        connection.faults += 1
        if last or connection.faults >= self._limits.faults:
            self._ignore(connection, f"it sent {connection.faults} malformed messages")

    def tidy(self) -> None:
        """Lets go of those who take too long; to be called now and then."""
        now_s = self._clock()
        for connection in list(self._connections.values()):
            if connection.ends_s is not None:
                if now_s >= connection.ends_s:
                    self._drop(connection, "")
            elif not connection.reader.shaken:
                if now_s - connection.opened_s > self._limits.handshake_s:
                    self._drop(connection, "it did not finish its handshake")
            elif connection.unfinished_s is not None and now_s - connection.unfinished_s > self._limits.unfinished_s:
                self._drop(connection, "it left a message unfinished")

    def _accept(self) -> None:
        """Takes one newcomer, or turns it away."""
        assert self._listener is not None
        try:
            peer, address = self._listener.accept()
        except OSError:  # it is gone already, or the process is out of descriptors: others may be served
            return
        peer.setblocking(False)
        name = self._name(peer, address)
        if name is None or not self._make_room(self._clients.of(name)):
            peer.close()
            return
        now_s = self._clock()
        client = self._clients.of(name)
        client.connections += 1
        reader = zmtp.Reader(self._limits.message_bytes, self._limits.parts)
        connection = Connection(
            door=self,
            socket=peer,
            client=client,
            reader=reader,
            clock=self._clock,
            opened_s=now_s,
            heard_s=now_s,
        )
        self._connections[peer.fileno()] = connection
        self._poller.register(peer.fileno(), zmq.POLLIN)
        self._write(connection, zmtp.GREETING)

    def _name(self, peer: socket.socket, address: object) -> str | None:
        """What the client is called; None for one that may not come in."""
        if self._endpoint.path is None:
            assert isinstance(address, tuple)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return f"port {address[1]}"
        pid, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if user not in (os.getuid(), 0):
            self._notices.tell("user", f"turned away process {pid} of user {user}; the socket is user {os.getuid()}'s")
            return None
        return f"process {pid}" if pid else f"connection {self._turns}"  # 0: a process of another container

    def _make_room(self, client: Client) -> bool:
        if client.connections >= self._limits.per_client:
            self._notices.tell("many", f"turned away {client.name}: it has {client.connections} connections already")
            return False
        if len(self._connections) < self._limits.connections:
            return True
        now_s = self._clock()
        wanted = (0, client.since_s) if client.active(now_s) else (1, self._limits.settled_s)
        worst = max(self._connections.values(), key=lambda connection: connection.dispensable(now_s))
        if worst.dispensable(now_s) <= wanted:
            self._notices.tell("full", f"turned away {client.name}: all {len(self._connections)} places are taken")
            return False
        self._drop(worst, "its place was needed")
        return True

    def _turn(self, ready: Mapping[object, int]) -> list[Connection]:
        """Whose message is read now: one connection of each senior client, and one of all others."""
        due: dict[Client | None, Connection] = {}
        seniors = self._clients.seniors(self._clock())
        for connection in self._connections.values():
            if connection.ends_s is not None:
                continue
            if connection.may_have_more or ready.get(connection.socket.fileno(), 0) & ~zmq.POLLOUT:
                whose = connection.client if connection.client in seniors else None
                first = due.get(whose)
                if first is None or connection.turn < first.turn:
                    due[whose] = connection
        for connection in due.values():
            self._turns += 1
            connection.turn = self._turns
        return list(due.values())

    def _read(self, connection: Connection) -> list[bytes] | WireError | None:
        try:
            found = connection.reader.next()
            if found is None:
                connection.may_have_more = False
                if not self._receive(connection):
                    return None
                found = connection.reader.next()
        except WireError as error:
            return error
        now_s = self._clock()
        unfinished = connection.reader.unfinished
        if found is not None:
            connection.heard_s, connection.unfinished_s = now_s, None
            connection.may_have_more = unfinished
        if not unfinished:
            connection.unfinished_s = None
        elif connection.unfinished_s is None:
            connection.unfinished_s = now_s
        if connection.reader.greeted and not connection.said_ready:
            connection.said_ready = True
            self._write(connection, zmtp.ready())
        if isinstance(found, zmtp.Ping):
            self._write(connection, zmtp.pong(found))
            return None
        return found

    def _receive(self, connection: Connection) -> bool:
        """Feeds one chunk; False where there is none, and the connection goes where there never will be."""
        try:
            chunk = connection.socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self._drop(connection, "")
            return False
        connection.reader.feed(chunk)
        return True

    def _write(self, connection: Connection, data: bytes) -> None:
        connection.out += data
        if len(connection.out) > self._limits.unsent_bytes:
            self._ignore(connection, f"it leaves {len(connection.out)} bytes of replies untaken")
        else:
            self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.out) if connection.out else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection, "")
            return
        del connection.out[:sent]
        wanted = zmq.POLLIN | (zmq.POLLOUT if connection.out else 0)
        self._poller.modify(connection.socket.fileno(), wanted)

    def _ignore(self, connection: Connection, why: str) -> None:
        """Reads and sends nothing more, and lets the peer wait for the end."""
        self._notices.tell("ignored", f"reads no more of a connection of {connection.client.name}: {why}")
        connection.ends_s = self._clock() + self._limits.penalty_s
        connection.may_have_more = False
        connection.out.clear()
        connection.reader = zmtp.Reader(0, 0)
        self._poller.modify(connection.socket.fileno(), 0)  # takes it out

    def _drop(self, connection: Connection, why: str) -> None:
        """Closes a connection; `why` is told where it isn't the peer's own wish."""
        if connection.closing:
            return
        connection.closing = True
        if why:
            self._notices.tell("closed", f"closed a connection of {connection.client.name}: {why}")
        del self._connections[connection.socket.fileno()]
        self._poller.modify(connection.socket.fileno(), 0)  # takes it out, if it is in
        connection.socket.close()
        connection.client.connections -= 1
        self._gone(connection)


def listen_tcp(endpoint: Endpoint) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        SetupError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((endpoint.host, endpoint.port))
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise SetupError(
            f"can't listen on port {endpoint.port} of {endpoint.host}: {error.strerror}; stop the other server, "
            "or choose another --port"
        ) from None
    return found
