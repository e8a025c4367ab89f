"""ZMTP 3.1 as a server of DEALER sockets needs it, mechanism NULL (rfc.zeromq.org/spec/37): bytes in, messages out.

Why not libzmq: it counts neither parts nor bytes of a message that isn't complete. MAXMSGSIZE bounds a frame and the
high-water mark counts whole messages, so one peer that flags every frame "more" fills the memory, and a message of a
hundred thousand empty parts must be taken out part by part. Here both are bounded before anything is kept.

Promises
  - What a peer sends becomes messages, or a WireError after which the connection must go; never another error.
  - A reader holds at most `max_bytes` of a message and one chunk of what follows it; at most `max_parts` parts.
  - No input, no output and no clock: pure functions of the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from skimo_core.contract.errors import WireError

MORE, LONG, COMMAND = 1, 2, 4
SIGNATURE_BYTES = 10
GREETING_BYTES = 64
MAX_COMMAND_BYTES = 4096
_SHORT = 255
_MECHANISM = slice(12, 32)
_PEERS = frozenset({b"DEALER"})

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


@dataclass(frozen=True, slots=True)
class Ping:
    """A peer asks for a sign of life; `context` goes back to it."""

    context: bytes


class Reader:
    """What one peer sent, in order: feed it chunks, ask for what is complete."""

    def __init__(self, max_bytes: int, max_parts: int) -> None:
        self._max_bytes, self._max_parts = max_bytes, max_parts
        self._buffer = bytearray()
        self._at = 0
        self._parts: list[bytes] = []
        self._size = 0
        self.greeted = False
        self.shaken = False

    @property
    def unfinished(self) -> bool:
        """Whether something began that isn't complete yet."""
        return bool(self._parts) or len(self._buffer) > self._at

    def feed(self, chunk: bytes) -> None:
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += chunk

    def next(self) -> list[bytes] | Ping | None:
        """The next message or ping; None where more bytes are needed.

        Raises:
            WireError: the peer breaks the protocol or a bound; nothing after it can be read.
        """
        if not self.greeted and not self._greeting():
            return None
        while (frame := self._frame()) is not None:
            flags, body = frame
            if flags & COMMAND:
                if (ping := self._command(body)) is not None:
                    return ping
                continue
            if not self.shaken:
                raise WireError("malformed", "a message came before the peer said READY")
            self._parts.append(body)
            if not flags & MORE:
                parts, self._parts, self._size = self._parts, [], 0
                return parts
            if len(self._parts) >= self._max_parts:
                raise WireError("size", f"message has more than {self._max_parts} parts")
        return None

    def _greeting(self) -> bool:
        have = len(self._buffer)
        if (have and self._buffer[0] != 0xFF) or (have >= SIGNATURE_BYTES and not self._buffer[9] & 1):
            raise WireError("malformed", "the peer speaks no ZMTP; is it a ZeroMQ DEALER?")
        if have > SIGNATURE_BYTES and self._buffer[SIGNATURE_BYTES] < 3:
            raise WireError("version", f"ZMTP {self._buffer[SIGNATURE_BYTES]}, must be 3 (libzmq 4 or later)")
        if have < GREETING_BYTES:
            return False
        mechanism = bytes(self._buffer[_MECHANISM]).rstrip(b"\0")
        if mechanism != b"NULL":
            shown = mechanism.decode("ascii", "replace")
            raise WireError("malformed", f"security mechanism {shown!r}, this server uses no keys (NULL)")
        self._at, self.greeted = GREETING_BYTES, True
        return True

    def _frame(self) -> tuple[int, bytes] | None:
        """The next whole frame; its announced size is checked before its bytes are waited for."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < 2:
            return None
        flags = buffer[at]
        if flags & ~(MORE | LONG | COMMAND) or (flags & COMMAND and flags & MORE):
            raise WireError("malformed", f"frame flags 0x{flags:02x} are not of ZMTP 3")
        begin = at + (9 if flags & LONG else 2)
        if len(buffer) < begin:
            return None
        size = int.from_bytes(buffer[at + 1 : begin], "big")
        self._check_size(flags, size)
        if len(buffer) < begin + size:
            return None
        if not flags & COMMAND:
            self._size += size
        self._at = begin + size
        return flags, bytes(memoryview(buffer)[begin : begin + size])

    def _check_size(self, flags: int, size: int) -> None:
        if flags & COMMAND:
            if size > MAX_COMMAND_BYTES:
                raise WireError("size", f"command is {size} bytes, at most {MAX_COMMAND_BYTES}")
        elif self._size + size > self._max_bytes:
            raise WireError("size", f"message is {self._size + size} bytes or more, at most {self._max_bytes}")

    def _command(self, body: bytes) -> Ping | None:
        name, rest = body[1 : 1 + body[0]] if body else b"", body[1 + body[0] :] if body else b""
        if not self.shaken:
            if name != b"READY":
                raise WireError("malformed", f"handshake command {name[:20]!r}, must be READY")
            kind = _properties(rest).get(b"socket-type", b"")
            if kind not in _PEERS:
                raise WireError("malformed", f"socket type {kind[:20]!r}, must be DEALER")
            self.shaken = True
        elif name == b"PING":
            return Ping(rest[2:18])
        else:
            raise WireError("malformed", f"command {name[:20]!r} is none that a DEALER sends unasked")
        return None


def ready() -> bytes:
    """The server's half of the handshake."""
    body = b"\x05READY"
    for name, value in ((b"Socket-Type", b"ROUTER"), (b"Identity", b"")):
        body += bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
    return _frame(COMMAND, body)


def pong(ping: Ping) -> bytes:
    return _frame(COMMAND, b"\x04PONG" + ping.context)


def message(parts: Iterable[bytes]) -> bytes:
    """A message's frames in one piece; the inverse of `Reader`."""
    listed = list(parts)
    return b"".join(_frame(MORE if at + 1 < len(listed) else 0, part) for at, part in enumerate(listed))


def _frame(flags: int, body: bytes) -> bytes:
    if len(body) <= _SHORT:
        return bytes([flags, len(body)]) + body
    return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body


def _properties(data: bytes) -> dict[bytes, bytes]:
    """The metadata of a READY command, names in lower case.

    Raises:
        WireError: it is cut short.
    """
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        value_at = name_end + 4
        value_end = value_at + int.from_bytes(data[name_end:value_at], "big")
        if value_end > len(data) or value_at > len(data):
            raise WireError("malformed", "the metadata of READY is cut short")
        found[data[at + 1 : name_end].lower()] = data[value_at:value_end]
        at = value_end
    return found
