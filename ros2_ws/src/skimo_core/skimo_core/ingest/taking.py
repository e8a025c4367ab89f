"""Numbers taken from a session's fields as a mapping says, in the domain's units, still at the source's own times.

Promises
  - A field or column that isn't there is refused with the names of those that are; so are another width, a unit that
    can't become ours, times that fall, and numbers that aren't finite (by row and column).
  - Rows with one stamp count once, the last of them; how many were left out is said.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping as Table
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError, SpecError
from ..contract.types import Array
from . import units
from .mapping import SAME, Columns
from .source import Session, Signal

SHOWN = 12
"""How many names are listed at most where one isn't there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Columns of a field.

    Attributes:
        field: its name.
        names: [C] of its columns, for messages.
        times_s: [T], rising.
        rows: [T] their numbers in the session.
        values: [T, C] in the domain's units.
        theirs: [T, C] as they were stored.
        unit: of the latter.
        repeated: rows left out because a later one has their stamp.
        missing: rows left out because they hold a number that isn't finite.
    """

    field: str
    names: tuple[str, ...]
    times_s: Array
    rows: npt.NDArray[np.int64]
    values: Array
    theirs: Array
    unit: str
    repeated: int = 0
    missing: int = 0

    @property
    def period_s(self) -> float:
        """Between rows, the median; 0 of a single row."""
        return float(np.median(np.diff(self.times_s))) if len(self.times_s) > 1 else 0.0


def find_signal(session: Session, columns: Columns, widths: Table[str, tuple[int, ...]]) -> Signal:
    """The field that columns are taken from.

    Raises:
        EpisodeError: there is none of that name, or it has another width.
    """
    signal = next((session.signals[name] for name in columns.fields if name in session.signals), None)
    if signal is None:
        close = difflib.get_close_matches(columns.fields[0], list(session.signals), n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise EpisodeError(f"no field {columns.named}{hint}; there are {_listed(session.signals) or 'none'}")
    width, known = signal.values.shape[1], widths.get(signal.name, ())
    if known and width not in known:
        raise EpisodeError(
            f"{signal.name} has {width} columns, the mapping wants {' or '.join(map(str, known))}; name the data's own "
            "with --domain, or describe its columns in a file for --mapping"
        )
    return signal


def take(
    session: Session,
    columns: Columns,
    ours: tuple[str, ...],
    widths: Table[str, tuple[int, ...]],
    period_s: float | None,
) -> Taken:
    """The columns in our units.

    Args:
        ours: [C] unit of each; one more or fewer columns than that are refused.
        period_s: between rows of a session that only counts them; None: its times are seconds.

    Raises:
        EpisodeError: see above.
    """
    signal = find_signal(session, columns, widths)
    index = index_of(signal, columns, len(ours))
    times_s = signal.times_s * period_s if period_s is not None else signal.times_s.astype(np.float64)
    theirs = signal.values[:, index]
    unit = columns.unit or signal.unit
    try:
        factors = np.array([_factor(unit, our) for our in ours])
    except SpecError as error:
        raise EpisodeError(f"field {signal.name}: {error}") from None
    _check_times(signal.name, times_s)
    finite = np.logical_and.reduce(np.isfinite(theirs), axis=1)
    kept = finite if columns.missing == "interpolate" else np.ones(len(times_s), bool)
    rows = np.flatnonzero(kept)
    last = np.append(np.diff(times_s[rows]) > 0, True)[: len(rows)]
    times_s, theirs, finite = times_s[rows][last], theirs[rows][last], finite[rows][last]
    values = theirs * factors
    if columns.unwrap:
        turn = _turns(ours)
        values[finite] = np.unwrap(values[finite] / turn, axis=0) * turn
    return Taken(
        field=signal.name,
        names=tuple(signal.columns[k] for k in index),
        times_s=times_s,
        rows=rows[last],
        values=values * np.array(columns.factor) + np.array(columns.offset),
        theirs=theirs,
        unit=unit,
        repeated=int((~last).sum()),
        missing=int((~kept).sum()),
    )


def within(part: Taken, begin_s: float, end_s: float, *, open_end: bool = False) -> Taken:
    """Its rows from one time to another, both included.

    Args:
        open_end: the last rows may hold nothing, as an action does that nobody took any more; they are left out.

    Raises:
        EpisodeError: none, or one holds a number that isn't finite.
    """
    slack_s = 1e-6 * max(part.period_s, 1e-6)
    first = int(np.searchsorted(part.times_s, begin_s - slack_s))
    last = int(np.searchsorted(part.times_s, end_s + slack_s, side="right"))
    if open_end:
        said = np.flatnonzero(np.isfinite(part.theirs[first:last]).any(axis=1))
        last = first + int(said[-1]) + 1 if len(said) else first
    if last <= first:
        raise EpisodeError(
            f"field {part.field} has no rows there, but {part.times_s[0]:.3f} to {part.times_s[-1]:.3f} s"
        )
    kept = slice(first, last)
    theirs = part.theirs[kept]
    good = np.isfinite(theirs)
    if not good.all():
        row, column = (int(k) for k in np.argwhere(~good)[0])
        raise EpisodeError(
            f"field {part.field} row {part.rows[kept][row]}: column {part.names[column]} is {theirs[row, column]}, "
            f"must be finite ({int((~good.all(1)).sum())} of {len(good)} rows are not); mend it, leave the episode out "
            "with --skip-damaged, or say `missing: interpolate`"
        )
    return replace(part, times_s=part.times_s[kept], rows=part.rows[kept], values=part.values[kept], theirs=theirs)


def check_fields(session: Session, taken: tuple[Columns, ...], widths: Table[str, tuple[int, ...]]) -> None:
    """Raises EpisodeError if a session lacks a field or column that is taken from it, or one has another width."""
    for columns in taken:
        index_of(find_signal(session, columns, widths), columns, len(columns.columns))


def index_of(signal: Signal, columns: Columns, size: int) -> list[int]:
    """Where the columns stand in the field, `size` of them; 0: however many there are.

    Raises:
        EpisodeError: one isn't there, or another number of them is wanted.
    """
    wanted = columns.columns or tuple(range(len(signal.columns)))
    if len(wanted) != size and size:
        raise EpisodeError(
            f"field {signal.name} has {len(wanted)} columns ({_listed(signal.columns)}), {size} are wanted; say which "
            "with `columns`"
        )
    found = []
    for column in wanted:
        alternatives = column if isinstance(column, tuple) else (column,)
        at = next((k for item in alternatives if (k := _at(signal.columns, item)) is not None), None)
        if at is None:
            named = " or ".join(repr(item) for item in alternatives)
            hint = "; if it is x, y, z and a quaternion say `order`" if isinstance(column, tuple) else ""
            raise EpisodeError(
                f"field {signal.name} has no column {named}; it has {len(signal.columns)}: "
                f"{_listed(signal.columns)}{hint}"
            )
        found.append(at)
    return found


def _at(names: tuple[str, ...], column: str | int) -> int | None:
    """Where a column stands; None: there is none."""
    if isinstance(column, int):
        return column if column < len(names) else None
    if column in names:
        return names.index(column)
    ends = [k for k, name in enumerate(names) if column.startswith("*") and name.endswith(column[1:])]
    return ends[0] if len(ends) == 1 else None


def _factor(unit: str, ours: str) -> float:
    if unit == SAME:
        return 1.0
    if not unit:
        raise SpecError(f"neither the source nor the mapping says its unit; say `unit: {ours}`, if that is what it is")
    return units.factor(unit, ours)


def _check_times(field: str, times_s: Array) -> None:
    if not len(times_s):
        raise EpisodeError(f"field {field} has no rows")
    if not np.isfinite(times_s).all():
        raise EpisodeError(f"field {field} row {int(np.argmin(np.isfinite(times_s)))}: its time is not a finite number")
    falls = np.flatnonzero(np.diff(times_s) < 0)
    if len(falls):
        row = int(falls[0])
        raise EpisodeError(
            f"field {field} row {row + 1}: its time {times_s[row + 1]:.6g} s lies before that of the row before it, "
            f"{times_s[row]:.6g} s; sort the recording, or cut it there"
        )


def _turns(ours: tuple[str, ...]) -> Array:
    """[C] how many of our units a radian is."""
    try:
        return np.array([units.factor("rad", unit) for unit in ours])
    except SpecError as error:
        raise EpisodeError(f"`unwrap` is for angles: {error}") from None


def _listed(names: Table[str, object] | tuple[str, ...]) -> str:
    shown = list(names)[:SHOWN]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
