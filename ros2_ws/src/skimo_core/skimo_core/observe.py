"""Assembles the observation vector from robot state and object states, and adds the simulated sensor noise.

The noise is uniform, seeded, and added here and nowhere else: never to the topics that the gate reads. An input that
is absent or older than its bound raises; the caller holds. Units are the spec's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import MissingError, SpecError, StaleError
from .specs import ObservationSpec
from .types import ObjectStates, RobotState


class Observer:
    """Turns newest states into observations [O] of one spec.

    Args:
        spec: the channels wanted.
        max_age_s: how old an input may be (one control period by default of the callers).
        noise: [O] half width of uniform noise per channel, or None.
        rng: draws the noise; needed when noise is given.
    """

    def __init__(
        self,
        spec: ObservationSpec,
        *,
        max_age_s: float,
        noise: npt.NDArray[np.float32] | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        if noise is not None and noise.shape != (spec.size,):
            raise SpecError(f"observation noise has shape {noise.shape}, must be ({spec.size},)")
        if noise is not None and rng is None:
            raise SpecError("observation noise needs a random generator, so that it is seeded")
        self.spec = spec
        self._max_age_s = max_age_s
        self._noise = noise
        self._rng = rng
        self._columns: tuple[tuple[str, ...], npt.NDArray[np.intp]] | None = None

    def observe(self, robot: RobotState, objects: ObjectStates, now_s: float) -> npt.NDArray[np.float32]:
        """Return the observation [O], float32.

        Raises:
            StaleError: an input is older than `max_age_s`.
            MissingError: a channel that the spec wants is not among the objects.
            SpecError: a number is not finite.
        """
        self._check_age("robot state", robot.stamp_s, now_s)
        self._check_age("object states", objects.stamp_s, now_s)
        joints, fingers = self.spec.joints, self.spec.fingers
        observation = np.concatenate(
            [robot.q_rad[:joints], robot.finger_m[:fingers], objects.values[self._object_columns(objects.names)]]
        ).astype(np.float32)
        self.spec.check(observation)
        if self._noise is None or self._rng is None:
            return observation
        noise = self._noise * self._rng.uniform(-1.0, 1.0, self.spec.size)
        return (observation + noise).astype(np.float32)

    def _check_age(self, what: str, stamp_s: float, now_s: float) -> None:
        age_s = now_s - stamp_s
        if age_s > self._max_age_s:
            raise StaleError(
                f"{what} is {age_s * 1e3:.0f} ms old, bound {self._max_age_s * 1e3:.0f} ms; is its sender alive?"
            )

    def _object_columns(self, names: tuple[str, ...]) -> npt.NDArray[np.intp]:
        if self._columns is None or self._columns[0] != names:
            missing = [n for n in self.spec.objects if n not in names]
            if missing:
                raise MissingError(
                    f"object states lack channel {missing[0]!r} ({len(missing)} in all); sent are {names}"
                )
            self._columns = (names, np.array([names.index(n) for n in self.spec.objects], np.intp))
        return self._columns[1]
