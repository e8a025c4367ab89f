"""Summaries of evaluation episodes: means with bootstrap intervals, success per sub-task, plans against outcomes.

Reliability: plans binned by the success that they predicted, ten bins over 0 to 1, each with how many there are, the
mean that they predicted and the share that came true (a reliability diagram: DeGroot and Fienberg 1983).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .trials import EpisodeResult, PlanRecord

RESAMPLES = 10_000
BINS = 10
Z_95 = 1.959964


def bootstrap_interval(values: Sequence[float], *, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (Efron 1979), seeded."""
    data = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, len(data), (RESAMPLES, len(data)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(results: Sequence[EpisodeResult], joints: int = 7) -> dict[str, Any]:
    """The figures that a result file holds, from at least one episode of an arm with so many joints."""
    done = [r.subtasks_done for r in results]
    plans = [p for r in results for p in r.plans]
    return {
        "episodes": len(results),
        "subtasks_mean": float(np.mean(done)),
        "subtasks_interval_95": bootstrap_interval(done),
        "subtasks_per_episode": done,
        "success_per_subtask": success_by_name([(r.task, r.subtasks_done) for r in results]),
        "missed_ticks": sum(r.missed for r in results),
        "stops": sum(r.stops for r in results),
        "verdicts": dict(sum((Counter(r.verdicts) for r in results), Counter())),
        "late_plans": sum(r.late_plans for r in results),
        "errors": [r.error for r in results if r.error],
        "doubted": doubted([(r.subtasks_done == len(r.task), r.doubts > 0) for r in results]),
        "plan_ms": _percentiles([p.plan_ms for p in plans]),
        "planned_against_realised": plan_audit(plans, joints),
        "reliability": reliability([(p.success_probability, p.achieved) for p in plans]),
    }


def plan_audit(plans: Sequence[PlanRecord], joints: int = 7) -> dict[str, Any]:
    """How far the planner's expectations came true.

    Returns:
        predicted_successes: plans with a predicted success probability of at least one half.
        precision: the share of those whose sub-task was complete within the plan's length.
        recall: the share of realised successes that were predicted.
        arm_error_rad: mean absolute joint error one skill after the plan took effect; None without joints.
    """
    said = [p for p in plans if p.success_probability >= 0.5]
    came = [p for p in plans if p.achieved]
    both = sum(p.achieved for p in said)
    pairs = [(p.predicted_O[:joints], p.reached_O[:joints]) for p in plans if p.reached_O is not None]
    errors = [np.abs(predicted - reached).mean() for predicted, reached in pairs if joints]
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


def reliability(plans: Sequence[tuple[float, bool]]) -> list[dict[str, Any]]:
    """Bins of (predicted success probability, whether it came true); an empty bin has neither mean nor share."""
    predicted = np.array([p for p, _ in plans], np.float64)
    came = np.array([c for _, c in plans], np.float64)
    bins = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    return [_bin(k, predicted[bins == k], came[bins == k]) for k in range(BINS)]


def _bin(index: int, predicted: npt.NDArray[np.float64], came: npt.NDArray[np.float64]) -> dict[str, Any]:
    some = len(predicted) > 0
    return {
        "from": index / BINS,
        "to": (index + 1) / BINS,
        "count": len(predicted),
        "mean_predicted": float(predicted.mean()) if some else None,
        "realised": float(came.mean()) if some else None,
    }


def pooled(many: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The bins of several `reliability` tables together."""
    found = []
    for same in zip(*many, strict=True):
        count = sum(b["count"] for b in same)
        means = {
            key: sum(b["count"] * b[key] for b in same if b["count"]) / count if count else None
            for key in ("mean_predicted", "realised")
        }
        found.append({"from": same[0]["from"], "to": same[0]["to"], "count": count, **means})
    return found


def share_interval(came: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); 0 to 1 of nothing."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = came / of, Z_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z_95 / (1 + z2 / of) * np.sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def doubted(episodes: Sequence[tuple[bool, bool]]) -> dict[str, list[int]]:
    """Of (whether all was done, whether plans were doubted): how many doubted, of how many, for either outcome."""
    by_outcome = {"done": True, "not done": False}
    return {
        name: [sum(doubt for done, doubt in episodes if done is outcome), sum(done is outcome for done, _ in episodes)]
        for name, outcome in by_outcome.items()
    }


def success_by_name(episodes: Sequence[tuple[Sequence[str], int]]) -> dict[str, float]:
    """Share of the episodes with a sub-task that completed it, of (sub-tasks in order, how many were completed)."""
    ranks = [(told_apart(names), done) for names, done in episodes]
    found = {}
    for name in dict.fromkeys(name for names, _ in ranks for name in names):
        having = [names.index(name) < done for names, done in ranks if name in names]
        found[name] = sum(having) / len(having)
    return found


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)} | {"max": float(np.max(values))}
