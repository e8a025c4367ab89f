"""Who helps a policy in the twin: the scripted teleoperator does the sub-task that the policy asks for help with.

On a robot that is a person. Units control steps.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from skimo_core.contract.policy import FloatArray
from skimo_core.contract.types import ObjectStates, RobotState
from skimo_sim.impaired import actual
from skimo_sim.play.player import careful, draw_style
from skimo_sim.play.plays import teleoperator_of
from skimo_sim.play.teleoperator import script_for

from .trials import Lab


class Sight(Protocol):
    """Where arm and objects are seen."""

    def read(self) -> RobotState:
        """The arm and the hand as they are now."""
        ...

    def read_objects(self) -> ObjectStates:
        """The objects' values as they are now."""
        ...


class ScriptedHelper:
    """Implements `trials.Helper`: acts on the scene as it is, whatever the policy's sensors say.

    Args:
        sight: through which it sees a scene like the lab's; None: the lab's own twin.

    Raises:
        SpecError: the lab's domain has no scripted play, or not with this twin.
    """

    def __init__(self, lab: Lab, sight: Sight | None = None) -> None:
        twin = actual(lab.twin)
        self._sight: Sight = twin if sight is None else sight
        self._teleoperator = teleoperator_of(lab.domain, twin)

    def begin(self, subtask: str, seed: int) -> None:
        config = careful(self._teleoperator.config)
        self._script = script_for(self._teleoperator.scripts, subtask)
        self._style = draw_style(np.random.default_rng(np.random.SeedSequence([seed, 8])), config)
        self._left = config.trial_patience_steps if self._script else 0

    def act(self) -> FloatArray | None:
        self._left -= 1
        if self._left < 0:
            return None
        view = self._teleoperator.view(self._sight.read(), self._sight.read_objects().values)
        return self._teleoperator.move(self._script, self._style, view).action_A
