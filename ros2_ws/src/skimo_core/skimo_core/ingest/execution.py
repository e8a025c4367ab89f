"""What actions do when they are executed: the path that our actuation makes of them, against the one recorded.

Every action goes through `control.actuate`, as in a run, from where and how fast the episode begins; nothing moves. It
says whether given actions mean what the mapping says, and how well derived ones lead along the recording. Units rad, s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..contract.errors import SpecError
from ..contract.types import Array
from ..control.actuate import Actuator
from ..domain.domain import Domain
from ..domain.robot import RobotLimits
from ..episodes.episode import Episode

MOST_STEPS = 4000
"""How many control steps are looked at, of the first episodes: it takes a second or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """How far the executed path is from the recorded one.

    Attributes:
        steps: that were looked at.
        median_rad, most_rad: of a step's joint that is furthest off, over those steps.
        moved_rad: how far the joint that went furthest was from its start, the median over the episodes.
    """

    steps: int
    median_rad: float
    most_rad: float
    moved_rad: float


def execute(episodes: Sequence[Episode], domain: Domain, robot: RobotLimits) -> Executed | None:
    """Execute the first episodes' actions; None: the domain has no arm, or a rate that our actuation can't run."""
    if not domain.action.joints:
        return None
    off: list[Array] = []
    moved: list[float] = []
    for episode in episodes:
        if sum(map(len, off)) >= MOST_STEPS:
            break
        try:
            path = executed_path(episode, domain, robot)
        except SpecError:
            return None
        recorded = episode.observations[:, : domain.action.joints].astype(np.float64)
        off.append(np.abs(path - recorded[: len(path)])[1:].max(1))
        moved.append(float(np.abs(recorded - recorded[0]).max()))
    if not off:
        return None
    all_off = np.concatenate(off)
    return Executed(
        steps=len(all_off),
        median_rad=float(np.median(all_off)),
        most_rad=float(all_off.max()),
        moved_rad=float(np.median(moved)),
    )


def executed_path(episode: Episode, domain: Domain, robot: RobotLimits) -> Array:
    """Commanded joint positions [N + 1, J] at each of the first steps.

    Raises:
        SpecError: the domain's rate is too high for what a command takes to the arm.
    """
    spec = domain.action
    actuator, begin = _under_way(episode, domain, robot)
    path = [begin]
    for step, action in enumerate(np.clip(episode.actions[:MOST_STEPS], -1.0, 1.0)):
        actuator.command(action, step * spec.period_s)
        path.append(actuator.commanded((step + 1) * spec.period_s)[0])
    return np.stack(path)


def _under_way(episode: Episode, domain: Domain, robot: RobotLimits) -> tuple[Actuator, Array]:
    """An arm that at time 0 is where the episode begins, as fast as it goes there; and where that is.

    From rest a period earlier it is led there: what a recording begins with needn't be rest.
    """
    spec = domain.action
    q_rad = episode.observations[:2, : spec.joints].astype(np.float64)
    action = np.zeros(spec.size, np.float32)
    action[: spec.joints] = np.clip((q_rad[1] - q_rad[0]) / spec.period_s / spec.scale_rad_s, -1.0, 1.0)
    begin = q_rad[0]
    for _ in range(2):
        actuator = Actuator(robot, spec)
        actuator.reset(begin, -spec.period_s)
        actuator.command(action, -spec.period_s)
        reached = actuator.commanded(0.0)[0]
        begin = begin + q_rad[0] - reached
    return actuator, reached
