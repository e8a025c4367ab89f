"""The Franka kitchen of gymnasium-robotics, with our Panda (`panda`) or with its own arm as shipped (`kitchen`).

Promises
  - The model's state is 9 arm and hand positions, then the 21 object values in the papers' layout.
  - The arm stands where the shipped one does, and the objects are untouched.
  - The objects start as in the papers. The papers' arm pose has joint 2 at -1.769 rad, beyond the real Panda's limit
    of -1.7628; ours starts with joint 2 at -1.65 and the other joints moved so that the hand is at the papers' pose.

Frames: world, z up, the kitchen in front of the arm along +y. Units m, rad.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import Placement

from .arm import arm_of
from .assets import PANDA_XML, kitchen_root
from .mount import FINGERTIP_M, LONG
from .physics import mujoco
from .placing import pose_of, stand
from .scene import SLEEP, Dress, Rest, Scene
from .views import look_at

ARMS = ("panda", "kitchen")
TIMESTEP_S = 0.002

PAPERS_START_Q_RAD = (0.148388, -1.768486, 1.843903, -2.476858, 0.260252, 0.712533, 1.595154)
"""The shipped arm's start, in its own joint convention (D4RL's kitchen)."""
PANDA_START_Q_RAD = (0.117687, -1.65, 1.832822, -2.482018, 0.099760, 2.302143, 2.500423)
"""Ours: the same hand pose, by inverse kinematics with joint 2 given; Franka's convention."""
ARENA_BYTES = 1 << 24
SHOULDER_M = (0.0, 0.0, 2.133)
SHOULDER_HEIGHT_M = 0.333
"""Above the arm's base."""
REACH_M = 1.05
"""The fingertips of a stretched arm are 1.01 m from the shoulder (joint 2's axis)."""
START_FINGERS_M = (0.04, 0.04)
"""Open. The papers have 0.048 and 0.037: one finger beyond its end stop, apart as no real hand has them."""
OBJECT_START = (
    -2.6628e-4, -5.18043e-5, 3.12877e-5, -4.51200e-5, -3.90842e-6, -4.22630e-5, 6.28065e-5, 4.04985e-5, 4.62731e-4,
    -2.26906e-4, -4.65501e-4, -6.44129e-3, -1.77048e-3, 1.08010e-3, -0.269397440, 0.350383255, 1.61944683, 1.00618764,
    4.06395e-3, -6.62096e-3, -2.68279e-4,
)  # fmt: skip
"""The 21 object values at the start, as D4RL's kitchen and gymnasium-robotics have them."""


def build_kitchen(
    arm: str = "panda",
    *,
    visual: bool = False,
    placement: Placement | None = None,
    dress: Dress | None = None,
) -> Scene:
    """Compile the kitchen with one of the `ARMS`.

    Without `visual` it holds nothing that is only there to be looked at, which makes it ten times quicker to load and
    half again as quick to step; its states are the same.

    Args:
        placement: where the world's frame lies in the arm's base frame; None: as shipped.
        dress: adds to the scene what else is to be seen in it.

    Raises:
        SpecError: an unknown arm, or one that would stand somewhere else.
        SetupError: the kitchen's files are not installed.
    """
    if arm not in ARMS:
        raise SpecError(f"no arm {arm!r} for the kitchen; there are {', '.join(ARMS)}")
    spec = mujoco.MjSpec.from_file(str(kitchen_root() / "kitchen_assets" / "kitchen_env_model.xml"))
    spec.compiler.discardvisual = not visual
    spec.njmax = spec.nconmax = -1  # obsolete bounds, which reserve 54 MiB for each copy of a state
    spec.memory = ARENA_BYTES
    add_cameras(spec)
    shoulder_m, mount = np.array(SHOULDER_M), spec.body("panda0_link0").parent
    base_m, rotation = pose_of(mount)
    if placement is not None:
        base_m, rotation = stand(mount, placement)
        shoulder_m = base_m + rotation @ [0.0, 0.0, SHOULDER_HEIGHT_M]
    if arm == "panda":
        replace_arm(spec)
        remove_needless_collisions(spec, shoulder_m)
    if dress is not None:
        dress(spec)
    model = spec.compile()
    if arm == "panda":
        model.opt.enableflags |= SLEEP
    joints = PANDA_START_Q_RAD if arm == "panda" else PAPERS_START_Q_RAD
    start = np.array([*joints, *START_FINGERS_M, *OBJECT_START])
    start[26:30] /= np.linalg.norm(start[26:30])
    return Scene(
        name="kitchen",
        model=model,
        arm=arm_of(model, arm),
        start_qpos=start,
        objects=Rest(),
        base_m=base_m,
        base_rotation=rotation,
        fingertip_m=FINGERTIP_M[LONG],
    )


def replace_arm(spec: mujoco.MjSpec) -> None:
    """Take the shipped arm out of the kitchen and mount ours in its place."""
    for element in (*spec.actuators, *spec.keys):
        spec.delete(element)
    shipped = spec.body("panda0_link0")
    mount = shipped.parent
    spec.delete(shipped)
    panda = mujoco.MjSpec.from_file(str(PANDA_XML))
    panda.meshdir = str(kitchen_root() / "franka_assets" / "meshes")
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    panda.option.integrator = spec.option.integrator
    mount.add_frame().attach_body(panda.body("panda_link0"), "", "")
    for geom in mount.geoms:  # the pedestal: the arm's own links would otherwise rub on it
        geom.contype = geom.conaffinity = 0


def remove_needless_collisions(spec: mujoco.MjSpec, shoulder_m: Array) -> None:
    """Let nothing collide that can't be touched: what is fixed and further from the shoulder than the fingertips get.

    The ground and the wall behind the stove stay, for the kettle's sake.
    """
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    kept = {model.body(name).id for name in ("world", "wallroot")}
    for geom in spec.geoms:
        body = model.geom_bodyid[geom.id]
        if model.body_weldid[body] != 0 or body in kept:
            continue
        shoulder = data.geom_xmat[geom.id].reshape(3, 3).T @ (shoulder_m - data.geom_xpos[geom.id])
        outside = np.abs(shoulder - model.geom_aabb[geom.id, :3]) - model.geom_aabb[geom.id, 3:]
        if np.linalg.norm(np.maximum(outside, 0.0)) > REACH_M:
            geom.contype = geom.conaffinity = 0


def add_cameras(spec: mujoco.MjSpec) -> None:
    """Add the cameras that videos are made from."""
    for name, eye, target in CAMERAS:
        look_at(spec.worldbody.add_camera(), name, np.array(eye), np.array(target))


CAMERAS = (
    ("room", (1.25, -1.2, 2.65), (-0.12, 0.45, 2.02)),
    ("left", (-1.15, -1.25, 2.65), (-0.08, 0.5, 2.06)),
    ("front", (-0.25, -1.7, 2.75), (-0.15, 0.5, 2.03)),
)
"""name, eye, point looked at; m."""
