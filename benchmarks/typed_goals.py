"""Goals that an operator types: each alone, from drawn starts in which it does not hold, in how many of the seeds.

    python benchmarks/typed_goals.py --bundle kitchen --seeds 20

Writes OUT.json, with every episode's outcome and its provenance, and a Markdown table OUT.md beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from skimo_core.domain.domain import load_domain
from skimo_core.process.provenance import provenance
from skimo_eval.inprocess import Job, checked_settings, factory_for, run_jobs
from skimo_eval.results import write_results
from skimo_eval.statistics import share_interval
from skimo_server.bundle import load_bundle, resolve_bundle
from skimo_sim.condition import DRAWN

GOALS = (
    "microwave half open",
    "slide half open",
    "hinge half open",
    "kettle bottom right",
    "kettle top right",
    "microwave closed",
    "light off",
    "bottom burner off",
    "home",
    "light_switch=-0.55 & slide_cabinet=0.3+-0.1",
    "microwave=-0.5+-0.15 & kettle.x=-0.25+-8cm",
)
"""Part of the way, another burner, undone again, the arm, and two at once."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which goals, how often.

    Attributes:
        bundle: path, or the name of a bundle that ships.
        goals: as typed for `skimo start --task`.
        seeds: episodes of each goal.
        first_seed: the first of them.
        condition: what is different in the twin (skimo_sim.condition).
        set: settings of the planner, name=value, on top of the bundle's own.
        out: result files OUT.json and OUT.md.
        workers: processes.
    """

    bundle: str = "kitchen"
    goals: tuple[str, ...] = GOALS
    seeds: int = 20
    first_seed: int = 0
    condition: str = DRAWN
    set: tuple[str, ...] = ()
    out: Path = Path("benchmarks/results/typed_goals")
    workers: int = 2


def table(results: dict[str, Any]) -> str:
    """One row a goal: in how many episodes it was reached, the interval, and after how many control steps."""
    rows = ["| goal | reached | 95 % | control steps, median |", "|---|---|---|---|"]
    for goal, figures in results["goals"].items():
        low, high = figures["interval_95"]
        steps = sorted(s for s in figures["reached_at"] if s is not None)
        median = str(steps[len(steps) // 2]) if steps else "-"
        reached = f"{figures['reached']} of {figures['episodes']}"
        rows.append(f"| `{goal}` | {reached} | {low:.0%} .. {high:.0%} | {median} |")
    return "\n".join(rows) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Args, args=argv)
    folder, domain = resolve_bundle(args.bundle), load_domain()
    command = f"python benchmarks/typed_goals.py --bundle {folder.name} --seeds {args.seeds}"
    command += f" --first-seed {args.first_seed} --condition {args.condition}"
    command += f" --set {' '.join(args.set)}" if args.set else ""
    manifest = load_bundle(folder).manifest
    results: dict[str, Any] = {
        "provenance": provenance(command, args.first_seed),
        "bundle_id": manifest.bundle_id,
        "goals": {},
    }
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    jobs = [Job(task=domain.task(goal).name, seed=s, condition=args.condition) for goal in args.goals for s in seeds]
    flown = run_jobs(jobs, factory_for(folder, checked_settings(manifest.planner, args.set)), workers=args.workers)
    for goal in args.goals:
        episodes = [result for _, result in zip(seeds, flown)]
        at = [e.completed_at[0] if e.completed_at else None for e in episodes]
        reached = sum(step is not None for step in at)
        low, high = share_interval(reached, len(at))
        results["goals"][goal] = {
            "episodes": len(at),
            "reached": reached,
            "interval_95": [low, high],
            "reached_at": at,
            "errors": [e.error for e in episodes if e.error],
        }
        print(f"{goal}: {reached} of {len(at)}", flush=True)
        write_results(args.out.with_suffix(".json"), results)
        args.out.with_suffix(".md").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
