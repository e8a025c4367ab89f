"""One MCAP file of an episode, written from messages as they came off the wire (CDR), in a thread of its own.

Promises
  - What was queued goes to the kernel FLUSH_S later at most, so that a killed process loses that much, not the file.
  - The queue is bounded; when the disk is slower than the graph, the oldest messages are dropped and counted.
  - A file that exists is never overwritten; a file that was ended has its index and summary.
  - `put`, `finish` and everything else but `join` never block, and nothing raises once the file is begun: what goes
    wrong (disk full, file or folder removed or moved) stands in `failure` at once and ends the file at its last whole
    chunk. What had not got into it waits in `leftover`, for a next file.
"""

from __future__ import annotations

import contextlib
import os
import queue
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer

from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.files import create_free
from skimo_core.episodes.locks import lock
from skimo_core.episodes.recording import CHUNK_BYTES, METADATA, OUTCOME, metadata_records
from skimo_core.episodes.seal import sealed

FLUSH_S = 0.25
MAX_NS = 2**64 - 1


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


class _Sink:
    """An unbuffered file: what it took is with the kernel, so closing it writes nothing and can't fail."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._position = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            taken = os.write(self.descriptor, view)
            self._position += taken
            view = view[taken:]
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        return


class Recording:
    """Writes one file.

    Attributes:
        path: of the file.
        saved: messages that are in it for good.
        dropped: messages that the full queue lost.
        failure: why it was ended before its time; empty while all is well.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        meta: EpisodeMeta,
        channels: tuple[Channel, ...],
        capacity: int,
        *,
        group: bool = False,
        start: bool = True,
    ) -> None:
        """Raises OSError or EpisodeError if the file can't be begun; nothing is left of it then."""
        self.saved = self.dropped = 0
        self.failure = ""
        self._leftover: list[Sample] = []
        self.path, descriptor = create_free(folder, stem, group=group)
        self._queue: queue.Queue[Sample] = queue.Queue(capacity)
        self._ending = threading.Event()
        self._outcome: dict[str, str] = {}
        self._unflushed: deque[Sample] = deque()
        self._added = self._whole_bytes = 0
        self._sink = _Sink(descriptor)
        try:
            lock(descriptor)
            self._identity = _identity(os.fstat(descriptor))
            self._writer: Any = Writer(self._sink, chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4)  # type: ignore[arg-type]
            self._writer.start(profile="ros2", library="skimo")
            self._writer.add_metadata(METADATA, metadata_records(meta))
            self._whole_bytes = self._sink.tell()
        except OSError:
            os.close(descriptor)
            self.path.unlink(missing_ok=True)
            raise
        self._ids = {channel.topic: self._register(channel) for channel in channels}
        self._thread = threading.Thread(target=self._write, name="recording", daemon=True)
        if start:
            self.start()

    def start(self) -> None:
        """Begin to write what is put."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the file is still being written."""
        return self._thread.is_alive()

    @property
    def pending(self) -> int:
        """Messages that wait for the disk."""
        return self._queue.qsize() + len(self._unflushed)

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

    def finish(self, outcome: dict[str, str]) -> None:
        """Have written what is queued, the outcome, and the file's end; `running` is false when that is done."""
        self._outcome = outcome
        self._ending.set()

    def join(self, timeout_s: float = 5.0) -> bool:
        """Wait for the end of writing; false if the disk did not take it in that time."""
        self._thread.join(timeout_s)
        return not self.running

    def leftover(self) -> list[Sample]:
        """After a failure, the messages that are not in the file, oldest first."""
        rest, self._leftover = self._leftover, []
        while not self._queue.empty():
            rest.append(self._queue.get_nowait())
        return rest

    def _register(self, channel: Channel) -> int:
        schema = self._writer.register_schema(channel.kind, "ros2msg", channel.definition.encode())
        return self._writer.register_channel(topic=channel.topic, message_encoding="cdr", schema_id=schema)

    def _write(self) -> None:
        try:
            self._write_all()
        except (OSError, struct.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._keep_whole_chunks()
            self.failure = f"{self.path.name}: {reason}"
        finally:
            os.close(self._sink.descriptor)

    def _write_all(self) -> None:
        flushed_s = time.monotonic()
        while not (self._ending.is_set() and self._queue.empty()):
            with contextlib.suppress(queue.Empty):
                self._add(self._queue.get(timeout=FLUSH_S))
            if time.monotonic() - flushed_s >= FLUSH_S:
                self._flush()
                flushed_s = time.monotonic()
        self._flush()
        self._writer.add_metadata(OUTCOME, sealed({**self._outcome, "dropped": str(self.dropped)}))
        self._writer.finish()
        os.fsync(self._sink.descriptor)
        self._check_there()

    def _flush(self) -> None:
        """What was added is in the file, and the file is where it should be."""
        self._writer.flush()
        self._check_there()
        self._whole_bytes = self._sink.tell()
        self.saved += len(self._unflushed)
        self._unflushed.clear()

    def _check_there(self) -> None:
        """Raises OSError if what is written no longer lies under the file's name."""
        try:
            there = _identity(os.stat(self.path)) == self._identity
        except (FileNotFoundError, NotADirectoryError):
            there = False
        if not there:
            lost, self.saved = self.saved, 0
            raise OSError(2, f"the file is gone: it or its folder was removed or moved, and {lost} messages with it")

    def _keep_whole_chunks(self) -> None:
        """End the file where its last whole chunk does, and keep the rest for another one."""
        with contextlib.suppress(OSError):  # else: a cut file is read with salvage, and mended later
            os.ftruncate(self._sink.descriptor, self._whole_bytes)
        self._leftover = list(self._unflushed)

    def _add(self, sample: Sample) -> None:
        self._unflushed.append(sample)
        self._writer.add_message(
            channel_id=self._ids[sample.topic],
            log_time=min(max(sample.log_ns, 0), MAX_NS),
            publish_time=min(max(sample.publish_ns, 0), MAX_NS),
            sequence=self._added % 2**32,
            data=sample.data,
        )
        self._added += 1


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino
