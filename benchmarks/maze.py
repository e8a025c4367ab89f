"""SkiMo's maze, zero-shot: how often a bundle reaches the target within 2,000 steps, and after how many.

The same seeds, and so the same drawn starts, for each way to plan: as the bundle plans, with shorter and longer plans,
and with skills drawn from the prior alone, which is no planning. Nothing is trained on the task.

    skimo collect maze --episodes 3000 --out datasets/maze
    skimo pretrain --data datasets/maze --domain maze --recipe maze --out runs/maze
    skimo export --checkpoint runs/maze --out bundles/maze
    python benchmarks/maze.py --bundle bundles/maze

Writes OUT.json with every episode and its provenance, OUT.md with a table, and OUT.png with the ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tyro
from PIL import Image, ImageDraw

from skimo_core.process.provenance import provenance
from skimo_eval.inprocess import World, factory_for
from skimo_eval.results import write_results
from skimo_eval.statistics import share_interval
from skimo_eval.trials import Lab, Trial
from skimo_server.bundle import load_bundle, resolve_bundle
from skimo_sim.condition import DRAWN
from skimo_sim.maze.picture import GOAL, HERE, Map, Target
from skimo_sim.maze.walls import distances, draw_walls

PRIOR = {"samples": 1, "elites": 1, "iterations": 1, "policy_samples": 0, "execute": "best", "warm_start": "none"}
WAYS: dict[str, dict[str, Any]] = {
    "planned": {},
    "plans of 3 skills": {"horizon": 3},
    "plans of 20 skills": {"horizon": 20},
    "prior alone": PRIOR,
}
"""What each way changes of the bundle's planner settings."""
START_COLOUR = (120, 120, 120)
REACHED_COLOUR, LOST_COLOUR = (38, 98, 190), (230, 150, 40)
CAPTION_PX = 26


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to run.

    Attributes:
        bundle: path of a bundle of the maze.
        ways: how to plan: of planned, plans of 3 skills, plans of 20 skills, prior alone.
        seeds: episodes of each way.
        first_seed: the first of them.
        condition: what is different in the twin (skimo_sim.condition).
        out: result files OUT.json, OUT.md and OUT.png.
    """

    bundle: Path
    ways: tuple[str, ...] = tuple(WAYS)
    seeds: int = 20
    first_seed: int = 0
    condition: str = DRAWN
    out: Path = Path("benchmarks/results/maze")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flown:
    """One episode: when the target was reached (None: never), why it ended early, and every place [T, 2] on the way."""

    seed: int
    reached_at: int | None
    error: str
    places_T2: npt.NDArray[np.float32]


def fly(lab: Lab, policy: Any, seed: int) -> Flown:
    """One episode of the maze's task."""
    trial = Trial(lab, policy, lab.domain.task(), seed)
    while trial.step():
        pass
    result = trial.result
    at = result.completed_at[0] if result.completed_at else None
    return Flown(seed=seed, reached_at=at, error=result.error, places_T2=np.stack(trial.truths)[:, :2])


def figures(flown: Sequence[Flown]) -> dict[str, Any]:
    """Of one way to plan."""
    walls = draw_walls(0)
    far = distances(walls, (18, 8))
    reached = [f.reached_at for f in flown if f.reached_at is not None]
    return {
        "episodes": len(flown),
        "reached": len(reached),
        "interval_95": list(share_interval(len(reached), len(flown))),
        "steps_median": float(np.median(reached)) if reached else None,
        "reached_at": [f.reached_at for f in flown],
        "shortest_way_m": [round(float(far[tuple(np.rint(f.places_T2[0]).astype(int))]), 1) for f in flown],
        "travelled_m": [round(float(np.linalg.norm(np.diff(f.places_T2, axis=0), axis=1).sum()), 1) for f in flown],
        "errors": [f.error for f in flown if f.error],
    }


def picture(flown: dict[str, Sequence[Flown]]) -> Image.Image:
    """The ways of each way to plan, side by side: those that reach the target in blue, others in orange."""
    maps = []
    for name, episodes in flown.items():
        drawn = Map(draw_walls(0))
        drawn.target(Target(at_m=np.array([18.0, 8.0]), radius_m=2.0))
        for f in sorted(episodes, key=lambda f: f.reached_at is not None):
            lost = f.reached_at is None
            drawn.path(f.places_T2, LOST_COLOUR if lost else REACHED_COLOUR, 0.12)
            drawn.dot(f.places_T2[-1], 0.3, HERE if lost else GOAL)
        for f in episodes:
            drawn.dot(f.places_T2[0], 0.2, START_COLOUR)
        frame = drawn.frame()
        tile = Image.new("RGB", (frame.shape[1] + 8, frame.shape[0] + CAPTION_PX), "white")
        tile.paste(Image.fromarray(frame), (4, CAPTION_PX))
        reached = sum(f.reached_at is not None for f in episodes)
        ImageDraw.Draw(tile).text((6, 7), f"{name}: {reached} of {len(episodes)} reach the target", fill="black")
        maps.append(tile)
    columns = min(2, len(maps))
    rows = -(-len(maps) // columns)
    sheet = Image.new("RGB", (maps[0].width * columns, maps[0].height * rows), "white")
    for k, tile in enumerate(maps):
        sheet.paste(tile, (k % columns * tile.width, k // columns * tile.height))
    return sheet


def table(results: dict[str, Any]) -> str:
    """One row a way to plan."""
    rows = ["| skills | target reached | 95 % | control steps, median | way, m (shortest) |", "|---|---|---|---|---|"]
    for name, f in results["ways"].items():
        low, high = f["interval_95"]
        hit = [k for k, at in enumerate(f["reached_at"]) if at is not None]
        went = f"{np.mean([f['travelled_m'][k] for k in hit]):.0f}" if hit else "-"
        steps = "-" if f["steps_median"] is None else f"{f['steps_median']:.0f}"
        reached, shortest = f"{f['reached']} of {f['episodes']}", np.mean(f["shortest_way_m"])
        rows.append(f"| {name} | {reached} | {low:.0%} .. {high:.0%} | {steps} | {went} ({shortest:.0f}) |")
    return "\n".join(rows) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Args, args=argv)
    if unknown := [name for name in args.ways if name not in WAYS]:
        raise SystemExit(f"no way {unknown[0]!r} to plan; there are {', '.join(WAYS)}")
    folder = resolve_bundle(str(args.bundle))
    manifest = load_bundle(folder).manifest
    command = f"python benchmarks/maze.py --bundle {folder.name} --seeds {args.seeds} --first-seed {args.first_seed}"
    results: dict[str, Any] = {
        "provenance": provenance(f"{command} --condition {args.condition}", args.first_seed),
        "bundle_id": manifest.bundle_id,
        "datasets": dict(manifest.dataset_digests),
        "recipe": manifest.recipe,
        "ways": {},
    }
    lab, flown = World(domain="maze").build(args.condition), {}
    for name in args.ways:
        policy = factory_for(folder, WAYS[name])()
        flown[name] = []
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            flown[name].append(episode := fly(lab, policy, seed))
            print(f"{name}, seed {seed}: {episode.reached_at or 'not reached'} {episode.error}", flush=True)
        results["ways"][name] = figures(flown[name])
        write_results(args.out.with_suffix(".json"), results)
        args.out.with_suffix(".md").write_text(table(results), encoding="utf-8")
        picture(flown).save(args.out.with_suffix(".png"))
    print(table(results), end="")


if __name__ == "__main__":
    main()
