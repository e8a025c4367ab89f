"""Ladder rung a: the skills of held-out episodes, encoded and replayed closed loop in the twin.

Each episode is cut into segments of H steps; the skill encoder's mean of each, through tanh, is executed by the skill
policy from the twin's own state. What is lost against the recording is lost by the skill space or the skill policy,
not by planning. `subtasks_mean` counts, of the four sub-tasks that an episode recorded first, those that the replay
does as well, in any order; the figures per sub-task count all that were recorded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skimo_core.control.actuate import Actuator
from skimo_core.control.observe import Observer
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.cache import load_folder
from skimo_core.episodes.episode import Episode
from skimo_eval.statistics import bootstrap_interval
from skimo_eval.trials import truth
from skimo_server.bundle import load_bundle
from skimo_server.engine import Engine
from skimo_sim.twin import Twin


def replay_held_out(folder: Path, data: Path, limit: int = 40) -> dict[str, Any]:
    """Replay up to `limit` episodes of the recordings in `data` with the bundle in `folder`."""
    engine = Engine.load(load_bundle(folder))
    twin, cache = Twin(), load_folder(data)[0]
    recorded, replayed, counts = [], [], []
    for index in range(min(limit, len(cache))):
        episode = cache.episode(index)
        recorded.append(completed(episode.observations))
        replayed.append(completed(replay(engine, twin, episode, seed=index)))
        counts.append(len(set(episode.meta.task.split(",")[:4]) & replayed[-1]))
    names = load_domain().subtasks
    return {
        "episodes": len(counts),
        "subtasks_mean": float(np.mean(counts)),
        "subtasks_interval_95": bootstrap_interval(counts),
        "subtasks_per_episode": counts,
        "all_recorded_mean": float(np.mean([len(done) for done in recorded])),
        "all_replayed_mean": float(np.mean([len(was & done) for was, done in zip(recorded, replayed)])),
        "success_per_subtask": {
            name: f"{sum(name in done for done in replayed)}/{sum(name in done for done in recorded)}" for name in names
        },
    }


def replay(engine: Engine, twin: Twin, episode: Episode, seed: int) -> np.ndarray:
    """Execute the episode's encoded skills; return the true observations [T+1, O]."""
    domain, horizon = load_domain(), engine.manifest.skill_horizon
    starts = range(0, episode.steps - horizon + 1, horizon)
    windows = np.stack([episode.observations[s : s + horizon] for s in starts])
    actions = np.stack([episode.actions[s : s + horizon] for s in starts])
    skills = np.tanh(engine.encode_skill(windows, actions)[0])
    twin.reset("kitchen", seed)
    twin.set_state(start_of(episode, twin))
    rng = np.random.default_rng(seed)
    observer = Observer(domain.observation, max_age_s=domain.action.period_s, noise=domain.noise, rng=rng)
    actuator = Actuator(load_limits("panda"), domain.action)
    actuator.reset(twin.read().q_rad, twin.now_s())
    seen = [truth(domain, twin)]
    for step in range(len(skills) * horizon):
        observation = observer.observe(twin.read(), twin.read_objects(), twin.now_s())
        action = engine.act(observation, skills[step // horizon])
        twin.write(actuator.command(action, twin.now_s()))
        twin.advance(domain.action.period_s)
        seen.append(truth(domain, twin))
    return np.stack(seen)


def start_of(episode: Episode, twin: Twin) -> np.ndarray:
    """The twin's state [nq] where the episode began: the arm as noted, the rest as first observed."""
    qpos = episode.observations[0].astype(np.float64)
    arm_rad = np.array(episode.meta.start_q_rad) if episode.meta.start_q_rad else qpos[:7]
    qpos[:7] = arm_rad - twin.scene.arm.zero_rad
    qpos[7:9] = np.clip(qpos[7:9], *twin.model.jnt_range[7])
    qpos[-4:] /= np.linalg.norm(qpos[-4:])
    return qpos


def completed(observations: np.ndarray) -> set[str]:
    """Sub-tasks whose goal comes to hold at some step of [T+1, O]."""
    held = {name: subtask.complete(observations) for name, subtask in load_domain().subtasks.items()}
    return {name for name, holds in held.items() if (~holds[:-1] & holds[1:]).any()}
