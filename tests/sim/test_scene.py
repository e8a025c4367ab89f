"""The scene: our arm against the shipped one, its dynamics, and the kitchen's layout and goals."""

from __future__ import annotations

from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.shapes import links_of
from skimo_core.ingest.mapping_file import PLAIN, find_mappings
from skimo_core.ingest.pipeline import read
from skimo_core.safety.collision import Collision, segment_distances
from skimo_sim.scenes.kitchen import PANDA_START_Q_RAD, PAPERS_START_Q_RAD, SHOULDER_M, Scene, build_kitchen

SHIPPED_ZERO = np.array([0, 0, 0, 0, 0, np.pi / 2, np.pi / 4])


@pytest.fixture(scope="module")
def ours() -> Scene:
    return build_kitchen("panda")


@pytest.fixture(scope="module")
def shipped() -> Scene:
    return build_kitchen("kitchen")


def hand_pose(scene: Scene, q_rad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pose of the point between the fingers for joints in Franka's convention."""
    data = mujoco.MjData(scene.model)
    data.qpos[:] = scene.start_qpos
    data.qpos[:7] = q_rad - scene.arm.zero_rad
    mujoco.mj_kinematics(scene.model, data)
    site = data.site(scene.arm.tcp_site)
    return site.xpos.copy(), site.xmat.reshape(3, 3).copy()


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


def test_forward_kinematics_agree_with_the_shipped_arm(ours: Scene, shipped: Scene) -> None:
    limits, rng = load_limits("panda"), np.random.default_rng(0)
    for q in rng.uniform(limits.q_min_rad, limits.q_max_rad, (20, 7)):
        (p, r), (p_shipped, r_shipped) = hand_pose(ours, q), hand_pose(shipped, q)
        assert np.linalg.norm(p - p_shipped) < 0.5e-3
        assert angle(r, r_shipped) < 2e-3


def test_ingested_joints_put_our_hand_where_the_shipped_arms_was(ours: Scene, shipped: Scene, tmp_path: Path) -> None:
    domain, data = load_domain(), mujoco.MjData(shipped.model)
    rows = np.tile(shipped.start_qpos, (40, 1))  # as D4RL has them: the scene's own positions
    rows[:, :7] = PAPERS_START_Q_RAD + 0.4 * np.sin(np.linspace(0, 3, 40))[:, None] * np.linspace(0.3, 1, 7)
    with h5py.File(tmp_path / "d4rl.hdf5", "w") as file:
        file["observations"], file["actions"] = rows, np.zeros((40, 9))
        file["terminals"] = np.arange(40) == 39
    (episode,) = read(tmp_path / "d4rl.hdf5", domain=domain).episodes
    arms = [mapping.channels[0].taken for mapping in find_mappings("", domain) if mapping.name != PLAIN]
    assert len(arms) == 2 and all(arm is not None and arm.offset == tuple(shipped.arm.zero_rad) for arm in arms)
    for row, observation in zip(rows, episode.observations):
        data.qpos[:] = row
        mujoco.mj_kinematics(shipped.model, data)
        p, r = hand_pose(ours, observation[:7].astype(np.float64))
        site = data.site(shipped.arm.tcp_site)
        assert np.linalg.norm(p - site.xpos) < 0.5e-3 and angle(r, site.xmat.reshape(3, 3)) < 2e-3
    limits = load_limits(domain.robot)
    moving = episode.observations[1:, [0, *range(2, 7)]]  # joint 2 begins beyond a Panda's limit there
    assert (moving > limits.q_min_rad[[0, *range(2, 7)]]).all() and (moving < limits.q_max_rad[[0, *range(2, 7)]]).all()


def test_start_is_inside_the_limits_with_the_hand_where_the_papers_have_it(ours: Scene, shipped: Scene) -> None:
    limits, start = load_limits("panda"), ours.start_qpos[:7]
    assert (start > limits.q_min_rad + 0.1).all() and (start < limits.q_max_rad - 0.1).all()
    (p, r), (p_papers, r_papers) = hand_pose(ours, start), hand_pose(shipped, PAPERS_START_Q_RAD + SHIPPED_ZERO)
    assert np.linalg.norm(p - p_papers) < 1e-3
    assert angle(r, r_papers) < 2e-3


def test_limits_of_the_model_are_the_robots(ours: Scene) -> None:
    limits, model = load_limits("panda"), ours.model
    assert np.allclose(model.jnt_range[:7, 0], limits.q_min_rad)
    assert np.allclose(model.jnt_range[:7, 1], limits.q_max_rad)
    assert np.allclose(model.jnt_actfrcrange[:7, 1], limits.tau_max_nm)
    assert model.jnt_actfrclimited[:7].all() and model.jnt_actgravcomp[:7].all()


def test_mass_matrix_is_positive_definite_over_the_range(ours: Scene) -> None:
    limits, rng, model = load_limits("panda"), np.random.default_rng(1), ours.model
    bare = model.dof_armature.copy()
    data = mujoco.MjData(model)
    try:
        model.dof_armature[:9] = 0.0  # the links alone, without what the rotors add
        for q in rng.uniform(limits.q_min_rad, limits.q_max_rad, (30, 7)):
            data.qpos[:] = ours.start_qpos
            data.qpos[:7] = q
            mujoco.mj_forward(model, data)
            mass = np.empty((7, model.nv))
            for unit, row in zip(np.eye(7, model.nv), mass):
                mujoco.mj_mulM(model, data, row, unit)
            assert np.linalg.eigvalsh(mass[:, :7]).min() > 1e-4
    finally:
        model.dof_armature[:] = bare


def test_the_arm_weighs_what_a_panda_weighs(ours: Scene) -> None:
    model = ours.model
    arm = [b for b in range(model.nbody) if model.body(b).name.startswith("panda")]
    assert model.body_mass[arm].sum() == pytest.approx(17.5, abs=0.5)


def test_the_state_is_laid_out_as_the_observation(ours: Scene, shipped: Scene) -> None:
    for scene in (ours, shipped):
        names = [scene.model.joint(j).name for j in range(scene.model.njnt)]
        assert scene.model.nq == load_domain().observation.size == 30
        assert names[9:17:2] == [f"knob_Joint_{k}" for k in (1, 2, 3, 4)]
        assert names[10:17:2] == ["bottom_right_burner", "bottom_left_burner", "top_right_burner", "top_left_burner"]
        assert names[17:] == [
            "light_switch", "light_joint", "slide_cabinet", "left_hinge_cabinet", "right_hinge_cabinet", "microwave",
            "kettle",
        ]  # fmt: skip


def test_the_start_completes_nothing(ours: Scene) -> None:
    assert not any(s.complete(ours.start_qpos) for s in load_domain().subtasks.values())


def test_at_the_start_the_arm_is_home_and_all_is_shut(ours: Scene) -> None:
    domain = load_domain()
    there = {name for name, goal in domain.goals.items() if goal.complete(ours.start_qpos)}
    shut = {name for name in domain.goals if name.endswith((" closed", " off"))}
    assert there == {"home", "kettle at start", *shut} and len(shut) == 6
    assert domain.goals["home"].goal == pytest.approx(PANDA_START_Q_RAD)


def test_the_kettle_s_places_are_the_burners_and_a_burner_apart(ours: Scene) -> None:
    data = mujoco.MjData(ours.model)
    mujoco.mj_kinematics(ours.model, data)
    places = {"bottom right": 1, "top right": 3, "top left": 4}
    for name, burner in places.items():
        goal = load_domain().goals[f"kettle {name}"]
        assert goal.goal == pytest.approx(data.body(f"Burner {burner}").xpos[:2], abs=2e-3), name
    at_start = load_domain().goals["kettle at start"]
    assert at_start.goal == pytest.approx(data.body("Burner 2").xpos[:2], abs=at_start.threshold)
    moved = ours.start_qpos.copy()
    moved[list(load_domain().subtasks["kettle"].channels)] = load_domain().subtasks["kettle"].goal
    assert load_domain().goals["kettle top left"].complete(moved) and not at_start.complete(moved)


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(SpecError, match="no arm 'ur5'"):
        build_kitchen("ur5")


def geoms_of(scene: Scene) -> dict[str, list[int]]:
    """The collision geoms of each of the robot's links; both fingers are one."""
    model, found = scene.model, {name: [] for name in links_of(7)}
    for geom in range(model.ngeom):
        name = model.body(model.geom_bodyid[geom]).name.removeprefix("panda_")
        name = "fingers" if name.endswith("finger") else name
        if name in found:
            found[name].append(geom)
    return found


def test_capsules_are_never_further_apart_than_the_meshes_nor_much_nearer(ours: Scene) -> None:
    """MuJoCo's distances between the meshes' hulls are the judge; it gives 0 where its algorithm did not converge."""
    limits, rng, model = load_limits("panda"), np.random.default_rng(2), ours.model
    collision, shape, geoms = Collision(limits, load_cell("open")), limits.capsules, geoms_of(ours)
    data, excess = mujoco.MjData(model), []
    q = rng.uniform(limits.q_min_rad, limits.q_max_rad, (40, 7))
    ends = collision.capsule_ends(q).transpose(3, 2, 0, 1)
    for k, row in enumerate(q):
        data.qpos[:] = ours.start_qpos
        data.qpos[:7], data.qpos[7:9] = row, rng.uniform(0, 0.04)
        mujoco.mj_kinematics(model, data)
        for first, second in shape.pairs:
            a, b = np.flatnonzero(shape.link == first), np.flatnonzero(shape.link == second)
            i, j = (x.ravel() for x in np.meshgrid(a, b))
            ours_m = (
                segment_distances(ends[:, :, k, i], ends[:, :, k, j]) - shape.radius_m[i] - shape.radius_m[j]
            ).min()
            meshes = [
                mujoco.mj_geomDistance(model, data, g, h, 2.0, None)
                for g in geoms[links_of(7)[first]]
                for h in geoms[links_of(7)[second]]
            ]
            if 0.0 not in meshes and min(meshes) > 0:
                excess.append(min(meshes) - ours_m)
    assert len(excess) > 500
    assert min(excess) > -0.002
    assert np.mean(excess) < 0.035 and max(excess) < 0.09


def test_the_cell_encloses_the_furniture_that_the_arm_can_reach(ours: Scene) -> None:
    model, cell = ours.model, load_cell("kitchen")
    data = mujoco.MjData(model)
    data.qpos[:] = ours.start_qpos
    mujoco.mj_forward(model, data)
    base = model.body("panda_link0").id
    turn, foot = data.xmat[base].reshape(3, 3), data.xpos[base]
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    seen = set()
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        if model.body_weldid[body] != 0 or body == base or not model.geom_conaffinity[geom] & 1:
            continue
        name = model.body(body).name
        aabb = model.geom_aabb[geom]
        world = (signs * aabb[3:] + aabb[:3]) @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        if name in ("world", "wallroot") or world[:, 1].min() - SHOULDER_M[1] > 1.1:
            continue
        if mujoco.mjtGeom(model.geom_type[geom]) == mujoco.mjtGeom.mjGEOM_CYLINDER and name == "counters":
            continue  # a drawer's handle, below the counter's edge
        corners = (world - foot) @ turn
        inside = [(np.abs((corners - box.centre_m) @ box.rotation) <= box.half_m + 0.003).all() for box in cell.boxes]
        assert any(inside), (name, geom)
        seen.add(name)
    assert {"ovenroot", "hoodroot", "microroot", "slide", "hingecab", "counters"} <= seen
