"""What a mapping takes of one session, at the session's own times, and where its episodes may begin and end.

Times are seconds from the session's start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..contract.errors import EpisodeError
from ..domain.domain import Domain
from ..domain.pose import Pose
from ..domain.robot import RobotLimits
from ..domain.rotations import turned
from . import splitting
from .actions import ActionMaker
from .mapping import SAME, ChannelEntry, Columns, Mapping
from .source import Session
from .splitting import Span
from .taking import Taken, find_signal, index_of, take

Entries = list[tuple[ChannelEntry, Taken | None]]


class Notes:
    """What a reader should know, each once, and how often it was so."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, words: str) -> None:
        self._counts[words] = self._counts.get(words, 0) + 1

    def told(self) -> tuple[str, ...]:
        return tuple(f"{words} ({count} times)" if count > 1 else words for words, count in self._counts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Of a session.

    Attributes:
        entries: of channels, each with its numbers; None: constant.
        actions: makes the actions.
        row_s: between rows of a session that only counts them; None: its times are seconds.
        gaps, jumps: spans without a row that are too long, and between which rows joints move as no arm could; with
            words for each.
    """

    session: Session
    mapping: Mapping
    domain: Domain
    robot: RobotLimits
    entries: tuple[tuple[ChannelEntry, Taken | None], ...]
    actions: ActionMaker
    row_s: float | None
    gaps: tuple[tuple[str, Span], ...]
    jumps: tuple[tuple[str, Span], ...]

    @property
    def channels(self) -> list[Taken]:
        """What is taken for channels."""
        return [part for _, part in self.entries if part is not None]

    def seconds(self, span: Span) -> float:
        """Of the session that lie in a span."""
        first = min(float(part.times_s[0]) for part in self.channels)
        last = max(float(part.times_s[-1]) for part in self.channels)
        return max(0.0, min(span[1], last) - max(span[0], first))


def parts_of(session: Session, mapping: Mapping, domain: Domain, robot: RobotLimits, notes: Notes) -> Parts:
    """Take what the mapping names.

    Raises:
        EpisodeError: a field can't be taken, or nobody says the rate of its rows.
    """
    row_s = _row_s(session, mapping)
    units = dict(zip(domain.observation.names, domain.observation.units))
    entries: Entries = []
    for entry in mapping.channels:
        ours = _units(entry, tuple(units[name] for name in entry.channels))
        taken = None if entry.taken is None else take(session, entry.taken, ours, mapping.widths, row_s)
        entries.append((entry, taken if taken is None or entry.frame is None else _framed(entry, entry.frame, taken)))
    if not any(taken for _, taken in entries):
        raise EpisodeError(f"mapping {mapping.name}: every channel is constant; at least one must come from a field")
    actions = ActionMaker.of(session, mapping, domain, robot, row_s)
    parts = Parts(
        session=session,
        mapping=mapping,
        domain=domain,
        robot=robot,
        entries=tuple(entries),
        actions=actions,
        row_s=row_s,
        gaps=_gaps(entries, actions, mapping, domain),
        jumps=_jumps(entries, domain, robot),
    )
    for part in (*parts.channels, *actions.parts):
        _note_left_out(part, notes)
    return parts


def spans_of(parts: Parts, notes: Notes, *, one_episode: bool) -> list[Span]:
    """Where episodes are: between marked ends, and split at gaps and jumps where the mapping says so.

    Raises:
        EpisodeError: no end is marked, and nobody says what that means.
    """
    rules, session = parts.mapping.episodes, parts.session
    rules = replace(rules, one_episode=True) if one_episode else rules
    rows_s = next(iter(session.signals.values())).times_s * (parts.row_s or 1.0)
    spans = splitting.marked(session, rows_s, rules)
    for rule, found in (("gap", parts.gaps), ("jump", parts.jumps)):
        holes = {hole: words for words, hole in found if splitting.inside(hole, spans)}
        if getattr(rules, rule) == "split" and holes:
            spans = splitting.without(spans, sorted(holes))
            at_s, first = min(holes)[0], holes[min(holes)]
            notes.add(f"session {session.name}: split at {len(holes)} {rule}s, the first at {at_s:.2f} s: {first}")
    return spans


def check_unbroken(parts: Parts, span: Span) -> None:
    """Raises EpisodeError if there is a gap or a jump within the span."""
    for words, hole in parts.gaps:
        if splitting.inside(hole, [span]):
            raise EpisodeError(
                f"{words} after {hole[0]:.3f} s; allow more with episodes: {{gap_s: SECONDS}}, or split there with "
                "{gap: split}"
            )
    for words, hole in parts.jumps:
        if splitting.inside(hole, [span]):
            raise EpisodeError(
                f"{words}; an episode's end is not marked there (split there with episodes: {{jump: split}}), or the "
                "data is of another rate or unit"
            )


def _gaps(entries: Entries, actions: ActionMaker, mapping: Mapping, domain: Domain) -> tuple[tuple[str, Span], ...]:
    """In channels and motions; a hand's command may stand as long as it likes."""
    parts = [part for part in (*(part for _, part in entries), actions.arm, actions.others) if part is not None]
    found = splitting.gaps(parts, mapping.episodes, domain.action.period_s)
    return tuple((f"field {name} has no row for {last - first:.3g} s", (first, last)) for name, (first, last) in found)


def _jumps(entries: Entries, domain: Domain, robot: RobotLimits) -> tuple[tuple[str, Span], ...]:
    joints = domain.observation.names[: domain.observation.joints]
    found: list[tuple[str, Span]] = []
    for entry, part in entries:
        columns = {k: joints.index(name) for k, name in enumerate(entry.channels) if name in joints}
        if part is not None and columns:
            found += splitting.jumps(part, columns, joints, robot)
    return tuple(found)


def described(session: Session, mapping: Mapping, domain: Domain) -> str:
    """What a mapping does with the session's fields, in a line."""
    names = domain.observation.names
    fields: dict[str, list[int]] = {}
    for entry in mapping.channels:
        if entry.taken is not None:
            signal = find_signal(session, entry.taken, mapping.widths)
            fields.setdefault(signal.name, []).extend(index_of(signal, entry.taken, 0))
    said = [
        f"{name} ({session.signals[name].values.shape[1]} columns, of which {', '.join(_runs(kept))})"
        for name, kept in fields.items()
    ]
    moved = [words for entry in mapping.channels if entry.taken for words in _moved(entry, entry.taken, domain)]
    constant = [name for entry in mapping.channels if entry.taken is None for name in entry.channels]
    rate = f" at {mapping.rate_hz:g} rows a second" if mapping.rate_hz and session.rate_hz is None else ""
    words = f"mapping {mapping.name}: {len(names)} channels from {', '.join(said)}{rate}"
    words += f"; moved: {', '.join(moved)}" if moved else ""
    return words + (f"; constant: {', '.join(constant)}" if constant else "")


def _units(entry: ChannelEntry, ours: tuple[str, ...]) -> tuple[str, ...]:
    """Of the columns that are taken for channels of these units."""
    if entry.between == "yaw":
        return ("1",) * 4
    if entry.axes:
        return (ours[0],) * 3
    return ours[: 1 if entry.width else None]


def _framed(entry: ChannelEntry, frame: Pose, taken: Taken) -> Taken:
    """Poses in the arm's base frame; quaternions stay as long as they were, so that those that are none are noticed."""
    if entry.axes:
        return replace(taken, values=frame.points(taken.values)[:, list(entry.axes)])
    return replace(taken, values=turned(frame.wxyz, taken.values))


def _moved(entry: ChannelEntry, taken: Columns, domain: Domain) -> list[str]:
    """Channels that are turned around, scaled, shifted or of another unit."""
    found = []
    units = dict(zip(domain.observation.names, domain.observation.units))
    for k, name in enumerate(entry.channels):
        factor, offset = (numbers[k % len(numbers)] for numbers in (taken.factor, taken.offset))
        said = f" times {factor:g}" if factor != 1 else ""
        theirs = "a quaternion" if entry.between == "yaw" else taken.unit
        said += f" from {theirs}" if theirs not in ("", SAME, units[name]) else ""
        said += f" by {offset:+.6g} {units[name]}" if offset else ""
        said += " into the base frame" if entry.frame else ""
        found += [f"{name}{said}"] if said else []
    return found


def _runs(columns: list[int]) -> list[str]:
    """Runs of columns, as first..last."""
    kept = np.array(sorted(set(columns)))
    runs = np.split(kept, np.flatnonzero(np.diff(kept) != 1) + 1)
    return [f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]


def _row_s(session: Session, mapping: Mapping) -> float | None:
    """Between rows of a session that only counts them; None: its times are seconds.

    Raises:
        EpisodeError: nobody says, or two say different things.
    """
    told, said = session.rate_hz, mapping.rate_hz
    if told is not None and said is not None and abs(told - said) > 1e-6 * said:
        raise EpisodeError(
            f"the source says {told:g} rows a second, mapping {mapping.name} {said:g} (rate_hz); take the wrong one out"
        )
    if session.timed or told is not None:
        return None
    if said is None:
        raise EpisodeError(
            f"neither the source nor mapping {mapping.name} says the rate of its rows; add rate_hz to it"
        )
    return 1 / said


def _note_left_out(part: Taken, notes: Notes) -> None:
    if part.repeated:
        notes.add(f"field {part.field}: {part.repeated} rows of a session have the next one's stamp, and are left out")
    if part.missing:
        notes.add(f"field {part.field}: {part.missing} rows of a session aren't finite, and are interpolated over")
