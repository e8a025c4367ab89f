"""What the goal value is worth on episodes that training never saw: for the named sub-tasks, and for drawn goals.

Of each, on encoded latents and on those predicted after the most skills trained on:
    cross_entropy, explained_variance, calibration_gap, bins    predicted against true discounted time
    within       of reaching the goal within a plan's length of L control steps: how well the value ranks it (auc), and
                 in ten bins of the value how often it came true, beside what the value implies of the probability p:
                 (v - g) / (1 - g) <= p <= v / g with g = discount^L, because g^(steps / L) lies between g and 1 where
                 the goal is reached in time, and between 0 and g where it isn't. `brier` is of the middle of the two.
    ahead        the same of the states alone in which the goal doesn't hold already
States whose episode ends too soon to tell are left out of each.

Dimensions: B states, D latent, K sub-tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .data import EpisodeSet
from .hindsight import NEVER, Goals, draw_goals, steps_until
from .models.agent import SkillModel
from .value import UNKNOWN, ValueData, discounted_times, rolled_out
from .value_config import ValueConfig

STRIDE = 5  # control steps between windows
BINS = 10
DRAWS = 4  # goals drawn per state
CHUNK = 512
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of the value, and what came of it: 1, 0 or UNKNOWN in `within_B`, as in `targets_B`."""

    value_B: Tensor
    targets_B: Tensor
    within_B: Tensor


@torch.no_grad()
def value_report(
    model: SkillModel, episodes: EpisodeSet, data: ValueData, config: ValueConfig, *, plan_steps: int
) -> dict[str, Any]:
    """The above as plain JSON values; `plan_steps` is L."""
    device, horizon = data.latents_RD.device, model.config.horizon
    rows = episodes.windows(config.skills * horizon)[::STRIDE].to(device)
    later = rows + config.skills * horizon
    latents = {"encoded": data.latents_RD[later]}
    if config.skills:
        latents["predicted"] = rolled_out(model, data, rows, config.skills, None)[-1]
    report: dict[str, Any] = {"plan_steps": plan_steps}
    for kind, draws in (("named", len(data.goals.named_KO)), ("hindsight", DRAWS)):
        rng = torch.Generator(device=device).manual_seed(SEED)
        goals = [_goals(data, later, horizon, config, rng, k if kind == "named" else None) for k in range(draws)]
        report[kind] = {
            name: _judged(_asked(model, data, latent, later, goals, config, plan_steps), config.discount**plan_steps)
            for name, latent in latents.items()
            if goals
        }
    return report


def _goals(
    data: ValueData, rows: Tensor, horizon: int, config: ValueConfig, rng: torch.Generator, named: int | None
) -> Goals:
    """The same sub-task for all rows, or a drawn goal for each."""
    if named is None:
        unnamed = replace(config, named=0.0, other=config.other / max(1.0 - config.named, 1e-9))
        return draw_goals(data.goals, rows, horizon, unnamed, rng)
    return Goals(
        values_BO=data.goals.named_KO[named].expand(len(rows), -1),
        weights_BO=data.goals.weights_KO[named].expand(len(rows), -1),
        named_B=torch.ones_like(rows, dtype=torch.bool),
    )


def _asked(
    model: SkillModel,
    data: ValueData,
    latents: Tensor,
    rows: Tensor,
    every: list[Goals],
    config: ValueConfig,
    plan_steps: int,
) -> Asked:
    values, targets, within = [], [], []
    for goals in every:
        values.append(model.goal_value(latents, goals.values_BO, goals.weights_BO))
        for part, chosen in _chunks(rows, goals):
            targets.append(discounted_times(data, part, chosen, [0], config)[0])
            wait = steps_until(data.goals, part, chosen, [0], data.longest)[0]
            told = (wait < NEVER) | (data.goals.ends_R[part] - part >= plan_steps)
            within.append(torch.where(told, (wait <= plan_steps).float(), UNKNOWN))
    return Asked(value_B=torch.cat(values), targets_B=torch.cat(targets), within_B=torch.cat(within))


def _chunks(rows: Tensor, goals: Goals) -> Iterator[tuple[Tensor, Goals]]:
    pieces = (rows, goals.values_BO, goals.weights_BO, goals.named_B)
    for part, values, weights, named in zip(*(piece.split(CHUNK) for piece in pieces)):
        yield part, Goals(values_BO=values, weights_BO=weights, named_B=named)


def _judged(asked: Asked, reach: float) -> dict[str, Any]:
    """How good the value is, as far as targets are known; `reach`: that of a goal reached at the plan's very end."""
    known, ahead = asked.targets_B != UNKNOWN, asked.targets_B != 1.0
    value, target = asked.value_B[known], asked.targets_B[known]
    within = {
        "within": reliability(asked.value_B, asked.within_B, reach),
        "ahead": reliability(asked.value_B[ahead], asked.within_B[ahead], reach),
    }
    if len(value) < 2:
        return within
    bins = [
        {"predicted": float(value[chosen].mean()), "true": float(target[chosen].mean()), "count": int(chosen.sum())}
        for chosen in _binned(value)
    ]
    gap = sum(abs(b["predicted"] - b["true"]) * b["count"] for b in bins) / len(value)
    return within | {
        "cross_entropy": float(nn.functional.binary_cross_entropy(value, target)),
        "explained_variance": 1.0 - float((value - target).square().mean() / target.var().clamp(min=1e-9)),
        "calibration_gap": gap,
        "bins": bins,
    }


def reliability(value_B: Tensor, within_B: Tensor, reach: float) -> dict[str, Any]:
    """How far values tell whether goals are reached in time; see the top of the file. The count alone if it is 0."""
    known = within_B != UNKNOWN
    if not known.any():
        return {"count": 0}
    value, reached = value_B[known], within_B[known]
    low, high = ((value - reach) / (1.0 - reach)).clamp(0.0, 1.0), (value / reach).clamp(0.0, 1.0)
    bins = [
        {
            "value": float(value[chosen].mean()),
            "at_least": float(low[chosen].mean()),
            "at_most": float(high[chosen].mean()),
            "reached": float(reached[chosen].mean()),
            "count": int(chosen.sum()),
        }
        for chosen in _binned(value)
    ]
    brier = float(((low + high) / 2.0 - reached).square().mean())
    about = {"count": len(value), "share": float(reached.mean()), "auc": auc(value, reached), "brier": brier}
    return {**about, "bins": bins}


def auc(score_B: Tensor, true_B: Tensor) -> float:
    """Probability that a true one scores above a false one, ties half; 0.5 where there are none of either."""
    ones = int(true_B.sum())
    zeros = len(true_B) - ones
    if not ones or not zeros:
        return 0.5
    _, place, counts = torch.unique(score_B, return_inverse=True, return_counts=True)
    ranks = torch.cumsum(counts, 0).double() - (counts.double() - 1.0) / 2.0
    return float((ranks[place][true_B > 0.5].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))


def _binned(value_B: Tensor) -> Iterator[Tensor]:
    """Which values lie in each bin that isn't empty."""
    at = (value_B * BINS).long().clamp(0, BINS - 1)
    for b in range(BINS):
        if (at == b).any():
            yield at == b
