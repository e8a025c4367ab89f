"""The `skimo` command: `skimo CMD args...` runs the command CMD that some installed distribution registered.

Promises
  - A command is an entry point of group `skimo.commands` whose callable is `main(argv: list[str]) -> int`.
  - Only the command asked for is imported. `skimo --help` reads the first docstring line of each command from
    its source text, so listing never imports torch, mujoco or rclpy, and a broken command does not hide the others.
  - Exit codes: the command's own; 2 for an unknown command, with the names that come close.
It never guesses: an abbreviation is not a command, and of an option that is given twice neither is dropped.
"""

from __future__ import annotations

import ast
import difflib
import os
import sys
from collections.abc import Callable, Mapping
from importlib import metadata, util
from typing import TextIO

from skimo_core.process.parent import end_with_parent

GROUP = "skimo.commands"
USAGE_ERROR = 2
BROKEN_PIPE = 1

Commands = Mapping[str, metadata.EntryPoint]


def installed_commands() -> dict[str, metadata.EntryPoint]:
    """Returns every registered command by name, sorted."""
    found = metadata.entry_points(group=GROUP)
    return {name: found[name] for name in sorted(found.names)}


def summary(entry: metadata.EntryPoint) -> str:
    """Returns the first docstring line of a command's callable, read from source without importing it."""
    try:
        spec = util.find_spec(entry.module)
    except ImportError as error:
        return f"(not usable here: {error})"
    if spec is None or spec.origin is None:
        return f"(not usable here: no module {entry.module})"
    with open(spec.origin, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == entry.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return f"(not usable here: {entry.module} has no {entry.attr})"


def print_help(commands: Commands, out: TextIO) -> None:
    print("usage: skimo COMMAND [options]      (skimo COMMAND --help for a command's options)\n", file=out)
    width = max((len(name) for name in commands), default=0)
    for name, entry in commands.items():
        print(f"  {name:<{width}}  {summary(entry)}", file=out)


def given_twice(argv: list[str]) -> str:
    """The first option that is given more than once; "" if none is. Parsers would take the last and drop the rest."""
    options = [word.partition("=")[0].replace("_", "-") for word in argv if word.startswith("--") and word != "--"]
    return next((option for k, option in enumerate(options) if option in options[:k]), "")


def run(argv: list[str], commands: Commands, out: TextIO, err: TextIO) -> int:
    """Dispatches one command line (without the program's name) and returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print_help(commands, out)
        return 0 if argv else USAGE_ERROR
    if argv[0] == "--version":
        print(f"skimo {metadata.version('skimo_core')}", file=out)
        return 0
    name, rest = argv[0], argv[1:]
    if name not in commands:
        close = difflib.get_close_matches(name, list(commands), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "see skimo --help for what is installed"
        print(f"skimo: no command {name!r}; {hint}", file=err)
        return USAGE_ERROR
    if option := given_twice(rest):
        print(f"skimo {name}: {option} is given twice; give it once, with all its values after it", file=err)
        return USAGE_ERROR
    command: Callable[[list[str]], int] = commands[name].load()
    return command(rest)


def main() -> int:
    """Entry point of the console script."""
    end_with_parent()
    try:
        code = run(sys.argv[1:], installed_commands(), sys.stdout, sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `skimo ... | head`; no complaint at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


if __name__ == "__main__":
    sys.exit(main())
