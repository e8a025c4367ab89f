"""Episodes as MCAP files of ROS 2 messages: crash-safe while recording, readable by public tools without ROS.

Each control step is one skimo_msgs/EpisodeStep on the topic `/skimo/episode_step`, and is found by that type, whatever
its topic's namespace; the metadata is an MCAP metadata record "skimo.episode" (JSON and its checksum), and what an
operator says of it another, "skimo.label" (labels.py). Chunks are small and flushed, so that a killed writer loses at
most the last few steps. A file that is cut short, altered or short of steps is refused with what to do, or salvaged on
request: nothing is lost in silence. Files are for their owner alone.

What a writer doesn't know of a step stands there as nothing: proposed action, skill and its bundle empty, kind empty
(the verdict then says nothing either), reward NaN. A reader gives None where that is so at every step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from mcap.records import Message, Metadata, Schema
from mcap.writer import CompressionType
from mcap_ros2.writer import Writer

from ..contract.errors import EpisodeError
from .decoding import StepDecoder
from .definitions import EPISODE_STEP, EPISODE_STEP_TYPE
from .episode import Episode, EpisodeMeta, FloatArray, check_episode
from .files import create
from .labels import LABEL, Label, judged
from .rewrite import CHUNK_BYTES
from .seal import SEAL, check_seal, sealed
from .stream import DamageError, ReadLimits, RecordStream

TOPIC = "/skimo/episode_step"
METADATA = "skimo.episode"
OUTCOME = "skimo.outcome"
SALVAGE = "read_episode(path, salvage=True)"


class EpisodeWriter:
    """Writes one episode step by step; closing it ends the file properly."""

    def __init__(self, path: Path, meta: EpisodeMeta, *, group: bool = False) -> None:
        try:
            descriptor = create(path, group=group)
        except FileExistsError:
            raise EpisodeError(
                f"{path.name} exists; recordings are never overwritten, choose another folder or name"
            ) from None
        except OSError as error:
            raise EpisodeError(f"{path} can't be written: {error.strerror}; choose another folder") from None
        self.path = path
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._writer = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4)
        self._schema: Schema = self._writer.register_msgdef(EPISODE_STEP_TYPE, EPISODE_STEP)
        self._meta = meta
        self._writer.add_metadata(METADATA, metadata_records(meta))
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
        reward: float = math.nan,
        verdict: int = 0,
        kind: str = "",
        reason: str = "",
        bundle_id: str = "",
        promise_2: FloatArray | None = None,
    ) -> None:
        """Append a step; the last one of an episode has no action and holds the final observation.

        What is left out is written as not known.
        """
        stamp_ns = round(stamp_s * 1e9)
        message = {
            "header": {"stamp": {"sec": stamp_ns // 10**9, "nanosec": stamp_ns % 10**9}, "frame_id": ""},
            "episode_id": self._meta.episode_id,
            "step": self._step,
            "kind": kind,
            "reason": reason,
            "observation": _numbers(observation_O),
            "action_proposed": _numbers(proposed_A),
            "action_applied": _numbers(action_A),
            "skill": _numbers(skill_Z),
            "step_in_skill": step_in_skill,
            "reward": float(reward),
            "verdict": verdict,
            "bundle_id": bundle_id,
            "promise": _numbers(promise_2),
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
            last = t == episode.steps
            writer.step(
                t / episode.meta.rate_hz,
                observation,
                None if last else episode.actions[t],
                proposed_A=None if last else _row(episode.actions_proposed, t),
                skill_Z=None if last else _row(episode.skills, t),
                reward=math.nan if episode.rewards is None else float(episode.rewards[t]),
                verdict=0 if episode.verdicts is None else int(episode.verdicts[t]),
                kind="" if episode.kinds is None else str(episode.kinds[t]),
                bundle_id="" if last or episode.bundle_ids is None else str(episode.bundle_ids[t]),
                promise_2=None if last else _row(episode.promises, t),
            )


def read_episode(path: Path | str, *, salvage: bool = False, limits: ReadLimits | None = None) -> Episode:
    """Read a recording.

    Args:
        salvage: of a file that was cut short, damaged, or has steps missing, take the longest unbroken run of steps;
            `Episode.lost` and `Episode.damage` say what is not there.
        limits: how much is unpacked at most.

    Returns:
        The episode; its metadata say whether it succeeded if the outcome at the file's end does. Where an operator
        labelled it, success and rewards are as the last label has them.

    Raises:
        EpisodeError: the file is missing, no MCAP, cut short, altered, too large, or its steps do not fit together.
    """
    path = Path(path)
    episode, labels = read_judgements(path, salvage=salvage, limits=limits)
    try:
        return judged(episode, labels[-1]) if labels else episode
    except EpisodeError as error:
        raise EpisodeError(f"{path.name}: metadata record {LABEL!r}: {error}") from None


def read_judgements(
    path: Path, *, salvage: bool = False, limits: ReadLimits | None = None
) -> tuple[Episode, tuple[Label, ...]]:
    """As `read_episode`, but the episode by its task's goal alone, and operators' labels beside it, oldest first."""
    stream = RecordStream(path, salvage=salvage, limits=limits or ReadLimits())
    try:
        meta, rows, labels = _read(stream)
        return check_episode(_assemble(rows, meta, stream), path.name), labels
    except DamageError as error:
        raise EpisodeError(
            f"{path.name}: {error}; mend it with `skimo repair`, or drop it (in Python, {SALVAGE} reads what is whole)"
        ) from None
    except EpisodeError as error:
        named = str(error).startswith(f"{path.name}: ")
        raise EpisodeError(str(error) if named else f"{path.name}: {error}") from None


def read_meta(path: Path) -> EpisodeMeta:
    """Only where a recording comes from, also of one that is being written or was cut short; not how it ended.

    Raises:
        EpisodeError: it holds no metadata, or altered metadata.
    """
    try:
        for record in RecordStream(path, salvage=True):
            if isinstance(record, Metadata) and record.name == METADATA:
                return _meta(record, salvage=True)
    except EpisodeError as error:
        raise EpisodeError(f"{path.name}: {error}") from None
    raise EpisodeError(f"{path.name}: {_NO_META}")


def recordings(folder: Path) -> list[Path]:
    """The recordings in a folder, in order of name.

    Raises:
        EpisodeError: there are none.
    """
    paths = sorted(folder.glob("*.mcap"))
    if not paths:
        raise EpisodeError(f"{folder.name}: holds no *.mcap; make some with skimo collect, or ingest a data set")
    return paths


_NO_META = (
    f"holds no metadata record {METADATA!r}: it is no skimo recording; make it one with `skimo ingest`, or leave it out"
)


def metadata_records(meta: EpisodeMeta) -> dict[str, str]:
    """The entries of the metadata record that says where an episode comes from."""
    return sealed({"json": meta.to_json()})


def _meta(record: Metadata, *, salvage: bool) -> EpisodeMeta:
    entries = record.metadata
    if not (salvage and SEAL not in entries):
        entries = check_seal(METADATA, entries)
    return EpisodeMeta.from_json(entries.get("json", ""))


def _read(stream: RecordStream) -> tuple[EpisodeMeta, list[Any], tuple[Label, ...]]:
    """Metadata, decoded steps, labels."""
    meta, success, decode, rows = None, None, StepDecoder(), []
    labels: list[Label] = []
    for record in stream:
        if isinstance(record, Metadata) and record.name == METADATA:
            if meta is not None:
                raise EpisodeError(f"holds two metadata records {METADATA!r}; record one episode per file")
            meta = _meta(record, salvage=stream.salvage)
        elif isinstance(record, Metadata) and record.name == OUTCOME and SEAL in record.metadata:
            success = _success(check_seal(OUTCOME, record.metadata))
        elif isinstance(record, Metadata) and record.name == LABEL:
            labels.append(Label.of(check_seal(LABEL, record.metadata)))
        elif isinstance(record, Message):
            try:
                rows += _step(record, stream, decode)
            except DamageError as error:
                if not stream.salvage:
                    raise
                stream.note(f"{error}; it is left out")
            stream.limits.check("steps", len(rows), "control steps:")
    if meta is None:
        raise EpisodeError(_NO_META + (f" ({stream.damage})" if stream.damage else ""))
    return (meta if success is None else replace(meta, success=success)), rows, tuple(labels)


def _success(outcome: Mapping[str, str]) -> bool | None:
    """Whether the outcome says that the task was completed; None if it says nothing of it."""
    told = outcome.get("success", "")
    if told not in ("true", "false", ""):
        raise EpisodeError(f"metadata record {OUTCOME!r} says success {told[:40]!r}, must be 'true' or 'false'")
    return None if not told else told == "true"


def _step(message: Message, stream: RecordStream, decode: StepDecoder) -> list[Any]:
    """The control step in a message; nothing if it is another kind of message."""
    found = stream.schema_of(message)
    if found is None:
        raise DamageError(f"a message is on channel {message.channel_id}, which the file does not define")
    return [decode(message, *found)] if found[1].name == EPISODE_STEP_TYPE else []


def _assemble(rows: Sequence[Any], meta: EpisodeMeta, stream: RecordStream) -> Episode:
    name = f"episode {meta.episode_id}"
    others = {row.episode_id for row in rows} - {meta.episode_id}
    if others and not stream.salvage:
        raise EpisodeError(
            f"{name}: field episode_id: holds steps of episode {min(others)[:60]!r} too; drop it, or take "
            f"its own by {SALVAGE}"
        )
    rows = [row for row in rows if row.episode_id == meta.episode_id]
    runs = _runs(rows)
    due = 0 if meta.part == 1 or not runs else runs[0][0].step
    lost = _between(runs, due)
    if not stream.salvage and lost:
        spans = ", ".join(f"{a} to {b}" for a, b in lost[:4])
        raise EpisodeError(
            f"{name}: field step: of its {rows[-1].step + 1 - due} steps {sum(b - a + 1 for a, b in lost)} are missing "
            f"or repeated ({spans}); drop it, or take its longest run without a gap by {SALVAGE}"
        )
    run = max(runs, key=len, default=[])
    if len(run) < 2:
        raise EpisodeError(f"{name}: holds {len(run)} steps in a row, needs at least 2")
    actions = [row.action_applied for row in run[:-1]]
    observations = [row.observation for row in run]
    for field, values in (("observation", observations), ("action_applied", actions)):
        widths = {len(v) for v in values}
        if len(widths) != 1:
            raise EpisodeError(f"{name}: field {field} has rows of widths {sorted(widths)}")
    kinds = _values(run, "kind")
    known = kinds is not None and any(kinds)
    rewards = np.array(_values(run, "reward") or [math.nan], np.float32)
    bundle_ids = _values(run[:-1], "bundle_id")
    return Episode(
        observations=np.array(observations, np.float32),
        actions=np.array(actions, np.float32),
        meta=meta,
        actions_proposed=_vectors(run[:-1], "action_proposed", name),
        skills=_vectors(run[:-1], "skill", name, swapped=bundle_ids is not None and len({*bundle_ids, ""}) > 2),
        rewards=None if np.isnan(rewards).all() else rewards,
        kinds=np.array(kinds) if known else None,
        verdicts=np.array(_values(run, "verdict"), np.uint8) if known and hasattr(run[0], "verdict") else None,
        bundle_ids=np.array(bundle_ids) if bundle_ids is not None and any(bundle_ids) else None,
        promises=_vectors(run[:-1], "promise", name),
        first_step=run[0].step,
        lost=lost,
        damage=stream.damage,
    )


def _values(rows: Sequence[Any], field: str) -> list[Any] | None:
    """A field of every step; None if the recording's definition lacks it."""
    return [getattr(row, field) for row in rows] if hasattr(rows[0], field) else None


def _vectors(rows: Sequence[Any], field: str, name: str, *, swapped: bool = False) -> FloatArray | None:
    """A field of every step as a matrix, NaN where it is empty; None if it always is, or is not defined.

    Args:
        swapped: bundles took turns, whose skills may differ in size: what a row lacks is NaN.
    """
    values = _values(rows, field) or []
    widths = {len(value) for value in values} - {0}
    if not widths:
        return None
    if len(widths) != 1 and not swapped:
        raise EpisodeError(f"{name}: field {field} has rows of widths {sorted(widths)}")
    found = np.full((len(values), max(widths)), math.nan, np.float32)
    for row, value in zip(found, values):
        row[: len(value)] = value
    return found


def _runs(rows: Sequence[Any]) -> list[list[Any]]:
    """The steps, cut wherever the next one is not the one that is due."""
    runs: list[list[Any]] = []
    for row in rows:
        if not runs or row.step != runs[-1][-1].step + 1:
            runs.append([])
        runs[-1].append(row)
    return runs


def _between(runs: Sequence[list[Any]], due: int) -> tuple[tuple[int, int], ...]:
    """The spans (first, last) of steps that lie between the runs, the first of which is due at `due`."""
    lost = []
    for run in runs:
        if run[0].step != due:
            lost.append((min(due, run[0].step), max(due, run[0].step) - 1))
        due = run[-1].step + 1
    return tuple(lost)


def _row(array_TX: FloatArray | None, t: int) -> FloatArray | None:
    """Row t without what it lacks; None where there is no array, or a row of NaN."""
    return None if array_TX is None or np.isnan(array_TX[t]).all() else array_TX[t][~np.isnan(array_TX[t])]


def _numbers(array: FloatArray | None) -> list[float]:
    return [] if array is None else [float(x) for x in array]
