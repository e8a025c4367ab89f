"""What keeps a teleoperator's hand from doing exactly what was meant, seeded.

Applied to actions before they are executed and recorded, so that later actions correct for it and the data
hold recoveries (DART: Laskey et al. 2017). Units: action units (fractions of the action scale), control steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skimo_core.contract.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class DisturbanceConfig:
    """How strong and how often.

    Attributes:
        wobble: deviation of the slowly varying part at an action of 1; a quarter of it remains at rest.
        wobble_steps: its correlation time.
        shove_probability: chance per step that a short, stronger disturbance begins.
        shove: its deviation.
        shove_steps: how long it lasts.
        slip_probability: chance per step that the thumb slips and the fingers are told the opposite.
        slip_steps: how long that lasts.
    """

    wobble: float = 0.035
    wobble_steps: float = 3.0
    shove_probability: float = 0.01
    shove: float = 0.16
    shove_steps: int = 4
    slip_probability: float = 0.002
    slip_steps: int = 3


class Disturbance:
    """A correlated wobble of the joints, now and then a shove, and now and then a slip of the thumb."""

    def __init__(self, config: DisturbanceConfig, joints: int, rng: np.random.Generator) -> None:
        self._config, self._rng = config, rng
        self._wobble = np.zeros(joints)
        self._shove = np.zeros(joints)
        self._left = 0
        self._slip_left = 0

    def apply(self, action: npt.NDArray[np.float32], joints: int) -> None:
        """Disturb an action [A], of which the first `joints` are velocities and the rest intents of the fingers."""
        action[:joints] += self.shift(action[:joints])
        if self._slips():
            action[joints:] *= -1.0
        np.clip(action, -1.0, 1.0, out=action)

    def shift(self, velocities: npt.NDArray[np.float32]) -> Array:
        """What to add to `velocities` [J]; faster motion wobbles more (Harris and Wolpert 1998)."""
        config, rng = self._config, self._rng
        keep = np.exp(-1.0 / config.wobble_steps)
        fresh = config.wobble * rng.standard_normal(self._wobble.size)
        self._wobble = keep * self._wobble + np.sqrt(1.0 - keep**2) * fresh
        begins, shove = rng.random() < config.shove_probability, rng.standard_normal(self._shove.size)
        if self._left == 0 and begins:
            self._shove, self._left = config.shove * shove, config.shove_steps
        shoving, self._left = self._left > 0, max(self._left - 1, 0)
        return self._wobble * (0.25 + float(np.abs(velocities).max())) + (self._shove if shoving else 0.0)

    def _slips(self) -> bool:
        begins = self._rng.random() < self._config.slip_probability
        if self._slip_left == 0 and begins:
            self._slip_left = self._config.slip_steps
        slipping, self._slip_left = self._slip_left > 0, max(self._slip_left - 1, 0)
        return slipping
