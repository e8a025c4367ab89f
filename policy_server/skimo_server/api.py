"""A bundle for a notebook: loaded once, then asked for plans and actions, in this process.

    agent = load_bundle("bundles/table")                     a folder, or the name of one that ships
    plan = agent.plan(observation, "microwave,kettle", seed=0)
    action = agent.act(observation, plan)

The same arguments give the same plan as through `skimo serve`. Observations are [O] in the domain's units, actions [A]
in [-1, 1]; a plan's first skill holds for `agent.domain.horizon` control steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import FloatArray, Goals, Plan
from skimo_core.domain.domain import Domain, load_domain

from .domains import domain_for
from .inprocess import InProcessPolicy, open_policy

DEADLINE_S = 60.0
Vector = npt.ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A bundle's policy in the domain that it was made for.

    Attributes:
        policy: what `skimo_eval` and the pilot fly (`skimo_core.contract.policy.SkillPolicy`).
        domain: whose channels, actions and goals these are.
    """

    policy: InProcessPolicy
    domain: Domain

    @property
    def bundle_id(self) -> str:
        return self.policy.spec.bundle_id

    def goals(self, task: str = "", *, done: int = 0) -> Goals:
        """A task's goals that are open after the first `done`; the domain's first task where none is named.

        Raises:
            SpecError: it can't be read, or nothing is left to do.
        """
        found = self.domain.task(task)
        if not 0 <= done < len(found.subtasks):
            raise SpecError(f"task {found.name} has {len(found.subtasks)} sub-tasks, so {done} can't be done before")
        return found.goals(done, self.domain.observation.size)

    def plan(
        self,
        observation_O: Vector,
        goals: Goals | str = "",
        *,
        seed: int = 0,
        after: Plan | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Plan:
        """Skills towards goals.

        Args:
            goals: as arrays, or a task in words ("microwave,kettle", "microwave=-0.4+-0.1"); empty: the domain's first.
            seed: of the planner's dice.
            after: the plan before this one, from which it starts warm.
            deadline_s: by then the best so far is the answer.

        Raises:
            SpecError: an observation that is none, or a task that can't be read.
        """
        return self.policy.plan(
            self.observation(observation_O),
            self.goals(goals) if isinstance(goals, str) else goals,
            seed=seed,
            warm_start_PZ=None if after is None else after.warm_start_PZ,
            warm_start_of="" if after is None else after.bundle_id,
            deadline_s=deadline_s,
        )

    def act(self, observation_O: Vector, skill: Plan | Vector) -> FloatArray:
        """The action [A] in [-1, 1] of a plan's first skill, or of a skill [Z].

        Raises:
            SpecError: an observation or a skill that is none.
            PolicyError: the plan is another bundle's, or the networks gave no usable action.
        """
        if isinstance(skill, Plan):
            skill_Z, whose = skill.skills_PZ[0], skill.bundle_id
        else:
            skill_Z, whose = np.asarray(skill, np.float32), ""
        return self.policy.act(self.observation(observation_O), skill_Z, whose, deadline_s=DEADLINE_S)

    def observation(self, values: Vector) -> FloatArray:
        """An observation [O] as float32; raises SpecError where it is none."""
        return self.domain.observation.check(np.asarray(values, np.float32))


def load_bundle(
    bundle: Path | str = "kitchen", *, domain: str = "", settings: Mapping[str, object] | None = None, workers: int = 1
) -> Agent:
    """Load a bundle: its files are verified, its networks tried.

    Args:
        bundle: its folder, or the name of one that ships.
        domain: name or file; empty: the one that the bundle carries or names.
        settings: of the planner, by name, on top of the bundle's own, such as {"samples": 64}.
        workers: threads that share the rows of a large batch.

    Raises:
        BundleError: it is refused.
        SpecError: a setting is refused, its domain is not known here, or the domain is another than the bundle's.
    """
    policy = open_policy(bundle, settings, workers=workers)
    return Agent(policy=policy, domain=load_domain(domain_for(str(bundle), domain)))
