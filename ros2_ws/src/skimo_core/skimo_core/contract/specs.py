"""What an array must look like where it crosses a border: name, shape, type, bounds and units.

Specs are checked once, at the border (file, socket, topic); inside, arrays are trusted. They serialise to plain
dictionaries, so a bundle's manifest, an episode's metadata and a server's hello carry the same words.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import SpecError

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Something that has a name, and the digest of what it says: a domain, a robot, a cell."""

    name: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.name!r} (digest {self.digest[:12] or 'unknown'})"


UNKNOWN = Named()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """A named array; a dimension of -1 may have any size.

    Attributes:
        name: what the array is called in messages.
        shape: its dimensions, -1 for any.
        dtype: numpy's name of its type.
        low, high: inclusive bounds on every element, or None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None

    def check(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return `array` if it fits.

        Raises:
            SpecError: wrong type, shape, a non-finite element or one out of bounds.
        """
        if not isinstance(array, np.ndarray):
            raise SpecError(f"{self.name}: expected a numpy array, got {type(array).__name__}")
        if array.dtype != np.dtype(self.dtype):
            raise SpecError(f"{self.name}: dtype is {array.dtype}, must be {self.dtype}")
        if len(array.shape) != len(self.shape) or any(w not in (-1, n) for w, n in zip(self.shape, array.shape)):
            raise SpecError(f"{self.name}: shape is {array.shape}, must be {self.shape} (-1: any)")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise SpecError(f"{self.name}: element {at} is {array[at]}, must be finite; check the sensor or the sender")
        for bound, bad, word in ((self.low, np.less, "below"), (self.high, np.greater, "above")):
            if bound is not None and array.size and bad(array, bound).any():
                at = tuple(int(i) for i in np.argwhere(bad(array, bound))[0])
                raise SpecError(f"{self.name}: element {at} is {array[at]:g}, {word} the bound {bound:g}")
        return array


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationSpec:
    """The channels of an observation vector, in order.

    Attributes:
        names: one per channel, e.g. "panda_joint1" or "kettle.x".
        units: one per channel, e.g. "rad", "m", "1".
        joints: how many leading channels are arm joint positions.
        fingers: how many channels after those are finger positions.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    joints: int = 7
    fingers: int = 2

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units):
            raise SpecError(f"observation spec: {len(self.names)} names but {len(self.units)} units")
        if len(set(self.names)) != len(self.names):
            raise SpecError("observation spec: channel names are not unique")
        if self.joints + self.fingers > len(self.names):
            raise SpecError(
                f"observation spec: {self.joints} joints + {self.fingers} fingers > {len(self.names)} channels"
            )

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def objects(self) -> tuple[str, ...]:
        """The channels that the object tracker (or the twin) supplies."""
        return self.names[self.joints + self.fingers :]

    def check(self, observation: npt.NDArray[Any], name: str = "observation") -> npt.NDArray[Any]:
        """Return a float32 vector of this spec's size, or raise SpecError."""
        return ArraySpec(name=name, shape=(self.size,)).check(observation)

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ObservationSpec:
        return cls(
            names=tuple(map(str, data["names"])),
            units=tuple(map(str, data["units"])),
            joints=int(data["joints"]),
            fingers=int(data["fingers"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """Actions in [-1, 1]: joint velocities divided by `scale_rad_s`, then finger intents.

    Attributes:
        names: one per dimension.
        scale_rad_s: what an action of 1 means for the joints, rad/s.
        rate_hz: how often an action is due.
        joints: how many leading dimensions are joint velocities; an arm's others are finger intents
            (mean above +0.3 opens, below -0.3 closes, between keeps). 0: no arm, and the actions are a domain's own.
    """

    names: tuple[str, ...]
    scale_rad_s: float
    rate_hz: float
    joints: int = 7

    def __post_init__(self) -> None:
        if not self.scale_rad_s > 0 or not self.rate_hz > 0:
            raise SpecError(f"action spec: scale {self.scale_rad_s} rad/s and rate {self.rate_hz} Hz must be positive")
        if not 0 <= self.joints <= len(self.names) or not self.names:
            raise SpecError(f"action spec: {self.joints} joints of {len(self.names)} dimensions")

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def period_s(self) -> float:
        return 1.0 / self.rate_hz

    def check(self, action: npt.NDArray[Any], name: str = "action") -> npt.NDArray[Any]:
        """Return a float32 vector within [-1, 1], or raise SpecError."""
        return ArraySpec(name=name, shape=(self.size,), low=-1.0, high=1.0).check(action)

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ActionSpec:
        return cls(
            names=tuple(map(str, data["names"])),
            scale_rad_s=float(data["scale_rad_s"]),
            rate_hz=float(data["rate_hz"]),
            joints=int(data["joints"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillSpec:
    """The sizes that a skill policy and its callers must agree on.

    Attributes:
        horizon: H, control steps that a skill lasts.
        dim: Z, numbers in a skill, each in (-1, 1).
        plan_length: P, skills in a plan.
    """

    horizon: int = 10
    dim: int = 10
    plan_length: int = field(default=3)

    def __post_init__(self) -> None:
        if self.horizon < 3 or self.dim < 1 or self.plan_length < 1:
            raise SpecError(f"skill spec: H {self.horizon} (>= 3), Z {self.dim} (>= 1), P {self.plan_length} (>= 1)")
