"""Control steps out of their CDR bytes, by the message definition that the recording itself carries.

Definitions of other versions are fine as long as they hold what an episode needs, under the same types; a definition
with anything but plain fields is refused, so that no file can make the decoder recurse or allocate.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap_ros2.decoder import DecoderFactory

from ..errors import EpisodeError
from .definitions import SEPARATOR
from .stream import DamageError

NEEDED = {"episode_id": "string", "step": "uint32", "observation": "float32[]", "action_applied": "float32[]"}
DEFINITION_BYTES = 64 * 1024
DECODE_ERRORS = (McapError, ValueError, IndexError, struct.error, OverflowError)
_PLAIN = re.compile(r"^(bool|byte|u?int(8|16|32|64)|float(32|64)|string)(\[\])?$")
_PARTS = {"std_msgs/Header": {"stamp": "builtin_interfaces/Time", "frame_id": "string"}}
_TIME = {"sec": "int32", "nanosec": "uint32"}
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,63}$")


class StepDecoder:
    """Decodes the steps of one file."""

    def __init__(self) -> None:
        self._factory = DecoderFactory()
        self._checked: Schema | None = None
        self._channel_id = -1

    def __call__(self, message: Message, channel: Channel, schema: Schema) -> Any:
        """One step.

        Raises:
            EpisodeError: its channel or definition is not that of control steps.
            DamageError: its bytes don't fit the definition.
        """
        if self._checked is None:
            _check_definition(channel, schema)
            self._checked, self._channel_id = schema, channel.id
        if channel.id != self._channel_id:
            raise EpisodeError(f"holds control steps on two topics, the second {channel.topic[:60]!r}; split them")
        decoder = self._factory.decoder_for("cdr", schema)
        assert decoder is not None
        try:
            return decoder(message.data)
        except DECODE_ERRORS:
            raise DamageError(f"control step in message {message.sequence} does not fit its definition") from None


def _check_definition(channel: Channel, schema: Schema) -> None:
    if channel.message_encoding != "cdr" or schema.encoding != "ros2msg" or len(schema.data) > DEFINITION_BYTES:
        raise EpisodeError(
            f"control steps are encoded as {channel.message_encoding[:20]!r} / {schema.encoding[:20]!r}, "
            "must be 'cdr' / 'ros2msg'; ingest it"
        )
    sections = schema.data.decode("utf-8", "replace").split(SEPARATOR)
    main = _fields(sections[0])
    for name, kind in NEEDED.items():
        if main.get(name) != kind:
            raise EpisodeError(f"field {name} of {schema.name} is {main.get(name)}, must be {kind}; ingest it")
    odd = [name for name, kind in main.items() if not _PLAIN.match(kind) and kind not in _PARTS]
    parts = [_fields(text, headed=True) for text in sections[1:]]
    if odd or any(part not in (*_PARTS.values(), _TIME) for part in parts):
        raise EpisodeError(
            f"the definition of {schema.name} holds other than plain fields ({', '.join(odd)}); ingest it"
        )


def _fields(text: str, *, headed: bool = False) -> dict[str, str]:
    """Field name to type; comments and, if `headed`, the line MSG: left out."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or "=" in line.partition("#")[0] or (headed and words[0] == "MSG:"):
            continue  # constants take no room in a message
        if len(words) != 2 or not _NAME.match(words[1]) or words[1] in fields:
            raise EpisodeError(f"a message definition has the line {line[:60]!r}; only plain fields are read")
        fields[words[1]] = words[0]
    return fields
