"""The policy of ladder rung b: the bundle's skills and planner, with the twin in place of the learned dynamics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twin_model import TwinModel

from skimo_core.contract.policy import FloatArray, Goals, Plan, PolicySpec, SkillPolicy
from skimo_eval.inprocess import Job
from skimo_eval.trials import EpisodeResult, Lab, run_episode
from skimo_server.bundle import load_bundle
from skimo_server.engine import Engine
from skimo_server.planner import Planner
from skimo_server.planner_config import PlannerConfig


class TwinPolicy:
    """Implements skimo_core.contract.policy.SkillPolicy; `watch` is TwinModel's."""

    def __init__(self, engine: Engine, spec: PolicySpec, config: PlannerConfig) -> None:
        self.spec = spec
        self._engine = engine
        self._model = TwinModel(engine, spec.skill.horizon)
        self._planner = Planner(self._model, config, bundle_id=spec.bundle_id)
        self.watch = self._model.watch

    def plan(
        self,
        observation_O: FloatArray,
        goals: Goals,
        *,
        seed: int,
        warm_start_PZ: FloatArray | None,
        deadline_s: float,
        warm_start_of: str = "",
        spent: int = 0,
    ) -> Plan:
        """Plan without a deadline: physics is slow."""
        del deadline_s, warm_start_of
        return self._planner.plan(observation_O, goals, seed=seed, warm_start_PZ=warm_start_PZ, spent=spent)

    def act(
        self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str = "", *, deadline_s: float
    ) -> FloatArray:
        del bundle_id, deadline_s
        return self._engine.act(observation_O, skill_Z)


def fly_watched(lab: Lab, policy: SkillPolicy, job: Job) -> EpisodeResult:
    """One episode in which the policy looks at the twin before each step: the twin is its planner's model."""
    assert isinstance(policy, TwinPolicy)
    watch = policy.watch
    task = lab.domain.task(job.task)
    return run_episode(lab, policy, task, job.seed, before_step=lambda trial: watch(lab.twin, trial.pilot.actuator))


def twin_policy(folder: Path, samples: int) -> TwinPolicy:
    """The policy of `folder` with the bundle's own planner settings but `samples` candidates per round."""
    bundle = load_bundle(folder)
    config = replace(bundle.manifest.planner, samples=samples, elites=max(1, samples // 8))
    return TwinPolicy(Engine.load(bundle), bundle.manifest.policy_spec, config)
