"""Message definitions of ROS 2, parsed from their own text into types that a decoder can walk.

Promises
  - A definition is data: nothing of it is run, it can't make a reader recurse for ever, and every element of every type
    takes at least one byte, so that no count in a message can keep a reader busy beyond the message's own bytes.
  - Constants, defaults and comments take no room and are left out.
Text: the form of MCAP's `ros2msg` encoding (https://mcap.dev/spec/registry): the type's own lines, then one section for
each type that it is made of, below a line of `=` and a line `MSG: package/Name`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..contract.errors import EpisodeError
from .common_messages import COMMON

MAX_DEFINITION_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_FIELDS = 4096
SCALARS = {
    "bool": ("?", 1),
    "byte": ("B", 1),
    "char": ("B", 1),
    "int8": ("b", 1),
    "uint8": ("B", 1),
    "int16": ("h", 2),
    "uint16": ("H", 2),
    "int32": ("i", 4),
    "uint32": ("I", 4),
    "int64": ("q", 8),
    "uint64": ("Q", 8),
    "float32": ("f", 4),
    "float64": ("d", 8),
}
"""Format letter and size of each."""
TIME = ("builtin_interfaces/Time", "builtin_interfaces/Duration")
_SEPARATOR = re.compile(r"^=+[ \t]*$", re.MULTILINE)
_CONSTANT = re.compile(r"^[\w/]+(<=\d+)?\s+[A-Za-z]\w*\s*=")
_FIELD = re.compile(r"^([A-Za-z][\w/]*)(<=\d{1,9})?(\[(<=)?(\d{0,9})\])?\s+([A-Za-z]\w*)(\s.*)?$")
_NAME = re.compile(r"^[A-Za-z]\w*/[A-Za-z]\w*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldType:
    """A field of a message.

    Attributes:
        base: a key of SCALARS, "string", one of TIME, or the message's own name.
        parts: fields of the message that it is; None for scalars, strings and times.
        count: None: one; -1: a list with its length before it; else a fixed number, above 0.
    """

    name: str
    base: str
    parts: tuple[FieldType, ...] | None
    count: int | None


def short(name: str) -> str:
    """`package/Name` of `package/msg/Name`."""
    return name.replace("/msg/", "/")


def parse(name: str, text: str) -> tuple[FieldType, ...]:
    """The fields of a type.

    Raises:
        EpisodeError: the text is no definition that can be read, and why.
    """
    if len(text) > MAX_DEFINITION_BYTES:
        raise EpisodeError(f"its definition is {len(text):,} bytes long, at most {MAX_DEFINITION_BYTES:,}")
    own, *sections = _SEPARATOR.split(text)
    texts = {short(name): own}
    for section in sections:
        title, _, body = section.strip().partition("\n")
        if not title.startswith("MSG: "):
            raise EpisodeError(f"its definition has the section {title[:60]!r}, must begin with 'MSG: '")
        texts[short(title.removeprefix("MSG: ").strip())] = body
    return _resolve(short(name), texts.get, ())


def known(name: str, written: str = "") -> tuple[FieldType, ...]:
    """The fields of a type whose recording doesn't define it: by a common message, or by the sourced ROS workspace.

    Args:
        written: how its recording defines it, in words that are not read here, such as ros2idl; empty: it does not.

    Raises:
        EpisodeError: nobody here knows it.
    """
    if written and _installed(short(name)) is None:
        package, _, kind = short(name)[:80].partition("/")
        raise EpisodeError(
            f"its definition is written as {written}, and only ros2msg is read; source the ROS workspace that has "
            f"share/{package}/msg/{kind}.msg, and the same command reads it"
        )
    return _resolve(short(name), _installed, ())


def _installed(name: str) -> str | None:
    if name in COMMON:
        return COMMON[name]
    package, _, kind = name.partition("/")
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        path = Path(prefix) / "share" / package / "msg" / f"{kind}.msg"
        if prefix and path.is_file() and path.stat().st_size <= MAX_DEFINITION_BYTES:
            return path.read_text(encoding="utf-8", errors="replace")
    return None


def _resolve(name: str, find: Callable[[str], str | None], above: tuple[str, ...]) -> tuple[FieldType, ...]:
    if name in above or len(above) >= MAX_DEPTH:
        raise EpisodeError(f"its definition of {name} holds itself or goes more than {MAX_DEPTH} deep")
    text = find(name) if _NAME.match(name) else None
    if text is None:
        raise EpisodeError(
            f"the definition of {name[:80]} is not in the recording and is no common message's; source the ROS "
            "workspace that has it, or record as MCAP, which keeps definitions"
        )
    fields = tuple(
        _field(line, name, find, (*above, name)) for line in (_code(raw) for raw in text.splitlines()) if line
    )
    if len(fields) > MAX_FIELDS:
        raise EpisodeError(f"its definition of {name} has {len(fields)} fields, at most {MAX_FIELDS}")
    return fields


def _code(line: str) -> str:
    """A line without comment; empty for constants."""
    line = line.strip()
    return "" if _CONSTANT.match(line) else line.partition("#")[0].strip()


def _field(line: str, owner: str, find: Callable[[str], str | None], above: tuple[str, ...]) -> FieldType:
    match = _FIELD.match(line)
    if match is None:
        raise EpisodeError(f"its definition of {owner} has the line {line[:60]!r}, which is no field")
    base, _, brackets, at_most, size, name, _ = match.groups()
    count = None if brackets is None else -1 if at_most or not size else int(size)
    if count == 0:
        raise EpisodeError(f"its definition of {owner} has a list of fixed length 0 ({line[:60]!r})")
    if base == "wstring":
        raise EpisodeError(f"its definition of {owner} has the wide string {name}, which is not read")
    if base in SCALARS or base == "string":
        return FieldType(name=name, base=base, parts=None, count=count)
    full = "std_msgs/Header" if base == "Header" else short(base) if "/" in base else f"{owner.split('/')[0]}/{base}"
    if full in TIME:
        return FieldType(name=name, base=full, parts=None, count=count)
    return FieldType(name=name, base=full, parts=_resolve(full, find, above), count=count)
