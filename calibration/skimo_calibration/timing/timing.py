"""What was where when: positions over time with everyone's stamps, and what was sent; checked before it tells anything.

A log whose clocks can't be trusted is refused with the reason and a remedy: stamps that go back, jump ahead, are in
milliseconds, or of another clock than the rest. Times s from the log's begin; joints rad, points m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array, JointTrajectory

LEAST = 50
"""Samples; fewer tell nothing of milliseconds."""
SLOWEST_S = 0.5
"""No driver sends states that rarely; a log that says so has them in milliseconds."""
GAP_S = 1.0
JUMP_S = 0.02
"""By so much may stamps and times of arrival drift apart from one second to the next."""
APART_S = 2.0
"""A trajectory that is sent so long before or after its own start is stamped by another clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Positions over time.

    Attributes:
        what: of what, in words.
        t_s: [K] stamps.
        values: [K, N] rad or m.
        came_s: [K] when each was received, by the receiver's clock; None: not known.
    """

    what: str
    t_s: Array
    values: Array
    came_s: Array | None = None

    def part(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Track:
        """Some of its samples."""
        came_s = None if self.came_s is None else self.came_s[rows]
        return replace(self, t_s=self.t_s[rows], values=self.values[rows], came_s=came_s)

    @property
    def transport_s(self) -> Array | None:
        """[K] from stamp to receipt."""
        return None if self.came_s is None else self.came_s - self.t_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A trajectory, and when it was sent, by the sender's clock."""

    sent_s: float
    trajectory: JointTrajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmLog:
    """An arm's log.

    Attributes:
        name, digest: of the file, and its SHA-256.
        begin_ns: what its times count from, since 1970.
        states: measured joint positions.
        reference: those that the driver told its own controller; None: not in the log.
        sent: what the driver was sent, oldest first.
    """

    name: str
    digest: str
    states: Track
    reference: Track | None
    sent: tuple[Sent, ...]
    begin_ns: int = 0


def checked(track: Track, where: str) -> Track:
    """The track, a stamp that comes twice taken once.

    Raises:
        SpecError: too few samples, not finite, or stamps that no one clock gives (see the module).
    """
    name = f"{where}: {track.what}"
    if len(track.t_s) < LEAST:
        raise SpecError(f"{name}: {len(track.t_s)} samples, needs at least {LEAST}; was the log cut short? Record anew")
    if not (np.isfinite(track.t_s).all() and np.isfinite(track.values).all()):
        raise SpecError(f"{name}: holds a number that is not finite; does its sender fill it?")
    steps_s = np.diff(track.t_s)
    if (steps_s < 0).any():
        k = int(np.argmax(steps_s < 0))
        raise SpecError(
            f"{name}: time goes back by {-steps_s[k]:.4f} s at sample {k + 1}; a clock was set, or two senders share "
            "the topic: synchronise the clocks (chrony, PTP), end the other sender, and record anew"
        )
    track = track.part(np.append(True, steps_s > 0))
    steps_s = np.diff(track.t_s)
    _refuse_slow(name, steps_s)
    if steps_s.max() > GAP_S:
        k = int(np.argmax(steps_s))
        raise SpecError(
            f"{name}: nothing for {steps_s[k]:.2f} s after {track.t_s[k]:.2f} s, bound {GAP_S:g} s; a clock jumped "
            "ahead, or messages were lost: synchronise the clocks, and record anew on a machine that keeps up"
        )
    _refuse_jump(name, track)
    return track


def check_sent(log: ArmLog) -> None:
    """Refuse commands that tell nothing.

    Raises:
        SpecError: none, or they are stamped by another clock than the states.
    """
    if not log.sent:
        raise SpecError(
            f"{log.name}: holds no trajectories to the driver; record an episode (skimo up, skimo start), or the topic "
            "of the driver's commands"
        )
    begin_s, end_s = log.states.t_s[0], log.states.t_s[-1]
    sent_s = np.array([sent.sent_s for sent in log.sent])
    if (sent_s < begin_s - APART_S).all() or (sent_s > end_s + APART_S).all():
        raise SpecError(
            f"{log.name}: trajectories were sent from {sent_s[0]:.1f} to {sent_s[-1]:.1f} s, joint states stamped from "
            f"{begin_s:.1f} to {end_s:.1f} s: not by one clock; record in real time (real_time_factor 1), clocks "
            "synchronised"
        )
    apart_s = np.median([sent.sent_s - sent.trajectory.start_s for sent in log.sent])
    if abs(apart_s) > APART_S:
        raise SpecError(
            f"{log.name}: trajectories are sent {apart_s:.1f} s after their own start, bound {APART_S:g} s: sender and "
            "stamps have other clocks; record in real time (real_time_factor 1), clocks synchronised"
        )


def _refuse_slow(name: str, steps_s: Array) -> None:
    step_s = float(np.median(steps_s))
    if step_s > SLOWEST_S:
        raise SpecError(
            f"{name}: one comes every {step_s:g} s, bound {SLOWEST_S:g} s; are the stamps in milliseconds? Write s"
        )


def _refuse_jump(name: str, track: Track) -> None:
    """A clock that was set is seen by the other one's going on."""
    late_s = track.transport_s
    if late_s is None:
        return
    seconds = np.floor(track.t_s - track.t_s[0]).astype(int)
    least_s = np.array([late_s[seconds == second].min() for second in np.unique(seconds)])
    jumps_s = np.diff(least_s)
    if len(jumps_s) and np.abs(jumps_s).max() > JUMP_S:
        k = int(np.argmax(np.abs(jumps_s)))
        raise SpecError(
            f"{name}: stamps jump by {-1e3 * jumps_s[k]:.0f} ms against the times at which they came, {k + 1} s after "
            f"the begin, bound {1e3 * JUMP_S:.0f} ms; synchronise the clocks (chrony, PTP) and record anew"
        )
