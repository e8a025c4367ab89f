"""`skimo demo`: the whole stack on the twin, one task, then the figures and a film of what happened.

Starts policy server, twin, gate, recorder and policy node as separate processes, runs the task once in real time,
shows progress while it runs, and afterwards renders a video and a filmstrip from the recording. Needs no display; where
no GL library is installed it names the package and goes on. The last line is
`demo: subtasks K/4 stops S missed_ticks M recording PATH`. `--learn` shows something else (`learn_demo.py`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.domain.domain import Domain, load_domain
from skimo_ros.evaluator import Watched
from skimo_sim.condition import DRAWN

from .domains import domain_to_fly
from .full_stack import stack_up, write_parameters
from .pauses import audit_misses, describe

DEMO_PLAY = 150
"""Episodes of play, and as many of corrections, that `--learn` collects: six minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Run one task through the whole stack on the twin.

    Attributes:
        bundle: path of a bundle, or the name of one that ships.
        domain: what the tasks share: a domain's name, or a file; empty: the one that the bundle carries or names.
        task: a named task, or goals joined by commas, in the order in which they count: sub-tasks' names, or channels
            with values, as microwave=-0.4+-0.1; empty: the domain's first.
        condition: what is different in the twin (skimo_sim.condition): a condition's name, or a file; drawn: nothing,
            beyond what the domain's starts draw; papers: the papers' one start.
        seed: draws the twin's start, sensor noise and the planner's dice.
        out: folder for recording, logs, video and filmstrip; a new one is made in it for each run.
        film: whether to render video and filmstrip after the run.
        learn: instead, let the bundle learn from its own work in a changed twin, in process: 20 minutes on 2 cores.
        data: with `learn`, folders of the recordings that the bundle learned from, to learn from besides; without, some
            play is collected first.
    """

    bundle: str = "kitchen"
    domain: str = ""
    task: str = ""
    condition: str = DRAWN
    seed: int = 0
    out: Path = Path("recordings")
    film: bool = True
    learn: bool = False
    data: tuple[Path, ...] = ()


def main(argv: list[str]) -> int:
    """Run a task through the whole stack on the twin, and show what happened."""
    args = tyro.cli(Args, args=argv, prog="skimo demo")
    try:
        return _learn(args) if args.learn else _run(args)
    except SkimoError as error:
        print(f"skimo demo: {error}", file=sys.stderr)
        return 1


def _run(args: Args) -> int:
    domain = load_domain(domain_to_fly(args.bundle, args.domain))
    if not domain.action.joints:
        raise SpecError(
            f"domain {domain.name} has no arm, and the ROS stack commands one; `skimo eval` flies it in process"
        )
    task = domain.task(args.task)
    folder = _new_folder(args.out)
    print(f"demo: {', then '.join(s.name for s in task.subtasks)}; bundle {args.bundle}; logs in {folder / 'logs'}")
    arguments = {"bundle": args.bundle, "domain": domain.source, "task": task.name}
    arguments["params_file"] = str(write_parameters(folder / "condition.yaml", args.condition, domain))
    with stack_up(arguments, domain, recordings=folder, logs=folder / "logs") as (stack, evaluator):
        evaluator.on_news = lambda line: print(f"  {line}", flush=True)
        print("demo: server, twin, gate, recorder and policy node are up; the episode begins", flush=True)
        with stack.metered() as metered:
            episode = evaluator.run_episode(task.name, args.seed, stack.alive)
    recording = _newest_recording(folder)
    _print_report(episode, metered.cpu_cores)
    if episode.missed_ticks:
        print(f"  {describe(audit_misses(episode.ticks, metered.pauses, domain.action.period_s))}")
    if args.film and recording is not None:
        _film(recording, domain, args.condition)
    print(
        f"demo: subtasks {len(episode.completed)}/{len(task.subtasks)} stops {episode.stops} "
        f"missed_ticks {episode.missed_ticks} recording {recording}"
    )
    return 0


def _learn(args: Args) -> int:
    from .improve import ImproveConfig
    from .inprocess import World
    from .learn_demo import learn

    domain = load_domain(domain_to_fly(args.bundle, args.domain))
    config = ImproveConfig(
        bundle=args.bundle,
        domain=domain.source,
        task=domain.task(args.task).name,
        rounds=2,
        episodes=8,
        hasty=True,
        data=args.data,
        play=DEMO_PLAY,
        pairs=100,
        measured=10,
    )
    config = config if args.condition == DRAWN else replace(config, condition=args.condition)
    try:
        World(domain=domain.source).build(config.condition)
    except SpecError as error:
        raise SpecError(f"{error}; name what is to be different in this domain's twin with --condition") from None
    learn(config, _new_folder(args.out))
    return 0


def _print_report(episode: Watched, cpu: dict[str, float]) -> None:
    print(f"\nended: {episode.detail}")
    for index, name in enumerate(episode.task):
        done = f"after {episode.completed[index][1]:.1f} s" if index < len(episode.completed) else "not done"
        print(f"  {name:<16} {done}")
    if episode.plan_ms:
        p50, p95, most = np.percentile(episode.plan_ms, [50, 95, 100])
        count = len(episode.plan_ms)
        print(f"  plans            {count}: median {p50:.0f} ms, 95 % {p95:.0f} ms, longest {most:.0f} ms")
    verdicts = ", ".join(f"{word} {count}" for word, count in episode.verdicts.items()) or "none but PASS"
    print(f"  gate verdicts    {verdicts}")
    print(f"  control steps    {episode.steps}, missed ticks {episode.missed_ticks}, late plans {episode.late_plans}")
    print(f"  processor        {sum(cpu.values()):.2f} cores: " + ", ".join(f"{n} {c:.2f}" for n, c in cpu.items()))


def _film(recording: Path, domain: Domain, condition: str) -> None:
    from skimo_core.episodes.recording import read_episode
    from skimo_sim.film import film

    try:
        seen = read_episode(recording, salvage=True)
        made = film(
            seen.observations,
            domain.task(seen.meta.task),
            domain,
            video=recording.with_suffix(".mp4"),
            strip=recording.with_suffix(".png"),
            rate_hz=seen.meta.rate_hz,
            success=seen.meta.success,
            condition=condition,
        )
    except SkimoError as error:
        print(f"demo: no film: {error}")
        return
    print(f"  video            {made.video} ({made.frames} frames)\n  filmstrip        {made.strip}")


def _new_folder(base: Path) -> Path:
    base.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name[5:]) for p in base.glob("demo-*") if p.name[5:].isdigit()), default=0)
    folder = base / f"demo-{number:03d}"
    folder.mkdir()
    return folder


def _newest_recording(folder: Path) -> Path | None:
    found = sorted(folder.glob("*.mcap"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None
