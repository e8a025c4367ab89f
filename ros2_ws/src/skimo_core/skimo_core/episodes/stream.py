"""MCAP files read record by record, front to back, within stated bounds: what public files may hold, ours included.

Promises
  - Nothing is unpacked beyond ReadLimits, whatever the file declares; a file that needs more is refused with the bound.
  - A whole file is read to its end, and every checksum and count in it is checked. What is damaged raises
    `DamageError` where it is found; with `salvage`, damaged chunks are left out, reading ends where the framing does,
    and `damage` says so.
  - Nothing but EpisodeError leaves here. Offsets in messages are bytes from the file's start.
Format: https://mcap.dev/spec. Records are read whole before they are parsed, so no length inside one can reach beyond.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, DataEnd, Footer, Header, Message, Metadata, Schema, Statistics
from mcap.writer import MCAP0_MAGIC as MAGIC

from ..contract.errors import EpisodeError

FRAME = struct.Struct("<BQ")
MESSAGE = struct.Struct("<HIQQ")
CHUNK = struct.Struct("<QQQII")
FOOTER_BYTES = FRAME.size + 20
PARSE_ERRORS = (McapError, EOFError, ValueError, OverflowError, struct.error, RuntimeError, zstandard.ZstdError)
MIB = 1 << 20
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

Record = Header | Schema | Channel | Message | Metadata | Attachment


class DamageError(EpisodeError):
    """A file is cut short or altered; what comes before may be of use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """How much of a file is ever held or unpacked.

    Attributes:
        record_bytes: largest record as it is stored.
        chunk_bytes: largest chunk, unpacked.
        total_bytes: all chunks together, unpacked; an hour of our recordings takes about 0.5 GiB.
        records: messages and all others, in the file.
        steps: control steps decoded; 200,000 are more than four hours at 12.5 Hz.
    """

    record_bytes: int = 64 * MIB
    chunk_bytes: int = 64 * MIB
    total_bytes: int = 1024 * MIB
    records: int = 5_000_000
    steps: int = 200_000

    def check(self, name: str, value: int, what: str) -> None:
        """Raises EpisodeError if `value` is over the bound `name`."""
        bound = getattr(self, name)
        if value > bound:
            raise EpisodeError(
                f"{what} {value:,}, bound {name} {bound:,}; drop the file, or if you trust it read it with larger "
                "ReadLimits"
            )


@dataclass(slots=True)
class RecordStream:
    """One pass over a file; iterate once.

    Attributes:
        counted: whether the summary must count the messages, as that of our recordings does.
        damage: with `salvage`, what was found damaged, in words; empty if nothing was.
    """

    path: Path
    salvage: bool = False
    limits: ReadLimits = field(default_factory=ReadLimits)
    counted: bool = True
    damage: str = ""
    _total_bytes: int = 0
    _records: int = 0
    _messages: int = 0
    _metadata: int = 0
    _known: dict[tuple[type, int], Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Record]:
        try:
            with self.path.open("rb") as file:
                yield from self._file(file, self.path.stat().st_size)
        except DamageError as error:
            if not self.salvage:
                raise
            self.note(str(error))
        except OSError as error:
            raise EpisodeError(f"can't be read: {error.strerror or error}") from None

    def schema_of(self, message: Message) -> tuple[Channel, Schema] | None:
        """The channel and schema that a message came on; None if the file names none."""
        channel = self._known.get((Channel, message.channel_id))
        if channel is None or (Schema, channel.schema_id) not in self._known:
            return None
        return channel, self._known[Schema, channel.schema_id]

    def note(self, words: str) -> None:
        """Remember damage; the first counts."""
        self.damage = self.damage or words

    def _file(self, file: BinaryIO, size: int) -> Iterator[Record]:
        magic = file.read(len(MAGIC))
        if not magic:
            raise EpisodeError("is empty; drop it")
        if magic != MAGIC:
            remedy = "that is HDF5, which `skimo ingest` reads" if magic == HDF5_MAGIC else "drop it"
            raise EpisodeError(f"is no MCAP file (begins with {magic!r}); {remedy}")
        at, crc = len(MAGIC), zlib.crc32(magic)
        while True:
            head = file.read(FRAME.size)
            if len(head) < FRAME.size:
                raise DamageError(f"was cut short: ends at byte {at} without an end record")
            opcode, length = FRAME.unpack(head)
            if length > size - at - FRAME.size:
                raise DamageError(f"was cut short or altered: its record at byte {at} is {length:,} bytes long")
            self.limits.check("record_bytes", length, f"the record at byte {at} has bytes:")
            body = file.read(length)
            if opcode == Opcode.DATA_END:
                left = size - at - FRAME.size - length
                self.limits.check("record_bytes", left, "the summary has bytes:")
                self._check_end(file, at, _parse(DataEnd, body, at).data_section_crc, crc)
                return
            if opcode == Opcode.FOOTER:
                raise DamageError(f"was altered: footer at byte {at} without an end of data before it")
            try:
                yield from self._record(opcode, body, at)
            except DamageError as error:
                if not self.salvage:
                    raise
                self.note(f"{error}; it is left out")
            at += FRAME.size + length
            crc = zlib.crc32(body, zlib.crc32(head, crc))

    def _count(self, opcode: int, at: int) -> None:
        self._records += 1
        self.limits.check("records", self._records, "records:")
        if opcode == 0:
            raise DamageError(f"a record at byte {at} is of kind 0, which there is not")

    def _record(self, opcode: int, body: bytes, at: int) -> Iterator[Record]:
        self._count(opcode, at)
        if opcode == Opcode.CHUNK:
            data = self._unpack(body, at)
            yield from self._chunk(data, at)
        elif opcode == Opcode.MESSAGE:
            yield self._message(body, 0, len(body), at)
        elif opcode in _PLAIN:
            yield self._remember(_parse(_PLAIN[Opcode(opcode)], body, at), at)

    def _chunk(self, data: bytes, at: int) -> Iterator[Record]:
        position = 0
        while position < len(data):
            if position + FRAME.size > len(data):
                raise DamageError(f"the chunk at byte {at} ends within a record")
            opcode, length = FRAME.unpack_from(data, position)
            position += FRAME.size
            self._count(opcode, at)
            if length > len(data) - position:
                raise DamageError(f"the chunk at byte {at} ends within a record")
            if opcode == Opcode.MESSAGE:
                yield self._message(data, position, length, at)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                body = data[position : position + length]
                yield self._remember(_parse(_PLAIN[Opcode(opcode)], body, at), at)
            position += length

    def _message(self, data: bytes, position: int, length: int, at: int) -> Message:
        if length < MESSAGE.size:
            raise DamageError(f"a message at byte {at} is {length} bytes long, must be at least {MESSAGE.size}")
        self._messages += 1
        channel, sequence, log_ns, publish_ns = MESSAGE.unpack_from(data, position)
        content = data[position + MESSAGE.size : position + length]
        return Message(channel_id=channel, sequence=sequence, log_time=log_ns, publish_time=publish_ns, data=content)

    def _remember(self, record: Any, at: int) -> Any:
        self._metadata += isinstance(record, Metadata)
        if isinstance(record, (Schema, Channel)):
            before = self._known.setdefault((type(record), record.id), record)
            if before != record:
                raise DamageError(
                    f"{type(record).__name__.lower()} {record.id} at byte {at} differs from the one before"
                )
        return record

    def _unpack(self, body: bytes, at: int) -> bytes:
        try:
            _, _, size, crc, name_bytes = CHUNK.unpack_from(body)
            start = CHUNK.size + name_bytes
            name = body[CHUNK.size : start].decode()
            (stored,) = struct.unpack_from("<Q", body, start)
        except PARSE_ERRORS:
            raise DamageError(f"the chunk at byte {at} can't be parsed") from None
        packed = body[start + 8 :]
        if stored != len(packed):
            raise DamageError(f"the chunk at byte {at} holds {len(packed)} bytes, declares {stored:,}")
        self.limits.check("chunk_bytes", size, f"the chunk at byte {at} unpacks to bytes:")
        self._total_bytes += size
        self.limits.check("total_bytes", self._total_bytes, "chunks unpack to bytes:")
        data = _unpacked(name, packed, size, at)
        if len(data) != size or (crc and zlib.crc32(data) != crc):
            raise DamageError(f"the chunk at byte {at} is altered: its checksum or size is another one than declared")
        return data

    def _check_end(self, file: BinaryIO, at: int, wanted_crc: int, crc: int) -> None:
        """Of a whole file: data checksum, summary checksum, statistics, footer and closing magic."""
        if wanted_crc and wanted_crc != crc:
            raise DamageError("was altered: its data section's checksum is another one than declared")
        start = file.tell()
        rest = file.read()
        summary, foot, magic = rest[: -FOOTER_BYTES - 8], rest[-FOOTER_BYTES - 8 : -8], rest[-8:]
        if magic != MAGIC or len(foot) < FOOTER_BYTES or FRAME.unpack_from(foot) != (Opcode.FOOTER, 20):
            raise DamageError(f"was cut short: no footer after the end of data at byte {at}")
        footer = _parse(Footer, foot[FRAME.size :], at)
        if footer.summary_start != (start if summary else 0):
            raise DamageError(f"was altered: its summary is declared at byte {footer.summary_start}, lies at {start}")
        if footer.summary_crc and zlib.crc32(rest[: -8 - 4]) != footer.summary_crc:
            raise DamageError("was altered: its summary's checksum is another one than declared")
        counted = _statistics(summary, start)
        found = (self._messages, self._metadata)
        if counted is None and not self.counted:
            return
        stated = None if counted is None else (counted.message_count, counted.metadata_count)
        if stated != found:
            raise DamageError(
                f"was altered: holds {found[0]:,} messages and {found[1]} metadata records, its summary counts "
                f"{'none' if stated is None else f'{stated[0]:,} and {stated[1]}'}"
            )


_PLAIN: dict[Opcode, Any] = {
    Opcode.HEADER: Header,
    Opcode.SCHEMA: Schema,
    Opcode.CHANNEL: Channel,
    Opcode.METADATA: Metadata,
    Opcode.ATTACHMENT: Attachment,
}


def _parse(kind: Any, body: bytes, at: int) -> Any:
    stream = ReadDataStream(BytesIO(body))
    try:
        record = kind.read(stream)
    except PARSE_ERRORS:
        raise DamageError(f"the {kind.__name__.lower()} at byte {at} can't be parsed") from None
    if stream.count != len(body):
        raise DamageError(f"the {kind.__name__.lower()} at byte {at} is {len(body)} bytes long, parsed {stream.count}")
    return record


def _unpacked(name: str, packed: bytes, size: int, at: int) -> bytes:
    """At most size + 1 bytes, whatever the packed data would give."""
    try:
        if name == "":
            return packed
        if name == "lz4":
            return lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size + 1)
        if name == "zstd" and zstandard.frame_content_size(packed) in (-1, size):
            return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except PARSE_ERRORS:
        raise DamageError(f"the chunk at byte {at} can't be unpacked") from None
    raise DamageError(f"the chunk at byte {at} is compressed as {name[:20]!r}, or to another size than it declares")


def _statistics(summary: bytes, at: int) -> Statistics | None:
    position = 0
    while position + FRAME.size <= len(summary):
        opcode, length = FRAME.unpack_from(summary, position)
        position += FRAME.size
        if opcode == Opcode.STATISTICS:
            return _parse(Statistics, summary[position : position + length], at)
        position += length
    return None
