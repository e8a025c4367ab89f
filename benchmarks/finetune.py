"""Learning on, measured: a bundle in a changed twin, by one objective, with the promotion gate.

    python benchmarks/finetune.py run --condition mount_low --objective corrections --work runs/ex --data runs/play
    python benchmarks/finetune.py table

`run` does the rounds of one condition, objective and seed in a working folder (and goes on where it was broken
off), and leaves CONDITION-OBJECTIVE-SEED.json, .png and its ledger in the results' folder. `table` writes finetune.md
and finetune.png from all of them: what the shipped bundle loses, how much of that comes back, what it cost, and what
the gate kept from driving.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from skimo_core.process.provenance import provenance
from skimo_eval.improve import ImproveConfig, Round, improve
from skimo_eval.learn_demo import draw
from skimo_eval.report import BLUE, DPI, GREY, ORANGE
from skimo_eval.results import write_results
from skimo_eval.statistics import bootstrap_interval

RESULTS = Path("benchmarks/results/finetune")
RUNS = "*-*-*.json"
COLOURS = {"corrections": BLUE, "successes": ORANGE, "returns": GREY}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Do the rounds of one condition, objective and seed.

    Attributes:
        work: working folder; what this run does goes into a folder of its own there.
        rounds: see skimo_eval.improve; the learner's seed draws the episodes too.
        name: of the run; empty: condition, objective and seed.
        out: where the results go.
    """

    work: Path
    rounds: tyro.conf.OmitArgPrefixes[ImproveConfig]
    name: str = ""
    out: Path = RESULTS


@dataclass(frozen=True, kw_only=True)
class Table:
    """Write finetune.md and finetune.png from the results that there are."""

    out: Path = RESULTS


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Run | Table, args=argv)  # type: ignore[arg-type]
    if isinstance(args, Run):
        run(args)
    (args.out / "finetune.md").write_text(table(args.out), encoding="utf-8")
    curves(args.out)
    print((args.out / "finetune.md").read_text(encoding="utf-8"))


def run(args: Run) -> None:
    """The rounds, and their results."""
    config = replace(args.rounds, seed=args.rounds.seed + 10_000 * args.rounds.learner_seed)
    if config.objective != "corrections" and not args.name:
        config = replace(config, corrections=0)  # nobody is asked
    condition = Path(config.condition).stem
    name = args.name or f"{condition}-{config.objective}-{config.learner_seed}"
    rounds = improve(config, args.work / name, lambda words: print(words, flush=True))
    args.out.mkdir(parents=True, exist_ok=True)
    words = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])  # nobody else's folders
    command = f"python benchmarks/finetune.py {' '.join(words)}"
    results: dict[str, Any] = {
        "provenance": provenance(command, config.seed),
        "name": name,
        "condition": condition,
        "objective": config.objective,
        "seed": config.learner_seed,
        "share": config.share,
        "rounds": [asdict(r) for r in rounds],
    }
    write_results(args.out / f"{name}.json", results)
    shutil.copy(args.work / name / "store" / "ledger.jsonl", args.out / f"{name}.ledger.jsonl")
    draw(args.out / f"{name}.png", rounds, config)


def table(folder: Path) -> str:
    """A row for each run."""
    head = "| condition | run | seed | share | shipped | best candidate | drives in the end | old twin |"
    rows = [
        f"{head} lost and regained | corrections | robot, min | person, min | refused | refused though better |",
        "|---" * 14 + "|",
    ]
    for file in sorted(folder.glob(RUNS)):
        found = json.loads(file.read_bytes())
        rounds = [Round(**row) for row in found["rounds"]]
        share = found.get("share", ImproveConfig().share)  # a file of before it could be set doesn't say
        what = f"{found['condition']} | {found['name']} | {found['seed']} | {share:g}"
        rows.append(f"| {what} | {row_of(rounds)} |")
    return "\n".join(rows) + "\n"


def curves(folder: Path) -> None:
    """A panel for each condition, a line for each run: what its candidates are worth against the robot's time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    runs = [json.loads(file.read_bytes()) for file in sorted(folder.glob(RUNS))]
    names = list(dict.fromkeys(run["condition"] for run in runs))
    if not names:
        return
    figure, panels = plt.subplots(1, len(names), figsize=(3 * len(names), 3), sharey=True, layout="constrained")
    for panel, name in zip(np.atleast_1d(panels), names, strict=True):
        of_it = [run for run in runs if run["condition"] == name]
        panel.axhline(np.mean([np.mean(run["rounds"][0]["unchanged"]) for run in of_it]), ls=":", color=GREY)
        for run in of_it:
            minutes = np.cumsum([r["robot_s"] for r in run["rounds"]]) / 60
            worth = [np.mean(r["worth"]) for r in run["rounds"]]
            colour = COLOURS[run["objective"]]
            label = None if run["objective"] in panel.get_legend_handles_labels()[1] else run["objective"]
            panel.plot(minutes, worth, color=colour, label=label)
            for r, x, y in zip(run["rounds"], minutes, worth):
                panel.plot(x, y, "o", color=colour, mfc=colour if r["promoted"] else "white", clip_on=False)
        panel.set(title=name, xlabel="robot's time, minutes", ylim=(0, 4.2))
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, loc="best")
    np.atleast_1d(panels)[0].set_ylabel("sub-tasks of 4 (filled: drives)")
    figure.savefig(folder / "finetune.png", dpi=DPI)
    plt.close(figure)


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
