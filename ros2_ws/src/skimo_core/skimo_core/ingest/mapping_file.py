"""Reads mappings: files that say what a recording's fields mean in a domain.

    name: mocap
    domain: workbench              whose channels come out
    licence: CC-BY-4.0             where the source names none
    rate_hz: 30                    of its rows, where the source doesn't say
    slower: refuse                 or interpolate: a field with fewer rows a second than the domain
    task: push                     where the source doesn't say what was done, or not in the domain's words
    widths: {observations: [30, 60]}           columns that a field must have
    episodes:                      each may be left out
      one_episode: false           or true: no end is marked because the session is one episode
      gap_s: 0.5                   a gap between rows; gap: refuse | split
      jump: refuse                 or split: where joints move as no arm can
      least_s: 2.0                 shorter ones are left out
      drop_first_s: 0.5            likewise drop_last_s
    channels:                      every channel of the domain, by its name, or FIRST..LAST in the domain's order
      fr3_joint1..fr3_joint7: {field: /joint_states.position, columns: 0..6, unit: deg, sign: -1, offset: 1.57}
      fr3_finger_joint1..fr3_finger_joint2: {width_field: /gripper.width, unit: mm}      distance between the fingers
      cube: {pose_field: /cube, unit: m}       cube.x .y .z .qw .qx .qy .qz .yaw, those that there are
      cup: {pose_field: cup, order: xyzw}      by order where columns don't have ROS's names; `columns`: which seven
      jar: {pose_field: /jar, unit: m, frame: {position_m: [0.5, 0, 0.8], quat_wxyz: [0, 1, 0, 0]}}
                                               where the frame that it is told in stands in the arm's base frame
      lamp: {constant: 0.0}        it never moves, says who wrote this
    actions:
      arm: {kind: velocities}                  or given, end_effector; `mapping` says what each takes
      hand: {kind: width, threshold_m: 0.01}   or given, command, open
      others: {kind: given, field: action, columns: 0..1, unit: "1"}      of a domain without an arm

A field may be a list: the first of them that a session has. A column is a name, an index, or FIRST..LAST; `between:
linear | nearest`, `unwrap: true` and `missing: interpolate` may stand beside. `ours = sign * scale * theirs (in our
unit) + offset (in our unit)`. `unit: same`: the domain's own. `plain` is the mapping of files that hold a domain's
channels and actions as they are.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..contract.errors import SpecError
from ..contract.specs import Named
from ..domain import library
from ..domain.domain import Domain
from ..domain.pose import read_pose
from ..domain.tables import Table, read_yaml
from . import action_words
from .column_words import choice, columns, flag, least_zero, selected
from .mapping import (
    SAME,
    ChannelEntry,
    Columns,
    EpisodeRules,
    Given,
    Mapping,
    Selector,
)

PLAIN = "plain"
HOME = "skimo_core.ingest"
PLAIN_OBSERVATIONS = ("observations", "observations/observation", "observation.state")
PLAIN_ACTIONS = ("actions", "action")
_BODY = ("x", "y", "z"), ("qw", "qx", "qy", "qz")
_FIELD_KEYS = ("field", "width_field", "pose_field")


def find_mappings(name_or_path: str | Path, domain: Domain) -> tuple[Mapping, ...]:
    """The mapping that is named; where none is, those that ship for the domain, then `plain`.

    Raises:
        SpecError: no such mapping or file, or it is malformed or of another domain.
    """
    name = str(name_or_path)
    if not name:
        sources = [library.find("mappings", known, HOME) for known in library.shipped("mappings", HOME)]
        ours = [source for source in sources if _domain_of(source) == domain.name]
        return (*(parse_mapping(source.text, source.where, domain) for source in ours), plain(domain))
    if name == PLAIN:
        return (plain(domain),)
    if not library.is_path(name) and name not in known_mappings():
        raise SpecError(f"no mapping {name!r}; there are {', '.join(known_mappings())}, or give a file's path")
    source = library.find("mappings", name, HOME)
    return (parse_mapping(source.text, source.where, domain),)


def known_mappings() -> tuple[str, ...]:
    """Names of those that ship or are installed, and of the one that every domain has."""
    return (*library.known("mappings", HOME), PLAIN)


def plain(domain: Domain) -> Mapping:
    """The domain's channels and actions as they are, in its units, at its rate."""
    spec, joints, size = domain.observation, domain.action.joints, domain.action.size
    rows = Columns(fields=PLAIN_OBSERVATIONS, columns=tuple(range(spec.size)), unit=SAME)
    widths: dict[str, tuple[int, ...]] = dict.fromkeys(PLAIN_OBSERVATIONS, (spec.size,))
    widths |= dict.fromkeys(PLAIN_ACTIONS, (size,))

    def actions(first: int, last: int) -> Given | None:
        taken = Columns(fields=PLAIN_ACTIONS, columns=tuple(range(first, last)), unit="1")
        return Given(taken=taken) if last > first else None

    return Mapping(
        named=Named(name=PLAIN, digest=hashlib.sha256(f"{PLAIN} {domain.digest}".encode()).hexdigest()),
        where=f"mapping {PLAIN}",
        domain=domain.name,
        licence="",
        rate_hz=domain.action.rate_hz,
        slower="refuse",
        task="",
        widths=widths,
        episodes=EpisodeRules(),
        channels=(ChannelEntry(channels=spec.names, taken=rows),),
        arm=actions(0, joints),
        hand=actions(joints, size) if joints else None,
        others=None if joints else actions(0, size),
    )


def parse_mapping(text: str, where: str, domain: Domain) -> Mapping:
    """Read the words of a mapping file for a domain.

    Raises:
        SpecError: not YAML; another domain's; a key missing, unknown or of the wrong type; a channel or action of the
            domain without an entry, or with two.
    """
    data = read_yaml(text, where)
    root = Table(data, where)
    name = root.text("name")
    if (theirs := root.text("domain")) != domain.name:
        raise SpecError(f"mapping {name} ({where}) is of domain {theirs!r}, not {domain.name!r}; name that --domain")
    actions = root.table("actions")
    mapping = Mapping(
        named=Named(name=name, digest=hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()),
        where=where,
        domain=domain.name,
        licence=root.text("licence") if "licence" in root else "",
        rate_hz=root.number("rate_hz", positive=True) if "rate_hz" in root else None,
        slower=choice(root, "slower", ("refuse", "interpolate")),
        task=root.text("task") if "task" in root else "",
        widths=_widths(root.table("widths")) if "widths" in root else {},
        episodes=_rules(root.table("episodes")) if "episodes" in root else EpisodeRules(),
        channels=_channels(root.table("channels"), domain),
        arm=action_words.arm(actions, domain),
        hand=action_words.hand(actions, domain),
        others=action_words.others(actions, domain),
    )
    taken = {field for part in mapping.fields() for field in part.fields}
    if unused := [field for field in mapping.widths if field not in taken]:
        raise SpecError(
            f"{where}: widths: nothing is taken from field {unused[0]!r}; fields are {', '.join(sorted(taken))}"
        )
    actions.refuse_others(("arm", "hand", "others"))
    root.refuse_others(("licence", "rate_hz", "slower", "task", "widths", "episodes"))
    return mapping


def _domain_of(source: library.Source) -> str:
    return Table(read_yaml(source.text, source.where), source.where).text("domain")


def _widths(table: Table) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for field in table:
        value = table.value(field)
        rows = value if isinstance(value, list) else [value]
        if not rows or not all(type(width) is int and width > 0 for width in rows):
            raise SpecError(f"{table.where}: {field} must hold whole numbers above 0, has {value!r}")
        found[field] = tuple(rows)
    return found


def _rules(table: Table) -> EpisodeRules:
    numbers = {key: least_zero(table, key) for key in ("least_s", "drop_first_s", "drop_last_s") if key in table}
    rules = EpisodeRules(
        one_episode=flag(table, "one_episode"),
        gap_s=table.number("gap_s", positive=True) if "gap_s" in table else None,
        gap=choice(table, "gap", ("refuse", "split")),
        jump=choice(table, "jump", ("refuse", "split")),
        **numbers,
    )
    table.refuse_others(("one_episode", "gap_s", "gap", "jump", "least_s", "drop_first_s", "drop_last_s"))
    return rules


def _channels(table: Table, domain: Domain) -> tuple[ChannelEntry, ...]:
    entries: list[ChannelEntry] = []
    for key in table:
        entries += _entries(table.table(key), key, domain)
    covered = [channel for entry in entries for channel in entry.channels]
    if missing := [name for name in domain.observation.names if name not in covered]:
        raise SpecError(
            f"{table.where}: no entry for {', '.join(missing[:8])}{' ...' if len(missing) > 8 else ''}; say where "
            f"{'it comes' if len(missing) == 1 else 'they come'} from, or `constant: VALUE` if it never moves"
        )
    if twice := [name for name in covered if covered.count(name) > 1]:
        raise SpecError(f"{table.where}: {twice[0]} has two entries; leave one of them out")
    return tuple(entries)


def _entries(row: Table, key: str, domain: Domain) -> list[ChannelEntry]:
    sources = [source for source in (*_FIELD_KEYS, "constant") if source in row]
    if len(sources) != 1:
        raise SpecError(f"{row.where} must have one of {', '.join(_FIELD_KEYS)} and constant, has {len(sources)}")
    if sources[0] == "pose_field":
        return _pose(row, key, domain)
    names = _span(row, key, domain.observation.names)
    if sources[0] == "constant":
        entry = ChannelEntry(channels=names, taken=None, constant=row.number("constant"))
        row.refuse_others()
        return [entry]
    width = sources[0] == "width_field"
    spec = domain.observation
    fingers = spec.names[spec.joints : spec.joints + spec.fingers]
    if width and names != fingers:
        raise SpecError(
            f"{row.where}: width_field is of the fingers ({', '.join(fingers) or 'there are none'}) together"
        )
    taken = columns(row, sources[0], 1 if width else len(names))
    usual = "nearest" if set(names) <= set(fingers) else "linear"
    between = row.choice("between", ("linear", "nearest")) if "between" in row else usual
    row.refuse_others(("between",))
    return [ChannelEntry(channels=names, taken=taken, between=between, width=width)]


def _pose(row: Table, body: str, domain: Domain) -> list[ChannelEntry]:
    """Position and quaternion of a body, each an entry."""
    places = _pose_columns(row)
    shared = columns(row, "pose_field", 0)
    frame = read_pose(row.table("frame")) if "frame" in row else None
    entries: list[ChannelEntry] = []
    for part in _BODY:
        there = [letter for letter in part if f"{body}.{letter}" in domain.observation.names]
        if part == _BODY[1] and 0 < len(there) < 4:
            raise SpecError(
                f"{row.where}: the domain has only {', '.join(there)} of {body}'s quaternion; name it by columns"
            )
        if not there:
            continue
        turn = part == _BODY[1]
        told = list(part) if frame else there
        at = tuple(places[letter] for letter in told)
        taken = Columns(
            fields=shared.fields,
            columns=at,
            unit="1" if turn else shared.unit,
            factor=(1.0,) if turn else _of(shared.factor, "xyz", told),
            offset=(0.0,) if turn else _of(shared.offset, "xyz", told),
            missing=shared.missing,
        )
        names = tuple(f"{body}.{letter}" for letter in there)
        entries.append(
            ChannelEntry(
                channels=names,
                taken=taken,
                between="turn" if turn else "linear",
                frame=frame,
                axes=tuple(part.index(letter) for letter in there) if frame and not turn else (),
            )
        )
    if (yaw := f"{body}.yaw") in domain.observation.names:
        at = tuple(places[letter] for letter in _BODY[1])
        taken = Columns(fields=shared.fields, columns=at, unit="1", missing=shared.missing)
        entries.append(ChannelEntry(channels=(yaw,), taken=taken, between="yaw", frame=frame))
    if not entries:
        raise SpecError(f"{row.where}: the domain has no channel {body}.x, {body}.y, ...; it has {_some(domain)}")
    row.refuse_others(("frame",))
    return entries


def _pose_columns(row: Table) -> dict[str, Selector]:
    """Of each of x, y, z, qw, qx, qy, qz; by the names that ROS gives them where no order is said."""
    if "order" not in row:
        named = {letter: (f"*position.{letter}", f"*translation.{letter}") for letter in "xyz"}
        return {**named, **{f"q{letter}": (f"*orientation.{letter}", f"*rotation.{letter}") for letter in "wxyz"}}
    order = row.choice("order", ("xyzw", "wxyz"))
    columns = selected(row, 7) or tuple(range(7))
    letters = ("x", "y", "z", *(f"q{letter}" for letter in order))
    return dict(zip(letters, columns))


def _of(numbers: tuple[float, ...], letters: str, there: list[str]) -> tuple[float, ...]:
    return numbers if len(numbers) == 1 else tuple(numbers[letters.index(letter)] for letter in there)


def _span(row: Table, key: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The domain's channels that a key names: one, or FIRST..LAST."""
    first, dots, last = key.partition("..")
    ends = (first, last) if dots else (key, key)
    for name in ends:
        if name not in names:
            raise SpecError(f"{row.where}: the domain has no channel {name!r}; it has {', '.join(names)}")
    begin, end = map(names.index, ends)
    if begin > end:
        raise SpecError(f"{row.where}: {first} comes after {last} in the domain")
    return names[begin : end + 1]


def _some(domain: Domain) -> str:
    return ", ".join(domain.observation.names)
