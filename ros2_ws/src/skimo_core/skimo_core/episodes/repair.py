"""Makes recordings whole again that a kill, a full disk or an old writer left without index, end or checksum.

Promises
  - What can be read is written to a new file beside the old one, with index, summary and end; then it takes the old
    one's name in one step. Until then, and whenever anything fails, the old file is what it was.
  - Messages, schemas, channels, metadata and attachments go over as they are; the outcome says "repaired" and what was
    found damaged. A file that somebody is writing (it holds a lock), or that is whole, is left alone.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mcap.records import Attachment, Channel, Header, Message, Metadata, Schema
from mcap.writer import MCAP0_MAGIC, CompressionType, Writer

from ..contract.errors import EpisodeError
from .locks import lock
from .recording import CHUNK_BYTES, METADATA, OUTCOME
from .seal import SEAL, check_seal, sealed
from .stream import ReadLimits, RecordStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was done to a file: "whole" or "busy" (nothing), or "repaired" with messages saved and what was damaged."""

    path: Path
    done: str
    messages: int = 0
    damage: str = ""


def ends_properly(path: Path) -> bool:
    """Whether a file has the closing magic: quick to see, and missing after a kill."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(MCAP0_MAGIC)))
        return size > 2 * len(MCAP0_MAGIC) and file.read() == MCAP0_MAGIC


def repair(path: Path, *, seal: bool = False, limits: ReadLimits | None = None) -> Repair:
    """Mend one recording if it needs it.

    Args:
        seal: give metadata that has no checksum one; only after looking at what it says.

    Raises:
        EpisodeError: it is no recording, its metadata is altered, or the new file can't be written.
    """
    try:
        with path.open("rb") as old:
            if not lock(old.fileno()):
                return Repair(path=path, done="busy")
            if _is_whole(path, limits):
                return Repair(path=path, done="whole")
            return _rewrite(path, os.fstat(old.fileno()).st_mode & 0o777, seal, limits or ReadLimits())
    except EpisodeError as error:
        raise EpisodeError(f"{path.name}: {error}") from None
    except OSError as error:
        raise EpisodeError(f"{path.name}: can't be mended: {error.strerror or error}; the file is as it was") from None


def unended(folder: Path) -> list[Path]:
    """The recordings in a folder that have no end, in order of name."""
    found = []
    for path in sorted(folder.glob("*.mcap")):
        with contextlib.suppress(OSError):
            if path.is_file() and not ends_properly(path):
                found.append(path)
    return found


def _is_whole(path: Path, limits: ReadLimits | None) -> bool:
    try:
        named = [r for r in RecordStream(path, limits=limits or ReadLimits()) if isinstance(r, Metadata)]
    except EpisodeError:
        return False
    return any(r.name == METADATA for r in named) and all(SEAL in r.metadata for r in named if r.name == METADATA)


def _rewrite(path: Path, mode: int, seal: bool, limits: ReadLimits) -> Repair:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            stream = RecordStream(path, salvage=True, limits=limits)
            messages = _copy(stream, file, seal)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return Repair(path=path, done="repaired", messages=messages, damage=stream.damage)


def _copy(stream: RecordStream, file: BinaryIO, seal: bool) -> int:
    """Write what the stream gives as a whole file; return the number of messages."""
    writer = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4)
    copier = _Copier(writer, stream, seal)
    for record in stream:
        copier.take(record)
    if not copier.identified:
        raise EpisodeError(f"holds no metadata record {METADATA!r}; it is no skimo recording, and is left alone")
    outcome = copier.outcome or {"complete": "false"}
    if stream.damage:
        outcome = {**outcome, "repaired": "true", "damage": stream.damage}
    writer.add_metadata(OUTCOME, sealed(outcome))
    writer.finish()
    return copier.messages


class _Copier:
    """Copies records to a writer, which numbers schemas and channels anew."""

    def __init__(self, writer: Writer, stream: RecordStream, seal: bool) -> None:
        self.identified = False
        self.outcome: dict[str, str] = {}
        self.messages = 0
        self._writer, self._stream, self._seal = writer, stream, seal
        self._started = False
        self._schemas: dict[int, int] = {}
        self._channels: dict[int, int] = {}

    def take(self, record: Header | Schema | Channel | Message | Metadata | Attachment) -> None:
        if not self._started:
            known = isinstance(record, Header)
            self._writer.start(profile=record.profile if known else "ros2", library="skimo")
            self._started = True
        if isinstance(record, Metadata):
            self._metadata(record)
        elif isinstance(record, Attachment):
            self._writer.add_attachment(
                record.create_time, record.log_time, record.name, record.media_type, record.data
            )
        elif isinstance(record, Message):
            self._message(record)

    def _metadata(self, record: Metadata) -> None:
        entries = record.metadata
        if record.name == METADATA:
            if SEAL in entries or not self._seal:
                check_seal(METADATA, entries)
            else:
                entries = sealed(entries)
            self.identified = True
        if record.name == OUTCOME:
            self.outcome = {key: value for key, value in entries.items() if key != SEAL}
        else:
            self._writer.add_metadata(record.name, entries)

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
