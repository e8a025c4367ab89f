"""Control steps out of their CDR bytes, by the message definition that the recording itself carries.

Definitions of other versions are fine as long as they hold what an episode needs, and what it may have, under the same
types; a definition with anything but plain fields is refused, so that no file can make the decoder recurse or allocate.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap_ros2.decoder import DecoderFactory

from ..contract.errors import EpisodeError
from .definitions import SEPARATOR
from .stream import DamageError

NEEDED = {"episode_id": "string", "step": "uint32", "observation": "float32[]", "action_applied": "float32[]"}
MAY_HOLD = {
    "kind": "string",
    "action_proposed": "float32[]",
    "skill": "float32[]",
    "reward": "float32",
    "verdict": "uint8",
    "bundle_id": "string",
    "promise": "float32[]",
}
DEFINITION_BYTES = 64 * 1024
DECODE_ERRORS = (McapError, ValueError, IndexError, struct.error, OverflowError)
_REMEDY = "it was recorded by another program; make it one of ours with `skimo ingest`, or leave it out"
_PLAIN = re.compile(r"^(bool|byte|u?int(8|16|32|64)|float(32|64)|string)(\[\])?$")
_PARTS = {
    "std_msgs/Header": {"stamp": "builtin_interfaces/Time", "frame_id": "string"},
    "builtin_interfaces/Time": {"sec": "int32", "nanosec": "uint32"},
}
_NAME = re.compile(r"^(?!.*__)(?!.*_$)[a-z][a-z0-9_]{0,63}$")
_CONSTANT = re.compile(r"^\s*[a-z0-9]+\s+[A-Z][A-Z0-9_]*\s*=")


class StepDecoder:
    """Decodes the steps of one file."""

    def __init__(self) -> None:
        self._decode: Callable[[bytes], Any] | None = None
        self._channel_id = -1

    def __call__(self, message: Message, channel: Channel, schema: Schema) -> Any:
        """One step.

        Raises:
            EpisodeError: its channel or definition is not that of control steps.
            DamageError: its bytes don't fit the definition.
        """
        if self._decode is None:
            self._decode, self._channel_id = _make_decoder(channel, schema), channel.id
        if channel.id != self._channel_id:
            raise EpisodeError(f"holds control steps on two topics, the second {channel.topic[:60]!r}; split them")
        try:
            return self._decode(message.data)
        except DECODE_ERRORS:
            raise DamageError(f"control step in message {message.sequence} does not fit its definition") from None


def _make_decoder(channel: Channel, schema: Schema) -> Callable[[bytes], Any]:
    """Of the definition's fields, written anew: the parser never sees the file's own text."""
    if channel.message_encoding != "cdr" or schema.encoding != "ros2msg" or len(schema.data) > DEFINITION_BYTES:
        raise EpisodeError(
            f"control steps are encoded as {channel.message_encoding[:20]!r} / {schema.encoding[:20]!r} with a "
            f"definition of {len(schema.data):,} bytes, must be 'cdr' / 'ros2msg' and at most {DEFINITION_BYTES:,}; "
            f"{_REMEDY}"
        )
    text, _, rest = schema.data.decode("utf-8", "replace").partition(SEPARATOR)
    main = _fields(text)
    for name, kind in NEEDED.items():
        if main.get(name) != kind:
            raise EpisodeError(f"field {name} of {schema.name} is {main.get(name)}, must be {kind}; {_REMEDY}")
    if odd := [name for name, kind in main.items() if not _PLAIN.match(kind) and kind != "std_msgs/Header"]:
        raise EpisodeError(f"the definition of {schema.name} has other than plain fields ({', '.join(odd)}); {_REMEDY}")
    for name, kind in MAY_HOLD.items():
        if main.get(name, kind) != kind:
            raise EpisodeError(f"field {name} of {schema.name} is {main[name]}, must be {kind}; {_REMEDY}")
    for section in rest.split(SEPARATOR) if rest else ():
        title, _, body = section.strip().partition("\n")
        part = title.removeprefix("MSG: ").replace("/msg/", "/")
        if _PARTS.get(part) != _fields(body):
            raise EpisodeError(f"the definition of {schema.name} holds {title[:60]!r} with other fields; {_REMEDY}")
    parts = "".join(f"{SEPARATOR}\nMSG: {name}\n{_lines(part)}" for name, part in _PARTS.items())
    plain = Schema(id=schema.id, name=schema.name, encoding=schema.encoding, data=(_lines(main) + parts).encode())
    decoder = DecoderFactory().decoder_for("cdr", plain)
    assert decoder is not None
    return decoder


def _fields(text: str) -> dict[str, str]:
    """Field name to type; constants, which take no room in a message, and comments are left out."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or _CONSTANT.match(line):
            continue
        if len(words) != 2 or not _NAME.match(words[1]) or words[1] in fields:
            raise EpisodeError(f"a message definition has the line {line[:60]!r}; only plain fields are read")
        fields[words[1]] = words[0]
    return fields


def _lines(fields: Mapping[str, str]) -> str:
    return "".join(f"{kind} {name}\n" for name, kind in fields.items())
