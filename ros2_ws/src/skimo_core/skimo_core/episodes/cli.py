"""`skimo ingest`: other people's data sets as our recordings; `skimo repair`: cut recordings made whole."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from ..contract.errors import EpisodeError, SkimoError
from ..domain.domain import DEFAULT, load_domain
from .cache import from_episodes
from .files import file_stem, make_folder
from .hdf5 import read_hdf5
from .recording import recordings, write_episode
from .repair import repair as repair_file
from .stream import MIB, ReadLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestArgs:
    """Convert an HDF5 file in D4RL's or Minari's form to recordings.

    Attributes:
        source: the HDF5 file.
        out: folder for the recordings; must be empty or new.
        domain: whose channels, actions and rate the data has: a name, or a file.
        layout: which columns are which channels: d4rl, minari, plain (as they are), or a file; where none is named, the
            one that has the file's width.
        one_episode: the file marks no episode's end because it is one episode.
        skip_damaged: leave out damaged episodes and list them, instead of stopping at the first.
    """

    source: Path
    out: Path
    domain: str = DEFAULT
    layout: str = ""
    one_episode: bool = False
    skip_damaged: bool = False


def ingest(argv: list[str]) -> int:
    """Convert HDF5 files in D4RL's or Minari's form to recordings."""
    args = tyro.cli(IngestArgs, args=argv, prog="skimo ingest")
    try:
        steps, digest, count = _ingest(args)
    except SkimoError as error:
        print(f"skimo ingest: {error}", file=sys.stderr)
        return 1
    print(f"ingested {count} episodes {steps} steps digest {digest}")
    return 0


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


def _ingest(args: IngestArgs) -> tuple[int, str, int]:
    domain = load_domain(args.domain)
    _check_out(args.out)
    found = read_hdf5(
        args.source,
        domain=domain,
        layout=args.layout,
        one_episode=args.one_episode,
        skip_damaged=args.skip_damaged,
    )
    for error in found.errors:
        print(f"left out: {error}", file=sys.stderr)
    cache = from_episodes(found.episodes, args.source.name)
    for note in found.notes:
        print(note)
    try:
        make_folder(args.out)
        for index, episode in enumerate(found.episodes):
            meta = replace(episode.meta, episode_id=f"{args.source.stem}-{index:05d}")
            write_episode(args.out / f"{file_stem(meta.episode_id)}.mcap", replace(episode, meta=meta))
    except OSError as error:
        raise EpisodeError(f"{args.out}: {error.strerror or error}; choose another folder") from None
    print(f"domain {domain.named} robot {cache.metas[0].robot}")
    return int(cache.lengths.sum()), cache.digest, len(found.episodes)


def _check_out(out: Path) -> None:
    try:
        if out.exists() and not out.is_dir():
            raise EpisodeError(f"{out} is a file; recordings go to a folder, choose another --out")
        if out.exists() and any(out.iterdir()):
            raise EpisodeError(f"{out} is not empty; recordings are never overwritten, choose another folder")
    except OSError as error:
        raise EpisodeError(f"{out}: {error.strerror or error}; choose another folder") from None
