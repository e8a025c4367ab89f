"""LeRobot data sets v2.0, v2.1 and v3.0, read natively: meta/info.json, the episodes' table, Parquet files of rows.

    v2.x    meta/episodes.jsonl, meta/tasks.jsonl, one file of rows for each episode
    v3.0    meta/episodes/**.parquet, meta/tasks.parquet, files of rows that hold many episodes each

Every episode is a session, on its own `timestamp` where that isn't just the row's number over fps. Numeric features are
signals with the names of their columns where info.json has them; videos and pictures are never opened, and are told.
A format's version is its `codebase_version`: https://github.com/huggingface/lerobot.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.errors import EpisodeError
from ..contract.types import Array
from .files import MAX_COLUMNS, MAX_SIGNALS, columns_of, digest_of, licence_beside, read_words, within
from .hdf5 import counted_s, damaged
from .parquet import column_values, read_rows, read_table
from .source import About, Session, Signal

FORMAT = "lerobot"
VERSIONS = ("v2.0", "v2.1", "v3.0")
MAX_EPISODES = 1_000_000
NUMERIC = {
    "float16",
    "float32",
    "float64",
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
INDEX = ("timestamp", "frame_index", "episode_index", "index", "task_index")
TIMED_PERIODS = 0.05
"""How far a timestamp may lie from the row's number over fps and still be just that, in periods."""
_PLACE = re.compile(r"\{(\w+)(?::0?(\d))?d?\}")
_INFO = "meta/info.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A numeric feature.

    Attributes:
        shape: of one row's values.
        columns: their names.
    """

    name: str
    shape: tuple[int, ...]
    columns: tuple[str, ...]

    @property
    def width(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What meta/info.json says.

    Attributes:
        data_path: pattern of the files of rows.
        chunk: episodes in a folder (v2.x).
    """

    version: str
    rate_hz: float
    data_path: str
    chunk: int
    robot: str
    licence: str
    episodes: int | None
    frames: int | None
    features: tuple[Feature, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An episode, as the episodes' table has it.

    Attributes:
        rows: that it must have.
        file: where they lie.
    """

    index: int
    rows: int
    task: str
    file: Path


def open_lerobot(folder: Path) -> LeRobotSource:
    """A data set's folder.

    Raises:
        EpisodeError: its metadata is missing, damaged or of another version.
        SetupError: pyarrow is not installed.
    """
    info = _info(folder)
    entries = _entries_v3(folder, info) if info.version == "v3.0" else _entries_v2(folder, info)
    if not entries:
        raise EpisodeError(f"{folder.name}: its table of episodes is empty; copy the data set again")
    if info.episodes is not None and info.episodes != len(entries):
        raise EpisodeError(
            f"{folder.name}: {_INFO} counts {info.episodes} episodes, its table {len(entries)}; copy the data set again"
        )
    rows = sum(entry.rows for entry in entries)
    if info.frames is not None and info.frames != rows:
        raise EpisodeError(
            f"{folder.name}: {_INFO} counts {info.frames} frames, its table of episodes {rows}; copy the data set again"
        )
    return LeRobotSource(path=folder, info=info, entries=entries, tasks=_tasks(folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeRobotSource:
    """A data set; see the module."""

    path: Path
    info: Info
    entries: tuple[Entry, ...]
    tasks: dict[int, str]
    format: str = FORMAT

    def about(self) -> About:
        """What is known of it.

        Raises:
            EpisodeError: a file of rows is missing or a pointer.
        """
        tables = sorted(self.path.glob("meta/episodes/**/*.parquet"))
        meta = [self.path / name for name in ("meta/episodes.jsonl", "meta/tasks.jsonl", "meta/tasks.parquet")]
        data = list(dict.fromkeys(entry.file for entry in self.entries if entry.file.is_file()))
        files = [self.path / _INFO, *(file for file in meta if file.is_file()), *tables, *data]
        return About(
            format=self.format,
            files=tuple(str(file.relative_to(self.path)) for file in files),
            digest=digest_of(files),
            licence=self.info.licence or licence_beside(self.path),
            robot=self.info.robot,
            notes=(f"codebase_version {self.info.version}", *self.info.notes),
        )

    def sessions(self, *, skip_damaged: bool = False) -> Iterator[Session]:
        """The episodes in order.

        Raises:
            EpisodeError: one's file is missing or damaged, or hasn't its rows.
        """
        held: tuple[Path, Any] | None = None
        for entry in self.entries:
            name = f"episode_{entry.index}"
            try:
                if held is None or held[0] != entry.file:
                    held = None  # frees the former before the next is read
                    held = entry.file, self._table(entry.file)
                yield self._session(name, entry, held[1])
            except EpisodeError as error:
                yield damaged(name, EpisodeError(f"{self.path.name}: {error}"), skip_damaged)

    def _table(self, file: Path) -> Any:
        if not file.is_file():
            raise EpisodeError(f"{file.relative_to(self.path)} is missing; fetch or copy the whole data set")
        return read_table(file, [feature.name for feature in self.info.features], INDEX)

    def _session(self, name: str, entry: Entry, table: Any) -> Session:
        where = str(entry.file.relative_to(self.path))
        rows = self._own_rows(entry, table, where)
        index = column_values(rows, "frame_index", (1,), where).reshape(-1)
        if not np.array_equal(index, np.arange(entry.rows)):
            row = int(np.argmax(index != np.arange(entry.rows)))
            raise EpisodeError(f"{where}: frame_index is {index[row]:g} at row {row} of the episode, must be {row}")
        times_s, timed = self._times_s(rows, where)
        signals = {}
        for feature in self.info.features:
            values = column_values(rows, feature.name, feature.shape, where)
            signals[feature.name] = Signal(name=feature.name, columns=feature.columns, times_s=times_s, values=values)
        task = entry.task or self._task(rows, where)
        return Session(name=name, signals=signals, rate_hz=self.info.rate_hz, timed=timed, task=task)

    def _task(self, rows: Any, where: str) -> str:
        """By the rows' task_index, where the table of episodes names none."""
        if "task_index" not in rows.column_names:
            return ""
        numbers = dict.fromkeys(column_values(rows, "task_index", (1,), where).reshape(-1).tolist())
        return "; ".join(self.tasks[int(k)] for k in numbers if k in self.tasks)[:400]

    def _own_rows(self, entry: Entry, table: Any, where: str) -> Any:
        """The episode's rows of its file.

        Raises:
            EpisodeError: they aren't as many as the table of episodes says.
        """
        episode = column_values(table, "episode_index", (1,), where).reshape(-1)
        mine = np.flatnonzero(episode == entry.index)
        if len(mine) != entry.rows:
            raise EpisodeError(f"{where} holds {len(mine)} rows of it, the table of episodes says {entry.rows}")
        if not len(mine):
            raise EpisodeError("has 0 rows")
        if mine[-1] - mine[0] != len(mine) - 1:
            raise EpisodeError(f"{where}: its rows don't lie together (rows {mine[0]} to {mine[-1]} for {len(mine)})")
        return table.slice(int(mine[0]), len(mine))

    def _times_s(self, rows: Any, where: str) -> tuple[Array, bool]:
        counted = counted_s(rows.num_rows, self.info.rate_hz)
        if "timestamp" not in rows.column_names:
            return counted, False
        stored = column_values(rows, "timestamp", (1,), where).reshape(-1)
        if not np.isfinite(stored).all() or (np.diff(stored) < 0).any():
            falls = np.flatnonzero(~(np.diff(stored) >= 0))
            row = int(falls[0]) + 1 if len(falls) else 0
            raise EpisodeError(f"{where}: timestamp is {stored[row]:g} s at row {row} of the episode, must not fall")
        stored = stored - stored[0]
        just = np.abs(stored - counted).max() * self.info.rate_hz <= TIMED_PERIODS
        return (counted, False) if just else (stored, True)


def _info(folder: Path) -> Info:
    where = f"{folder.name}/{_INFO}"
    told = _json(read_words(folder / _INFO), where)
    version = told.get("codebase_version")
    if version not in VERSIONS:
        raise EpisodeError(
            f"{where}: codebase_version is {str(version)[:20]!r}, only {', '.join(VERSIONS)} are read; convert it with "
            "LeRobot's own scripts"
        )
    rate = told.get("fps")
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not (math.isfinite(rate) and rate > 0):
        raise EpisodeError(f"{where}: fps is {str(rate)[:20]!r}, must be a number above 0")
    features, notes = _features(told.get("features"), where)
    pattern = told.get("data_path")
    if not isinstance(pattern, str):
        raise EpisodeError(f"{where}: data_path is {str(pattern)[:40]!r}, must be the pattern of the files of rows")
    return Info(
        version=version,
        rate_hz=float(rate),
        data_path=pattern,
        chunk=_whole(told, "chunks_size", 1000) or 1000,
        robot=told["robot_type"][:80] if isinstance(told.get("robot_type"), str) else "",
        licence=told["license"][:80] if isinstance(told.get("license"), str) else _card_licence(folder),
        episodes=_whole(told, "total_episodes", None),
        frames=_whole(told, "total_frames", None),
        features=features,
        notes=notes,
    )


def _card_licence(folder: Path) -> str:
    """The licence in the front matter of the data set's card (README.md); empty: none."""
    card = folder / "README.md"
    if not card.is_file() or card.stat().st_size > MAX_COLUMNS << 10:
        return ""
    match = re.search(r"\A---\n.*?^license:\s*([^\n]{1,80})$", card.read_text("utf-8", "replace"), re.M | re.S)
    return match[1].strip() if match else ""


def _whole(told: dict[str, Any], key: str, otherwise: int | None) -> int | None:
    value = told.get(key)
    return value if type(value) is int and value >= 0 else otherwise


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EpisodeError(f"{where}: is no JSON ({str(error)[:120]}); is it cut short? copy it again") from None
    if not isinstance(found, dict):
        raise EpisodeError(f"{where}: is {type(found).__name__} in JSON, must be an object")
    return found


def _features(told: object, where: str) -> tuple[tuple[Feature, ...], tuple[str, ...]]:
    if not isinstance(told, dict) or not told or len(told) > MAX_SIGNALS:
        raise EpisodeError(f"{where}: features is {type(told).__name__}, must be a table of 1 to {MAX_SIGNALS} of them")
    features, notes = [], []
    for name, entry in told.items():
        if name in INDEX:
            continue
        kind = entry.get("dtype") if isinstance(entry, dict) else None
        shape = entry.get("shape") if isinstance(entry, dict) else None
        sized = isinstance(shape, (list, tuple)) and all(type(n) is int and n > 0 for n in shape)
        if kind in ("video", "image"):
            notes.append(f"{name} is skipped: it holds pictures ({kind})")
        elif kind not in NUMERIC:
            notes.append(f"{name} is skipped: it holds {str(kind)[:20]}, not numbers")
        elif not sized or not shape or math.prod(shape) > MAX_COLUMNS:
            notes.append(f"{name} is skipped: its shape is {str(shape)[:40]}, at most {MAX_COLUMNS} numbers are read")
        else:
            features.append(Feature(name=name, shape=tuple(shape), columns=_names(entry.get("names"), tuple(shape))))
    if not features:
        raise EpisodeError(f"{where}: no feature holds numbers ({', '.join(notes)[:200]}); there is nothing to ingest")
    return tuple(features), tuple(notes)


def _names(told: object, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a feature's columns: a list of them, or one below any key, or a table of their numbers."""
    width = math.prod(shape)
    numbered = isinstance(told, dict) and sorted(map(str, told.values())) == sorted(map(str, range(width)))
    if isinstance(told, dict) and numbered:
        return tuple(str(name) for name in sorted(told, key=lambda name: int(told[name])))
    if isinstance(told, dict):
        told = next((part for part in told.values() if isinstance(part, list)), None)
    if isinstance(told, list) and len(told) == 1 and isinstance(told[0], list):
        told = told[0]
    fits = isinstance(told, list) and len(told) == width and all(isinstance(name, str) for name in told)
    if fits and isinstance(told, list) and len(set(told)) == width:
        return tuple(told)
    return columns_of(shape)


def _file(folder: Path, pattern: str, numbers: dict[str, int]) -> Path:
    """The pattern's file; only plain numbers are put in."""

    def put(match: re.Match[str]) -> str:
        if match[1] not in numbers:
            known = ", ".join(numbers)
            raise EpisodeError(f"{_INFO}: data_path {pattern[:80]!r} wants {match[1][:40]!r}, known are {known}")
        return f"{numbers[match[1]]:0{int(match[2] or 1)}d}"

    return within(folder, _PLACE.sub(put, pattern), f"{folder.name}/{_INFO}: data_path")


def _entries_v2(folder: Path, info: Info) -> tuple[Entry, ...]:
    where = f"{folder.name}/meta/episodes.jsonl"
    entries = []
    for line, text in enumerate(read_words(folder / "meta/episodes.jsonl").splitlines(), start=1):
        if not text.strip():
            continue
        told = _json(text, f"{where} line {line}")
        index, rows = _whole(told, "episode_index", None), _whole(told, "length", None)
        if index is None or rows is None:
            raise EpisodeError(f"{where} line {line}: has no episode_index and length, both whole numbers")
        tasks = told.get("tasks")
        names = [task for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []
        numbers = {"episode_chunk": index // info.chunk, "episode_index": index}
        file = _file(folder, info.data_path, numbers)
        entries.append(Entry(index=index, rows=rows, task="; ".join(names)[:400], file=file))
    return _checked(entries, where)


def _entries_v3(folder: Path, info: Info) -> tuple[Entry, ...]:
    where = f"{folder.name}/meta/episodes"
    files = sorted((folder / "meta/episodes").glob("**/*.parquet"))
    if not files:
        raise EpisodeError(f"{where} holds no Parquet file; fetch or copy the whole data set")
    entries = []
    for file in files:
        for told in read_rows(file, ("episode_index", "length", "tasks", "data/chunk_index", "data/file_index")):
            chunk, number = _whole(told, "data/chunk_index", None), _whole(told, "data/file_index", None)
            index, rows = _whole(told, "episode_index", None), _whole(told, "length", None)
            if index is None or rows is None or chunk is None or number is None:
                raise EpisodeError(f"{where}/{file.name}: an episode lacks episode_index, length or its file's numbers")
            tasks = told.get("tasks")
            names = [task for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []
            path = _file(folder, info.data_path, {"chunk_index": chunk, "file_index": number})
            entries.append(Entry(index=index, rows=rows, task="; ".join(names)[:400], file=path))
    return _checked(entries, where)


def _tasks(folder: Path) -> dict[int, str]:
    """What each task_index means; empty where nothing says so."""
    table, lines = folder / "meta/tasks.parquet", folder / "meta/tasks.jsonl"
    told: list[dict[str, Any]] = []
    if table.is_file():
        told = read_rows(table, ("task_index", "task", "__index_level_0__"))
    elif lines.is_file():
        texts = [text for text in read_words(lines).splitlines() if text.strip()]
        told = [_json(text, f"{folder.name}/meta/tasks.jsonl") for text in texts]
    named = [(_whole(row, "task_index", None), row.get("task", row.get("__index_level_0__"))) for row in told]
    return {index: task for index, task in named if index is not None and isinstance(task, str)}


def _checked(entries: list[Entry], where: str) -> tuple[Entry, ...]:
    if len(entries) > MAX_EPISODES:
        raise EpisodeError(f"{where}: lists {len(entries):,} episodes, at most {MAX_EPISODES:,}")
    indices = [entry.index for entry in entries]
    if len(set(indices)) < len(indices):
        twice = next(index for index in indices if indices.count(index) > 1)
        raise EpisodeError(f"{where}: lists episode {twice} twice; copy the data set again")
    return tuple(sorted(entries, key=lambda entry: entry.index))
