"""Evaluation without ROS: the same policy, loop and actuation as the stack, in simulated time, episodes in parallel.

Every episode depends on its own seed alone, so the results are the same for any number of workers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from skimo_core.contract.policy import SkillPolicy
from skimo_core.domain.tasks import kitchen
from skimo_eval.trials import EpisodeResult, run_episode
from skimo_sim.twin import Twin

PolicyFactory = Callable[[], SkillPolicy]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One episode: a task by name and a seed."""

    task: str
    seed: int


def bundle_policy(folder: Path, settings: dict[str, object]) -> SkillPolicy:
    """The policy of a bundle with some planner settings changed; imports ONNX Runtime."""
    from skimo_server.inprocess import open_policy

    return open_policy(folder, settings)


def run_jobs(jobs: Sequence[Job], factory: PolicyFactory, workers: int = 1) -> Iterator[EpisodeResult]:
    """Run the episodes and yield their results in the order of `jobs`, as they come."""
    if workers == 1:
        policy, twin = factory(), Twin()
        yield from (_run(twin, policy, job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_initialise, initargs=(factory,)) as pool:
        yield from pool.map(_run_in_worker, jobs)


def factory_for(folder: Path, settings: dict[str, object]) -> PolicyFactory:
    """A picklable factory for worker processes."""
    return partial(bundle_policy, folder, settings)


_worker: tuple[Twin, SkillPolicy] | None = None
"""Each worker process's own twin and policy; set once when the process starts."""


def _initialise(factory: PolicyFactory) -> None:
    global _worker
    _worker = (Twin(), factory())


def _run_in_worker(job: Job) -> EpisodeResult:
    assert _worker is not None
    return _run(*_worker, job)


def _run(twin: Twin, policy: SkillPolicy, job: Job) -> EpisodeResult:
    domain = kitchen()
    return run_episode(twin, policy, domain, domain.task(job.task), job.seed)
