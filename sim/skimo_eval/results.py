"""Result files of `skimo eval`: what is in one, and reading it back.

    provenance, bundle, bundle_id, domain, task, stack, subtasks, seed, episodes      what was run
    conditions: {NAME: figures of that condition, with its why and every episode}
    reliability                            the bins of all conditions together (statistics)
A run under one condition has that condition's figures beside the rest, and its name as `condition`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from skimo_core.contract.errors import SpecError

from .statistics import pooled

Results = dict[str, Any]
MAX_BYTES = 256 * 1024 * 1024
NEEDED = ("bundle_id", "task", "conditions", "subtasks")
IN_EPISODE = ("seed", "task", "subtasks_done")
FLAT_LIST = re.compile(r'\[\n\s+([^\[\]{}"]*?)\n\s+\]')
"""A list of bare numbers, as json lays it out."""


def dump(results: Results) -> str:
    """As JSON, lists of numbers on one line each."""
    text = json.dumps(results, indent=1)
    return FLAT_LIST.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def write_results(path: Path, results: Results) -> None:
    """Write `dump(results)`, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump(results), encoding="utf-8")


def gathered(header: Results, conditions: dict[str, Results]) -> Results:
    """A run under some conditions."""
    tables = [figures["reliability"] for figures in conditions.values() if figures.get("reliability")]
    return header | {"conditions": conditions, "reliability": pooled(tables) if tables else None}


def flat(results: Results) -> Results:
    """A run under one condition, its figures beside the rest."""
    ((name, figures),) = results["conditions"].items()
    return {key: value for key, value in results.items() if key != "conditions"} | figures | {"condition": name}


def read_results(path: Path) -> Results:
    """Read a result file, of one condition or several.

    Raises:
        SpecError: it can't be read, or is no such file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"{path} is larger than {MAX_BYTES} bytes; is it a result file of skimo eval?")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(f"{path} can't be read as JSON: {error}") from error
    if isinstance(data, dict) and "conditions" not in data and "condition" in data:
        data = data | {"conditions": {data["condition"]: data}}
    if not isinstance(data, dict) or (missing := [key for key in NEEDED if key not in data]):
        lacks = f"lacks {missing[0]!r}" if isinstance(data, dict) else "is no table"
        raise SpecError(f"{path} {lacks}; give a file that skimo eval wrote with --json or --out")
    _check_episodes(path, data["conditions"])
    return data


def _check_episodes(path: Path, conditions: Any) -> None:
    for name, figures in conditions.items() if isinstance(conditions, dict) else ():
        episodes = figures.get("episodes_detail") if isinstance(figures, dict) else None
        whole = isinstance(episodes, list) and episodes and all(isinstance(e, dict) for e in episodes)
        if not whole or any(key not in episode for episode in episodes or () for key in IN_EPISODE):
            raise SpecError(
                f"{path}: condition {name!r} holds no episodes with {', '.join(IN_EPISODE)}; run skimo eval again"
            )
    if not isinstance(conditions, dict) or not conditions:
        raise SpecError(f"{path}: holds no condition; run skimo eval again")
