"""What a foreign recording holds, before anybody says what it means: named signals over time, session by session.

A session is what its source keeps together: an HDF5 episode, a LeRobot episode, a bag. Whether it is one episode of a
domain, several or none, and which of its signals are which channels, says a mapping (`mapping`).

Promises
  - Values are as they are stored: no unit, sign, zero or order is changed here, and nothing is filled in.
  - What can't be read is refused by file, session and field (EpisodeError), or told as damage on request.
Times are seconds; where a source keeps none, rows are counted by its rate, if it names one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..contract.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A field of a session.

    Attributes:
        name: as its source has it: `observations`, `observation.state`, `/joint_states.position`.
        columns: [W] names of its columns where the source names them (joints, channels), else "0", "1", ...
        times_s: [T] of its rows, from the session's start; never falling. Rows of signals on one grid share the array.
        values: [T, W].
        unit: what the source itself says; empty: it doesn't.
    """

    name: str
    columns: tuple[str, ...]
    times_s: Array
    values: Array
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What was recorded in one go.

    Attributes:
        name: within its source, for errors and for the episodes' names.
        signals: by name.
        rate_hz: at which rows were taken, where the source says so; None: only the times tell.
        timed: whether the times are the source's own, and not counted by the rate.
        task: what it says was done; empty: nothing.
        ends: rows of a flat table after which the source marks an episode's end; empty: none marked, or one episode.
        whole: whether the source itself says that this is one episode.
        damage: what could not be read of it; empty: it is whole.
    """

    name: str
    signals: Mapping[str, Signal]
    rate_hz: float | None = None
    timed: bool = False
    task: str = ""
    ends: tuple[int, ...] = ()
    whole: bool = True
    damage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a source as a whole.

    Attributes:
        format: d4rl, minari, robomimic, lerobot, rosbag2, mcap_json, ...
        files: that it is made of, relative to where it lies.
        digest: SHA-256 over their bytes, in that order.
        licence: that it names, in its own words; empty: none.
        robot: that it names; empty: none.
        notes: what a reader should know: what was skipped, what looks odd.
    """

    format: str
    files: tuple[str, ...]
    digest: str
    licence: str = ""
    robot: str = ""
    notes: tuple[str, ...] = field(default=())


class Source(Protocol):
    """A recording, or a set of them, of one format; made by `formats.open_source`."""

    def about(self) -> About:
        """What it is, after a look at all its files."""
        ...

    def sessions(self, *, skip_damaged: bool = False) -> Iterator[Session]:
        """Its sessions in order.

        Args:
            skip_damaged: what is damaged comes as far as it can be read, with `damage` set, instead of an error.

        Raises:
            EpisodeError: a session can't be read, and why: file, session, field, value, bound, remedy.
        """
        ...


class Opens(Protocol):
    """A format's reader."""

    def __call__(self, path: Path, /) -> Source:
        """Raises EpisodeError: not this format, cut short, empty, a pointer to a file that isn't there."""
        ...
