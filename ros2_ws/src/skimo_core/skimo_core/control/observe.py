"""Assembles the observation vector from robot state and object states, and adds the simulated sensor noise.

The noise is uniform, seeded, and added here and nowhere else: never to the topics that the gate reads. An input that
is absent, older than its bound or not finite raises an ObservationError that names it: this observation is missed, the
next may be good again. An object channel that the tracker does not see (NaN, or left out) keeps its last value for as
long as the domain allows. Units are the spec's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contract.errors import MissingError, ObservationError, SpecError, StaleError
from ..contract.specs import ObservationSpec
from ..contract.types import ObjectStates, RobotState
from ..domain.domain import Tracking


class Observer:
    """Turns newest states into observations [O] of one spec.

    Args:
        spec: the channels wanted.
        max_age_s: how old the robot's state may be.
        tracking: how old object states may be, and how long a channel may be hidden; None: as old, and not at all.
        noise: [O] half width of uniform noise per channel, or None.
        rng: draws the noise; needed when noise is given.
    """

    def __init__(
        self,
        spec: ObservationSpec,
        *,
        max_age_s: float,
        tracking: Tracking | None = None,
        noise: npt.NDArray[np.float32] | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        if noise is not None and noise.shape != (spec.size,):
            raise SpecError(f"observation noise has shape {noise.shape}, must be ({spec.size},)")
        if noise is not None and rng is None:
            raise SpecError("observation noise needs a random generator, so that it is seeded")
        self.spec = spec
        self._max_age_s = max_age_s
        self._objects_max_age_s = max_age_s if tracking is None else tracking.max_age_s
        self._hidden_s = 0.0 if tracking is None else tracking.hidden_s
        self._noise = noise
        self._rng = rng
        self._columns: tuple[tuple[str, ...], npt.NDArray[np.intp], tuple[str, ...]] | None = None
        self._last_seen = np.full(len(spec.objects), np.nan)
        self._last_seen_s = np.full(len(spec.objects), -np.inf)
        self._newest_s = -np.inf

    def observe(self, robot: RobotState, objects: ObjectStates, now_s: float) -> npt.NDArray[np.float32]:
        """Return the observation [O], float32.

        Raises:
            StaleError: an input is older than its bound.
            MissingError: a channel is not among the objects, or was hidden too long; or fingers are missing.
            ObservationError: a channel is not finite, or beyond what float32 holds.
        """
        self._check_age("robot state", robot.stamp_s, now_s, self._max_age_s)
        joints, fingers = self.spec.joints, self.spec.fingers
        if len(robot.finger_m) < fingers:
            raise MissingError(
                f"robot state holds {len(robot.finger_m)} finger positions, {fingers} are wanted; "
                "is the hand's driver running, and does it publish its joint states?"
            )
        exact = np.concatenate([robot.q_rad[:joints], robot.finger_m[:fingers], self._objects(objects, now_s)])
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

    @property
    def hidden(self) -> tuple[str, ...]:
        """The channels that the tracker did not see the last time."""
        return tuple(name for name, seen_s in zip(self.spec.objects, self._last_seen_s) if seen_s < self._newest_s)

    def _check_age(self, what: str, stamp_s: float, now_s: float, bound_s: float) -> None:
        age_s = now_s - stamp_s
        if age_s > bound_s:
            raise StaleError(f"{what} is {age_s * 1e3:.0f} ms old, bound {bound_s * 1e3:.0f} ms; is its sender alive?")

    def _objects(self, objects: ObjectStates, now_s: float) -> npt.NDArray[np.float64]:
        """The object channels' values, those of hidden ones as they were last seen."""
        if not self.spec.objects:
            return np.zeros(0)
        self._check_age("object states", objects.stamp_s, now_s, self._objects_max_age_s)
        columns, left_out = self._object_columns(objects.names)
        values = np.full(len(self.spec.objects), np.nan)
        values[columns >= 0] = objects.values[columns[columns >= 0]]
        seen, self._newest_s = ~np.isnan(values), objects.stamp_s
        self._last_seen[seen], self._last_seen_s[seen] = values[seen], objects.stamp_s
        if not seen.all() and self._hidden_s > 0:
            self._stand_in(values, ~seen, now_s)
        elif left_out:
            raise MissingError(_lacking(objects.names, left_out))
        return values

    def _stand_in(self, values: npt.NDArray[np.float64], hidden: npt.NDArray[np.bool_], now_s: float) -> None:
        since_s = now_s - self._last_seen_s
        worst = int(np.argmax(np.where(hidden, since_s, -np.inf)))
        if since_s[worst] > self._hidden_s:
            for_s = "from the start on" if np.isinf(since_s[worst]) else f"for {since_s[worst]:.2f} s"
            raise MissingError(
                f"object channel {self.spec.objects[worst]!r} has been hidden {for_s}, bound {self._hidden_s:g} s "
                "(hidden_s of the domain); clear the tracker's view"
            )
        values[hidden] = self._last_seen[hidden]

    def _object_columns(self, names: tuple[str, ...]) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
        """Where each object channel stands among `names` (-1: nowhere), and which stand nowhere."""
        if self._columns is None or self._columns[0] != names:
            at = {name: index for index, name in enumerate(names)}
            columns = np.array([at.get(name, -1) for name in self.spec.objects], np.intp)
            self._columns = (names, columns, tuple(n for n in self.spec.objects if n not in at))
        return self._columns[1], self._columns[2]


def object_values(objects: ObjectStates, wanted: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """The values of the channels `wanted`, by name, whatever the order in which they were sent.

    Raises:
        MissingError: one is not among them.
    """
    return objects.values[_columns(objects.names, wanted)]


def _columns(names: tuple[str, ...], wanted: tuple[str, ...]) -> npt.NDArray[np.intp]:
    if missing := tuple(n for n in wanted if n not in names):
        raise MissingError(_lacking(names, missing))
    return np.array([names.index(n) for n in wanted], np.intp)


def _lacking(names: tuple[str, ...], missing: tuple[str, ...]) -> str:
    sent = f"{names[:12]}{' ...' if len(names) > 12 else ''}"
    return f"object states lack channel {missing[0]!r} ({len(missing)} in all); sent are {sent}"
