"""MCAP messages of Protocol Buffers, as Foxglove's are: decoded, by the types that their file carries, into what `rows`
walks.

A message becomes a dict by field names: numbers, arrays of numbers [n], texts, `Nanoseconds` for google.protobuf's
Timestamp and Duration, dicts and lists of dicts for messages in it; `Long` stands for what is too long to be of use.
What is not set is left out where the type can tell, and else what it stands for (0, empty).

The file's schema is a serialised FileDescriptorSet (https://mcap.dev/spec/registry). It is data: nothing of it is run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.errors import EpisodeError, SetupError
from ..episodes.stream import DamageError
from .cdr import Long, Nanoseconds
from .files import MAX_COLUMNS
from .message_types import MAX_DEFINITION_BYTES

if TYPE_CHECKING:
    from google._upb._message import FieldDescriptor as FastDescriptor
    from google.protobuf.descriptor import FieldDescriptor as PlainDescriptor
    from google.protobuf.message import Message

    FieldDescriptor = PlainDescriptor | FastDescriptor

TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")


class Decoder:
    """Decodes the messages of one type.

    Args:
        kind: the type's full name, such as foxglove.PoseInFrame.
        descriptors: a serialised FileDescriptorSet that has it, with all that it is made of.

    Raises:
        EpisodeError: the descriptors are none, or don't have it.
        SetupError: protobuf is not installed.
    """

    def __init__(self, kind: str, descriptors: bytes) -> None:
        try:
            from google.protobuf import descriptor_pool, message, message_factory
            from google.protobuf.descriptor_pb2 import FileDescriptorSet
        except ImportError:
            raise SetupError(
                "reading messages of Protocol Buffers needs protobuf: pip install 'skimo_core[ingest]'"
            ) from None
        if len(descriptors) > MAX_DEFINITION_BYTES:
            raise EpisodeError(f"its definition is {len(descriptors):,} bytes long, at most {MAX_DEFINITION_BYTES:,}")
        pool = descriptor_pool.DescriptorPool()
        try:
            waiting = {file.name: file for file in FileDescriptorSet.FromString(descriptors).file}
            while ready := [file for file in waiting.values() if not waiting.keys() & set(file.dependency)]:
                for file in ready:
                    pool.Add(waiting.pop(file.name))
            self._type = message_factory.GetMessageClass(pool.FindMessageTypeByName(kind))
        except (message.DecodeError, TypeError, KeyError, ValueError) as error:
            why = " ".join(str(error).split())[:120]
            raise EpisodeError(f"its definition doesn't give {kind[:80]!r} ({why}); record it again") from None
        self._error = message.DecodeError

    def __call__(self, data: bytes) -> dict[str, Any]:
        """One message.

        Raises:
            DamageError: its bytes are none of that type.
        """
        try:
            return _plain(self._type.FromString(data))
        except self._error as error:
            raise DamageError(f"is no {self._type.DESCRIPTOR.full_name} ({str(error)[:80]})") from None


def _plain(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            found[field.name] = _list(field, value)
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _one(field, value)
    return found


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is None:
        return _numbers(np.frombuffer(value, np.uint8)) if isinstance(value, bytes) else value
    if field.message_type.full_name in TIMES:
        return Nanoseconds(value.seconds * 10**9 + value.nanos)
    return _plain(value)


def _list(field: FieldDescriptor, values: Any) -> Any:
    if len(values) > MAX_COLUMNS:
        return Long(len(values))
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        return {str(key): _one(inner, values[key]) for key in values}
    if kind is None and field.type not in (field.TYPE_STRING, field.TYPE_BYTES):
        return _numbers(values)
    return [_one(field, value) for value in values]


def _numbers(values: Iterable[float]) -> Any:
    array = np.asarray(values, np.float64)
    return Long(len(array)) if len(array) > MAX_COLUMNS else array
