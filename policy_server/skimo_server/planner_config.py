"""The planner's settings, apart from the planner so that a bundle can carry them without loading it.

Rewards are 1 per completed sub-task and values lie in 0..1, so scores are of the order of 1; weights of guards are in
the same unit. "Noise" is the standard-normal eps of a proposal z = tanh(mean + std * eps).

Some settings ask for a graph that a bundle may lack; `check_graphs` refuses them there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Calibration

Proposals = Literal["gaussian", "prior", "mixed"]
Proposer = Literal["prior", "task_policy"]
Execute = Literal["elite_sample", "best", "mean"]
WarmStart = Literal["none", "candidate", "mean"]
ValueAt = Literal["end", "every", "best"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "proposals": ("gaussian", "prior", "mixed"),
    "proposer": ("prior", "task_policy"),
    "execute": ("elite_sample", "best", "mean"),
    "warm_start": ("none", "candidate", "mean"),
    "value_at": ("end", "every", "best"),
}
MAX_WEIGHT = 1e3  # of a calibration
MAX_EXPLORE = 2.0  # skills lie in -1..1: what is wider than twice that is hardly a plan any more
SCORE_TERMS = ("reward", "value", "learned_reward", "learned_value")
# name: (smallest, largest)
_BOUNDS: dict[str, tuple[float, float]] = {
    "horizon": (1, 32),
    "iterations": (1, 64),
    "samples": (1, 16384),
    "later_samples": (0, 16384),
    "elites": (1, 16384),
    "policy_samples": (0, 4096),
    "temperature": (0.0, 1e6),
    "momentum": (0.0, 1.0),
    "initial_std": (1e-6, 10.0),
    "min_std": (0.0, 10.0),
    "prior_std": (0.0, 10.0),
    "explore": (0.0, MAX_EXPLORE),
    "noise_clip": (1e-3, 10.0),
    "skill_clip": (1e-3, 0.999999),
    "patience": (0, 1000),
    "discount": (0.0, 1.0),
    "threshold_scale": (1e-3, 10.0),
    "surprise_weight": (0.0, 1e6),
    "disagreement_weight": (0.0, 1e6),
    "consistency_weight": (0.0, 1e6),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerConfig:
    """Settings of CEM over skills; the defaults are two rounds with the learned prior, and the mean of the elites.

    The mean is less exposed than the best candidate to what the model gets wrong about any one of them; the second
    round moves it away where the first only draws what it drew at the plan before.

    Attributes:
        horizon: P, skills in a plan.
        iterations: rounds of sampling and refitting.
        samples: candidates per round.
        later_samples: candidates per round after the first; 0 for as many as in that.
        elites: best candidates that the refit uses.
        policy_samples: extra candidates drawn once per plan from the proposer ("gaussian" only).
        temperature: elites weigh softmax(temperature * score).
        momentum: share of the old mean kept in a refit.
        initial_std, min_std: of Gaussian proposals, in skill units; also the upper and lower clip of refits.
        prior_std: initial std of the noise in prior proposals (1: the prior itself); upper clip of its refits.
        explore: 0 carries plans out as they are found. Else as in SkiMo's code, where it falls from 0.5 to 0.01: no
            refit makes the std smaller than this, and the skill to execute is moved by N(0, std), within skill_clip;
            where proposals are noise through the prior, it is that noise that is moved, within noise_clip.
        noise_clip: prior proposals keep |eps| below this, so that they stay where the prior has mass.
        skill_clip: |z| of every candidate stays within.
        discount: per skill.
        proposals: "gaussian" (skills themselves), "prior" (noise through the proposer along the rollout) or "mixed".
        proposer: whose distribution that noise goes through, the graph "prior" (a standard normal where there is none)
            or the graph "task_policy".
        score: one or more of these terms joined by "+": "reward" (the task's own, Jumpy eq. 3), "value" (the graph
            "goal_value"; 0 where there is none), "learned_reward" and "learned_value" (the graphs "reward" and "value",
            together SkiMo's algorithm 2).
        value_at: the value of the plan's end; or the mean over the state after every skill, which also asks for
            progress soon; or the best of those states, the later the less.
        patience: after so many plans on a sub-task, as many are valued by their best state whatever `value_at` says,
            and so on in turns; 0: never. By their ends alone, plans that get to the goal at last are all alike, and of
            those that are made one after the other each may put it off.
        threshold_scale: predicted completion needs a distance below this share of the task's threshold.
        surprise_weight: penalty on mean eps^2 / 2 under the prior (its negative log-density up to a constant).
        disagreement_weight: penalty on the dynamics ensemble's disagreement, mean over the plan.
        consistency_weight: penalty on |encode(decode(latent)) - latent| / sqrt(D), mean over the plan.
        execute: a sampled elite, the best candidate, or the refitted mean.
        calibration: of what these plans predict, the numbers of `skimo_core.contract.policy.Calibration` in its order,
            of which older bundles lack the last; empty: none.
        warm_start: what the previous plan's remainder is: nothing, one more candidate, or the initial mean.
    """

    horizon: int = 3
    iterations: int = 2
    samples: int = 384
    later_samples: int = 0
    elites: int = 32
    policy_samples: int = 25
    temperature: float = 0.5
    momentum: float = 0.1
    initial_std: float = 2.0
    min_std: float = 0.01
    prior_std: float = 1.0
    explore: float = 0.0
    noise_clip: float = 3.0
    skill_clip: float = 0.999
    discount: float = 0.99
    proposals: Proposals = "prior"
    proposer: Proposer = "prior"
    score: str = "value"
    value_at: ValueAt = "end"
    patience: int = 0
    threshold_scale: float = 1.0
    surprise_weight: float = 0.0
    disagreement_weight: float = 0.0
    consistency_weight: float = 0.0
    execute: Execute = "mean"
    warm_start: WarmStart = "candidate"
    calibration: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            whole = isinstance(PlannerConfig.__dataclass_fields__[name].default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "a whole number" if whole else "a number"
                raise SpecError(f"planner {name} is {value!r}, must be {kind}")
            if not low <= value <= high:
                raise SpecError(f"planner {name} is {value}, must lie in {low:g} to {high:g}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SpecError(f"planner {name} is {getattr(self, name)!r}, must be one of {', '.join(choices)}")
        terms = self.score.split("+") if isinstance(self.score, str) else []
        if not terms or len(set(terms)) < len(terms) or not set(terms) <= set(SCORE_TERMS):
            raise SpecError(
                f"planner score is {self.score!r}, must be some of {', '.join(SCORE_TERMS)}, each once, joined by +"
            )
        most = len(fields(Calibration))
        sizes = 0, most - 1, most
        sound = isinstance(self.calibration, tuple) and all(
            type(number) in (int, float) and abs(number) <= MAX_WEIGHT for number in self.calibration
        )
        if not sound or len(self.calibration) not in sizes:
            raise SpecError(
                f"planner calibration is {str(self.calibration)[:80]}, must be {most} numbers of at most "
                f"{MAX_WEIGHT:g} in size, or none"
            )
        if self.surprise_weight and self.proposer != "prior":
            raise SpecError(
                f"planner surprise_weight is {self.surprise_weight}, but proposer is {self.proposer}, and surprise is "
                "measured under the prior; set surprise_weight to 0 or proposer to prior"
            )
        if self.elites > self.samples:
            raise SpecError(f"planner elites {self.elites} exceed samples {self.samples}; choose fewer elites")
        if 0 < self.later_samples < self.elites:
            raise SpecError(
                f"planner elites {self.elites} exceed later_samples {self.later_samples}; choose fewer elites"
            )
        if self.min_std > self.initial_std:
            raise SpecError(f"planner min_std {self.min_std} exceeds initial_std {self.initial_std}")

    def after(self, spent: int) -> PlannerConfig:
        """The settings for a sub-task on which so many plans were spent."""
        if not self.patience or spent // self.patience % 2 == 0:
            return self
        return replace(self, value_at="best")

    @property
    def score_terms(self) -> frozenset[str]:
        """The terms of `score`."""
        return frozenset(self.score.split("+"))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PlannerConfig:
        """Reads a manifest's entry; absent settings keep their defaults, unknown ones are refused."""
        if unknown := sorted(set(data) - {f.name for f in fields(cls)}):
            raise SpecError(f"planner setting {unknown[0]!r} is unknown")
        listed = data.get("calibration", ())
        return cls(**{**data, "calibration": tuple(listed) if isinstance(listed, list) else listed})


def check_graphs(config: PlannerConfig, graphs: Collection[str]) -> None:
    """Refuses settings that ask for a graph that isn't there.

    Raises:
        SpecError: names the setting, its value and the graph.
    """
    asked = {
        "goal_value": ("score", config.score_terms == {"value"}),
        "reward": ("score", "learned_reward" in config.score_terms),
        "value": ("score", "learned_value" in config.score_terms),
        "task_policy": ("proposer", config.proposer == "task_policy"),
        "prior": ("surprise_weight", config.surprise_weight > 0),
    }
    for graph, (setting, needed) in asked.items():
        if needed and graph not in graphs:
            raise SpecError(
                f"planner {setting} is {getattr(config, setting)!r}, which asks for graph {graph!r}, and there are "
                f"only {', '.join(sorted(graphs))}; choose another {setting}, or a bundle with {graph}.onnx"
            )


def skimo_table_2() -> PlannerConfig:
    """The budget of SkiMo (Shi et al. 2022, table 2 for Kitchen, algorithm 2 as its code runs it)."""
    return PlannerConfig(
        horizon=3,
        iterations=6,
        samples=512,
        elites=64,
        policy_samples=25,
        proposals="gaussian",
        score="reward+value",
        execute="elite_sample",
        warm_start="mean",
    )


def with_settings(config: PlannerConfig, settings: Sequence[str]) -> PlannerConfig:
    """Returns the configuration with "name=value" settings applied; "preset=skimo_table_2" replaces it all first.

    Raises:
        SpecError: an unknown name, or a value out of bounds.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if name == "preset" and value == "skimo_table_2":
            config = skimo_table_2()
            continue
        kind = type(getattr(config, name, None))
        if not equals or kind not in (int, float, str):
            known = ", ".join(f.name for f in fields(PlannerConfig))
            raise SpecError(f"planner setting {setting!r} is not NAME=VALUE with a known name; known are {known}")
        try:
            changes[name] = kind(value)
        except ValueError:
            raise SpecError(f"planner setting {setting!r}: the value must be {kind.__name__}") from None
    return replace(config, **changes)
