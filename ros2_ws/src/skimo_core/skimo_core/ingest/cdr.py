"""ROS 2 messages out of their bytes (CDR, OMG DDSI-RTPS 2.5 section 10), by types parsed from their definition.

A message becomes a dict by field names: numbers, arrays of numbers [n], texts, lists of texts, `Nanoseconds` for times
and durations, dicts and lists of dicts for messages in it; `Long` stands for a list that is too long to be of use.

Promises
  - Only the bytes at hand are read: a count that they can't hold is damage, and nothing is allocated for it.
  - A message that its definition doesn't fill is damage too: a definition of another version would read nonsense.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..episodes.stream import DamageError
from .files import MAX_COLUMNS
from .message_types import SCALARS, FieldType

MAX_PADDING_BYTES = 7
_HEAD_BYTES = 4
_KINDS = {b"\0\0": ">", b"\0\1": "<"}
_MAX_TEXT = 64 << 10


class Nanoseconds(int):
    """A time or a duration."""


class Long:
    """In place of a list of more than MAX_COLUMNS elements."""

    def __init__(self, count: int) -> None:
        self.count = count


def decode(data: bytes, fields: tuple[FieldType, ...]) -> dict[str, Any]:
    """One message; see `Decoder`."""
    return Decoder(fields)(data)


class Decoder:
    """Decodes the messages of one type."""

    def __init__(self, fields: tuple[FieldType, ...]) -> None:
        self._plan = _plan(fields)

    def __call__(self, data: bytes) -> dict[str, Any]:
        """One message.

        Raises:
            DamageError: its bytes don't fit the definition.
        """
        order = _KINDS.get(bytes(data[:2]))
        if order is None or len(data) < _HEAD_BYTES:
            raise DamageError(f"begins with {bytes(data[:4])!r}, which is no plain CDR")
        reader = _Reader(data, order)
        try:
            message = reader.message(self._plan)
        except (struct.error, ValueError, OverflowError):
            raise DamageError(f"its {len(data)} bytes end within a field of its definition") from None
        left = len(data) - reader.at
        if left > MAX_PADDING_BYTES:
            raise DamageError(f"its definition leaves {left} of its {len(data)} bytes unread")
        return message


@dataclass(frozen=True, slots=True)
class _Run:
    """Single numbers that follow each other: one unpacking for all of them.

    Attributes:
        names: of the fields.
        layouts: by byte order, how they lie when the first begins so many bytes past a multiple of 8.
    """

    names: tuple[str, ...]
    layouts: dict[str, tuple[struct.Struct, ...]]


@dataclass(frozen=True, slots=True)
class _Other:
    """Any other field, and the plan of the message that it is made of."""

    field: FieldType
    plan: _Plan | None


_Plan = tuple["_Run | _Other", ...]


def _plan(fields: tuple[FieldType, ...]) -> _Plan:
    steps: list[_Run | _Other] = []
    for single, group in itertools.groupby(fields, key=lambda field: field.count is None and field.base in SCALARS):
        if single:
            run = tuple(group)
            layouts = {order: tuple(_layout(run, order, start) for start in range(8)) for order in "<>"}
            steps.append(_Run(tuple(field.name for field in run), layouts))
        else:
            steps += [_Other(field, None if field.parts is None else _plan(field.parts)) for field in group]
    return tuple(steps)


def _layout(run: tuple[FieldType, ...], order: str, start: int) -> struct.Struct:
    """The fields with the gaps that align each to its size, where the first may begin `start` bytes past a multiple."""
    letters, at = order, start
    for field in run:
        letter, size = SCALARS[field.base]
        gap = -at % size
        letters += "x" * gap + letter
        at += gap + size
    return struct.Struct(letters)


class _Reader:
    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._order, self.at = data, order, _HEAD_BYTES

    def message(self, plan: _Plan) -> dict[str, Any]:
        if not plan:  # an empty message takes one byte, as its IDL says
            self._skip(1, 1)
        message: dict[str, Any] = {}
        for step in plan:
            if isinstance(step, _Run):
                layout = step.layouts[self._order][(self.at - _HEAD_BYTES) % 8]
                message.update(zip(step.names, layout.unpack_from(self._data, self.at)))
                self.at += layout.size
            else:
                message[step.field.name] = self._field(step.field, step.plan)
        return message

    def _field(self, field: FieldType, plan: _Plan | None) -> Any:
        if field.count is None:
            return self._one(field, plan)
        count = self._count() if field.count < 0 else field.count
        if field.base in SCALARS:
            return self._array(*SCALARS[field.base], count)
        if count > len(self._data):
            raise ValueError
        items = [self._one(field, plan) for _ in range(count)]
        return Long(count) if count > MAX_COLUMNS else items

    def _one(self, field: FieldType, plan: _Plan | None) -> Any:
        if plan is not None:
            return self.message(plan)
        if field.base == "string":
            return self._text()
        start = self._skip(4, 8)
        seconds, rest = struct.unpack_from(f"{self._order}iI", self._data, start)
        return Nanoseconds(seconds * 10**9 + rest)

    def _count(self) -> int:
        start = self._skip(4, 4)
        return int.from_bytes(self._data[start : start + 4], "little" if self._order == "<" else "big")

    def _array(self, letter: str, size: int, count: int) -> Any:
        if not count:
            return np.zeros(0)
        start = self._skip(size, count * size)
        if count > MAX_COLUMNS:
            return Long(count)
        dtype = np.dtype("u1" if letter == "?" else self._order + letter)
        return np.frombuffer(self._data, dtype, count, start).astype(np.float64)

    def _text(self) -> str:
        length = self._count()
        start = self._skip(1, length)
        return self._data[start : start + min(length, _MAX_TEXT)].rstrip(b"\0").decode("utf-8", "replace")

    def _skip(self, size: int, total: int) -> int:
        """Move over so many bytes, aligned to `size`; where they begin."""
        start = self.at + -(self.at - _HEAD_BYTES) % size
        if start + total > len(self._data):
            raise ValueError
        self.at = start + total
        return start
