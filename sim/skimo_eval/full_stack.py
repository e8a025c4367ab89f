"""Evaluation through the full ROS stack in real time: one start, an episode per seed, the twin reset between them.

The machine is watched meanwhile, so that missed ticks can be held against its pauses.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from skimo_core.contract.errors import SkimoError
from skimo_core.domain.domain import Domain
from skimo_core.domain.library import is_path
from skimo_eval.statistics import bootstrap_interval, plan_audit, reliability, success_by_name
from skimo_eval.trials import PlanRecord
from skimo_ros.evaluator import Evaluator, Watched
from skimo_ros.operator import end_ros, init_ros
from skimo_sim.condition import DRAWN, load_condition

from .pauses import audit_misses
from .stack_process import StackProcess


def run_full(
    *,
    bundle: str,
    domain: Domain,
    robot: str,
    cell: str,
    rig: str = "",
    twin_rig: str = "",
    tasks: Sequence[str],
    seeds: Sequence[int],
    condition: str = DRAWN,
) -> dict[str, Any]:
    """Run an episode of each of `tasks` with each of `seeds`; print a line for each; return their figures."""
    with tempfile.TemporaryDirectory(prefix="skimo-eval-") as folder:
        place = Path(folder)
        arguments = {"bundle": bundle, "domain": domain.source, "robot": robot, "cell": cell, "task": tasks[0]}
        arguments |= {"rig": rig, "twin_rig": twin_rig}
        arguments["params_file"] = str(write_parameters(place / "condition.yaml", condition, domain))
        up = stack_up(arguments, domain, recordings=place / "recordings", logs=place / "logs")
        with up as (stack, evaluator), stack.metered() as metered:
            episodes = []
            for task, seed in zip(tasks, seeds, strict=True):
                episode = evaluator.run_episode(task, seed, stack.alive)
                episodes.append(episode)
                print(_line(episode), flush=True)
                if not stack.alive():
                    print("\n".join(stack.tail))
                    break
    return summarise_watched(episodes) | {
        "cpu_cores_per_process": metered.cpu_cores,
        "cpu_cores": sum(metered.cpu_cores.values()),
        "cpu_cores_stolen": metered.cpu_cores_stolen,
        "misses": audit_misses([tick for e in episodes for tick in e.ticks], metered.pauses, domain.action.period_s),
    }


@contextmanager
def stack_up(
    arguments: Mapping[str, str], domain: Domain, *, recordings: Path, logs: Path
) -> Iterator[tuple[StackProcess, Evaluator]]:
    """The stack as a child process, and an evaluator that it is ready for; both end on leaving.

    Its last words are printed where something fails.

    Args:
        arguments: of launch/stack.yaml, by name.

    Raises:
        SetupError: it ended, or isn't ready in time.
    """
    with StackProcess(arguments, recordings=recordings, logs=logs) as stack:
        init_ros()
        evaluator = Evaluator(domain)
        try:
            evaluator.wait_until_ready(stack.alive)
            yield stack, evaluator
        except SkimoError:
            print("\n".join(stack.tail), file=sys.stderr)
            raise
        finally:
            evaluator.close()
            end_ros()


def write_parameters(path: Path, condition: str, domain: Domain, **more: float | bool | str) -> Path:
    """Write a parameter file with the nodes' shares of a condition: of the twin its name, of the policy noise and time.

    Args:
        more: other parameters, for all nodes that have them.

    Raises:
        SpecError: no such condition, or it is malformed.
    """
    loaded = load_condition(condition, domain)
    name = str(Path(condition).expanduser().resolve()) if is_path(condition) else condition
    parameters = {"condition": name, "noise_factor": loaded.sensors.noise, "patience": loaded.patience}
    parameters |= more
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}), encoding="utf-8")
    return path


def summarise_watched(episodes: Sequence[Watched]) -> dict[str, Any]:
    """The figures of at least one episode."""
    done = [len(e.completed) for e in episodes]
    plan_ms = [ms for e in episodes for ms in e.plan_ms]
    plans = [plan for e in episodes for plan in _plans(e)]
    return {
        "episodes": len(episodes),
        "subtasks_mean": float(np.mean(done)),
        "subtasks_interval_95": bootstrap_interval(done),
        "subtasks_per_episode": done,
        "success_per_subtask": success_by_name([(e.task, len(e.completed)) for e in episodes]),
        "missed_ticks": sum(e.missed_ticks for e in episodes),
        "late_plans": sum(e.late_plans for e in episodes),
        "stops": sum(e.stops for e in episodes),
        "verdicts": dict(sum((Counter(e.verdicts) for e in episodes), Counter())),
        "errors": [e.detail for e in episodes if e.early],
        "steps": sum(e.steps for e in episodes),
        "plan_ms": {f"p{q}": float(np.percentile(plan_ms, q)) for q in (50, 95, 99, 100)} if plan_ms else None,
        "planned_against_realised": plan_audit(plans),
        "reliability": reliability([(p.success_probability, p.achieved) for p in plans]),
        "bundle_id": episodes[-1].bundle_id,
        "episodes_detail": [_detail(e) for e in episodes],
    }


def _plans(episode: Watched) -> list[PlanRecord]:
    """What was promised and whether it came true; what else a trial knows of a plan, nobody watched."""
    return [
        PlanRecord(
            step=0,
            subtask=promise.subtask,
            value=np.nan,
            success_probability=promise.probability,
            predicted_O=np.zeros(0, np.float32),
            achieved=episode.kept(promise),
        )
        for promise in episode.promises
    ]


def _detail(episode: Watched) -> dict[str, Any]:
    """Plain data for a result file, as a trial's."""
    data = {key: value for key, value in asdict(episode).items() if key not in ("ticks", "promises")}
    return data | {
        "subtasks_done": len(episode.completed),
        "predicted_success": [round(promise.probability, 4) for promise in episode.promises],
        "came_true": [int(episode.kept(promise)) for promise in episode.promises],
    }


def _line(episode: Watched) -> str:
    done = ", ".join(f"{name} {since_s:.1f} s" for name, since_s in episode.completed) or "none"
    return (
        f"episode {episode.seed}: {len(episode.completed)}/{len(episode.task)} ({done}) steps {episode.steps} "
        f"missed {episode.missed_ticks} stops {episode.stops}; {episode.detail}"
    )
