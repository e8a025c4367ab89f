"""Our arm as it is mounted in somebody's scene: one of a robot's limits, with fingers of a kind.

The model is the Panda's (assets/panda.xml). A robot with the same kinematics and hand - the Franka Research 3 - is
given its own joint ranges and torque limits; masses, friction and shape stay the Panda's: no identification of the
Research 3 is published that could take their place. Any other arm is refused. Units m, rad, Nm.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS
from skimo_core.domain.robot import RobotLimits, load_limits

from .assets import PANDA_XML, kitchen_root
from .physics import mujoco

STANDARD, LONG = "franka", "long"
FINGER_KINDS = (STANDARD, LONG)
FINGERTIP_M = {STANDARD: 0.1034, LONG: 0.145}
"""From the hand's frame to the middle of the fingers' pads, along the hand's axis."""
FINGER_BODIES = ("panda_leftfinger", "panda_rightfinger")
BASE_BODY = "panda_link0"
STANDARD_BOXES = (
    ((0.0105, 0.0105, 0.018), (0.0, 0.0155, 0.018)),
    ((0.0088, 0.0065, 0.009), (0.0, 0.0065, 0.0448)),
)
"""Half size and middle of the boxes that stand for a finger as Franka ships it, from its mesh: stem and pad; m."""
SAME = 1e-9


def has_model(limits: RobotLimits) -> bool:
    """Whether there is a model of that robot: the arm's kinematics and the hand are the Panda's."""
    ours = load_limits("panda")
    if limits.joints != ours.joints or len(limits.finger_names) != len(ours.finger_names):
        return False
    pairs = [
        (getattr(limits, name), getattr(ours, name))
        for name in ("dh_a_m", "dh_d_m", "dh_alpha_rad", "flange_m", "hand_yaw_rad", "hand_width_max_m")
    ]
    return all(np.allclose(one, other, rtol=0.0, atol=SAME) for one, other in pairs)


def refuse_unknown_robot(limits: RobotLimits) -> None:
    """Raises SpecError for a robot that there is no model of, and says what can be done without."""
    if not has_model(limits):
        raise SpecError(
            f"no scene can hold robot {limits.name!r}: the only arm model here is the Panda's, which the Franka "
            "Research 3 shares, and this one's kinematics or hand are others; take twin: kinematic, with which "
            "everything but contact can be tried: no practice, no promotion trials, no evaluation in simulation"
        )


def panda_spec(limits: RobotLimits, fingers: str) -> mujoco.MjSpec:
    """The arm alone, not compiled, with the robot's ranges and torque limits and such fingers.

    Raises:
        SpecError: there is no model of that robot.
        SetupError: its meshes are not installed.
    """
    refuse_unknown_robot(limits)
    spec = mujoco.MjSpec.from_file(str(PANDA_XML))
    spec.meshdir = str(kitchen_root() / "franka_assets" / "meshes")
    spec.compiler.degree = False
    for k in range(JOINTS):
        joint = spec.joint(f"panda_joint{k + 1}")
        joint.range = limits.q_min_rad[k], limits.q_max_rad[k]
        joint.actfrcrange = -limits.tau_max_nm[k], limits.tau_max_nm[k]
    if fingers == STANDARD:
        _shorten(spec)
    return spec


def _shorten(spec: mujoco.MjSpec) -> None:
    """Give the hand the fingers that Franka ships in place of the long ones."""
    spec.mesh("finger_visual").scale = 1.0, 1.0, 1.0
    for name in FINGER_BODIES:
        body = spec.body(name)
        for geom in [g for g in body.geoms if g.classname.name == "fingertip"]:
            spec.delete(geom)
        for half, middle in STANDARD_BOXES:
            geom = body.add_geom(spec.find_default("fingertip"))
            geom.type, geom.size, geom.pos = mujoco.mjtGeom.mjGEOM_BOX, half, middle
