"""Twins that are looked at from above: what they draw of themselves stands in for a scene in space.

Who makes pictures and films of a twin asks it whether it is `Flat`, and else for a scene (`scenes.scene.Drawable`).
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.domain.tasks import Task

Frame = npt.NDArray[np.uint8]
"""A picture [height, width, 3]."""


@runtime_checkable
class Flat(SimulatedBackend, Protocol):
    """A twin that draws itself."""

    def picture(self, observations_TO: npt.NDArray[Any], task: Task) -> Frame:
        """Where the last of these observations [T, O] is, the way there, T >= 1, and what the task asks for."""
        ...
