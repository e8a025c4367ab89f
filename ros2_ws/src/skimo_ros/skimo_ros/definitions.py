"""The text of ROS message definitions with everything that they contain, as recordings carry it (MCAP's "ros2msg").

Read from the installed interface packages' share folders: those in AMENT_PREFIX_PATH, then this interpreter's prefix
(where the wheels from PyPI put them).
"""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from skimo_core.contract.errors import SetupError

SEPARATOR = "=" * 80
_FIELD = re.compile(r"^\s*([A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z][A-Za-z0-9_]*)*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]")
_PRIMITIVE = re.compile(r"^(u?int(8|16|32|64)|float(32|64)|bool|byte|char|w?string)$")


def type_name(message: type) -> str:
    """ "package/msg/Name" of a generated message class."""
    package, kind, _ = message.__module__.split(".", 2)
    return f"{package}/{kind}/{message.__name__}"


@lru_cache
def full_definition(name: str) -> str:
    """The definition of "package/msg/Name", then those of all that it contains.

    Raises:
        SetupError: an interface package's definitions are not installed.
    """
    parts, todo, seen = [], [name], {name}
    while todo:
        current = todo.pop(0)
        text = _read(current)
        package = current.split("/")[0]
        parts.append(text if current == name else f"MSG: {package}/{current.split('/')[-1]}\n{text}")
        for inner in _contained(text, package):
            if inner not in seen:
                seen.add(inner)
                todo.append(inner)
    return f"\n{SEPARATOR}\n".join(parts)


def _contained(text: str, package: str) -> list[str]:
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line.split("#")[0])
        if match is None or _PRIMITIVE.match(match[1]):
            continue
        parts = match[1].split("/")
        found.append(f"{parts[0] if len(parts) > 1 else package}/msg/{parts[-1]}")
    return found


def _read(name: str) -> str:
    package, kind, message = name.split("/")
    prefixes: list[Any] = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for prefix in (*prefixes, sys.prefix):
        path = Path(prefix) / "share" / package / kind / f"{message}.msg"
        if path.is_file():
            return path.read_text(encoding="utf-8").strip()
    raise SetupError(f"the definition of {name} is not installed; build the interfaces, or source the ROS workspace")
