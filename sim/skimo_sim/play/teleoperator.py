"""A scripted teleoperator: turns a script's aim into the policy's own actions (joint velocities and finger intent).

Promises
  - Uses only what is seen: joint and finger positions and the 21 object values. What it asks for does not depend on
    how fast the arm moves already (the observation doesn't hold that either): the actuator sees to accelerations.
  - Backs out along the hand's axis before it leaves a handle, so that it does not sweep what it has just set.
  - Joint velocities stay within the action scale, all reduced alike; limits beyond that are the actuator's.
Units rad, m, s.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from skimo_core.contract.specs import ActionSpec
from skimo_core.contract.types import Array

from ..scenes.kitchen import Scene
from ..twin import Twin
from .geometry import KETTLE, handles
from .kinematics import ArmKinematics, rotation_vector
from .scripts import OPEN, SCRIPTS, Aim, Drag, Home, Pull, Shove, Style, View, aim, posts

BACK_OUT_M = 0.085
"""Within this of another sub-task's handle the hand backs out before it goes elsewhere."""
KETTLE_HANDLE_M = 0.26
KETTLE_CLEAR_M = 0.20
"""Height of the kettle's handle above its origin, and how far the fingertips keep from it while passing."""
IN_FRONT = "kettle at front left"
A_DRAG = next(script for script in SCRIPTS.values() if isinstance(script, Drag))
HOME_HZ, HOME_MAX_RAD_S = 3.0, 1.0
HOOD_FRONT_M, HOOD_LOW_M = 0.58, 2.1
"""Fingertips further in and lower than this are under the hood."""
TURN_HZ = 2.5
TURN_MAX_RAD_S = 1.6


class Teleoperator:
    """Does one sub-task at a time."""

    def __init__(self, scene: Scene, kinematics: ArmKinematics, action: ActionSpec) -> None:
        self.handles = handles(scene)
        self._kinematics = kinematics
        self._action = action

    @classmethod
    def of(cls, twin: Twin) -> Teleoperator:
        """That of a twin's arm."""
        base = twin.data.body(int(twin.model.body_parentid[twin.model.jnt_bodyid[0]]))
        kinematics = ArmKinematics(base.xpos.copy(), base.xquat.copy(), twin.limits)
        return cls(twin.scene, kinematics, twin.domain.action)

    def view(self, q_rad: Array, finger_m: Array, objects: Array) -> View:
        """What is seen at joint angles [7], finger positions [2] and object values [21]."""
        tip, rotation = self._kinematics.fingertips(q_rad)
        return View(tip_m=tip, rotation=rotation, finger_m=float(finger_m.mean()), objects=objects)

    def aim(self, subtask: str, view: View, style: Style) -> Aim:
        """What the fingertips should do now for `subtask`, other parts kept clear of."""
        subtask = first(subtask, view.objects)
        wanted = aim(subtask, self.handles, view, style)
        return self.back_out(subtask, view, skirt(subtask, view, wanted))

    def action(self, subtask: str, q_rad: Array, view: View, wanted: Aim) -> npt.NDArray[np.float32]:
        """The action [A] that makes the fingertips do what is `wanted` from joint angles [7]."""
        if wanted.q_rad is not None:
            dq = HOME_HZ * (wanted.q_rad - q_rad)
            dq *= min(1.0, HOME_MAX_RAD_S / max(float(np.abs(dq).max()), 1e-9))
            return self._as_action(dq, wanted.intent)
        turn = TURN_HZ * rotation_vector(wanted.rotation, view.rotation)
        turn *= min(1.0, TURN_MAX_RAD_S / max(float(np.linalg.norm(turn)), 1e-9))
        posture = np.array(SCRIPTS[first(subtask, view.objects)].posture_rad)
        dq = self._kinematics.joint_velocity(q_rad, np.r_[wanted.velocity_m_s, turn], posture)
        return self._as_action(dq, wanted.intent)

    def _as_action(self, dq_rad_s: Array, intent: float) -> npt.NDArray[np.float32]:
        velocities = dq_rad_s / self._action.scale_rad_s
        velocities /= max(1.0, float(np.abs(velocities).max()))
        fingers = np.full(self._action.size - self._action.joints, intent)
        return np.r_[velocities, fingers].astype(np.float32)

    def over(self, name: str, style: Style, *, q_rad: Array, objects: Array) -> bool:
        """Whether the script has nothing left to do (a little further than the sub-task's threshold asks)."""
        script = SCRIPTS[name]
        if isinstance(script, Home):
            return bool(np.linalg.norm(q_rad - script.posture_rad) < script.until)
        if isinstance(script, Drag):
            return bool(np.linalg.norm(objects[KETTLE][:2] - script.to_m) < script.near_m)
        if isinstance(script, Shove):
            return script.there(objects[KETTLE], style)
        return script.over(float(objects[self.handles[script.part].channel]), style)

    def applies(self, name: str, *, q_rad: Array, objects: Array) -> bool:
        """Whether there is enough for the script to do."""
        script = SCRIPTS[name]
        if isinstance(script, Home):
            return bool(np.linalg.norm(q_rad - script.posture_rad) > 2.5 * script.until)
        if isinstance(script, Drag):
            gap_m = np.linalg.norm(objects[KETTLE][:2] - script.to_m)
            return not walled_in(objects) and bool(gap_m > 5 * script.near_m)
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


def walled_in(objects: Array) -> bool:
    """Whether the kettle stands between hood and microwave, where no hand gets round its handle."""
    x, y = objects[KETTLE][:2]
    return bool(x < -0.1 and y > 0.5)


def first(name: str, objects: Array) -> str:
    """The script that has to run first: a kettle off its line is drawn in front of its place before it is shoved."""
    script = SCRIPTS[name]
    if isinstance(script, Shove) and not walled_in(objects):
        return IN_FRONT if abs(script.off_line_m(objects[KETTLE])) > script.aside_m else name
    return name


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
