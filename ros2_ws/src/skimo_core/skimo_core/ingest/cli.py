"""`skimo ingest`: other people's recordings as our episodes.

skimo ingest --inspect --source bag/                                  what it holds
skimo ingest --source bag/ --domain table.yaml --draft mapping.yaml   a mapping to begin with, guesses marked
skimo ingest --source bag/ --domain table.yaml --mapping mapping.yaml --licence CC-BY-4.0 --out datasets/table
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from ..contract.errors import EpisodeError, SetupError, SkimoError
from ..domain.domain import DEFAULT, Domain, load_domain
from ..episodes.cache import from_episodes
from ..episodes.files import create, file_stem, make_folder
from ..episodes.recording import write_episode
from . import inspect, report
from .draft import draft
from .formats import open_source
from .pipeline import Imported, read

Format = Literal["auto", "d4rl", "minari", "robomimic", "hdf5", "lerobot", "rosbag2", "mcap_json", "mcap_protobuf"]
Sources = list[tuple[str, Imported]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestArgs:
    """Convert recordings of other programs to ours: D4RL, Minari, robomimic and other HDF5, LeRobot, bags, JSON MCAP.

    Attributes:
        source: recordings: files, or folders of data sets.
        out: folder for what comes out; must be empty or new.
        domain: whose channels, actions and rate they get: a name, or a file.
        mapping: which fields are which channels: d4rl, minari, plain (as they are), or a file; where none is named, the
            first known one of the domain that has the source's fields.
        format: what the sources are; auto: what their content says.
        licence: of the data, where neither the source nor the mapping names it; "not stated" if nobody knows.
        one_episode: a source marks no episode's end because it is one episode.
        skip_damaged: leave out what is damaged or doesn't fit and list it, instead of stopping at the first.
        inspect: print what the sources hold, and convert nothing.
        draft: write a mapping to begin with to this new file, guesses marked, and convert nothing.
    """

    source: tuple[Path, ...]
    out: Path | None = None
    domain: str = DEFAULT
    mapping: str = ""
    format: Format = "auto"
    licence: str = ""
    one_episode: bool = False
    skip_damaged: bool = False
    inspect: bool = False
    draft: Path | None = None


def ingest(argv: list[str]) -> int:
    """Convert other programs' recordings to ours: HDF5, LeRobot, bags."""
    args = tyro.cli(IngestArgs, args=argv, prog="skimo ingest")
    try:
        if not args.source:
            raise EpisodeError("--source names nothing; give at least one recording")
        if args.inspect or args.draft is not None:
            said = _looked(args)
        else:
            said = _ingested(args)
    except SkimoError as error:
        print(f"skimo ingest: {error}", file=sys.stderr)
        return 1
    print("\n".join(said))
    return 0


def _looked(args: IngestArgs) -> list[str]:
    said: list[str] = []
    for path in args.source if args.inspect else ():
        looked = inspect.look(open_source(path, args.format))
        said += [*([""] if said else []), f"source    {path}", *inspect.lines(looked)]
    if args.draft is None:
        return said
    if len(args.source) != 1:
        raise EpisodeError(f"--draft is made of one source, {len(args.source)} are named; name one of them")
    text = draft(open_source(args.source[0], args.format), args.source[0].name, load_domain(args.domain), args.domain)
    try:
        with open(create(args.draft), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SetupError(f"{args.draft} is there already, and is not overwritten; name another file") from None
    except OSError as error:
        raise SetupError(f"{args.draft}: {error.strerror or error}; name another file") from None
    guesses = text.count("# guess")
    return [*said, f"draft {args.draft}: {guesses} guesses are marked; check each of them, then name it with --mapping"]


def _ingested(args: IngestArgs) -> list[str]:
    if args.out is None:
        raise EpisodeError("no --out is named; say which folder the recordings go to, or look with --inspect")
    domain = load_domain(args.domain)
    _check_out(args.out)
    imports: Sources = []
    for path in args.source:
        try:
            imports.append((_name(path), _read(path, args, domain)))
        except EpisodeError as error:
            if not args.skip_damaged or len(args.source) == 1:
                raise
            print(f"left out: {error}", file=sys.stderr)
    imports = _named(imports)
    episodes = [episode for _, found in imports for episode in found.episodes]
    cache = from_episodes(episodes, ", ".join(name for name, _ in imports))
    made = report.report_of(imports, domain, cache.digest)
    report.check_moves(made)
    try:
        make_folder(args.out)
        for episode in episodes:
            write_episode(args.out / f"{file_stem(episode.meta.episode_id)}.mcap", episode)
        written = report.write_report(args.out, made, imports, domain)
    except OSError as error:
        raise EpisodeError(f"{args.out}: {error.strerror or error}; choose another folder") from None
    said = report.lines(made)
    return [*said[:-1], *written, said[-1]]


def _read(path: Path, args: IngestArgs, domain: Domain) -> Imported:
    found = read(
        path,
        domain=domain,
        mapping=args.mapping,
        format=args.format,
        licence=args.licence,
        one_episode=args.one_episode,
        skip_damaged=args.skip_damaged,
    )
    for dropped in found.dropped:
        print(f"left out: {dropped}", file=sys.stderr)
    return found


def _name(path: Path) -> str:
    """What a source is called: its last part, also of a path that is "." or ends in one."""
    return path.name or path.resolve().name


def _named(imports: Sources) -> Sources:
    """The imports with episodes named after their sources, no two alike."""
    named: Sources = []
    stems: list[str] = []
    for name, found in imports:
        stem = Path(name).stem or "source"
        stems.append(stem if stem not in stems else f"{stem}-{len(stems) + 1}")
        stem = stems[-1]
        episodes = tuple(
            replace(episode, meta=replace(episode.meta, episode_id=f"{stem}-{index:05d}"))
            for index, episode in enumerate(found.episodes)
        )
        named.append((name, replace(found, episodes=episodes)))
    return named


def _check_out(out: Path) -> None:
    try:
        if out.exists() and not out.is_dir():
            raise EpisodeError(f"{out} is a file; recordings go to a folder, choose another --out")
        if out.exists() and any(out.iterdir()):
            raise EpisodeError(f"{out} is not empty; recordings are never overwritten, choose another folder")
    except OSError as error:
        raise EpisodeError(f"{out}: {error.strerror or error}; choose another folder") from None
