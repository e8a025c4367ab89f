"""Open-loop prediction 10 to 200 control steps ahead: skill dynamics against a flat one-step model (SkiMo figure 9).

Both models have the same encoder, decoder and dynamics sizes, losses, data and number of updates. On held-out
episodes, both start from one recorded observation; the flat model is then given the recorded actions, the skill
dynamics the skills that the skill encoder finds in the recorded segments, observations included, as in the paper: a
skill may carry a little of where its segment led. The error is the root mean square over windows and the 30 channels,
each divided by its standard deviation in the training data. "no change" predicts the first observation for ever.

    python benchmarks/open_loop.py --checkpoint runs/kitchen --data play
writes benchmarks/results/open_loop.{json,md,png}.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

from flat import predict_flat, predict_skills, train_flat
from skimo_core.contract.errors import SkimoError
from skimo_core.process.provenance import provenance
from skimo_learn.data import EpisodeSet, load_episodes
from skimo_learn.export import load_run

RESULTS = Path(__file__).parent / "results"
STEPS = 200
MIN_WINDOWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Compare open-loop predictions.

    Attributes:
        checkpoint: a finished run's folder.
        data: folders of the recordings it was trained on.
        flat: folder of the flat model's checkpoints, beside the run by default; its training goes on from there.
        out: folder for the results.
        flat_steps: control steps in the flat model's training windows; as many as a skill has by default.
        flat_updates: of the flat model; as many as the run's by default.
        threads: of torch.
    """

    checkpoint: Path
    data: tuple[Path, ...]
    flat: Path | None = None
    out: Path = RESULTS
    flat_steps: int | None = None
    flat_updates: int | None = None
    threads: int = 2


def windows(episodes: EpisodeSet, stride: int = 4) -> tuple[Tensor, Tensor]:
    """Held-out windows of STEPS control steps: observations [B, STEPS + 1, O], actions [B, STEPS, A]."""
    rows = episodes.windows(STEPS)[::stride].unsqueeze(1) + torch.arange(STEPS + 1)
    if len(rows) < MIN_WINDOWS:
        raise SkimoError(f"{len(rows)} held-out windows of {STEPS} steps, at least {MIN_WINDOWS} are needed")
    return episodes.observations_RO[rows], episodes.actions_RA[rows[:, :-1]]


def errors(predicted_KBO: Tensor, observations_BWO: Tensor, deviation_O: Tensor, every: int) -> list[float | None]:
    """Root mean square error after every `every` steps, in deviations; None where a prediction has overflowed."""
    truth = observations_BWO[:, every::every].transpose(0, 1)
    rmse = ((predicted_KBO - truth) / deviation_O).double().square().mean((1, 2)).sqrt()
    return [v if math.isfinite(v) else None for v in rmse.tolist()]


def measure(args: Args) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    run, episodes = load_run(args.checkpoint), load_episodes(*args.data)
    if dict(episodes.digests) != run.state["dataset_digests"]:
        raise SkimoError("the run was trained on other data; give the folders it was trained on")
    train, held_out = episodes.split(run.recipe.pretrain.held_out)
    config = replace(run.recipe.pretrain, updates=args.flat_updates or run.state["update"])
    steps = args.flat_steps or run.model.config.horizon
    folder = args.flat or args.checkpoint.with_name(f"{args.checkpoint.name}-flat")
    flat = train_flat(run.model.config, run.recipe.loss, config, train, steps=steps, run=folder)
    observations, actions = windows(held_out)
    deviation = train.observations_RO.double().std(0).float().clamp(min=1e-9)
    every = run.model.config.horizon
    predictions = {
        "skill dynamics": predict_skills(run.model, observations, actions),
        "flat model": predict_flat(flat, observations[:, 0], actions, every),
        "no change": observations[:, 0].expand(STEPS // every, -1, -1),
    }
    table = {name: errors(p, observations, deviation, every) for name, p in predictions.items()}
    moving = [c for c in range(len(deviation)) if float(deviation[c]) > 2e-3]
    only = {
        n: errors(p[..., moving], observations[..., moving], deviation[moving], every) for n, p in predictions.items()
    }
    return {
        "steps": list(range(every, STEPS + 1, every)),
        "rmse_in_deviations": table,
        "rmse_of_moving_channels": only,
        "moving_channels": len(moving),
        "ratio_at_end": ratio(table["skill dynamics"][-1], table["flat model"][-1]),
        "windows": len(observations),
        "held_out_episodes": len(held_out),
        "flat_model": {"updates": config.updates, "steps_per_window": steps},
        "skill_model": {"updates": run.state["update"], "recipe": run.recipe.name, "skills": config.skills},
        "dataset_digests": dict(episodes.digests),
    }


def ratio(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours / theirs


def shown(value: float | None, form: str = ".3f") -> str:
    return "diverged" if value is None else format(value, form)


def markdown(result: dict[str, Any]) -> str:
    names = list(result["rmse_in_deviations"])
    rows = zip(result["steps"], *(result["rmse_in_deviations"][n] for n in names))
    lines = ["| control steps | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {step} | " + " | ".join(map(shown, values)) + " |" for step, *values in rows]
    about = f"{result['windows']} windows of {result['held_out_episodes']} held-out episodes; RMSE over all channels, "
    about += "each divided by its deviation in the training data. "
    about += f"Skill dynamics / flat model at {STEPS} steps: {shown(result['ratio_at_end'], '.2g')}."
    return "\n".join([*lines, "", about, ""])


def plot(result: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in result["rmse_in_deviations"].items():
        axes.plot(result["steps"], [math.nan if v is None else v for v in values], marker="o", markersize=3, label=name)
    axes.set(xlabel="control steps ahead", ylabel="RMSE / deviation in the data", title="Open-loop prediction")
    axes.set_yscale("log")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> int:
    args = tyro.cli(Args)
    try:
        result = measure(args)
    except SkimoError as error:
        print(f"open_loop: {error}", file=sys.stderr)
        return 1
    command = f"python benchmarks/open_loop.py --checkpoint RUN --data {' '.join(d.name for d in args.data)}"
    if args.flat_steps:
        command += f" --flat-steps {args.flat_steps}"
    seed = load_run(args.checkpoint).recipe.pretrain.seed
    result["provenance"] = provenance(command, seed)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "open_loop.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (args.out / "open_loop.md").write_text(markdown(result), encoding="utf-8")
    plot(result, args.out / "open_loop.png")
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
