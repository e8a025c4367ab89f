"""`skimo repair`: cut recordings made whole; `skimo label`: what an operator says of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import tyro

from ..contract.errors import EpisodeError
from .labelling import add_label
from .labels import Label, done_at, done_by, judged, parse_subtask, subtasks, told
from .recording import read_judgements, recordings
from .repair import repair as repair_file
from .stream import MIB, ReadLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairArgs:
    """Make recordings whole that have no index and end, as after a kill or on a full disk.

    Attributes:
        path: a recording, or a folder of them.
        seal: give metadata that has no checksum one; look at what it says first.
        max_mib: bound on what a file's chunks unpack to, MiB.
    """

    path: tyro.conf.Positional[Path]
    seal: bool = False
    max_mib: int = ReadLimits().total_bytes // MIB


def repair(argv: list[str]) -> int:
    """Make recordings whole that were cut short."""
    args = tyro.cli(RepairArgs, args=argv, prog="skimo repair")
    limits = replace(ReadLimits(), total_bytes=args.max_mib * MIB)
    failures = 0
    try:
        paths = recordings(args.path) if args.path.is_dir() else [args.path]
    except EpisodeError as error:
        print(f"skimo repair: {error}", file=sys.stderr)
        return 1
    for path in paths:
        try:
            made = repair_file(path, seal=args.seal, limits=limits)
        except EpisodeError as error:
            failures += 1
            print(f"skimo repair: {error}", file=sys.stderr)
            continue
        saved = f": {made.messages} messages" if made.done == "repaired" else ""
        print(f"{path.name} {made.done}{saved}{'; ' + made.damage if made.damage else ''}")
    return 1 if failures else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelArgs:
    """Say how recorded episodes went, where the task's goal got it wrong or doesn't know; the last word counts.

    Attributes:
        recordings: finished recordings; with --show, folders of them too.
        success: whether the task was completed; empty: as the sub-tasks say. Sub-tasks of a completed task that the
            goal has not as done, and that have no step, count at the last step.
        subtask: NAME@STEP, when a sub-task was done (control steps), or NAME@never; others stay as the goal has them.
        note: anything, for people.
        show: print what goal and labels say, and change nothing.
    """

    recordings: tyro.conf.Positional[tuple[Path, ...]]
    success: Literal["", "true", "false"] = ""
    subtask: tuple[str, ...] = ()
    note: str = ""
    show: bool = False


def label(argv: list[str]) -> int:
    """Say how recorded episodes went, or show what was said."""
    args = tyro.cli(LabelArgs, args=argv, prog="skimo label")
    try:
        paths, given = _to_label(args)
    except EpisodeError as error:
        print(f"skimo label: {error}", file=sys.stderr)
        return 1
    failures = 0
    for path in paths:
        try:
            if given is None:
                print("\n".join(_shown(path)))
            else:
                add_label(path, given)
                print(f"{path.name} labelled: {_what_counts(path)}")
        except EpisodeError as error:
            failures += 1
            print(f"skimo label: {error}", file=sys.stderr)
    return 1 if failures else 0


def _to_label(args: LabelArgs) -> tuple[list[Path], Label | None]:
    """The recordings, and the label; None: they are only shown."""
    if not args.recordings:
        raise EpisodeError("no recording is named; give at least one")
    if args.show:
        if args.success or args.subtask or args.note:
            raise EpisodeError("--show changes nothing; leave it out, or leave --success, --subtask and --note out")
        return [p for path in args.recordings for p in (recordings(path) if path.is_dir() else [path])], None
    if folders := [path for path in args.recordings if path.is_dir()]:
        raise EpisodeError(f"{folders[0]} is a folder; name the recordings in it that are meant, such as its *.mcap")
    parsed = [parse_subtask(text) for text in args.subtask]
    if len(dict(parsed)) < len(parsed):
        raise EpisodeError(f"--subtask names one sub-task twice ({' '.join(args.subtask)[:80]}); name each once")
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    success = None if not args.success else args.success == "true"
    return list(args.recordings), Label(success=success, done=dict(parsed), note=args.note, at=now)


def _shown(path: Path) -> list[str]:
    """What is said of a recording, by whom, oldest first; last what counts."""
    by_goal, labels = read_judgements(path)
    seconds = by_goal.steps / by_goal.meta.rate_hz
    lines = [f"{path.name} {by_goal.meta.episode_id}: {by_goal.steps} steps, {seconds:.1f} s"]
    lines += [f"  goal      {_success(by_goal.meta.success)}; {told(subtasks(by_goal), done_at(by_goal))}".rstrip("; ")]
    for given in labels:
        says = [] if given.success is None else [_success(given.success)]
        says += [told(tuple(given.done), [*given.done.values()])] if given.done else []
        lines += [f"  operator  {'; '.join(says)} ({given.at}){': ' + given.note if given.note else ''}"]
    return [*lines, f"  counts    {_what_counts(path)}"] if labels else lines


def _what_counts(path: Path) -> str:
    """Success and sub-tasks by the last label."""
    by_goal, labels = read_judgements(path)
    made = judged(by_goal, labels[-1])
    return f"{_success(made.meta.success)}; {told(subtasks(made), done_by(by_goal, labels[-1]))}".rstrip("; ")


def _success(success: bool | None) -> str:
    return {None: "success not known", True: "success", False: "no success"}[success]
