"""All messages of a bag, in whatever encoding, gathered into one session.

Who reads a storage calls `add` for each decoded message, then `finish`. See `rows` for what becomes a signal, `timing`
for when its rows were.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract.errors import EpisodeError
from .cdr import Nanoseconds
from .files import MAX_SIGNALS, check_size
from .rows import NO_STAMP, Rows, stamp_of
from .source import Signal
from .timing import Span, Timed, span_of, timed

_ROBOT = re.compile(r"<robot\b[^>]*\bname\s*=\s*[\"']([^\"']{1,80})[\"']")
_TRAJECTORY = {"joint_names", "points"}
_CHECK_EVERY = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a bag holds, as signals.

    Attributes:
        signals: by name, on times from the session's start.
        robot: that a robot_description in it names; empty: none.
        notes: what was skipped, and by which clock it is timed.
    """

    signals: dict[str, Signal]
    robot: str
    notes: tuple[str, ...]


class Gather:
    """Takes a bag's messages."""

    def __init__(self) -> None:
        self.robot = ""
        self._topics: dict[str, Rows] = {}
        self._children: dict[str, dict[str, Rows]] = {}
        self._types: dict[str, str] = {}
        self._plans: dict[str, list[tuple[int, int, dict[str, Any]]]] = {}
        self._unread: dict[str, str] = {}
        self._lost: dict[str, int] = {}
        self._added = 0

    def unread(self, topic: str, kind: str, why: str) -> None:
        """A topic whose messages can't be read at all."""
        self._unread[topic] = f"{topic} ({kind}) is skipped: {why}"

    def damaged(self, topic: str, kind: str) -> None:
        """A message that was left out."""
        self._types.setdefault(topic, kind)
        self._lost[topic] = self._lost.get(topic, 0) + 1

    def add(self, topic: str, kind: str, log_ns: int, message: dict[str, Any]) -> None:
        """One message.

        Raises:
            EpisodeError: it contradicts itself, or the bag is too big.
        """
        self._types[topic] = kind
        if log_ns < 0 or log_ns >= 1 << 63:
            raise EpisodeError(f"{topic}: a message was logged at {log_ns} ns, must lie in 0 to 2^63")
        transforms = message.get("transforms")
        if isinstance(transforms, list) and all(isinstance(t, dict) and "child_frame_id" in t for t in transforms):
            for transform in transforms:
                self._add_child(topic, log_ns, transform)
        elif "child_frame_id" in message:
            self._add_child(topic, log_ns, message)
        elif message.keys() >= _TRAJECTORY and isinstance(message["points"], list):
            self._plans.setdefault(topic, []).append((log_ns, stamp_of(message), message))
        else:
            self._put(self._rows(topic), log_ns, message)
        self._added += 1
        if self._added % _CHECK_EVERY == 0:
            check_size(sum(rows.values for rows in self._all()), "the bag so far")

    def finish(self) -> Content:
        """The session's signals.

        Raises:
            EpisodeError: nothing in it is a number over time (says what it holds); or its times can't be true.
        """
        for topic, plans in self._plans.items():
            _unroll(self._rows(topic), plans)
        topics = [rows for rows in self._all() if rows.values]
        notes = [*self._unread.values(), *self._told()]
        if not topics:
            raise EpisodeError(
                f"holds nothing that is a number over time: {self._held()}; record the topics of the joints, the "
                "objects and the commands"
            )
        check_size(sum(rows.values for rows in topics), "the bag")
        span = span_of(topics)
        when = [timed(rows, span) for rows in topics]
        start_ns = min(int(times.times_ns[times.kept].min()) for times in when)
        signals: dict[str, Signal] = {}
        for rows, times in zip(topics, when):
            notes += [times.note] if times.note else []
            notes += _signals_of(rows, times, span, start_ns, signals)
        if len(signals) > MAX_SIGNALS:
            raise EpisodeError(f"holds {len(signals):,} signals, at most {MAX_SIGNALS:,}; leave topics out")
        return Content(signals=signals, robot=self.robot, notes=tuple(notes))

    def _rows(self, topic: str) -> Rows:
        rows = self._topics.get(topic)
        if rows is None:
            rows = self._topics[topic] = Rows(topic)
        return rows

    def _add_child(self, topic: str, log_ns: int, transform: dict[str, Any]) -> None:
        child = str(transform["child_frame_id"]).lstrip("/")
        children = self._children.setdefault(topic, {})
        if child not in children and len(children) >= MAX_SIGNALS:
            raise EpisodeError(f"{topic}: has transforms of more than {MAX_SIGNALS} frames; leave the topic out")
        inner = transform.get("transform")
        rows = children.get(child)
        if rows is None:
            rows = children[child] = Rows(f"{topic}.{child}")
        self._put(rows, log_ns, transform if not isinstance(inner, dict) else inner, of=transform)

    def _put(self, rows: Rows, log_ns: int, message: dict[str, Any], of: dict[str, Any] | None = None) -> None:
        whole = of or message
        header = whole.get("header")
        frame = header.get("frame_id") if isinstance(header, dict) else whole.get("frame_id")
        if isinstance(frame, str) and frame and len(rows.frames) <= 8:
            rows.frames[frame] = None
        text = whole.get("data")
        if isinstance(text, str) and not self.robot and (match := _ROBOT.search(text[:4096])):
            self.robot = match[1]
        rows.add(log_ns, stamp_of(whole), message)

    def _all(self) -> list[Rows]:
        for topic, children in self._children.items():
            if len(children) == 1 and topic not in self._topics and "TFMessage" not in self._types[topic]:
                next(iter(children.values())).name = topic
        return [*self._topics.values(), *(rows for children in self._children.values() for rows in children.values())]

    def _told(self) -> list[str]:
        """What was left out of each topic, and frames that change."""
        notes: list[str] = []
        for rows in self._all():
            if rows.skipped:
                kind = self._types.get(rows.name, "")
                what = "; ".join(f"{name} {why}" for name, why in list(rows.skipped.items())[:8])
                notes.append(f"{rows.name}{f' ({kind})' if kind else ''}: skipped: {what}")
            if len(rows.frames) > 1:
                notes.append(f"{rows.name}: in several frames by turns ({', '.join(list(rows.frames)[:8])})")
        return [*notes, *(f"{topic}: {count} damaged messages left out" for topic, count in self._lost.items())]

    def _held(self) -> str:
        counts = {name: len(rows.log_ns) for name, rows in self._topics.items()}
        counts |= {name: sum(len(r.log_ns) for r in children.values()) for name, children in self._children.items()}
        told = [f"{name} ({self._types[name]}, {count} messages)" for name, count in counts.items()]
        told += [f"{name} ({self._types[name]}, {count} damaged messages)" for name, count in self._lost.items()]
        return "; ".join([*told, *self._unread.values()][:12]) or "no messages at all"


def _signals_of(rows: Rows, times: Timed, span: Span, start_ns: int, signals: dict[str, Signal]) -> list[str]:
    """Puts a topic's signals among the others, sorted by time; what is to be told of them."""
    notes: list[str] = []
    grids: dict[bytes, np.ndarray] = {}
    for found in rows.gathered():
        kept = times.kept[found.rows]
        at_ns = times.times_ns[found.rows][kept]
        order = np.argsort(at_ns, kind="stable")
        times_s = (at_ns[order] - start_ns) / 1e9
        if found.missing:
            notes.append(f"{found.name}: {found.missing} values are NaN: not every message has every column")
        if len(found.rows) < len(rows.log_ns):
            notes.append(f"{found.name}: {len(found.rows)} of the topic's {len(rows.log_ns)} messages have it")
        if not len(at_ns):
            continue
        signals[found.name] = Signal(
            name=found.name,
            columns=found.columns,
            times_s=grids.setdefault(times_s.tobytes(), times_s),
            values=found.values[kept][order],
        )
    return notes


def _unroll(rows: Rows, plans: list[tuple[int, int, dict[str, Any]]]) -> None:
    """Joint trajectories as rows of points; those that the next message takes the place of are left out."""
    single = all(len(message["points"]) <= 1 for _, _, message in plans)
    dropped = 0
    for index, (log_ns, stamp_ns, message) in enumerate(plans):
        after_ns = plans[index + 1][0] - log_ns if index + 1 < len(plans) else None
        for point in message["points"]:
            if not isinstance(point, dict):
                raise EpisodeError(f"{rows.name}: a trajectory's point is {str(point)[:40]!r}, must be a message")
            later = point.get("time_from_start")
            later_ns = 0 if single or not isinstance(later, Nanoseconds) else int(later)
            if after_ns is not None and later_ns and later_ns >= after_ns:
                dropped += 1
                continue
            row = {"joint_names": message["joint_names"], **{k: v for k, v in point.items() if k != "time_from_start"}}
            stamped = stamp_ns > 0
            rows.add(log_ns + later_ns, stamp_ns + later_ns if stamped else NO_STAMP, row)
    if dropped:
        rows.skipped["points"] = f"of which {dropped} were never reached: the next trajectory took their place"
