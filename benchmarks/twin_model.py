"""The twin itself as the planner's skill model: what planning could do if its predictions were exact.

A latent is the index of a stored simulation state; `dynamics` restores it and runs the skill policy for H steps.
Prior, goal value and what else was learned are the bundle's, evaluated on the true observation. Everything else of the
planner stays as it is, so the difference to the learned model is the cost of the model's errors (and of the fewer
candidates that can be afforded: about 25 ms of physics per skill).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from skimo_core.contract.policy import FloatArray
from skimo_core.control.actuate import Actuator
from skimo_eval.trials import truth
from skimo_server.engine import Engine
from skimo_sim.twin import Twin, TwinState


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One state of the imagined world: the twin, what the arm was told, and what a noise-free observer sees."""

    twin: TwinState
    actuator: Actuator
    observation_O: FloatArray


class TwinModel:
    """Implements skimo_server.model.SkillModel on a second twin; `watch` follows the first one.

    Args:
        engine: the bundle's networks.
        horizon: H, control steps per skill.
    """

    def __init__(self, engine: Engine, horizon: int) -> None:
        self._engine = engine
        self._horizon = horizon
        self._twin = Twin()
        self._states: list[Snapshot] = []
        self._now: Snapshot | None = None

    @property
    def skill_dim(self) -> int:
        return self._engine.skill_dim

    @property
    def graphs(self) -> frozenset[str]:
        return self._engine.graphs

    def watch(self, twin: Twin, actuator: Actuator) -> None:
        """Take the real twin's present state as the one that the next `encode` means."""
        self._now = _snapshot(twin, actuator)
        self._states = []

    def encode(self, observation_BO: FloatArray) -> FloatArray:
        """Latent [1, 1] of the watched state; the observation itself is not needed."""
        assert self._now is not None and len(observation_BO) == 1, "watch the twin before each plan"
        return self._keep(self._now)[None]

    def prior(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self._engine.prior(self._truly(latent_BD))

    def goal_value(self, latent_BD: FloatArray, goal_BO: FloatArray, weight_BO: FloatArray) -> FloatArray:
        return self._engine.goal_value(self._truly(latent_BD), goal_BO, weight_BO)

    def reward(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> FloatArray:
        return self._engine.reward(self._truly(latent_BD), skill_BZ)

    def value(self, latent_BD: FloatArray) -> FloatArray:
        return self._engine.value(self._truly(latent_BD))

    def task_policy(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self._engine.task_policy(self._truly(latent_BD))

    def decode(self, latent_BD: FloatArray) -> FloatArray:
        return np.stack([self._states[int(i)].observation_O for i in latent_BD[:, 0]])

    def dynamics(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        rows = zip(latent_BD[:, 0], skill_BZ, strict=True)
        return np.stack([self._keep(self._run(self._states[int(i)], skill_Z)) for i, skill_Z in rows]), None

    def _truly(self, latent_BD: FloatArray) -> FloatArray:
        """The bundle's latents of the states."""
        return self._engine.encode(self.decode(latent_BD))

    def _keep(self, state: Snapshot) -> FloatArray:
        self._states.append(state)
        return np.array([len(self._states) - 1], np.float32)

    def _run(self, state: Snapshot, skill_Z: FloatArray) -> Snapshot:
        twin, actuator = self._twin, copy.deepcopy(state.actuator)
        twin.restore(state.twin)
        period_s = actuator.spec.period_s
        for _ in range(self._horizon):
            observation = truth(twin.domain, twin)
            action = np.clip(self._engine.act(observation, skill_Z), -1.0, 1.0)
            twin.write(actuator.command(action, twin.now_s()))
            twin.advance(period_s)
        return _snapshot(twin, actuator)


def _snapshot(twin: Twin, actuator: Actuator) -> Snapshot:
    return Snapshot(twin=twin.snapshot(), actuator=copy.deepcopy(actuator), observation_O=truth(twin.domain, twin))
