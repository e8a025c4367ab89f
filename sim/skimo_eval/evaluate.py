"""`skimo eval`: how many ordered sub-tasks a bundle completes in the twin, and everything that went wrong.

Episode i uses seed `seed + i`. `--stack inprocess` runs in simulated time in worker processes, `--stack full` starts
the ROS stack and runs in real time, the twin reset between episodes. Success is counted on the twin's truth. The result
file holds the figures, every episode, and where they come from.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.domain.domain import DEFAULT, load_domain
from skimo_core.domain.tasks import Task
from skimo_core.process.provenance import provenance

MAX_EPISODES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Evaluate a bundle on a task in the twin.

    Attributes:
        bundle: path of a bundle, or the name of one that ships.
        domain: what the tasks share: a domain's name, or a file.
        robot: whose limits hold: a robot's name, or a file; empty: the domain's.
        cell: what stands around the arm: a cell's name, or a file; empty: the domain's.
        task: a named task, or goals joined by commas, in the order in which they count: sub-tasks' names, or channels
            with values, as microwave=-0.4+-0.1; empty: the domain's first.
        episodes: how many.
        seed: of the first episode; episode i uses seed + i. The twin's start is the same for every seed; the seed draws
            sensor noise and the planner's dice.
        stack: "inprocess" (simulated time) or "full" (the ROS stack, real time).
        json: result file.
        workers: processes for "inprocess"; 0 means one per core.
        set: planner settings on top of the bundle's own, as name=value.
    """

    bundle: str = "kitchen"
    domain: str = DEFAULT
    robot: str = ""
    cell: str = ""
    task: str = ""
    episodes: int = 20
    seed: int = 0
    stack: Literal["inprocess", "full"] = "inprocess"
    json: Path | None = None
    workers: int = 0
    set: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.episodes <= MAX_EPISODES:
            raise SpecError(f"episodes is {self.episodes}, must lie in 1 to {MAX_EPISODES}")
        if self.seed < 0:
            raise SpecError(f"seed is {self.seed}, must be 0 or more")
        if self.stack == "full" and self.set:
            raise SpecError("planner settings (--set) are for --stack inprocess; the full stack runs a bundle as it is")


def main(argv: list[str]) -> int:
    """Count the sub-tasks that a bundle completes in the twin."""
    try:
        args = tyro.cli(Args, args=argv, prog="skimo eval")
        figures = evaluate_full(args) if args.stack == "full" else evaluate_inprocess(args)
    except SkimoError as error:
        print(f"skimo eval: {error}", file=sys.stderr)
        return 1
    low, high = figures["subtasks_interval_95"]
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"eval: wrote {args.json}")
    print(
        f"eval: subtasks_mean {figures['subtasks_mean']:.2f} of {figures['subtasks']} (95 % {low:.2f} .. {high:.2f}) "
        f"episodes {figures['episodes']} stops {figures['stops']} missed_ticks {figures['missed_ticks']}"
    )
    return 0


def evaluate_inprocess(args: Args) -> dict[str, Any]:
    """Run the episodes in worker processes, printing one line for each."""
    from skimo_eval.statistics import summarise
    from skimo_server.bundle import load_bundle, resolve_bundle
    from skimo_server.planner_config import with_settings  # refuses unknown settings before any worker starts

    from .inprocess import Job, World, factory_for, run_jobs

    task = load_domain(args.domain).task(args.task)
    folder = resolve_bundle(args.bundle)
    manifest = load_bundle(folder).manifest
    with_settings(manifest.planner, args.set)
    settings: dict[str, object] = {name: value for name, _, value in (pair.partition("=") for pair in args.set)}
    world = World(domain=args.domain, robot=args.robot, cell=args.cell)
    jobs = [Job(task=task.name, seed=args.seed + i) for i in range(args.episodes)]
    results = []
    for result in run_jobs(jobs, factory_for(folder, settings), world, workers=args.workers or (os.cpu_count() or 1)):
        results.append(result)
        done = ", ".join(f"{n} at step {s}" for n, s in zip(result.task, result.completed_at)) or "none"
        print(f"episode {result.seed}: {result.subtasks_done}/{len(result.task)} ({done}) {result.error}", flush=True)
    return _report(args, task, manifest.bundle_id, summarise(results)) | {
        "episodes_detail": [r.to_dict() for r in results],
    }


def evaluate_full(args: Args) -> dict[str, Any]:
    """Start the ROS stack and run the episodes through it."""
    from .full_stack import run_full
    from .pauses import describe

    domain = load_domain(args.domain)
    task = domain.task(args.task)
    seeds = range(args.seed, args.seed + args.episodes)
    figures = run_full(bundle=args.bundle, domain=domain, robot=args.robot, cell=args.cell, task=task.name, seeds=seeds)
    print(f"eval: {describe(figures['misses'])}")
    return _report(args, task, figures["bundle_id"], figures)


def _report(args: Args, task: Task, bundle_id: str, figures: dict[str, Any]) -> dict[str, Any]:
    command = f"skimo eval --bundle {Path(args.bundle).name} --domain {Path(args.domain).name} --task '{task.name}' "
    command += f"--episodes {args.episodes} --seed {args.seed} --stack {args.stack}" + "".join(
        f" --set {s}" for s in args.set
    )
    header = {"provenance": provenance(command=command, seed=args.seed), "bundle_id": bundle_id, "task": task.name}
    return header | {"stack": args.stack, "subtasks": len(task.subtasks)} | figures
