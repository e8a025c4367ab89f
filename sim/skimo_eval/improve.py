"""A bundle that learns from its own work in the twin, in rounds: behind `skimo demo --learn` and the experiment.

    practise   whoever drives works under the condition, and asks for help while there is help left
    learn      `skimo finetune`, a process of its own, goes on from whoever drives, with all recordings so far
    measure    the candidate flies the same seeds as every other: what it is worth, whether it comes to drive or not
    promote    `skimo promote`: it drives if it earns it

Every step leaves its result in the folder, and is not done again by a run that was broken off and is called again:
play/, corrections/, recordings/, learners/N, measured/*.json, store/, and rounds.json with a line for each round. The
learner and the trial take minutes on two cores. Units s of the robot's time where the name says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.episodes.files import write_atomic
from skimo_sim.condition import DRAWN

from .domains import domain_to_fly
from .practice import Args as PracticeArgs
from .practice import practise, recording

BATCH, BATCH_PAIRS = 2, 10
"""Episodes between two looks at how much help is left; pairs between two at how a trial stands."""
PLAY_SEED = 300_000
HASTE = tuple(
    f"{part}.updates={updates}"
    for part, updates in {"pretrain": 120, "refine": 100, "correct": 300, "distil": 150, "value": 150}.items()
)
"""A tenth of what `skimo finetune` takes otherwise."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveConfig:
    """What is learned, from how much, and how it is judged.

    Attributes:
        bundle: path of a bundle, or the name of one that ships: who drives first.
        domain, task, condition: as in skimo eval.
        objective: as in skimo finetune; returns are those of the task.
        rounds, episodes: how many rounds, and of how many episodes each.
        hasty: the first round learns as one would in haste: from its own episodes alone, for a tenth of the time.
        corrections: sub-tasks that somebody does in the policy's place, over all rounds; 0: nobody is asked.
        ask_below: probability below which three plans in a row ask for help.
        data: folders of the recordings that the bundle learned from.
        play: where there are none, so many episodes of play and so many of corrections in the unchanged twin are
            collected in their place.
        gate: whether a candidate has to earn its way; without, it drives at once.
        pairs: of a trial, at most.
        measured: episodes that measure a candidate, under the condition and in the unchanged twin.
        seed: of the first episode of practice; measured ones have their own.
        learner_seed, share, threads, set: of the learner, as in skimo finetune.
        workers: processes; 0 means one per core.
    """

    bundle: str = "kitchen"
    domain: str = ""
    task: str = ""
    condition: str = "mount_low"
    objective: Literal["corrections", "successes", "returns"] = "corrections"
    rounds: int = 2
    episodes: int = 14
    hasty: bool = False
    corrections: int = 40
    ask_below: float = 0.4
    data: tuple[Path, ...] = ()
    play: int = 0
    gate: bool = True
    pairs: int = 100
    measured: int = 20
    seed: int = 500_000
    learner_seed: int = 0
    share: float = 0.3
    threads: int = 2
    set: tuple[str, ...] = ()
    workers: int = 0

    def __post_init__(self) -> None:
        if min(self.rounds, self.episodes, self.measured, self.pairs) < 1 or min(self.corrections, self.play) < 0:
            raise SpecError("rounds, episodes, measured and pairs must be at least 1, corrections and play at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of one.

    Attributes:
        number: from 1 on; 0 is the bundle as it was.
        drove: id of the bundle that practised; empty in round 0.
        practised: sub-tasks of each of its episodes, those done with help included.
        helps: how often it was helped.
        robot_s, person_s: how long the arm worked, and for how much of that a person's hand led it.
        stops, meddled: the gate's stops, and the share of commands with which it meddled.
        candidate: id of what was learned; of the bundle in round 0.
        worth, unchanged: sub-tasks of each measured episode, under the condition and in the unchanged twin.
        promoted: whether it drives since.
        why: in the words of the promotion.
    """

    number: int
    drove: str = ""
    practised: tuple[int, ...] = ()
    helps: int = 0
    robot_s: float = 0.0
    person_s: float = 0.0
    stops: int = 0
    meddled: float = 0.0
    candidate: str = ""
    worth: tuple[int, ...] = ()
    unchanged: tuple[int, ...] = ()
    promoted: bool = False
    why: tuple[str, ...] = ()


def improve(config: ImproveConfig, out: Path, say: Say) -> list[Round]:
    """Does the rounds in a folder, or goes on with them; returns them, round 0 first.

    Raises:
        SpecError: no such bundle, task or condition. SetupError: a command failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    work = _Work(config, out, say)
    rounds = work.read()
    if not rounds:
        work.begin()
        rounds.append(work.measured(Round(number=0, candidate=work.incumbent, promoted=True)))
        work.write(rounds)
    for number in range(len(rounds), config.rounds + 1):
        rounds.append(work.round(rounds, number))
        work.write(rounds)
    return rounds


ALONE = ("--shadow.plans", "0", "--canary.episodes", "0")
"""No robot runs that a candidate could shadow."""


class _Work:
    """The steps of a round, in a folder."""

    def __init__(self, config: ImproveConfig, out: Path, say: Say) -> None:
        self.config, self.out, self.say = config, out, say
        self.store, self.recordings = out / "store", out / "recordings"

    @cached_property
    def domain(self) -> Domain:
        """In which it all happens."""
        return load_domain(domain_to_fly(self.config.bundle, self.config.domain))

    @property
    def incumbent(self) -> str:
        """Who drives."""
        return (self.store / "incumbent").resolve().name

    @property
    def first(self) -> Path:
        """The bundle with which it began."""
        return self.store / "bundles" / self.read()[0].candidate

    def begin(self) -> None:
        """Makes the first bundle the incumbent."""
        _run("promote", self.config.bundle, "--store", self.store, "--yes", *ALONE)

    def round(self, rounds: Sequence[Round], number: int) -> Round:
        worked = self.practised(number, self.config.corrections - sum(r.helps for r in rounds))
        candidate = self.learned(number, self.store / "bundles" / worked["drove"])
        bundle_id = str(json.loads((candidate / "manifest.json").read_bytes())["bundle_id"])
        made = self.measured(Round(number=number, candidate=bundle_id, **worked), candidate)
        said = self.tried(candidate)
        for line in said:
            self.say(f"  {line}")
        made = replace(made, promoted=self.incumbent == bundle_id, why=tuple(said[-3:]))
        self.say(f"round {number}: {'promoted' if made.promoted else 'refused'}")
        return made

    def practised(self, number: int, help_left: int) -> dict[str, Any]:
        """A round's episodes, a few at a time; what came of them, as fields of `Round`."""
        config = self.config
        first, period_s = config.seed + 1000 * number, self.domain.action.period_s
        file = self.out / "practice" / f"{number}.json"
        known = json.loads(file.read_bytes()) if file.exists() else {"drove": self.incumbent, "episodes": []}
        done: list[dict[str, Any]] = known["episodes"]
        most = len(self.domain.task(config.task).subtasks) * BATCH
        while len(done) < config.episodes:
            left = help_left - sum(row["helps"] for row in done)
            count = min(BATCH, config.episodes - len(done))
            args = PracticeArgs(
                out=self.recordings,
                bundle=str(self.store / "incumbent"),
                domain=self.domain.source,
                task=config.task,
                condition=config.condition,
                episodes=count,
                seed=first + len(done),
                helper="scripted" if left >= most else "none",
                ask_below=config.ask_below,
                workers=config.workers,
            )
            for seed in range(args.seed, args.seed + count):  # recorded, but not written down
                recording(args.out, seed).unlink(missing_ok=True)
            for result in practise(args):
                row = {"done": result.subtasks_done, "helps": result.helps, "steps": result.steps}
                row |= {"stops": result.stops, "helped": result.helped_steps, "meddled": sum(result.verdicts.values())}
                done.append(row)
                words = f"{result.subtasks_done} sub-tasks, helped {result.helps} times"
                self.say(f"round {number}: episode {len(done)}: {words}")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(known).encode())
        steps = sum(row["steps"] for row in done)
        return {
            "drove": known["drove"],
            "practised": tuple(row["done"] for row in done),
            "helps": sum(row["helps"] for row in done),
            "robot_s": round(steps * period_s, 2),
            "person_s": round(sum(row["helped"] for row in done) * period_s, 2),
            "stops": sum(row["stops"] for row in done),
            "meddled": round(sum(row["meddled"] for row in done) / max(steps, 1), 5),
        }

    def learned(self, number: int, drove: Path) -> Path:
        """The folder of the candidate that the learner makes."""
        config, folder = self.config, self.out / "learners" / str(number)
        hasty = config.hasty and number == 1
        data = [] if hasty else list(config.data) or self.collected()
        beside = "in haste, from these alone" if hasty else "beside what the bundle knew"
        self.say(f"round {number}: learning from {len(list(self.recordings.glob('*.mcap')))} episodes {beside}")
        asked = ["--bundle", drove, "--domain", self.domain.source, "--recordings", self.recordings, "--out", folder]
        asked += ["--data", *data] if data else []
        settings: dict[str, object] = {"objective": config.objective, "seed": config.learner_seed}
        settings |= {"share": config.share, "threads": config.threads}
        if config.objective == "returns":
            settings["task"] = config.task
        asked += [f"--learn.{name}={value}" for name, value in settings.items()]
        chosen = [*config.set, *(HASTE if hasty else ())]
        _run("finetune", *asked, *(["--learn.set", *chosen] if chosen else []))
        (candidate,) = (folder / "candidates").iterdir()
        return candidate

    def collected(self) -> list[Path]:
        """What stands for the bundle's own data, where that is wanted."""
        if not self.config.play:
            return []
        made, workers = [], self.config.workers or os.cpu_count() or 1
        corrections = ("intervene", "--bundle", self.first, "--domain", self.domain.source)
        commands = {"play": ("collect", self.domain.source), "corrections": corrections}
        for name, command in commands.items():
            folder, beside = self.out / name, self.out / f"{name}.part"
            if not folder.exists():
                self.say(f"collecting {self.config.play} episodes of {name} in the unchanged twin, not to forget it")
                shutil.rmtree(beside, ignore_errors=True)
                count = ("--episodes", self.config.play, "--seed", PLAY_SEED, "--workers", workers)
                _run(*command, "--out", beside, *count)
                beside.rename(folder)
            made.append(folder)
        return made

    def measured(self, made: Round, bundle: Path | None = None) -> Round:
        """The round with what its candidate is worth."""
        config, found = self.config, {}
        for name, condition in (("worth", config.condition), ("unchanged", DRAWN)):
            file = self.out / "measured" / f"{made.number}-{name}.json"
            if not file.exists():
                asked = ("--bundle", bundle or self.store / "incumbent", "--task", config.task, "--json", file)
                asked += (
                    "--domain",
                    self.domain.source,
                    "--condition",
                    condition,
                    "--episodes",
                    config.measured,
                    "--workers",
                    config.workers,
                )
                _run("eval", *asked)
            found[name] = tuple(int(n) for n in json.loads(file.read_bytes())["subtasks_per_episode"])
        worth, unchanged = (np.mean(found[name]) for name in ("worth", "unchanged"))
        self.say(f"round {made.number}: {made.candidate[:12]} is worth {worth:.2f} sub-tasks, {unchanged:.2f} before")
        return replace(made, **found)

    def tried(self, candidate: Path) -> list[str]:
        """What promotion says; without the gate a candidate drives at once."""
        config = self.config
        if config.gate:
            trial = ["--trial.conditions", config.condition, "--trial.task", config.task]
            trial += ["--trial.max-pairs", str(config.pairs), "--trial.batch", str(min(BATCH_PAIRS, config.pairs))]
            trial += ["--trial.workers", str(config.workers), "--trial.domain", self.domain.source]
            return _run("promote", candidate, "--store", self.store, "--yes", *ALONE, *trial, may_refuse=True)
        from skimo_promote.store import Store

        store = Store(self.store)
        store.promote(store.add(candidate).bundle_id, "without a trial", {})
        return ["incumbent: without a trial"]

    def read(self) -> list[Round]:
        """The rounds so far."""
        try:
            rows = json.loads((self.out / "rounds.json").read_bytes())
        except FileNotFoundError:
            return []
        plain: list[dict[str, Any]] = [
            {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows
        ]
        return [Round(**row) for row in plain]

    def write(self, rounds: Sequence[Round]) -> None:
        write_atomic(self.out / "rounds.json", json.dumps([asdict(r) for r in rounds], indent=1).encode() + b"\n")


def _run(command: str, *arguments: object, may_refuse: bool = False) -> list[str]:
    """Runs a skimo command; returns the lines that it printed.

    Raises:
        SetupError: it failed.
    """
    line = [sys.executable, "-m", "skimo_core.cli", command, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode and not (may_refuse and not done.stderr):
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise SetupError(f"skimo {command} ended with {done.returncode}: {last}")
    return done.stdout.strip().splitlines()
