"""What a bundle's plans promised on a robot, and what came of them, from its recordings.

A plan counts where its own skills ran until its sub-task was done, or to its end: not one in which ticks were missed,
the loop waited for an operator, a person took over, or the episode ended first. What the gate held counts, as in the
twin: a plan that asks for it promises in vain. Whether a sub-task is done is told by what was observed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import EpisodeError, SpecError
from skimo_core.contract.policy import Calibration
from skimo_core.domain.domain import Domain
from skimo_core.domain.tasks import Progress
from skimo_core.episodes.episode import Episode
from skimo_core.episodes.fit import why_other_domain
from skimo_core.episodes.recording import read_episode, recordings
from skimo_server.bundle import Manifest

from .trials import EpisodeResult, PlanRecord

RAN = "act"


def recorded_plans(folders: Iterable[Path], domain: Domain, manifest: Manifest) -> list[EpisodeResult]:
    """The episodes in folders of recordings that hold plans of a bundle, or of the one that it is a copy of.

    Raises:
        SpecError: a folder is not there, or none of the episodes holds any.
    """
    found, why = [], []
    for folder in folders:
        if not folder.is_dir():
            raise SpecError(f"{folder}: no such folder; give the one that the recorder writes to")
        for path in recordings(folder):
            try:
                found.append(_result(read_episode(path), domain, manifest))
            except EpisodeError as error:
                why.append(f"{path.name}: {error}")
                print(f"left out: {why[-1]}", file=sys.stderr)
    held = [result for result in found if result.plans]
    if not held:
        others = f"; {len(why)} were left out, the first as {why[0]}" if why else ""
        raise SpecError(
            f"none of {len(found)} recordings holds a plan of bundle {manifest.bundle_id[:12]}{others}; an older "
            "version's name no promises"
        )
    return held


def _result(episode: Episode, domain: Domain, manifest: Manifest) -> EpisodeResult:
    """Raises EpisodeError where it can't be told what was asked for, or from the start on."""
    meta = episode.meta
    if why := why_other_domain(meta, domain):
        raise EpisodeError(why)
    if meta.part != 1:
        raise EpisodeError("begins in mid-episode: what was done before isn't known")
    try:
        task = domain.task(meta.task)
    except SpecError as error:
        raise EpisodeError(f"its task can't be read ({error})") from None
    result = EpisodeResult(seed=meta.seed or 0, task=tuple(s.name for s in task.subtasks))
    if episode.promises is None or episode.kinds is None:
        return result
    ids = {manifest.bundle_id, manifest.parent_id}
    window = manifest.skill_horizon * manifest.planner.horizon
    weights = manifest.planner.calibration
    calibration = Calibration.of(weights) if weights else None
    progress, spent, done = Progress(task), 0, 0
    for t, (value, said) in enumerate(episode.promises):
        progress.update(episode.observations[t])
        subtask = progress.current
        if np.isnan(said) or subtask is None:
            continue
        spent, done = (spent if progress.done == done else 0), progress.done
        plan = PlanRecord(
            step=t,
            subtask=subtask.name,
            value=float(value),
            success_probability=calibration.probability(said, value, spent) if calibration else float(said),
            predicted_success=float(said) if calibration else np.nan,
            predicted_O=np.zeros(0, np.float32),
            spent=spent,
        )
        spent += 1
        ahead = episode.observations[t : t + window + 1]
        came = np.flatnonzero([bool(subtask.complete(seen_O)) for seen_O in ahead])
        plan.achieved = bool(len(came))
        ran = int(came[0]) if plan.achieved else window
        whose = meta.bundle_id if episode.bundle_ids is None else str(episode.bundle_ids[t])
        kinds = episode.kinds[t : t + ran]
        if whose in ids and len(kinds) == ran and (kinds == RAN).all():
            result.plans.append(plan)
    return result
