"""Is a candidate sane? What it answers to states that its incumbent has recorded, held against the incumbent's answers.

A planner throws dice, so that an incumbent differs from itself by its seed: that is the yardstick for how far a
candidate's actions may lie from the incumbent's. Actions are in their own scale, -1 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from skimo_core.contract.errors import PolicyError, SpecError
from skimo_core.contract.policy import FloatArray, Goals, SkillPolicy
from skimo_server.bundle import Bundle
from skimo_server.engine import Engine
from skimo_server.inprocess import InProcessPolicy
from skimo_server.parity import unpack

from .verdict import Verdict

PLAN_DEADLINE_S = 10.0
ACT_DEADLINE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far from its incumbent a candidate may plan.

    Attributes:
        drift: how many times as far as the incumbent's own dice the candidate's first actions may lie from the
            incumbent's.
        least_drift: so much is always allowed.
        slower: how many times as long as the incumbent's the candidate's plans may take; so many milliseconds more
            (`least_slower_ms`) are always allowed, for a machine is never quite quiet.
    """

    drift: float = 2.0
    least_drift: float = 0.1
    slower: float = 1.5
    least_slower_ms: float = 5.0

    def why_far(self, drift: float, own_dice: float) -> str:
        """That its first actions lie too far from the incumbent's; empty: they don't."""
        bound = max(self.drift * own_dice, self.least_drift)
        if drift <= bound:
            return ""
        return f"first actions lie {drift:.3f} from the incumbent's, bound {bound:.3f}: it acts otherwise altogether"

    def too_slow(self, new_ms: float, old_ms: float) -> bool:
        """Whether a plan takes too long beside the incumbent's."""
        return new_ms > max(self.slower * old_ms, old_ms + self.least_slower_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SanityConfig:
    """How sane is sane: so many recorded states are planned from, within these bounds."""

    states: int = 48
    bounds: Bounds = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """First actions [N, A], promised successes [N] and the milliseconds that a fast plan in four takes."""

    actions_NA: FloatArray
    promised_N: FloatArray
    plan_ms: float


def check_sanity(candidate: Bundle, incumbent: Bundle | None, config: SanityConfig | None = None) -> Verdict:
    """Asks both the same; a candidate without an incumbent only has to answer."""
    config = config or SanityConfig()
    judge = incumbent or candidate
    rows = unpack(judge.parity, judge.manifest.sizes, judge.manifest.graphs)
    states = rows["observations"][: config.states, 0]
    goals = [_goal(value, weight) for value, weight in zip(rows["goals"], rows["weights"])][: config.states]
    try:
        with closing(Engine.load(candidate)) as engine:
            new = ask(InProcessPolicy(engine), states, goals, seed=0)
    except (PolicyError, SpecError) as error:
        return Verdict(passed=False, why=f"gives no usable answer to a recorded state: {error}")
    if incumbent is None:
        return Verdict(passed=True, why=f"{len(states)} recorded states answered", evidence={"plan_ms": new.plan_ms})
    with closing(Engine.load(incumbent)) as engine:
        old, again = (ask(InProcessPolicy(engine), states, goals, seed=seed) for seed in (0, 1))
    return _judge(new, old, again, config)


def ask(policy: SkillPolicy, states_NO: FloatArray, goals: Sequence[Goals], *, seed: int) -> Answers:
    """What a policy plans and does from each state.

    Raises:
        PolicyError, SpecError: an answer that isn't finite, or out of bounds.
    """
    actions, promised, took = [], [], []
    for index, (observation, goal) in enumerate(zip(states_NO, goals)):
        plan = policy.plan(observation, goal, seed=seed + 2 * index, warm_start_PZ=None, deadline_s=PLAN_DEADLINE_S)
        actions.append(policy.act(observation, plan.skills_PZ[0], deadline_s=ACT_DEADLINE_S))
        promised.append(plan.success_probability)
        took.append(plan.timings_ms["total"])
    return Answers(
        actions_NA=np.stack(actions), promised_N=np.array(promised, np.float32), plan_ms=float(np.quantile(took, 0.25))
    )


def _judge(new: Answers, old: Answers, again: Answers, config: SanityConfig) -> Verdict:
    drift, dice = _apart(new.actions_NA, old.actions_NA), _apart(again.actions_NA, old.actions_NA)
    evidence = {
        "states": len(new.actions_NA),
        "action_drift": round(drift, 4),
        "own_dice": round(dice, 4),
        "promised": [round(float(answers.promised_N.mean()), 4) for answers in (new, old)],
        "plan_ms": [round(answers.plan_ms, 2) for answers in (new, old)],
    }
    bounds = config.bounds
    why = bounds.why_far(drift, dice)
    if not why and bounds.too_slow(new.plan_ms, old.plan_ms):
        why = f"a plan takes {new.plan_ms:.1f} ms, more than {bounds.slower:g} times the incumbent's {old.plan_ms:.1f}"
    return Verdict(passed=not why, why=why or f"first actions lie {drift:.3f} from the incumbent's", evidence=evidence)


def _apart(one_NA: FloatArray, other_NA: FloatArray) -> float:
    return float(np.abs(one_NA - other_NA).mean())


def _goal(value_O: FloatArray, weight_O: FloatArray) -> Goals:
    """One recorded goal; its weights are over the tolerance already."""
    return Goals(values_KO=value_O[None], weights_KO=weight_O[None], thresholds_K=np.ones(1, np.float32))
