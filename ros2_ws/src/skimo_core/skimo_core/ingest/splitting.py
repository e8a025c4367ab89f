"""Where a session's episodes begin and end: at the ends that its source marks, at gaps, and where joints jump.

Spans are pairs of times, s, of the first and the last row that belong to an episode.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..contract.errors import EpisodeError
from ..contract.types import Array
from ..domain.robot import RobotLimits
from ..episodes.fit import JUMP_FACTOR
from .mapping import EpisodeRules
from .source import Session
from .taking import Taken

GAP_PERIODS = 2.5
"""A gap, where nobody says how long one is: so many periods of the field, or of the domain where those are longer."""
Span = tuple[float, float]


def marked(session: Session, times_s: Array, rules: EpisodeRules) -> list[Span]:
    """The spans between the ends that the source marks; one span where the session is one episode.

    Args:
        times_s: of the session's rows, if it is a flat table; else of any of its fields.

    Raises:
        EpisodeError: a flat table in which no end is marked, and nobody says that it is one episode or what splits it;
            or marks beyond its rows.
    """
    if session.ends:
        if max(session.ends) >= len(times_s):
            raise EpisodeError(f"an end is marked after row {max(session.ends)} of {len(times_s)}; mend the marks")
        bounds = [0, *(end + 1 for end in session.ends)]
        bounds += [len(times_s)] if bounds[-1] < len(times_s) else []
        return [(float(times_s[a]), float(times_s[b - 1])) for a, b in itertools.pairwise(bounds)]
    if session.whole or rules.one_episode or "split" in (rules.jump, rules.gap):
        return [(-np.inf, np.inf)]
    raise EpisodeError(
        f"no end of an episode is marked in {len(times_s)} rows; if they are one episode say so with --one-episode, "
        "else mark the ends, or let the mapping split at jumps (episodes: {jump: split})"
    )


def gaps(taken: Sequence[Taken], rules: EpisodeRules, period_s: float) -> list[tuple[str, Span]]:
    """Each field's gaps, and its name."""
    found = {}
    for part in taken:
        bound_s = rules.gap_s or GAP_PERIODS * max(part.period_s, period_s)
        wide = np.flatnonzero(np.diff(part.times_s) > bound_s)
        found |= {(part.field, (float(part.times_s[k]), float(part.times_s[k + 1]))): None for k in wide}
    return list(found)


def jumps(part: Taken, columns: dict[int, int], names: Sequence[str], robot: RobotLimits) -> list[tuple[str, Span]]:
    """Between which rows a joint moves farther than any arm could, with words for each.

    Args:
        columns: of the part, each with the number of the joint that it is.
        names: [J] of the joints.
    """
    apart_s, q_rad = np.diff(part.times_s), part.values[:, list(columns)]
    usual_s = float(np.median(apart_s)) if len(apart_s) else 0.0
    joints = list(columns.values())
    bound_rad = JUMP_FACTOR * robot.dq_max_rad_s[joints] * np.maximum(apart_s, usual_s)[:, None]
    moved_rad = np.abs(np.diff(q_rad, axis=0))
    found = []
    for row in np.flatnonzero((moved_rad > bound_rad).any(1)):
        joint = int(np.argmax(moved_rad[row] / bound_rad[row]))
        words = (
            f"field {part.field} rows {part.rows[row]} to {part.rows[row + 1]}: {names[joints[joint]]} moves "
            f"{moved_rad[row, joint]:.3g} rad in {apart_s[row]:.3g} s, at most {bound_rad[row, joint]:.3g} rad "
            f"({JUMP_FACTOR:g} times what {robot.name} can)"
        )
        found.append((words, (float(part.times_s[row]), float(part.times_s[row + 1]))))
    return found


def without(spans: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    """The spans less what lies within holes (times of the last row before and of the first one after each)."""
    left = list(spans)
    for last, first in holes:
        parts = []
        for begin, end in left:
            if end <= last or first <= begin:
                parts.append((begin, end))
            else:
                parts += [(begin, last)] if last >= begin else []
                parts += [(first, end)] if first <= end else []
        left = parts
    return left


def inside(hole: Span, spans: Sequence[Span]) -> bool:
    """Whether a hole lies within one of the spans, and not between two."""
    return any(begin <= hole[0] and hole[1] <= end for begin, end in spans)
