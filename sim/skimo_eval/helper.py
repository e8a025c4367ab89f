"""Who helps a policy in the twin: the scripted teleoperator does the sub-task that the policy asks for help with.

On a robot that is a person. Units control steps.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import FloatArray
from skimo_sim.impaired import actual
from skimo_sim.play.player import PlayConfig, draw_style
from skimo_sim.play.scripts import GOALS, SCRIPTS
from skimo_sim.play.teleoperator import Teleoperator
from skimo_sim.twin import Twin

from .trials import Lab

PATIENCE_STEPS = 120
"""What takes longer is given up."""
PLAIN = PlayConfig(misjudged=0.0, partial=0.0)
SCRIPT_OF = {name: name for name in SCRIPTS} | {goal: script for script, goal in GOALS.items()}


class ScriptedHelper:
    """Implements `trials.Helper`: acts on the kitchen as it is, whatever the policy's sensors say.

    Raises:
        SpecError: the lab's twin is not the kitchen.
    """

    def __init__(self, lab: Lab) -> None:
        twin = actual(lab.twin)
        if not isinstance(twin, Twin):
            raise SpecError("the scripted teleoperator knows the kitchen alone; help by hand, or take its twin")
        self._twin, self._teleoperator = twin, Teleoperator.of(twin)

    def begin(self, subtask: str, seed: int) -> None:
        self._script = SCRIPT_OF.get(subtask, "")
        self._style = draw_style(np.random.default_rng(np.random.SeedSequence([seed, 8])), PLAIN)
        self._left = PATIENCE_STEPS if self._script else 0

    def act(self) -> FloatArray | None:
        self._left -= 1
        if self._left < 0:
            return None
        robot, objects = self._twin.read(), self._twin.read_objects()
        view = self._teleoperator.view(robot.q_rad, robot.finger_m, objects.values)
        wanted = self._teleoperator.aim(self._script, view, self._style)
        return self._teleoperator.action(self._script, robot.q_rad, view, wanted)
