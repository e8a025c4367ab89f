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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mcap.records import Metadata
from mcap.writer import MCAP0_MAGIC

from ..contract.errors import EpisodeError
from ..process.whole import replacing
from .locks import lock
from .recording import METADATA, OUTCOME
from .rewrite import copy
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
    with replacing(path, mode) as file:
        stream = RecordStream(path, salvage=True, limits=limits)
        keep = _Metadata(seal)
        writer, messages = copy(stream, file, keep)
        if not keep.identified:
            raise EpisodeError(f"holds no metadata record {METADATA!r}; it is no skimo recording, and is left alone")
        outcome = keep.outcome or {"complete": "false"}
        if stream.damage:
            outcome = {**outcome, "repaired": "true", "damage": stream.damage}
        writer.add_metadata(OUTCOME, sealed(outcome))
        writer.finish()
    return Repair(path=path, done="repaired", messages=messages, damage=stream.damage)


class _Metadata:
    """What goes over as it is, and what is held back: the outcome, which is written last."""

    def __init__(self, seal: bool) -> None:
        self.identified = False
        self.outcome: dict[str, str] = {}
        self._seal = seal

    def __call__(self, record: Metadata) -> Mapping[str, str] | None:
        entries = record.metadata
        if record.name == OUTCOME:
            self.outcome = {key: value for key, value in entries.items() if key != SEAL}
            return None
        if record.name == METADATA:
            self.identified = True
            if SEAL not in entries and self._seal:
                return sealed(entries)
            check_seal(METADATA, entries)
        return entries
