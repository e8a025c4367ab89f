"""Signals brought to a control rate.

    as they are   where the wanted times fall onto rows (within a thousandth of a period) of a source that is no faster
    low-pass      of a source that is faster: a windowed sinc (Hann), zero-phase, that passes half of what lies at 0.4
                  of the wanted rate and nothing from 0.5 on, so that nothing is folded back (Oppenheim and Schafer,
                  Discrete-Time Signal Processing, ch. 4 and 7); the ends are mirrored through their last value
    linear        between rows, after that
    turn          quaternions: continuous in sign, the above, then length 1; the first row has w >= 0
    nearest       the row nearest in time: for fingers, which would overshoot, and for what is no quantity
    held mean     an action stands until the next one: its mean over each period

Pure; times in s, values in any unit.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError
from ..contract.types import Array

Indices = npt.NDArray[np.int64]
ON_ROW = 1e-3
"""Share of a period within which a time is a row's."""
PASSED = 0.4
"""Of the wanted rate: where the low-pass has half its amplitude."""
TRANSITION = 0.2
"""Of the wanted rate: from all to nothing."""
HANN_WIDTH = 3.1
"""A Hann window's transition times its length, cycles per sample (Harris 1978)."""
FASTER = 1.05
"""A source up to so many times the wanted rate is not faster."""
UNIT_LENGTH = 0.05
"""How far from 1 a quaternion's length may lie, so that it still is one."""


def resample(times_s: Array, values: Array, wanted_s: Array, between: str) -> Array:
    """Values [N, C] at wanted times [N], evenly spaced, of rows [T, C] at rising times that cover them.

    Raises:
        EpisodeError: what should be a quaternion isn't one.
    """
    if between == "turn":
        values = _continuous(values)
    period_s = float(wanted_s[1] - wanted_s[0]) if len(wanted_s) > 1 else 1.0
    rows = nearest(times_s, wanted_s)
    on_rows = bool((np.abs(times_s[rows] - wanted_s) <= ON_ROW * period_s).all())
    if between == "nearest" or (on_rows and not _is_faster(times_s, period_s)):
        made = values[rows]
    else:
        if _is_faster(times_s, period_s):
            times_s, values = _low_passed(times_s, values, period_s)
        made = np.stack([np.interp(wanted_s, times_s, column) for column in values.T], axis=1)
    if between == "turn":
        made = made / np.linalg.norm(made, axis=1, keepdims=True)
        return -made if made[0, 0] < 0 else made
    return made


def nearest(times_s: Array, wanted_s: Array) -> Indices:
    """Index [N] of the row nearest to each wanted time."""
    if len(times_s) == 1:
        return np.zeros(len(wanted_s), np.int64)
    after = np.clip(np.searchsorted(times_s, wanted_s), 1, len(times_s) - 1)
    earlier = wanted_s - times_s[after - 1] <= times_s[after] - wanted_s
    return (after - earlier).astype(np.int64)


def standing(times_s: Array, wanted_s: Array) -> Indices:
    """Index [N] of the row that stands at each wanted time: the last before or at it, the first before that."""
    slack_s = ON_ROW * (float(np.median(np.diff(wanted_s))) if len(wanted_s) > 1 else 1.0)
    before = np.searchsorted(times_s, wanted_s + slack_s, side="right") - 1
    return np.clip(before, 0, len(times_s) - 1).astype(np.int64)


def held_means(times_s: Array, values: Array, wanted_s: Array) -> Array:
    """Means [N - 1, C] between wanted times [N] of rows that each stand until the next, the last for ever."""
    period_s = float(wanted_s[1] - wanted_s[0])
    rows = nearest(times_s, wanted_s[:-1])
    if (np.abs(times_s[rows] - wanted_s[:-1]) <= ON_ROW * period_s).all() and not _is_faster(times_s, period_s):
        return values[rows]
    ends_s = np.append(times_s, max(times_s[-1], wanted_s[-1]) + period_s)
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values * np.diff(ends_s)[:, None], axis=0)])
    at = np.stack([np.interp(wanted_s, ends_s, column) for column in sums.T], axis=1)
    before_s = np.clip(times_s[0] - wanted_s, 0.0, None)[:, None]  # the first stands in before it was told
    at -= before_s * values[:1]
    return np.diff(at, axis=0) / period_s


def low_pass(ratio: float) -> Array:
    """Taps [2 M + 1] of the low-pass for a source `ratio` times as fast; they add up to 1."""
    half = math.ceil(HANN_WIDTH * ratio / TRANSITION / 2)
    at = np.arange(-half, half + 1)
    taps = np.sinc(2 * PASSED / ratio * at) * np.hanning(2 * half + 3)[1:-1]
    return taps / taps.sum()


def _is_faster(times_s: Array, period_s: float) -> bool:
    return len(times_s) > 2 and float(np.median(np.diff(times_s))) * FASTER < period_s


def _low_passed(times_s: Array, values: Array, period_s: float) -> tuple[Array, Array]:
    """The rows on an even grid of their own rate, filtered."""
    step_s = float(np.median(np.diff(times_s)))
    count = max(2, round((times_s[-1] - times_s[0]) / step_s) + 1)
    even_s = np.linspace(times_s[0], times_s[-1], count)
    even = np.stack([np.interp(even_s, times_s, column) for column in values.T], axis=1)
    taps = low_pass(period_s / (even_s[1] - even_s[0]))
    half = len(taps) // 2
    padded = np.pad(even, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    return even_s, np.stack([np.convolve(column, taps, mode="valid") for column in padded.T], axis=1)


def _continuous(quaternions: Array) -> Array:
    """Quaternions [T, 4] of length 1 that don't change sides."""
    lengths = np.linalg.norm(quaternions, axis=1)
    worst = int(np.argmax(np.abs(lengths - 1)))
    if abs(lengths[worst] - 1) > UNIT_LENGTH:
        raise EpisodeError(
            f"the quaternion in row {worst} has length {lengths[worst]:.4g}, must be 1; are these its columns?"
        )
    unit = quaternions / lengths[:, None]
    flips = np.cumprod(np.where(np.append(1.0, (unit[1:] * unit[:-1]).sum(1)) < 0, -1.0, 1.0))
    return unit * flips[:, None]
