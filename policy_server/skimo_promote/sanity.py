"""Is a candidate sane? What it answers to states that its incumbent has recorded, held against the incumbent's answers.

A planner throws dice, so that an incumbent differs from itself by its seed: that is the yardstick for how far a
candidate's actions may lie from the incumbent's. Actions are in their own scale, -1 to 1.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field

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


@dataclass(slots=True, kw_only=True)
class Answers:
    """What a policy answered so far, with dice thrown from `seed`: N first actions [A], promised successes, and the
    milliseconds that each plan took."""

    policy: SkillPolicy
    seed: int
    actions: list[FloatArray] = field(default_factory=list)
    promised: list[float] = field(default_factory=list)
    plan_ms: list[float] = field(default_factory=list)

    def ask(self, observation_O: FloatArray, goal: Goals) -> None:
        """Have it plan and act once more.

        Raises:
            PolicyError, SpecError: an answer that isn't finite, or out of bounds.
        """
        seed = self.seed + 2 * len(self.actions)
        plan = self.policy.plan(observation_O, goal, seed=seed, warm_start_PZ=None, deadline_s=PLAN_DEADLINE_S)
        self.actions.append(self.policy.act(observation_O, plan.skills_PZ[0], deadline_s=ACT_DEADLINE_S))
        self.promised.append(plan.success_probability)
        self.plan_ms.append(plan.timings_ms["total"])

    @property
    def fast_ms(self) -> float:
        """What a fast plan in four takes."""
        return float(np.quantile(self.plan_ms, 0.25))


def check_sanity(candidate: Bundle, incumbent: Bundle | None, config: SanityConfig | None = None) -> Verdict:
    """Asks both the same, state by state; a candidate without an incumbent only has to answer."""
    config = config or SanityConfig()
    judge = incumbent or candidate
    rows = unpack(judge.parity, judge.manifest.sizes, judge.manifest.graphs)
    states = rows["observations"][: config.states, 0]
    goals = [_goal(value, weight) for value, weight in zip(rows["goals"], rows["weights"])][: config.states]
    with ExitStack() as engines:
        old = _policy(engines, incumbent) if incumbent else None
        twice = [Answers(policy=old, seed=seed) for seed in (0, 1)] if old else []
        try:
            new = Answers(policy=_policy(engines, candidate), seed=0)
        except (PolicyError, SpecError) as error:
            return _useless(error)
        for observation_O, goal in zip(states, goals):
            try:
                new.ask(observation_O, goal)
            except (PolicyError, SpecError) as error:
                return _useless(error)
            for answers in twice:  # at once, so that what slows the machine slows all
                answers.ask(observation_O, goal)
    if not twice:
        return Verdict(passed=True, why=f"{len(states)} recorded states answered", evidence={"plan_ms": new.fast_ms})
    return _judge(new, twice[0], twice[1], config)


def _useless(error: Exception) -> Verdict:
    return Verdict(passed=False, why=f"gives no usable answer to a recorded state: {error}")


def _policy(engines: ExitStack, bundle: Bundle) -> SkillPolicy:
    return InProcessPolicy(engines.enter_context(closing(Engine.load(bundle))))


def _judge(new: Answers, old: Answers, again: Answers, config: SanityConfig) -> Verdict:
    drift, dice = _apart(new, old), _apart(again, old)
    evidence = {
        "states": len(new.actions),
        "action_drift": round(drift, 4),
        "own_dice": round(dice, 4),
        "promised": [round(float(np.mean(answers.promised)), 4) for answers in (new, old)],
        "plan_ms": [round(answers.fast_ms, 2) for answers in (new, old)],
    }
    bounds, beside = config.bounds, zip(new.plan_ms, old.plan_ms, again.plan_ms)
    slow = sum(bounds.too_slow(ms, max(others)) for ms, *others in beside)
    why = bounds.why_far(drift, dice)
    if not why and 2 * slow > len(new.plan_ms):
        words = f"{new.fast_ms:.1f} ms, the incumbent's {old.fast_ms:.1f}"
        why = f"{slow} of {len(new.plan_ms)} plans take more than {bounds.slower:g} times the incumbent's ({words})"
    return Verdict(passed=not why, why=why or f"first actions lie {drift:.3f} from the incumbent's", evidence=evidence)


def _apart(one: Answers, other: Answers) -> float:
    return float(np.abs(np.stack(one.actions) - np.stack(other.actions)).mean())


def _goal(value_O: FloatArray, weight_O: FloatArray) -> Goals:
    """One recorded goal; its weights are over the tolerance already."""
    return Goals(values_KO=value_O[None], weights_KO=weight_O[None], thresholds_K=np.ones(1, np.float32))
