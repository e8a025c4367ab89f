"""`skimo eval`: how many ordered sub-tasks a bundle completes in the twin, under which conditions, and what went wrong.

Episode i uses seed `seed + i`, the same under every condition and for every bundle, so that results pair up.
`--stack inprocess` runs in simulated time in worker processes, or on a Ray cluster (`--ray`); `--stack full` starts the
ROS stack once per condition and runs in real time, the twin reset between episodes. Success is counted on the twin's
truth. The result file holds the figures, every episode, and where they come from (results).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.process.provenance import provenance
from skimo_sim.condition import DRAWN, load_condition, load_conditions

from .domains import domain_to_fly
from .orders import tasks_of
from .results import Results, flat, gathered, write_results

MAX_EPISODES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Evaluate a bundle on a task in the twin.

    Attributes:
        bundle: path of a bundle, or the name of one that ships.
        domain: what the tasks share: a domain's name, or a file; empty: the one that the bundle carries or names.
        robot: whose limits hold: a robot's name, or a file; empty: the domain's.
        cell: what stands around the arm: a cell's name, or a file; empty: the domain's.
        rig: what the policy's side knows of the cell (skimo calibrate): a rig file; empty: nothing.
        twin_rig: what is true of the twin's cell: a rig file; empty: what --rig says.
        task: a named task, or goals joined by commas, in the order in which they count: sub-tasks' names, or channels
            with values, as microwave=-0.4+-0.1; empty: the domain's first; random: in each episode another order of
            four sub-tasks, drawn from the seed.
        condition: what is different (skimo_sim.condition): names or files joined by commas, or all that ship; drawn:
            nothing, beyond what the domain's starts draw.
        episodes: how many, under each condition.
        seed: of the first episode; episode i uses seed + i, which draws the start, sensor noise, the planner's dice and
            what a condition leaves to chance.
        stack: "inprocess" (simulated time) or "full" (the ROS stack, real time).
        json: result file.
        out: folder for conditions.json, conditions.md, conditions.png and reliability.png.
        workers: processes for "inprocess"; 0 means one per core.
        ray: HOST:PORT of a Ray cluster that this machine has joined, or auto: "inprocess" runs there, --workers crews
            at most; the results are the same.
        set: planner settings on top of the bundle's own, as name=value.
    """

    bundle: str = "kitchen"
    domain: str = ""
    robot: str = ""
    cell: str = ""
    rig: str = ""
    twin_rig: str = ""
    task: str = ""
    condition: str = DRAWN
    episodes: int = 20
    seed: int = 0
    stack: Literal["inprocess", "full"] = "inprocess"
    json: Path | None = None
    out: Path | None = None
    workers: int = 0
    ray: str = ""
    set: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.episodes <= MAX_EPISODES:
            raise SpecError(f"episodes is {self.episodes}, must lie in 1 to {MAX_EPISODES}")
        if self.seed < 0:
            raise SpecError(f"seed is {self.seed}, must be 0 or more")
        if self.workers < 0:
            raise SpecError(f"workers is {self.workers}, must be 0 or more")
        if self.stack == "full" and self.ray:
            raise SpecError("--ray is for --stack inprocess; the full stack runs on this machine")
        if self.stack == "full" and self.set:
            raise SpecError("planner settings (--set) are for --stack inprocess; the full stack runs a bundle as it is")


def main(argv: list[str]) -> int:
    """Count the sub-tasks that a bundle completes in the twin."""
    try:
        args = tyro.cli(Args, args=argv, prog="skimo eval")
        results = evaluate(args)
    except SkimoError as error:
        print(f"skimo eval: {error}", file=sys.stderr)
        return 1
    one = len(results["conditions"]) == 1
    if args.json is not None:
        print(f"eval: wrote {args.json}")
    if args.out is not None:
        print(f"eval: wrote {args.out}")
    for name, figures in results["conditions"].items():
        low, high = figures["subtasks_interval_95"]
        print(
            f"eval: {'' if one else name + ': '}subtasks_mean {figures['subtasks_mean']:.2f} of {results['subtasks']} "
            f"(95 % {low:.2f} .. {high:.2f}) episodes {figures['episodes']} stops {figures['stops']} "
            f"missed_ticks {figures['missed_ticks']}"
        )
    return 0


def evaluate(args: Args) -> Results:
    """Run the episodes under each condition, printing one line for each, and write what was asked for.

    Files are written after each condition, so that a run that is broken off leaves what it had.
    """
    args = replace(args, domain=domain_to_fly(args.bundle, args.domain))
    domain = load_domain(args.domain)
    if args.stack == "full" and not domain.action.joints:
        raise SpecError(f"domain {domain.name} has no arm, and the ROS stack commands one; take --stack inprocess")
    conditions = load_conditions(args.condition, domain)
    task, tasks = tasks_of(domain, args.task, args.episodes, args.seed)
    keep = _keeper(args, len(conditions) == 1)
    fly = _through_the_stack if args.stack == "full" else _inprocess
    header = {
        "provenance": provenance(command=_command(args, task), seed=args.seed),
        "bundle": Path(args.bundle).name,
        "domain": str(domain.named),
        "task": task,
        "stack": args.stack,
        "subtasks": len(domain.task(tasks[0]).subtasks),
        "seed": args.seed,
        "episodes": args.episodes,
    }
    done: dict[str, Results] = {}
    results = header
    for name, figures in fly(args, domain, tasks, conditions):
        header["bundle_id"] = figures.pop("bundle_id")
        done[name] = {"why": load_condition(conditions[name], domain).why} | figures
        results = gathered(header, done)
        keep(results)
    return results


def _keeper(args: Args, one: bool) -> Callable[[Results], None]:
    """Writes results where they were asked for; what it needs for that is there, or it refuses now."""
    if args.out is not None:
        from .report import need_plots

        need_plots()

    def keep(results: Results) -> None:
        if args.json is not None:
            write_results(args.json, flat(results) if one else results)
        if args.out is not None:
            from .report import write_report

            write_report(args.out, results)

    return keep


def _inprocess(
    args: Args, domain: Domain, tasks: list[str], conditions: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the episodes in worker processes; each condition's figures as they come."""
    from skimo_server.bundle import load_bundle, resolve_bundle

    from .inprocess import World, checked_settings, factory_for, paired_jobs, run_jobs
    from .statistics import summarise

    folder = resolve_bundle(args.bundle)
    manifest = load_bundle(folder).manifest
    settings = checked_settings(manifest.planner, args.set)
    world = World(domain=args.domain, robot=args.robot, cell=args.cell, rig=args.rig, twin_rig=args.twin_rig)
    for source in conditions.values() if len(conditions) > 1 else ():
        world.build(source)  # refuses what this domain's twin can't do before the first episode is flown
    jobs = paired_jobs(tasks, conditions.values(), args.seed)
    if args.ray:
        from .cluster import run_on_ray

        flown = run_on_ray(jobs, folder, settings, world, address=args.ray, workers=args.workers)
    else:
        flown = run_jobs(jobs, factory_for(folder, settings), world, workers=args.workers or (os.cpu_count() or 1))
    for name in conditions:
        results = []
        for _, result in zip(tasks, flown):
            results.append(result)
            done = ", ".join(f"{n} at step {s}" for n, s in zip(result.task, result.completed_at)) or "none"
            where = "" if len(conditions) == 1 else f"{name}, "
            counts = f"{result.subtasks_done}/{len(result.task)}"
            print(f"{where}episode {result.seed}: {counts} ({done}) {result.error}", flush=True)
        detail = {"episodes_detail": [r.to_dict() for r in results], "bundle_id": manifest.bundle_id}
        yield name, summarise(results, domain.action.joints) | detail


def _through_the_stack(
    args: Args, domain: Domain, tasks: list[str], conditions: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Start the ROS stack under each condition and run the episodes through it."""
    from .full_stack import run_full
    from .pauses import describe

    seeds = range(args.seed, args.seed + args.episodes)
    for name, source in conditions.items():
        if len(conditions) > 1:
            print(f"eval: condition {name}", flush=True)
        figures = run_full(
            bundle=args.bundle,
            domain=domain,
            robot=args.robot,
            cell=args.cell,
            rig=args.rig,
            twin_rig=args.twin_rig,
            tasks=tasks,
            seeds=seeds,
            condition=source,
        )
        print(f"eval: {describe(figures['misses'])}")
        yield name, figures


def _command(args: Args, task: str) -> str:
    asked = ",".join(Path(part).name for part in args.condition.split(","))
    command = f"skimo eval --bundle {Path(args.bundle).name} --domain {Path(args.domain).name} --task '{task}' "
    command += f"--condition {asked} --episodes {args.episodes} --seed {args.seed} --stack {args.stack}"
    rigs = {"rig": args.rig, "twin-rig": args.twin_rig}
    command += "".join(f" --{key} {Path(rig).name}" for key, rig in rigs.items() if rig)
    return command + "".join(f" --set {s}" for s in args.set)
