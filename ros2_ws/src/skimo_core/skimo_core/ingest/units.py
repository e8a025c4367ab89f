"""Units that recordings use, and by how much each is multiplied to become another of its kind.

A unit is a name out of `FACTORS`; compound ones are `unit/s`. "1" is a number without unit.
"""

from __future__ import annotations

import math

from ..contract.errors import SpecError

FACTORS: dict[str, tuple[str, float]] = {
    "rad": ("angle", 1.0),
    "mrad": ("angle", 1e-3),
    "deg": ("angle", math.pi / 180),
    "turn": ("angle", 2 * math.pi),
    "m": ("length", 1.0),
    "cm": ("length", 1e-2),
    "mm": ("length", 1e-3),
    "inch": ("length", 0.0254),
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "N": ("force", 1.0),
    "Nm": ("torque", 1.0),
    "1": ("number", 1.0),
    "%": ("number", 1e-2),
}
"""Of each: what it measures, and how many of the first unit of its kind it is."""
OTHER_NAMES = {
    "radian": "rad", "radians": "rad", "degree": "deg", "degrees": "deg", "metre": "m", "meter": "m", "metres": "m",
    "meters": "m", "millimetre": "mm", "millimeter": "mm", "millimeters": "mm", "centimeter": "cm", "percent": "%",
}  # fmt: skip
"""What sources also call them."""


def known(unit: str) -> bool:
    """Whether it is a unit of this file."""
    return _base(unit)[0] in FACTORS


def factor(theirs: str, ours: str) -> float:
    """What a number in `theirs` is multiplied by to be one in `ours`.

    Raises:
        SpecError: a unit that isn't known, or one of another kind.
    """
    (base, per), (base_ours, per_ours) = _base(theirs), _base(ours)
    if theirs == ours:
        return 1.0
    for name, whole in ((base, theirs), (base_ours, ours)):
        if name not in FACTORS:
            raise SpecError(
                f"unit {whole!r} is not known; known are {', '.join(FACTORS)}, and each of them per second (/s)"
            )
    (kind, one), (kind_ours, one_ours) = FACTORS[base], FACTORS[base_ours]
    if (kind, per) != (kind_ours, per_ours):
        raise SpecError(f"unit {theirs!r} can't become {ours!r}: {_kind(kind, per)} is no {_kind(kind_ours, per_ours)}")
    return one / one_ours


def _base(unit: str) -> tuple[str, bool]:
    """The unit without "/s" by its name here, and whether it had that."""
    name, per, _ = unit.partition("/s")
    return OTHER_NAMES.get(name.lower(), name), bool(per)


def _kind(kind: str, per: bool) -> str:
    return f"{kind} per second" if per else kind
