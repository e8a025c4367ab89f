"""Any HDF5 file whose groups hold fields of one length: each such group is a session, or the file itself is one.

So are the traces of robohive (`Trial<i>/{observations, actions, time, env_infos/...}`) and the files of ALOHA
(`action`, `observations/qpos`, ...). A session's length is that which most of its fields have; fields of one row more
(the state after the last action) are kept too, others are told and left out. Times are a field named `time`, `time_s`,
`times_s`, `timestamp` or `timestamps`, in seconds, if there is one; else rows are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..contract.errors import EpisodeError
from ..contract.types import Array
from .hdf5 import (
    DAMAGED,
    Broken,
    Field,
    Fields,
    Told,
    children,
    counted_s,
    damaged,
    fields_below,
    is_group,
    readable,
    told_skipped,
    values_of,
)
from .source import Session

FORMAT: str = "hdf5"
TIMES = ("time", "times_s", "time_s", "timestamp", "timestamps")


def holds(file: Any) -> bool:
    """Whether an HDF5 file may have this form: anything may that isn't empty."""
    return len(file) > 0


def told(file: Any) -> Told:
    """What is known of the file, by its first session."""
    groups = _groups(file)
    name, group = next(((name, item) for name, item in groups if _is_whole(item)), groups[0])
    fields = fields_below(group)
    rows = _rows(name, fields)
    others = {item.name: f"has {item.rows} rows, most fields {rows}" for item in _odd(fields, rows)}
    time = _time_field(fields, rows)
    notes = told_skipped({**fields.skipped, **others})
    return Told(notes=(*notes, f"times are field {time.name}" if time else "no field of times: rows are counted"))


def sessions(file: Any, skip_damaged: bool) -> Iterator[Session]:
    """The groups in order of their numbers.

    Raises:
        EpisodeError: a group holds no fields of one length, or times that fall.
    """
    for name, group in _groups(file):
        try:
            yield _session(name, group, skip_damaged)
        except EpisodeError as error:
            yield damaged(name, error, skip_damaged)


def _groups(file: Any) -> list[tuple[str, Any]]:
    """The sessions' groups; the file itself where numbers over rows lie in its root."""
    items = list(children(file))
    flat = any(not is_group(item) and getattr(item, "shape", None) for _, item in items)
    groups = [(name, item) for name, item in items if isinstance(item, Broken) or _has_fields(item)]
    if flat:
        return [("0", file)]
    if len(groups) == 1 and not _numbers(groups[0][0]) and is_group(groups[0][1]) and _is_folder(groups[0][1]):
        return _groups(groups[0][1])
    if not groups:
        raise EpisodeError("holds no field of numbers over rows; nothing in it can be ingested")
    return sorted(groups, key=lambda pair: ([int(n) for n in _numbers(pair[0])], pair[0]))


def _has_fields(item: Any) -> bool:
    try:
        return is_group(item) and bool(fields_below(item).found)
    except EpisodeError:  # told when it is read
        return True


def _is_whole(item: Any) -> bool:
    try:
        return bool(fields_below(item).found)
    except EpisodeError:
        return False


def _is_folder(group: Any) -> bool:
    """Whether a group holds only groups, as `data` around all sessions does."""
    return all(is_group(item) for _, item in children(group))


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d{1,9}", name)


def _rows(name: str, fields: Fields) -> int:
    if not fields.found:
        raise EpisodeError(f"group {name} holds no field of numbers over rows")
    counts = Counter(item.rows for item in fields.found)
    return max(counts, key=lambda rows: (counts[rows], rows))


def _odd(fields: Fields, rows: int) -> list[Field]:
    return [item for item in fields.found if item.rows not in (rows, rows + 1)]


def _time_field(fields: Fields, rows: int) -> Field | None:
    named = [f for f in fields.found if f.name.split("/")[-1].lower() in TIMES and f.rows == rows and f.width == 1]
    return min(named, key=lambda item: (item.name.count("/"), item.name), default=None)


def _session(name: str, group: Any, skip_damaged: bool) -> Session:
    fields = fields_below(group)
    rows = _rows(name, fields)
    if not rows:
        raise EpisodeError("its fields have 0 rows")
    time = _time_field(fields, rows)
    kept = [item for item in fields.found if item.rows in (rows, rows + 1) and item is not time]
    signals, damage = readable(kept, lambda count: _grid_s(count, time))
    if damage and not skip_damaged:
        raise EpisodeError(damage)
    words = f"session {name}: {damage}; {DAMAGED}" if damage else ""
    return Session(name=name, signals=signals, timed=time is not None, damage=words)


def _grid_s(rows: int, time: Field | None) -> Array:
    """Times of so many rows; one row more than there are times goes on as they do."""
    if time is None:
        return counted_s(rows, None)
    times_s = _times_s(time)
    after_s = times_s[-1] + (times_s[-1] - times_s[0]) / max(len(times_s) - 1, 1)
    return times_s if rows == len(times_s) else np.append(times_s, after_s)


def _times_s(field: Field) -> Array:
    times_s = values_of(field).reshape(-1)
    if not np.isfinite(times_s).all():
        row = int(np.flatnonzero(~np.isfinite(times_s))[0])
        raise EpisodeError(f"field {field.name} is {times_s[row]} at row {row}, must be a time in seconds")
    if (falls := np.flatnonzero(np.diff(times_s) < 0)).size:
        row = int(falls[0])
        raise EpisodeError(
            f"field {field.name} falls from {times_s[row]:g} to {times_s[row + 1]:g} s at row {row + 1}; times must "
            "not fall: cut the session there"
        )
    return times_s - times_s[0]
