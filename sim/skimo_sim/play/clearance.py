"""How a teleoperator's arm keeps clear of itself and of what stands around it, as a person at the stick would.

What is asked of the joints is changed only as far as needed for a velocity damper: the nearer the arm is to itself or
to an obstacle, the more slowly it may come nearer, and where it is too near it leaves (Faverjon and Tournassoud, "A
local based approach for path planning of manipulators with a high number of degrees of freedom", ICRA 1987). It slides
along where the gate would hold it. Between two obstacles at once it may still be held there, as a person may. Nothing
but the joint positions decides. Units rad, m, s.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.types import Array
from skimo_core.domain.cell import Cell
from skimo_core.domain.robot import RobotLimits
from skimo_core.safety.collision import Collision

NEAR_M = 0.05
"""Room from which on it matters how fast the arm comes nearer; the gate's margins are taken off."""
KEPT_M = 0.012
"""Room that is kept: the gate judges the way to rest, too."""
NEARER_HZ = 4.0
"""Share of the room above that that may be taken up in a second."""
STEP_RAD, FLAT = 1e-4, 1e-6
ROUNDS = 4
"""Of bringing what is asked in line with the one and with the other."""


class Clearance:
    """Of one arm in one cell."""

    def __init__(self, limits: RobotLimits, cell: Cell) -> None:
        self._collision = Collision(limits, cell)

    def keep(self, q_rad: Array, dq_rad_s: Array) -> Array:
        """Joint velocities [7] near `dq_rad_s` that keep the arm at `q_rad` [7] clear."""
        (room_m,) = self._room_m(q_rad[None])
        if room_m.min() > NEAR_M:
            return dq_rad_s
        gradients = (self._room_m(q_rad + STEP_RAD * np.eye(len(q_rad))) - room_m).T / STEP_RAD
        for _ in range(ROUNDS):
            for gradient, least_m_s in zip(gradients, -NEARER_HZ * (room_m - KEPT_M)):
                lacking, steep = float(least_m_s - gradient @ dq_rad_s), float(gradient @ gradient)
                if lacking > 0.0 and steep > FLAT:
                    dq_rad_s = dq_rad_s + lacking / steep * gradient
        return dq_rad_s

    def _room_m(self, q_rad: Array) -> Array:
        """Room [K, 2] at joint positions [K, 7]: of the arm to itself, and to the nearest obstacle."""
        room = self._collision.room(q_rad)
        return np.stack([room.self_m, room.obstacle_m], axis=1)
