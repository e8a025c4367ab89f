"""Whether episodes fit a domain and its robot: widths, actions, jumps, and what their metadata names.

Each check returns why not, in words with value, bound and remedy, or "". Callers put file and episode before it.
"""

from __future__ import annotations

import numpy as np

from ..contract.specs import Named
from ..domain.domain import Domain
from ..domain.robot import RobotLimits
from .episode import Episode, EpisodeMeta, FloatArray

ACTION_SLACK = 1e-5
"""How far beyond 1 an action may lie: what float32 makes of a 1 that was computed."""
JUMP_FACTOR = 3.0
"""A joint that moves so many times as fast as the robot can is at two places, not on its way."""
RATE_TOLERANCE_HZ = 1e-6


def why_unfit(episode: Episode, domain: Domain, robot: RobotLimits) -> str:
    """Why the episode's arrays can't be of this domain and robot."""
    return (
        why_other_width(episode, domain)
        or why_out_of_bounds(episode.actions, domain)
        or why_jumping(episode.observations, domain, robot)
    )


def why_other_width(episode: Episode, domain: Domain) -> str:
    """Why the widths are not the domain's."""
    for field, array, size in (
        ("observations", episode.observations, domain.observation.size),
        ("actions", episode.actions, domain.action.size),
    ):
        if array.shape[1] != size:
            return f"{field} has width {array.shape[1]}, domain {domain.name!r} has {size}; name its own with --domain"
    return ""


def why_out_of_bounds(actions_TA: FloatArray, domain: Domain) -> str:
    """Why the actions are none: the first one beyond -1 to 1."""
    beyond = np.argwhere(np.abs(actions_TA) > 1.0 + ACTION_SLACK)
    if not len(beyond):
        return ""
    row, column = map(int, beyond[0])
    return (
        f"actions step {row}: {domain.action.names[column]} is {actions_TA[row, column]:.6g}, must lie in -1 to 1; "
        f"divide joint velocities by the action scale, {domain.action.scale_rad_s:g} rad/s"
    )


def why_jumping(observations_RO: FloatArray, domain: Domain, robot: RobotLimits) -> str:
    """Why the rows can't follow each other: the first joint that moves farther in a period than any arm could."""
    joints, period_s = domain.observation.joints, domain.action.period_s
    bound_rad = JUMP_FACTOR * robot.dq_max_rad_s[:joints] * period_s
    moved_rad = np.abs(np.diff(observations_RO[:, :joints].astype(np.float64), axis=0))
    jumps = np.argwhere(moved_rad > bound_rad)
    if not len(jumps):
        return ""
    row, joint = map(int, jumps[0])
    return (
        f"observations step {row} to {row + 1}: {domain.observation.names[joint]} moves "
        f"{moved_rad[row, joint]:.3g} rad in {period_s:g} s, at most {bound_rad[joint]:.3g} rad ({JUMP_FACTOR:g} times "
        f"what {robot.name} can); an episode's end is not marked there, or the data is of another rate"
    )


def why_unlike(meta: EpisodeMeta, domain: Domain, robot: RobotLimits) -> str:
    """Why a recording is of another domain, robot, rate or other channels, as far as its metadata says."""
    if why := why_other_domain(meta, domain):
        return why
    if meta.robot.digest and not robot.accepts(meta.robot.digest):
        return f"was made with robot {meta.robot}, wanted {robot.named}; name that one with --robot"
    if abs(meta.rate_hz - domain.action.rate_hz) > RATE_TOLERANCE_HZ:
        return f"has {meta.rate_hz:g} control steps per second, wanted {domain.action.rate_hz:g}; name its --domain"
    for index, (its, ours) in enumerate(zip(meta.channels, domain.observation.names)):
        if its != ours:
            return f"has channel {index} {its!r}, wanted {ours!r}; name its --domain"
    if meta.channels and len(meta.channels) != domain.observation.size:
        return f"has {len(meta.channels)} channels, wanted {domain.observation.size}; name its --domain"
    return ""


def why_other_domain(meta: EpisodeMeta, domain: Domain) -> str:
    """Why a recording is of another domain, as far as its metadata says."""
    if meta.domain.digest not in ("", domain.digest):
        return f"was made in domain {meta.domain}, wanted {domain.named}; name that one with --domain"
    return ""


def unnamed(meta: EpisodeMeta) -> tuple[str, ...]:
    """What a recording's metadata leave open."""
    named: dict[str, Named | tuple[str, ...]] = {"domain": meta.domain, "robot": meta.robot, "channels": meta.channels}
    return tuple(k for k, v in named.items() if not (v.digest if isinstance(v, Named) else v))
