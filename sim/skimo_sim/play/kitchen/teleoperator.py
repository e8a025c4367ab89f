"""The kitchen's scripted teleoperator: its scripts, each kept clear of what is in the way.

Promises
  - Uses only what is seen: joint and finger positions and the 21 object values.
  - Backs out along the hand's axis before it leaves a handle, so that it does not sweep what it has just set.
Units rad, m, s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array, RobotState
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain, load_domain

from ...twin import Twin
from ..arm import OPEN, Aim, ArmOperator, View
from ..clearance import Clearance
from ..kinematics import ArmKinematics
from ..teleoperator import Move, PlayConfig, ScriptInfo, Style
from .geometry import KETTLE, handles
from .scripts import GOALS, SCRIPTS, Drag, Home, Pull, Shove, aim, posts

BACK_OUT_M = 0.085
"""Within this of another sub-task's handle the hand backs out before it goes elsewhere."""
KETTLE_HANDLE_M = 0.26
KETTLE_CLEAR_M = 0.20
"""Height of the kettle's handle above its origin, and how far the fingertips keep from it while passing."""
IN_FRONT = "kettle at front left"
A_DRAG = next(script for script in SCRIPTS.values() if isinstance(script, Drag))
HOOD_FRONT_M, HOOD_LOW_M = 0.58, 2.1
"""Fingertips further in and lower than this are under the hood."""
CONFIG = PlayConfig(
    patience_steps=120,
    trial_patience_steps=160,
    favoured={"pull": 1.7},
    undoing_corrected=0.8,
    favoured_corrected={"pull": 2.0, "shove": 2.0, "drag": 3.0, "home": 2.5},
)
"""The kettle takes long out from between hood and microwave. One that pulls takes more precision than a push, and so
more examples. What bundles fail at most is corrected most:
the microwave, the kettle, above all to the right burners, and the arm home."""


def kitchen_play(domain: Domain, twin: SimulatedBackend) -> KitchenTeleoperator:
    """Registered as `kitchen`.

    Raises:
        SpecError: the domain's channels are not the kitchen's, or the twin has not its scene.
    """
    if domain.observation != load_domain("kitchen").observation or not isinstance(twin, Twin):
        raise SpecError(
            f"the kitchen's scripted teleoperator can't work in domain {domain.named}: it knows that scene alone; help "
            "by hand, or take the domain and the twin that ship"
        )
    return KitchenTeleoperator(twin, domain)


def infos() -> dict[str, ScriptInfo]:
    """What is known of each script."""
    found = {}
    for name, script in SCRIPTS.items():
        does = tuple(n for n, other in SCRIPTS.items() if other.part == script.part and not other.back)
        kind = type(script).__name__.lower()
        found[name] = ScriptInfo(goal=GOALS.get(name, name), kind=kind, after=does if script.back else ())
    return found


class KitchenTeleoperator:
    """Implements `teleoperator.Teleoperator`."""

    def __init__(self, twin: Twin, domain: Domain) -> None:
        base = twin.data.body(int(twin.model.body_parentid[twin.model.jnt_bodyid[0]]))
        self.kinematics = ArmKinematics(base.xpos.copy(), base.xquat.copy(), twin.limits)
        self.handles = handles(twin.scene)
        self.scripts: Mapping[str, ScriptInfo] = infos()
        self.config = CONFIG
        self.operator = ArmOperator(
            kinematics=self.kinematics,
            action=domain.action,
            clearance=Clearance(twin.limits, load_cell(domain.cell)),
            wrung_rad=(1.2, 0.4),  # as it is on its way back from the right burners
        )

    def view(self, robot: RobotState, objects: Array) -> View:
        """What is seen with the arm as it is and object values [21]."""
        return self.operator.view(robot, objects)

    def move(self, name: str, style: Style, view: View) -> Move:
        """What the script does now."""
        name = first(name, view.objects)
        wanted = self.aim(name, view, style)
        action_A = self.operator.act(wanted, view, np.array(SCRIPTS[name].posture_rad))
        return Move(action_A=action_A, engaged=wanted.engaged)

    def aim(self, name: str, view: View, style: Style) -> Aim:
        """What the fingertips should do now, other parts kept clear of."""
        return self.back_out(name, view, skirt(name, view, aim(name, self.handles, view, style)))

    def over(self, name: str, style: Style, view: View) -> bool:
        """Whether the script has nothing left to do (a little further than the sub-task's threshold asks)."""
        script, objects = SCRIPTS[name], view.objects
        if isinstance(script, Home):
            return bool(np.linalg.norm(view.q_rad - script.posture_rad) < script.until)
        if isinstance(script, Drag):
            return bool(np.linalg.norm(objects[KETTLE][:2] - script.to_m) < script.near_m)
        if isinstance(script, Shove):
            return script.there(objects[KETTLE], style)
        return script.over(float(objects[self.handles[script.part].channel]), style)

    def applies(self, name: str, view: View) -> bool:
        """Whether there is enough for the script to do."""
        script, objects = SCRIPTS[name], view.objects
        if isinstance(script, Home):
            return bool(np.linalg.norm(view.q_rad - script.posture_rad) > 2.5 * script.until)
        if isinstance(script, Drag):
            gap_m = np.linalg.norm(objects[KETTLE][:2] - script.to_m)
            return bool(gap_m > 5 * script.near_m)
        if isinstance(script, Shove):
            return not script.there(objects[KETTLE], Style())
        return script.applies(float(objects[self.handles[script.part].channel]))

    def back_out(self, subtask: str, view: View, wanted: Aim) -> Aim:
        """Near another handle: let go and leave along the hand's axis first."""
        gap, nearest = min(
            (float(np.linalg.norm(handle.at(float(view.objects[handle.channel])) - view.tip_m)), name)
            for name, handle in self.handles.items()
            if name not in (SCRIPTS[subtask].part, *SCRIPTS[subtask].beside)
        )
        gripped = isinstance(SCRIPTS[nearest], Pull)  # a bar between the fingers: out for their whole length
        if not isinstance(SCRIPTS[subtask], Drag):
            post = float(np.linalg.norm(posts(A_DRAG, view.objects[KETTLE]) - view.tip_m, axis=1).min())
            if post < gap:
                gap, gripped = post, True
        crowd = float(np.clip((2.4 if gripped else 1.6) * (1.0 - gap / BACK_OUT_M), 0.0, 1.0))
        if crowd == 0.0:
            return wanted
        gripping = gripped and crowd > 0.2
        still = gripping and view.finger_m < 0.026
        away = -view.rotation[:, 2] * (0.0 if still else 0.5)
        return replace(
            wanted,
            velocity_m_s=(1.0 - crowd) * wanted.velocity_m_s + crowd * away,
            rotation=view.rotation if crowd > 0.5 else wanted.rotation,
            intent=OPEN if gripping else wanted.intent,
            q_rad=None if crowd > 0.2 else wanted.q_rad,
        )


def first(name: str, objects: Array) -> str:
    """The script that has to run first: a kettle off its line is drawn in front of its place before it is shoved."""
    script, kettle = SCRIPTS[name], objects[KETTLE]
    return IN_FRONT if isinstance(script, Shove) and script.misplaced(kettle) else name


def skirt(subtask: str, view: View, wanted: Aim) -> Aim:
    """On the way to something else: out from under the hood first, and off the kettle's handle."""
    if SCRIPTS[subtask].part == "kettle":
        return wanted
    if view.tip_m[1] > HOOD_FRONT_M and view.tip_m[2] < HOOD_LOW_M:
        return replace(wanted, velocity_m_s=np.array([0.0, -0.5, 0.0]), q_rad=None)
    away = view.tip_m - (view.objects[KETTLE][:3] + np.array([0.0, 0.0, KETTLE_HANDLE_M]))
    near = 1.0 - float(np.linalg.norm(away)) / KETTLE_CLEAR_M
    if near <= 0.0:
        return wanted
    push = 0.6 * near * away / max(float(np.linalg.norm(away)), 1e-6)
    return replace(wanted, velocity_m_s=wanted.velocity_m_s + push)
