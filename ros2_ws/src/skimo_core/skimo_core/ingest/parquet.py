"""Parquet files read within bounds, and their columns as numbers; for `lerobot`.

Promises
  - Only the columns that are asked for are read, and never more numbers than a session may have, as the file's own
    footer counts them before anything is unpacked.
  - Rows without a value, lists of another length than declared and texts are refused by file, column and value.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.errors import EpisodeError, SetupError
from ..contract.types import Array
from .files import check_size, kind_of

MAX_ROWS = 20_000_000
"""In a file."""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise SetupError("reading LeRobot's Parquet files needs pyarrow: pip install 'skimo_core[ingest]'") from None
    kind = kind_of(path)
    if kind != "parquet":
        raise EpisodeError(f"{path.name}: is no Parquet file ({kind or 'of no known format'}); fetch or copy it again")
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        words = " ".join(str(error).split())[:160]
        raise EpisodeError(f"{path.name}: can't be read as Parquet ({words}); is it cut short? copy it again") from None


def read_table(path: Path, wanted: Sequence[str], also: Sequence[str]) -> Any:
    """A file's rows.

    Args:
        wanted: columns that must be there.
        also: columns that are read where they are there.

    Raises:
        EpisodeError: it is a pointer, damaged, lacks a column or is too big.
        SetupError: pyarrow is not installed.
    """
    with _opened(path) as file:
        there = file.schema_arrow.names
        if missing := [name for name in wanted if name not in there]:
            raise EpisodeError(f"{path.name}: has no column {missing[0]!r} (it has {', '.join(there)[:200]})")
        columns = [*wanted, *(name for name in also if name in there)]
        _check_rows(file, path, columns)
        return file.read(columns=columns)


def read_rows(path: Path, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """A small file's rows as tables of plain values, of those columns that are there.

    Raises:
        EpisodeError: it is a pointer, damaged or too big.
        SetupError: pyarrow is not installed.
    """
    with _opened(path) as file:
        columns = [name for name in wanted if name in file.schema_arrow.names]
        _check_rows(file, path, columns)
        return file.read(columns=columns).to_pylist()


def _check_rows(file: Any, path: Path, columns: Sequence[str]) -> None:
    meta = file.metadata
    if not 0 <= meta.num_rows <= MAX_ROWS:
        raise EpisodeError(f"{path.name}: declares {meta.num_rows:,} rows, bound {MAX_ROWS:,}; split the file")
    total = 0
    for group in range(meta.num_row_groups):
        part = meta.row_group(group)
        for k in range(part.num_columns):
            column = part.column(k)
            name = column.path_in_schema
            if any(name == wanted or name.startswith(f"{wanted}.") for wanted in columns):
                total += max(column.num_values, 0)
    check_size(total, f"{path.name}: it")


def column_values(table: Any, name: str, shape: tuple[int, ...], where: str) -> Array:
    """A column as [rows, width] float64, by the shape of one row.

    Raises:
        EpisodeError: it is missing, no numbers, has empty rows or rows of another length.
    """
    import pyarrow as pa

    if name not in table.column_names:
        raise EpisodeError(f"{where}: has no column {name!r}")
    array = table.column(name).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    width = math.prod(shape)
    array = getattr(array, "storage", array)  # of an extension type, such as a tensor of fixed shape
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        if array.null_count:
            raise EpisodeError(f"{where}: column {name!r} has no value in {array.null_count} rows; fill or cut them")
        lengths = np.asarray(array.value_lengths()) if not pa.types.is_fixed_size_list(array.type) else None
        if lengths is not None and len(lengths) and (odd := lengths != lengths[0]).any():
            row = int(np.argmax(odd))
            raise EpisodeError(f"{where}: column {name!r} has {lengths[row]} values at row {row}, {lengths[0]} before")
        array = array.flatten()
    numeric = pa.types.is_floating(array.type) or pa.types.is_integer(array.type) or pa.types.is_boolean(array.type)
    if not numeric:
        raise EpisodeError(f"{where}: column {name!r} holds {array.type}, must hold numbers")
    if array.null_count:
        raise EpisodeError(f"{where}: column {name!r} has no value in {array.null_count} places; fill or cut them")
    values = np.asarray(array.to_numpy(zero_copy_only=False), np.float64)
    if values.size != table.num_rows * width:
        each = values.size / max(table.num_rows, 1)
        raise EpisodeError(f"{where}: column {name!r} has {each:g} values in a row, must have {width} {list(shape)}")
    return values.reshape(table.num_rows, width)
