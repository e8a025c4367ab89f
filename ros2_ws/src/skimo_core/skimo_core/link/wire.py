"""Messages between a policy client and its server: a msgpack header and raw little-endian array frames.

    [header, array 0, array 1, ...]          (a ROUTER socket puts the peer's identity in front)
    header = {v, op, id, deadline_s, code, text, fields, timings_ms, arrays: [{name, dtype, shape}, ...]}

Promises
  - `decode` returns a message that is wholly checked, or raises a WireError whose code is for the other side, never
    another error: sizes before contents, types against an allow-list, every number finite, every length exact. Nothing
    is guessed.
  - It never unpickles, evaluates, imports or allocates by what a frame claims: arrays are views of the bytes received.
  - `encode` and `decode` are inverse to each other.
Durations are in seconds, timings in milliseconds. A deadline is a duration from sending: two clocks never meet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from ..contract.errors import WireError

PROTOCOL_VERSION = 3
MAX_HEADER_BYTES = 64 * 1024
MAX_FRAME_BYTES = 1024 * 1024
MAX_ARRAYS = 16
MAX_TEXT = 32 * 1024
MAX_FIELDS = 64
MAX_RANK = 4
MAX_DEADLINE_S = 60.0
MAX_ID = 2**53

DTYPES = {"f4": "<f4", "f8": "<f8", "i4": "<i4", "i8": "<i8", "u1": "|u1"}
OPS = frozenset({"hello", "plan", "act", "health", "error"})
CODES = {
    "ok": "the request was done",
    "malformed": "frames or header are not as this protocol says",
    "version": "another protocol version",
    "op": "no such operation",
    "size": "larger than its bound",
    "dtype": "an array type outside the allow-list",
    "finite": "a number that is not finite",
    "spec": "well-formed, but not what this bundle takes",
    "bundle": "a skill of a bundle that this server doesn't have, or not any more",
    "deadline": "not done in time",
    "superseded": "a newer plan request of the same client took its place",
    "busy": "too many clients wait for plans",
    "model": "the model gave no usable answer",
    "internal": "a fault of the server",
}

Scalar = bool | int | float | str
Array = npt.NDArray[Any]
# What msgpack may allocate for by what a header claims; a header has no binary values and no extension types.
_UNPACK_BOUNDS = {
    "max_str_len": MAX_TEXT * 4,
    "max_array_len": MAX_FIELDS,
    "max_map_len": MAX_FIELDS,
    "max_bin_len": 0,
    "max_ext_len": 0,
}
_KEYS = {"v", "op", "id", "deadline_s", "code", "text", "fields", "timings_ms", "arrays"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request or a reply.

    Attributes:
        op: one of OPS.
        request_id: chosen by the client; a reply carries its request's.
        deadline_s: how long from sending the client waits; 0 in replies.
        code: "ok" in requests and good replies, else why not (see CODES).
        text: for people.
        fields: named scalars.
        timings_ms: milliseconds per stage, in replies.
        arrays: by name.
    """

    op: str
    request_id: int
    deadline_s: float = 0.0
    code: str = "ok"
    text: str = ""
    fields: Mapping[str, Scalar] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


def encode(message: Message) -> list[bytes]:
    """Frames of a message.

    Raises:
        WireError: an array type that the protocol does not carry.
    """
    described, frames = [], []
    for name, array in message.arrays.items():
        kind = f"{array.dtype.kind}{array.dtype.itemsize}"
        if kind not in DTYPES:
            raise WireError("dtype", f"array {name!r} is {array.dtype}, must be one of {', '.join(DTYPES)}; convert it")
        described.append({"name": name, "dtype": kind, "shape": list(array.shape)})
        frames.append(np.ascontiguousarray(array, DTYPES[kind]).tobytes())
    header = {
        "v": PROTOCOL_VERSION,
        "op": message.op,
        "id": message.request_id,
        "deadline_s": float(message.deadline_s),
        "code": message.code,
        "text": message.text[:MAX_TEXT],
        "fields": dict(message.fields),
        "timings_ms": dict(message.timings_ms),
        "arrays": described,
    }
    packed: bytes = msgpack.packb(header)  # type: ignore[assignment]
    return [packed, *frames]


def decode(frames: Sequence[bytes]) -> Message:
    """The message in some frames (without a peer's identity).

    Raises:
        WireError: whatever is wrong, with one of CODES.
    """
    try:
        return _decode(frames)
    except (MemoryError, RecursionError):  # this process is at its own bounds; the message is not worth more
        raise WireError("size", "message needs more memory or depth than there is") from None


def _decode(frames: Sequence[bytes]) -> Message:
    header = _header(frames)
    fields, timings_ms = header["fields"], header["timings_ms"]
    _check_map("fields", fields, (bool, int, float, str))
    _check_map("timings_ms", timings_ms, (int, float))
    return Message(
        op=_text(header, "op", OPS, "op"),
        request_id=_whole(header["id"], "id", 0, MAX_ID),
        deadline_s=_deadline(header["deadline_s"]),
        code=_text(header, "code", frozenset(CODES), "malformed"),
        text=_short(header["text"], "text"),
        fields=fields,
        timings_ms=timings_ms,
        arrays=_arrays(header["arrays"], frames[1:]),
    )


def request_id_of(frames: Sequence[bytes]) -> int:
    """The id in a header that `decode` may have refused; 0 where it can't be read."""
    try:
        value = _header(frames)["id"]
    except (WireError, MemoryError, RecursionError):
        return 0
    return value if type(value) is int and 0 <= value <= MAX_ID else 0


def _header(frames: Sequence[bytes]) -> dict[str, Any]:
    if not frames:
        raise WireError("malformed", "message has 0 frames, a header is needed")
    if len(frames) > 1 + MAX_ARRAYS:
        raise WireError("size", f"message has {len(frames)} frames, at most {1 + MAX_ARRAYS}")
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise WireError("size", f"header is {len(frames[0])} bytes, at most {MAX_HEADER_BYTES}")
    for at, frame in enumerate(frames[1:]):
        if len(frame) > MAX_FRAME_BYTES:
            raise WireError("size", f"array frame {at} is {len(frame)} bytes, at most {MAX_FRAME_BYTES}")
    try:
        header = msgpack.unpackb(frames[0], raw=False, strict_map_key=True, **_UNPACK_BOUNDS)
    except (ValueError, msgpack.UnpackException):
        raise WireError("malformed", "header is not msgpack") from None
    if not isinstance(header, dict):
        raise WireError("malformed", f"header is a {type(header).__name__}, must be a map")
    version = header.get("v")
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise WireError(
            "version", f"protocol version {_shown(version)}, this side speaks {PROTOCOL_VERSION}; install one version"
        )
    if wrong := sorted(map(repr, set(header) ^ _KEYS)):
        raise WireError("malformed", f"header key {wrong[0][:40]} is missing or unknown")
    return header


def _shown(value: object) -> str:
    """A scalar in words; of anything else only its type, since it may be nested deeper than `repr` can go."""
    if isinstance(value, (str, bytes)):
        return repr(value[:40])
    return str(value) if isinstance(value, (bool, int, float)) or value is None else f"a {type(value).__name__}"


def _whole(value: object, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise WireError("malformed", f"{name} is {_shown(value)}, must be a whole number of {low} to {high}")
    return value


def _short(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise WireError("malformed", f"{name} is a {type(value).__name__}, must be text")
    if len(value) > MAX_TEXT:
        raise WireError("size", f"{name} is {len(value)} characters, at most {MAX_TEXT}")
    return value


def _text(header: Mapping[str, Any], name: str, allowed: frozenset[str], code: str) -> str:
    value = _short(header[name], name)
    if value not in allowed:
        raise WireError(code, f"{name} is {value[:40]!r}, must be one of {', '.join(sorted(allowed))}")
    return value


def _deadline(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WireError("malformed", f"deadline_s is a {type(value).__name__}, must be a number of seconds")
    if not math.isfinite(value):
        raise WireError("finite", f"deadline_s is {value}, must be finite")
    if not 0 <= value <= MAX_DEADLINE_S:
        raise WireError("malformed", f"deadline_s is {value:g} s, must lie in 0 to {MAX_DEADLINE_S:g} s")
    return float(value)


def _check_map(name: str, value: object, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, dict) or len(value) > MAX_FIELDS:
        raise WireError("malformed", f"{name} must be a map of at most {MAX_FIELDS} entries")
    for key, item in value.items():
        _short(key, f"key of {name}")
        if type(item) not in kinds:
            raise WireError("malformed", f"{name}[{key[:40]!r}] is a {type(item).__name__}, which {name} can't hold")
        if isinstance(item, str):
            _short(item, f"{name}[{key[:40]!r}]")
        if isinstance(item, float) and not math.isfinite(item):
            raise WireError("finite", f"{name}[{key[:40]!r}] is {item}, must be finite")


def _arrays(described: object, frames: Sequence[bytes]) -> dict[str, Array]:
    if not isinstance(described, list) or len(described) != len(frames):
        count = len(described) if isinstance(described, list) else "no list of"
        raise WireError("malformed", f"header describes {count} arrays, {len(frames)} frames came")
    found: dict[str, Array] = {}
    for entry, frame in zip(described, frames):
        if not isinstance(entry, dict) or set(entry) != {"name", "dtype", "shape"}:
            raise WireError("malformed", "an array's description must have exactly name, dtype and shape")
        name = _short(entry["name"], "array name")
        if name in found:
            raise WireError("malformed", f"array {name[:40]!r} came twice")
        found[name] = _array(name[:40], entry["dtype"], entry["shape"], frame)
    return found


def _array(name: str, kind: object, shape: object, frame: bytes) -> Array:
    if not isinstance(kind, str) or kind not in DTYPES:
        raise WireError("dtype", f"array {name!r} is {_shown(kind)}, must be one of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise WireError("malformed", f"shape of {name!r} must be a list of at most {MAX_RANK} numbers")
    sizes = [_whole(size, f"shape of {name!r}", 0, MAX_FRAME_BYTES) for size in shape]
    dtype = np.dtype(DTYPES[kind])
    if math.prod(size or 1 for size in sizes) * dtype.itemsize > MAX_FRAME_BYTES:  # also where one of them is 0
        raise WireError("size", f"array {name!r} of shape {sizes} is larger than {MAX_FRAME_BYTES} bytes")
    wanted = math.prod(sizes) * dtype.itemsize
    if wanted != len(frame):
        raise WireError("malformed", f"array {name!r} of shape {sizes} needs {wanted} bytes, {len(frame)} came")
    array = np.frombuffer(frame, dtype).reshape(sizes) if wanted else np.empty(sizes, dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError("finite", f"array {name!r} holds a non-finite number; check the sensor or the sender")
    return array
