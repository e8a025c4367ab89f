"""Minari's HDF5 files: groups `episode_<i>` with `observations` [T+1, W] and `actions` [T, A], each a field or a group.

Every episode is a session. The environment's name, where `metadata.json` beside the file has one, is no robot; it is
told in the notes. The form names no rate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..contract.errors import EpisodeError
from .hdf5 import (
    DAMAGED,
    Fields,
    Told,
    child,
    children,
    counted_s,
    damaged,
    fields_below,
    first_whole,
    readable,
    told_skipped,
)
from .source import Session

FORMAT: str = "minari"
_NUMBERED = re.compile(r"episode_([0-9]{1,9})")


def holds(file: Any) -> bool:
    """Whether an HDF5 file has this form."""
    return any(str(name).startswith("episode_") for name in file)


def told(file: Any) -> Told:
    """What is known of the file, by its first episode."""
    groups = _numbered(file)
    return Told(notes=told_skipped(first_whole(groups.values()).skipped))


def sessions(file: Any, skip_damaged: bool) -> Iterator[Session]:
    """The episodes, by their numbers.

    Raises:
        EpisodeError: a group is not named episode_<number>; an episode lacks a field or its lengths differ.
    """
    for name, group in _numbered(file).items():
        try:
            yield _session(name, group, skip_damaged)
        except EpisodeError as error:
            yield damaged(name, error, skip_damaged)


def _numbered(file: Any) -> dict[str, Any]:
    found: dict[str, tuple[int, Any]] = {}
    for name, item in children(file):
        if not name.startswith("episode_"):
            continue
        match = _NUMBERED.fullmatch(name)
        if match is None:
            raise EpisodeError(f"group {name[:60]!r} is not named episode_<number>; rename it, or take it out")
        found[name] = (int(match[1]), item)
    return {name: item for name, (_, item) in sorted(found.items(), key=lambda pair: pair[1][0])}


def _session(name: str, group: Any, skip_damaged: bool) -> Session:
    for field in ("observations", "actions"):
        if child(group, field) is None:
            raise EpisodeError(f"field {field} is missing")
    fields = fields_below(group)
    steps = _steps(fields)
    kept = [item for item in fields.found if item.rows in (steps, steps + 1)]
    signals, damage = readable(kept, lambda count: counted_s(count, None))
    if damage and not skip_damaged:
        raise EpisodeError(damage)
    return Session(name=name, signals=signals, damage=f"session {name}: {damage}; {DAMAGED}" if damage else "")


def _steps(fields: Fields) -> int:
    """The number of actions, which all actions have and observations have at most one row more than."""
    rows: dict[str, int] = {}
    for kind in ("observations", "actions"):
        of_kind = [item for item in fields.found if item.name.split("/")[0] == kind]
        if not of_kind:
            why = next((f"{name} {why}" for name, why in fields.skipped.items() if name.startswith(kind)), "is empty")
            raise EpisodeError(f"field {kind} holds no numbers over rows ({why})")
        if odd := [item for item in of_kind if item.rows != of_kind[0].rows]:
            first = of_kind[0]
            raise EpisodeError(
                f"fields differ in length: {first.name} {first.rows}, {odd[0].name} {odd[0].rows}; must be the same"
            )
        rows[kind] = of_kind[0].rows
    if not 0 <= rows["observations"] - rows["actions"] <= 1:
        raise EpisodeError(
            f"fields differ in length: observations {rows['observations']}, actions {rows['actions']}; observations "
            "must have as many rows as actions, or one more"
        )
    return rows["actions"]
