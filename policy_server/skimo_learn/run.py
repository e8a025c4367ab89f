"""A whole run, from episodes to a finished checkpoint and its report.

Joint pre-training, then in turn what is trained with all else frozen: the skill policy refined, refined again with
corrections, the dynamics distilled, the goal value. Where a task's returns are learned, they are in joint
pre-training's place. A run that was interrupted goes on with the newest checkpoint of joint pre-training, or with the
part that comes next.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import Domain
from skimo_core.episodes.files import why_unusable
from skimo_core.process.provenance import commit

from . import ranks
from .checkpoint import CHECKPOINT, read_checkpoint
from .data import EpisodeSet, check_widths, parity_inputs
from .device import pick_device
from .distil import distil
from .pretrain import Pretrainer, can_resume, pretrain
from .recipes import Recipe, for_domain
from .refine import refine_policy
from .report import held_out_report, summary
from .returns import learn_returns
from .value import train_value


def train_run(
    recipe: Recipe,
    domain: Domain,
    episodes: EpisodeSet,
    run: Path,
    *,
    held_out: EpisodeSet | None = None,
    start_from: Path | None = None,
    minutes: float | None = None,
    device: str = "auto",
    capture: bool = True,
) -> dict[str, Any]:
    """Train, or go on where `run` stopped; returns the report, which is written beside the checkpoint.

    Started by torchrun, the ranks train as one (ranks.py), on the same episodes: `run` and `start_from` are rank 0's.

    Args:
        held_out: episodes that are not trained on; None: some of `episodes`, as the recipe says.
        start_from: another run, whose weights to begin with, and whose descendant this one is.
        minutes: of pre-training at most.
        device: auto, cpu or cuda (device.py), for all parts.
        capture: on CUDA, each update is one captured graph.

    Raises:
        EpisodeError: the episodes don't fit the domain.
        SpecError: `run` was begun with other settings or data, or the recipe's sizes are not the domain's.
        SetupError: `run` can't be written to, or there is no such device.
    """
    place = pick_device(device)
    check_widths(episodes, domain.observation, domain.action)
    _check_sizes(recipe, domain)
    with ExitStack() as stack:
        stack.enter_context(ranks.together(place))
        _check_ranks(recipe, domain, minutes)
        if ranks.first():
            _check_folder(run)
        run = stack.enter_context(ranks.folder_of_first(run, CHECKPOINT))
        if start_from is not None:
            start_from = stack.enter_context(ranks.folder_of_first(start_from, CHECKPOINT))
        split = (episodes, held_out) if held_out is not None else episodes.split(recipe.pretrain.held_out)
        return _train(recipe, domain, split, run, start_from=start_from, minutes=minutes, place=place, capture=capture)


def _train(
    recipe: Recipe,
    domain: Domain,
    split: tuple[EpisodeSet, EpisodeSet],
    run: Path,
    *,
    start_from: Path | None,
    minutes: float | None,
    place: torch.device,
    capture: bool,
) -> dict[str, Any]:
    """`train_run` on episodes to train on and others, in a folder of each rank's own."""
    recorded = parity_inputs(split[1], recipe.model.horizon)
    train, held_out = (part.to(place) for part in split)
    trainer = Pretrainer(recipe, domain, train, held_out, capture=capture)
    state: dict[str, Any] = {
        "dataset_digests": dict(train.digests),
        "commit": commit(),
        "domain_digest": domain.digest,
        "domain_source": domain.source,
        "robot": asdict(train.robot),
        "ranges": train.ranges(),
    }
    if can_resume(run):
        state = _checked(run, state)
        trainer.load(run)
        print(f"going on with {run} from update {trainer.update}")
    elif start_from is not None:
        state["parent_id"] = trainer.start_from(start_from).get("parent_id")
    _write_json(run / "run.json", {"recipe": recipe.to_dict(), **state})
    parts: dict[str, Callable[[], list[dict[str, float]]]] = {
        "returns": lambda: learn_returns(
            trainer.model,
            train,
            domain.task(recipe.returns.task).subtasks,
            recipe.returns,
            recipe.loss,
            skills=recipe.pretrain.skills,
        ),
        "refine": lambda: refine_policy(trainer.model, train, recipe.refine, domain.action, capture=capture),
        "correct": lambda: refine_policy(trainer.model, train, recipe.correct, domain.action, capture=capture),
        "distil": lambda: distil(trainer.model, train, recipe.distil, capture=capture),
        "value": lambda: train_value(trainer.model, train, domain, recipe.value, capture=capture),
    }
    curves: dict[str, Any] = state.setdefault("curves", {})
    if not curves and not recipe.returns.updates:
        pretrain(trainer, run, minutes=minutes, state=state)
    for name, train_part in parts.items():
        if name not in curves:
            curves[name] = train_part()
            trainer.save(run, **state)
    state["finished"] = True
    extra = {f"parity/{k}": v for k, v in recorded.items()}
    trainer.save(run, extra=extra, **state)
    report = held_out_report(trainer.model, held_out, domain, recipe.value, skills=max(recipe.pretrain.skills, 1))
    report |= {"updates": trainer.update, "elapsed_s": round(trainer.elapsed_s, 1), "threads": torch.get_num_threads()}
    report["ranks"] = ranks.count()
    report["device"] = torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"
    _write_json(run / "report.json", report)
    print(summary(report))
    print(f"wrote {run}: checkpoint, metrics.jsonl, report.json")
    return report


def _check_sizes(recipe: Recipe, domain: Domain) -> None:
    model, fitting = recipe.model, for_domain(recipe, domain).model
    for name in ("observation", "action", "joints", "horizon", *(("bodies",) if model.reach else ())):
        its, wanted = getattr(model, name), getattr(fitting, name)
        if its != wanted:
            raise SpecError(
                f"recipe {recipe.name}: model {name} is {its}, domain {domain.name!r} has {wanted}; make the recipe "
                "for it with `for_domain`"
            )


def _check_ranks(recipe: Recipe, domain: Domain, minutes: float | None) -> None:
    """Refuse now what the ranks would trip over in mid-run."""
    ranks.agree("settings", json.dumps([recipe.to_dict(), domain.digest, minutes], sort_keys=True))
    for name in ("pretrain", "refine", "correct", "distil", "value"):
        ranks.share(getattr(recipe, name).batch, name)
    if recipe.returns.updates:
        ranks.share(recipe.returns.batch, "returns")


def _check_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        why = why_unusable(run)
    except OSError as error:
        why = f"{error.strerror or error}; choose another --out"
    if why:
        raise SetupError(f"the run can't go to {run}: {why}")


def _checked(run: Path, state: dict[str, Any]) -> dict[str, Any]:
    """The state of the run so far, if it is of the same data."""
    found = read_checkpoint(run)[1]
    if any(found.get(name) != state[name] for name in ("dataset_digests", "robot")):
        raise SpecError(f"{run.name}: was begun with other data; resume with the same, or choose another --out")
    keep = (*state, "parent_id", "finished", "curves")
    return {name: found[name] for name in keep if name in found}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
