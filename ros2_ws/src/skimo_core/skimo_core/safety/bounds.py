"""How far a motion goes: bounds on a quintic's position, velocity, acceleration and jerk that hold at every instant.

A polynomial lies within the convex hull of its Bernstein coefficients (Farin, "Curves and Surfaces for CAGD", 4.3).
Each segment is cut into `PIECES` equal parts, and their coefficients are the bound: never below what the motion does,
above it by at most half a hundredth of what it varies by in the segment (tests), and exact at the ends. One product
of matrices, no sampling, no root finding.
Pure. Units rad, s. Dimensions: S segments, P = S * PIECES parts, C coefficients of a part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..contract.types import Array

DEGREE = 5
PIECES = 16
DERIVATIVES = 4
"""Position, velocity, acceleration, jerk."""


def _bernstein(degree: int) -> Array:
    """[(degree + 1) * PIECES, degree + 1]: from powers of tau in [0, 1] to the coefficients of all parts."""
    parts = np.zeros((PIECES, degree + 1, degree + 1))
    for k in range(PIECES):
        for power in range(degree + 1):
            # tau = (k + u) / PIECES; tau^power = sum over j of binom(power, j) u^j k^(power - j) / PIECES^power
            for j in range(power + 1):
                weight = math.comb(power, j) * float(k) ** (power - j) / PIECES**power
                for i in range(j, degree + 1):
                    parts[k, i, power] += weight * math.comb(i, j) / math.comb(degree, j)
    return parts.transpose(1, 0, 2).reshape(-1, degree + 1)


_TO_BERNSTEIN = tuple(_bernstein(DEGREE - d) for d in range(DERIVATIVES))
_FACTORS = tuple(
    np.array([math.perm(power, d) for power in range(d, DEGREE + 1)], dtype=np.float64) for d in range(DERIVATIVES)
)


def control_values(coefficients: Array, durations_s: Array, derivative: int) -> Array:
    """Bernstein coefficients [C, P, J] of a derivative of quintics [S, 6, J] in s, each lasting `durations_s` [S]."""
    size = DEGREE + 1 - derivative
    scaled = coefficients[:, derivative:] * _FACTORS[derivative][:, None]
    scaled = scaled * (durations_s[:, None] ** np.arange(size))[:, :, None]
    values = _TO_BERNSTEIN[derivative] @ scaled.transpose(1, 0, 2).reshape(size, -1)
    return values.reshape(size, -1, coefficients.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Between which values each part of a motion stays: `low` and `high`, each [P, 7]."""

    low: Array
    high: Array

    @property
    def size(self) -> Array:
        """The larger of the two in absolute value, [P, 7]."""
        return np.maximum(-self.low, self.high)


def extents(coefficients: Array, durations_s: Array) -> tuple[Extent, Extent, Extent, Extent]:
    """Extents of position, velocity, acceleration and jerk of quintics [S, 6, 7] lasting `durations_s` [S]."""
    found = []
    for derivative in range(DERIVATIVES):
        values = control_values(coefficients, durations_s, derivative)
        found.append(Extent(low=values.min(axis=0), high=values.max(axis=0)))
    return found[0], found[1], found[2], found[3]
