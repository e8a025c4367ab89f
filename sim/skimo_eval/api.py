"""All that a notebook needs, in one place: bundles, plans, environments, whole episodes, recordings.

    from skimo_eval import api
    agent = api.load_bundle("kitchen")                       skimo_server.api.load_bundle; needs the policy server
    env = api.make_env("kitchen", task="microwave,kettle")   a Gymnasium environment
    flown = api.rollout(agent, "microwave,kettle", seed=7)   an episode by the stack's own pilot behind its gate
    recording = api.read_recording("recordings/ID.mcap")     skimo_core.episodes.table.read_recording

Each works without the others' packages: what is missing is named when it is asked for. docs/python.md shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SetupError
from skimo_core.contract.policy import FloatArray, Plan
from skimo_core.domain.domain import load_domain
from skimo_core.episodes.table import Recording, Table, read_recording
from skimo_sim.condition import DRAWN
from skimo_sim.envs import DOMAIN_ID

from .inprocess import World
from .trials import EpisodeResult, Trial

if TYPE_CHECKING:
    from skimo_server.api import Agent

__all__ = ["Recording", "Rollout", "Table", "load_bundle", "load_domain", "make_env", "read_recording", "rollout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """An episode that was flown in a twin; T control steps.

    Attributes:
        result: what was done when, the gate's verdicts, each plan against what came of it.
        times_s: [T] when each step was due, since the episode's start.
        observations_TO: [T, O] what the policy saw.
        actions_TA: [T, A] what the arm was told; NaN where it was told nothing.
        truths_TO: [T, O] what was so, without noise.
        plans: those that took effect, by the control step.
    """

    result: EpisodeResult
    times_s: npt.NDArray[np.float64]
    observations_TO: FloatArray
    actions_TA: FloatArray
    truths_TO: FloatArray
    plans: Mapping[int, Plan]

    @property
    def success(self) -> bool:
        """Whether all sub-tasks were done."""
        return self.result.subtasks_done == len(self.result.task)


def load_bundle(
    bundle: Path | str = "kitchen", *, domain: str = "", settings: Mapping[str, object] | None = None, workers: int = 1
) -> Agent:
    """A bundle that plans and acts; see `skimo_server.api.load_bundle`, of the policy server's distribution.

    Raises:
        SetupError: that is not installed.
    """
    try:
        from skimo_server.api import load_bundle as load
    except ImportError as error:
        raise SetupError(f"bundles need the policy server ({error}); pip install ./policy_server") from None
    return load(bundle, domain=domain, settings=settings, workers=workers)


def make_env(domain: str = "kitchen", **options: Any) -> gymnasium.Env[FloatArray, FloatArray]:
    """A domain's environment, by name or file, as long as the domain's step limit.

    Args:
        options: of `skimo_sim.env.SkillEnv` (task, noise, gate, twin, condition, render_mode, camera).
    """
    limit = load_domain(domain).step_limit
    return gymnasium.make(DOMAIN_ID, domain=domain, max_episode_steps=limit, **options)


def rollout(
    agent: Agent, task: str = "", *, seed: int = 0, condition: str = DRAWN, world: World | None = None
) -> Rollout:
    """Fly an episode in simulated time, as `skimo eval` does.

    Args:
        task: a named task or goals joined by commas; empty: the domain's first.
        seed: draws the start, sensor noise and the planner's dice; the same gives the same episode.
        condition: what is different (skimo_sim.condition): a name, or a file.
        world: other robot, cell or rig than the domain's own.

    Raises:
        SpecError: the task can't be read, or the domain's twin can't do what is asked.
    """
    lab = (world or World(domain=agent.domain.source)).build(condition)
    trial = Trial(lab, agent.policy, lab.domain.task(task), seed)
    while trial.step():
        pass
    records, width = trial.records, lab.domain.action.size
    nothing = np.full(width, np.nan, np.float32)
    times_s = np.array([record.due_s for record in records])
    return Rollout(
        result=trial.result,
        times_s=times_s - times_s[:1],
        observations_TO=_stacked([record.observation_O for record in records], lab.domain.observation.size),
        actions_TA=_stacked([nothing if r.applied_A is None else r.applied_A for r in records], width),
        truths_TO=_stacked(trial.truths[: len(records)], lab.domain.observation.size),
        plans={record.index: record.step.new_plan for record in records if record.step.new_plan is not None},
    )


def _stacked(rows: list[FloatArray], width: int) -> FloatArray:
    return np.array(rows, np.float32).reshape(-1, width)
