"""The ladder for goals that an operator types: which part fails where one is reached too seldom, on the same seeds.

  s  the scripted teleoperator, under the gate: what play shows
  a  the skills of those that reached it, encoded and replayed closed loop in the twin: the skills
  b  the planner with the twin itself as its model: the planner without model errors, and its goal value
  c  the planner with the learned model: what is deployed
  d  skills drawn from the prior alone: no planning

Every rung begins where the seed draws. A goal that no script does has neither (s) nor (a). Writes OUT.json, with each
rung's episodes, and a Markdown table OUT.md beside it, after every goal. Rung b simulates every candidate: a minute an
episode and core.

    python benchmarks/goal_ladder.py --bundle kitchen --seeds 20
    python benchmarks/goal_ladder.py --bundle kitchen --seeds 10 --rungs twin
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from ladder import flying
from replay import replay

from skimo_core.domain.domain import load_domain
from skimo_core.domain.tasks import Subtask
from skimo_core.episodes.episode import Episode
from skimo_core.process.provenance import provenance
from skimo_eval.inprocess import Job, run_jobs
from skimo_eval.results import write_results
from skimo_server.bundle import load_bundle, resolve_bundle
from skimo_server.engine import Engine
from skimo_sim.play.collect import as_episode, mapped
from skimo_sim.play.player import Player, careful, in_order
from skimo_sim.play.teleoperator import PlayConfig, script_for
from skimo_sim.twin import Twin

Rung = Literal["script", "replay", "twin", "learned", "prior"]
NAMES: dict[Rung, str] = {
    "script": "s script",
    "replay": "a its skills replayed",
    "twin": "b twin as model",
    "learned": "c learned model",
    "prior": "d prior alone",
}
GOALS = (
    "kettle bottom right",
    "kettle top right",
    "microwave closed",
    "light_switch=-0.55 & slide_cabinet=0.3+-0.1",
    "microwave=-0.5+-0.15 & kettle.x=-0.25+-8cm",
)
"""Those that the bundle reached in fewer than 16 of 20 seeds."""
REST = "home"
"""What is done after the goal: the skill within which it is reached is then whole."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to climb.

    Attributes:
        bundle: path, or the name of a bundle that ships.
        goals: as typed for `skimo start --task`.
        rungs: which to run; other rungs' results are kept from an earlier OUT.json, other goals' too, of this bundle.
        seeds: episodes of each goal and rung.
        first_seed: the first of them.
        twin_samples: candidates per round for rung b, which is slow; an eighth of them are elites.
        out: result files OUT.json and OUT.md.
        workers: processes.
    """

    bundle: str = "kitchen"
    goals: tuple[str, ...] = GOALS
    rungs: tuple[Rung, ...] = ("script", "replay", "learned", "prior")
    seeds: int = 20
    first_seed: int = 0
    twin_samples: int = 24
    out: Path = Path("benchmarks/results/goal_ladder")
    workers: int = 2


def shown(goal: str, seed: int) -> Episode | None:
    """How the scripted teleoperator does a goal from the start of `seed`; None if it fails."""
    player = _player()
    name = script_for(player.teleoperator.scripts, goal)
    played = player.play(in_order((name, REST)), seed, asked=(goal,))
    episode = as_episode(played, seed, player.domain)
    return episode if reaches(player.domain.task(goal).subtasks, episode.observations) else None


def replayed(folder: Path, goal: str, seed: int) -> bool | None:
    """Whether the script's skills, replayed, reach its goal as well; None where the script itself doesn't."""
    if (episode := shown(goal, seed)) is None:
        return None
    engine, twin = _replayer(folder)
    return reaches(load_domain().task(goal).subtasks, replay(engine, twin, episode, seed))


def reaches(goals: Sequence[Subtask], observations: np.ndarray) -> bool:
    """Whether all goals hold at once at some step of [T+1, O]."""
    return bool(np.all([goal.complete(observations) for goal in goals], axis=0).any())


def climb(args: Args, rung: Rung, folder: Path, goal: str) -> list[bool | None] | None:
    """Whether the goal was reached from each seed; None where no script does it."""
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    if rung in ("script", "replay"):
        if not script_for(_player().teleoperator.scripts, goal):
            return None
        with mapped(args.workers) as each:
            if rung == "replay":
                return list(each(partial(replayed, folder, goal), seeds))
            return [episode is not None for episode in each(partial(shown, goal), seeds)]
    jobs = [Job(task=load_domain().task(goal).name, seed=seed) for seed in seeds]
    factory, flown = flying(rung, folder, args.twin_samples)
    return [bool(result.completed_at) for result in run_jobs(jobs, factory, workers=args.workers, flown=flown)]


@cache
def _player() -> Player:
    """This process's: a twin takes a second to build."""
    return Player(load_domain(), adapt=_at_leisure)


def _at_leisure(config: PlayConfig) -> PlayConfig:
    return replace(careful(config), patience_steps=config.trial_patience_steps)


@cache
def _replayer(folder: Path) -> tuple[Engine, Twin]:
    return Engine.load(load_bundle(folder)), Twin()


def table(results: dict[str, Any]) -> str:
    """A row a goal, a column a rung: reached of those tried."""
    rungs: list[Rung] = [rung for rung in NAMES if rung in results]
    head = f"| goal | {' | '.join(NAMES[rung] for rung in rungs)} |\n|---|{'---|' * len(rungs)}\n"
    goals = list(dict.fromkeys(goal for rung in rungs for goal in results[rung]["goals"]))
    return head + "".join(
        f"| `{goal}` | {' | '.join(_cell(results[rung]['goals'].get(goal)) for rung in rungs)} |\n" for goal in goals
    )


def _cell(reached: Sequence[bool | None] | None) -> str:
    tried = [] if reached is None else [one for one in reached if one is not None]
    return f"{sum(tried)} of {len(tried)}" if tried else "-"


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Args, args=argv)
    folder = resolve_bundle(args.bundle)
    bundle_id = load_bundle(folder).manifest.bundle_id
    path = args.out.with_suffix(".json")
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    where = f"--bundle {folder.name} --seeds {args.seeds} --first-seed {args.first_seed}"
    made = {
        rung: provenance(f"python benchmarks/goal_ladder.py {where} --rungs {rung}", args.first_seed)
        for rung in args.rungs
    }
    for rung in args.rungs:
        before = results.get(rung, {})
        kept = before["goals"] if before.get("bundle_id") == bundle_id else {}
        results[rung] = {"provenance": made[rung], "bundle_id": bundle_id, "goals": kept}
        for goal in args.goals:
            reached = results[rung]["goals"][goal] = climb(args, rung, folder, goal)
            print(f"{NAMES[rung]} / {goal}: {_cell(reached)}", flush=True)
            write_results(path, results)
            args.out.with_suffix(".md").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
