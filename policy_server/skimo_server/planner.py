"""CEM over skill sequences in a skill model: SkiMo's planner (algorithm 2), scored zero-shot as in Jumpy (algorithm 1)
or by what was learned of a task. One loop for every kind of bundle: propose, roll out, score, refit, act; a graph that
the model lacks is a stage that the loop misses.

Promises
  - The same arguments give the same plan, bit for bit, on the same machine, as long as the deadline is not met.
  - Anytime: a plan is there after a fraction of a millisecond, and the best one only gets better; when the deadline
    passes, the round under way is dropped, and the best or the mean of the elites so far is returned, as asked for.
  - All candidates go through each network in one call per skill.
  - Skills stay within +-skill_clip, explored ones too; candidates that the model scores as non-finite are never chosen.
It knows nothing of tasks by name, robots or networks: goals come as arrays, the model as `model.SkillModel`.

Differences to the papers, on purpose: the prior's trajectories of "gaussian" mode are drawn and scored once (their
scores do not change between rounds), and the value at the end is exact, not that of a sampled skill.

Dimensions: N candidates, P plan length, E elites, O observation, Z skill, D latent.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import PolicyError, SpecError
from skimo_core.contract.policy import Calibration, Foreseen, Goals, Plan
from skimo_core.contract.specs import ArraySpec

from .imagination import Candidates, Imagination, concatenate
from .model import FloatArray, SkillModel
from .planner_config import PlannerConfig, check_graphs
from .scoring import completions
from .timing import Clock, Stages


@dataclass(slots=True, kw_only=True)
class Proposal:
    """Independent normal distributions, one per skill and dimension."""

    mean_PZ: FloatArray
    std_PZ: FloatArray

    def draw(self, rng: np.random.Generator, rows: int, bound: float) -> FloatArray:
        """Rows [rows, P, Z] clipped to +-bound."""
        eps_NPZ = rng.standard_normal((rows, *self.mean_PZ.shape), np.float32)
        return np.clip(self.mean_PZ + self.std_PZ * eps_NPZ, -bound, bound).astype(np.float32, copy=False)

    def refit(
        self, values_EPZ: FloatArray, weights_E: npt.NDArray[np.float64], momentum: float, low: float, high: float
    ) -> None:
        """Moves to the weighted mean (with momentum) and weighted, biased, clipped std of the elites."""
        values = values_EPZ.astype(np.float64)
        mean_PZ = np.einsum("e,epz->pz", weights_E, values)
        std_PZ = np.sqrt(np.einsum("e,epz->pz", weights_E, (values - mean_PZ) ** 2))
        self.mean_PZ = (momentum * self.mean_PZ + (1 - momentum) * mean_PZ).astype(np.float32)
        self.std_PZ = np.clip(std_PZ, min(low, high), high).astype(np.float32)


@dataclass(slots=True, kw_only=True)
class Search:
    """What a search found.

    Attributes:
        chosen: the one plan to execute.
        best: the one with the highest score of all rounds.
        elites, weights_E: of the last completed round, best first; weights sum to 1.
        mean_PZ: skills of the refitted mean, where the configuration needs it.
        rounds: best score so far after each completed round.
    """

    chosen: Candidates
    best: Candidates
    elites: Candidates
    weights_E: npt.NDArray[np.float64]
    mean_PZ: FloatArray
    rounds: list[float] = field(default_factory=list)


class _DeadlinePassed(Exception):
    """Ends the round under way; never leaves this module."""


class Planner:
    """Plans with one model under one configuration; holds no state between plans."""

    def __init__(
        self, model: SkillModel, config: PlannerConfig, *, bundle_id: str = "", clock: Clock = time.perf_counter
    ) -> None:
        """Raises: SpecError, where the configuration asks for a graph that the model lacks."""
        check_graphs(config, model.graphs)
        self.model = model
        self.config = config
        self._bundle_id = bundle_id
        self._clock = clock

    def plan(
        self,
        observation_O: FloatArray,
        goals: Goals,
        *,
        seed: int,
        warm_start_PZ: FloatArray | None = None,
        deadline_s: float = math.inf,
        candidates: int = 0,
        spent: int = 0,
    ) -> Plan:
        """Plans from an observation towards the goals; see `skimo_core.contract.policy.SkillPolicy.plan`.

        Args:
            candidates: how many of the last round's elites the plan is to tell of, the best first.

        Raises:
            SpecError: no goal, a negative seed, or a warm start of the wrong shape.
            PolicyError: the model's predictions are all non-finite.
        """
        stages = Stages(self._clock)
        found = self.search(
            observation_O,
            goals,
            seed=seed,
            warm_start_PZ=warm_start_PZ,
            deadline_s=deadline_s,
            stages=stages,
            spent=spent,
        )
        chosen = found.chosen
        with stages("predict"):
            predicted_PO = self.model.decode(chosen.latents_NPD[0])
            seen_EPO = self._foreseen(found.elites)
            success = self._success(found.weights_E, seen_EPO, goals)
        carry_PZ = found.mean_PZ if self.config.warm_start == "mean" else chosen.skills_NPZ[0]
        return Plan(
            skills_PZ=chosen.skills_NPZ[0].copy(),
            warm_start_PZ=carry_PZ.copy(),
            value=float(chosen.scores_N[0]),
            predicted_PO=predicted_PO,
            success_probability=success,
            bundle_id=self._bundle_id,
            calibration=Calibration.of(self.config.calibration) if self.config.calibration else None,
            candidates=_told(found.weights_E, seen_EPO, candidates) if candidates else None,
            timings_ms=stages.milliseconds(),
        )

    def search(
        self,
        observation_O: FloatArray,
        goals: Goals,
        *,
        seed: int,
        warm_start_PZ: FloatArray | None = None,
        deadline_s: float = math.inf,
        stages: Stages | None = None,
        spent: int = 0,
    ) -> Search:
        """As `plan`, but returns elites and the score after each round. Comments name SkiMo's algorithm 2."""
        cfg, end_s, stages = self.config, self._clock() + deadline_s, stages or Stages(self._clock)
        self._check(goals, seed, warm_start_PZ)

        def check() -> None:
            if self._clock() >= end_s:
                raise _DeadlinePassed

        rng = np.random.Generator(np.random.PCG64(seed))
        with stages("encode"):
            latent_1D = self.model.encode(observation_O[None])  # h_t = E(s_t)
        imagine = Imagination(self.model, cfg.after(spent), latent_1D, goals, stages)
        found, warm = self._first(imagine, warm_start_PZ)
        skills, noise = self._proposals(warm)  # line 2: mean 0 and the initial std, or the warm start
        fixed = [warm] if warm is not None and cfg.warm_start == "candidate" else []
        share = {"gaussian": 1.0, "prior": 0.0, "mixed": 0.5}[cfg.proposals]
        try:
            if cfg.proposals == "gaussian" and cfg.policy_samples:  # line 4: trajectories of the policy or the prior
                drawn_NPZ = rng.standard_normal((cfg.policy_samples, *skills.mean_PZ.shape), np.float32)
                fixed.append(imagine.evaluate(noise_NPZ=drawn_NPZ, check=check))
            for iteration in range(cfg.iterations):  # line 3
                rows = cfg.later_samples if iteration and cfg.later_samples else cfg.samples
                direct = int(share * rows)
                with stages("sample"):  # line 5: z ~ N(mu, sigma); or eps ~ N(mu, sigma), z = tanh(m(h) + s(h) eps)
                    skills_NPZ = skills.draw(rng, direct, cfg.skill_clip)
                    noise_NPZ = noise.draw(rng, rows - direct, cfg.noise_clip)
                # lines 6-7: roll out and score
                fresh = imagine.evaluate(skills_NPZ=skills_NPZ, noise_NPZ=noise_NPZ, check=check)
                with stages("refit"):
                    self._update(found, concatenate([fresh, *fixed]))  # line 8: top-k elites
                    self._refit(skills, noise, found)  # lines 9-10: new mu and sigma
        except _DeadlinePassed:
            pass
        if not found.best.finite():
            raise PolicyError("planner: every candidate scored non-finite; verify the bundle and the observation")
        with stages("choose"):
            self._choose(found, imagine, skills, noise, rng)
        return found

    def _check(self, goals: Goals, seed: int, warm_PZ: FloatArray | None) -> None:
        if not len(goals.thresholds_K):
            raise SpecError("goals: 0 open sub-tasks, at least 1 is needed to plan; the task is complete")
        if seed < 0:
            raise SpecError(f"seed is {seed}, must be 0 or more")
        if warm_PZ is not None:
            shape = (self.config.horizon, self.model.skill_dim)
            ArraySpec(name="warm start", shape=shape, low=-1.0, high=1.0).check(warm_PZ)

    def _first(self, imagine: Imagination, warm_PZ: FloatArray | None) -> tuple[Search, Candidates | None]:
        """A plan at once: the proposer's mode or, where better, the old plan moved on by one; and the latter alone."""
        P, Z = self.config.horizon, self.model.skill_dim
        mode_1PZ = np.zeros((1, P, Z), np.float32)
        with imagine.stages("first"):
            if warm_PZ is None or self.config.warm_start == "none":
                best, warm = imagine.evaluate(noise_NPZ=mode_1PZ), None
            else:
                moved_1PZ, latent_1D = np.empty((1, P, Z), np.float32), imagine.latent_1D
                for p in range(P):  # the proposer's mode fills the last place
                    skill_1Z = warm_PZ[None, p + 1] if p < P - 1 else np.tanh(imagine.propose(latent_1D)[0])
                    moved_1PZ[:, p] = imagine.clip(skill_1Z)
                    if p < P - 1:
                        latent_1D, _ = imagine.step(latent_1D, moved_1PZ[:, p])
                both = imagine.evaluate(skills_NPZ=moved_1PZ, noise_NPZ=mode_1PZ, invert=True)
                warm, mode = both.rows(slice(0, 1)), both.rows(slice(1, 2))
                best = warm if warm.scores_N[0] > mode.scores_N[0] else mode
        found = Search(chosen=best, best=best, elites=best, weights_E=_weights(1), mean_PZ=best.skills_NPZ[0])
        return found, warm

    def _proposals(self, warm: Candidates | None) -> tuple[Proposal, Proposal]:
        """Over skills and over the proposer's noise; a warm start of kind "mean" moves on by one, its last row is 0."""
        cfg, shape = self.config, (self.config.horizon, self.model.skill_dim)
        skills = Proposal(mean_PZ=np.zeros(shape, np.float32), std_PZ=np.full(shape, cfg.initial_std, np.float32))
        noise = Proposal(mean_PZ=np.zeros(shape, np.float32), std_PZ=np.full(shape, cfg.prior_std, np.float32))
        if cfg.warm_start == "mean" and warm is not None:
            skills.mean_PZ[:-1] = warm.skills_NPZ[0, :-1]
            noise.mean_PZ[:-1] = np.clip(np.nan_to_num(warm.noise_NPZ[0, :-1]), -cfg.noise_clip, cfg.noise_clip)
        return skills, noise

    def _update(self, found: Search, pool: Candidates) -> None:
        """Takes the elites of a round, softmax-weighted by score, and the best so far."""
        order_E = np.argsort(-pool.scores_N, kind="stable")[: self.config.elites]
        elites = pool.rows(order_E)
        if not elites.finite():
            return
        relative_E = elites.scores_N - elites.scores_N[0]
        weights_E = np.exp(np.where(np.isfinite(relative_E), self.config.temperature * relative_E, -np.inf))
        found.elites, found.weights_E = elites, weights_E / weights_E.sum()
        if elites.scores_N[0] > found.best.scores_N[0]:
            found.best = elites.rows(slice(0, 1))
        found.rounds.append(float(found.best.scores_N[0]))

    def _refit(self, skills: Proposal, noise: Proposal, found: Search) -> None:
        cfg, low = self.config, max(self.config.min_std, self.config.explore)
        if cfg.proposals != "prior":
            skills.refit(found.elites.skills_NPZ, found.weights_E, cfg.momentum, low, cfg.initial_std)
        if cfg.proposals != "gaussian":
            known_E = np.isfinite(found.elites.noise_NPZ).all(axis=(1, 2))
            total = found.weights_E[known_E].sum()
            if total > 0:
                eps_EPZ = np.clip(found.elites.noise_NPZ[known_E], -cfg.noise_clip, cfg.noise_clip)
                noise.refit(eps_EPZ, found.weights_E[known_E] / total, cfg.momentum, low, cfg.prior_std)

    def _choose(
        self, found: Search, imagine: Imagination, skills: Proposal, noise: Proposal, rng: np.random.Generator
    ) -> None:
        """Picks the plan to execute: SkiMo's code samples an elite, Jumpy takes the best, algorithm 2 the mean."""
        found.chosen = found.best
        if not found.rounds:
            return
        if "mean" in (self.config.execute, self.config.warm_start):
            if self.config.proposals == "prior":
                mean = imagine.evaluate(noise_NPZ=noise.mean_PZ[None])
            else:
                mean = imagine.evaluate(skills_NPZ=imagine.clip(skills.mean_PZ[None]))
            found.mean_PZ = mean.skills_NPZ[0]
            if self.config.execute == "mean" and mean.finite():
                found.chosen = mean
        if self.config.execute == "elite_sample":
            at = int(rng.choice(len(found.weights_E), p=found.weights_E))
            found.chosen = found.elites.rows(slice(at, at + 1))
        if self.config.explore:
            found.chosen = self._explored(found.chosen, imagine, skills, noise, rng)

    def _explored(
        self, chosen: Candidates, imagine: Imagination, skills: Proposal, noise: Proposal, rng: np.random.Generator
    ) -> Candidates:
        """The plan with its first skill moved by the proposal's std, as in SkiMo's code, predicted and scored anew."""
        cfg = self.config
        by_noise = cfg.proposals != "gaussian" and bool(np.isfinite(chosen.noise_NPZ).all())
        plan_1PZ = (chosen.noise_NPZ if by_noise else chosen.skills_NPZ).copy()
        std_Z = (noise if by_noise else skills).std_PZ[0]
        plan_1PZ[0, 0] += std_Z * rng.standard_normal(std_Z.shape, np.float32)
        if by_noise:
            moved = imagine.evaluate(noise_NPZ=np.clip(plan_1PZ, -cfg.noise_clip, cfg.noise_clip))
        else:
            moved = imagine.evaluate(skills_NPZ=imagine.clip(plan_1PZ))
        return moved if moved.finite() else chosen

    def _foreseen(self, elites: Candidates) -> FloatArray:
        """Observations [E, P, O] after each skill of each elite."""
        E, P, D = elites.latents_NPD.shape
        return self.model.decode(elites.latents_NPD.reshape(E * P, D)).reshape(E, P, -1)

    def _success(self, weights_E: npt.NDArray[np.float64], seen_EPO: FloatArray, goals: Goals) -> float:
        """Weight of the elites that complete the first open sub-task in prediction."""
        done_EP = completions(seen_EPO, goals, self.config.threshold_scale)
        return float(np.clip(weights_E @ (done_EP[:, -1] > 0), 0.0, 1.0))


def _told(weights_E: npt.NDArray[np.float64], seen_EPO: FloatArray, count: int) -> Foreseen:
    """The best of the elites whose predictions are finite: what is only looked at must not cost a plan."""
    finite = np.flatnonzero(np.isfinite(seen_EPO).all(axis=(1, 2)))[:count]
    return Foreseen(weights_E=weights_E[finite].astype(np.float32), predicted_EPO=seen_EPO[finite].copy())


def _weights(rows: int) -> npt.NDArray[np.float64]:
    return np.full(rows, 1.0 / rows)
