"""Which reader a foreign recording gets, by what its bytes are.

    d4rl, minari, robomimic, hdf5    one HDF5 file (`hdf5`: any other in which groups hold fields of one length)
    lerobot                          the folder of a LeRobot data set, v2.0, v2.1 or v3.0
    rosbag2                          a bag: its folder, or one of its files (MCAP or SQLite3), compressed or not
    mcap_json, mcap_protobuf         an MCAP file of JSON messages, or of Protocol Buffers (Foxglove's)

A folder that is none of these, but whose entries all are recordings of one format, is a set of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..contract.errors import EpisodeError
from . import d4rl, grouped, minari, robomimic
from .bag import BagSource, open_bag
from .files import digest_of, kind_of
from .hdf5 import Form, Hdf5Source, damaged, opened
from .source import About, Session, Source

AUTO = "auto"
FORMS: tuple[Form, ...] = (minari, robomimic, d4rl, grouped)
FORMATS = ("d4rl", "minari", "robomimic", "hdf5", "lerobot", "rosbag2", "mcap_json", "mcap_protobuf")
MAX_RECORDINGS = 100_000
_MINARI_FILE = Path("data/main_data.hdf5")
_REMEDY = f"skimo ingest reads {', '.join(FORMATS)}"


class Part(Source, Protocol):
    """A source that knows its format before it was looked at."""

    @property
    def format(self) -> str: ...


def open_source(path: Path, format: str = AUTO) -> Part:
    """A recording, or a set of them.

    Args:
        path: a file or folder.
        format: what it must be, one of FORMATS; auto: what its content says.

    Raises:
        EpisodeError: it is not there, empty, a pointer, cut short, of no known format or another one than named.
        SetupError: what its reader needs is not installed.
    """
    if format not in (AUTO, *FORMATS):
        raise EpisodeError(f"no format {format[:40]!r}; there are {', '.join((AUTO, *FORMATS))}")
    if not path.exists():
        raise EpisodeError(f"{path}: there is no such file or folder; check --source")
    opener = _folder if path.is_dir() else _file
    return opener(path, format)


def _file(path: Path, format: str) -> Part:
    kind = kind_of(path)
    opener = _BY_KIND.get(kind)
    if opener is None:
        raise EpisodeError(f"{path.name}: {_OTHERS.get(kind, 'is of no known format')}; {_REMEDY}")
    return opener(path, format)


def _hdf5(path: Path, format: str) -> Part:
    wanted = [form for form in FORMS if format in (AUTO, form.FORMAT)]
    if not wanted:
        raise EpisodeError(f"{path.name}: is an HDF5 file, --format is {format}; leave it out, or name another source")
    with opened(path) as file:
        if format != AUTO:
            return Hdf5Source(path=path, form=wanted[0])
        form = next((form for form in wanted if form.holds(file)), None)
        keys = ", ".join(str(key) for key in file)[:120]
    if form is None:
        raise EpisodeError(f"{path.name}: holds no field of numbers over rows (its root has: {keys or 'nothing'})")
    return Hdf5Source(path=path, form=form)


def _folder(path: Path, format: str) -> Part:
    if (path / "meta" / "info.json").is_file():
        from .lerobot import open_lerobot

        _expect(path, format, "lerobot")
        return open_lerobot(path)
    if (path / "metadata.yaml").is_file():
        return open_bag(path, format)
    for file in (path / _MINARI_FILE, path / _MINARI_FILE.name):
        if file.is_file():
            return _file(file, format)
    return _set(path, format)


def _expect(path: Path, format: str, found: str) -> None:
    if format not in (AUTO, found):
        raise EpisodeError(f"{path.name}: is of format {found}, --format is {format}; leave it out, or name {found}")


def _set(folder: Path, format: str) -> Part:
    try:
        entries = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: _order(p.name))
    except OSError as error:
        raise EpisodeError(f"{folder}: can't be read: {error.strerror or error}") from None
    if not entries:
        raise EpisodeError(f"{folder}: is an empty folder; name one that holds recordings")
    if len(entries) > MAX_RECORDINGS:
        raise EpisodeError(f"{folder}: holds {len(entries):,} entries, at most {MAX_RECORDINGS:,}; split it")
    found = [entry for entry in entries if _may_be_one(entry)]
    if not found:
        names = ", ".join(entry.name for entry in entries[:6])
        raise EpisodeError(f"{folder}: is no recording and holds none (but {names}); {_REMEDY}")
    parts = tuple((entry.name, _part(entry, format)) for entry in found)
    formats = {part.format: name for name, part in reversed(parts) if not isinstance(part, Lost)}
    if not formats:
        raise next(part.error for _, part in parts if isinstance(part, Lost))
    if len(formats) > 1:
        told = ", ".join(f"{name} is {kind}" for kind, name in sorted(formats.items()))
        raise EpisodeError(f"{folder}: holds recordings of several formats ({told}); name one of them")
    if len(parts) == 1:
        return parts[0][1]
    others = tuple(entry.name for entry in entries if entry not in found)
    return SourceSet(folder=folder, parts=parts, format=next(iter(formats)), others=others)


def _part(entry: Path, format: str) -> Part:
    try:
        return open_source(entry, format)
    except EpisodeError as error:
        return Lost(path=entry, error=error)


def _may_be_one(entry: Path) -> bool:
    if entry.is_dir():
        marks = ("metadata.yaml", "meta/info.json", str(_MINARI_FILE), _MINARI_FILE.name)
        return any((entry / mark).is_file() for mark in marks)
    try:
        return entry.is_file() and kind_of(entry) in (*_BY_KIND, "rosbag1")
    except EpisodeError:  # empty, or a pointer: a recording that is lost must not go unsaid
        return entry.suffix in (".mcap", ".db3", ".hdf5", ".h5", ".zstd")


def _order(name: str) -> list[tuple[int, int, str]]:
    """Numbers in names count as numbers."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d{1,15}|\D+", name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A recording of a set that can't be opened: an error, or damage where that is skipped."""

    path: Path
    error: EpisodeError
    format: str = ""

    def about(self) -> About:
        """Only that it is there."""
        files = (self.path.name,) if self.path.is_file() else ()
        return About(format="", files=files, digest=digest_of([self.path] if files else []), notes=(str(self.error),))

    def sessions(self, *, skip_damaged: bool = False) -> Iterator[Session]:
        """None.

        Raises:
            EpisodeError: unless damage is skipped.
        """
        yield damaged("0", self.error, skip_damaged)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSet:
    """Several recordings of one format in a folder; their sessions' names begin with theirs.

    Attributes:
        others: entries of the folder that are none.
    """

    folder: Path
    parts: tuple[tuple[str, Part], ...]
    format: str
    others: tuple[str, ...]

    def about(self) -> About:
        """What all of them are; a licence only where each names one."""
        abouts: list[tuple[str, About]] = []
        for name, source in self.parts:
            abouts.append((name, source.about()))
            if isinstance(source, BagSource):  # all of them together would take too much
                source.forget()
        robots = dict.fromkeys(about.robot for _, about in abouts if about.robot)
        notes = list(dict.fromkeys(note for _, about in abouts for note in about.notes))
        if self.others:
            notes.append(f"{len(self.others)} entries are no recordings and left out: {', '.join(self.others)[:160]}")
        licences = dict.fromkeys(about.licence for _, about in abouts if about.format)
        return replace(
            next(about for _, about in abouts if about.format),
            files=tuple(f"{name}/{file}" if file != name else name for name, about in abouts for file in about.files),
            digest=hashlib.sha256("".join(about.digest for _, about in abouts).encode()).hexdigest(),
            licence="" if "" in licences else " and ".join(licences),
            robot=", ".join(robots),
            notes=tuple(notes),
        )

    def sessions(self, *, skip_damaged: bool = False) -> Iterator[Session]:
        """All their sessions, in order of their names."""
        for name, source in self.parts:
            try:
                for session in source.sessions(skip_damaged=skip_damaged):
                    yield replace(session, name=f"{name}/{session.name}")
            except EpisodeError as error:
                if not skip_damaged:
                    raise
                yield Session(name=name, signals={}, damage=str(error))


_BY_KIND: dict[str, Callable[[Path, str], Part]] = {
    "hdf5": _hdf5,
    "mcap": open_bag,
    "sqlite3": open_bag,
    "zstd": open_bag,
}
_OTHERS = {
    "parquet": "is one Parquet file; name the folder of its LeRobot data set, which holds meta/info.json",
    "rosbag1": "is a bag of ROS 1; convert it (rosbags-convert), then name the result",
    "zip": "is a zip archive; unpack it, then name what it held",
    "gzip": "is packed with gzip; unpack it, then name what it held",
    "npy": "is a NumPy array without names and times; store it as HDF5",
}
