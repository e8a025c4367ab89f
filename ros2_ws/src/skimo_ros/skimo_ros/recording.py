"""One episode's MCAP file, written from messages as they came off the wire (CDR), in a thread of its own.

Promises
  - What was queued goes to the kernel FLUSH_S later at most, so that a killed process loses that much, not the file.
  - The queue is bounded; when the disk is slower than the graph, the oldest messages are dropped and counted.
  - A file that exists is never overwritten; a file that was closed has its index and summary.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mcap.writer import CompressionType, Writer

from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.recording import CHUNK_BYTES, METADATA

OUTCOME = "skimo.outcome"
FLUSH_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One message as it came: topic, CDR bytes, times in ns (log: receiver's, publish: sender's)."""

    topic: str
    data: bytes
    log_ns: int
    publish_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A topic that is recorded: its message type "package/msg/Name" and that type's full definition."""

    topic: str
    kind: str
    definition: str


class Recording:
    """Writes one file; `put` never blocks."""

    def __init__(
        self, path: Path, meta: EpisodeMeta, channels: tuple[Channel, ...], capacity: int, *, start: bool = True
    ) -> None:
        self.path = path
        self.dropped = 0
        self.written = 0
        self.failure = ""
        self._queue: queue.Queue[Sample | None] = queue.Queue(capacity)
        self._outcome: dict[str, str] = {}
        self._file = path.open("xb")
        self._writer = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4)
        self._writer.start(profile="ros2", library="skimo")
        self._writer.add_metadata(METADATA, {"json": meta.to_json()})
        self._ids = {channel.topic: self._register(channel) for channel in channels}
        self._thread = threading.Thread(target=self._write, name="recording", daemon=True)
        if start:
            self.start()

    def start(self) -> None:
        """Begin to write what is put."""
        self._thread.start()

    def put(self, sample: Sample) -> None:
        """Queue a message; if the queue is full, the oldest one goes."""
        while True:
            try:
                self._queue.put_nowait(sample)
                return
            except queue.Full:
                try:
                    self._queue.get_nowait()
                    self.dropped += 1
                except queue.Empty:
                    pass

    def close(self, outcome: dict[str, str], timeout_s: float = 5.0) -> None:
        """Write what is queued, the outcome, and the file's end."""
        self._outcome = outcome
        self._queue.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _register(self, channel: Channel) -> int:
        schema = self._writer.register_schema(channel.kind, "ros2msg", channel.definition.encode())
        return self._writer.register_channel(topic=channel.topic, message_encoding="cdr", schema_id=schema)

    def _write(self) -> None:
        try:
            flushed_s = time.monotonic()
            while (sample := self._next()) is not None:
                if isinstance(sample, Sample):
                    self._add(sample)
                if time.monotonic() - flushed_s >= FLUSH_S:
                    self._writer.flush()
                    flushed_s = time.monotonic()
            self._writer.add_metadata(OUTCOME, {**self._outcome, "dropped": str(self.dropped)})
            self._writer.finish()
        except OSError as error:
            self.failure = f"{self.path.name}: {error}; is the disk full?"
        finally:
            self._file.close()

    def _next(self) -> Sample | str | None:
        """The next message; "nothing" if none comes for FLUSH_S; None at the end."""
        try:
            return self._queue.get(timeout=FLUSH_S)
        except queue.Empty:
            return "nothing"

    def _add(self, sample: Sample) -> None:
        self._writer.add_message(
            channel_id=self._ids[sample.topic],
            log_time=sample.log_ns,
            publish_time=sample.publish_ns,
            sequence=self.written,
            data=sample.data,
        )
        self.written += 1
