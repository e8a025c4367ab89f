"""ZMTP as the server reads it: what libzmq sends is understood, bounds hold before anything is kept, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimo_core.contract.errors import WireError
from skimo_server import zmtp

SEEDED = settings(derandomize=True, deadline=None, max_examples=100)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
MAX_BYTES, MAX_PARTS = 1000, 8


def reader(opening: bytes = zmtp.GREETING + READY) -> zmtp.Reader:
    found = zmtp.Reader(MAX_BYTES, MAX_PARTS)
    found.feed(opening)
    return found


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=MAX_PARTS), max_size=3), st.integers(1, 40))
def test_messages_come_out_as_they_went_in_however_they_were_cut(messages: list[list[bytes]], step: int) -> None:
    stream = zmtp.GREETING + READY + b"".join(map(zmtp.message, messages))
    found, come = zmtp.Reader(MAX_BYTES, MAX_PARTS), []
    for at in range(0, len(stream), step):
        found.feed(stream[at : at + step])
        while (message := found.next()) is not None:
            come.append(message)
    assert come == messages and not found.unfinished


@SEEDED
@given(st.sampled_from([b"", zmtp.GREETING, zmtp.GREETING + READY]), st.lists(st.binary(max_size=200), max_size=6))
def test_any_bytes_give_messages_or_a_wire_error(opening: bytes, chunks: list[bytes]) -> None:
    found = reader(opening)
    try:
        for chunk in chunks:
            found.feed(chunk)
            while (message := found.next()) is not None:
                assert isinstance(message, (list, zmtp.Ping))
    except WireError as error:
        assert str(error)


REFUSED = {
    "no ZMTP": (b"GET / HTTP/1.1\r\n", "speaks no ZMTP"),
    "ZMTP 2": (b"\xff" + bytes(8) + b"\x7f\x01", "must be 3"),
    "another mechanism": (zmtp.GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32), "uses no keys"),
    "no READY": (zmtp.GREETING + b"\x04\x06\x05HELLO", "must be READY"),
    "message before READY": (zmtp.GREETING + b"\x00\x00", "before the peer said READY"),
    "another socket": (zmtp.GREETING + READY[:-6] + b"ROUTER", "must be DEALER"),
    "cut metadata": (zmtp.GREETING + b"\x04\x0b\x05READY\x20abcd", "cut short"),
    "endless parts": (zmtp.GREETING + READY + b"\x01\x00" * 100_000, "more than 8 parts"),
    "endless bytes": (zmtp.GREETING + READY + (b"\x01\xff" + bytes(255)) * 7, "at most 1000"),
    "a huge part announced": (zmtp.GREETING + READY + b"\x02" + b"\x7f" * 8, "at most 1000"),
    "a huge command announced": (zmtp.GREETING + b"\x06" + b"\x7f" * 8, "command is"),
    "unknown flags": (zmtp.GREETING + READY + b"\x80\x00", "flags 0x80"),
    "pongs unasked": (zmtp.GREETING + READY + b"\x04\x05\x04PONG", "sends unasked"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_breach_is_refused_at_once(name: str) -> None:
    stream, words = REFUSED[name]
    with pytest.raises(WireError, match=words):
        reader(stream).next()


def test_a_ping_is_answered_with_its_context() -> None:
    found = reader(zmtp.GREETING + READY + b"\x04\x0a\x04PING\x00\x10abc").next()
    assert isinstance(found, zmtp.Ping) and zmtp.pong(found) == b"\x04\x08\x04PONGabc"
