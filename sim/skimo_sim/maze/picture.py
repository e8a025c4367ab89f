"""The maze from above: walls, where one came along, where one is, and what is to be reached.

Pure: arrays in, a picture out; no GL library is needed. x to the right, y up; m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from skimo_core.contract.types import Array

from ..flat import Frame
from .walls import Cells

PX_PER_M = 16
OVERSAMPLED = 2
"""Drawn so much larger, then made smaller: lines are smooth."""
FREE, WALL, TRAIL, HERE, GOAL = (255, 255, 255), (70, 74, 82), (38, 98, 190), (220, 50, 47), (46, 140, 70)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A place to be reached: within `radius_m` of `at_m` [2]."""

    at_m: Array
    radius_m: float


class Map:
    """A picture of a maze that is being drawn on.

    Args:
        walls: [W, H] cells, the ring included.
    """

    def __init__(self, walls: Cells) -> None:
        self._scale = PX_PER_M * OVERSAMPLED
        self._height = walls.shape[1]
        cells = np.array([FREE, WALL], np.uint8)[walls.T[::-1].astype(int)]
        size = (walls.shape[0] * self._scale, walls.shape[1] * self._scale)
        self._image = Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self._image)

    def target(self, target: Target) -> None:
        """A ring round the place, and a dot on it."""
        self._ring(target.at_m, target.radius_m, GOAL)
        self.dot(target.at_m, 0.25, GOAL)

    def path(self, places_T2: npt.NDArray[Any], colour: Sequence[int] = TRAIL, width_m: float = 0.18) -> None:
        """A line through places [T, 2]."""
        points = [self._at(place) for place in places_T2]
        if len(points) > 1:
            self._draw.line(points, fill=tuple(colour), width=max(1, round(width_m * self._scale)), joint="curve")

    def dot(self, place_m: npt.NDArray[Any], radius_m: float, colour: Sequence[int] = HERE) -> None:
        """A filled circle."""
        self._draw.ellipse(self._box(place_m, radius_m), fill=tuple(colour))

    def frame(self) -> Frame:
        """The picture."""
        size = (self._image.width // OVERSAMPLED, self._image.height // OVERSAMPLED)
        return np.asarray(self._image.resize(size, Image.Resampling.BOX))

    def _ring(self, place_m: npt.NDArray[Any], radius_m: float, colour: Sequence[int]) -> None:
        self._draw.ellipse(self._box(place_m, radius_m), outline=tuple(colour), width=max(1, self._scale // 6))

    def _box(self, place_m: npt.NDArray[Any], radius_m: float) -> list[float]:
        x, y = self._at(place_m)
        r = radius_m * self._scale
        return [x - r, y - r, x + r, y + r]

    def _at(self, place_m: npt.NDArray[Any]) -> tuple[float, float]:
        """Pixels of a place [2]."""
        x, y = (float(value) for value in place_m)
        return (x + 0.5) * self._scale, (self._height - 0.5 - y) * self._scale


def places(observations_TO: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Where the mass was, [T, 2], in observations [T, O]."""
    return np.atleast_2d(observations_TO)[:, :2]
