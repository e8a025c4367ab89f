"""What a robot's episode tells a learner: skill by skill what came of it, who acted, and what may be learned from.

    whole        the skill ran for H control steps or longer, and all that it asked for was done
    cut          the episode ended first
    held         the gate held or changed a command of it, or a tick was missed: something else ran than it asked for
    stopped      the gate stopped the arm in it
    intervened   a person took over after it, before its end

A skill that is not whole has other outcomes than it would have had, and says so. Time that passed while the arm was
held, nobody acting, is left out of what is learned: it may be any amount.

Dimensions: T control steps, S skills, O observation, A action, Z skill.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError
from ..contract.types import Verdict
from .episode import INTERVENE, RETRACE, Episode, FloatArray

WHOLE, CUT, HELD, STOPPED, INTERVENED = "whole", "cut", "held", "stopped", "intervened"
MOVED = ("act", "missed", "done", INTERVENE, RETRACE)
"""Steps in which the arm was told something that is known; in others it was held."""
Shows = Literal["corrections", "successes"]
"""Whose actions show how it is done: a person's, or besides those of the policy's own plans that came true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One skill of an episode.

    Attributes:
        first: control step at which it began.
        steps: how many it ran.
        observation_O, next_O: seen at its first step, and after its last.
        skill_Z: the skill.
        reward: sub-tasks completed in it.
        kind: see the module.
        bundle_id: whose skill it was; empty where the recording doesn't say.
    """

    first: int
    steps: int
    observation_O: FloatArray
    next_O: FloatArray
    skill_Z: FloatArray
    reward: float
    kind: str
    bundle_id: str = ""


def transitions(episode: Episode, horizon: int) -> list[Transition]:
    """The skills that a policy ran, in order; `horizon` is H.

    Raises:
        EpisodeError: the recording doesn't say which skills ran.
    """
    if episode.skills is None or episode.kinds is None:
        raise EpisodeError(f"episode {episode.meta.episode_id}: names no skills; only a policy's recordings do")
    return [_transition(episode, first, end, horizon) for first, end in _runs(episode)]


def parts(episode: Episode) -> Iterator[Episode]:
    """The episode, cut where the arm was held; a part has at least one control step."""
    if episode.kinds is None:
        yield episode
        return
    moved_T = np.isin(episode.kinds[:-1], MOVED)
    for first, end in _spans(moved_T):
        yield _between(episode, first, end)


def around_people(episode: Episode, margin: int) -> Iterator[Episode]:
    """The parts of a policy's episode in which a person acts, with so many control steps before and after."""
    if episode.kinds is None:
        return
    for first, end in _spans(episode.kinds[:-1] == INTERVENE):
        yield _between(episode, max(0, first - margin), min(episode.steps, end + margin))


def _between(episode: Episode, first: int, end: int) -> Episode:
    return replace(
        episode,
        observations=episode.observations[first : end + 1],
        actions=episode.actions[first:end],
        first_step=episode.first_step + first,
        **{
            name: None if (array := getattr(episode, name)) is None else array[first : end + more]
            for name, more in _OPTIONAL.items()
        },
    )


_OPTIONAL = {
    "actions_proposed": 0,
    "skills": 0,
    "bundle_ids": 0,
    "promises": 0,
    "rewards": 1,
    "kinds": 1,
    "verdicts": 1,
}
"""What else an episode may hold, and how many rows it has more than actions."""


def shown(episode: Episode, by: Shows, steps: int) -> npt.NDArray[np.bool_]:
    """[T], whether an action shows how it is done.

    Args:
        by: whose actions do.
        steps: with `successes`, how many before the completion of a sub-task count, those of other sub-tasks left out.
    """
    shown_T = episode.shown_T.copy()
    if by == "corrections" or episode.rewards is None or episode.kinds is None:
        return shown_T
    done, before = np.flatnonzero(episode.rewards > 0), 0
    for step in done:
        since = max(before, step - steps)
        shown_T[since:step] |= episode.kinds[since:step] == "act"
        before = step
    return shown_T


def _runs(episode: Episode) -> Iterator[tuple[int, int]]:
    """First step and end of each skill: it goes on until another one is in force, or none."""
    skills, kinds = episode.skills, episode.kinds
    assert skills is not None and kinds is not None
    policy_T = np.isin(kinds[:-1], ("act", "missed")) & ~np.isnan(skills).all(1)
    skills = np.nan_to_num(skills)  # another bundle's skill may be shorter
    for first, end in _spans(policy_T):
        changed = np.flatnonzero((skills[first + 1 : end] != skills[first : end - 1]).any(1)) + first + 1
        edges = [first, *changed.tolist(), end]
        yield from zip(edges, edges[1:])  # noqa: RUF007 (pairwise gives the same, but the type is clearer so)


def _spans(holds_T: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, holds_T, False].astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist())


def _transition(episode: Episode, first: int, end: int, horizon: int) -> Transition:
    assert episode.skills is not None
    rewards, ids = episode.rewards, episode.bundle_ids
    return Transition(
        first=episode.first_step + first,
        steps=end - first,
        observation_O=episode.observations[first],
        next_O=episode.observations[end],
        skill_Z=episode.skills[first],
        reward=0.0 if rewards is None else float(np.nansum(rewards[first + 1 : end + 1])),
        kind=_kind(episode, first, end, horizon),
        bundle_id=str(ids[first]) if ids is not None else episode.meta.bundle_id,
    )


def _kind(episode: Episode, first: int, end: int, horizon: int) -> str:
    kinds, verdicts = episode.kinds, episode.verdicts
    assert kinds is not None
    worst = Verdict.PASS if verdicts is None else Verdict(int(verdicts[first:end].max()))
    if worst is Verdict.STOP:
        return STOPPED
    if worst is not Verdict.PASS or (kinds[first:end] != "act").any():
        return HELD
    if end - first >= horizon:
        return WHOLE
    after = kinds[end:]
    moves_on = after[~np.isin(after, ("hold", "prepare"))]
    return INTERVENED if len(moves_on) and moves_on[0] == INTERVENE else CUT
