"""A mapping to begin with, out of a look at a recording: every entry is there, and what is guessed says so.

A draft is a file for people: each guess is marked `# guess` with its reason, and where nothing fits the entry names the
field FILL_IN, which no recording has, so that it can't be used before somebody looked. Nothing else reads guesses.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

import yaml

from ..domain.domain import Domain
from .inspect import ColumnLook, Looked, SignalLook, look
from .source import Source

FILL_IN = "FILL_IN"
ALIKE = 0.6
"""How alike names must be to be guessed to be the same thing."""
_NOT_POSITIONS = re.compile(r"vel|effort|torque|tau|action|command|cmd|desired|image|reward|done|time|stamp", re.I)
_POSITIONS = re.compile(r"joint|qpos|(^|[./_])q($|[./_])|state|position|robot", re.I)
_HAND = re.compile(r"finger|gripper|hand|jaw", re.I)
_ACTION = re.compile(r"(^|[/.])actions?($|[./])", re.I)
THRESHOLD_M = 0.01
WIDEST_M = 0.3
"""A hand opens no further."""
Entry = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """An entry of the draft: what it is, and why it is guessed; empty: it isn't."""

    key: str
    entry: Entry
    guess: str

    def text(self, indent: int) -> str:
        flow = yaml.safe_dump(self.entry, default_flow_style=True, width=1 << 20, sort_keys=False).strip()
        return f"{' ' * indent}{_key(self.key)}: {flow}" + (f"  # guess: {self.guess}" if self.guess else "")


def draft(source: Source, name: str, domain: Domain, domain_source: str) -> str:
    """The text of a mapping from a source to a domain, with guesses marked.

    Args:
        name: what the source is called.
        domain_source: name or path that the domain was loaded by.

    Raises:
        EpisodeError: the source can't be read.
    """
    looked = look(source)
    signals = [signal for signal in looked.signals if signal.columns]
    joints = _joints(signals, domain)
    channels = [*joints, *_fingers(signals, domain), *_objects(signals, domain)]
    actions = _arm(signals, domain, joints) + _hand(signals, domain) + _others(signals, domain)
    said = [
        f"# A draft for {name}, made by `skimo ingest --draft`. Check every line that says `guess`, and fill in what"
    ]
    said += [
        f"# names {FILL_IN}; then: skimo ingest --source {name} --domain {domain_source} --mapping THIS_FILE --out ..."
    ]
    said += ["# Keys: skimo_core/ingest/mapping_file.py. What the recording holds:"]
    said += [f"#   {words}" for signal in signals for words in _fields(signal)]
    said += [
        f"name: {_key(re.sub(r'[^A-Za-z0-9_-]+', '-', name).strip('-') or 'draft')}",
        f"domain: {_key(domain.name)}",
    ]
    said += _about(looked, signals, domain)
    said += ["channels:", *(line.text(2) for line in channels), "actions:", *(line.text(2) for line in actions)]
    return "\n".join(said) + "\n"


def _about(looked: Looked, signals: list[SignalLook], domain: Domain) -> list[str]:
    said = []
    if not looked.about.licence:
        said += ["# licence: ...   the recording names none: say it here, or with --licence"]
    if not any(signal.timed or signal.rate_named for signal in signals):
        said += [f"rate_hz: {domain.action.rate_hz:g}  # guess: the recording names none; this is the domain's"]
    rates = {signal.name: signal.rate_hz for signal in signals}
    if slow := [name for name, rate_hz in rates.items() if rate_hz * 1.05 < domain.action.rate_hz]:
        said += [f"# slower: interpolate   {', '.join(slow[:4])}: fewer rows a second than the domain"]
    said += ["episodes:"]
    if not looked.whole and not looked.marked:
        said += ["  jump: split  # guess: no end is marked; or one_episode: true"]
    said += ["  least_s: 1.0  # guess: shorter ones are left out"]
    return said


def _fields(signal: SignalLook) -> list[str]:
    names = ", ".join(column.name for column in signal.columns[:10])
    more = f" and {len(signal.columns) - 10} more" if len(signal.columns) > 10 else ""
    rate = f", {signal.rate_hz:.4g} Hz" if signal.rate_hz == signal.rate_hz else ""
    return [f"{signal.name}: {len(signal.columns)} columns{rate}: {names}{more}"]


def _joints(signals: list[SignalLook], domain: Domain) -> list[_Line]:
    """All joints, as one entry where their columns follow each other."""
    names = domain.observation.names[: domain.observation.joints]
    if len(names) == 0:
        return []
    key = _all(names)
    for signal in signals:
        if found := _by_name(names, signal):
            entry = {"field": signal.name, "columns": found, "unit": _unit(signal.columns, found, "rad")}
            return [_Line(key=key, entry=entry, guess="the columns' names, and the unit by how far they go")]
    wide = [s for s in signals if len(s.columns) >= len(names) and not _NOT_POSITIONS.search(s.name)]
    wide.sort(key=lambda s: (_POSITIONS.search(s.name) is None, len(s.columns)))
    if not wide:
        return [
            _Line(
                key=key,
                entry={"field": FILL_IN, "columns": f"0..{len(names) - 1}", "unit": "rad"},
                guess="nothing fits",
            )
        ]
    columns = [column.name for column in wide[0].columns[: len(names)]]
    entry = {"field": wide[0].name, "columns": _span(columns, wide[0]), "unit": _unit(wide[0].columns, columns, "rad")}
    return [
        _Line(key=key, entry=entry, guess=f"its first {len(names)} columns, in this order; the unit by how far they go")
    ]


def _by_name(names: tuple[str, ...], signal: SignalLook) -> list[str]:
    """The columns that are named as the joints are, with or without the arm's prefix; none unless all are."""
    if _NOT_POSITIONS.search(signal.name):
        return []
    columns = {_bare(column.name): column.name for column in signal.columns if not _HAND.search(column.name)}
    columns |= {column.name.lower(): column.name for column in signal.columns}
    found = [columns.get(name.lower(), "") or columns.get(_bare(name), "") for name in names]
    return found if all(found) and len(set(found)) == len(found) else []


def _bare(name: str) -> str:
    """A joint's name without the arm's: joint3 of panda_joint3."""
    return name[name.rfind("joint") :].lower() if "joint" in name else name.lower()


def _fingers(signals: list[SignalLook], domain: Domain) -> list[_Line]:
    spec = domain.observation
    names = spec.names[spec.joints : spec.joints + spec.fingers]
    if not names:
        return []
    key = _all(names)
    hands = {signal.name: _hand_columns(signal) for signal in signals if not _NOT_POSITIONS.search(signal.name)}
    looks = {signal.name: signal.columns for signal in signals}
    for field, columns in hands.items():
        if len(columns) == len(names) > 1:
            entry: Entry = {"field": field, "columns": columns, "unit": _unit(looks[field], columns, "m")}
            return [
                _Line(key=key, entry=entry, guess="the names; each finger's own way, and the unit by how far they go")
            ]
    for field, columns in hands.items():
        if len(columns) == 1:
            entry = {"width_field": field, "column": columns[0], "unit": _hand_unit(looks[field], columns)}
            return [_Line(key=key, entry=entry, guess="the name; the distance between the fingers, in this unit?")]
    return [
        _Line(
            key=key, entry={"width_field": FILL_IN, "unit": "m"}, guess="nothing is named like a hand; or constant: 0.0"
        )
    ]


def _hand_columns(signal: SignalLook) -> list[str]:
    """Columns that are named like a hand's position."""
    named = [c.name for c in signal.columns if _HAND.search(c.name) and not _NOT_POSITIONS.search(c.name)]
    return named or ([c.name for c in signal.columns] if _HAND.search(signal.name) else [])


def _objects(signals: list[SignalLook], domain: Domain) -> list[_Line]:
    spec, lines = domain.observation, list[_Line]()
    done: set[str] = set()
    for name, unit in zip(spec.objects, spec.units[spec.joints + spec.fingers :]):
        body = name.rpartition(".")[0]
        if name in done:
            continue
        pose = _pose(signals, body) if body else None
        if pose is not None:
            lines.append(pose)
            done |= {other for other in spec.objects if other.rpartition(".")[0] == body}
            continue
        lines.append(_object(signals, name, unit))
    return lines


def _pose(signals: list[SignalLook], body: str) -> _Line | None:
    """A body's pose in one field of seven columns, or of ROS's names, that is named like it."""
    for signal in signals:
        names = [column.name for column in signal.columns]
        ros = any(n.endswith(("position.x", "translation.x")) for n in names)
        if body.lower() in signal.name.lower() and (ros or len(names) == 7):
            entry: Entry = {"pose_field": signal.name, "unit": "m"}
            return _Line(
                key=body,
                entry=entry if ros else {**entry, "order": "xyzw"},
                guess="the field's name" + ("" if ros else "; position, then x y z w?"),
            )
    return None


def _object(signals: list[SignalLook], name: str, unit: str) -> _Line:
    """A channel of an object by the likeness of names."""
    body, _, letter = name.rpartition(".")
    for signal in signals:  # x, y, z of a field that is named like the body, and whose columns are only numbered
        numbered = [column for column in signal.columns if column.name.isdigit()]
        if letter in ("x", "y", "z") and body and body.lower() in signal.name.lower() and len(numbered) in (3, 7):
            column = numbered["xyz".index(letter)]
            entry: Entry = {"field": signal.name, "column": int(column.name), "unit": column.unit or unit}
            return _Line(key=name, entry=entry, guess="the field's name; x, y, z in this order, and the unit")
    likely = [
        (_likeness(name, column.name if column.name in name else f"{signal.name}.{column.name}"), signal, column)
        for signal in signals
        for column in signal.columns
        if not _ACTION.search(signal.name) and not column.name.isdigit()
    ]
    score, signal, column = max(likely, key=lambda found: found[0], default=(0.0, None, None))
    if signal is None or column is None or score < ALIKE:
        guess = "no column is named like it; if it never moves say constant: VALUE"
        return _Line(key=name, entry={"field": FILL_IN, "column": 0, "unit": unit}, guess=guess)
    entry = {"field": signal.name, "column": column.name, "unit": column.unit or unit}
    return _Line(key=name, entry=entry, guess=f"names are alike ({score:.2f}), and the unit")


def _likeness(one: str, other: str) -> float:
    mine, theirs = (re.sub(r"[^a-z0-9]+", " ", text.lower()).strip() for text in (one, other))
    return difflib.SequenceMatcher(None, mine, theirs).ratio()


def _arm(signals: list[SignalLook], domain: Domain, joints: list[_Line]) -> list[_Line]:
    count = domain.action.joints
    if not count:
        return []
    given = next((s for s in signals if _ACTION.search(s.name) and len(s.columns) >= count), None)
    if given is None or not any(column.moves for column in given.columns):
        return [
            _Line(
                key="arm",
                entry={"kind": "velocities"},
                guess="no actions that change; these follow from the measured positions",
            )
        ]
    columns = [column.name for column in given.columns[:count]]
    span = _span(columns, given)
    if all(max(abs(c.low), abs(c.high)) <= 1.0 for c in given.columns[:count]):
        entry = {"kind": "given", "field": given.name, "columns": span, "unit": "1"}
        return [
            _Line(key="arm", entry=entry, guess="all within 1: shares of a velocity? say what 1 means: one_means_rad_s")
        ]
    unit = joints[0].entry.get("unit", "rad") if joints else "rad"
    entry = {"kind": "velocities", "field": given.name, "columns": span, "unit": unit}
    return [
        _Line(
            key="arm",
            entry=entry,
            guess="beyond 1, so positions that were asked for? if they are velocities: kind given",
        )
    ]


def _hand(signals: list[SignalLook], domain: Domain) -> list[_Line]:
    fingers = domain.action.size - domain.action.joints if domain.action.joints else 0
    if not fingers:
        return []
    entry: Entry = {"kind": "width", "threshold_m": THRESHOLD_M}
    if not domain.observation.fingers:
        entry = {"kind": "command", "field": FILL_IN, "open_at": 1, "closed_at": 0}
    hint = next((s.name for s in signals if _ACTION.search(s.name) and len(s.columns) > domain.action.joints), "")
    more = f"; {hint} has more columns than joints: is one the hand's? then kind command or given" if hint else ""
    return [_Line(key="hand", entry=entry, guess=f"from the fingers' own motion{more}")]


def _others(signals: list[SignalLook], domain: Domain) -> list[_Line]:
    if domain.action.joints:
        return []
    given = next((s for s in signals if _ACTION.search(s.name) and len(s.columns) >= domain.action.size), None)
    columns: object = f"0..{domain.action.size - 1}" if domain.action.size > 1 else 0
    entry: Entry = {"kind": "given", "field": given.name if given else FILL_IN, "columns": columns, "unit": "1"}
    return [
        _Line(key="others", entry=entry, guess="in this order, within -1 to 1" if given else "nothing is named action")
    ]


def _all(names: tuple[str, ...]) -> str:
    """All of some neighbouring channels, as a key."""
    return "..".join(dict.fromkeys((*names[:1], *names[-1:])))


def _unit(looks: tuple[ColumnLook, ...], names: list[str], usual: str) -> str:
    """What the source says, or how far the columns go; else what the domain has."""
    said = [column.unit for column in looks if column.name in names and column.unit]
    return max(set(said), key=said.count) if said else usual


def _hand_unit(looks: tuple[ColumnLook, ...], names: list[str]) -> str:
    """What the source says, or what a hand of a few centimetres reaches."""
    widest = max(max(abs(column.low), abs(column.high)) for column in looks if column.name in names)
    return _unit(looks, names, "m" if widest <= WIDEST_M else "mm")


def _span(names: list[str], signal: SignalLook) -> object:
    """First..last where the columns are only numbered, else their names."""
    if all(name.isdigit() for name in names):
        return f"{names[0]}..{names[-1]}" if len(names) > 1 else int(names[0])
    return names


def _key(text: str) -> str:
    """A text as YAML has it."""
    return yaml.safe_dump(text, width=1 << 20).strip().removesuffix("...").strip()
