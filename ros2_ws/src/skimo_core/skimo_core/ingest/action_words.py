"""Reads the actions of a mapping file: `arm`, `hand` and `others`, as `mapping` has them.

arm: {kind: given, field: actions, columns: 0..6, unit: "1", one_means_rad_s: 2.0, as_they_are: true}
arm: {kind: given, field: /arm.velocity, columns: 0..6, unit: rad/s, beyond: clip, between: interpolated}
arm: {kind: velocities}                                    from the measured positions
arm: {kind: velocities, field: action, columns: 0..6, unit: deg}      from positions that were asked for
arm: {kind: end_effector, field: actions, columns: 0..5, frame: base, one_means_m: 0.05, one_means_rad: 0.5, per: step}
hand: {kind: given, field: actions, columns: 7..8, unit: "1"}         intents: 1 opens, -1 closes
hand: {kind: command, field: actions, column: 6, open_at: -1, closed_at: 1}     also a field that is true or false
hand: {kind: width, threshold_m: 0.01}                     from the fingers' own channels
hand: {kind: open}                                         it is never used
others: {kind: given, field: action, columns: 0..1, unit: "1"}        of a domain without an arm
"""

from __future__ import annotations

from ..contract.errors import SpecError
from ..domain.domain import Domain
from ..domain.tables import Table
from .column_words import choice, columns, flag, selected
from .mapping import EndEffector, Given, Intents, Velocities


def arm(actions: Table, domain: Domain) -> Given | Velocities | EndEffector | None:
    joints = domain.action.joints
    if not _wanted(actions, "arm", joints > 0, domain):
        return None
    row = actions.table("arm")
    kind = row.choice("kind", ("given", "velocities", "end_effector"))
    if kind == "given":
        return _given(row, joints)
    if kind == "velocities":
        taken = columns(row, "field", joints) if "field" in row else None
        row.refuse_others(("field",))
        return Velocities(taken=taken)
    count = len(selected(row, None))
    if count not in (3, 6):
        raise SpecError(f"{row.where}: columns must name 3 (a shift) or 6 (shift and rotation vector), has {count}")
    made = EndEffector(
        taken=columns(row, "field", count, unit="1"),
        frame=row.choice("frame", ("base", "tool")),
        one_means_m=row.number("one_means_m", positive=True),
        one_means_rad=row.number("one_means_rad", positive=True) if count == 6 else 1.0,
        per=row.choice("per", ("step", "second")),
        beyond=choice(row, "beyond", ("clip", "refuse")),
    )
    row.refuse_others(("beyond",))
    return made


def hand(actions: Table, domain: Domain) -> Given | Intents | None:
    fingers = domain.action.size - domain.action.joints if domain.action.joints else 0
    if not _wanted(actions, "hand", fingers > 0, domain):
        return None
    row = actions.table("hand")
    kind = row.choice("kind", ("given", "command", "width", "open"))
    if kind == "given":
        return _given(row, fingers)
    if kind == "open":
        made = Intents(kind=kind)
    elif kind == "width":
        made = Intents(kind=kind, threshold_m=row.number("threshold_m", positive=True))
    else:
        made = Intents(
            kind=kind,
            taken=columns(row, "field", 1, unit="1"),
            open_at=row.number("open_at"),
            closed_at=row.number("closed_at"),
        )
        if made.open_at == made.closed_at:
            raise SpecError(f"{row.where}: open_at and closed_at are both {made.open_at:g}; they must differ")
    row.refuse_others()
    return made


def others(actions: Table, domain: Domain) -> Given | None:
    if not _wanted(actions, "others", domain.action.joints == 0, domain):
        return None
    row = actions.table("others")
    row.choice("kind", ("given",))
    return _given(row, domain.action.size)


def _wanted(actions: Table, key: str, wanted: bool, domain: Domain) -> bool:
    if wanted and key not in actions:
        raise SpecError(f"{actions.where}: no entry {key!r} for the domain's actions {', '.join(domain.action.names)}")
    if not wanted and key in actions:
        raise SpecError(f"{actions.where}: {key!r}, but domain {domain.name!r} has no such actions; leave it out")
    return wanted


def _given(row: Table, size: int) -> Given:
    made = Given(
        taken=columns(row, "field", size),
        one_means=row.number("one_means_rad_s", positive=True) if "one_means_rad_s" in row else None,
        as_they_are=flag(row, "as_they_are"),
        beyond=choice(row, "beyond", ("refuse", "clip")),
        between=choice(row, "between", ("held", "interpolated")),
    )
    row.refuse_others(("one_means_rad_s", "as_they_are", "beyond", "between"))
    return made
