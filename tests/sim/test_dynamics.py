"""The arm as a plant: a plant changes what it says and nothing else, and not what the controller believes."""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.control.actuate import Actuator
from skimo_core.domain.starts import Starts
from skimo_sim.scenes.dynamics import PAYLOAD_BODY, Load, Plant, apply_dynamics
from skimo_sim.twin import Twin

LOAD = Load(mass_kg=1.2, centre_m=np.array([0.02, -0.01, 0.08]), inertia_kg_m2=np.diag([3e-3, 2e-3, 2e-3]))
DERIVED = {"body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "cam_poscom0", "light_poscom0"}
DERIVED |= {"actuator_acc0", "body_sameframe"}
"""What MuJoCo works out from masses."""


@pytest.fixture(scope="module")
def shipped() -> Twin:
    return Twin(starts=Starts())


def arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    names = [n for n in dir(model) if not n.startswith("_") and isinstance(getattr(model, n), np.ndarray)]
    return {n: getattr(model, n).copy() for n in names}


def changed(twin: Twin, plant: Plant) -> tuple[mujoco.MjModel, dict[str, set[int]]]:
    """A copy of the twin's model as that plant, and which rows of which arrays are not what they were."""
    model, before = copy.copy(twin.model), arrays(twin.model)
    apply_dynamics(model, mujoco.MjData(model), plant)
    rows = {n: np.argwhere(a != before[n]) for n, a in arrays(model).items() if not np.array_equal(a, before[n])}
    return model, {n: set(at[:, 0].tolist()) for n, at in rows.items()}


def moved(twin: Twin, steps: int = 12) -> np.ndarray:
    """Tracking errors [K, 7] at the ends of 8 ms of a seeded motion that touches nothing."""
    twin.reset()
    rng, actuator = np.random.default_rng(1), Actuator(twin.limits, twin.domain.action)
    actuator.reset(twin.read().q_rad, twin.now_s())
    errors = []
    for step in range(steps):
        if step % 6 == 0:
            action = rng.uniform(-0.4, 0.4, twin.domain.action.size).astype(np.float32)
        twin.write(actuator.command(action, twin.now_s()))
        for _ in range(10):
            twin.advance(0.008)
            errors.append(twin.read().q_rad - twin.desired()[0])
    return np.array(errors)


def test_a_plant_changes_its_rows_and_nothing_else(shipped: Twin) -> None:
    body = shipped.model.body(PAYLOAD_BODY).id
    seven = {name: np.arange(1.0, 8.0) for name in ("friction_nm", "damping_nm_s", "armature_kg_m2", "kp", "kv")}
    model, rows = changed(shipped, Plant(**seven, payload=LOAD))
    joints = set(range(7))
    assert all(rows[n] <= joints for n in ("dof_frictionloss", "dof_damping", "dof_armature"))
    assert rows["actuator_gainprm"] == rows["actuator_biasprm"] == joints
    assert rows["body_mass"] == rows["body_inertia"] == rows["body_ipos"] == {body}
    of_body = {"body_mass", "body_inertia", "body_ipos", "body_iquat"}
    of_joints = {"dof_frictionloss", "dof_damping", "dof_armature", "actuator_gainprm", "actuator_biasprm"}
    assert set(rows) <= of_body | of_joints | DERIVED
    assert np.array_equal(model.dof_frictionloss[:7], seven["friction_nm"])
    assert np.array_equal(model.actuator_biasprm[:7, 1:3], -np.stack([seven["kp"], seven["kv"]], axis=1))


def test_nothing_said_changes_nothing(shipped: Twin) -> None:
    _, rows = changed(shipped, Plant())
    assert not rows and shipped.model.body_mass[shipped.model.body(PAYLOAD_BODY).id] == 0.0


def test_a_payload_that_nobody_told_of_makes_the_arm_sag_and_a_known_one_does_not() -> None:
    sag = {}
    for known in (False, True):
        twin = Twin(starts=Starts())
        load = Load(mass_kg=LOAD.mass_kg, centre_m=LOAD.centre_m, inertia_kg_m2=LOAD.inertia_kg_m2, known=known)
        twin.become(Plant(payload=load))
        start = twin.read().q_rad
        twin.advance(1.0)
        sag[known] = np.abs(twin.read().q_rad - start).max()
    assert sag[False] > 5e-4 and sag[True] < 2e-4


def test_the_controller_goes_on_believing_in_the_arm_that_ships(shipped: Twin) -> None:
    twin = Twin(starts=Starts())
    twin.become(Plant(armature_kg_m2=np.full(7, 0.3), friction_nm=np.full(7, 2.0), payload=LOAD))
    assert np.array_equal(twin.scene.arm.friction, shipped.scene.arm.friction)
    shipped.reset()
    twin.reset()
    assert np.allclose(twin.arm_mass(), shipped.arm_mass())
    assert np.abs(moved(twin)).mean() > 3 * np.abs(moved(shipped)).mean()


def test_servos_take_the_gains_with_the_feed_forward_that_goes_with_them() -> None:
    twin = Twin(starts=Starts())
    kp = twin.scene.arm.kp * 0.5
    twin.become(Plant(kp=kp))
    assert np.array_equal(twin.scene.arm.kp, kp)
    assert np.sqrt((moved(twin) ** 2).mean(axis=0)).max() < 1e-3


def test_a_plant_like_the_arm_that_ships_moves_as_it_does(shipped: Twin) -> None:
    model = shipped.model
    twin = Twin(starts=Starts())
    twin.become(Plant(friction_nm=model.dof_frictionloss[:7].copy(), kp=shipped.scene.arm.kp))
    assert np.abs(moved(twin) - moved(shipped)).max() < 1e-5


def test_the_torques_that_are_read_are_those_that_moved_the_joints(shipped: Twin) -> None:
    """In free motion, inverse dynamics of the motion made give the torques read, but for friction's regularisation."""
    twin, model = shipped, shipped.model
    twin.reset()
    rng, actuator = np.random.default_rng(2), Actuator(twin.limits, twin.domain.action)
    actuator.reset(twin.read().q_rad, twin.now_s())
    twin.write(actuator.command(rng.uniform(-0.5, 0.5, 9).astype(np.float32), twin.now_s()))
    data, worst = mujoco.MjData(model), np.zeros(7)
    for _ in range(30):
        before = twin.data.qvel.copy()
        mujoco.mj_copyData(data, model, twin.data)
        twin.advance(0.002)
        data.qacc[:] = (twin.data.qvel - before) / 0.002
        mujoco.mj_inverse(model, data)
        needed = data.qfrc_inverse[:7]
        slow = np.abs(before[:7]) < 0.02
        worst = np.maximum(worst, np.where(slow, 0.0, np.abs(needed - twin.read().tau_nm)))
    explicit = np.abs(twin.data.qfrc_actuator[:7] - twin.read().tau_nm).max()
    assert worst.max() < 0.05 < explicit + 1.0


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        ({"friction_nm": np.full(7, -1.0)}, "friction_nm must hold 7 finite numbers of at least 0"),
        ({"damping_nm_s": np.zeros(6)}, "damping_nm_s must hold 7 finite numbers"),
        ({"armature_kg_m2": np.full(7, np.nan)}, "armature_kg_m2 must hold 7 finite"),
        ({"kp": np.zeros(7)}, "kp must hold 7 finite numbers above 0"),
        ({"payload": Load(mass_kg=-1.0, centre_m=np.zeros(3))}, "payload is -1.0 kg"),
        (
            {"payload": Load(mass_kg=1.0, centre_m=np.zeros(3), inertia_kg_m2=np.diag([1e-3, 1e-3, 1e-2]))},
            "no body has the payload's principal inertias .* leave the inertia out",
        ),
    ],
)
def test_a_plant_that_can_not_be_is_refused(shipped: Twin, plant: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        apply_dynamics(copy.copy(shipped.model), mujoco.MjData(shipped.model), Plant(**plant))


def test_the_kitchens_own_arm_carries_no_payload() -> None:
    with pytest.raises(SpecError, match="this scene's arm carries no payload; take the arm `panda`"):
        Twin("kitchen", Starts()).become(Plant(payload=LOAD))
