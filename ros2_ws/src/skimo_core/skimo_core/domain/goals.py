"""Goals as an operator types them; one grammar wherever a task is asked for, and wherever a recording names one.

    task     goal, goal, ...                in this order
    goal     part & part & ...              all at once; a space does between parts that are channels
    part     a sub-task's or a goal's name in the domain; an order's, where it stands alone between commas
             CHANNEL=VALUE                  within the channel's tolerance in the domain
             CHANNEL=VALUE+-TOLERANCE       ± is the same
    VALUE    a number, with a unit or in the channel's own: rad or deg; m, cm or mm; any other channel's unit only
             a tolerance without a unit is in its value's

    microwave,kettle     microwave=-23deg+-5     kettle.x=5cm kettle.y=0.35     bottom burner & slide_cabinet=0.2

A typed goal is a sub-task of threshold 1 whose scales are its tolerances: over several channels the distances add up as
squares. Its name says the same in the channels' units and reads back to the same goal; numbers hold 6 digits.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..contract.errors import SpecError
from ..contract.specs import ObservationSpec
from .tasks import Subtask

MAX_TEXT = 1000
"""Characters of a task, as it is typed and as it is written out."""
MAX_GOALS = 64
"""Goals of a task, as many as a plan can be asked for."""
MAX_VALUE = 1e6
MIN_TOLERANCE = 1e-6
UNITS = {"rad": {"rad": 1.0, "deg": math.pi / 180}, "m": {"m": 1.0, "cm": 1e-2, "mm": 1e-3}}
"""What a channel of a unit may be told in, and how much of the unit that is."""
TOLERANCES = {"rad": 0.1, "m": 0.03, "1": 0.1}
"""Of a channel whose domain says none, by its unit; other units have none."""
RESERVED = {",": "stands between goals", "&": "stands between what holds at once", "=": "gives a channel its value"}
"""What no name of a goal may hold."""

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
ASSIGNMENT = re.compile(r"([^=]+)=(\S*)\s*")
PLUS_MINUS = re.compile(r"\s*(?:±|\+/-|\+-)\s*")
SPACED_UNIT = re.compile(r"(?<=[0-9.])\s+(?=(?:rad|deg|mm|cm|m)(?:[\s±]|$))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What goals of a domain may speak of.

    Attributes:
        domain: its name.
        observation: the channels.
        tolerances: [O] of a goal that names none, in the channel's unit; NaN: it must name one.
        named: goals by name, sub-tasks among them.
        orders: goals' names in a row, by name.
    """

    domain: str
    observation: ObservationSpec
    tolerances: tuple[float, ...]
    named: Mapping[str, Subtask]
    orders: Mapping[str, tuple[str, ...]]

    def read(self, text: str) -> tuple[Subtask, ...]:
        """The goals of a task, in order.

        Raises:
            SpecError: it can't be read: an unknown name or channel, with what is near and what is known; a value that
                is no number, or too big; a unit that isn't the channel's; a tolerance not above 0; a channel twice in
                a goal; an empty goal; the same goal twice in a row; too long; a character that can't be printed.
        """
        if text in self.orders:
            return tuple(self.named[name] for name in self.orders[text])
        _refuse_unprintable(text)
        found: list[Subtask] = []
        for typed in text.split(","):
            name = typed.strip()
            order = () if name in self.named else self.orders.get(name, ())
            found += [self.named[n] for n in order] or [self._goal(name, text)]
        for one, other in itertools.pairwise(found):
            if one.name == other.name:
                raise SpecError(f"task {text!r} names {one.name!r} twice in a row; the second is done with the first")
        if len(found) > MAX_GOALS:
            raise SpecError(f"task: {len(found)} goals, bound {MAX_GOALS}; ask for the rest in an episode of its own")
        _refuse_long(",".join(goal.name for goal in found), "written out, it")
        return tuple(found)

    def _goal(self, typed: str, text: str) -> Subtask:
        """One goal: its parts hold at once."""
        parts = [part.strip() for part in typed.split("&")]
        if "" in parts:
            raise SpecError(f"task {text!r} has an empty goal; write a name or CHANNEL=VALUE between , and &")
        if typed in self.named:
            return self.named[typed]
        goals = [goal for part in parts for goal in self._part(part)]
        channels = tuple(channel for goal in goals for channel in goal.channels)
        if twice := [c for c in channels if channels.count(c) > 1]:
            name = self.observation.names[twice[0]]
            raise SpecError(f"goal {typed!r} asks for channel {name} twice; what comes later stands behind a comma")
        return Subtask(
            name=" & ".join(goal.name for goal in goals),
            channels=channels,
            goal=tuple(value for goal in goals for value in goal.goal),
            threshold=1.0,
            scales=tuple(tolerance for goal in goals for tolerance in goal.tolerances),
        )

    def _part(self, part: str) -> Iterator[Subtask]:
        if part in self.named:
            yield self.named[part]
        elif "=" in part:
            yield from self._assignments(part)
        else:
            raise SpecError(self._unknown_name(part))

    def _assignments(self, part: str) -> Iterator[Subtask]:
        """A goal for each CHANNEL=VALUE."""
        plain = re.sub(r"\s*=\s*", "=", PLUS_MINUS.sub("±", part))
        plain, at = SPACED_UNIT.sub("", plain), 0
        while at < len(plain):
            found = ASSIGNMENT.match(plain, at)
            if found is None:
                raise SpecError(f"goal {part!r}: {plain[at:]!r} is no CHANNEL=VALUE; a name stands behind an &")
            yield self._assignment(found[1].strip(), found[2])
            at = found.end()

    def _assignment(self, channel: str, text: str) -> Subtask:
        if channel not in self.observation.names:
            known = self.observation.names
            raise SpecError(
                f"unknown channel {channel!r} in domain {self.domain}{_near(channel, known)}; known are "
                f"{', '.join(known)}"
            )
        index = self.observation.names.index(channel)
        unit, default = self.observation.units[index], self.tolerances[index]
        typed, plus_minus, typed_tolerance = text.partition("±")
        value, typed_unit = _quantity(channel, unit, typed)
        if abs(value) > MAX_VALUE:
            raise SpecError(f"goal {channel}: value {value:g} {unit} is beyond {MAX_VALUE:g}; check its digits")
        if plus_minus:
            default, _ = _quantity(channel, unit, typed_tolerance, typed_unit, "tolerance ")
        elif math.isnan(default):
            raise SpecError(
                f"goal {channel}: domain {self.domain} gives no tolerance in {unit!r}; write "
                f"{channel}={typed}+-TOLERANCE"
            )
        if not MIN_TOLERANCE <= default <= MAX_VALUE:
            raise SpecError(
                f"goal {channel}: tolerance {default:g} {unit} must be above 0: {MIN_TOLERANCE:g} to {MAX_VALUE:g}"
            )
        return Subtask(
            name=f"{channel}={value:g}+-{default:g}",
            channels=(index,),
            goal=(value,),
            threshold=1.0,
            scales=(default,),
        )

    def _unknown_name(self, name: str) -> str:
        """Why a name can't be read, and what could have been meant."""
        if name in self.orders:
            return f"{name!r} is a task of several goals in a row; it stands between commas, not beside an &"
        if name in self.observation.names:
            return f"{name!r} is a channel of domain {self.domain}; as a goal it needs a value: {name}=VALUE"
        tasks = f"tasks {', '.join(self.orders)}; " if self.orders else ""
        near = _near(name, (*self.named, *self.orders))
        known = f"{tasks}sub-tasks and goals {', '.join(self.named)}; or CHANNEL=VALUE"
        return f"unknown task or sub-task {name!r} in domain {self.domain}{near}; known are {known}"


def refuse_reserved(names: Iterable[str], where: str) -> None:
    """Raises SpecError for a name of a goal that the grammar couldn't read back."""
    for name in names:
        for sign, meaning in RESERVED.items():
            if sign in name:
                raise SpecError(f"{where}: {name!r} has a{' comma' if sign == ',' else f'n {sign}'}, which {meaning}")
        if name != name.strip() or not name.isprintable():
            raise SpecError(f"{where}: {name!r} begins or ends with a space, or has a character that can't be printed")


def _quantity(channel: str, unit: str, text: str, typed_unit: str = "", what: str = "") -> tuple[float, str]:
    """A number in the channel's unit, and the unit it was typed in: its own, else `typed_unit`, else the channel's."""
    found = NUMBER.match(text)
    if found is None or not math.isfinite(float(found[0])):
        raise SpecError(
            f"goal {channel}: {what}{text!r} is not a finite number; write {channel}=VALUE, or "
            f"{channel}=VALUE+-TOLERANCE, in {unit}"
        )
    typed_unit = text[found.end() :] or typed_unit or unit
    factors = UNITS.get(unit, {unit: 1.0})
    if typed_unit not in factors:
        raise SpecError(
            f"goal {channel}: {what}{text!r} is in {typed_unit!r}, the channel in {unit!r}; write a number alone, or "
            f"with one of {', '.join(factors)}"
        )
    return float(f"{float(found[0]) * factors[typed_unit]:.6g}") + 0.0, typed_unit  # never -0


def _refuse_unprintable(text: str) -> None:
    _refuse_long(text, "it")
    if bad := [sign for sign in text if not sign.isprintable()]:
        raise SpecError(f"task {text!r} has the character {bad[0]!r}, which can't be printed; type it again")


def _refuse_long(text: str, what: str) -> None:
    if len(text) > MAX_TEXT:
        raise SpecError(f"task: {what} has {len(text)} characters, bound {MAX_TEXT}; ask for less in one episode")


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""
