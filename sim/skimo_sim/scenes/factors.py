"""Factors on a compiled scene: how stiff, damped, sticky, heavy and slippery it is, and how hard the arm's servos pull.

Changes the named joints' and bodies' rows of the model and what MuJoCo derives from masses, and nothing else. A joint's
friction is Coulomb's in it; a body's is that of its geometry, where a contact takes the larger of the two that touch:
only both together make it more slippery.
"""

from __future__ import annotations

from collections.abc import Iterable

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS

from ..condition import Condition
from .physics import mujoco


def multiply(model: mujoco.MjModel, data: mujoco.MjData, condition: Condition, gain: float) -> None:
    """Multiply what `condition` names, and the arm's servo gains by `gain`; `data` is left for a reset.

    Raises:
        SpecError: a joint or body that the scene doesn't have.
    """
    joints = [model.joint(k).name for k in range(model.njnt)]
    bodies = [model.body(k).name for k in range(1, model.nbody)]
    _refuse_unknown("joint", condition, condition.joints, joints)
    _refuse_unknown("body", condition, condition.bodies, bodies)
    for name, factors in condition.joints.items():
        joint = model.joint(name).id
        dofs = slice(model.jnt_dofadr[joint], model.jnt_dofadr[joint] + model.joint(name).damping.size)
        model.jnt_stiffness[joint] *= factors.stiffness
        model.dof_damping[dofs] *= factors.damping
        model.dof_frictionloss[dofs] *= factors.friction
    for name, factors in condition.bodies.items():
        body = model.body(name).id
        model.geom_friction[model.geom_bodyid == body] *= factors.friction
        model.body_mass[body] *= factors.mass
        model.body_inertia[body] *= factors.mass
    if gain != 1.0:
        model.actuator_gainprm[:JOINTS, 0] *= gain
        model.actuator_biasprm[:JOINTS, 1:3] *= gain
    if any(factors.mass != 1.0 for factors in condition.bodies.values()):
        mujoco.mj_setConst(model, data)


def _refuse_unknown(what: str, condition: Condition, wanted: Iterable[str], known: list[str]) -> None:
    if unknown := [name for name in wanted if name not in known]:
        named = ", ".join(name for name in known if name)
        raise SpecError(f"condition {condition.name!r}: the scene has no {what} {unknown[0]!r}; there are {named}")
