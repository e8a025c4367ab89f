"""How near the arm comes to itself and to the kitchen, in scripted play and under the bundle that ships.

For every control step: the room that skimo_core.safety.collision sees (margins taken off; below 0 a gate would object).
Prints, and writes to `--out` if given, per pair of links and per obstacle the least of it, and the share of steps and
the episodes with any below 0.

    python benchmarks/clearance.py [--play 100] [--bundle-episodes 20] [--seed 0] [--out clearance.json]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from skimo_core.contract.errors import EpisodeError
from skimo_core.contract.types import Array
from skimo_core.domain.cell import load_cell
from skimo_core.domain.robot import load_limits
from skimo_core.process.provenance import provenance
from skimo_core.safety.collision import Collision
from skimo_eval.inprocess import World, bundle_policy
from skimo_eval.trials import run_episode
from skimo_server.bundle import resolve_bundle
from skimo_sim.play.collect import make_episode


def played(episodes: int, seed: int) -> list[Array]:
    """Joint positions [T, 7] of scripted play."""
    found = []
    for k in range(seed, seed + episodes):
        try:
            found.append(make_episode("kitchen", k).observations[:, :7].astype(np.float64))
        except EpisodeError as error:
            print(f"left out: {error}")
    return found


def planned(episodes: int, seed: int, bundle: str) -> tuple[list[Array], list[int]]:
    """Joint positions [T, 7] of the bundle's episodes in the kitchen, and how many sub-tasks each did."""
    policy, lab = bundle_policy(resolve_bundle(bundle), {}), World().build()
    found, done = [], []
    for k in range(seed, seed + episodes):
        rows: list[Array] = []
        task = lab.domain.task()
        result = run_episode(lab, policy, task, k, before_step=lambda _, rows=rows: rows.append(lab.twin.read().q_rad))
        found.append(np.array(rows))
        done.append(result.subtasks_done)
    return found, done


def summary(episodes: list[Array], collision: Collision) -> dict[str, Any]:
    """Least room per pair and obstacle, over the steps at which it was the nearest of all; shares below 0."""
    rooms = [collision.room(q) for q in episodes]
    least: dict[str, float] = {}
    for room in rooms:
        for k in range(len(room.self_m)):
            name = collision.pairs[room.self_pair[k]]
            least[name] = min(least.get(name, np.inf), float(room.self_m[k]))
            name = collision.obstacles[room.obstacle[k]]
            least[name] = min(least.get(name, np.inf), float(room.obstacle_m[k]))
    own, other = (np.concatenate([getattr(r, name) for r in rooms]) for name in ("self_m", "obstacle_m"))
    return {
        "episodes": len(episodes),
        "steps": len(own),
        "self_below_0": float((own < 0).mean()),
        "obstacle_below_0": float((other < 0).mean()),
        "episodes_with_any": sum(bool((r.self_m < 0).any() or (r.obstacle_m < 0).any()) for r in rooms),
        "least_room_m": {name: round(value, 4) for name, value in sorted(least.items(), key=lambda item: item[1])},
    }


def main(
    *, play: int = 100, bundle_episodes: int = 20, bundle: str = "kitchen", seed: int = 0, out: Path | None = None
) -> None:
    """Measure.

    Args:
        play: episodes of scripted play.
        bundle_episodes: episodes of the bundle.
        bundle: its name or path.
        seed: of the first episode of each.
        out: result file.
    """
    collision, figures = Collision(load_limits("panda"), load_cell("kitchen")), {}
    if bundle_episodes:
        episodes, done = planned(bundle_episodes, seed, bundle)
        figures["bundle"] = {**summary(episodes, collision), "subtasks_mean": float(np.mean(done))}
    if play:
        figures["play"] = summary(played(play, seed), collision)
    print(json.dumps(figures, indent=2))
    if out is not None:
        command = f"python benchmarks/clearance.py --play {play} --bundle-episodes {bundle_episodes} --seed {seed}"
        content = {"provenance": provenance(command=command, seed=seed), **figures}
        out.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
