"""A robot's recordings, small: a policy acts, and a person takes over for a while. And a bundle that could drive it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from learn.conftest import make_arrays

from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_learn.data import EpisodeSet
from skimo_learn.export import export_bundle, load_run
from skimo_learn.recipes import smoke
from skimo_learn.run import train_run
from skimo_server.planner_config import PlannerConfig


def recorded(domain: Domain, seed: int) -> Episode:
    """The episode of a seed: 80 control steps, of which a person acts in 30 to 59, and a sub-task done at step 25."""
    observations, actions = (arrays[0] for arrays in make_arrays(100 + seed))
    steps = len(actions)
    skills = np.repeat(np.random.default_rng(seed).uniform(-1, 1, (steps // 10, 10)), 10, axis=0).astype(np.float32)
    kinds = np.array(["act"] * steps + ["done"], "<U9")
    kinds[30:60] = "intervene"
    skills[30:60] = np.nan
    rewards = np.zeros(steps + 1, np.float32)
    rewards[25] = 1.0
    meta = EpisodeMeta(
        episode_id=f"e{seed}",
        source="policy",
        task="microwave",
        domain=domain.named,
        robot=load_limits(domain.robot).named,
        rate_hz=domain.action.rate_hz,
        seed=seed,
        bundle_id="0" * 64,
        channels=domain.observation.names,
    )
    return Episode(
        observations=observations,
        actions=actions,
        meta=meta,
        skills=skills,
        kinds=kinds,
        rewards=rewards,
        verdicts=np.zeros(steps + 1, np.uint8),
    )


def small_bundle(folder: Path) -> Path:
    """The folder of a bundle of a run that learned next to nothing, with a calibration of its own."""
    base, domain = smoke(), load_domain()
    short = replace(base, pretrain=replace(base.pretrain, threads=1), value=replace(base.value, skills=1))
    train_run(short, domain, EpisodeSet.from_arrays(*make_arrays(), source="play"), folder / "run")
    planner = PlannerConfig(samples=32, elites=8, calibration=(0.1, 0.9, 0.0, -0.2, 0.0))
    robot = load_limits(domain.robot)
    export_bundle(load_run(folder / "run"), folder / "bundle", domain, planner=planner, robot=robot)
    return folder / "bundle"
