"""The two arms that a scene can hold, and how each is driven.

`panda`    our model of the Panda (assets/panda.xml): torque = kp (q_d - q) + kv (dq_d - dq) + feed-forward, within
           Franka's torque limits, gravity compensated. A trajectory commanded is a trajectory followed.
`kitchen`  the arm that ships with the kitchen: weak position servos, no gravity compensation. Kept to compare with.

Everything outside speaks Franka's joint convention. The shipped arm's zeros differ: its joint 6 by pi/2 and its
joint 7 by pi/4 (found by forward kinematics: end-effector poses then agree to 0.4 mm and 1.5 mrad, the rest being its
file's 1.57 for pi/2). Units rad, s, Nm, m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skimo_core.contract.types import JOINTS, Array

from .physics import mujoco

FINGERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """An arm as the first nine degrees of freedom and actuators of a compiled model.

    Attributes:
        name: "panda" or "kitchen".
        zero_rad: [7] Franka's joint angle where the model's own is 0.
        kp, kv: [7] servo gains of the model's actuators, Nm/rad and Nm s/rad (kv 0: pure position servo).
        damping, friction: [7] viscous and Coulomb friction that the feed-forward makes up for: what the controller
            believes, not what the arm has (scenes.dynamics).
        error_rad: [7] tracking error beyond which the servo pulls no harder. An arm that was held back by something
            then comes back at a bounded speed, where a bare servo at its torque limit would swing around the target.
        tcp_site: name of the site between the fingers, 0.1034 m from the flange.
    """

    name: str
    zero_rad: Array
    kp: Array
    kv: Array
    damping: Array
    friction: Array
    error_rad: Array
    tcp_site: str

    def controls(self, q_rad: Array, dq_rad_s: Array, tau_nm: Array) -> Array:
        """Actuator inputs [K, 7] that track q, dq [K, 7] (Franka's convention) with feed-forward torque [K, 7]."""
        if self.name == "kitchen":
            return q_rad - self.zero_rad
        return q_rad - self.zero_rad + (self.kv * dq_rad_s + tau_nm) / self.kp

    def feed_forward(self, mass: Array, dq_rad_s: Array, ddq_rad_s2: Array) -> Array:
        """Torques [K, 7] for desired dq, ddq [K, 7], given the joint-space mass matrix [7, 7]."""
        return ddq_rad_s2 @ mass + self.damping * dq_rad_s + self.friction * np.tanh(dq_rad_s / COULOMB_WIDTH_RAD_S)

    def with_gain(self, factor: float) -> Arm:
        """The same arm with kp and kv multiplied, the pull of its servos bounded as before."""
        return self.with_gains(self.kp * factor, self.kv * factor)

    def with_gains(self, kp: Array | None = None, kv: Array | None = None) -> Arm:
        """The same arm with other gains [7] where given, the pull of its servos bounded as before."""
        kp, kv = self.kp if kp is None else kp, self.kv if kv is None else kv
        return replace(self, kp=kp, kv=kv, error_rad=self.error_rad * (self.kp / kp))


COULOMB_WIDTH_RAD_S = 0.02
"""Speed over which the Coulomb feed-forward changes sign; wide enough not to buzz at rest."""

PULL = 1.5
"""Most that the position term asks for, in multiples of the torque limit."""


def arm_of(model: mujoco.MjModel, name: str) -> Arm:
    """Describe the arm at the head of a compiled model."""
    zero, error = np.zeros(JOINTS), np.full(JOINTS, np.inf)
    if name == "kitchen":
        zero[5:] = np.pi / 2, np.pi / 4
    else:
        error = PULL * model.jnt_actfrcrange[:JOINTS, 1] / model.actuator_gainprm[:JOINTS, 0]
    return Arm(
        name=name,
        zero_rad=zero,
        kp=model.actuator_gainprm[:JOINTS, 0].copy(),
        kv=-model.actuator_biasprm[:JOINTS, 2].copy(),
        damping=model.dof_damping[:JOINTS].copy(),
        friction=model.dof_frictionloss[:JOINTS].copy(),
        error_rad=error,
        tcp_site="end_effector" if name == "kitchen" else "panda_tcp",
    )
