"""The wire: encode and decode are inverse; whatever else comes is refused with a code, never with another error."""

from __future__ import annotations

import math

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimo_core.contract.errors import WireError
from skimo_core.link import wire
from skimo_core.link.wire import PROTOCOL_VERSION, Message

SEEDED = settings(derandomize=True, deadline=None, max_examples=200)
GOOD = Message(op="act", request_id=7, deadline_s=0.04, arrays={"skill": np.zeros(3, np.float32)})

scalars = st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
plain = st.none() | scalars | st.binary(max_size=20) | st.lists(scalars, max_size=3) | st.just(math.nan)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    arrays = {}
    for name in draw(st.lists(st.text(max_size=8), max_size=4, unique=True)):
        dtype = draw(st.sampled_from(sorted(wire.DTYPES.values())))
        shape = draw(st.lists(st.integers(0, 4), max_size=wire.MAX_RANK))
        arrays[name] = np.full(shape, draw(st.integers(0, 200)), dtype)
    return Message(
        op=draw(st.sampled_from(sorted(wire.OPS))),
        request_id=draw(st.integers(0, wire.MAX_ID)),
        deadline_s=draw(st.floats(0, wire.MAX_DEADLINE_S)),
        code=draw(st.sampled_from(sorted(wire.CODES))),
        text=draw(st.text(max_size=50)),
        fields=draw(st.dictionaries(st.text(max_size=8), scalars, max_size=5)),
        timings_ms=draw(st.dictionaries(st.text(max_size=8), st.floats(0, 1e6), max_size=5)),
        arrays=arrays,
    )


@SEEDED
@given(messages())
def test_decode_is_the_inverse_of_encode(message: Message) -> None:
    found = wire.decode(wire.encode(message))
    for name in ("op", "request_id", "deadline_s", "code", "text", "fields", "timings_ms"):
        assert getattr(found, name) == getattr(message, name)
    assert list(found.arrays) == list(message.arrays)
    for name, array in message.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


@SEEDED
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_bytes_are_refused_with_a_code(frames: list[bytes]) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode(frames)
    assert caught.value.code in wire.CODES
    assert wire.request_id_of(frames) == 0


@SEEDED
@given(messages(), st.data())
def test_a_changed_header_is_refused_or_still_a_message(message: Message, data: st.DataObject) -> None:
    frames = wire.encode(message)
    header = msgpack.unpackb(frames[0])
    key = data.draw(st.sampled_from(sorted(header)))
    header[key] = data.draw(plain)
    try:
        found = wire.decode([msgpack.packb(header), *frames[1:]])
    except WireError as error:
        assert error.code in wire.CODES and str(error)
    else:
        assert isinstance(found, Message)


def change(**changes: object) -> list[bytes]:
    frames = wire.encode(GOOD)
    header = msgpack.unpackb(frames[0]) | changes
    return [msgpack.packb({k: v for k, v in header.items() if v is not ...}, default=lambda _: None), *frames[1:]]


def described(**changes: object) -> list[bytes]:
    return change(arrays=[{"name": "skill", "dtype": "f4", "shape": [3]} | changes])


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"a": value}
    return value


REFUSED = {
    "no frames": ([], "malformed"),
    "not msgpack": ([b"\xc1"], "malformed"),
    "no map": ([msgpack.packb([1])], "malformed"),
    "deep nesting": ([b"\x91" * 60_000], "malformed"),
    "older protocol": (change(v=0), "version"),
    "version as text": (change(v="1"), "version"),
    "missing key": ([msgpack.packb({"v": PROTOCOL_VERSION, "op": "act"})], "malformed"),
    "unknown key": (change(extra=1), "malformed"),
    "unknown operation": (change(op="kill"), "op"),
    "negative id": (change(id=-1), "malformed"),
    "id as truth": (change(id=True), "malformed"),
    "NaN deadline": (change(deadline_s=math.nan), "finite"),
    "long deadline": (change(deadline_s=1e9), "malformed"),
    "NaN field": (change(fields={"x": math.nan}), "finite"),
    "nested field": (change(fields={"x": {}}), "malformed"),
    "extension type": (change(fields={"x": msgpack.ExtType(5, b"x")}), "malformed"),
    "object array": (described(dtype="O8"), "dtype"),
    "big-endian array": (described(dtype=">f4"), "dtype"),
    "negative shape": (described(shape=[-3]), "malformed"),
    "huge shape": (described(shape=[2**62, 2**62]), "malformed"),
    "shape whose product is too big but for a 0": (described(shape=[0, 2**20, 2**20, 2**20]), "size"),
    "nested shape": (described(shape=[nested(400)]), "malformed"),
    "nested version": (change(v=nested(400)), "version"),
    "nested id": (change(id=nested(400)), "malformed"),
    "nested type": (described(dtype=nested(400)), "dtype"),
    "lists that claim what they don't hold": ([b"\xdc\xff\xff" * 400], "malformed"),
    "five dimensions": (described(shape=[1, 1, 1, 1, 3]), "malformed"),
    "short frame": (described(shape=[4]), "malformed"),
    "array without frame": (wire.encode(GOOD)[:1], "malformed"),
    "frame without array": ([*wire.encode(GOOD), b""], "malformed"),
    "too many frames": ([wire.encode(GOOD)[0], *[b""] * 40], "size"),
    "long header": ([b"x" * (wire.MAX_HEADER_BYTES + 1)], "size"),
    "long frame": ([wire.encode(GOOD)[0], bytes(wire.MAX_FRAME_BYTES + 1)], "size"),
    "NaN array": ([wire.encode(GOOD)[0], np.full(3, math.nan, "<f4").tobytes()], "finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_defect_has_its_code(name: str) -> None:
    frames, code = REFUSED[name]
    with pytest.raises(WireError) as caught:
        wire.decode(frames)
    assert caught.value.code == code


def test_an_array_type_outside_the_list_is_not_sent() -> None:
    with pytest.raises(WireError, match="complex64"):
        wire.encode(Message(op="act", request_id=1, arrays={"x": np.zeros(2, np.complex64)}))
    with pytest.raises(WireError, match="object"):
        wire.encode(Message(op="act", request_id=1, arrays={"x": np.array([{}], object)}))


def test_a_header_at_the_bounds_of_this_process_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(wire.msgpack, "unpackb", exhausted)
    with pytest.raises(WireError) as caught:
        wire.decode(wire.encode(GOOD))
    assert caught.value.code == "size" and wire.request_id_of(wire.encode(GOOD)) == 0
