"""Rolls candidate plans out in the skill model from one latent, and scores them.

A candidate is given either as skills, or as noise that becomes skills through the proposer along its own rollout:
z = tanh(mean(h) + std(h) eps). The proposer is the prior, a task's policy, or, in a model without either, a standard
normal. Both kinds go through each network in one call per skill.

Score = the terms that the configuration names (scoring.py) less the guards against exploiting the model:
  surprise      mean eps^2 / 2: how far from what the data did (the prior's negative log-density up to a constant)
  disagreement  of the dynamics ensemble, mean over the plan
  consistency   |encode(decode(h)) - h| / sqrt(D), mean over the plan: latents that stand for no observation

Dimensions: N candidates, P plan length, O observation, Z skill, D latent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Goals

from .model import FloatArray, SkillModel
from .planner_config import PlannerConfig
from .scoring import (
    Float64Array,
    IntArray,
    completions,
    discounted_learned_reward,
    discounted_reward,
    discounted_value,
    goal_values,
)
from .timing import Stages

MAX_SURPRISE = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Plans, what the model makes of them, and their scores.

    Attributes:
        skills_NPZ: the plans.
        noise_NPZ: the proposer's eps behind each skill; NaN where a skill was given directly and it was not asked for.
        latents_NPD: predicted latent after each skill.
        scores_N: higher is better; -inf where not finite.
    """

    skills_NPZ: FloatArray
    noise_NPZ: FloatArray
    latents_NPD: FloatArray
    scores_N: Float64Array

    def rows(self, index: npt.NDArray[np.int64] | slice) -> Candidates:
        return Candidates(
            skills_NPZ=self.skills_NPZ[index],
            noise_NPZ=self.noise_NPZ[index],
            latents_NPD=self.latents_NPD[index],
            scores_N=self.scores_N[index],
        )

    def finite(self) -> bool:
        """Whether the first row has a score."""
        return bool(np.isfinite(self.scores_N[0]))


def concatenate(parts: list[Candidates]) -> Candidates:
    """All rows of all parts, in order."""
    return Candidates(
        skills_NPZ=np.concatenate([p.skills_NPZ for p in parts]),
        noise_NPZ=np.concatenate([p.noise_NPZ for p in parts]),
        latents_NPD=np.concatenate([p.latents_NPD for p in parts]),
        scores_N=np.concatenate([p.scores_N for p in parts]),
    )


class Imagination:
    """Everything that stays the same while one plan is made; `check` raises when time is up."""

    def __init__(
        self, model: SkillModel, config: PlannerConfig, latent_1D: FloatArray, goals: Goals, stages: Stages
    ) -> None:
        self.model, self.config, self.latent_1D, self.goals, self.stages = model, config, latent_1D, goals, stages

    def evaluate(
        self,
        *,
        skills_NPZ: FloatArray | None = None,
        noise_NPZ: FloatArray | None = None,
        invert: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> Candidates:
        """Rolls out and scores candidates given as skills, then those given as noise.

        Args:
            invert: also compute the noise behind the given skills.
            check: called before each step of work; what it raises ends the evaluation.

        Raises:
            SpecError: disagreement is to be penalised, but the model gives none.
        """
        P, Z, D = self.config.horizon, self.model.skill_dim, self.latent_1D.shape[1]
        empty_NPZ = np.empty((0, P, Z), np.float32)
        given_NPZ = empty_NPZ if skills_NPZ is None else skills_NPZ
        drawn_NPZ = empty_NPZ if noise_NPZ is None else noise_NPZ
        given, rows = len(given_NPZ), len(given_NPZ) + len(drawn_NPZ)
        z_NPZ = np.concatenate([given_NPZ, np.empty_like(drawn_NPZ)])
        eps_NPZ = np.concatenate([np.full_like(given_NPZ, np.nan), drawn_NPZ])
        latents_NPD = np.empty((rows, P, D), np.float32)
        penalty_N = np.zeros(rows)
        latent_ND = np.repeat(self.latent_1D, rows, axis=0)
        invert = invert or self.config.surprise_weight > 0
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging candidate scores -inf below
            for p in range(P):
                check()
                with self.stages("rollout"):
                    self._through_proposer(z_NPZ, eps_NPZ, latent_ND, p, given, invert)
                    latent_ND, disagreement_N = self.step(latent_ND, z_NPZ[:, p])
                    latents_NPD[:, p] = latent_ND
                penalty_N += self._disagreement(disagreement_N) / P
            check()
            with self.stages("score"):
                penalty_N += self._surprise(eps_NPZ)
                scores_N = self._score(z_NPZ, latents_NPD) - penalty_N
        scores_N = np.where(np.isfinite(scores_N), scores_N, -np.inf)
        return Candidates(skills_NPZ=z_NPZ, noise_NPZ=eps_NPZ, latents_NPD=latents_NPD, scores_N=scores_N)

    def step(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """Latents a skill later; their disagreement where it counts and the model tells it."""
        exact = self.config.disagreement_weight and "ensemble" in self.model.graphs
        return (self.model.ensemble if exact else self.model.dynamics)(latent_BD, skill_BZ)

    def propose(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and std [B, Z] before tanh of the proposer's skills from these latents."""
        if self.config.proposer == "task_policy":
            return self.model.task_policy(latent_BD)
        if "prior" in self.model.graphs:
            return self.model.prior(latent_BD)
        shape = (len(latent_BD), self.model.skill_dim)
        return np.zeros(shape, np.float32), np.ones(shape, np.float32)

    def clip(self, skills: npt.NDArray[np.floating]) -> FloatArray:
        """Keeps skills within the open interval that tanh can reach."""
        return np.clip(skills, -self.config.skill_clip, self.config.skill_clip).astype(np.float32, copy=False)

    def _through_proposer(
        self, z_NPZ: FloatArray, eps_NPZ: FloatArray, latent_ND: FloatArray, p: int, given: int, invert: bool
    ) -> None:
        """Fills in step p: skills of the rows after `given`, and on request the noise of those before."""
        first = 0 if invert else given
        if first == len(z_NPZ):
            return
        # The present latent is the same in every row: one row of the proposer is enough for the first skill.
        mean_NZ, std_NZ = self.propose(latent_ND[:1] if p == 0 else latent_ND[first:])
        shape = (len(z_NPZ) - first, z_NPZ.shape[2])
        mean_NZ, std_NZ = np.broadcast_to(mean_NZ, shape), np.broadcast_to(std_NZ, shape)
        inverted = given - first
        if inverted:
            raw_NZ = np.arctanh(self.clip(z_NPZ[:given, p]))
            eps_NPZ[:given, p] = (raw_NZ - mean_NZ[:inverted]) / std_NZ[:inverted]
        z_NPZ[given:, p] = self.clip(np.tanh(mean_NZ[inverted:] + std_NZ[inverted:] * eps_NPZ[given:, p]))

    def _score(self, skills_NPZ: FloatArray, latents_NPD: FloatArray) -> Float64Array:
        """The sum of the discounted terms that the configuration names, less the penalty of inconsistency."""
        cfg, terms = self.config, self.config.score_terms
        N, P, D = latents_NPD.shape
        scores_N, done_NP = np.zeros(N), np.zeros((N, P), np.int64)
        flat_BD = latents_NPD.reshape(N * P, D)
        observations_BO = self.model.decode(flat_BD) if "reward" in terms or cfg.consistency_weight else None
        if observations_BO is not None and "reward" in terms:
            done_NP = completions(observations_BO.reshape(N, P, -1), self.goals, cfg.threshold_scale)
            scores_N += discounted_reward(done_NP, cfg.discount)
        if "value" in terms and "goal_value" in self.model.graphs:
            scores_N += discounted_value(self._goal_values, latents_NPD, done_NP, cfg.discount, cfg.value_at)
        if "learned_reward" in terms:
            scores_N += discounted_learned_reward(self.model, self.latent_1D, latents_NPD, skills_NPZ, cfg.discount)
        if "learned_value" in terms:
            scores_N += discounted_value(self._learned_values, latents_NPD, done_NP, cfg.discount, cfg.value_at)
        if observations_BO is not None and cfg.consistency_weight:
            drift_B = np.sqrt(np.mean((self.model.encode(observations_BO) - flat_BD) ** 2, axis=1))
            scores_N -= cfg.consistency_weight * drift_B.reshape(N, P).mean(axis=1)
        # A latent that overflowed is no state, even where the score does not look at it.
        return np.where(np.isfinite(latents_NPD).all(axis=(1, 2)), scores_N, -np.inf)

    def _goal_values(self, latents_BD: FloatArray, done_B: IntArray) -> Float64Array:
        return goal_values(self.model, latents_BD, self.goals, done_B)

    def _learned_values(self, latents_BD: FloatArray, done_B: IntArray) -> Float64Array:
        del done_B  # what the latent stands for is all that it was trained on
        return self.model.value(latents_BD).astype(np.float64)

    def _surprise(self, eps_NPZ: FloatArray) -> Float64Array | float:
        if not self.config.surprise_weight:
            return 0.0
        surprise_N = 0.5 * np.mean(eps_NPZ.astype(np.float64) ** 2, axis=(1, 2))
        return self.config.surprise_weight * np.minimum(surprise_N, MAX_SURPRISE)

    def _disagreement(self, disagreement_N: FloatArray | None) -> Float64Array | float:
        weight = self.config.disagreement_weight
        if not weight:
            return 0.0
        if disagreement_N is None:
            raise SpecError(
                f"planner disagreement_weight is {weight}, but this bundle's dynamics give no disagreement; "
                "set it to 0 or export an ensemble"
            )
        return weight * disagreement_N.astype(np.float64)
