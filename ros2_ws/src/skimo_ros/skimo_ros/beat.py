"""When control periods are due: absolute times, so that a late tick does not delay the next."""

from __future__ import annotations

from rclpy.clock import Clock


class Beat:
    """Counts periods from a restart; the timer that wakes the node has the same period and restarts with it."""

    def __init__(self, period_s: float, clock: Clock) -> None:
        self.period_s = period_s
        self.clock = clock
        self.restart()

    def restart(self) -> None:
        """The first period is due one period from now."""
        self._start_s = self._now_s()
        self._expected = 1

    def take(self) -> tuple[float, int]:
        """How late this tick is (s, at least 0), and how many periods before it were slept through."""
        since_s = self._now_s() - self._start_s
        index = max(self._expected, int(since_s / self.period_s + 1e-3))
        skipped, self._expected = index - self._expected, index + 1
        return max(0.0, since_s - index * self.period_s), skipped

    def _now_s(self) -> float:
        return self.clock.now().nanoseconds * 1e-9
