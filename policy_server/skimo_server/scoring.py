"""How good imagined trajectories are: the task's own reward on decoded states, and a goal value at the end.

The reward is the task's: 1 for the first open sub-task as soon as its goal holds in a predicted observation, then for
the following ones in order, each once. Summed with a discount per skill this is Jumpy (Zhang et al. 2023), equation 3;
its term for the present state is the same for every candidate and left out.

Dimensions: N candidates, P plan length, K open sub-tasks, O observation, D latent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skimo_core.policy import Goals

from .model import FloatArray, SkillModel

IntArray = npt.NDArray[np.int64]


def completions(observations_NPO: FloatArray, goals: Goals, threshold_scale: float = 1.0) -> IntArray:
    """Number of sub-tasks [N, P] complete after each predicted step, counted in order, each once."""
    N, P, _ = observations_NPO.shape
    K = len(goals.thresholds_K)
    reached_NPK = np.empty((N, P, K), bool)
    for k in range(K):
        channels = np.flatnonzero(goals.masks_KO[k])
        difference = observations_NPO[..., channels] - goals.values_KO[k, channels]
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


def discounted_reward(done_NP: IntArray, discount: float) -> npt.NDArray[np.float64]:
    """Jumpy eq. 3: sum over h = 1..P of discount^h times the completions at step h, [N]."""
    gained_NP = np.diff(done_NP, axis=1, prepend=0)
    return gained_NP @ discount ** np.arange(1, done_NP.shape[1] + 1)


def terminal_value(model: SkillModel, latent_ND: FloatArray, goals: Goals, done_N: IntArray) -> npt.NDArray[np.float64]:
    """Goal value [N] of the sub-task open at each candidate's end; 0 where none is left."""
    K = len(goals.thresholds_K)
    open_N = np.minimum(done_N, K - 1)
    value_N = model.goal_value(latent_ND, goals.values_KO[open_N], goals.masks_KO[open_N]).astype(np.float64)
    return np.where(done_N < K, value_N, 0.0)
