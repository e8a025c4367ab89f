"""robomimic's HDF5 files: `data/<demo>/{obs/*, actions, rewards, dones, states}`, `data`'s attribute env_args (JSON).

Every demonstration is a session. The rate is env_args' control_freq, the robot its `robots`, the task its env_name.
`next_obs` repeats `obs` a row later and is left out. Masks (`mask/train`, ...) say who trains on what, and are told.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from ..contract.errors import EpisodeError
from .hdf5 import (
    DAMAGED,
    Field,
    Told,
    child,
    children,
    counted_s,
    damaged,
    fields_below,
    first_whole,
    is_group,
    matrix_field,
    number_attribute,
    readable,
    text_attribute,
    told_skipped,
)
from .source import Session

FORMAT: str = "robomimic"
LEFT_OUT = "next_obs/"


def holds(file: Any) -> bool:
    """Whether an HDF5 file has this form."""
    data = child(file, "data") if "data" in file else None
    return data is not None and is_group(data) and any(str(name).startswith("demo") for name in data)


def told(file: Any) -> Told:
    """What is known of the file; of its fields by the first demonstration."""
    data = _data(file)
    first = first_whole(item for _, item in _demos(data))
    notes = list(told_skipped({k: why for k, why in first.skipped.items() if not k.startswith(LEFT_OUT)}))
    if any(item.name.startswith(LEFT_OUT) for item in first.found):
        notes.append("next_obs is left out: it repeats obs a row later")
    mask = child(file, "mask") if "mask" in file else None
    if mask is not None and is_group(mask):
        notes.append(f"masks {', '.join(name for name, _ in children(mask))[:200]} are not used: all sessions are read")
    arguments = _arguments(data)
    kwargs = arguments.get("env_kwargs")
    robots = kwargs.get("robots") if isinstance(kwargs, dict) else None
    names = [robots] if isinstance(robots, str) else robots if isinstance(robots, list) else []
    return Told(notes=tuple(notes), robot=", ".join(name for name in names if isinstance(name, str))[:80])


def sessions(file: Any, skip_damaged: bool) -> Iterator[Session]:
    """The demonstrations, by their numbers.

    Raises:
        EpisodeError: a demonstration lacks a field or its lengths differ; or `data` states another total.
    """
    data = _data(file)
    arguments = _arguments(data)
    rate_hz = _rate_hz(arguments)
    name = arguments.get("env_name")
    steps = 0
    for demo, group in _demos(data):
        try:
            made = _session(demo, group, rate_hz, name if isinstance(name, str) else "", skip_damaged)
        except EpisodeError as error:
            made = damaged(demo, error, skip_damaged)
        steps += len(made.signals["actions"].values) if "actions" in made.signals else 0
        yield made
    total = number_attribute(data, "total")
    if total is not None and total != steps and not skip_damaged:
        raise EpisodeError(
            f"data's attribute total says {total:g} steps, its demonstrations hold {steps}; some are missing: copy the "
            "file again, or read on with --skip-damaged"
        )


def _data(file: Any) -> Any:
    data = child(file, "data")
    if data is None or not is_group(data):
        raise EpisodeError("group data is missing; this is no robomimic file")
    return data


def _demos(data: Any) -> list[tuple[str, Any]]:
    found = [(name, item) for name, item in children(data) if name.startswith("demo")]
    if not found:
        raise EpisodeError("group data holds no demo_<i>; this is no robomimic file, or it is empty")
    return sorted(found, key=lambda pair: [int(part) for part in re.findall(r"\d{1,9}", pair[0])] or [-1])


def _arguments(data: Any) -> dict[str, Any]:
    try:
        found = json.loads(text_attribute(data, "env_args") or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _rate_hz(arguments: dict[str, Any]) -> float | None:
    kwargs = arguments.get("env_kwargs")
    rate = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
    usable = isinstance(rate, (int, float)) and not isinstance(rate, bool) and math.isfinite(rate) and rate > 0
    return float(rate) if usable and rate is not None else None


def _session(name: str, group: Any, rate_hz: float | None, task: str, skip_damaged: bool) -> Session:
    actions = matrix_field(child(group, "actions"), "actions")
    found = [item for item in fields_below(group).found if not item.name.startswith(LEFT_OUT)]
    samples = number_attribute(group, "num_samples")
    _check_lengths(found, actions, samples)
    signals, damage = readable(found, lambda count: counted_s(count, rate_hz))
    if damage and not skip_damaged:
        raise EpisodeError(damage)
    words = f"session {name}: {damage}; {DAMAGED}" if damage else ""
    return Session(name=name, signals=signals, rate_hz=rate_hz, task=task, damage=words)


def _check_lengths(found: list[Field], actions: Field, samples: float | None) -> None:
    for item in found:
        if item.rows != actions.rows:
            raise EpisodeError(
                f"fields differ in length: actions {actions.rows}, {item.name} {item.rows}; they must be the same"
            )
    if samples is not None and samples != actions.rows:
        raise EpisodeError(f"attribute num_samples says {samples:g} rows, actions has {actions.rows}; copy it again")
