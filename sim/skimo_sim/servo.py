"""An arm of position servos that a slow driver moves: how a reference becomes what the servos hold, and a twin of it.

Such an arm takes one position for each joint and holds it for a control period, and nobody makes up for its weight, its
damping or its mass: it lags behind its reference and sags. FrankaKitchen's is one (`skimo_sim.franka_kitchen`).

    by_velocity      hold what was measured and what the reference moves within the period: the arm creeps as it sags
    sampled          hold where the reference is
    by_position      hold where the reference will be at the period's end
    Compensated      hold what takes an arm that was identified there: its lag and its weight are made up for

`ServoTwin` is our twin with the arm that was identified, driven in the same way: what is collected there has the
lag and the sag in it. Units rad, s, Nm, Nm/rad, Nm s/rad; joint vectors [7] in Franka's convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from skimo_core.contract.types import JOINTS, Array
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits

from .scenes.arm import FINGERS
from .scenes.dynamics import Plant
from .twin import Twin

POSITION_SERVO = "kitchen"
"""The kind of arm (`scenes.arm`) whose actuators take a position and nothing else."""
SAME_S = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a driver knows at the beginning of a period.

    Attributes:
        q_rad: where the arm was measured to be.
        from_rad, to_rad: the reference now and at the period's end.
        period_s: how long what the driver answers is held.
    """

    q_rad: Array
    from_rad: Array
    to_rad: Array
    period_s: float


Driver = Callable[[Ask], Array]
"""The positions [7] that the servos hold for a period."""


def by_velocity(ask: Ask) -> Array:
    """As velocities integrated from what is measured, as FrankaKitchen documents its actions."""
    return ask.q_rad + ask.to_rad - ask.from_rad


def sampled(ask: Ask) -> Array:
    """As a controller that looks at its reference when a period begins; half a period late on average."""
    return ask.from_rad


def by_position(ask: Ask) -> Array:
    """As a joint position controller is sent them."""
    return ask.to_rad


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensated:
    """Makes up for the lag and the weight of an arm that was identified.

    Each joint as damping dq = kp (held - q) - weight, its mass neglected: within a period it goes
    1 - exp(-period kp / damping) of its way to where it would come to rest.

    Attributes:
        kp, damping_nm_s: [7] of servos and joints.
        weight_nm: the torques [7] that hold the arm still at positions [7].
    """

    kp: Array
    damping_nm_s: Array
    weight_nm: Callable[[Array], Array]

    def __call__(self, ask: Ask) -> Array:
        share = 1.0 - np.exp(-ask.period_s * self.kp / np.maximum(self.damping_nm_s, 1e-6))
        rests_rad = ask.q_rad + (ask.to_rad - ask.q_rad) / share
        return rests_rad + self.weight_nm(ask.to_rad) / self.kp


class ServoTwin(Twin):
    """The kitchen's twin with an arm of position servos that a driver moves once in a period.

    Its state is the plant's alone: what the servos hold is chosen anew where a period begins, so that a state that is
    restored within one is held differently for what is left of it.

    Args:
        plant: the arm that was identified.
        offset_nm: [7] torques beyond what the model explains, which the motors owe.
        driver: chooses what the servos hold.
        period_s: for how long.
        reach_rad: how far that may lie from where the arm is measured to be.
        range_rad: lowest and highest positions [7] that they hold; None: any.
    """

    def __init__(
        self,
        domain: Domain,
        limits: RobotLimits,
        plant: Plant,
        driver: Driver = by_position,
        *,
        offset_nm: Array | None = None,
        period_s: float = 0.08,
        reach_rad: float = np.inf,
        range_rad: tuple[Array, Array] | None = None,
    ) -> None:
        self._driver, self._period_s, self._reach_rad = driver, period_s, reach_rad
        self._range_rad = range_rad or (np.full(JOINTS, -np.inf), np.full(JOINTS, np.inf))
        self._offset_nm = np.zeros(JOINTS) if offset_nm is None else offset_nm
        self._held_rad, self._since_s = limits.home_q_rad, -np.inf
        super().__init__(domain=domain, limits=limits)
        self.become(plant)

    def _build(self, arm: str) -> None:
        """The scene, its arm's weight held by nobody, its servos told positions alone."""
        super()._build(arm)
        self.model.body_gravcomp[self._arm_bodies] = 0.0
        self.scene = replace(self.scene, arm=replace(self.scene.arm, name=POSITION_SERVO))
        self._sags = True

    def set_state(self, qpos: Array, qvel: Array | None = None) -> None:
        """Put the simulation into a state; the servos hold there from the next period on."""
        super().set_state(qpos, qvel)
        self.data.qfrc_applied[:JOINTS] = -self._offset_nm
        self._since_s = -np.inf

    def _pass(self, time_s: float) -> None:
        """Simulate on, by a clock that stands still: a new period begins then."""
        super()._pass(time_s)
        self._since_s = -np.inf

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` pass, the driver asked at each period's beginning.

        Raises:
            SimulationError: the physics diverged.
        """
        left_s = dt_s
        while left_s > SAME_S:
            if self.now_s() - self._since_s >= self._period_s - SAME_S:
                self._ask()
            slice_s = min(left_s, self._since_s + self._period_s - self.now_s())
            super().advance(slice_s)
            left_s -= slice_s

    def _ask(self) -> None:
        """Let the driver choose what is held from now on."""
        self._since_s, q_rad = self.now_s(), self.data.qpos[:JOINTS] + self.scene.arm.zero_rad
        now_to_end_s = self._since_s + np.array([0.0, self._period_s])
        reference = self._follower.positions(now_to_end_s)
        held = self._driver(Ask(q_rad=q_rad, from_rad=reference[0], to_rad=reference[1], period_s=self._period_s))
        self._held_rad = np.clip(np.clip(held, q_rad - self._reach_rad, q_rad + self._reach_rad), *self._range_rad)

    def _controls(self, times_s: Array) -> tuple[Array, Array]:
        """Actuator inputs [K, 9] at `times_s` [K], and the model's joint positions [K, 7] that they aim at."""
        held = np.repeat((self._held_rad - self.scene.arm.zero_rad)[None], len(times_s), axis=0)
        fingers = np.repeat(self._hand.widths(times_s)[:, None] / 2, FINGERS, axis=1)
        return np.concatenate([held, fingers], axis=1), held
