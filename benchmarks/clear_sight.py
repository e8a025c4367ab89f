"""A bundle's policy of which one half sees the scene as it is, whatever the sensors say: which half do they mislead?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from skimo_core.contract.policy import FloatArray, Goals, Plan, SkillPolicy
from skimo_eval.inprocess import Job, bundle_policy
from skimo_eval.trials import EpisodeResult, Lab, Trial, run_episode, truth

Half = Literal["plan", "act"]


class ClearSight:
    """Implements skimo_core.contract.policy.SkillPolicy; `seen_O` is what is true now [O]."""

    def __init__(self, policy: SkillPolicy, half: Half) -> None:
        self.spec = policy.spec
        self.seen_O: FloatArray | None = None
        self._policy, self._half = policy, half

    def plan(self, observation_O: FloatArray, goals: Goals, **asked: Any) -> Plan:
        return self._policy.plan(self._seen(observation_O, "plan"), goals, **asked)

    def act(self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str = "", **asked: Any) -> FloatArray:
        return self._policy.act(self._seen(observation_O, "act"), skill_Z, bundle_id, **asked)

    def _seen(self, observation_O: FloatArray, half: Half) -> FloatArray:
        return observation_O if self.seen_O is None or half != self._half else self.seen_O


def clear_sight(folder: Path, half: Half) -> ClearSight:
    """The policy of `folder`, planning or acting on what is true."""
    return ClearSight(bundle_policy(folder, {}), half)


def fly_seeing(lab: Lab, policy: SkillPolicy, job: Job) -> EpisodeResult:
    """One episode in which the policy is told before each step what is true."""
    assert isinstance(policy, ClearSight)

    def look(trial: Trial) -> None:
        policy.seen_O = truth(trial.lab.domain, trial.lab.twin)

    return run_episode(lab, policy, lab.domain.task(job.task), job.seed, before_step=look)
