"""Who imports whom, room by room: the picture of the code's structure, of any commit.

A room is a folder of a package. An arrow goes from who imports to what is imported, the thicker the more files do; red
where two rooms need each other. Rooms stand above what they need. Imports inside functions count, dotted.

    python benchmarks/structure.py --commit HEAD --out docs/structure.png
prints the same as a table.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

COLOURS = {
    "skimo_core": "#4c78a8",
    "skimo_ros": "#f58518",
    "skimo_bringup": "#b279a2",
    "skimo_server": "#54a24b",
    "skimo_learn": "#9ecae9",
    "skimo_promote": "#88d27a",
    "skimo_sim": "#e45756",
    "skimo_eval": "#ffbf79",
    "skimo_calibration": "#b8a9e0",
}
PACKAGES = tuple(COLOURS)


@dataclass(slots=True)
class Structure:
    """Files and lines of each room; how many files of one import another, at the top and inside functions."""

    files: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    top: Counter[tuple[str, str]] = field(default_factory=Counter)
    lazy: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def edges(self) -> set[tuple[str, str]]:
        return set(self.top) | set(self.lazy)


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def sources(commit: str) -> Iterator[tuple[str, str]]:
    """Module names and texts of our packages in a commit."""
    for path in git("ls-tree", "-r", "--name-only", commit).splitlines():
        parts = Path(path).with_suffix("").parts
        package = next((p for p in PACKAGES if p in parts), None)
        if not path.endswith(".py") or package is None or parts[0] == "tests":
            continue
        inside = parts[len(parts) - parts[::-1].index(package) - 1 :]
        yield ".".join(inside).removesuffix(".__init__"), git("show", f"{commit}:{path}")


def room_of(module: str, modules: set[str]) -> str:
    """The folder that a module lies in: its package, or a sub-folder of it."""
    parts = module.split(".")
    folder = ".".join(parts[:2])
    is_folder = any(other.startswith(f"{folder}.") for other in modules)
    return folder if len(parts) > 1 and is_folder else parts[0]


def imported(module: str, text: str, is_package: bool) -> Iterator[tuple[str, bool]]:
    """Names of modules that a file imports, made absolute, and whether inside a function."""
    base = module.split(".") if is_package else module.split(".")[:-1]

    def walk(node: ast.AST, lazy: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = base[: len(base) - child.level + 1] if child.level else []
                name = ".".join([*above, *([child.module] if child.module else [])])
                yield from ((f"{name}.{alias.name}", lazy) for alias in child.names)
            yield from walk(child, lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    yield from walk(ast.parse(text), False)


def structure(commit: str) -> Structure:
    """Reads a commit."""
    texts = dict(sources(commit))
    modules, found = set(texts), Structure()
    for module, text in texts.items():
        room = room_of(module, modules)
        found.files[room] += 1
        found.lines[room] += text.count("\n")
        is_package = any(other.startswith(f"{module}.") for other in modules)
        seen: dict[str, bool] = {}
        for name, lazy in imported(module, text, is_package):
            target = next((name[:k] for k in _cuts(name) if name[:k] in modules), None)
            if target is not None and room_of(target, modules) != room:
                other = room_of(target, modules)
                seen[other] = seen.get(other, True) and lazy
        for other, lazy in seen.items():
            (found.lazy if lazy else found.top)[room, other] += 1
    return found


def _cuts(name: str) -> Iterator[int]:
    yield len(name)
    while "." in name:
        name = name[: name.rindex(".")]
        yield len(name)


def reachable(found: Structure) -> dict[str, set[str]]:
    """What each room needs, through others too, by imports at the top of files."""
    needs: dict[str, set[str]] = defaultdict(set)
    for one, other in found.top:
        needs[one].add(other)
    grown = True
    while grown:
        grown = False
        for room in list(needs):
            more = set().union(*(needs.get(other, set()) for other in needs[room])) - needs[room]
            if more:
                needs[room] |= more
                grown = True
    return needs


def heights(found: Structure, needs: dict[str, set[str]]) -> dict[str, int]:
    """How high each room stands: above everything that it needs, beside what needs it in turn."""

    def height(room: str) -> int:
        below = [o for o in needs.get(room, ()) if room not in needs.get(o, ())]
        return 1 + max(map(height, below), default=-1)

    own = {room: height(room) for room in found.files}
    return {room: max(own[o] for o in own if o == room or together(room, o, needs)) for room in own}


def together(one: str, other: str, needs: dict[str, set[str]]) -> bool:
    """Whether two rooms need each other."""
    return other in needs.get(one, ()) and one in needs.get(other, ())


def draw(found: Structure, title: str, out: Path) -> None:
    """The picture."""
    needs = reachable(found)
    level = heights(found, needs)
    rows: dict[int, list[str]] = defaultdict(list)
    for room in sorted(found.files, key=lambda r: (PACKAGES.index(r.split(".")[0]), r)):
        rows[level[room]].append(room)
    place = {r: ((k + 0.5) / len(row), h) for h, row in rows.items() for k, r in enumerate(row)}
    figure = Figure(figsize=(12, 1.5 + 1.25 * len(rows)), dpi=110)
    axes = figure.subplots()
    for one, other in sorted(found.edges):
        count = found.top[one, other] + found.lazy[one, other]
        mutual = together(one, other, needs) and (one, other) in found.top
        dotted = (one, other) not in found.top
        axes.add_patch(
            FancyArrowPatch(
                place[one],
                place[other],
                arrowstyle="-|>",
                mutation_scale=11,
                shrinkA=17,
                shrinkB=19,
                linewidth=0.5 + 0.28 * min(count, 12),
                linestyle=":" if dotted else "-",
                color="#d62728" if mutual else "#555555",
                alpha=0.9 if mutual else 0.45,
                connectionstyle="arc3,rad=0.07",
            )
        )
    for room, (x, y) in place.items():
        package, _, folder = room.partition(".")
        name = f"{package.removeprefix('skimo_')}{'/' + folder if folder else ''}"
        words = f"{name}\n{found.files[room]} files, {found.lines[room]} lines"
        box = {"boxstyle": "round,pad=0.45", "facecolor": COLOURS[package], "edgecolor": "white"}
        axes.text(x, y, words, ha="center", va="center", fontsize=8.5, bbox=box, zorder=3)
    axes.set(xlim=(0, 1), ylim=(-0.6, max(rows) + 0.6), title=title)
    axes.axis("off")
    figure.tight_layout()
    figure.savefig(out)


def main(*, commit: str = "HEAD", out: Path = Path("docs/structure.png"), title: str = "") -> None:
    """Draw the structure of a commit.

    Args:
        commit: which.
        out: the picture.
        title: above it.
    """
    found = structure(commit)
    needs = reachable(found)
    for (one, other), count in sorted(found.top.items()):
        print(f"{one:24} -> {other:24} {count:3}{'  MUTUAL' if together(one, other, needs) else ''}")
    for one, other in sorted(set(found.lazy) - set(found.top)):
        print(f"{one:24} .. {other:24} {found.lazy[one, other]:3}")
    draw(found, title or f"Who needs whom, at {git('rev-parse', '--short=12', commit).strip()}", out)
    print(out)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
