"""Assembles the observation vector from robot state and object states, and adds the simulated sensor noise.

The noise is uniform, seeded, and added here and nowhere else: never to the topics that the gate reads. An input that
is absent, older than its bound or not finite raises an ObservationError that names it: this observation is missed, the
next may be good again. Units are the spec's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contract.errors import MissingError, ObservationError, SpecError, StaleError
from ..contract.specs import ObservationSpec
from ..contract.types import ObjectStates, RobotState


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
            MissingError: a channel that the spec wants is not among the objects, or fingers are not.
            ObservationError: a channel is not finite, or beyond what float32 holds.
        """
        self._check_age("robot state", robot.stamp_s, now_s)
        self._check_age("object states", objects.stamp_s, now_s)
        joints, fingers = self.spec.joints, self.spec.fingers
        if len(robot.finger_m) < fingers:
            raise MissingError(
                f"robot state holds {len(robot.finger_m)} finger positions, {fingers} are wanted; "
                "is the hand's driver running, and does it publish its joint states?"
            )
        exact = np.concatenate(
            [robot.q_rad[:joints], robot.finger_m[:fingers], objects.values[self._object_columns(objects.names)]]
        )
        with np.errstate(over="ignore"):
            observation = exact.astype(np.float32)
        self._check_finite(observation, exact)
        if self._noise is None or self._rng is None:
            return observation
        noise = self._noise * self._rng.uniform(-1.0, 1.0, self.spec.size)
        return (observation + noise).astype(np.float32)

    def _check_finite(self, observation: npt.NDArray[np.float32], exact: npt.NDArray[np.float64]) -> None:
        bad = np.flatnonzero(~np.isfinite(observation))
        if bad.size:
            at = int(bad[0])
            sender = "robot state" if at < self.spec.joints + self.spec.fingers else "object states"
            raise ObservationError(
                f"{sender}: channel {self.spec.names[at]!r} is {exact[at]:g} ({bad.size} such in all); check its sender"
            )

    def _check_age(self, what: str, stamp_s: float, now_s: float) -> None:
        age_s = now_s - stamp_s
        if age_s > self._max_age_s:
            raise StaleError(
                f"{what} is {age_s * 1e3:.0f} ms old, bound {self._max_age_s * 1e3:.0f} ms; is its sender alive?"
            )

    def _object_columns(self, names: tuple[str, ...]) -> npt.NDArray[np.intp]:
        if self._columns is None or self._columns[0] != names:
            self._columns = (names, _columns(names, self.spec.objects))
        return self._columns[1]


def object_values(objects: ObjectStates, wanted: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """The values of the channels `wanted`, by name, whatever the order in which they were sent.

    Raises:
        MissingError: one is not among them.
    """
    return objects.values[_columns(objects.names, wanted)]


def _columns(names: tuple[str, ...], wanted: tuple[str, ...]) -> npt.NDArray[np.intp]:
    missing = [n for n in wanted if n not in names]
    if missing:
        sent = f"{names[:12]}{' ...' if len(names) > 12 else ''}"
        raise MissingError(f"object states lack channel {missing[0]!r} ({len(missing)} in all); sent are {sent}")
    return np.array([names.index(n) for n in wanted], np.intp)
