"""The `table` example: each sub-task alone, goals that an operator types, and the named tasks, from drawn starts.

    python benchmarks/table.py --bundle bundles/table --seeds 20

None of a goal's channels holds at the start. Writes OUT.json, with every episode's outcome and its provenance, and a
Markdown table OUT.md beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from skimo_core.domain.domain import Domain, load_domain
from skimo_core.process.provenance import provenance
from skimo_eval.inprocess import Job, World, factory_for, run_jobs
from skimo_eval.results import write_results
from skimo_eval.statistics import share_interval
from skimo_eval.trials import EpisodeResult
from skimo_server.bundle import load_bundle, resolve_bundle

TYPED = (
    "drawer closed",
    "drawer half open",
    "red lifted",
    "green in row",
    "red.x=0.55 red.y=-0.03",
    "drawer open & blue.x=0.5+-5cm",
    "home",
)
"""Undone again, part of the way, held up, at a place of no pad's, two at once, and the arm."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which bundle, how often.

    Attributes:
        bundle: path, or the name of a bundle that ships.
        domain: whose sub-tasks and named tasks are asked for: a name, or a file.
        typed: further goals, as typed for `skimo start --task`.
        seeds: episodes of each.
        first_seed: the first of them.
        play: what the bundle learned from, in words, for the result file.
        out: result files OUT.json and OUT.md.
        workers: processes.
    """

    bundle: str
    domain: str = "table"
    typed: tuple[str, ...] = TYPED
    seeds: int = 20
    first_seed: int = 0
    play: str = ""
    out: Path = Path("benchmarks/results/table")
    workers: int = 1


def asked(domain: Domain, typed: Sequence[str]) -> dict[str, list[str]]:
    """What is asked for, by kind."""
    return {"sub-task": list(domain.subtasks), "typed goal": list(typed), "task": list(domain.orders)}


def figures_of(kind: str, episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    """How often it was done, and when; of a task also how many of its sub-tasks."""
    wanted = len(episodes[0].task)
    at = [e.completed_at[-1] if e.subtasks_done == wanted else None for e in episodes]
    reached = sum(step is not None for step in at)
    return {
        "kind": kind,
        "subtasks": wanted,
        "episodes": len(at),
        "reached": reached,
        "interval_95": list(share_interval(reached, len(at))),
        "subtasks_done": [e.subtasks_done for e in episodes],
        "reached_at": at,
        "errors": [e.error for e in episodes if e.error],
    }


def table(results: dict[str, Any]) -> str:
    """One row for each thing asked for: in how many episodes it was done, the interval, and in how many steps."""
    rows = ["| asked for | done | 95 % | of its sub-tasks | control steps, median |", "|---|---|---|---|---|"]
    for name, figures in results["asked"].items():
        low, high = figures["interval_95"]
        steps = sorted(s for s in figures["reached_at"] if s is not None)
        median = str(steps[len(steps) // 2]) if steps else "-"
        mean = sum(figures["subtasks_done"]) / figures["episodes"]
        share = f"{mean:.2f} of {figures['subtasks']}" if figures["subtasks"] > 1 else ""
        done = f"{figures['reached']} of {figures['episodes']}"
        rows.append(f"| {figures['kind']} `{name}` | {done} | {low:.0%} .. {high:.0%} | {share} | {median} |")
    alone = [figures for figures in results["asked"].values() if figures["kind"] == "sub-task"]
    if alone:
        reached, episodes = (sum(figures[key] for figures in alone) for key in ("reached", "episodes"))
        low, high = share_interval(reached, episodes)
        rows.append(f"| all sub-tasks, each alone | {reached} of {episodes} | {low:.0%} .. {high:.0%} | | |")
    return "\n".join(rows) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Args, args=argv)
    folder, domain = resolve_bundle(args.bundle), load_domain(args.domain)
    command = f"python benchmarks/table.py --bundle {folder.name} --seeds {args.seeds} --first-seed {args.first_seed}"
    results: dict[str, Any] = {
        "provenance": provenance(command, args.first_seed),
        "domain": str(domain.named),
        "play": args.play,
        "bundle_id": load_bundle(folder).manifest.bundle_id,
        "asked": {},
    }
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    wanted = [(kind, name) for kind, names in asked(domain, args.typed).items() for name in names]
    jobs = [Job(task=domain.task(name).name, seed=seed) for _, name in wanted for seed in seeds]
    world = World(domain=args.domain)
    flown = run_jobs(jobs, factory_for(folder, {}), world, workers=args.workers)
    for kind, name in wanted:
        results["asked"][name] = figures_of(kind, [result for _, result in zip(seeds, flown)])
        print(f"{kind} {name}: {results['asked'][name]['reached']} of {args.seeds}", flush=True)
        write_results(args.out.with_suffix(".json"), results)
        args.out.with_suffix(".md").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
