"""HDF5 files opened for reading, and their fields as signals; what d4rl, minari, robomimic and grouped files share.

Promises
  - Nothing outside the file is opened: links to other files, data stored in others and views of others are refused.
  - A field's declared size is checked before it is read; pictures and texts are never read, and are named.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..contract.errors import EpisodeError, SetupError
from ..contract.types import Array
from .files import MAX_COLUMNS, MAX_SIGNALS, check_size, columns_of, digest_of, licence_beside
from .source import About, Session, Signal

MAX_DEPTH = 12
NUMBERS = "fiub"
READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
"""What h5py raises on files that are damaged, UnicodeError being a ValueError."""
DAMAGED = "or leave it out with --skip-damaged"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file's root group.

    Raises:
        EpisodeError: it can't be read as HDF5, now or while it is used; names the file.
        SetupError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise SetupError("reading HDF5 needs h5py: pip install 'skimo_core[ingest]'") from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except READ_ERRORS as error:
        words = " ".join(str(error).split())[:200]
        raise EpisodeError(f"{path.name}: can't be read as HDF5 ({words}); is it cut short? copy it again") from None
    except EpisodeError as error:
        raise EpisodeError(after(f"{path.name}: ", error)) from None


def after(prefix: str, error: EpisodeError) -> str:
    """The error's words behind the prefix, once."""
    words = str(error)
    return words if words.startswith(prefix) else f"{prefix}{words}"


def is_group(item: Any) -> bool:
    return hasattr(item, "keys")


@dataclass(frozen=True, slots=True)
class Broken:
    """In place of an item that can't be had; `why`, in words."""

    why: str


def children(group: Any) -> Iterator[tuple[str, Any]]:
    """Name and item of each link in a group; `Broken` where it leads out of the file, or nowhere."""
    for name in group:
        try:
            yield name, _child(group, name)
        except READ_ERRORS as error:
            words = " ".join(str(error).split())[:160]
            yield name, Broken(f"{_where(group, name)} can't be read ({words}); copy the file again")


def _child(group: Any, name: str) -> Any:
    import h5py

    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return Broken(
            f"{_where(group, name)} is a link into another file ({str(link.filename)[:80]!r}), which is not followed; "
            "copy the data into this file (h5repack or h5copy)"
        )
    item = group.get(name)
    if item is None:
        return Broken(f"{_where(group, name)} leads to nothing; remove it, or copy the file again")
    return item


def child(group: Any, name: str) -> Any:
    """The item of that name; None: there is none.

    Raises:
        EpisodeError: the group is broken, or that item.
    """
    check_whole(group)
    for found, item in children(group) if is_group(group) else ():
        if found == name:
            check_whole(item)
            return item
    return None


def check_whole(item: Any) -> None:
    """Raises EpisodeError if an item can't be had."""
    if isinstance(item, Broken):
        raise EpisodeError(item.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a form's reader tells of a file as a whole, for `About`."""

    notes: tuple[str, ...] = ()
    robot: str = ""


class Form(Protocol):
    """One of the forms that HDF5 files have: a module of d4rl, minari, robomimic, grouped."""

    FORMAT: str

    def holds(self, file: Any, /) -> bool: ...

    def told(self, file: Any, /) -> Told: ...

    def sessions(self, file: Any, skip_damaged: bool, /) -> Iterator[Session]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdf5Source:
    """A file of one of these forms."""

    path: Path
    form: Form

    @property
    def format(self) -> str:
        return self.form.FORMAT

    def about(self) -> About:
        """What is known of it."""
        with opened(self.path) as file:
            told = self.form.told(file)
        return About(
            format=self.format,
            files=(self.path.name,),
            digest=digest_of([self.path]),
            licence=licence_beside(self.path),
            robot=told.robot,
            notes=told.notes,
        )

    def sessions(self, *, skip_damaged: bool = False) -> Iterator[Session]:
        """Its sessions in order.

        Raises:
            EpisodeError: one can't be read, and damage is not skipped.
        """
        with opened(self.path) as file:
            yield from self.form.sessions(file, skip_damaged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A data set of numbers, one row per first index.

    Attributes:
        name: path below the session's group, parts joined by `/`.
        data: the data set.
        rows, width: its size, as it declares.
    """

    name: str
    data: Any
    rows: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What lies below a group.

    Attributes:
        found: fields that are numbers over rows.
        skipped: words for each other one, by its name.
    """

    found: list[Field] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def fields_below(group: Any, into: Fields | None = None, prefix: str = "", depth: int = 0) -> Fields:
    """Every data set below a group, looked at and not read."""
    into = into or Fields()
    check_whole(group)
    if depth > MAX_DEPTH:
        raise EpisodeError(f"{_where(group, '')} lies more than {MAX_DEPTH} groups deep; is it a link to itself?")
    for name, item in children(group):
        full = f"{prefix}{name}"
        check_whole(item)
        if is_group(item):
            fields_below(item, into, f"{full}/", depth + 1)
        elif why := why_skipped(item):
            into.skipped[full] = why
        else:
            into.found.append(field_of(full, item))
        if len(into.found) + len(into.skipped) > MAX_SIGNALS:
            raise EpisodeError(f"{_where(group, '')} holds more than {MAX_SIGNALS} fields; leave out what nobody needs")
    return into


def first_whole(groups: Iterable[Any]) -> Fields:
    """What lies below the first group that can be looked at; nothing where none can."""
    for group in groups:
        with contextlib.suppress(EpisodeError):
            if is_group(group):
                return fields_below(group)
    return Fields()


def why_skipped(data: Any) -> str:
    """Why a data set is no signal; empty: it is one."""
    shape, dtype = getattr(data, "shape", None), getattr(data, "dtype", None)
    if shape is None or dtype is None:
        return "is no array"
    if dtype.kind not in NUMBERS:
        return f"holds {_kind_words(dtype)}, not numbers"
    if not shape:
        return "is one number, not one per row"
    if dtype.kind == "u" and len(shape) >= 4:
        return f"holds pictures {'x'.join(map(str, shape[1:]))}"
    width = math.prod(shape[1:])
    if width > MAX_COLUMNS:
        return f"has {width:,} numbers in a row, more than {MAX_COLUMNS}"
    return "" if width else "has no columns"


def field_of(name: str, data: Any) -> Field:
    """The field that a data set of numbers is."""
    return Field(name=name, data=data, rows=int(data.shape[0]), width=math.prod(data.shape[1:]))


def values_of(item: Field) -> Array:
    """[rows, width] float64.

    Raises:
        EpisodeError: it is stored in other files, too big, or damaged; names the field.
    """
    if item.data.external or item.data.is_virtual:
        raise EpisodeError(f"field {item.name} is stored in other files, which are not opened; copy it into this file")
    check_size(item.rows * item.width, f"field {item.name}")
    try:
        with np.errstate(all="ignore"):  # floats of odd sizes
            return np.asarray(item.data[()], np.float64).reshape(item.rows, item.width)
    except READ_ERRORS as error:
        words = " ".join(str(error).split())[:160]
        raise EpisodeError(f"field {item.name} can't be read ({words}); is the file cut short? copy it again") from None


def matrix_field(item: Any, name: str) -> Field:
    """A field that must be there.

    Raises:
        EpisodeError: it is missing or no array of numbers over rows.
    """
    if item is None:
        raise EpisodeError(f"field {name} is missing")
    if why := "is a group of several fields" if is_group(item) else why_skipped(item):
        shape = f" ({item.dtype} {item.shape})" if hasattr(item, "dtype") else ""
        raise EpisodeError(f"field {name} {why}{shape}, must be an array of numbers with one row per step")
    return field_of(name, item)


def signal_of(item: Field, times_s: Array) -> Signal:
    return Signal(
        name=item.name,
        columns=columns_of(item.data.shape[1:]),
        times_s=times_s,
        values=values_of(item),
        unit=text_attribute(item.data, "units") or text_attribute(item.data, "unit"),
    )


def readable(fields: list[Field], times_s: Callable[[int], Array]) -> tuple[dict[str, Signal], str]:
    """The fields that can be read, and what is wrong with the first that can't; empty: nothing.

    Args:
        times_s: the times of so many rows.

    Raises:
        EpisodeError: they are too big.
    """
    signals: dict[str, Signal] = {}
    damage = ""
    check_size(sum(item.rows * item.width for item in fields), "the session")
    grids: dict[int, Array] = {}
    for item in fields:
        if item.rows not in grids:
            grids[item.rows] = times_s(item.rows)
        try:
            signals[item.name] = signal_of(item, grids[item.rows])
        except EpisodeError as error:
            damage = damage or str(error)
    return signals, damage


def counted_s(rows: int, rate_hz: float | None) -> Array:
    """[rows] times by the rate, or by the number of the row where there is none."""
    return np.arange(rows, dtype=np.float64) / (rate_hz or 1.0)


def damaged(name: str, error: EpisodeError, skip: bool) -> Session:
    """A session of which nothing could be read, or the error itself.

    Raises:
        EpisodeError: unless damage is skipped.
    """
    words = after(f"session {name}: ", error)
    if not skip:
        raise EpisodeError(f"{words}; {DAMAGED}") from None
    return Session(name=name, signals={}, damage=words)


def told_skipped(skipped: Mapping[str, str]) -> tuple[str, ...]:
    """Notes on fields that are no signals."""
    return tuple(f"field {name} is skipped: it {why}" for name, why in sorted(skipped.items()))


def text_attribute(item: Any, name: str) -> str:
    """A text that a group or file carries; empty: none, or it isn't text."""
    try:
        value = item.attrs.get(name)
    except READ_ERRORS:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def number_attribute(item: Any, name: str) -> float | None:
    """A finite number that a group or file carries; None: none."""
    try:
        value = item.attrs.get(name)
        number = float(value) if value is not None and np.ndim(value) == 0 and not isinstance(value, str) else math.nan
    except READ_ERRORS:
        return None
    return number if math.isfinite(number) else None


def _kind_words(dtype: np.dtype[Any]) -> str:
    return {"O": "texts or lists of various lengths", "S": "texts", "V": "records", "c": "complex numbers"}.get(
        dtype.kind, f"{dtype}"
    )


def _where(group: Any, name: str) -> str:
    return f"{str(group.name).rstrip('/')}/{name}".rstrip("/") or "/"
