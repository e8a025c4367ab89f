"""The arm's dynamics in a compiled scene, set to those of an arm that was identified, or drawn.

Changes the rows of the arm's seven joints, of the flange's payload and of the servos, what MuJoCo derives from masses,
and nothing else. That is the plant alone: what the arm's controller makes up for (`scenes.arm.Arm`, the twin's feed-
forward) stays as it is, so that a plant may differ from what its controller believes, as a real one does.
Units Nm, Nm s/rad, kg m2, kg, m; the payload in the flange's frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS, Array

from .physics import mujoco

PAYLOAD_BODY = "panda_payload"
SLACK = 1e-9
"""kg m2, of an inertia's triangle inequality."""


def _none() -> Array:
    return np.zeros((3, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the flange carries beside the hand.

    Attributes:
        mass_kg: of it.
        centre_m: [3] its centre of mass.
        inertia_kg_m2: [3, 3] about that centre, in the flange's axes.
        known: whether the arm's controller was told of it, and holds its weight (Franka's setLoad).
    """

    mass_kg: float
    centre_m: Array
    inertia_kg_m2: Array = field(default_factory=_none)
    known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """An arm's own dynamics beyond its links' inertias; None: as the scene has it.

    Attributes:
        friction_nm, damping_nm_s, armature_kg_m2: [7] Coulomb and viscous friction, and inertia of the rotors.
        kp, kv: [7] gains of the joints' servos, Nm/rad and Nm s/rad.
        payload: what the flange carries.
    """

    friction_nm: Array | None = None
    damping_nm_s: Array | None = None
    armature_kg_m2: Array | None = None
    kp: Array | None = None
    kv: Array | None = None
    payload: Load | None = None


def apply_dynamics(model: mujoco.MjModel, data: mujoco.MjData, plant: Plant) -> None:
    """Make the model's arm that plant; `data` is left for a reset.

    Raises:
        SpecError: a number below 0 or not finite, a wrong size, or an inertia that no body has.
    """
    rows = {"friction_nm": model.dof_frictionloss, "damping_nm_s": model.dof_damping}
    for name, row in {**rows, "armature_kg_m2": model.dof_armature}.items():
        if (values := getattr(plant, name)) is not None:
            row[:JOINTS] = _checked(name, values)
    if plant.kp is not None:
        kp = _checked("kp", plant.kp, above=0.0)
        model.actuator_gainprm[:JOINTS, 0], model.actuator_biasprm[:JOINTS, 1] = kp, -kp
    if plant.kv is not None:
        model.actuator_biasprm[:JOINTS, 2] = -_checked("kv", plant.kv)
    if plant.payload is not None:
        _carry(model, plant.payload)
    mujoco.mj_setConst(model, data)


def _checked(name: str, values: Array, above: float = -np.inf) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (JOINTS,) or not np.isfinite(array).all() or (array < 0).any() or (array <= above).any():
        least = "above 0" if above == 0 else "of at least 0"
        raise SpecError(f"plant: {name} must hold {JOINTS} finite numbers {least}, has {array.tolist()}")
    return array


def _carry(model: mujoco.MjModel, load: Load) -> None:
    """Give the flange's payload a mass, and its weight to the controller if that knows of it."""
    if not np.isfinite(load.mass_kg) or load.mass_kg < 0 or not np.isfinite(load.centre_m).all():
        raise SpecError(f"plant: payload is {load.mass_kg} kg at {load.centre_m} m, must be finite and at least 0 kg")
    principal, axes = np.linalg.eigh(load.inertia_kg_m2)
    if principal[0] < -SLACK or principal[2] > principal[0] + principal[1] + SLACK:
        raise SpecError(
            f"plant: no body has the payload's principal inertias {principal} kg m2: each is at most the sum of the "
            "other two; leave the inertia out"
        )
    body = _payload_body(model)
    axes = axes * np.sign(np.linalg.det(axes))
    model.body_mass[body] = load.mass_kg
    model.body_ipos[body] = load.centre_m
    model.body_inertia[body] = np.maximum(principal, 0.0)
    mujoco.mju_mat2Quat(model.body_iquat[body], np.ascontiguousarray(axes).ravel())
    model.body_gravcomp[body] = float(load.known)


def _payload_body(model: mujoco.MjModel) -> int:
    try:
        return int(model.body(PAYLOAD_BODY).id)
    except KeyError:
        raise SpecError("plant: this scene's arm carries no payload; take the arm `panda`") from None
