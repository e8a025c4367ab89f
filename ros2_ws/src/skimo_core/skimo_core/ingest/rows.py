"""Messages of a topic become signals: numbers in them are columns, each message is a row.

    a message's single numbers          signal `/topic`, columns by path: position.x
    a list of numbers `field`           signal `/topic.field`, columns by the names that stand beside it in `name`,
                                        `names` or `joint_names`, in whatever order each message has them; else 0, 1, ..
    a list of messages `field`          signal `/topic.field`, columns 0.position.x, or by the names beside it
    transforms (TFMessage)              signal `/topic.child_frame` for each child frame
    a joint trajectory of one point     its point at the message's time; of several: each at its time from the start, as
                                        far as no next message takes its place

Promises
  - Nothing is filled in: what one message has and another hasn't is NaN there; where a whole list is empty there is no
    row. Both are told.
  - Texts, pictures and long lists are left out and told.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contract.errors import EpisodeError
from ..contract.types import Array
from .cdr import Long, Nanoseconds
from .files import MAX_COLUMNS, MAX_SIGNALS, check_size

NAME_FIELDS = ("name", "names", "joint_names")
STAMP_FIELDS = ("header", "timestamp", "stamp")
MAX_KEPT_NAMES = 8
_MAX_DEPTH = 16
NO_STAMP = -1
"""In place of a header's time where there is none."""


@dataclass(slots=True)
class _Block:
    """Rows of one set of columns."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class _Table:
    """One signal's rows."""

    blocks: dict[tuple[str, ...], _Block] = field(default_factory=dict)
    columns: dict[str, None] = field(default_factory=dict)

    def add(self, row: int, columns: tuple[str, ...], values: Any, where: str) -> None:
        block = self.blocks.get(columns)
        if block is None:
            if len(set(columns)) < len(columns):
                twice = next(name for name in columns if columns.count(name) > 1)
                raise EpisodeError(f"{where} names {twice[:60]!r} twice; its values can't be told apart")
            block = self.blocks.setdefault(columns, _Block())
            self.columns.update(dict.fromkeys(columns))
        block.rows.append(row)
        block.values.extend(values)

    def matrix(self) -> tuple[np.ndarray, Array, int]:
        """Row numbers [R], values [R, W] and how many of them no message had."""
        parts = [np.frombuffer(block.rows, np.int64) for block in self.blocks.values()]
        rows = np.sort(np.concatenate(parts))
        if len(self.blocks) == 1:
            (block,) = self.blocks.values()
            return rows, np.frombuffer(block.values, np.float64).reshape(len(rows), -1).copy(), 0
        check_size(len(rows) * len(self.columns), "a topic")
        values = np.full((len(rows), len(self.columns)), np.nan)
        place = {name: k for k, name in enumerate(self.columns)}
        filled = 0
        for (columns, block), part in zip(self.blocks.items(), parts):
            at = np.searchsorted(rows, part)
            into = np.array([place[name] for name in columns])
            values[at[:, None], into[None, :]] = np.frombuffer(block.values).reshape(len(part), -1)
            filled += len(block.values)
        return rows, values, values.size - filled


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A signal before its times are known to be those of header or log.

    Attributes:
        rows: [R] numbers of the topic's rows that it has.
        missing: values that no message had, NaN in `values`.
    """

    name: str
    columns: tuple[str, ...]
    rows: np.ndarray
    values: Array
    missing: int


class Rows:
    """The rows of one topic, or of one child frame of one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log_ns: array[int] = array("q")
        self.stamp_ns: array[int] = array("q")
        self.frames: dict[str, None] = {}
        self.skipped: dict[str, str] = {}
        self.values = 0
        self._tables: dict[str, _Table] = {}

    def add(self, log_ns: int, stamp_ns: int, message: dict[str, Any]) -> None:
        """One row.

        Raises:
            EpisodeError: names beside a list don't go with it.
        """
        self.log_ns.append(log_ns)
        self.stamp_ns.append(stamp_ns)
        names: list[str] = []
        numbers: list[float] = []
        self._walk(message, "", "", names, numbers, 0)
        self._put("", tuple(names), numbers)

    def gathered(self) -> Iterator[Gathered]:
        """Its signals."""
        for suffix, table in self._tables.items():
            rows, values, missing = table.matrix()
            yield Gathered(
                name=f"{self.name}.{suffix}" if suffix else self.name,
                columns=tuple(table.columns),
                rows=rows,
                values=values,
                missing=missing,
            )

    def _put(self, suffix: str, columns: tuple[str, ...], values: Any) -> None:
        if not columns:
            return
        if len(columns) > MAX_COLUMNS:
            self.skipped[suffix or "its numbers"] = f"has {len(columns):,} numbers, more than {MAX_COLUMNS}"
            return
        if suffix not in self._tables and len(self._tables) >= MAX_SIGNALS:
            raise EpisodeError(f"{self.name} has more than {MAX_SIGNALS} lists of numbers; leave the topic out")
        self.values += len(columns)
        self._tables.setdefault(suffix, _Table()).add(len(self.log_ns) - 1, columns, values, self.name)

    def _walk(
        self, message: dict[str, Any], suffix: str, path: str, names: list[str], numbers: list[float], depth: int
    ) -> None:
        """Single numbers go to `names` and `numbers`; lists become signals of their own, except within a list."""
        labels = _labels(message)
        for key, value in message.items():
            full = f"{path}.{key}" if path else key
            if type(value) is float:  # most are
                names.append(full)
                numbers.append(value)
                continue
            if not depth and key in STAMP_FIELDS and (isinstance(value, Nanoseconds) or "stamp" in _keys(value)):
                continue
            if isinstance(value, Nanoseconds):
                names.append(full)
                numbers.append(value / 1e9)
            elif isinstance(value, (int, float)):
                names.append(full)
                numbers.append(_number(value))
            elif isinstance(value, dict):
                if depth < _MAX_DEPTH:
                    self._walk(value, suffix, full, names, numbers, depth + 1)
            elif isinstance(value, np.ndarray):
                columns = self._columns(value, labels, full)
                if suffix:  # within a list of messages
                    names += [f"{full}.{column}" for column in columns]
                    numbers += value.tolist()
                else:
                    self._put(full, columns, value)
            elif isinstance(value, list):
                self._list(value, labels, key, full, suffix, names, numbers, depth)
            elif isinstance(value, Long):
                self.skipped[full] = f"has {value.count:,} elements, more than {MAX_COLUMNS}"
            elif value is not None and key not in ("frame_id", "child_frame_id", *NAME_FIELDS):
                self.skipped[full] = "is text"

    def _list(
        self,
        items: list[Any],
        labels: tuple[str, ...],
        key: str,
        full: str,
        suffix: str,
        names: list[str],
        numbers: list[float],
        depth: int,
    ) -> None:
        """Messages in a list, each below its name or number."""
        messages = [item for item in items if isinstance(item, dict)]
        if not messages or len(messages) < len(items):
            if items and key not in NAME_FIELDS:
                self.skipped[full] = f"is a list of {'texts' if isinstance(items[0], str) else 'various things'}"
            return
        if depth >= _MAX_DEPTH:
            return
        mine: list[str] = names if suffix else []
        held: list[float] = numbers if suffix else []
        heads = labels if len(labels) == len(items) else tuple(str(k) for k in range(len(items)))
        for head, item in zip(heads, messages):
            self._walk(item, suffix or full, f"{full}.{head}" if suffix else head, mine, held, depth + 1)
        if not suffix:
            self._put(full, tuple(mine), held)

    def _columns(self, values: np.ndarray, labels: tuple[str, ...], full: str) -> tuple[str, ...]:
        if labels and len(values) and len(labels) != len(values):
            raise EpisodeError(
                f"field {full} has {len(values)} values for {len(labels)} names ({', '.join(labels)[:80]}); which is "
                "which can't be known"
            )
        return labels if labels and len(values) else _COUNTED[: len(values)]


def _labels(message: dict[str, Any]) -> tuple[str, ...]:
    """The names that go with the lists of a message; empty: it has none."""
    for key in NAME_FIELDS:
        found = message.get(key)
        if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
            return tuple(found)
    return ()


def _keys(value: Any) -> Any:
    return value if isinstance(value, dict) else ()


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of JSON
        return math.inf if value > 0 else -math.inf


_COUNTED = tuple(str(k) for k in range(MAX_COLUMNS))


def stamp_of(message: dict[str, Any]) -> int:
    """The time that a message itself carries, ns; NO_STAMP: none."""
    for key in STAMP_FIELDS:
        value = message.get(key)
        value = value.get("stamp") if isinstance(value, dict) else value
        if isinstance(value, Nanoseconds):
            return int(value)
    return NO_STAMP
