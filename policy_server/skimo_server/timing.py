"""Where the milliseconds go: a stopwatch over named stages, and percentiles of what it found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

Clock = Callable[[], float]


class Stages:
    """Adds up the time spent in each stage; `clock` gives seconds."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._start_s = clock()
        self._spent_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began_s = self._clock()
        try:
            yield
        finally:
            self._spent_s[stage] = self._spent_s.get(stage, 0.0) + self._clock() - began_s

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds per stage, and "total" since this stopwatch was made."""
        spent = {**self._spent_s, "total": self._clock() - self._start_s}
        return {stage: round(1e3 * seconds, 4) for stage, seconds in spent.items()}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 90th, 99th percentile and maximum; all NaN-free, zeros for no values."""
    if not values:
        return {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99), "max": float(max(values))}
