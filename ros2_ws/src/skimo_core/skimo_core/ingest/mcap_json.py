"""MCAP messages written as JSON: decoded into what `rows` walks.

Objects with `sec` and `nsec` or `nanosec` alone are times. Lists of numbers become arrays, of lists of one length too.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..episodes.stream import DamageError
from .cdr import Long, Nanoseconds
from .files import MAX_COLUMNS

_NANOSECONDS = ("nsec", "nanosec", "nsecs")
_MAX_DEPTH = 32


def decode(data: bytes) -> dict[str, Any]:
    """One message.

    Raises:
        DamageError: it is no JSON object.
    """
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamageError(f"is no JSON ({str(error)[:80]})") from None
    if not isinstance(message, dict):
        raise DamageError(f"is {type(message).__name__} in JSON, must be an object")
    return {key: _plain(value, 0) for key, value in message.items()}


def _plain(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise DamageError(f"is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        return _time(value) or {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return _list(value, depth)
    return value


def _time(value: dict[str, Any]) -> Nanoseconds | None:
    rest = [key for key in value if key != "sec"]
    whole = len(rest) == 1 and rest[0] in _NANOSECONDS and all(type(part) is int for part in value.values())
    return Nanoseconds(value["sec"] * 10**9 + value[rest[0]]) if whole and "sec" in value else None


def _list(items: list[Any], depth: int) -> Any:
    if not items:
        return np.zeros(0)
    if len(items) > MAX_COLUMNS:
        return Long(len(items))
    if all(isinstance(item, (int, float)) for item in items):
        return _numbers(items)
    rows = [_plain(item, depth + 1) for item in items]
    if all(isinstance(row, np.ndarray) and row.shape == rows[0].shape for row in rows):
        flat = np.concatenate(rows)
        return Long(len(flat)) if len(flat) > MAX_COLUMNS else flat
    return rows


def _numbers(items: list[Any]) -> np.ndarray:
    try:
        return np.array(items, np.float64)
    except OverflowError:
        raise DamageError("holds a whole number that no float can hold") from None
