"""The way in for clients with keys: TCP, authenticated and encrypted by libzmq (CurveZMQ), under a budget.

libzmq does the cryptography and lets in who is on the allow-list. But it bounds neither the bytes nor the parts of a
message that isn't complete, so nobody speaks to it directly: a relay takes each connection, passes its bytes on to
libzmq's own socket in a private folder, and stops while more than `message_bytes` of them have not come out as whole
messages. What an encrypted part weighs on the wire is known to the byte, so the account is exact.

    client --tcp--> relay --unix socket, at most message_bytes ahead--> ROUTER (CURVE, ZAP allow-list) --> messages

Promises
  - Whatever a peer sends, with or without a key, at most `message_bytes` of it wait in this process.
  - No key and an unknown key are refused with a log line; a key that is taken off the list at its next message.
Everything but libzmq's own thread runs in the server's thread.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from skimo_core.contract.errors import SetupError, WireError
from skimo_core.link.endpoint import Endpoint
from skimo_core.link.keys import AllowList, KeyPair

from .clients import Client, Clients
from .door import CHUNK_BYTES, DoorLimits, Peer, listen_tcp
from .notices import Notices
from .timing import Clock

log = logging.getLogger(__name__)

ZAP_ADDRESS = "inproc://zeromq.zap.01"  # where libzmq asks who may come in (rfc.zeromq.org/spec/27)
HIGH_WATER_MARK = 64
NO_KEY = "it showed no key that is on the list"
_SHORT_BODY = 255
_BODY_OVERHEAD = 8 + 8 + 16 + 1  # "\x07MESSAGE", nonce, authenticator, flags of a CurveZMQ MESSAGE


@dataclass(slots=True, eq=False, kw_only=True)
class Relay:
    """One peer: its own socket, and one of ours to libzmq; `ahead` bytes of it are not yet whole messages."""

    outer: socket.socket
    inner: socket.socket
    label: bytes
    address: str
    opened_s: float
    heard_s: float
    ahead: int = 0
    stuck_s: float | None = None
    to_inner: bytearray = field(default_factory=bytearray)
    to_outer: bytearray = field(default_factory=bytearray)
    client: Client | None = None
    faults: int = 0
    closing: bool = False

    def dispensable(self, now_s: float) -> tuple[int, float]:
        """As `door.Connection.dispensable`."""
        if self.client is not None and self.client.active(now_s):
            return 0, self.client.since_s
        return 1, now_s - self.heard_s


@dataclass(slots=True, eq=False, kw_only=True)
class KeyedConnection(Peer):
    """One authenticated peer."""

    routing_id: bytes
    relay: Relay


class CurveDoor:
    """Listens on TCP and lets in who has a key on the list."""

    def __init__(
        self,
        endpoint: Endpoint,
        keys: KeyPair,
        allowed: AllowList,
        clients: Clients,
        poller: zmq.Poller,
        *,
        limits: DoorLimits,
        clock: Clock,
        gone: Callable[[KeyedConnection], None],
    ) -> None:
        """Args: `gone` is told of every connection that ends."""
        self._endpoint, self._keys, self._allowed = endpoint, keys, allowed
        self._clients, self._poller, self._limits, self._clock, self._gone = clients, poller, limits, clock, gone
        self._notices = Notices(log, clock)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._folder: Path | None = None
        self._relays: dict[bytes, Relay] = {}
        self._connections: dict[bytes, KeyedConnection] = {}

    def open(self) -> Endpoint:
        """Listens; returns the endpoint with the port that it got.

        Raises:
            SetupError: the address is taken or not to be had.
        """
        self._allowed.names()  # a list that can't be read is refused now
        self._listener = listen_tcp(self._endpoint)
        self._endpoint = Endpoint(host=self._endpoint.host, port=self._listener.getsockname()[1])
        self._folder = Path(tempfile.mkdtemp(prefix="skimo-"))  # mode 0700
        self._inner = str(self._folder / "inner")
        self._context = zmq.Context()
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind(ZAP_ADDRESS)
        self._router = self._context.socket(zmq.ROUTER)
        for option, value in self._options():
            self._router.setsockopt(option, value)
        self._router.bind(f"ipc://{self._inner}")
        for pollable in (self._listener.fileno(), self._zap, self._router):
            self._poller.register(pollable, zmq.POLLIN)
        return self._endpoint

    def close(self) -> None:
        if self._context is None or self._folder is None:
            return
        for relay in list(self._relays.values()):
            self._drop(relay, "")
        for pollable in (self._listener.fileno(), self._zap, self._router):
            self._poller.unregister(pollable)
        self._listener.close()
        self._context.destroy(linger=0)
        self._context = None
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def hurried(self) -> bool:
        return False

    def take(self, ready: Mapping[object, int]) -> Iterator[tuple[KeyedConnection, list[bytes] | WireError]]:
        """At most one message: libzmq takes one of each connection in turn."""
        if self._listener.fileno() in ready:
            self._accept()
        for relay in list(self._relays.values()):
            self._pump(relay, ready)
        if self._zap in ready:
            self._let_in()
        if self._router in ready and (found := self._receive()) is not None:
            yield found

    def send(self, connection: KeyedConnection, parts: list[bytes]) -> None:
        """Sends a reply, or drops it where the peer takes none."""
        try:
            self._router.send_multipart([connection.routing_id, *parts], zmq.NOBLOCK)
        except zmq.Again:
            self._notices.tell("untaken", f"dropped a reply to {connection.client_name}, which takes none")

    def fault(self, connection: KeyedConnection, *, last: bool) -> None:
        """See `KeyedConnection.fault`."""
        connection.relay.faults += 1
        if last or connection.relay.faults >= self._limits.faults:
            self._drop(connection.relay, f"it sent {connection.relay.faults} malformed messages")

    def tidy(self) -> None:
        """As `PlainDoor.tidy`."""
        now_s = self._clock()
        for relay in list(self._relays.values()):
            if relay.stuck_s is not None and now_s - relay.stuck_s > self._limits.unfinished_s:
                self._drop(relay, f"more than {self._limits.message_bytes} bytes of it make no message")

    def _options(self) -> list[tuple[int, int | bytes]]:
        return [
            (zmq.LINGER, 0),
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_SECRETKEY, bytes.fromhex(self._keys.secret)),
            (zmq.ZAP_DOMAIN, b"skimo"),
            (zmq.MAXMSGSIZE, self._limits.message_bytes),
            (zmq.HANDSHAKE_IVL, round(1e3 * self._limits.handshake_s)),
            (zmq.RCVHWM, HIGH_WATER_MARK),
            (zmq.SNDHWM, HIGH_WATER_MARK),
        ]

    def _accept(self) -> None:
        """Takes one newcomer, or turns it away."""
        try:
            outer, address = self._listener.accept()
        except OSError:  # it is gone already, or the process is out of descriptors: others may be served
            return
        if not self._make_room():
            outer.close()
            return
        outer.setblocking(False)
        outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        inner.bind("")  # Linux draws a unique name, by which libzmq's end of the connection is known again
        inner.connect(self._inner)
        inner.setblocking(False)
        now_s = self._clock()
        relay = Relay(
            outer=outer, inner=inner, label=inner.getsockname(), address=address[0], opened_s=now_s, heard_s=now_s
        )
        self._relays[relay.label] = relay
        self._poller.register(outer.fileno(), zmq.POLLIN)
        self._poller.register(inner.fileno(), zmq.POLLIN)

    def _make_room(self) -> bool:
        if len(self._relays) < self._limits.connections:
            return True
        now_s = self._clock()
        worst = max(self._relays.values(), key=lambda relay: relay.dispensable(now_s))
        if worst.dispensable(now_s) <= (1, self._limits.settled_s):
            self._notices.tell("full", f"turned away a connection: all {len(self._relays)} places are taken")
            return False
        self._drop(worst, "its place was needed")
        return True

    def _pump(self, relay: Relay, ready: Mapping[object, int]) -> None:
        """Passes on what can be passed on now, both ways."""
        outer, inner = ready.get(relay.outer.fileno(), 0), ready.get(relay.inner.fileno(), 0)
        if not outer and not inner:
            return
        room = self._limits.message_bytes - relay.ahead
        if inner & ~zmq.POLLOUT and not relay.to_outer and not _read(relay.inner, relay.to_outer, CHUNK_BYTES):
            self._drop(relay, "" if relay.client else NO_KEY)
            return
        alive = True
        if outer & ~zmq.POLLOUT and not relay.to_inner and room > 0:
            alive = _read(relay.outer, relay.to_inner, min(CHUNK_BYTES, room))
            relay.ahead += len(relay.to_inner)
        if alive and _write(relay.inner, relay.to_inner) and _write(relay.outer, relay.to_outer):
            self._account(relay)
        else:  # a client without keys may leave before libzmq turns it away
            self._drop(relay, "" if relay.client else NO_KEY)

    def _account(self, relay: Relay) -> None:
        """Sets what is waited for next: nothing more of a peer that is too far ahead."""
        full = relay.ahead >= self._limits.message_bytes
        if not full:
            relay.stuck_s = None
        elif relay.stuck_s is None:
            relay.stuck_s = self._clock()
        wait_outer = (0 if full or relay.to_inner else zmq.POLLIN) | (zmq.POLLOUT if relay.to_outer else 0)
        wait_inner = (0 if relay.to_outer else zmq.POLLIN) | (zmq.POLLOUT if relay.to_inner else 0)
        self._poller.modify(relay.outer.fileno(), wait_outer)
        self._poller.modify(relay.inner.fileno(), wait_inner)

    def _let_in(self) -> None:
        """Answers libzmq's question whether a client key may come in (ZAP)."""
        version, request_id, _, _, _, mechanism, *credentials = self._zap.recv_multipart()
        name = None
        if mechanism == b"CURVE" and len(credentials) == 1:
            key = credentials[0].hex()
            name = self._names().get(key)
            if name is None:
                self._notices.tell("unknown", f"refused key {key}, which is not on the list; see skimo keys add")
        code, text = (b"200", b"OK") if name else (b"400", b"not on the list")
        user = (name or "").encode("ascii")
        self._zap.send_multipart([version, request_id, code, text, user, b""])

    def _names(self) -> Mapping[str, str]:
        """The list as it stands; nobody where it can't be read."""
        try:
            return self._allowed.names()
        except SetupError as error:
            self._notices.tell("list", f"nobody is let in: {error}")
            return {}

    def _receive(self) -> tuple[KeyedConnection, list[bytes] | WireError] | None:
        first, *rest = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
        relay = self._relay_of(first)
        if relay is None or relay.closing:
            return None
        parts = [part.bytes for part in rest]
        relay.ahead -= sum(map(_weight, map(len, parts)))
        relay.heard_s = self._clock()
        self._account(relay)
        name = str(first.get("User-Id"))
        if name not in self._names().values():
            self._notices.tell("removed", f"closed the connection of {name}, which was taken off the list")
            self._drop(relay, "")
            return None
        connection = self._connection(first.bytes, relay, name)
        if connection is None:
            return None
        if len(parts) > self._limits.parts:
            return connection, WireError("size", f"message has {len(parts)} parts, at most {self._limits.parts}")
        return connection, parts

    def _relay_of(self, first: zmq.Frame) -> Relay | None:
        """The relay whose connection a message came through."""
        try:
            with socket.socket(fileno=os.dup(int(first.get(zmq.SRCFD)))) as end:
                return self._relays.get(end.getpeername())
        except OSError:  # it ended meanwhile
            return None

    def _connection(self, routing_id: bytes, relay: Relay, name: str) -> KeyedConnection | None:
        known = self._connections.get(relay.label)
        if known is not None:
            return known
        client = self._clients.of(f"key {name}")
        if client.connections >= self._limits.per_client:
            self._drop(relay, f"{name} has {client.connections} connections already")
            return None
        client.connections += 1
        relay.client = client
        found = KeyedConnection(door=self, routing_id=routing_id, relay=relay, client=client, clock=self._clock)
        self._connections[relay.label] = found
        return found

    def _drop(self, relay: Relay, why: str) -> None:
        if relay.closing:
            return
        relay.closing = True
        if why:
            who = relay.client.name if relay.client else relay.address
            self._notices.tell(why[:20], f"closed a connection of {who}: {why}")
        for end in (relay.outer, relay.inner):
            self._poller.modify(end.fileno(), 0)  # takes it out, if it is in
            end.close()
        del self._relays[relay.label]
        connection = self._connections.pop(relay.label, None)
        if connection is not None:
            connection.client.connections -= 1
            self._gone(connection)


def _weight(size: int) -> int:
    """Bytes on the wire of a part of `size` bytes: ZMTP's frame header and CurveZMQ's MESSAGE around it."""
    body = size + _BODY_OVERHEAD
    return body + (2 if body <= _SHORT_BODY else 9)


def _read(source: socket.socket, buffer: bytearray, most: int) -> bool:
    """Adds what can be read now; False where the other side has ended."""
    try:
        chunk = source.recv(most)
    except BlockingIOError:
        return True
    except OSError:
        return False
    buffer += chunk
    return bool(chunk)


def _write(sink: socket.socket, buffer: bytearray) -> bool:
    """Sends what is taken now; False where the other side has ended."""
    try:
        sent = sink.send(buffer) if buffer else 0
    except BlockingIOError:
        return True
    except OSError:
        return False
    del buffer[:sent]
    return True
