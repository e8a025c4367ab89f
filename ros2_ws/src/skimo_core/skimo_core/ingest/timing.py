"""When the rows of a bag were: by the messages' own stamps where these can be true, else by the log.

A stamp can be true that lies within MAX_SKEW_S of the time at which its message was logged. A topic all of whose stamps
can be true is timed by them; any other by the log, which is late by the transport but of one clock. A log time of 0 is
none (some writers log latched messages so): such a row is timed by its stamp if that lies within the session, else it
is left out, or stands at the session's start if its topic has no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract.errors import EpisodeError
from .rows import NO_STAMP, Rows

MAX_SKEW_S = 1.0
MAX_SESSION_S = 86400.0
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A topic's times.

    Attributes:
        times_ns: [R] of its rows; those that aren't `kept` hold 0.
        kept: [R] rows that have a time.
        note: by which clock, and what is odd; empty: by stamps, nothing odd.
        static: whether its only rows have no time, and stand at the session's start.
    """

    times_ns: np.ndarray
    kept: np.ndarray
    note: str = ""
    static: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """First and last time at which anything of a session was logged, ns."""

    first_ns: int
    last_ns: int

    def holds(self, times_ns: np.ndarray) -> np.ndarray:
        """Which times lie in it, or less than MAX_SKEW_S beside it."""
        slack = int(MAX_SKEW_S * _NS)
        return (times_ns >= self.first_ns - slack) & (times_ns <= self.last_ns + slack)


def span_of(topics: list[Rows]) -> Span:
    """Of a session.

    Raises:
        EpisodeError: no message has a time, or they are days apart; names topic and times.
    """
    firsts: list[tuple[int, str]] = []
    lasts: list[tuple[int, str]] = []
    for rows in topics:
        for times in (rows.log_ns, rows.stamp_ns):
            known = np.array(times, np.int64)
            known = known[known > 0]
            if len(known):
                firsts.append((int(known.min()), rows.name))
                lasts.append((int(known.max()), rows.name))
                break  # stamps count only where nothing was logged with a time
    if not firsts:
        raise EpisodeError("no message has a time: log times and stamps are all 0; record it again with a clock")
    first, last = min(firsts), max(lasts)
    if last[0] - first[0] > MAX_SESSION_S * _NS:
        raise EpisodeError(
            f"times go from {_said(first[0])} ({first[1]}) to {_said(last[0])} ({last[1]}), more than "
            f"{MAX_SESSION_S:g} s: two clocks are mixed; leave out the messages of one, or mend their log times"
        )
    return Span(first_ns=first[0], last_ns=last[0])


def timed(rows: Rows, span: Span) -> Timed:
    """When a topic's rows were."""
    log_ns, stamp_ns = np.array(rows.log_ns, np.int64), np.array(rows.stamp_ns, np.int64)
    logged = log_ns > 0
    stamped = stamp_ns != NO_STAMP
    near = stamped & np.where(logged, np.abs(stamp_ns - log_ns) <= MAX_SKEW_S * _NS, span.holds(stamp_ns))
    if not logged.any() and not near.any():
        return Timed(
            times_ns=np.full(len(log_ns), span.first_ns),
            kept=np.arange(len(log_ns)) == len(log_ns) - 1,
            note=f"{rows.name}: has no times (log time 0); its last message stands at the start",
            static=True,
        )
    by_stamp = bool(near[logged].all()) if logged.any() else True
    kept = near if by_stamp else logged
    note = "" if by_stamp else _why_logged(rows.name, log_ns[logged], stamp_ns[logged], stamped[logged])
    if lost := int((~kept).sum()):
        note += "; " if note else f"{rows.name}: "
        note += f"{lost} of {len(kept)} messages have no time (log time 0) and are left out"
    return Timed(times_ns=np.where(kept, stamp_ns if by_stamp else log_ns, 0), kept=kept, note=note)


def _why_logged(name: str, log_ns: np.ndarray, stamp_ns: np.ndarray, stamped: np.ndarray) -> str:
    if not stamped.any():
        return f"{name}: has no stamps, timed by the log"
    furthest = np.abs(stamp_ns - log_ns)[stamped].max() / _NS
    return f"{name}: its stamps lie up to {furthest:.3g} s from the log, bound {MAX_SKEW_S:g} s; timed by the log"


def _said(time_ns: int) -> str:
    return f"{time_ns / _NS:.3f} s"
