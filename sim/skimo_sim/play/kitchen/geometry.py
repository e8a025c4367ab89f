"""What a teleoperator sees of the kitchen: where each handle is for the object values of the moment.

Read once from the compiled scene; afterwards every position follows from the 21 object values alone, so a script
needs nothing that an observation does not hold. Units m, rad; world frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skimo_core.contract.types import Array

from ...scenes.kitchen import Scene
from ...scenes.physics import mujoco


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """A point on a hinged or sliding part.

    Attributes:
        channel: index of its joint among the 21 object values.
        anchor_m, axis: of the joint.
        at_zero_m: where the point is at joint value 0.
        slides: whether the joint slides.
    """

    channel: int
    anchor_m: Array
    axis: Array
    at_zero_m: Array
    slides: bool

    def at(self, value: float, offset_m: Array | float = 0.0) -> Array:
        """The point [3], moved by `offset_m` in the part's own axes at rest, when the joint stands at `value`."""
        point = self.at_zero_m + offset_m
        if self.slides:
            return point + self.axis * value
        return self.anchor_m + self.turn(value, point - self.anchor_m)

    def turn(self, value: float, vector: Array) -> Array:
        """A vector [3] of the part at rest, turned with it."""
        if self.slides:
            return vector
        c, s = np.cos(value), np.sin(value)
        (a, b, d), (x, y, z) = self.axis, vector
        across = np.array([b * z - d * y, d * x - a * z, a * y - b * x])  # np.cross takes ten times as long
        return vector * c + across * s + self.axis * (self.axis @ vector) * (1 - c)


HANDLES = {
    "microwave": ("microwave", "microhandle_site"),
    "bottom burner": ("knob_Joint_2", "knob2_site"),
    "top burner": ("knob_Joint_4", "knob4_site"),
    "light switch": ("light_switch", "light_site"),
    "slide cabinet": ("slide_cabinet", "slide_site"),
    "hinge cabinet": ("right_hinge_cabinet", "hinge_site2"),
}
"""Sub-task: joint and site of its handle."""

HINGE = 12
"""The right hinge cabinet door among the object values."""
KETTLE = slice(14, 21)
"""The kettle's pose among the object values."""


def handles(scene: Scene) -> dict[str, Handle]:
    """Measure the scene's handles, by sub-task."""
    model = scene.model
    data = mujoco.MjData(model)
    data.qpos[:] = scene.start_qpos
    data.qpos[9:23] = 0.0
    mujoco.mj_kinematics(model, data)
    found = {}
    for subtask, (joint_name, site_name) in HANDLES.items():
        joint = model.joint(joint_name)
        found[subtask] = Handle(
            channel=int(joint.qposadr[0]) - 9,
            anchor_m=data.xanchor[joint.id].copy(),
            axis=data.xaxis[joint.id].copy(),
            at_zero_m=data.site(site_name).xpos.copy(),
            slides=bool(joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE),
        )
    return found
