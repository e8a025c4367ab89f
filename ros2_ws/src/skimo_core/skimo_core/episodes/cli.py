"""`skimo ingest`: other people's data sets as our recordings."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from ..errors import EpisodeError, SkimoError
from .cache import from_episodes
from .hdf5 import read_hdf5
from .recording import write_episode


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestArgs:
    """Convert an HDF5 file in D4RL or Minari layout to recordings.

    Attributes:
        source: the HDF5 file.
        out: folder for the recordings; must be empty or new.
        skip_damaged: leave out damaged episodes and list them, instead of stopping at the first.
    """

    source: Path
    out: Path
    skip_damaged: bool = False


def ingest(argv: list[str]) -> int:
    """Convert D4RL or Minari HDF5 files to recordings."""
    args = tyro.cli(IngestArgs, args=argv, prog="skimo ingest")
    try:
        steps, digest, count = _ingest(args)
    except SkimoError as error:
        print(f"skimo ingest: {error}", file=sys.stderr)
        return 1
    print(f"ingested {count} episodes {steps} steps digest {digest}")
    return 0


def _ingest(args: IngestArgs) -> tuple[int, str, int]:
    if args.out.exists() and any(args.out.iterdir()):
        raise EpisodeError(f"{args.out} is not empty; recordings are never overwritten, choose another folder")
    episodes, errors = read_hdf5(args.source, skip_damaged=args.skip_damaged)
    for error in errors:
        print(f"left out: {error}", file=sys.stderr)
    cache = from_episodes(episodes, args.source.name)
    args.out.mkdir(parents=True, exist_ok=True)
    for index, episode in enumerate(episodes):
        meta = replace(episode.meta, episode_id=f"{args.source.stem}-{index:05d}")
        write_episode(args.out / f"{meta.episode_id}.mcap", replace(episode, meta=meta))
    return int(cache.lengths.sum()), cache.digest, len(episodes)
