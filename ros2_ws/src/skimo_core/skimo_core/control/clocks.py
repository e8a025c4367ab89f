"""Clocks that disagree: a driver's clock that lies ahead or behind, and the ROS clock that jumps.

    SkewWatch   how old states are when they come, at best: with clocks that agree, a little more than 0
    JumpWatch   whether the ROS clock and the steady clock have gone equally far since an episode began
Nothing here acts; the nodes tell the figures in /diagnostics, and an episode in which time jumped ends.
Times s.
"""

from __future__ import annotations

from collections.abc import Callable

SKEW_WINDOW_S = 2.0
AHEAD_S, BEHIND_S = 0.005, 0.03
"""Beyond these, states come from another clock (or, behind, over a slow network)."""


class SkewWatch:
    """The least age with which states came within the newest window or two: the driver's clock against ours."""

    def __init__(self) -> None:
        self._begun_s = 0.0
        self._least_s: float | None = None
        self._before_s: float | None = None

    def note(self, age_s: float, now_s: float) -> None:
        """A state came that was so old, by our clock."""
        if not 0 <= now_s - self._begun_s < SKEW_WINDOW_S:
            self._begun_s, self._before_s, self._least_s = now_s, self._least_s, None
        self._least_s = age_s if self._least_s is None else min(self._least_s, age_s)

    @property
    def skew_s(self) -> float | None:
        """How far the driver's clock lies behind ours, transport included; negative: ahead. None: nothing came yet."""
        known = [least_s for least_s in (self._least_s, self._before_s) if least_s is not None]
        return min(known) if known else None

    def words(self) -> str:
        """What is wrong with the driver's stamps; empty if nothing is."""
        skew_s = self.skew_s
        if skew_s is None or -AHEAD_S <= skew_s <= BEHIND_S:
            return ""
        if skew_s < 0:
            return f"the driver's stamps lie {-1e3 * skew_s:.0f} ms ahead of this node's clock; synchronise the clocks"
        return (
            f"robot states are {1e3 * skew_s:.0f} ms old at best when they come: the driver's clock lies behind, or "
            "the network is slow; synchronise the clocks"
        )


class JumpWatch:
    """Compares two clocks over an episode.

    Args:
        ros: the node's clock.
        steady: one that never jumps; None where the ROS clock is simulated and goes at a pace of its own: then only a
            step back counts as a jump.
        bound_s: how far they may drift apart (a slewing NTP moves a clock by up to 1 ms in 2 s, chrony by more).
    """

    def __init__(self, ros: Callable[[], float], steady: Callable[[], float] | None, bound_s: float) -> None:
        self._ros, self._steady, self._bound_s = ros, steady, bound_s
        self.restart()

    def restart(self) -> None:
        """Compare from now on."""
        self._newest_s = self._ros()
        self._apart_s = self._apart() if self._steady is not None else 0.0

    def words(self) -> str:
        """How far the clock jumped since the restart; empty if it did not."""
        now_s = self._ros()
        jump_s = self._apart() - self._apart_s if self._steady is not None else min(0.0, now_s - self._newest_s)
        self._newest_s = max(now_s, self._newest_s)
        if abs(jump_s) <= self._bound_s:
            return ""
        against = "the steady clock" if self._steady is not None else "what it showed before"
        return f"the ROS clock jumped by {jump_s:+.3f} s against {against} (bound {self._bound_s:.3f} s)"

    def _apart(self) -> float:
        assert self._steady is not None
        return self._ros() - self._steady()
