"""Candidate against incumbent in the twin, on the same seeds, until one thing or the other is shown.

Both fly by `skimo eval` in processes of their own, a batch at a time; a batch's result file stays, so that a trial that
was killed goes on after it. After each batch bets are looked at (`sequential.py`), each wrong with a chance of at most
alpha however often one looks:
  better      the mean difference of sub-tasks is more than the margin       -> passed
  worse       ... is less than 0, under one of the conditions                -> refused
What is better but needs the gate's interference twice as often, or ends in more STOPs, is refused by plain
count over the pairs flown; so is, in the end, what isn't shown to be better: what learned has to earn its way.
Units sub-tasks, share of commands.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from skimo_core.contract.errors import SetupError, SpecError, StoreError

from .pace import Say
from .sequential import Bet
from .verdict import Verdict

TIMEOUT_S = 3600.0
MIN_PAIRS = 20
MEDDLED, LEAST_MEDDLED = 2.0, 0.01
"""How many times the incumbent's share of commands the gate may interfere with, and a share that it always may."""
MOST_MEDDLED = 0.1
"""No episode counts for more: an arm that is held asks for the same thing again and again."""
MAX_MARGIN = 0.5
MORE_STOPS = 1
"""So many more episodes that end in a STOP may be chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """What is flown, and how sure one has to be.

    Attributes:
        task, domain: as in skimo eval.
        conditions: under which both fly, each as often.
        margin: sub-tasks by which the candidate has to be better.
        alpha: chance that what is said is not so.
        batch: pairs under each condition between two looks.
        max_pairs: under all conditions together.
        seed: of the first episode; a candidate's own, drawn from its id, is added.
        workers: processes; 0: one per core.
        ray: HOST:PORT of a Ray cluster that this machine has joined, or auto, to fly there; results are the same.
    """

    task: str = ""
    domain: str = ""
    conditions: tuple[str, ...] = ("drawn",)
    margin: float = 0.0
    alpha: float = 0.05
    batch: int = 10
    max_pairs: int = 200
    seed: int = 1_000_000
    workers: int = 0
    ray: str = ""

    def __post_init__(self) -> None:
        if not self.conditions or self.batch < 1 or self.max_pairs < 1:
            raise SpecError("a trial needs a condition, and batch and max_pairs of at least 1")
        if not 0.0 < self.alpha < 0.5:
            raise SpecError(f"alpha is {self.alpha}, must lie in 0 to 0.5")
        if abs(self.margin) > MAX_MARGIN:
            raise SpecError(f"margin is {self.margin} sub-tasks, must lie in -{MAX_MARGIN} to {MAX_MARGIN}")

    @property
    def folder(self) -> str:
        """A name for what is flown, so that another trial's results are never taken for it."""
        flown = [self.task, self.domain, *self.conditions, str(self.batch), str(self.seed)]
        return hashlib.sha256("\0".join(flown).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flown:
    """One episode of one bundle; `meddled` is the share of its commands with which the gate interfered, cut off."""

    subtasks_done: int
    meddled: float
    stopped: bool


@dataclass(slots=True, kw_only=True)
class Score:
    """What the pairs so far say."""

    better: Bet
    worse: dict[str, Bet]
    differences: dict[str, list[int]]
    meddled: list[tuple[float, float]] = field(default_factory=list)
    stops: tuple[int, int] = (0, 0)

    @classmethod
    def on(cls, margin: float, subtasks: int, conditions: Sequence[str]) -> Score:
        """Nothing seen yet, of a task with so many sub-tasks."""
        return cls(
            better=Bet(-subtasks, subtasks, margin),
            worse={name: Bet(-subtasks, subtasks, 0.0) for name in conditions},
            differences={name: [] for name in conditions},
        )

    def take(self, condition: str, new: Flown, old: Flown) -> None:
        """One pair."""
        difference = new.subtasks_done - old.subtasks_done
        self.differences[condition].append(difference)
        self.better.take(difference)
        self.worse[condition].take(-difference)
        self.meddled.append((new.meddled, old.meddled))
        self.stops = self.stops[0] + new.stopped, self.stops[1] + old.stopped

    def worse_under(self, alpha: float) -> str:
        """The condition under which it is shown to be worse; empty: none."""
        return next((name for name, bet in self.worse.items() if bet.won(alpha / len(self.worse))), "")

    def too_bold(self) -> str:
        """What speaks against it though it be better; empty: nothing."""
        new, old = (mean(some) for some in zip(*self.meddled))
        if new > LEAST_MEDDLED and new >= MEDDLED * old:
            return f"the gate interferes with {new:.1%} of its commands, of the incumbent's with {old:.1%}"
        if self.stops[0] > self.stops[1] + MORE_STOPS:
            return f"{self.stops[0]} of its episodes end in a STOP, {self.stops[1]} of the incumbent's"
        return ""

    def figures(self) -> dict[str, Any]:
        """For the ledger."""
        return {
            "pairs": self.better.count,
            "difference": round(mean([d for some in self.differences.values() for d in some]), 4),
            "by_condition": {name: round(mean(some), 4) for name, some in self.differences.items()},
            "odds": round(self.better.best, 3),
            "meddled": [round(mean(some), 4) for some in zip(*self.meddled)],
            "stops": list(self.stops),
        }


def fly(candidate: Path, incumbent: Path, folder: Path, config: TrialConfig, say: Say) -> Verdict:
    """Flies pairs until the trial is decided.

    Args:
        candidate, incumbent: folders of bundles, named by their ids.
        folder: in whose folder the batches' result files go, and are found again.

    Raises:
        SetupError: `skimo eval` can't do it. StoreError: a result file is not what it has to be.
    """
    score: Score | None = None
    evidence: dict[str, Any] = {}
    said = ""
    for new, old in _batches(candidate, incumbent, folder / config.folder, config):
        score = score or Score.on(config.margin, new.subtasks, list(new.episodes))
        for condition, seed in new.pairs_with(old):
            score.take(condition, new.episodes[condition][seed], old.episodes[condition][seed])
        figures = score.figures()
        evidence = {**figures, "alpha": config.alpha, "margin": config.margin, "task": config.task}
        said = f"{figures['difference']:+.2f} sub-tasks over {figures['pairs']} pairs"
        say(f"{said}, odds {figures['odds']:.3g} to 1 that it is better")
        if name := score.worse_under(config.alpha):
            return Verdict(passed=False, why=f"worse under {name}: {said}", evidence=evidence)
        if score.better.won(config.alpha) and figures["pairs"] >= MIN_PAIRS:
            why = score.too_bold()
            return Verdict(passed=not why, why=why or said, evidence=evidence)
    return Verdict(passed=False, why=f"not shown to be better: {said}", evidence=evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a bundle flew: the number of sub-tasks, and its episodes by condition and seed."""

    subtasks: int
    episodes: Mapping[str, Mapping[int, Flown]]

    def pairs_with(self, other: Batch) -> list[tuple[str, int]]:
        """Condition and seed of each pair, the conditions in turn.

        Raises:
            StoreError: the other flew something else.
        """
        if {c: set(e) for c, e in self.episodes.items()} != {c: set(e) for c, e in other.episodes.items()}:
            raise StoreError("candidate and incumbent flew other conditions or seeds; remove the trial's evidence")
        seeds = sorted({seed for some in self.episodes.values() for seed in some})
        return [(condition, seed) for seed in seeds for condition in self.episodes]


def _batches(candidate: Path, incumbent: Path, folder: Path, config: TrialConfig) -> Iterator[tuple[Batch, Batch]]:
    first = config.seed + int(candidate.name[:5], 16)
    for index in range(-(-config.max_pairs // (config.batch * len(config.conditions)))):
        seed = first + index * config.batch
        yield _flown(candidate, folder, seed, config), _flown(incumbent, folder, seed, config)


def _flown(bundle: Path, folder: Path, seed: int, config: TrialConfig) -> Batch:
    """A bundle's episodes; flown, unless they were before."""
    file = folder / f"{bundle.name[:12]}-{seed}.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".new")
        _evaluate(bundle, beside, seed, config)
        beside.replace(file)
    try:
        results = json.loads(file.read_bytes())
        under = results["conditions"] if "conditions" in results else {results["condition"]: results}
        episodes = {name: {int(e["seed"]): _one(e) for e in f["episodes_detail"]} for name, f in under.items()}
        if results["bundle_id"] != bundle.name:
            raise ValueError(f"of bundle {results['bundle_id'][:12]}")
        if len(episodes) != len(config.conditions) or any(len(some) != config.batch for some in episodes.values()):
            raise ValueError("other conditions, or another batch")
        return Batch(subtasks=int(results["subtasks"]), episodes=episodes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{file.name} is not this trial's ({error}); remove it, and it is flown again") from error


def _one(episode: Mapping[str, Any]) -> Flown:
    meddled = sum(episode["verdicts"].values()) / max(1, int(episode["steps"]))
    return Flown(
        subtasks_done=int(episode["subtasks_done"]),
        meddled=min(MOST_MEDDLED, meddled),
        stopped=int(episode["stops"]) > 0,
    )


def _evaluate(bundle: Path, out: Path, seed: int, config: TrialConfig) -> None:
    command = [sys.executable, "-m", "skimo_core.cli", "eval", "--bundle", str(bundle), "--json", str(out)]
    command += ["--condition", ",".join(config.conditions), "--seed", str(seed), "--episodes", str(config.batch)]
    command += ["--workers", str(config.workers)]
    for option, word in (("--task", config.task), ("--domain", config.domain), ("--ray", config.ray)):
        command += [option, word] if word else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise SetupError(f"skimo eval took more than {TIMEOUT_S:g} s for {config.batch} episodes") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise SetupError(f"skimo eval ended with {done.returncode}: {last}")
