"""What is installed in this interpreter: our distributions, what they require, and whether it can be imported.

Everything is read from the distributions' own metadata, so what another one requires tomorrow is looked at too. Of an
extra that nobody asked for only a warning says what it would bring. Nothing is downloaded or asked on a network.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util

from .finding import Asked, Check, Finding, fail, imports, ok, warn

OURS = "skimo"
OLDEST, NEWEST_TRIED = (3, 10), (3, 13)
UNASKED_EXTRAS = ("test",)
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_BOUND = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*([0-9][0-9A-Za-z.*+!-]*)")
IMPORTED = ("numpy", "yaml", "zmq", "msgpack", "mcap", "mcap_ros2", "ruckig", "lz4", "zstandard", "tyro")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a distribution wants of another: `name`, its bounds as they are written, and the extra that wants it."""

    name: str
    bounds: str = ""
    extra: str = ""


def python(version: tuple[int, int] = sys.version_info[:2], where: str = sys.executable) -> Finding:
    """The interpreter."""
    text = ".".join(map(str, version))
    if version < OLDEST:
        return fail("python", f"{text} at {where}", f"skimo needs {'.'.join(map(str, OLDEST))} or later")
    if version > NEWEST_TRIED:
        tried = ".".join(map(str, NEWEST_TRIED))
        return warn("python", f"{text} at {where}: newer than what was tried", f"use {tried} if something fails")
    return ok("python", f"{text} at {where}")


def our_distributions() -> dict[str, metadata.Distribution]:
    """What of ours is installed, by its name."""
    found = {}
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").replace("-", "_")
        if name == OURS or name.startswith(f"{OURS}_"):
            found.setdefault(name, distribution)
    return dict(sorted(found.items()))


def agreement(versions: Mapping[str, str]) -> Finding:
    """Whether our distributions are of one version: they speak to each other over sockets, topics and files."""
    rows = ", ".join(f"{name} {version}" for name, version in versions.items())
    if len(set(versions.values())) > 1:
        return fail("distributions", f"of different versions: {rows}", "install all of them from the same checkout")
    return ok("distributions", rows)


def parsed(requirement: str) -> Requirement | None:
    """One line of a distribution's requirements; None where it can't be read, or is for another system."""
    found = _REQUIREMENT.fullmatch(requirement)
    if found is None:
        return None
    name, bounds, marker = found[1], found[2].strip(), found[3] or ""
    extra = _EXTRA.search(marker)
    others = _EXTRA.sub("", marker).replace("and", "").strip(" ()")
    if others:
        return None  # a marker of systems: whether it holds here is pip's to say
    return Requirement(name=name, bounds=bounds, extra=extra[1] if extra else "")


def within(version: str, bounds: str) -> bool:
    """Whether a version keeps bounds such as ">=1.26,<2"; what can't be read counts as kept."""
    have = _numbers(version)
    for sign, bound in _BOUND.findall(bounds):
        want = _numbers(bound)
        size = max(len(have), len(want))
        a, b = have + (0,) * (size - len(have)), want + (0,) * (size - len(want))
        same = have[: len(want)] == want if bound.endswith("*") else a == b
        kept = {">=": a >= b, "<=": a <= b, ">": a > b, "<": a < b, "==": same, "!=": not same, "~=": a >= b}[sign]
        if not kept:
            return False
    return True


def requirements(name: str, wanted: Sequence[Requirement], have: Mapping[str, str]) -> list[Finding]:
    """What a distribution requires and lacks: one finding for each, none where all is there.

    Args:
        name: of the distribution.
        have: version by name (lower case, "-" for "_") of what is installed.
    """
    rows, extras = [], dict[str, list[str]]()
    for want in wanted:
        version = have.get(_key(want.name))
        if version is not None and within(version, want.bounds):
            continue
        state = "is not installed" if version is None else f"is {version}"
        words = f"{want.name} {state}, wanted {want.bounds or 'any version'}"
        if want.extra:
            extras.setdefault(want.extra, []).append(words)
        else:
            rows.append(fail(name, words, f"pip install '{want.name}{want.bounds}'"))
    for extra, lacks in sorted(extras.items()):
        if extra not in UNASKED_EXTRAS:
            remedy = f"pip install '{name}[{extra}]' where that is needed"
            rows.append(warn(name, f"without its extra {extra!r}: {'; '.join(lacks)}", remedy))
    return rows


def commands(entries: Iterable[metadata.EntryPoint]) -> Finding:
    """Whether each registered command's module is there."""
    gone = []
    for entry in entries:
        try:
            there = util.find_spec(entry.module) is not None
        except ImportError:
            there = False
        if not there:
            gone.append(f"{entry.name} ({entry.module})")
    if gone:
        return fail("commands", f"{', '.join(gone)}: their code is gone", "install that distribution again")
    return ok("commands", "each registered command's code is there")


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> tuple[int, ...]:
    """The release's numbers; what follows them (rc1, +cpu) is left out."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _look(asked: Asked) -> Iterable[Finding]:
    ours = our_distributions()
    yield python()
    yield agreement({name: distribution.version for name, distribution in ours.items()})
    have = {_key(d.metadata["Name"] or ""): d.version for d in metadata.distributions()}
    lacks, count = list[Finding](), 0
    for name, distribution in ours.items():
        wanted = [line for line in map(parsed, distribution.requires or ()) if line is not None]
        lacks, count = lacks + requirements(name, wanted, have), count + len(wanted)
    yield from lacks or [ok("requirements", f"all {count} of theirs are there, extras included")]
    yield commands(metadata.entry_points(group="skimo.commands"))


def _imports(asked: Asked) -> Iterable[Finding]:
    return imports("core's imports", IMPORTED, "install skimo_core's requirements again: pip install --force-reinstall")


CHECKS = (Check(name="installed", look=_look), Check(name="imports", look=_imports))
