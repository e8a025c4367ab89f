"""D4RL's HDF5 files (Fu et al. 2020): flat `observations` [S, W], `actions` [S, A], `terminals`, maybe `timeouts` [S].

All rows are one session, in which an episode ends where `terminals` or `timeouts` is set. Other fields with S rows
(`rewards`, `infos/...`) are signals too. The form names no rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..contract.errors import EpisodeError
from ..contract.types import Array
from .hdf5 import (
    DAMAGED,
    Field,
    Told,
    child,
    counted_s,
    fields_below,
    is_group,
    matrix_field,
    readable,
    told_skipped,
    values_of,
)
from .source import Session

FORMAT: str = "d4rl"
NEEDED = ("observations", "actions")
ENDS = ("terminals", "timeouts")


def holds(file: Any) -> bool:
    """Whether an HDF5 file has this form."""
    flat = {name for name in (*NEEDED, *ENDS) if name in file and not is_group(child(file, name))}
    return "observations" in flat or len(flat) >= 2


def told(file: Any) -> Told:
    """What is known of the file."""
    fields = fields_below(file)
    rows = matrix_field(child(file, "observations"), "observations").rows
    others = {item.name: f"has {item.rows} rows, observations {rows}" for item in fields.found if item.rows != rows}
    notes = told_skipped({**fields.skipped, **others})
    if not any(name in file for name in ENDS):
        notes = (*notes, "neither terminals nor timeouts is there: no episode's end is marked")
    return Told(notes=notes)


def sessions(file: Any, skip_damaged: bool) -> Iterator[Session]:
    """All rows, as one session.

    Raises:
        EpisodeError: a field is missing, no numbers, or of another length.
    """
    needed = [matrix_field(child(file, name), name) for name in NEEDED]
    rows = needed[0].rows
    ends = [matrix_field(child(file, name), name) for name in ENDS if name in file]
    for item in (*needed, *ends):
        _check_length(item, rows)
    if not rows:
        raise EpisodeError("field observations has 0 rows; there is nothing to ingest")
    marked = np.any([_marks(item) for item in ends], axis=0) if ends else np.zeros(rows, bool)
    found = [item for item in fields_below(file).found if item.rows == rows]
    signals, damage = readable(found, lambda count: counted_s(count, None))
    if damage and not skip_damaged:
        raise EpisodeError(f"{damage}; {DAMAGED}")
    yield Session(
        name="0", signals=signals, ends=tuple(int(k) for k in np.flatnonzero(marked)), whole=False, damage=damage
    )


def _check_length(item: Field, rows: int) -> None:
    marks = item.name in ENDS
    count = item.rows * item.width if marks else item.rows
    if count != rows:
        raise EpisodeError(f"fields differ in length: observations {rows}, {item.name} {count}; they must be the same")
    if not marks and item.data.ndim != 2:
        raise EpisodeError(f"{item.name} is {item.data.dtype} {item.data.shape}, must be a matrix of numbers")


def _marks(item: Field) -> Array:
    return values_of(item).reshape(-1) != 0
