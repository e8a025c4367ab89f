"""Summaries of evaluation episodes: means with bootstrap intervals, success per sub-task, plans against outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .trials import EpisodeResult, PlanRecord

RESAMPLES = 10_000


def bootstrap_interval(values: Sequence[float], *, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (Efron 1979), seeded."""
    data = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, len(data), (RESAMPLES, len(data)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """The figures that a result file holds, from at least one episode."""
    done = [r.subtasks_done for r in results]
    plans = [p for r in results for p in r.plans]
    names = dict.fromkeys(n for r in results for n in told_apart(r.task))
    return {
        "episodes": len(results),
        "subtasks_mean": float(np.mean(done)),
        "subtasks_interval_95": bootstrap_interval(done),
        "subtasks_per_episode": done,
        "success_per_subtask": {n: _success(results, n) for n in names},
        "missed_ticks": sum(r.missed for r in results),
        "stops": sum(r.stops for r in results),
        "verdicts": dict(sum((Counter(r.verdicts) for r in results), Counter())),
        "late_plans": sum(r.late_plans for r in results),
        "errors": [r.error for r in results if r.error],
        "plan_ms": _percentiles([p.plan_ms for p in plans]),
        "planned_against_realised": plan_audit(plans),
    }


def plan_audit(plans: Sequence[PlanRecord], joints: int = 7) -> dict[str, Any]:
    """How far the planner's expectations came true.

    Returns:
        predicted_successes: plans with a predicted success probability of at least one half.
        precision: the share of those whose sub-task was complete within the plan's length.
        recall: the share of realised successes that were predicted.
        arm_error_rad: mean absolute joint error one skill after the plan took effect.
    """
    said = [p for p in plans if p.success_probability >= 0.5]
    came = [p for p in plans if p.achieved]
    both = sum(p.achieved for p in said)
    errors = [np.abs(p.predicted_O[:joints] - p.reached_O[:joints]).mean() for p in plans if p.reached_O is not None]
    return {
        "plans": len(plans),
        "predicted_successes": len(said),
        "realised_successes": len(came),
        "precision": both / len(said) if said else None,
        "recall": both / len(came) if came else None,
        "mean_predicted_probability": float(np.mean([p.success_probability for p in plans])) if plans else None,
        "arm_error_rad": float(np.mean(errors)) if errors else None,
    }


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """A task's sub-tasks by names that differ: of one that comes again, "kettle" and "kettle (2)"."""
    again = [names[:k].count(name) for k, name in enumerate(names)]
    return tuple(f"{name} ({k + 1})" if k else name for name, k in zip(names, again))


def _success(results: Sequence[EpisodeResult], name: str) -> float:
    ranks = [(told_apart(r.task), r.subtasks_done) for r in results]
    having = [names.index(name) < done for names, done in ranks if name in names]
    return sum(having) / len(having)


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)} | {"max": float(np.max(values))}
