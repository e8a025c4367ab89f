"""What a scripted teleoperator is to whoever lets one act: scripts by name, and each one's action for what is seen.

It knows one domain. Which it is, an installed package says by the domain's name (`plays`); players, helpers and
collections know no other thing of it than what stands here.

Promises of every teleoperator
  - A script is a function of the present view and of a style drawn once per attempt; it has no memory, timer or phase
    counter, so that a memoryless policy can imitate it and a disturbed arm finds its way back by itself.
  - It uses only what an observation holds.
Units rad, m, control steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.types import Array, RobotState
from skimo_core.domain.tasks import Subtask

from .disturbance import DisturbanceConfig

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How this attempt differs from others; all zero is the plain way.

    Attributes:
        yaw_rad, pitch_rad: added to the hand's orientation.
        height_m: added to where a part is gripped.
        pace: factor on speeds.
        extent: share of the way to go, where a part may be left between.
        miss_m: how far beside the part, and how far short of it, the hand goes because its place is misjudged.
    """

    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    height_m: float = 0.0
    pace: float = 1.0
    extent: float = 1.0
    miss_m: tuple[float, float] = (0.0, 0.0)

    @property
    def misses(self) -> bool:
        return any(self.miss_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptInfo:
    """What is known of a script from outside.

    Attributes:
        goal: what it does, as a goal of the domain: its name, or channels with values.
        kind: how it does it, in a word; kinds may be favoured.
        after: scripts of which one runs before it when it is tried (it undoes what they do); none: any other.
    """

    goal: str
    kind: str
    after: tuple[str, ...] = ()


def script_for(scripts: Mapping[str, ScriptInfo], goal: str) -> str:
    """The script of that name, or else the last that does that goal; "" where none does."""
    if goal in scripts:
        return goal
    return {info.goal: name for name, info in scripts.items()}.get(goal, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayConfig:
    """How episodes are played; the defaults suit 12.5 control steps a second.

    Attributes:
        steps: control steps of an episode.
        patience_steps: a script that takes longer, once its place is judged right, ends the play.
        trial_patience_steps: the same where a script is only tried, or helps.
        least_scripts: that an episode holds.
        misjudged: share of attempts that first go beside the part and work there in vain.
        misjudged_steps: after how long that is noticed at last.
        noticed_steps: after how much work in vain it is noticed, drawn evenly.
        partial: share of attempts that leave the part somewhere between.
        undoing: how likely a script is chosen that is no sub-task, against one that is.
        favoured: how likely a script of a kind is chosen, against others; 0: never.
        undoing_corrected, favoured_corrected: the same where a policy drives that is to be corrected.
        driver_steps: after how long the teleoperator then takes over, drawn evenly: now and then from a policy that is
            only slow.
        disturbance: what keeps the hand from doing what was meant.
    """

    steps: int = 280
    patience_steps: int = 80
    trial_patience_steps: int = 120
    least_scripts: int = 4
    misjudged: float = 0.15
    misjudged_steps: int = 34
    noticed_steps: tuple[int, int] = (3, 10)
    partial: float = 0.25
    undoing: float = 0.45
    favoured: Mapping[str, float] = field(default_factory=dict)
    undoing_corrected: float = 0.45
    favoured_corrected: Mapping[str, float] = field(default_factory=dict)
    driver_steps: tuple[int, int] = (20, 60)
    disturbance: DisturbanceConfig = field(default_factory=DisturbanceConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What is done now: an action [A], and whether the hand is where it moves the part, or should be."""

    action_A: FloatArray
    engaged: bool


V = TypeVar("V")


class Teleoperator(Protocol[V]):
    """Does one script at a time; `V` is what it makes of what is seen, opaque to others.

    Attributes:
        scripts: what there is, by name, in a fixed order.
        config: how it plays.
    """

    @property
    def scripts(self) -> Mapping[str, ScriptInfo]: ...

    @property
    def config(self) -> PlayConfig: ...

    def view(self, robot: RobotState, objects: Array) -> V:
        """What is seen with the arm as it is and object values [K]."""
        ...

    def over(self, name: str, style: Style, view: V) -> bool:
        """Whether the script, done in a style, has nothing left to do."""
        ...

    def applies(self, name: str, view: V) -> bool:
        """Whether there is enough for the script to do, and it can."""
        ...

    def move(self, name: str, style: Style, view: V) -> Move:
        """What the script does now."""
        ...


class PlayedTwin(SimulatedBackend, Protocol):
    """A twin that can be put at a start that is drawn for one attempt of several."""

    def begin(self, asked: tuple[Subtask, ...], seed: int, attempt: int = 0) -> None:
        """Put everything at the start that seed and attempt draw, at rest; no goal that is `asked` is done there."""
        ...
