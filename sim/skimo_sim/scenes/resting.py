"""Whether a scene can be started in: nothing stands in anything else, and left alone all comes to rest.

What is wrong is said of bodies and joints by their names. Units m, rad, s.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array

from .physics import mujoco
from .scene import OWN

SETTLE_S = 1.0
"""How long things are given to come to rest at the start, and a model to show that it does."""
LOOK_S = 0.02
SPEED_BOUND = 100.0
"""rad/s or m/s that nothing moves at where all is left alone; beyond it the model is unstable."""
FALL_M = 0.1
"""A free body that moves further while it comes to rest does not start where it is said to."""
SUNK_M = 0.01
"""How deep things may stand in one another at the start: a foot that is not quite flat, a rough measure."""
FIXED_LINKS = ("panda_link0", "panda_link1")
"""Links of the arm that touch nothing in the simulation, so that it may stand on something."""
FREE = int(mujoco.mjtJoint.mjJNT_FREE)


def at_rest(model: mujoco.MjModel, start_qpos: Array, where: str) -> Array:
    """The state [nq] that a start comes to rest in, the arm where it was.

    Raises:
        SpecError: something stands in something else there, the arm touches something, the model is unstable, or a
            free body falls or is flung away.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = start_qpos
    mujoco.mj_forward(model, data)
    _refuse_sunk(model, data, where)
    _refuse_base_inside(model, data, where)
    data.ctrl[:OWN] = start_qpos[:OWN]
    for _ in range(round(SETTLE_S / LOOK_S)):
        for _ in range(max(1, round(LOOK_S / model.opt.timestep))):
            mujoco.mj_step(model, data)
        _refuse_unstable(model, data, where)
    _refuse_fallen(model, data, start_qpos, where)
    return np.concatenate([start_qpos[:OWN], data.qpos[OWN:]])


def sunk(model: mujoco.MjModel, data: mujoco.MjData, deeper_m: float) -> list[tuple[str, str, float]]:
    """Pairs of bodies in contact that stand deeper than that in one another, the deepest first."""
    found: dict[tuple[str, str], float] = {}
    for k in range(data.ncon):
        one, other = sorted(body_name(model, int(model.geom_bodyid[g])) for g in data.contact.geom[k])
        depth = -float(data.contact.dist[k])
        if depth > max(deeper_m, found.get((one, other), 0.0)):
            found[one, other] = depth
    return sorted(((*pair, depth) for pair, depth in found.items()), key=lambda row: -row[2])


def body_name(model: mujoco.MjModel, body: int) -> str:
    """A body's name, or what it is part of where it has none."""
    while not (name := model.body(body).name) and body:
        body = int(model.body_parentid[body])
    return name


def base_depths(model: mujoco.MjModel, data: mujoco.MjData) -> list[tuple[str, float]]:
    """Bodies that the arm's foot stands in, and how deep, the deepest first."""
    links = {model.body(name).id for name in FIXED_LINKS}
    touching = (model.geom_contype | model.geom_conaffinity) != 0
    ours = [g for g in range(model.ngeom) if model.geom_bodyid[g] in links and touching[g]]
    arm = model.body_rootid == model.body_rootid[min(links)]
    found: dict[str, float] = {}
    for other in np.flatnonzero(touching & ~arm[model.geom_bodyid]):
        depth = max(-float(mujoco.mj_geomDistance(model, data, g, int(other), 1.0, None)) for g in ours)
        if depth > 0.0:
            name = body_name(model, int(model.geom_bodyid[other]))
            found[name] = max(depth, found.get(name, 0.0))
    return sorted(found.items(), key=lambda row: -row[1])


def _refuse_sunk(model: mujoco.MjModel, data: mujoco.MjData, where: str) -> None:
    for one, other, depth in sunk(model, data, 0.0):
        arm = [name for name in (one, other) if name.startswith("panda_")]
        if arm:
            others = [name for name in (one, other) if name not in arm] or arm[1:]
            raise SpecError(
                f"{where}: where it starts the arm's {arm[0].removeprefix('panda_')} touches {others[0]!r} "
                f"({depth:.3f} m deep); give it another arm: home_rad, or move what is in its way"
            )
        if depth > SUNK_M:
            raise SpecError(
                f"{where}: at the start {one!r} stands {depth:.3f} m deep in {other!r}, bound {SUNK_M:g} m; look at "
                "the start of the domain's channels, at the frame that they are in, and at the model's sizes"
            )


def _refuse_base_inside(model: mujoco.MjModel, data: mujoco.MjData, where: str) -> None:
    for name, depth in base_depths(model, data):
        if depth > SUNK_M:
            raise SpecError(
                f"{where}: the arm's base stands {depth:.3f} m deep in {name!r}, bound {SUNK_M:g} m; move it with arm: "
                "xyz_m and rpy_rad"
            )


def _refuse_unstable(model: mujoco.MjModel, data: mujoco.MjData, where: str) -> None:
    speeds = np.nan_to_num(np.abs(data.qvel), nan=np.inf)
    worst = int(np.argmax(speeds))
    if speeds[worst] > SPEED_BOUND or not np.isfinite(data.qpos).all():
        joint = int(model.dof_jntid[worst])
        name = model.joint(joint).name or body_name(model, int(model.jnt_bodyid[joint]))
        raise SpecError(
            f"{where}: the model is unstable: left alone from the start, joint {name!r} reached {speeds[worst]:.3g} "
            f"rad/s or m/s within {data.time:.2f} s, bound {SPEED_BOUND:g}; look at its mass, stiffness and contacts, "
            "or give the scene a shorter timestep_s"
        )


def _refuse_fallen(model: mujoco.MjModel, data: mujoco.MjData, start_qpos: Array, where: str) -> None:
    for joint in np.flatnonzero(model.jnt_type == FREE):
        at = slice(int(model.jnt_qposadr[joint]), int(model.jnt_qposadr[joint]) + 3)
        moved = float(np.linalg.norm(data.qpos[at] - start_qpos[at]))
        if moved > FALL_M:
            began, ended = (np.round(q[at], 3).tolist() for q in (start_qpos, data.qpos))
            raise SpecError(
                f"{where}: {body_name(model, int(model.jnt_bodyid[joint]))!r} does not stay where it starts: within "
                f"{SETTLE_S:g} s it moved {moved:.2f} m, from {began} to {ended} m; put something under it, or start "
                "it elsewhere (start of its channels in the domain)"
            )
