"""`skimo finetune`: candidates from what a robot does."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits

from .cli import check_installed
from .finetune_config import FinetuneConfig

if TYPE_CHECKING:
    from .replay import Taken

POLL_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Learn on from what a robot does: each round gives a candidate, which drives nothing before it is promoted.

    Started by torchrun (torchrun --nproc-per-node 2 --no-python skimo finetune ...) its ranks train as one; only rank 0
    needs recordings and data, and writes; one that has no bundle needs --domain.

    Attributes:
        recordings: folders in which recorders leave episodes, of one robot or of several.
        out: the learner's folder; goes on where it already holds one.
        bundle: path of a bundle, or the name of one that ships: the one that drives. Where it is a link, such as
            STORE/incumbent, the next round begins with whatever it points to by then.
        data: folders of the recordings that the bundle learned from, to learn from besides; without them it forgets.
        domain: that it all is in: a name, or a file; empty: the one that the bundle carries or names.
        robot: whose limits hold: a robot's name, or a file; empty: the domain's.
        learn: how a round is made.
        watch: wait for more episodes; else it ends when all are learned from.
        rounds: end after so many; 0: as many as there are.
    """

    recordings: tuple[Path, ...]
    out: Path
    bundle: str = "kitchen"
    data: tuple[Path, ...] = ()
    domain: str = ""
    robot: str = ""
    learn: FinetuneConfig = field(default_factory=FinetuneConfig)
    watch: bool = False
    rounds: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise SpecError(f"rounds is {self.rounds}, must be 0 or more")


def finetune(argv: list[str]) -> int:
    """Learn on from what a robot does."""
    try:
        args = tyro.cli(Args, args=argv, prog="skimo finetune")
        check_installed()
        _finetune(args)
    except SkimoError as error:
        print(f"skimo finetune: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        words = f"{args.out}: {error.strerror or error}; make room, and the same command goes on"
        print(f"skimo finetune: {words}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command goes on with {args.out}", file=sys.stderr)
        return 130
    return 0


def _finetune(args: Args) -> None:
    import torch

    from skimo_server.bundle import domain_of

    from . import ranks
    from .finetune import END, be_polite, follow_first

    domain = load_domain(args.domain or domain_of(args.bundle))
    with ranks.together(torch.device("cpu")):
        if not ranks.first():
            be_polite()
            follow_first(domain)
            return
        _lead(args, domain)
        ranks.number_of_first(END)


def _lead(args: Args, domain: Domain) -> None:
    from skimo_server.bundle import Bundle, load_bundle, resolve_bundle
    from skimo_server.domains import domain_for

    from . import ranks
    from .data import load_episodes
    from .finetune import LEARN, WAIT, Learner, be_polite
    from .replay import open_replay

    if missing := [folder for folder in args.recordings if not folder.is_dir()]:
        raise SpecError(f"{missing[0]}: no such folder; give the one that the recorder writes to")
    domain_for(args.bundle, args.domain)  # refuses one that the bundle was not made for
    robot = load_limits(args.robot or domain.robot)
    folder = resolve_bundle(args.bundle)
    be_polite()
    with open_replay(args.out / "replay", domain, robot) as replay:
        offline = load_episodes(*args.data, domain=domain, robot=robot) if args.data else None

        def learn_from(bundle: Bundle, old: Collection[str] = ()) -> Learner:
            print(f"finetune: from bundle {bundle.manifest.bundle_id[:12]}", flush=True)
            return Learner(bundle, args.out, replay, domain, robot, offline, args.learn, old=old)

        source, made = folder.resolve(), 0
        learner = learn_from(load_bundle(source))
        while not args.rounds or made < args.rounds:
            for entry in replay.take_from(args.recordings):
                print(f"finetune: {told_of(entry)}", flush=True)
            if (now := folder.resolve()) != source and now.exists():  # another one was promoted, or rolled back to
                source = now
                learner = learn_from(load_bundle(source), [entry.digest for entry in replay.taken])
            if learner.unfinished or learner.waiting >= (args.learn.every if args.watch else 1):
                ranks.number_of_first(LEARN)
                candidate = learner.learn()
                made += 1
                print(f"finetune: candidate {candidate.folder} id {candidate.manifest.bundle_id}", flush=True)
            elif args.watch:
                ranks.number_of_first(WAIT)
                time.sleep(POLL_S)
            else:
                break
    print(f"finetune: {made} candidates from {len(replay.taken)} episodes, {len(replay.refused)} refused")


def told_of(entry: Taken) -> str:
    """What came of looking at a recording, and of its skills."""
    if entry.refused:
        return f"refused {entry.refused}"
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(entry.skills.items()))
    return f"took {entry.name}: {entry.steps} steps, skills: {kinds or 'none'}"
