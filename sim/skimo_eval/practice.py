"""`skimo practice`: a bundle works in the twin, episode after episode, and is recorded as a robot is.

What a learner takes from a robot it takes from here alike: what was seen, meant, told and done, who acted, what came of
it. With `--helper scripted` the bundle asks where its own plans promise little, or were broken: the arm holds, and the
scripted teleoperator does that sub-task in its place (on a robot a person; Luo et al., "Precise and dexterous robotic
manipulation via human-in-the-loop reinforcement learning", Science Robotics 2025, find that few corrections go far).
A recording appears in the folder when its episode is over, whole. Units control steps.

With `--explore` it explores as SkiMo does (Shi et al. 2022, algorithm 3 and its code: a sampled elite, moved by the
planner's standard deviation, whose floor falls linearly), behind the same gate. How widely an episode explores is known
from its number alone, whoever flies it and whatever lies in the folder: episode i of a call has number `explore_from` +
i. Its recording says it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from tqdm import tqdm

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.contract.policy import FloatArray, SkillPolicy
from skimo_core.control.doubt import DoubtConfig
from skimo_core.control.reports import StepRecord
from skimo_core.domain.domain import load_domain
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.files import check_folder
from skimo_core.episodes.recording import write_episode
from skimo_sim.condition import DRAWN, load_condition

from .domains import domain_to_fly
from .helper import ScriptedHelper
from .inprocess import Job, World, checked_settings, factory_for, run_jobs
from .orders import tasks_of
from .trials import EpisodeResult, Lab, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How widely an episode explores, by its number: from `begin` linearly to `end` in so many, then `end`; 0 episodes:
    always `begin`."""

    begin: float = 0.0
    end: float = 0.0
    episodes: int = 0

    def at(self, number: int) -> float:
        """The planner's `explore` for episode `number`, counted from 0."""
        share = min(number / self.episodes, 1.0) if self.episodes else 0.0
        return (1.0 - share) * self.begin + share * self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Let a bundle work in the twin, recorded as a robot is.

    Attributes:
        out: folder for the recordings; what it holds stays.
        bundle: path of a bundle, or the name of one that ships.
        domain: what the tasks share: a domain's name, or a file; empty: the one that the bundle carries or names.
        task: as in skimo eval.
        condition: what is different (skimo_sim.condition): a name, or a file.
        episodes: how many; episode i uses seed + i.
        seed: of the first.
        helper: scripted: the teleoperator does what the bundle asks for help with; none: it goes on trying.
        ask_below: probability below which three plans in a row ask for help.
        workers: processes; 0 means one per core.
        explore: how widely episode 0 explores (SkiMo: 0.5), with execute=elite_sample unless `set` says otherwise; 0:
            not at all.
        explore_end: how widely it explores after `explore_episodes`.
        explore_episodes: in how many episodes the one falls to the other, linearly; 0: it stays.
        explore_from: number of the first episode, where earlier calls have flown some.
        set: planner settings on top of the bundle's own, as name=value.
    """

    out: Path
    bundle: str = "kitchen"
    domain: str = ""
    task: str = ""
    condition: str = DRAWN
    episodes: int = 30
    seed: int = 500_000
    helper: Literal["none", "scripted"] = "none"
    ask_below: float = DoubtConfig().bound
    workers: int = 0
    explore: float = 0.0
    explore_end: float = 0.01
    explore_episodes: int = 0
    explore_from: int = 0
    set: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.workers < 0 or self.seed < 0:
            raise SpecError(f"episodes {self.episodes} (>= 1), workers {self.workers} (>= 0), seed {self.seed} (>= 0)")
        DoubtConfig(bound=self.ask_below)
        if min(self.explore_end, self.explore_episodes, self.explore_from) < 0:
            raise SpecError(
                f"explore-end {self.explore_end:g}, explore-episodes {self.explore_episodes}, explore-from "
                f"{self.explore_from}: must all be >= 0"
            )
        if not self.explore and (self.explore_episodes or self.explore_from):
            raise SpecError("explore-episodes and explore-from say how explore falls, but explore is 0; give --explore")
        if self.explore and any(setting.startswith("explore=") for setting in self.set):
            raise SpecError("--explore and --set explore=... are the same setting; give one of them")

    @property
    def schedule(self) -> Schedule:
        """Of exploration."""
        return Schedule(begin=self.explore, end=self.explore_end, episodes=self.explore_episodes)

    @property
    def settings(self) -> tuple[str, ...]:
        """Of the planner, the widest exploration among them."""
        if not self.explore:
            return self.set
        widest = max(self.explore, self.explore_end) if self.explore_episodes else self.explore
        return ("execute=elite_sample", *self.set, f"explore={widest}")


def main(argv: list[str]) -> int:
    """Let a bundle work in the twin, recorded as a robot is."""
    try:
        args = tyro.cli(Args, args=argv, prog="skimo practice")
        results = practise(args)
    except SkimoError as error:
        print(f"skimo practice: {error}", file=sys.stderr)
        return 1
    done = np.mean([result.subtasks_done for result in results])
    helps = sum(result.helps for result in results)
    print(f"practice: {len(results)} episodes, {done:.2f} sub-tasks each, helped {helps} times; recorded in {args.out}")
    return 0


def practise(args: Args) -> list[EpisodeResult]:
    """Fly the episodes and record them.

    Raises:
        SpecError: no such bundle, task or condition, or an episode of that seed is recorded there already.
        SetupError: the folder can't be written to.
    """
    from skimo_server.bundle import load_bundle, resolve_bundle

    args = replace(args, domain=domain_to_fly(args.bundle, args.domain))
    folder, domain = resolve_bundle(args.bundle), load_domain(args.domain)
    settings = checked_settings(load_bundle(folder).manifest.planner, args.settings)
    load_condition(args.condition, domain)
    check_folder(args.out)
    _, tasks = tasks_of(domain, args.task, args.episodes, args.seed)
    jobs = [Job(task=task, seed=args.seed + i, condition=args.condition) for i, task in enumerate(tasks)]
    if there := [path for job in jobs if (path := recording(args.out, job.seed)).exists()]:
        raise SpecError(f"{there[0]} is there already; choose another --seed, or another --out")
    fly = partial(_recorded, args)
    crew = run_jobs(
        jobs,
        factory_for(folder, settings),
        World(domain=args.domain),
        workers=args.workers or (os.cpu_count() or 1),
        flown=fly,
    )
    return list(tqdm(crew, desc="practising", total=len(jobs), unit="episode", mininterval=1.0))


def recording(folder: Path, seed: int) -> Path:
    """Where the episode of a seed is recorded."""
    return folder / f"practice-{seed:07d}.mcap"


def _recorded(args: Args, lab: Lab, policy: SkillPolicy, job: Job) -> EpisodeResult:
    """One episode, and its recording."""
    from skimo_server.inprocess import InProcessPolicy

    task, helped = lab.domain.task(job.task), args.helper == "scripted"
    if args.explore:
        assert isinstance(policy, InProcessPolicy)
        policy = policy.exploring(args.schedule.at(args.explore_from + job.seed - args.seed))
    doubt = DoubtConfig(bound=args.ask_below, hold=helped)
    trial = Trial(lab, policy, task, job.seed, helper=ScriptedHelper(lab) if helped else None, doubt=doubt)
    while trial.step():
        pass
    path = recording(args.out, job.seed)
    meta = EpisodeMeta(
        episode_id=path.stem,
        source="policy",
        task=",".join(trial.result.task),
        domain=lab.domain.named,
        robot=lab.limits.named,
        cell=lab.cell.named,
        rig=lab.rig.named,
        rate_hz=lab.domain.action.rate_hz,
        seed=job.seed,
        bundle_id=policy.spec.bundle_id,
        success=trial.result.subtasks_done == len(task.subtasks),
        channels=lab.domain.observation.names,
        explore=policy.spec.explore,
    )
    if len(trial.records) > 1:
        beside = path.with_suffix(".part")
        beside.unlink(missing_ok=True)
        write_episode(beside, as_episode(trial.records, meta, policy.spec.skill.dim))
        beside.replace(path)
    return trial.result


def as_episode(records: Sequence[StepRecord], meta: EpisodeMeta, skill_dim: int) -> Episode:
    """An episode of its steps, of which the last one's observation ends it."""
    steps = [record.step for record in records]
    told = records[:-1]

    def rows(values: Sequence[FloatArray | None], size: int) -> FloatArray:
        return np.stack([np.full(size, np.nan, np.float32) if v is None else v for v in values]).astype(np.float32)

    actions = rows([record.applied_A for record in told], 0)
    return Episode(
        observations=np.stack([record.observation_O for record in records]),
        actions=actions,
        meta=meta,
        actions_proposed=rows([record.step.action_A for record in told], actions.shape[1]),
        skills=rows([record.step.skill_Z for record in told], skill_dim),
        rewards=np.array([step.reward for step in steps], np.float32),
        kinds=np.array([step.kind.value for step in steps]),
        verdicts=np.array([int(record.verdict) for record in records], np.uint8),
        bundle_ids=np.array([record.step.bundle_id for record in told]),
        promises=rows([r.step.new_plan.promise_2 if r.step.new_plan else None for r in told], 2),
    )
