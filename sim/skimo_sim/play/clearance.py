"""How a teleoperator's arm keeps clear of itself and of what stands around it, as a person at the stick would.

What is asked of the joints is changed only as far as needed for a velocity damper: the nearer the arm is to itself or
to an obstacle, the more slowly it may come nearer, and where it is too near it leaves (Faverjon and Tournassoud, "A
local based approach for path planning of manipulators with a high number of degrees of freedom", ICRA 1987). It slides
along where the gate would hold it. Nothing but the joint positions decides. Units rad, m, s.
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
STEP_RAD = 1e-4


class Clearance:
    """Of one arm in one cell."""

    def __init__(self, limits: RobotLimits, cell: Cell) -> None:
        self._collision = Collision(limits, cell)

    def keep(self, q_rad: Array, dq_rad_s: Array) -> Array:
        """Joint velocities [7] near `dq_rad_s` that keep the arm at `q_rad` [7] clear."""
        if self._room_m(q_rad[None])[0] > NEAR_M:
            return dq_rad_s
        moved_m = self._room_m(np.vstack([q_rad, q_rad + STEP_RAD * np.eye(len(q_rad))]))
        gradient = (moved_m[1:] - moved_m[0]) / STEP_RAD
        lacking = -NEARER_HZ * (moved_m[0] - KEPT_M) - gradient @ dq_rad_s
        steep = float(gradient @ gradient)
        return dq_rad_s if lacking <= 0.0 or steep < 1e-9 else dq_rad_s + lacking / steep * gradient

    def _room_m(self, q_rad: Array) -> Array:
        """Room [K] to the nearest of all at joint positions [K, 7]."""
        room = self._collision.room(q_rad)
        return np.minimum(room.self_m, room.obstacle_m)
