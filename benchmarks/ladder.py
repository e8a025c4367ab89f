"""The ladder: which part of zero-shot planning fails, rung by rung, on the same seeds with the same settings.

  a  held-out episodes' skills, encoded and replayed closed loop in the twin: the skill space and the skill policy
  b  the planner with the twin itself as its model: the planner without model errors
  c  the planner with the learned model: what is deployed
  c" the same where the planner, or the skill policy, sees what is true: which of them a condition's sensors mislead
  d  skills drawn from the prior alone: no planning

Each rung runs in process on `--seeds` seeds for the tasks kitchen and misaligned, and on `--orders` random orders of
four of the seven sub-tasks; (a) replays held-out play. Writes JSON with each rung's provenance and a Markdown table
beside it, after every task. Rung b simulates every candidate: three minutes an episode and core.

    skimo collect kitchen --episodes 24 --seed 100000 --out datasets/held-out
    python benchmarks/ladder.py --held-out datasets/held-out --rungs replay twin learned reward paper prior
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from clear_sight import Half, clear_sight, fly_seeing
from replay import replay_held_out
from twin_policy import fly_watched, twin_policy

from skimo_core.domain.domain import load_domain
from skimo_core.process.provenance import provenance
from skimo_eval.inprocess import Fly, Job, PolicyFactory, factory_for, fly, run_jobs
from skimo_eval.orders import random_orders
from skimo_eval.statistics import summarise
from skimo_server.bundle import load_bundle, resolve_bundle
from skimo_sim.condition import DRAWN

Rung = Literal["replay", "twin", "learned", "reward", "paper", "plan-true", "act-true", "prior"]
NAMES: dict[Rung, str] = {
    "replay": "a  encoded skills replayed",
    "twin": "b  planner with the twin as model",
    "learned": "c  planner with the learned model",
    "reward": "c' the same, the task's reward in the score",
    "paper": "c' the same with SkiMo's table 2 settings",
    "plan-true": 'c" the same, the planner sees what is true',
    "act-true": 'c" the same, the skill policy sees what is true',
    "prior": "d  skills from the prior alone",
}
HALVES: dict[Rung, Half] = {"plan-true": "plan", "act-true": "act"}
ORDERS_SEED = 7


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to climb.

    Attributes:
        bundle: path, or the name of a bundle that ships.
        out: result files OUT.json and OUT.md.
        held_out: folder of recorded play that was not trained on, for rung a.
        rungs: which to run; the others' results are kept from an earlier OUT.json.
        condition: what is different in the twin (skimo_sim.condition); rung a begins where the recordings do.
        seeds: episodes of each named task.
        first_seed: the first of them; settings were chosen on other seeds.
        orders: how many random orders, one episode each.
        twin_samples: candidates per round for rung b, which is slow; an eighth of them are elites.
        workers: processes.
    """

    bundle: str = "kitchen"
    out: Path = Path("benchmarks/results/ladder")
    held_out: Path | None = None
    rungs: tuple[Rung, ...] = ("learned", "paper", "prior")
    condition: str = DRAWN
    seeds: int = 20
    first_seed: int = 0
    orders: int = 20
    workers: int = 2
    twin_samples: int = 24


def settings(rung: Rung) -> dict[str, Any]:
    """What a rung changes of the bundle's planner settings."""
    if rung == "prior":
        return {"samples": 1, "elites": 1, "iterations": 1, "execute": "elite_sample", "warm_start": "none"}
    if rung == "reward":
        return {"score": "reward+value"}
    if rung == "paper":
        return {"preset": "skimo_table_2"}
    return {}


def flying(rung: Rung, folder: Path, twin_samples: int) -> tuple[PolicyFactory, Fly]:
    """What makes a rung's policy, and what flies it."""
    if rung == "twin":
        return partial(twin_policy, folder, twin_samples), fly_watched
    if half := HALVES.get(rung):
        return partial(clear_sight, folder, half), fly_seeing
    return factory_for(folder, settings(rung)), fly


def climb(args: Args, rung: Rung, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run one rung and yield each task's figures as they come."""
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    where = args.condition
    jobs = {task: [Job(task=task, seed=s, condition=where) for s in seeds] for task in load_domain().orders}
    jobs["random orders"] = [
        Job(task=order, seed=args.first_seed + i, condition=where)
        for i, order in enumerate(random_orders(load_domain(), args.orders, ORDERS_SEED))
    ]
    factory, flown = flying(rung, folder, args.twin_samples)
    for task, todo in jobs.items():
        figures = summarise(list(run_jobs(todo, factory, workers=args.workers, flown=flown)))
        print(f"{NAMES[rung]} / {task}: {figures['subtasks_mean']:.2f} of 4", flush=True)
        yield task, figures


def command(args: Args, rung: Rung, bundle: str) -> str:
    """What runs this rung again."""
    words = f"python benchmarks/ladder.py --bundle {bundle} --rungs {rung}"
    if rung == "replay":
        return f"{words} --held-out {args.held_out.name if args.held_out else ''}"
    words += f" --condition {args.condition} --first-seed {args.first_seed} --seeds {args.seeds} --orders {args.orders}"
    return f"{words} --twin-samples {args.twin_samples}" if rung == "twin" else words


def table(results: dict[str, Any], bundle_id: str) -> str:
    """The Markdown table of all rungs; one that was climbed with another bundle than `bundle_id` says so."""
    head = "| rung | task | episodes | sub-tasks of 4 (95 %) | predicted success true |\n|---|---|---|---|---|\n"
    rows = []
    for rung, figures in results.items():
        for task, f in figures["tasks"].items():
            low, high = f["subtasks_interval_95"]
            audit = f.get("planned_against_realised", {})
            precision = audit.get("precision")
            share = "-" if precision is None else f"{precision:.0%} of {audit['predicted_successes']}"
            other = "" if figures["bundle"] == bundle_id else f" (bundle {figures['bundle'][:8]})"
            name = f"{NAMES[rung]}{other}"  # type: ignore[index]
            rows.append(
                f"| {name} | {task} | {f['episodes']} | {f['subtasks_mean']:.2f} ({low:.2f} .. {high:.2f}) | {share} |"
            )
    return head + "\n".join(rows) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Args, args=argv)
    if "replay" in args.rungs and args.held_out is None:
        raise SystemExit(
            "rung replay needs --held-out DIR: skimo collect kitchen --episodes 24 --seed 100000 --out DIR"
        )
    folder = resolve_bundle(args.bundle)
    bundle_id = load_bundle(folder).manifest.bundle_id
    path = args.out.with_suffix(".json")
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    # taken before the first result is written: that alone would change the working tree
    made = {rung: provenance(command(args, rung, folder.name), args.first_seed) for rung in args.rungs}
    for rung in args.rungs:
        if rung == "replay" and args.held_out is not None:
            climbed = [("held-out play", replay_held_out(folder, args.held_out))]
        else:
            climbed = climb(args, rung, folder)
        results[rung] = {"provenance": made[rung], "bundle": bundle_id, "tasks": {}}
        results = {name: results[name] for name in NAMES if name in results}
        for task, figures in climbed:
            results[rung]["tasks"][task] = figures
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            args.out.with_suffix(".md").write_text(table(results, bundle_id), encoding="utf-8")
    print(f"ladder: wrote {path} and {args.out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
