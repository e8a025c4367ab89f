"""What a recording holds, for somebody who writes its mapping: fields, rates, ranges, and units as far as they show.

A unit that the source itself doesn't name is guessed from names and ranges, and marked so: nothing is ever converted by
a guess. Times in s; ranges are over all sessions, in the source's own units.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..contract.types import Array
from .source import About, Session, Signal, Source

GAP_PERIODS = 2.5
"""A pause of more periods than that is a gap."""
SHOWN_COLUMNS = 40
SHOWN_NOTES = 12
STILL = 0.0
_TURN_RAD = 2 * np.pi
_JOINT = re.compile(r"(^|[._/])(joint|q|qpos|qp|motor|shoulder|elbow|wrist)|joint|qpos|qp_|\.pos$|^j\d", re.IGNORECASE)
_LENGTH = re.compile(r"(^|[._/])(x|y|z|pos|position|translation|eef_pos|xyz)($|[._/]\w$)", re.IGNORECASE)
_FINGER = re.compile(r"finger|gripper|hand", re.IGNORECASE)
_VELOCITY = re.compile(r"vel|qvel|\bdq|qv_|twist", re.IGNORECASE)
_TORQUE = re.compile(r"effort|torque|tau", re.IGNORECASE)
_FORCE = re.compile(r"force", re.IGNORECASE)
_ANGULAR = re.compile(r"angular", re.IGNORECASE)
_TURNED = re.compile(r"quat|rotation|orientation", re.IGNORECASE)
_OBJECT = re.compile(r"object|\bobj|_obj", re.IGNORECASE)
_ACTION = re.compile(r"(^|/)actions?($|[./])", re.IGNORECASE)
_STATE = re.compile(r"(^|[./])state$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLook:
    """A column over all sessions.

    Attributes:
        low, high: of its finite values; NaN where it has none.
        missing: values that aren't finite.
        moves: whether it ever has two values.
        unit: that the source names, or that was guessed; empty: neither.
        guessed: whether the unit is a guess.
    """

    name: str
    low: float
    high: float
    missing: int
    moves: bool
    unit: str
    guessed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalLook:
    """A field over all sessions.

    Attributes:
        sessions, rows: that have it.
        period_s: between its rows, the median; NaN of single rows.
        jitter_s: 95 of 100 rows come no farther than this from the period.
        gaps: pauses of more than GAP_PERIODS periods; longest_gap_s: the longest of them, 0 where there is none.
        timed: whether its times are the source's own.
        rate_named: whether the source names its rate; where it does neither, rows are counted.
        differing: sessions whose columns are other ones than the first's; their ranges are not in `columns`.
    """

    name: str
    sessions: int
    rows: int
    period_s: float
    jitter_s: float
    gaps: int
    longest_gap_s: float
    timed: bool
    rate_named: bool
    differing: int
    columns: tuple[ColumnLook, ...]

    @property
    def rate_hz(self) -> float:
        """Rows a second; NaN where nothing tells."""
        known = (self.timed or self.rate_named) and self.period_s > 0
        return 1.0 / self.period_s if known else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A recording, looked at.

    Attributes:
        sessions: how many there are; rows of the longest field and seconds in all of them.
        marked: episodes' ends that flat tables mark.
        whole: whether every session says itself that it is one episode.
        tasks: how many sessions name each.
        damage: words for each session that can't be read whole.
    """

    about: About
    sessions: int
    rows: int
    seconds: float
    marked: int
    whole: bool
    tasks: dict[str, int]
    damage: tuple[str, ...]
    signals: tuple[SignalLook, ...]


@dataclass(slots=True)
class _Sum:
    """A field's figures so far."""

    columns: tuple[str, ...]
    unit: str
    timed: bool
    rate_named: bool
    low: Array
    high: Array
    missing: np.ndarray
    unit_norm: bool = True
    sessions: int = 0
    rows: int = 0
    differing: int = 0
    gaps: int = 0
    longest_gap_s: float = 0.0
    periods_s: list[float] = field(default_factory=list)
    jitters_s: list[float] = field(default_factory=list)

    def add(self, signal: Signal) -> None:
        self.sessions += 1
        self.rows += len(signal.values)
        self._add_times(signal.times_s)
        if signal.columns != self.columns:
            self.differing += 1
            return
        finite = np.isfinite(signal.values)
        self.missing += (~finite).sum(0)
        self.low = np.minimum(self.low, np.where(finite, signal.values, np.inf).min(0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(finite, signal.values, -np.inf).max(0, initial=-np.inf))
        if signal.values.shape[1] == 4 and len(signal.values):
            norms = np.linalg.norm(signal.values, axis=1)
            self.unit_norm &= bool(np.nanmax(np.abs(norms - 1), initial=0.0) < 1e-2)

    def _add_times(self, times_s: Array) -> None:
        apart_s = np.diff(times_s)
        if not len(apart_s):
            return
        period_s = float(np.median(apart_s))
        wide = apart_s[apart_s > GAP_PERIODS * period_s]
        self.periods_s.append(period_s)
        self.jitters_s.append(float(np.quantile(np.abs(apart_s - period_s), 0.95)))
        self.gaps += len(wide) if period_s > 0 else 0
        self.longest_gap_s = max(self.longest_gap_s, float(wide.max(initial=0.0)))


def look(source: Source) -> Looked:
    """Reads all of a recording once; what is damaged is told, not raised.

    Raises:
        EpisodeError: nothing in it can be read.
    """
    sums: dict[str, _Sum] = {}
    tasks: Counter[str] = Counter()
    damage: list[str] = []
    sessions, rows, seconds, marked, whole = 0, 0, 0.0, 0, True
    for session in source.sessions(skip_damaged=True):
        sessions += 1
        marked += len(session.ends)
        whole &= session.whole
        damage += [session.damage] if session.damage else []
        tasks.update([session.task] if session.task else [])
        rows += max((len(signal.values) for signal in session.signals.values()), default=0)
        seconds += _seconds(session)
        for signal in session.signals.values():
            sums.setdefault(signal.name, _begun(signal, session)).add(signal)
    return Looked(
        about=source.about(),
        sessions=sessions,
        rows=rows,
        seconds=seconds,
        marked=marked,
        whole=whole,
        tasks=dict(tasks),
        damage=tuple(damage),
        signals=tuple(_signal_look(name, total) for name, total in sums.items()),
    )


def _seconds(session: Session) -> float:
    known = session.timed or session.rate_hz is not None
    ends = [float(signal.times_s[-1]) for signal in session.signals.values() if len(signal.times_s)]
    return max(ends, default=0.0) if known else 0.0


def _begun(signal: Signal, session: Session) -> _Sum:
    width = len(signal.columns)
    return _Sum(
        columns=signal.columns,
        unit=signal.unit,
        timed=session.timed,
        rate_named=session.rate_hz is not None,
        low=np.full(width, np.inf),
        high=np.full(width, -np.inf),
        missing=np.zeros(width, np.int64),
    )


def _signal_look(name: str, total: _Sum) -> SignalLook:
    low = np.where(np.isfinite(total.low), total.low, np.nan)
    high = np.where(np.isfinite(total.high), total.high, np.nan)
    guesses = _guesses(name, total, low, high)
    return SignalLook(
        name=name,
        sessions=total.sessions,
        rows=total.rows,
        period_s=float(np.median(total.periods_s)) if total.periods_s else float("nan"),
        jitter_s=max(total.jitters_s, default=float("nan")),
        gaps=total.gaps,
        longest_gap_s=total.longest_gap_s,
        timed=total.timed,
        rate_named=total.rate_named,
        differing=total.differing,
        columns=tuple(
            ColumnLook(
                name=column,
                low=float(low[k]),
                high=float(high[k]),
                missing=int(total.missing[k]),
                moves=bool(high[k] - low[k] > STILL),
                unit=total.unit or guesses[k],
                guessed=not total.unit and bool(guesses[k]),
            )
            for k, column in enumerate(total.columns)
        ),
    )


def _guesses(name: str, total: _Sum, low: Array, high: Array) -> list[str]:
    """A unit for each column; empty where neither name nor range tell."""
    if not len(low):
        return []
    turned = len(low) == 4 and total.unit_norm
    widest = [float(np.nanmax(np.abs([a, b]), initial=0.0)) for a, b in zip(low, high)]
    angles = max((wide for column, wide in zip(total.columns, widest) if not _FINGER.search(column)), default=0.0)
    return ["1" if turned else guess(name, column, wide, angles) for column, wide in zip(total.columns, widest)]


def guess(name: str, column: str, widest: float, widest_of_all: float) -> str:
    """A column's unit by its field's name, its own, and how far it goes; empty: they don't tell.

    Args:
        widest: the column's largest magnitude.
        widest_of_all: that of all columns of its field but the hand's: one joint beyond a turn says that all are deg.
    """
    full = f"{name}.{column}"
    if _TURNED.search(full):
        return "1"
    if _TORQUE.search(full):
        return "N" if _FINGER.search(column) else "Nm"
    if _FORCE.search(full):
        return "N"
    if not widest_of_all and not widest:  # what is always 0 has no range to tell by
        return ""
    rate = "/s" if _VELOCITY.search(full) else ""
    if _ACTION.search(name):
        return "1" if widest_of_all <= 1.0 else ""
    if _FINGER.search(column):
        return f"m{rate}" if widest <= 0.1 else f"mm{rate}" if 1.0 < widest <= 200.0 else ""
    if _OBJECT.search(full) and not _LENGTH.search(column):
        return ""
    if _ANGULAR.search(full) or _JOINT.search(column) or _JOINT.search(name) or _STATE.search(name):
        if rate:
            return "rad/s" if widest_of_all <= 2 * _TURN_RAD else "deg/s"
        return "rad" if widest_of_all <= 1.1 * _TURN_RAD else "deg" if widest_of_all <= 400.0 else ""
    if _LENGTH.search(column) or (_LENGTH.search(name) and column in ("0", "1", "2")):
        return f"m{rate}" if widest_of_all <= 5.0 else f"mm{rate}" if widest_of_all <= 5000.0 else ""
    return ""


def lines(looked: Looked) -> list[str]:
    """Text for people, a line each."""
    about = looked.about
    said = [f"format    {about.format}, {len(about.files)} files, digest {about.digest[:12]}"]
    said += [f"licence   {about.licence or 'none named'}", f"robot     {about.robot or 'none named'}"]
    length = f", {looked.seconds:.1f} s" if looked.seconds else ""
    said += [f"sessions  {looked.sessions}, {looked.rows:,} rows{length}"]
    if looked.marked:
        said += [f"episodes  {looked.marked} ends are marked"]
    elif not looked.whole:
        said += ["episodes  nothing says whether a session is one episode"]
    said += [f"task      {task} ({count})" for task, count in looked.tasks.items()]
    said += [f"damaged   {words}" for words in looked.damage]
    said += [f"note      {note}" for note in about.notes[:SHOWN_NOTES]]
    if len(about.notes) > SHOWN_NOTES:
        said += [f"note      ... and {len(about.notes) - SHOWN_NOTES} more"]
    for signal in looked.signals:
        said += ["", *_signal_lines(signal, looked.sessions)]
    return said


def _signal_lines(signal: SignalLook, sessions: int) -> list[str]:
    where = "" if signal.sessions == sessions else f" in {signal.sessions} of {sessions} sessions"
    said = [f"{signal.name}: {len(signal.columns)} columns, {signal.rows:,} rows{where}, {_rate(signal)}"]
    if signal.differing:
        said += [f"  {signal.differing} sessions have other columns than these"]
    width = max((len(column.name) for column in signal.columns[:SHOWN_COLUMNS]), default=0)
    for k, column in enumerate(signal.columns[:SHOWN_COLUMNS]):
        unit = f"{column.unit} (guess)" if column.guessed else column.unit
        odd = [] if column.moves else ["never moves"]
        odd += [f"{column.missing} not finite"] if column.missing else []
        tail = "  ".join(part for part in (unit, ", ".join(odd)) if part)
        said += [f"  {k:>3} {column.name:<{width}}  {column.low:>11.5g} .. {column.high:<11.5g}  {tail}".rstrip()]
    if len(signal.columns) > SHOWN_COLUMNS:
        said += [f"  ... and {len(signal.columns) - SHOWN_COLUMNS} more columns"]
    return said


def _rate(signal: SignalLook) -> str:
    if not (signal.timed or signal.rate_named):
        return "rows are counted, no rate is named"
    if not signal.period_s > 0:
        return "no rate (single rows, or many with one time)"
    said = f"{1.0 / signal.period_s:.4g} Hz"
    if not signal.timed:
        return f"{said} (named, rows are counted)"
    gaps = f", {signal.gaps} gaps up to {signal.longest_gap_s:.3g} s" if signal.gaps else ", no gaps"
    return f"{said}, jitter {round(1e3 * signal.jitter_s, 3):g} ms{gaps}"
