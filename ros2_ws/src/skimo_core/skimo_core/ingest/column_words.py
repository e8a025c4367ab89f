"""Words that several parts of a mapping file share: which columns of a field, and how they are converted.

What a key means stands in `mapping_file`; every fault is a SpecError that names file and key.
"""

from __future__ import annotations

import re

from ..contract.errors import SpecError
from ..domain.tables import Table
from . import units
from .mapping import SAME, Columns, Selector

_SPAN = re.compile(r"(\d{1,6})\.\.(\d{1,6})")


def columns(row: Table, key: str, size: int, unit: str = "") -> Columns:
    """What is taken, `size` columns; 0: any."""
    count = size or 3
    factors = numbers(row, "scale", count, 1.0), numbers(row, "sign", count, 1.0)
    if any(abs(sign) != 1 for sign in factors[1]):
        raise SpecError(f"{row.where}: sign must be 1 or -1, is {factors[1]}; what multiplies is `scale`")
    long = max(map(len, factors))
    scale, sign = (given * (long // len(given)) for given in factors)
    said = row.text("unit") if "unit" in row else unit
    if said not in ("", SAME) and not units.known(said):
        raise SpecError(
            f"{row.where}: unit {said!r} is not known; known are {', '.join(units.FACTORS)}, each also per second (/s)"
        )
    return Columns(
        fields=row.texts(key) if isinstance(row.value(key), list) else (row.text(key),),
        columns=selected(row, size) if size else (),
        unit=said,
        factor=tuple(a * b for a, b in zip(scale, sign)),
        offset=numbers(row, "offset", count, 0.0),
        unwrap=flag(row, "unwrap"),
        missing=choice(row, "missing", ("refuse", "interpolate")),
    )


def numbers(row: Table, key: str, count: int, usual: float) -> tuple[float, ...]:
    if key not in row:
        return (usual,)
    if isinstance(row.value(key), list):
        return tuple(row.vector(key, count).tolist())
    return (row.number(key),)


def selected(row: Table, size: int | None) -> tuple[Selector, ...]:
    """The columns that are named, `size` of them; none named: ()."""
    for key in ("column", "columns"):
        if key not in row:
            continue
        value, found = row.value(key), list[Selector]()
        for item in value if isinstance(value, list) else [value]:
            span = _SPAN.fullmatch(item) if isinstance(item, str) else None
            if span is not None and int(span[1]) <= int(span[2]):
                found += range(int(span[1]), int(span[2]) + 1)
            elif span is None and ((isinstance(item, str) and item) or (type(item) is int and item >= 0)):
                found.append(item)
            else:
                raise SpecError(f"{row.where}: {key} must hold names, indices from 0 or FIRST..LAST, has {item!r}")
        if not found or size not in (None, len(found)):
            raise SpecError(f"{row.where}: {key} names {len(found)} columns, {size or 'some'} are wanted")
        return tuple(found)
    return ()


def flag(row: Table, key: str) -> bool:
    value = row.value(key) if key in row else False
    if not isinstance(value, bool):
        raise SpecError(f"{row.where}: {key} must be true or false, is {value!r}")
    return value


def choice(row: Table, key: str, choices: tuple[str, ...]) -> str:
    """One of some words; the first where none is said."""
    return row.choice(key, choices) if key in row else choices[0]


def least_zero(row: Table, key: str) -> float:
    value = row.number(key)
    if value < 0:
        raise SpecError(f"{row.where}: {key} must be at least 0, is {value:g}")
    return value
