"""Reading of checked values out of a parsed YAML table; every fault becomes a SpecError that names file, key and value.

For data files of domains, robots and cells. Arrays come back read-only, float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import yaml

from ..contract.errors import SpecError
from ..contract.types import Array
from .rotations import matrix


def read_yaml(text: str, where: str) -> Any:
    """Parse YAML.

    Raises:
        SpecError: it isn't YAML.
    """
    try:
        return yaml.safe_load(text)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # no such date; brackets without end
        raise SpecError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


class Table:
    """A mapping at `where` (file and path of keys); remembers what was read, so that a misspelt key can be refused."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise SpecError(f"{where} must be a table of keys, is {_short(data)}")
        self.where = where
        self._data = data
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        """All keys, as text."""
        return iter(str(key) for key in self._data)

    def value(self, key: str) -> Any:
        """What stands under `key`."""
        self._read.add(key)
        if key not in self._data:
            raise SpecError(f"{self.where} has no {key!r}; add it")
        return self._data[key]

    def table(self, key: str) -> Table:
        """The table under `key`."""
        return Table(self.value(key), f"{self.where}: {key}")

    def tables(self, key: str) -> list[Table]:
        """The list of tables under `key`."""
        rows = self.value(key)
        if not isinstance(rows, list):
            raise SpecError(f"{self.where}: {key} must be a list, is {_short(rows)}")
        return [Table(row, f"{self.where}: {key}[{k}]") for k, row in enumerate(rows)]

    def number(self, key: str, *, positive: bool = False) -> float:
        """A finite number, above 0 if `positive`."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise SpecError(f"{self.where}: {key} must be a finite number, is {_short(value)}")
        if positive and value <= 0:
            raise SpecError(f"{self.where}: {key} must be above 0, is {value:g}")
        return float(value)

    def whole(self, key: str, *, low: int) -> int:
        """A whole number of at least `low`."""
        value = self.value(key)
        if type(value) is not int or value < low:
            raise SpecError(f"{self.where}: {key} must be a whole number of at least {low}, is {_short(value)}")
        return value

    def vector(self, key: str, size: int | None, *, positive: bool = False) -> Array:
        """`size` finite numbers (None: one or more), all above 0 if `positive`."""
        value = self.value(key)
        numbers = isinstance(value, list) and all(type(x) in (int, float) and np.isfinite(x) for x in value)
        if not numbers or not value or size not in (None, len(value)):
            raise SpecError(f"{self.where}: {key} must hold {size or 'some'} finite numbers, has {_short(value)}")
        if positive and min(value) <= 0:
            raise SpecError(f"{self.where}: {key} must hold numbers above 0, has {_short(value)}")
        array = np.array(value, dtype=np.float64)
        array.flags.writeable = False
        return array

    def direction(self, key: str, size: int) -> Array:
        """A vector of length 1, given to three digits or more and made exact."""
        vector = self.vector(key, size)
        length = float(np.linalg.norm(vector))
        if abs(length - 1) > 1e-3:
            raise SpecError(f"{self.where}: {key} must have length 1, has {length:g}")
        return vector / length

    def rotation(self, key: str) -> Array:
        """The matrix [3, 3] of a unit quaternion w, x, y, z."""
        return matrix(self.direction(key, 4))

    def text(self, key: str) -> str:
        """Text that isn't empty."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise SpecError(f"{self.where}: {key} must be text, is {_short(value)}")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of some words."""
        value = self.text(key)
        if value not in choices:
            raise SpecError(f"{self.where}: {key} must be one of {', '.join(choices)}, is {_short(value)}")
        return value

    def texts(self, key: str, size: int | None = None) -> tuple[str, ...]:
        """Texts, each once; exactly `size` of them if given."""
        value = self.value(key)
        if not isinstance(value, list) or not all(isinstance(x, str) and x for x in value):
            raise SpecError(f"{self.where}: {key} must be a list of texts, is {_short(value)}")
        if size is not None and len(value) != size:
            raise SpecError(f"{self.where}: {key} must hold {size} texts, has {len(value)}")
        if len(set(value)) != len(value):
            raise SpecError(f"{self.where}: {key} names something twice: {_short(value)}")
        return tuple(value)

    def refuse_others(self, besides: Iterable[str] = ()) -> None:
        """Refuse keys that nobody read: a misspelt one would be lost in silence."""
        unknown = sorted(set(self) - self._read - set(besides))
        if unknown:
            raise SpecError(f"{self.where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(self._read))}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
