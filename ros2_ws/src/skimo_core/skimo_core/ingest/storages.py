"""Messages out of a bag's files, as bytes: MCAP and SQLite3, compressed by file or by message or not at all.

Promises
  - Files are read front to back within bounds; what is damaged raises `DamageError`, or with `salvage` is noted, and
    what comes before it is still given.
  - SQLite3 files are opened read-only, as they are: no journal is replayed, none of their own functions is run.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zstandard
from mcap.records import Channel, Message, Metadata, Schema

from ..contract.errors import EpisodeError
from ..episodes.stream import MIB, DamageError, ReadLimits, RecordStream
from .files import kind_of

LIMITS = ReadLimits(
    record_bytes=512 * MIB, chunk_bytes=512 * MIB, total_bytes=1 << 40, records=100_000_000, steps=100_000_000
)
"""Memory is bounded by a chunk; a bag with pictures may be long."""
MAX_UNPACKED_BYTES = 64 << 30
MAX_MESSAGE_BYTES = 256 * MIB
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A stream of messages of one type.

    Attributes:
        kind: the type's name, `package/msg/Name`.
        encoding: of messages: cdr, json, ...
        definition: the type's definition, as it stands in the file; empty: the file has none.
        definition_encoding: ros2msg, ros2idl, jsonschema, protobuf, ...
    """

    name: str
    kind: str
    encoding: str
    definition: bytes = b""
    definition_encoding: str = ""


@dataclass(slots=True)
class Storage:
    """What is told of the files read so far, besides messages."""

    damage: str = ""
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, words: str) -> None:
        """Remember damage; the first counts."""
        self.damage = self.damage or words


Raw = tuple[Topic, int, bytes]
"""Topic, log time in ns, content."""


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file itself, or a temporary copy of what it holds where it is compressed.

    Raises:
        EpisodeError: it can't be unpacked, or to too much.
    """
    if kind_of(path) != "zstd":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="skimo-ingest-") as folder:
        copy = Path(folder) / (path.stem if path.suffix in (".zstd", ".zst") else path.name)
        try:
            _unpack(path, copy)
        except (zstandard.ZstdError, OSError) as error:
            raise EpisodeError(f"{path.name}: can't be unpacked ({error}); is it cut short? copy it again") from None
        yield copy


def _unpack(path: Path, copy: Path) -> None:
    written = 0
    with path.open("rb") as packed, copy.open("xb") as out:
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        while block := reader.read(_COPY_BYTES):
            written += len(block)
            if written > MAX_UNPACKED_BYTES:
                raise EpisodeError(f"{path.name}: unpacks to more than {MAX_UNPACKED_BYTES:,} bytes; unpack it first")
            out.write(block)


def unpacked_message(data: bytes) -> bytes:
    """A message, unpacked where it was packed on its own; no CDR and no JSON begins as zstd does.

    Raises:
        DamageError: it can't be unpacked, or to too much.
    """
    if data[:4] != ZSTD_MAGIC:
        return data
    try:
        size = zstandard.frame_content_size(data)
        if size > MAX_MESSAGE_BYTES:
            raise DamageError(f"unpacks to {size:,} bytes, bound {MAX_MESSAGE_BYTES:,}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_MESSAGE_BYTES if size < 0 else 0)
    except zstandard.ZstdError:
        raise DamageError("can't be unpacked with zstd") from None


def messages(path: Path, told: Storage, *, salvage: bool) -> Iterator[Raw]:
    """Every message of a file, MCAP or SQLite3, in the order in which they lie there.

    Raises:
        EpisodeError: it is neither, or is damaged.
    """
    with unpacked(path) as file:
        kind = kind_of(file)
        if kind not in ("mcap", "sqlite3"):
            raise EpisodeError(f"{path.name}: is neither MCAP nor SQLite3 ({kind or 'of no known format'})")
        read = _mcap if kind == "mcap" else _sqlite
        try:
            yield from read(file, told, salvage)
        except DamageError as error:
            if not salvage:
                raise
            told.note(str(error))


def _mcap(path: Path, told: Storage, salvage: bool) -> Iterator[Raw]:
    stream = RecordStream(path, salvage=salvage, limits=LIMITS, counted=False)
    schemas: dict[int, Schema] = {}
    topics: dict[int, Topic] = {}
    for record in stream:
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel):
            topics[record.id] = _topic(record, schemas.get(record.schema_id))
        elif isinstance(record, Metadata):
            told.metadata[record.name[:80]] = dict(record.metadata)
        elif isinstance(record, Message):
            topic = topics.get(record.channel_id)
            if topic is None:
                raise DamageError(f"a message is on channel {record.channel_id}, which the file doesn't declare")
            yield topic, record.log_time, record.data
    if stream.damage:
        told.note(stream.damage)


def _topic(channel: Channel, schema: Schema | None) -> Topic:
    return Topic(
        name=channel.topic[:200],
        kind=schema.name[:200] if schema else "",
        encoding=channel.message_encoding[:40],
        definition=schema.data if schema else b"",
        definition_encoding=schema.encoding[:40] if schema else "",
    )


def _sqlite(path: Path, told: Storage, salvage: bool) -> Iterator[Raw]:
    journal = path.with_name(f"{path.name}-wal")
    if journal.is_file() and journal.stat().st_size:
        words = f"{journal.name} holds what was not yet written into the bag; open it once with sqlite3, so that it is"
        if not salvage:
            raise DamageError(words)
        told.note(words)
    try:
        with contextlib.closing(_connect(path)) as base:
            if salvage:  # otherwise nothing is read of a file that is shorter than its header says
                base.execute("PRAGMA writable_schema = ON")
            topics = _sqlite_topics(base)
            for topic_id, log_ns, data in base.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id"):
                if topic_id not in topics or type(log_ns) is not int or not isinstance(data, bytes):
                    raise DamageError(f"a row is of topic {topic_id!r} at {log_ns!r}: it was cut short or altered")
                yield topics[topic_id], log_ns, data
    except (sqlite3.Error, OverflowError) as error:
        raise DamageError(f"can't be read as SQLite3 ({error}); is it cut short?") from None


def _connect(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    base.text_factory = lambda data: data.decode("utf-8", "replace")
    if hasattr(base, "setlimit"):  # Python 3.11 and later
        base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_MESSAGE_BYTES)
    base.execute("PRAGMA trusted_schema = OFF")
    return base


def _sqlite_topics(base: sqlite3.Connection) -> dict[int, Topic]:
    tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"messages", "topics"} <= tables:
        raise EpisodeError(f"is an SQLite3 file with tables {', '.join(sorted(tables))[:120] or 'none'}, and no bag")
    texts: dict[str, tuple[str, str]] = {}
    if "message_definitions" in tables:
        query = "SELECT topic_type, encoded_message_definition, encoding FROM message_definitions"
        texts = {str(kind): (str(text), str(encoding)) for kind, text, encoding in base.execute(query)}
    rows = base.execute("SELECT id, name, type, serialization_format FROM topics")
    return {
        key: Topic(
            name=str(name)[:200],
            kind=str(kind)[:200],
            encoding=str(encoding)[:40],
            definition=texts.get(str(kind), ("", ""))[0].encode(),
            definition_encoding=texts.get(str(kind), ("", ""))[1],
        )
        for key, name, kind, encoding in rows
    }
