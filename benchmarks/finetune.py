"""Learning on, measured: a bundle in a changed twin, by one objective, with the promotion gate.

    python benchmarks/finetune.py run --condition doors_x6 --objective corrections --work runs/ex --data runs/play
    python benchmarks/finetune.py table

`run` does the rounds of one condition, objective and seed in a working folder (and goes on where it was broken
off), and leaves CONDITION-OBJECTIVE-SEED.json, .png and its ledger in the results' folder. `table` writes finetune.md
from all of them: what the shipped bundle loses, how much of that comes back, what it cost, and what the gate kept from
driving.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from skimo_core.process.provenance import provenance
from skimo_eval.improve import ImproveConfig, Round, improve
from skimo_eval.learn_demo import draw
from skimo_eval.results import write_results
from skimo_eval.statistics import bootstrap_interval

RESULTS = Path("benchmarks/results/finetune")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Do the rounds of one condition, objective and seed.

    Attributes:
        work: working folder; what this run does goes into a folder of its own there.
        data: folders of the recordings that the bundle learned from.
        bundle, task: who drives first, and what it does.
        condition: what is different in the twin: a name, or a file.
        objective, learner_seed: of the learner.
        rounds, episodes, corrections: see skimo_eval.improve.
        measured, pairs: episodes that measure a candidate, pairs of a trial.
        threads, workers: of the learner, and of everything that flies.
        out: where the results go.
    """

    work: Path
    data: tuple[Path, ...] = ()
    bundle: str = "kitchen"
    task: str = "kitchen"
    condition: str = "doors_x6"
    objective: Literal["corrections", "successes"] = "corrections"
    learner_seed: int = 0
    rounds: int = 2
    episodes: int = 14
    corrections: int = 40
    measured: int = 30
    pairs: int = 100
    threads: int = 2
    workers: int = 2
    out: Path = RESULTS

    @property
    def name(self) -> str:
        """Of its results."""
        return f"{Path(self.condition).stem}-{self.objective}-{self.learner_seed}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Write finetune.md from the results that there are."""

    out: Path = RESULTS


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Run | Table, args=argv)  # type: ignore[arg-type]
    if isinstance(args, Run):
        run(args)
    (args.out / "finetune.md").write_text(table(args.out), encoding="utf-8")
    print((args.out / "finetune.md").read_text(encoding="utf-8"))


def run(args: Run) -> None:
    """The rounds, and their results."""
    asks = args.objective == "corrections"
    config = ImproveConfig(
        out=args.work / args.name,
        bundle=args.bundle,
        task=args.task,
        condition=args.condition,
        objective=args.objective,
        rounds=args.rounds,
        episodes=args.episodes,
        corrections=args.corrections if asks else 0,
        data=args.data,
        pairs=args.pairs,
        measured=args.measured,
        seed=500_000 + 10_000 * args.learner_seed,
        learner_seed=args.learner_seed,
        threads=args.threads,
        workers=args.workers,
    )
    rounds = improve(config, lambda words: print(words, flush=True))
    args.out.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/finetune.py run --condition {args.condition} --objective {args.objective}"
    command += f" --learner-seed {args.learner_seed} --rounds {args.rounds} --work WORK --data PLAY"
    results: dict[str, Any] = {
        "provenance": provenance(command, config.seed),
        "condition": Path(args.condition).stem,
        "objective": args.objective,
        "seed": args.learner_seed,
        "rounds": [asdict(r) for r in rounds],
    }
    write_results(args.out / f"{args.name}.json", results)
    shutil.copy(config.out / "store" / "ledger.jsonl", args.out / f"{args.name}.ledger.jsonl")
    draw(args.out / f"{args.name}.png", rounds, config)


def table(folder: Path) -> str:
    """A row for each run."""
    head = (
        "| condition | objective | seed | shipped | best candidate | drives in the end | old twin | lost and regained |"
    )
    rows = [f"{head} corrections | robot, min | person, min | refused | refused though better |", "|---" * 13 + "|"]
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_bytes())
        rounds = [Round(**row) for row in found["rounds"]]
        rows.append(f"| {found['condition']} | {found['objective']} | {found['seed']} | {row_of(rounds)} |")
    return "\n".join(rows) + "\n"


def row_of(rounds: Sequence[Round]) -> str:
    """What came of a run."""
    worth = [float(np.mean(r.worth)) for r in rounds]
    last = max(i for i, r in enumerate(rounds) if r.promoted)
    lost = float(np.mean(rounds[0].unchanged)) - worth[0]
    drove = np.maximum.accumulate([i if r.promoted else 0 for i, r in enumerate(rounds)])
    refused = [i for i, r in enumerate(rounds) if not r.promoted]
    better = sum(worth[i] > worth[drove[i - 1]] for i in refused)
    low, high = bootstrap_interval(rounds[last].worth)
    cells = [
        f"{worth[0]:.2f}",
        f"{max(worth[1:], default=worth[0]):.2f}",
        f"{worth[last]:.2f} ({low:.2f} .. {high:.2f})",
        f"{np.mean(rounds[last].unchanged):.2f}",
        f"{(worth[last] - worth[0]) / lost:.0%} of {lost:.2f}" if lost > 0.1 else "nothing was lost",
        f"{sum(r.helps for r in rounds)}",
        f"{sum(r.robot_s for r in rounds) / 60:.1f}",
        f"{sum(r.person_s for r in rounds) / 60:.1f}",
        f"{len(refused)} of {len(rounds) - 1}",
        f"{better}",
    ]
    return " | ".join(cells)


if __name__ == "__main__":
    main()
