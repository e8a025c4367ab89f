"""An estimate and its verdict: whether the log tells it, or why not. Data only; units stand with each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skimo_core.contract.types import Array

COLLINEAR = 0.98
"""Correlation of two estimates beyond which a log can't tell one from the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of parameter.

    Attributes:
        name: what it is.
        unit: of its values.
        share: most that half of its 95 % interval may be, of the value or of `scale` if that is larger.
        scale: what counts as a small value of the kind.
        wide: standard deviation of what is taken for it before a log is looked at.
    """

    name: str
    unit: str
    share: float
    scale: float
    wide: float


FRICTION = Kind(name="friction", unit="Nm", share=0.25, scale=0.2, wide=0.5)
DAMPING = Kind(name="damping", unit="Nm s/rad", share=0.35, scale=0.3, wide=0.7)
ARMATURE = Kind(name="armature", unit="kg m2", share=0.35, scale=0.03, wide=0.15)
OFFSET = Kind(name="offset", unit="Nm", share=0.5, scale=0.2, wide=0.5)
MASS = Kind(name="payload mass", unit="kg", share=0.1, scale=0.2, wide=3.0)
CENTRE = Kind(name="payload centre", unit="m", share=0.2, scale=0.05, wide=0.3)
INERTIA = Kind(name="payload inertia", unit="kg m2", share=0.35, scale=0.003, wide=0.05)
KP = Kind(name="kp", unit="Nm/rad", share=0.15, scale=500.0, wide=5000.0)
KV = Kind(name="kv", unit="Nm s/rad", share=0.35, scale=20.0, wide=150.0)
DELAY = Kind(name="delay", unit="s", share=0.2, scale=0.005, wide=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One parameter.

    Attributes:
        kind: of it.
        which: "joint 3", "x"; empty where there is only one.
        value, sigma: and its standard deviation.
        low, high: the 95 % interval.
        why_not: why the log doesn't tell it; empty: it does. Its value then rests on the prior as well.
    """

    kind: Kind
    which: str
    value: float
    sigma: float
    low: float
    high: float
    why_not: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind.name} {self.which}".strip()

    @property
    def identifiable(self) -> bool:
        return not self.why_not


def estimate(kind: Kind, which: str, value: float, half: float, *, why_not: str = "") -> Estimate:
    """An estimate of `value` give or take `half` (95 %), with its verdict."""
    return Estimate(
        kind=kind,
        which=which,
        value=float(value),
        sigma=float(half / 1.96),
        low=float(value - half),
        high=float(value + half),
        why_not=why_not or too_wide(kind, value, half),
    )


def too_wide(kind: Kind, value: float, half: float) -> str:
    """In words, why an interval is too wide to tell anything; empty if it isn't."""
    bound = kind.share * max(abs(value), kind.scale)
    if half <= bound:
        return ""
    return f"interval +-{half:.2g} {kind.unit}, bound {bound:.2g}"


def collinear(names: list[str], correlation: Array) -> dict[int, str]:
    """By index, with which other parameter one is collinear, in words."""
    size = np.abs(correlation - np.eye(len(names)))
    found = {}
    for k in np.flatnonzero(size.max(axis=1, initial=0.0) > COLLINEAR):
        other = int(np.argmax(size[k]))
        found[int(k)] = f"collinear with {names[other]} ({correlation[k, other]:+.3f})"
    return found
