"""A joint log made ready for regression: one clock, zero-phase low-pass filters, derivatives.

Both sides of a linear model go through the same filter, nonlinear columns after they are formed, so that the filter
biases nothing. Filters run forward and backward over the log, which leaves no delay; what they see less than `EDGE_S`
from an end of the log is left out. Units rad, s, Nm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.signal

from skimo_core.contract.types import Array

from .logs import JointLog

CUTOFF_HZ = 10.0
"""Of the filter over both sides of a model. Benchmarks tell 5 to 20 Hz apart by less than the estimates' errors."""
PRE_HZ = 30.0
"""Of the filter before anything nonlinear or a derivative."""
ROWS_HZ = 2.5 * CUTOFF_HZ
"""How many rows a second are left: about as many as the filter leaves independent of one another."""
EDGE_S = 0.3
ORDER = 4
NYQUIST_SHARE = 0.6
"""Of half a log's rate, that a filter's corner may have at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """A log on an even clock, filtered before anything else is done.

    Attributes:
        rate_hz: of the rows below.
        t_s: [K].
        q_rad, dq_rad_s, ddq_rad_s2, tau_nm: [K, J] measured; accelerations are the velocities' derivatives.
        desired: q, dq, ddq [K, J] of the reference; None: not in the log.
    """

    rate_hz: float
    t_s: Array
    q_rad: Array
    dq_rad_s: Array
    ddq_rad_s2: Array
    tau_nm: Array
    desired: tuple[Array, Array, Array] | None = None

    @property
    def rows(self) -> slice:
        """Those that are fit for regression."""
        edge = round(EDGE_S * self.rate_hz)
        return slice(edge, len(self.t_s) - edge, max(1, round(self.rate_hz / ROWS_HZ)))

    def smooth(self, columns: Array) -> Array:
        """Columns [K, ...] through the filter that both sides of a model go through."""
        return low_pass(columns, CUTOFF_HZ, self.rate_hz)

    def slope(self, columns: Array) -> Array:
        """Their derivative."""
        return np.gradient(columns, 1.0 / self.rate_hz, axis=0)

    def shifted(self, columns: Array, by_s: float) -> Array:
        """Columns [K, J] as they were `by_s` before."""
        at_s = self.t_s - by_s
        return np.stack([np.interp(at_s, self.t_s, column) for column in columns.T], axis=1)


def prepare(log: JointLog) -> Signals:
    """Put a log (`logs.checked`) on an even clock and filter it."""
    even_s = np.arange(log.t_s[0], log.t_s[-1], 1.0 / log.rate_hz)
    pre_hz = min(PRE_HZ, NYQUIST_SHARE * log.rate_hz / 2)
    every = max(1, int(log.rate_hz / (8 * pre_hz)))

    def even(values: Array) -> Array:
        columns = np.stack([np.interp(even_s, log.t_s, column) for column in values.T], axis=1)
        return low_pass(columns, pre_hz, log.rate_hz)

    def slope(values: Array) -> Array:
        return np.gradient(values, 1.0 / log.rate_hz, axis=0)

    q, dq, tau = even(log.q_rad), even(log.dq_rad_s), even(log.tau_nm)
    desired = None
    if log.q_desired_rad is not None:
        told = even(log.q_desired_rad)
        speed = slope(told) if log.dq_desired_rad_s is None else even(log.dq_desired_rad_s)
        desired = told[::every], speed[::every], slope(speed)[::every]
    return Signals(
        rate_hz=log.rate_hz / every,
        t_s=even_s[::every],
        q_rad=q[::every],
        dq_rad_s=dq[::every],
        ddq_rad_s2=slope(dq)[::every],
        tau_nm=tau[::every],
        desired=desired,
    )


def low_pass(values: Array, corner_hz: float, rate_hz: float) -> Array:
    """Values [K, ...] through a zero-phase Butterworth low-pass along time."""
    corner_hz = min(corner_hz, NYQUIST_SHARE * rate_hz / 2)
    sections = scipy.signal.butter(ORDER, corner_hz, fs=rate_hz, output="sos")
    return scipy.signal.sosfiltfilt(sections, values, axis=0)


def near(mask: npt.NDArray[np.bool_], within: int) -> npt.NDArray[np.bool_]:
    """[K, J] whether `mask` [K, J] holds anywhere within so many rows."""
    window = np.ones((2 * within + 1, 1))
    return scipy.signal.oaconvolve(mask.astype(np.float64), window, mode="same", axes=0) > 0.5
