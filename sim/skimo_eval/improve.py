"""A bundle that learns from its own work in the twin, in rounds: behind `skimo demo --learn` and the experiment.

    practise   whoever drives works under the condition, and asks for help while there is help left
    learn      `skimo finetune`, a process of its own, goes on from whoever drives, with all recordings so far
    measure    the candidate flies the same seeds as every other: what it is worth, whether it comes to drive or not
    promote    `skimo promote`: it drives if it earns it

Every step leaves its result in the folder, and is not done again by a run that was broken off and is called again:
recordings/, learners/N, measured/*.json, store/, and rounds.json with a line for each round. The learner and the trial
take minutes on two cores. Units s of the robot's time where the name says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.episodes.files import write_atomic
from skimo_sim.condition import DRAWN

from .practice import Args as PracticeArgs
from .practice import practise, recording

BATCH, BATCH_PAIRS = 2, 10
"""Episodes between two looks at how much help is left; pairs between two at how a trial stands."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveConfig:
    """What is learned, from how much, and how it is judged.

    Attributes:
        out: folder of all that comes of it.
        bundle: path of a bundle, or the name of one that ships: who drives first.
        task, condition: as in skimo eval.
        objective: as in skimo finetune.
        rounds, episodes: how many rounds, and of how many episodes each.
        corrections: sub-tasks that somebody does in the policy's place, over all rounds; 0: nobody is asked.
        ask_below: probability below which three plans in a row ask for help.
        data: folders of the recordings that the bundle learned from.
        gate: whether a candidate has to earn its way; without, it drives at once.
        pairs: of a trial, at most.
        measured: episodes that measure a candidate, under the condition and in the unchanged twin.
        seed: of the first episode of practice; measured ones have their own.
        learner_seed, threads, set: of the learner, as in skimo finetune.
        workers: processes; 0 means one per core.
    """

    out: Path
    bundle: str = "kitchen"
    task: str = "kitchen"
    condition: str = "doors_x6"
    objective: Literal["corrections", "successes"] = "corrections"
    rounds: int = 2
    episodes: int = 14
    corrections: int = 40
    ask_below: float = 0.4
    data: tuple[Path, ...] = ()
    gate: bool = True
    pairs: int = 100
    measured: int = 20
    seed: int = 500_000
    learner_seed: int = 0
    threads: int = 2
    set: tuple[str, ...] = ()
    workers: int = 0

    def __post_init__(self) -> None:
        if min(self.rounds, self.episodes, self.measured, self.pairs) < 1 or self.corrections < 0:
            raise SpecError("rounds, episodes, measured and pairs must be at least 1, corrections at least 0")


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


def improve(config: ImproveConfig, say: Say) -> list[Round]:
    """Does the rounds, or goes on with them; returns them, round 0 first.

    Raises:
        SpecError: no such bundle, task or condition. SetupError: a command failed.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    rounds = _read(config.out)
    if not rounds:
        _run("promote", config.bundle, "--store", _store(config), "--yes", *ALONE)
        rounds.append(_measured(config, Round(number=0, candidate=_incumbent(config), promoted=True), say))
        _write(config, rounds)
    for number in range(len(rounds), config.rounds + 1):
        rounds.append(_round(config, rounds, number, say))
        _write(config, rounds)
    return rounds


ALONE = ("--shadow.plans", "0", "--canary.episodes", "0")
"""No robot runs that a candidate could shadow."""


def _round(config: ImproveConfig, rounds: Sequence[Round], number: int, say: Say) -> Round:
    worked = _practise(config, number, config.corrections - sum(r.helps for r in rounds), say)
    drove = _store(config) / "bundles" / worked["drove"]
    learner = config.out / "learners" / str(number)
    say(f"round {number}: learning from {len(list(_recordings(config).glob('*.mcap')))} episodes")
    data = ["--data", *map(str, config.data)] if config.data else []
    learn = [f"--learn.{name}={value}" for name, value in _learn(config).items()]
    asked = ("--bundle", drove, "--recordings", _recordings(config), "--out", learner)
    learn += ["--learn.set", *config.set] if config.set else []
    _run("finetune", *asked, *data, *learn)
    (candidate,) = (learner / "candidates").iterdir()
    bundle_id = str(json.loads((candidate / "manifest.json").read_bytes())["bundle_id"])
    made = Round(number=number, candidate=bundle_id, **worked)
    made = _measured(config, made, say, candidate)
    trial = ["--trial.conditions", config.condition, "--trial.task", config.task, "--trial.max-pairs", config.pairs]
    trial += ["--trial.workers", config.workers, "--trial.batch", min(BATCH_PAIRS, config.pairs)]
    said = _promote(config, candidate, trial)
    for line in said:
        say(f"  {line}")
    made = replace(made, promoted=_incumbent(config) == bundle_id, why=tuple(said[-3:]))
    say(f"round {number}: {'promoted' if made.promoted else 'refused'}")
    return made


def _practise(config: ImproveConfig, number: int, help_left: int, say: Say) -> dict[str, Any]:
    """A round's episodes, a few at a time; what came of them, as fields of `Round`."""
    first, period_s = config.seed + 1000 * number, load_domain().action.period_s
    file = config.out / "practice" / f"{number}.json"
    known = json.loads(file.read_bytes()) if file.exists() else {"drove": _incumbent(config), "episodes": []}
    done: list[dict[str, Any]] = known["episodes"]
    most = len(load_domain().task(config.task).subtasks) * BATCH
    while len(done) < config.episodes:
        left = help_left - sum(row["helps"] for row in done)
        count = min(BATCH, config.episodes - len(done))
        args = PracticeArgs(
            out=_recordings(config),
            bundle=str(_store(config) / "incumbent"),
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
            row = {"done": result.subtasks_done, "helps": result.helps, "steps": result.steps, "stops": result.stops}
            done.append({**row, "helped": result.helped_steps, "meddled": sum(result.verdicts.values())})
            say(f"round {number}: episode {len(done)}: {result.subtasks_done} sub-tasks, helped {result.helps} times")
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


def _measured(config: ImproveConfig, made: Round, say: Say, bundle: Path | None = None) -> Round:
    """The round with what its candidate is worth."""
    found = {}
    for name, condition in (("worth", config.condition), ("unchanged", DRAWN)):
        file = config.out / "measured" / f"{made.number}-{name}.json"
        if not file.exists():
            asked = ("--bundle", bundle or _store(config) / "incumbent", "--task", config.task, "--json", file)
            asked += ("--condition", condition, "--episodes", config.measured, "--workers", config.workers)
            _run("eval", *asked)
        found[name] = tuple(int(n) for n in json.loads(file.read_bytes())["subtasks_per_episode"])
    worth, unchanged = (np.mean(found[name]) for name in ("worth", "unchanged"))
    say(f"round {made.number}: {made.candidate[:12]} is worth {worth:.2f} sub-tasks, {unchanged:.2f} in the old twin")
    return replace(made, **found)


def _promote(config: ImproveConfig, candidate: Path, trial: Sequence[object]) -> list[str]:
    """What promotion says; without the gate a candidate drives at once."""
    if config.gate:
        return _run("promote", candidate, "--store", _store(config), "--yes", *ALONE, *trial, may_refuse=True)
    from skimo_promote.store import Store

    store = Store(_store(config))
    store.promote(store.add(candidate).bundle_id, "without a trial", {})
    return ["incumbent: without a trial"]


def _learn(config: ImproveConfig) -> dict[str, object]:
    return {"objective": config.objective, "seed": config.learner_seed, "threads": config.threads}


def _store(config: ImproveConfig) -> Path:
    return config.out / "store"


def _recordings(config: ImproveConfig) -> Path:
    return config.out / "recordings"


def _incumbent(config: ImproveConfig) -> str:
    return (_store(config) / "incumbent").resolve().name


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


def _read(out: Path) -> list[Round]:
    try:
        rows = json.loads((out / "rounds.json").read_bytes())
    except FileNotFoundError:
        return []
    plain: list[dict[str, Any]] = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows
    ]
    return [Round(**row) for row in plain]


def _write(config: ImproveConfig, rounds: Sequence[Round]) -> None:
    write_atomic(config.out / "rounds.json", json.dumps([asdict(r) for r in rounds], indent=1).encode() + b"\n")
