"""Evaluation without ROS: the stack's own pilot behind the stack's own gate, in simulated time, episodes in parallel.

Every episode depends on its own task, seed and condition alone, so the results are the same for any number of workers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from skimo_core.contract.policy import SkillPolicy
from skimo_core.control.rigged import RiggedBackend, narrowed
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import DEFAULT, load_domain
from skimo_core.domain.rig import BARE
from skimo_core.domain.rig_file import check_rig, load_rig
from skimo_core.domain.robot import load_limits
from skimo_sim.condition import DRAWN, load_condition
from skimo_sim.twins import make_twin

from .trials import EpisodeResult, Lab, run_episode

if TYPE_CHECKING:
    from skimo_server.planner_config import PlannerConfig

PolicyFactory = Callable[[], SkillPolicy]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a lab is made of, by names or paths; empty: the domain's own.

    Attributes:
        rig: what the policy's side knows of the cell; empty: nothing.
        twin_rig: what is true of the twin's; empty: what `rig` says.
    """

    domain: str = DEFAULT
    robot: str = ""
    cell: str = ""
    rig: str = ""
    twin_rig: str = ""

    def build(self, condition: str = DRAWN) -> Lab:
        """Load all of it, under a condition: a name, or a file.

        Raises:
            SpecError: no such thing, or it contradicts itself.
        """
        plain = load_domain(self.domain)
        different = load_condition(condition, plain)
        domain = different.seen(plain)
        limits = load_limits(self.robot or domain.robot)
        cell = load_cell(self.cell or domain.cell)
        rig, true = load_rig(self.rig), load_rig(self.twin_rig or self.rig)
        for known in (rig, true):
            if known is not BARE:
                check_rig(known, limits)
        twin = make_twin(domain, limits, condition=different, rig=true)
        seen = twin if rig is BARE else RiggedBackend(twin, rig)
        return Lab(domain=domain, limits=narrowed(limits, rig), cell=cell, twin=seen, rig=rig)

    @property
    def names(self) -> dict[str, str]:
        """All of them, by what they are."""
        return asdict(self)

    def moved(self, paths: Mapping[str, str]) -> World:
        """The same where files lie elsewhere: at `paths`, by where they lay."""
        return World(**{part: paths.get(name, name) for part, name in self.names.items()})


HOME = World()
"""Everything as it ships."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One episode: a task by name, a seed, and a condition by name or path."""

    task: str
    seed: int
    condition: str = DRAWN


def paired_jobs(tasks: Sequence[str], conditions: Iterable[str], seed: int) -> list[Job]:
    """Each task under each condition, episode i with seed + i; a condition's jobs together."""
    return [Job(task=task, seed=seed + i, condition=source) for source in conditions for i, task in enumerate(tasks)]


Fly = Callable[[Lab, SkillPolicy, Job], EpisodeResult]
"""Flies one job; a function of a module, so that worker processes find it."""


def bundle_policy(folder: Path, settings: dict[str, object]) -> SkillPolicy:
    """The policy of a bundle with some planner settings changed; imports ONNX Runtime."""
    from skimo_server.inprocess import open_policy

    return open_policy(folder, settings)


def checked_settings(planner: PlannerConfig, pairs: Sequence[str]) -> dict[str, object]:
    """Settings "name=value" by name; one that the planner refuses raises SpecError here, and not in a worker."""
    from skimo_server.planner_config import with_settings

    with_settings(planner, pairs)
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def fly(lab: Lab, policy: SkillPolicy, job: Job) -> EpisodeResult:
    """One episode."""
    return run_episode(lab, policy, lab.domain.task(job.task), job.seed)


def run_jobs(
    jobs: Sequence[Job], factory: PolicyFactory, world: World = HOME, *, workers: int = 1, flown: Fly = fly
) -> Iterator[EpisodeResult]:
    """Run the episodes and yield their results in the order of `jobs`, as they come.

    A lab is built anew where the condition changes; jobs of one condition belong together.
    """
    if workers == 1:
        crew = Crew(factory, world)
        yield from (crew.fly(flown, job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    given = (factory, world)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_initialise, initargs=given) as pool:
        yield from pool.map(partial(_run_in_worker, flown), jobs)


def factory_for(folder: Path, settings: dict[str, object]) -> PolicyFactory:
    """A picklable factory for worker processes."""
    return partial(bundle_policy, folder, settings)


class Crew:
    """A policy, and the lab in which it flew last: what each worker process has of its own."""

    def __init__(self, factory: PolicyFactory, world: World) -> None:
        self._policy, self._world = factory(), world
        self._built: tuple[str, Lab] | None = None

    def fly(self, flown: Fly, job: Job) -> EpisodeResult:
        if self._built is None or self._built[0] != job.condition:
            self._built = (job.condition, self._world.build(job.condition))
        return flown(self._built[1], self._policy, job)


_crew: Crew | None = None
"""Set once when a worker process starts."""


def _initialise(factory: PolicyFactory, world: World) -> None:
    global _crew
    _crew = Crew(factory, world)


def _run_in_worker(flown: Fly, job: Job) -> EpisodeResult:
    assert _crew is not None
    return _crew.fly(flown, job)
