"""A recording written anew: messages, schemas, channels and attachments as they are, metadata as the caller says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO

from mcap.records import Attachment, Channel, Header, Message, Metadata, Schema
from mcap.writer import CompressionType, Writer

from .stream import RecordStream

CHUNK_BYTES = 16 * 1024

KeepMetadata = Callable[[Metadata], Mapping[str, str] | None]
"""The entries with which a metadata record goes over; None: it doesn't."""


def copy(stream: RecordStream, file: BinaryIO, keep: KeepMetadata) -> tuple[Writer, int]:
    """Write what the stream gives; return the writer, which the caller finishes, and the number of messages."""
    writer = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4)
    copier = _Copier(writer, stream, keep)
    for record in stream:
        copier.take(record)
    return writer, copier.messages


class _Copier:
    """Copies records to a writer, which numbers schemas and channels anew."""

    def __init__(self, writer: Writer, stream: RecordStream, keep: KeepMetadata) -> None:
        self.messages = 0
        self._writer, self._stream, self._keep = writer, stream, keep
        self._started = False
        self._schemas: dict[int, int] = {}
        self._channels: dict[int, int] = {}

    def take(self, record: Header | Schema | Channel | Message | Metadata | Attachment) -> None:
        if not self._started:
            known = isinstance(record, Header)
            self._writer.start(profile=record.profile if known else "ros2", library="skimo")
            self._started = True
        if isinstance(record, Metadata):
            entries = self._keep(record)
            if entries is not None:
                self._writer.add_metadata(record.name, dict(entries))
        elif isinstance(record, Attachment):
            self._writer.add_attachment(
                record.create_time, record.log_time, record.name, record.media_type, record.data
            )
        elif isinstance(record, Message):
            self._message(record)

    def _message(self, message: Message) -> None:
        found = self._stream.schema_of(message)
        if found is None:
            self._stream.note(f"a message is on channel {message.channel_id}, which the file does not define")
            return
        channel, schema = found
        if schema.id not in self._schemas:
            self._schemas[schema.id] = self._writer.register_schema(schema.name, schema.encoding, schema.data)
        if channel.id not in self._channels:
            self._channels[channel.id] = self._writer.register_channel(
                channel.topic, channel.message_encoding, self._schemas[schema.id], channel.metadata
            )
        self._writer.add_message(
            channel_id=self._channels[channel.id],
            log_time=message.log_time,
            publish_time=message.publish_time,
            sequence=message.sequence,
            data=message.data,
        )
        self.messages += 1
