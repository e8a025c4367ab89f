"""What a control loop asks of a policy: a plan of skills now and then, an action at every step.

Implemented by the client of a policy server (`client.PolicyClient`) and, in one process, by the server's own engine.
Both calls are stateless: everything a plan depends on (observation, goals, seed, warm start) is in its arguments, so
that the same arguments give the same plan, and a restarted server needs nothing from the past.

A policy may change its bundle between two plans. A skill means something to the bundle that planned it alone: a plan
says whose it is, an action is asked of the bundle whose skill it is, and a warm start of another bundle is left unused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .errors import SpecError
from .specs import UNKNOWN, ActionSpec, Named, ObservationSpec, SkillSpec

FloatArray = npt.NDArray[np.float32]
MIN_THRESHOLD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """The open sub-tasks in order; row 0 is the one to do now. K may be 0 only when nothing is left to do.

    Attributes:
        values_KO: goal per observation channel, in the channel's unit; 0 where not part of the goal.
        weights_KO: 1 over the channel's scale where it is part of the goal, else 0: a distance is the Euclidean norm of
            the weighted differences.
        thresholds_K: distance under which a sub-task is complete.
    """

    values_KO: FloatArray
    weights_KO: FloatArray
    thresholds_K: FloatArray

    @property
    def precision_KO(self) -> FloatArray:
        """1 over the tolerance per channel, in its unit; 0 where it is no part of the goal.

        A goal holds where the Euclidean norm of the differences times these is below 1. A threshold counts as at least
        MIN_THRESHOLD here, so that they are finite.
        """
        return (self.weights_KO / np.maximum(self.thresholds_K, MIN_THRESHOLD)[:, None]).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What a planner expects of the plans that it thought best, the best first.

    Attributes:
        weights_E: each one's share among the elites.
        predicted_EPO: observation predicted after each skill.
    """

    weights_E: FloatArray
    predicted_EPO: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sequence of skills and what the model expects of it.

    Attributes:
        skills_PZ: the skills, each number in (-1, 1); the first is to be executed.
        warm_start_PZ: what the next plan may start from.
        value: the planner's score of this plan.
        predicted_PO: observation predicted after each skill.
        success_probability: probability that the first open sub-task is complete at the plan's end.
        predicted_success: the same as the model alone has it, where that is calibrated; NaN where it isn't.
        bundle_id: which bundle made it, and acts in its skills.
        calibration: that bundle's, of the success probability; None: it stands as the model has it.
        speed: share of full speed at which the joints are to move under it, in (0, 1].
        candidates: what else was thought of; None where nobody asked.
        timings_ms: milliseconds per stage.
    """

    skills_PZ: FloatArray
    warm_start_PZ: FloatArray
    value: float
    predicted_PO: FloatArray
    success_probability: float
    bundle_id: str
    calibration: Calibration | None = None
    predicted_success: float = math.nan
    speed: float = 1.0
    candidates: Foreseen | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def promise_2(self) -> FloatArray | None:
        """Value and success as the model alone has them: what a calibration is fitted to, and recordings keep; None of
        a plan that promises nothing."""
        alone = self.success_probability if math.isnan(self.predicted_success) else self.predicted_success
        return None if math.isnan(alone) else np.array([self.value, alone], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How often what a policy's plans predict comes true: a logistic regression, fitted to episodes (Platt 1999).

    A model that believes in a skill that doesn't work goes on believing: that plans were spent on the sub-task already
    says more about the next one than what it predicts.

    Attributes:
        bias: log-odds where all below is 0.
        predicted, value: per log-odds of the model's success probability, and of the plan's value.
        spent: per log(1 + k) where k plans were spent on the sub-task before.
        first, second: of a sub-task's first plan, and of its second: it may take longer than a plan lasts.
    """

    bias: float
    predicted: float
    value: float
    spent: float
    first: float
    second: float = 0.0

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Calibration:
        """From its numbers, in the order of the attributes; the last may be left out."""
        return cls(**{field.name: number for field, number in zip(fields(cls), numbers)})

    def __call__(self, plan: Plan, spent: int) -> Plan:
        """The plan with a calibrated success probability, `spent` plans on its sub-task before it."""
        probability = self.probability(plan.success_probability, plan.value, spent)
        return replace(plan, success_probability=probability, predicted_success=plan.success_probability)

    def probability(self, predicted: float, value: float, spent: int) -> float:
        """Of a plan to which the model gives a success and a value, `spent` plans on its sub-task before it."""
        weights = np.array(astuple(self))
        log_odds = float(np.clip(weights @ evidence(predicted, value, spent), -30.0, 30.0))
        return 1.0 / (1.0 + math.exp(-log_odds))


def evidence(predicted: float, value: float, spent: int) -> npt.NDArray[np.float64]:
    """What a `Calibration` weighs [6], in the order of its attributes."""
    said = _log_odds(predicted, 0.01), _log_odds(value, 0.001)
    return np.array([1.0, *said, math.log1p(spent), float(spent == 0), float(spent == 1)])


def _log_odds(probability: float, least: float) -> float:
    bounded = min(max(probability, least), 1.0 - least)
    return math.log(bounded / (1.0 - bounded))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """What a policy expects and gives.

    Attributes:
        domain: that it was made for; an empty name where that isn't known.
        robot: whose limits its data obeyed (`RobotLimits.digest`); an empty digest where that isn't known.
        served_as: what its server was told to serve: a bundle's folder, or the name of one that ships; empty where
            nobody told it.
        calibration: of the plans' success probability; None: they stand as the model has them.
        low_O, high_O: lowest and highest value of each channel in the data that it was trained on, in the channel's
            unit; empty where that isn't known.
        task: sub-tasks, joined by commas, whose reward it was trained on and for which alone its plans are; empty: any.
        explore: how widely its planner explores, in the unit of its proposals' standard deviation; 0: it doesn't.
    """

    observation: ObservationSpec
    action: ActionSpec
    skill: SkillSpec
    bundle_id: str
    domain: Named = UNKNOWN
    robot: Named = UNKNOWN
    served_as: str = ""
    calibration: Calibration | None = None
    low_O: tuple[float, ...] = ()
    high_O: tuple[float, ...] = ()
    task: str = ""
    explore: float = 0.0

    def unfit_for(
        self, observation: ObservationSpec | None, action: ActionSpec | None, domain: Named | None = None
    ) -> str:
        """Why a caller with these (None: any will do) can't use it: the first difference; empty if it can."""
        for name, mine, its in (("observation", observation, self.observation), ("action", action, self.action)):
            if mine is not None and mine != its:
                return f"{name} is not this caller's: {_difference(mine, its)}"
        if domain is not None and self.domain.name and domain.digest != self.domain.digest:
            return f"domain is {self.domain}, wanted {domain}"
        return ""

    def unfit_instead_of(self, other: PolicySpec) -> str:
        """Why it can't take another's place in mid-episode: the first difference; empty if it can.

        Skills of another size, other plans' lengths, ranges and calibration are fine.
        """
        if unfit := self.unfit_for(other.observation, other.action):
            return unfit
        for name, its, wanted in (("domain", self.domain, other.domain), ("robot", self.robot, other.robot)):
            if its.digest != wanted.digest:
                return f"{name} is {its}, wanted {wanted}"
        if self.skill.horizon != other.skill.horizon:
            return f"skills last {self.skill.horizon} steps, wanted {other.skill.horizon}"
        if self.task not in ("", other.task):
            return f"task is {self.task} alone, wanted {other.task or 'any'}"
        return ""

    def check_task(self, subtasks: Sequence[str]) -> None:
        """Raises SpecError where it was trained on another task than these sub-tasks in their order."""
        asked = ",".join(subtasks)
        if self.task not in ("", asked):
            raise SpecError(
                f"task is {asked!r}, but bundle {self.bundle_id[:12]} was trained on the reward of {self.task!r} "
                "alone; ask for that one, or serve another bundle"
            )


class SkillPolicy(Protocol):
    """A skill planner and a skill policy."""

    @property
    def spec(self) -> PolicySpec: ...

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
        """Plan from an observation [O].

        Args:
            warm_start_of: id of the bundle whose plan gave the warm start; empty: the one that plans.
            spent: plans that took effect for the open sub-task before and did not bring it about.

        Raises:
            DeadlineError, UnreachableError: no answer within `deadline_s`.
            SpecError, WireError: the request was refused.
        """
        ...

    def act(
        self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str = "", *, deadline_s: float
    ) -> FloatArray:
        """The skill policy's action [A] in [-1, 1] for an observation [O] under a skill [Z].

        Args:
            bundle_id: whose plan the skill is of; empty: of the bundle in `spec`.

        Raises:
            PolicyError: that bundle is not there, or not any more. The rest as `plan`.
        """
        ...


def _difference(mine: object, its: object) -> str:
    """The first field in which two specs differ, in words."""
    for name in getattr(type(mine), "__dataclass_fields__", {}):
        a, b = getattr(mine, name), getattr(its, name)
        if a == b:
            continue
        if isinstance(a, tuple) and isinstance(b, tuple):
            at = next((i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), min(len(a), len(b)))
            mine_, its_ = (repr(row[at]) if at < len(row) else "nothing" for row in (a, b))
            counts = "" if len(a) == len(b) else f" ({len(b)} in all, wanted {len(a)})"
            return f"{name}[{at}] is {its_}, wanted {mine_}{counts}"
        return f"{name} is {b!r}, wanted {a!r}"[:300]
    return f"{its!r}, wanted {mine!r}"[:200]
