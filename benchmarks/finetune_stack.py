"""A day with a robot that learns, through the full ROS stack in real time: the loop of docs/learning.md, end to end.

    helped    the incumbent works in a changed twin; where it holds in doubt, the scripted teleoperator takes over on
              policy/teleop, and the recorder writes it down
    beside    it goes on, without help, while `skimo finetune` learns from those recordings on the same cores
    promoted  `skimo promote`: trial in the twin while the arm rests, then shadow and canary on the running stack
    after     whatever drives now, without help

Wants the machine for itself: ticks that a pause of it costs are counted. What was done stays in the working folder: a
day that was broken off begins anew in another. Writes OUT.json, OUT.md and OUT.ledger.jsonl.

    skimo collect kitchen --episodes 450 --seed 0 --out play
    skimo intervene --bundle kitchen --episodes 350 --seed 230000 --out fix
    python benchmarks/finetune_stack.py --work day --data play fix
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import tyro

from skimo_core.domain.domain import load_domain
from skimo_core.process.provenance import provenance
from skimo_eval.full_stack import stack_up, write_parameters
from skimo_eval.improve import ALONE
from skimo_eval.inprocess import World
from skimo_eval.results import write_results
from skimo_eval.stack_helper import StackHelper
from skimo_eval.statistics import bootstrap_interval
from skimo_promote.store import CANARY, SHADOW, Store
from skimo_ros.evaluator import Watched

SKIMO = (sys.executable, "-m", "skimo_core.cli")
POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Args:
    """What kind of day.

    Attributes:
        work: a new working folder: store, recordings, learner, logs.
        data: folders of the recordings that the bundle learned from.
        bundle: path, or the name of one that ships: who drives first.
        condition: what is different in the twin (skimo_sim.condition).
        task: as in skimo eval.
        helped, beside, after: episodes of each part; beside: at least so many, and until the learner is done.
        ask_below: probability below which three plans in a row ask for help.
        pairs: of the trial, at most.
        canary: episodes that a candidate drives slowly.
        seed: of the first episode.
        out: result files OUT.json, OUT.md, OUT.ledger.jsonl.
    """

    work: Path
    data: tuple[Path, ...]
    bundle: str = "kitchen"
    condition: str = "mount_low"
    task: str = "kitchen"
    helped: int = 10
    beside: int = 10
    after: int = 10
    ask_below: float = 0.4
    pairs: int = 60
    canary: int = 3
    seed: int = 700_000
    out: Path = Path("benchmarks/results/finetune/full_stack")


@dataclass(kw_only=True)
class Part:
    """Episodes of one part of the day, and what it cost."""

    name: str
    episodes: list[Watched] = field(default_factory=list)
    helps: int = 0
    minutes: float = 0.0

    def row(self) -> str:
        done = [len(e.completed) for e in self.episodes]
        low, high = bootstrap_interval(done) if done else (np.nan, np.nan)
        bundles = ", ".join(dict.fromkeys(e.bundle_id[:8] for e in self.episodes))
        cells = [
            self.name,
            bundles,
            f"{len(done)}",
            f"{np.mean(done):.2f} ({low:.2f} .. {high:.2f})" if done else "-",
            f"{self.helps}",
            f"{sum(e.stops for e in self.episodes)}",
            f"{sum(e.missed_ticks for e in self.episodes)} of {sum(e.steps for e in self.episodes)}",
            f"{self.minutes:.1f}",
        ]
        return f"| {' | '.join(cells)} |"


class Day:
    """What the day did so far.

    Attributes:
        parts: of it.
        store: whose incumbent drives.
    """

    def __init__(self, args: Args) -> None:
        self.parts: list[Part] = []
        self.store = Store(args.work / "store")
        self.recordings = args.work / "recordings"
        self._args, self._domain, self._seed = args, load_domain(), args.seed

    @contextmanager
    def stack(self, *, help_wanted: bool) -> Iterator[Callable[[Part], None]]:
        """The stack, up; yields what flies an episode. It holds in doubt where help is wanted."""
        args, folder = self._args, self._args.work / ("helped" if help_wanted else "alone")
        folder.mkdir()
        wanted = {"hold_in_doubt": help_wanted, "doubt_bound": args.ask_below}
        parameters = write_parameters(folder / "condition.yaml", args.condition, self._domain, **wanted)
        follows = str((self.store.folder / "incumbent").absolute())
        given = {"bundle": follows, "task": args.task, "params_file": str(parameters)}
        with ExitStack() as entered:
            up = stack_up(given, self._domain, recordings=self.recordings, logs=folder / "logs")
            stack, evaluator = entered.enter_context(up)
            helper = None
            if help_wanted:
                lab = World(domain=self._domain.source).build(args.condition)
                helper = entered.enter_context(closing(StackHelper(lab, evaluator)))
                evaluator.on_hold = helper

            def fly(part: Part) -> None:
                episode = evaluator.run_episode(args.task, self._seed, stack.alive)
                self._seed += 1
                part.episodes.append(episode)
                part.helps = helper.helps if helper else 0
                count = f"{len(episode.completed)} of {len(episode.task)}"
                say(f"  {count}, {episode.missed_ticks} ticks missed; {episode.detail}")

            yield fly

    @contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """A part of the day, timed."""
        made, began_s = Part(name=name), time.monotonic()
        self.parts.append(made)
        say(f"{name} ...")
        yield made
        made.minutes = (time.monotonic() - began_s) / 60
        say(made.row())


def main() -> None:
    args = tyro.cli(Args)
    args.work.mkdir(parents=True)
    day = Day(args)
    command = [*SKIMO, "promote", args.bundle, "--store", day.store.folder, "--yes", *ALONE]
    done(started(command, args.work / "first.log"))
    first = day.store.incumbent()
    promoted = spend(day, args)
    write(args, day.parts, day.store, first, promoted)


def spend(day: Day, args: Args) -> list[str]:
    """The day's parts; returns what the promotion said."""
    store, learner, taught = day.store, args.work / "learner", args.work / "taught"
    with day.stack(help_wanted=True) as fly, day.part("helped") as part:
        for _ in range(args.helped):
            fly(part)
    shutil.copytree(day.recordings, taught)  # the learner has what came before it alone
    with day.stack(help_wanted=False) as fly:
        with day.part("beside") as part:
            asked = ["finetune", "--bundle", store.folder / "incumbent", "--recordings", taught, "--out", learner]
            learns = started([*SKIMO, *asked, "--data", *args.data], args.work / "learner.log", own_session=True)
            while learns.poll() is None or len(part.episodes) < args.beside:
                fly(part)
            done(learns)
        (candidate,) = (learner / "candidates").iterdir()
        with day.part("promoted") as part:
            trial = ["--trial.conditions", args.condition, "--trial.task", args.task, "--trial.max-pairs", args.pairs]
            stages = ["--recordings", day.recordings, "--canary.episodes", args.canary]
            asked = ["promote", candidate, "--store", store.folder, "--yes", *trial, *stages]
            promotes = started([*SKIMO, *asked], args.work / "promoter.log")
            while promotes.poll() is None:
                if store.linked(SHADOW) or store.linked(CANARY):
                    fly(part)
                else:
                    time.sleep(POLL_S)
        with day.part("after") as part:
            for _ in range(args.after):
                fly(part)
    return (args.work / "promoter.log").read_text(encoding="utf-8").splitlines()


def write(args: Args, parts: Sequence[Part], store: Store, first: str, promoted: Sequence[str]) -> None:
    """The results."""
    words = " ".join(Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    results: dict[str, Any] = {
        "provenance": provenance(f"python benchmarks/finetune_stack.py {words}", args.seed),
        "condition": args.condition,
        "first": first,
        "drives": store.incumbent(),
        "promotion": list(promoted),
        "parts": [
            {"name": p.name, "helps": p.helps, "minutes": round(p.minutes, 2)}
            | {"episodes": [{k: v for k, v in asdict(e).items() if k not in ("ticks", "promises")} for e in p.episodes]}
            for p in parts
        ],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_results(args.out.with_suffix(".json"), results)
    head = "| part | bundle | episodes | sub-tasks (95 %) | helped | STOPs | ticks missed | min |"
    rows = [f"`{args.condition}`, the full stack in real time; {first[:8]} drove first", "", head, "|---" * 8 + "|"]
    rows += [part.row() for part in parts]
    rows += ["", "What the promotion said:", "", *(f"    {line}" for line in promoted)]
    args.out.with_suffix(".md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    shutil.copy(store.folder / "ledger.jsonl", args.out.with_suffix(".ledger.jsonl"))


def started(command: Sequence[object], log: Path, *, own_session: bool = False) -> subprocess.Popen[str]:
    """A command under way, its output in a file."""
    file: TextIO = log.open("w", encoding="utf-8")
    words = [str(word) for word in command]
    return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, text=True, start_new_session=own_session)


def done(process: subprocess.Popen[str]) -> None:
    """Waits for its end; raises RuntimeError if it failed."""
    if process.wait():
        raise RuntimeError(f"{process.args} failed; see its log")


def say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    main()
