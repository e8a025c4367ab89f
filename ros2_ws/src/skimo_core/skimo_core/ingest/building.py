"""An episode of a domain from a span of a session: channels and actions at the control rate, checked.

Units are the domain's; times s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..contract.errors import EpisodeError, SpecError
from ..contract.types import Array
from ..episodes.episode import Episode, EpisodeMeta, check_episode
from ..episodes.fit import why_unfit
from . import motion
from .actions import Made
from .mapping import ChannelEntry
from .parts import Entries, Notes, Parts, check_unbroken
from .resampling import FASTER, resample
from .splitting import Span
from .taking import Taken, within

BEYOND_RAD = 1.0
"""How far beyond the robot's range a joint may be before its unit, sign or zero is doubted."""
TOLD_RAD = 0.05
END_SLACK = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """Why a span is too short to be an episode, and how long it is."""

    why: str
    seconds: float


def build(span: Span, parts: Parts, meta: EpisodeMeta, notes: Notes, file: str) -> tuple[Episode, Made] | Short:
    """The episode that a span holds, and how its actions came about.

    Args:
        meta: the episode's, less its task.
        file: what the source is called in errors.

    Raises:
        EpisodeError: it doesn't fit.
    """
    inside: Entries = [(entry, part if part is None else within(part, *span)) for entry, part in parts.entries]
    _check_range(inside, parts, notes)
    wanted_s = _wanted(inside, span, parts)
    if isinstance(wanted_s, Short):
        return wanted_s
    observations = _observations(inside, wanted_s, parts, notes)
    made = parts.actions.make(span, wanted_s, observations)
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused as such
        episode = Episode(
            observations=observations.astype(np.float32),
            actions=made.actions.astype(np.float32),
            meta=replace(meta, task=_task(parts, notes)),
        )
    check_episode(episode, file)
    if why := why_unfit(episode, parts.domain, parts.robot):
        raise EpisodeError(why)
    for words in made.notes:
        notes.add(words)
    return episode, made


def _wanted(inside: Entries, span: Span, parts: Parts) -> Array | Short:
    """The times [N] of the episode's observations, from its first rows on.

    Raises:
        EpisodeError: there is a gap or jump in it.
    """
    rules, period_s = parts.mapping.episodes, parts.domain.action.period_s
    there = [part for _, part in inside if part is not None]
    if all(len(part.times_s) == 1 for part in there):
        return Short(why=f"row {there[0].rows[0]} is an episode of its own, too short to be one", seconds=0.0)
    check_unbroken(parts, span)
    begin_s, end_s = max(float(p.times_s[0]) for p in there), min(float(p.times_s[-1]) for p in there)
    begin_s, end_s = parts.actions.covered(span, begin_s, end_s)
    begin_s, end_s = begin_s + rules.drop_first_s, end_s - rules.drop_last_s
    lasts_s = max(0.0, end_s - begin_s)
    steps = int(np.floor(lasts_s / period_s + END_SLACK))
    if steps < 1 or steps * period_s < rules.least_s - END_SLACK:
        least_s = max(rules.least_s, period_s)
        bound = "least_s" if rules.least_s > period_s else "one control step"
        return Short(why=f"lasts {lasts_s:.3g} s, shorter than {least_s:g} s ({bound})", seconds=lasts_s)
    return begin_s + period_s * np.arange(steps + 1, dtype=np.float64)


def _observations(inside: Entries, wanted_s: Array, parts: Parts, notes: Notes) -> Array:
    """The domain's channels [N, O] at the wanted times.

    Raises:
        EpisodeError: a field has fewer rows a second than the domain, and nobody says that it may.
    """
    names, mapping = parts.domain.observation.names, parts.mapping
    made = np.empty((len(wanted_s), len(names)))
    for entry, part in inside:
        at = [names.index(name) for name in entry.channels]
        if part is None:
            made[:, at] = entry.constant
            notes.add(f"{', '.join(entry.channels)}: constant {entry.constant:g}, as mapping {mapping.name} says")
            continue
        _check_rate(part, parts, notes)
        try:
            rows = _resampled(entry, part, wanted_s)
        except EpisodeError as error:
            raise EpisodeError(f"field {part.field}: {error}") from None
        made[:, at] = rows / len(at) if entry.width else rows
    return made


def _resampled(entry: ChannelEntry, part: Taken, wanted_s: Array) -> Array:
    """The entry's columns at the wanted times; of a quaternion of which the turn is wanted, that, rad."""
    if entry.between != "yaw":
        return resample(part.times_s, part.values, wanted_s, entry.between)
    return motion.yaws(resample(part.times_s, part.values, wanted_s, "turn"))[:, None]


def _check_rate(part: Taken, parts: Parts, notes: Notes) -> None:
    rate_hz, wanted_hz = 1 / part.period_s if part.period_s else 0.0, parts.domain.action.rate_hz
    if rate_hz * FASTER >= wanted_hz:
        return
    words = f"field {part.field} has {rate_hz:.3g} rows a second, the domain {wanted_hz:g}"
    if parts.mapping.slower == "refuse":
        raise EpisodeError(
            f"{words}; nothing is made up between rows unless the mapping says `slower: interpolate`; or take a domain "
            "of a lower rate_hz"
        )
    notes.add(f"{words}: what lies between its rows is interpolated")


def _check_range(inside: Entries, parts: Parts, notes: Notes) -> None:
    """Raises EpisodeError: a joint is so far outside the robot's range that its unit, sign or zero is another one."""
    joints, robot = parts.domain.observation.names[: parts.domain.observation.joints], parts.robot
    for entry, part in inside:
        for column, name in enumerate(entry.channels):
            if part is None or name not in joints:
                continue
            low, high = (float(limits[joints.index(name)]) for limits in (robot.q_min_rad, robot.q_max_rad))
            q_rad = part.values[:, column]
            beyond = np.maximum(q_rad - high, low - q_rad)
            row = int(np.argmax(beyond))
            if beyond[row] > BEYOND_RAD:
                degrees = np.abs(part.theirs).max() > 2 * np.pi and "deg" not in part.unit
                hint = "these look like degrees: say `unit: deg`" if degrees else "look at its unit, sign and offset"
                raise EpisodeError(
                    f"field {part.field} row {part.rows[row]}: {name} is {q_rad[row]:.4g} rad, but {robot.name} "
                    f"reaches {low:.4g} to {high:.4g} rad; {hint} (in the mapping)"
                )
            if beyond[row] > 0:
                by = f" by more than {TOLD_RAD:g} rad" if beyond[row] > TOLD_RAD else ""
                notes.add(f"{name} goes beyond {robot.name}'s range{by}")
    told = [part for entry, part in inside if part is not None and set(entry.channels) <= set(joints)]
    if told and all("deg" in part.unit and np.abs(part.theirs).max() < np.pi for part in told):
        notes.add("joints in degrees that all stay within 3.1: if they are radians, say `unit: rad`")


def _task(parts: Parts, notes: Notes) -> str:
    """What was done, as the domain reads it; empty where nobody says so in its words.

    Raises:
        EpisodeError: the mapping's task can't be read.
    """
    mapping, words = parts.mapping, parts.mapping.task or parts.session.task
    if not words:
        return ""
    try:
        return parts.domain.task(words).name
    except SpecError as error:
        if mapping.task:
            raise EpisodeError(f"mapping {mapping.name}: task: {error}") from None
        notes.add(f"the source's task {words[:60]!r} is none of the domain's, so its episodes name none")
        return ""
