"""How good imagined trajectories are: the task's own reward on decoded states, a goal value, and learned returns.

The reward is the task's: 1 for the first open sub-task as soon as its goal holds in a predicted observation, then for
the following ones in order, each once. Summed with a discount per skill this is Jumpy (Zhang et al. 2023), equation 3;
its term for the present state is the same for every candidate and left out. Learned rewards belong to the state that a
skill starts in, so they are discounted from 0 on, and together with the learned value of the end they are the return of
SkiMo (Shi et al. 2022), algorithm 2.

Dimensions: N candidates, P plan length, K open sub-tasks, O observation, Z skill, D latent, B = N P.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from skimo_core.contract.policy import Goals

from .model import FloatArray, SkillModel
from .planner_config import ValueAt

IntArray = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]


def completions(observations_NPO: FloatArray, goals: Goals, threshold_scale: float = 1.0) -> IntArray:
    """Number of sub-tasks [N, P] complete after each predicted step, counted in order, each once."""
    N, P, _ = observations_NPO.shape
    K = len(goals.thresholds_K)
    reached_NPK = np.empty((N, P, K), bool)
    for k in range(K):
        channels = np.flatnonzero(goals.weights_KO[k])
        weights = goals.weights_KO[k, channels]
        difference = (observations_NPO[..., channels] - goals.values_KO[k, channels]) * weights
        distance_NP = np.sqrt(np.einsum("npc,npc->np", difference, difference))
        reached_NPK[..., k] = distance_NP < goals.thresholds_K[k] * threshold_scale
    done_NP = np.zeros((N, P), np.int64)
    done_N = np.zeros(N, np.int64)
    rows = np.arange(N)
    for p in range(P):
        for _ in range(K):
            done_N = done_N + ((done_N < K) & reached_NPK[rows, p, np.minimum(done_N, K - 1)])
        done_NP[:, p] = done_N
    return done_NP


def discounted_reward(done_NP: IntArray, discount: float) -> Float64Array:
    """Jumpy eq. 3: sum over h = 1..P of discount^h times the completions at step h, [N]."""
    gained_NP = np.diff(done_NP, axis=1, prepend=0)
    return gained_NP @ discount ** np.arange(1, done_NP.shape[1] + 1)


def discounted_learned_reward(
    model: SkillModel, latent_1D: FloatArray, latents_NPD: FloatArray, skills_NPZ: FloatArray, discount: float
) -> Float64Array:
    """Sum over p = 0..P-1 of discount^p times the learned reward of skill p from the latent that it starts in, [N]."""
    N, P, D = latents_NPD.shape
    first_N1D = np.broadcast_to(latent_1D, (N, 1, D))
    before_BD = np.concatenate([first_N1D, latents_NPD[:, :-1]], axis=1).reshape(N * P, D)
    reward_B = model.reward(before_BD, skills_NPZ.reshape(N * P, -1)).astype(np.float64)
    return reward_B.reshape(N, P) @ discount ** np.arange(P)


def discounted_value(
    value: Callable[[FloatArray, IntArray], Float64Array],
    latents_NPD: FloatArray,
    done_NP: IntArray,
    discount: float,
    at: ValueAt,
) -> Float64Array:
    """Discounted value [N] of the plan's end, or of the states after every skill the mean or the best.

    Args:
        value: of latents [B, D] at which so many sub-tasks [B] are complete.
    """
    N, P, D = latents_NPD.shape
    if at == "end":
        return discount**P * value(latents_NPD[:, -1], done_NP[:, -1])
    values_B = value(latents_NPD.reshape(N * P, D), done_NP.reshape(N * P))
    discounted_NP = values_B.reshape(N, P) * discount ** np.arange(1, P + 1)
    return discounted_NP.max(axis=1) if at == "best" else discounted_NP.mean(axis=1)


def goal_values(model: SkillModel, latents_BD: FloatArray, goals: Goals, done_B: IntArray) -> Float64Array:
    """Goal value [B] of the sub-task open at each latent, of which `done_B` are complete; 0 where none is left."""
    K = len(goals.thresholds_K)
    open_B = np.minimum(done_B, K - 1)
    value_B = model.goal_value(latents_BD, goals.values_KO[open_B], goals.precision_KO[open_B]).astype(np.float64)
    return np.where(done_B < K, value_B, 0.0)
