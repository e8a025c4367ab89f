"""Episodes as MCAP files of ROS 2 messages: crash-safe while recording, readable by public tools without ROS.

Each control step is one skimo_msgs/EpisodeStep on the topic `/skimo/episode_step`; the metadata is an MCAP metadata
record "skimo.episode" (JSON). Chunks are small and flushed, so that a killed writer loses at most the last few steps.
A file without its end is refused with what to do, or salvaged on request: nothing is lost in silence.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Channel, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType
from mcap_ros2.decoder import DecoderFactory
from mcap_ros2.writer import Writer

from ..errors import EpisodeError
from .definitions import EPISODE_STEP, EPISODE_STEP_TYPE
from .episode import Episode, EpisodeMeta, FloatArray, check_episode

TOPIC = "/skimo/episode_step"
METADATA = "skimo.episode"
CHUNK_BYTES = 16 * 1024
READ_ERRORS = (McapError, EOFError, RuntimeError, ValueError, struct.error)
"""What the MCAP reader and its decompressors raise on a file that is cut short or altered."""


class EpisodeWriter:
    """Writes one episode step by step; closing it ends the file properly."""

    def __init__(self, path: Path, meta: EpisodeMeta) -> None:
        if path.exists():
            raise EpisodeError(f"{path.name} exists; recordings are never overwritten, choose another folder or name")
        self.path = path
        self._file: BinaryIO = path.open("xb")
        self._writer = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4)
        self._schema: Schema = self._writer.register_msgdef(EPISODE_STEP_TYPE, EPISODE_STEP)
        self._meta = meta
        self._writer.add_metadata(METADATA, {"json": meta.to_json()})
        self._step = 0

    def step(
        self,
        stamp_s: float,
        observation_O: FloatArray,
        action_A: FloatArray | None,
        *,
        proposed_A: FloatArray | None = None,
        skill_Z: FloatArray | None = None,
        step_in_skill: int = 0,
        reward: float = 0.0,
        verdict: int = 0,
        kind: str = "act",
        reason: str = "",
    ) -> None:
        """Append a step; the last one of an episode has no action and holds the final observation."""
        stamp_ns = round(stamp_s * 1e9)
        message = {
            "header": {"stamp": {"sec": stamp_ns // 10**9, "nanosec": stamp_ns % 10**9}, "frame_id": ""},
            "episode_id": self._meta.episode_id,
            "step": self._step,
            "kind": kind,
            "reason": reason,
            "observation": _numbers(observation_O),
            "action_proposed": _numbers(action_A if proposed_A is None else proposed_A),
            "action_applied": _numbers(action_A),
            "skill": _numbers(skill_Z),
            "step_in_skill": step_in_skill,
            "reward": float(reward),
            "verdict": verdict,
        }
        self._writer.write_message(TOPIC, self._schema, message, log_time=stamp_ns, sequence=self._step)
        self._file.flush()  # a finished chunk reaches the file at once
        self._step += 1

    def close(self) -> None:
        """End the file; safe to call twice."""
        if not self._file.closed:
            self._writer.finish()
            self._file.close()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_episode(path: Path, episode: Episode) -> None:
    """Write a whole episode; its stamps count control periods from 0."""
    check_episode(episode, path.name)
    with EpisodeWriter(path, episode.meta) as writer:
        for t, observation in enumerate(episode.observations):
            action = episode.actions[t] if t < episode.steps else None
            writer.step(t / episode.meta.rate_hz, observation, action)


def read_episode(path: Path, *, salvage: bool = False) -> Episode:
    """Read a recording.

    Args:
        salvage: of a file that was cut short, take the steps that are whole.

    Raises:
        EpisodeError: the file is missing, no MCAP, cut short, or its steps do not fit together.
    """
    decode = DecoderFactory()
    meta, rows = None, []
    try:
        for record, schema in _records(path, salvage):
            if isinstance(record, Metadata) and record.name == METADATA:
                meta = EpisodeMeta.from_json(record.metadata.get("json", ""))
            elif isinstance(record, Message) and schema is not None and schema.name == EPISODE_STEP_TYPE:
                decoder = decode.decoder_for("cdr", schema)
                assert decoder is not None
                rows.append(decoder(record.data))
    except EpisodeError as error:
        raise EpisodeError(f"{path.name}: {error}") from None
    except (*READ_ERRORS, OSError) as error:
        raise EpisodeError(
            f"{path.name}: is cut short or damaged ({_words(error)}); read it with salvage, or drop it"
        ) from None
    if meta is None:
        raise EpisodeError(f"{path.name}: holds no metadata record {METADATA!r}; it is no skimo recording, ingest it")
    return check_episode(_assemble(rows, meta, path.name), path.name)


def recordings(folder: Path) -> list[Path]:
    """The recordings in a folder, in order of name.

    Raises:
        EpisodeError: there are none.
    """
    paths = sorted(folder.glob("*.mcap"))
    if not paths:
        raise EpisodeError(f"{folder.name}: holds no *.mcap; make some with skimo collect, or ingest a data set")
    return paths


def _records(path: Path, salvage: bool) -> Any:
    """Yield (record, schema): from the index of a whole file, or as far as a cut one can be read."""
    if not salvage:
        with path.open("rb") as stream:
            reader = make_reader(stream, validate_crcs=True)
            if (summary := reader.get_summary()) is None or summary.statistics is None:
                raise EpisodeError("was cut short (no summary at its end); read it with salvage, or drop the file")
            for metadata in reader.iter_metadata():
                yield metadata, None
            for schema, _, message in reader.iter_messages(topics=[TOPIC]):
                yield message, schema
        return
    schemas: dict[int, Schema] = {}
    channels: dict[int, int] = {}
    with path.open("rb") as stream:
        try:
            for record in StreamReader(stream, validate_crcs=True).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record.schema_id
                yield record, schemas.get(channels.get(getattr(record, "channel_id", -1), -1))
        except READ_ERRORS:
            return


def _assemble(rows: Sequence[Any], meta: EpisodeMeta, name: str) -> Episode:
    if [row.step for row in rows] != list(range(len(rows))):
        raise EpisodeError(f"{name}: episode {meta.episode_id}: steps are not numbered 0 .. {len(rows) - 1}")
    if len(rows) < 2:
        raise EpisodeError(f"{name}: episode {meta.episode_id}: holds {len(rows)} steps, needs at least 2")
    actions = [row.action_applied for row in rows[:-1]]
    observations = [row.observation for row in rows]
    for field, values in (("observation", observations), ("action_applied", actions)):
        widths = {len(v) for v in values}
        if len(widths) != 1:
            raise EpisodeError(f"{name}: episode {meta.episode_id}: field {field} has rows of widths {sorted(widths)}")
    return Episode(observations=np.array(observations, np.float32), actions=np.array(actions, np.float32), meta=meta)


def _numbers(array: FloatArray | None) -> list[float]:
    return [] if array is None else [float(x) for x in array]


def _words(error: BaseException) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
