"""Conditions: each changes what it says and nothing else; what can't be is refused in words."""

from __future__ import annotations

import copy
from pathlib import Path

import mujoco
import numpy as np
import pytest

from skimo_core.contract.errors import BackendError, SpecError
from skimo_core.contract.types import GripperCommand, JointCommand, JointTrajectory
from skimo_core.domain.domain import load_domain
from skimo_core.domain.library import shipped
from skimo_core.domain.starts import Starts
from skimo_eval.trials import truth
from skimo_sim.condition import DRAWN, Actuation, Condition, Mount, Sensors, load_condition, load_conditions
from skimo_sim.env import SkillEnv
from skimo_sim.impaired import ImpairedTwin, actual
from skimo_sim.scenes.factors import multiply
from skimo_sim.twin import Twin
from skimo_sim.twins import make_twin

DOMAIN = load_domain()
SHIPPED = shipped("conditions", "skimo_sim")
OF_MASS = {"body_mass", "body_inertia", "body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0"}
OF_MASS |= {"cam_poscom0", "light_poscom0"}  # where cameras and lights are from the centre of mass
CHANGES = {
    "doors_x3": {"jnt_stiffness", "dof_damping", "dof_frictionloss"},
    "doors_x6": {"jnt_stiffness", "dof_damping", "dof_frictionloss"},
    "kettle_x3": OF_MASS,
    "slippery": {"geom_friction"},
    "sticky": {"geom_friction"},
    "weak_servos": {"actuator_gainprm", "actuator_biasprm"},
}
"""Arrays of the model that a condition changes; the others change none."""


@pytest.fixture(scope="module")
def twin() -> Twin:
    return Twin(starts=Starts())


def arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    names = [n for n in dir(model) if not n.startswith("_") and isinstance(getattr(model, n), np.ndarray)]
    options = {f"opt.{n}": np.asarray(getattr(model.opt, n)) for n in dir(model.opt) if not n.startswith("_")}
    return {n: getattr(model, n).copy() for n in names} | {n: v for n, v in options.items() if v.dtype.kind in "fi"}


def changed(twin: Twin, condition: Condition) -> tuple[mujoco.MjModel, dict[str, np.ndarray]]:
    """A copy of the twin's model under the condition, and which rows of which arrays are not what they were."""
    model, before = copy.copy(twin.model), arrays(twin.model)
    multiply(model, mujoco.MjData(model), condition, condition.actuation.gain)
    after = arrays(model)
    assert before.keys() == after.keys() and len(before) > 100
    other = {n: np.argwhere(before[n] != after[n]) for n in before if not np.array_equal(before[n], after[n])}
    return model, {name: np.unique(at[:, 0]) for name, at in other.items()}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_condition_changes_what_it_says_and_nothing_else(twin: Twin, name: str) -> None:
    condition = load_condition(name, DOMAIN)
    model, rows = changed(twin, condition)
    assert set(rows) == CHANGES.get(name, set())
    joints = [model.joint(n).id for n in condition.joints]
    bodies = {model.body(n).id for n in condition.bodies}
    assert set(rows.get("jnt_stiffness", [])) <= set(joints)
    assert set(rows.get("dof_damping", [])) | set(rows.get("dof_frictionloss", [])) <= set(model.jnt_dofadr[joints])
    assert set(rows.get("body_mass", [])) == set(rows.get("body_inertia", [])) <= bodies
    assert {int(model.geom_bodyid[g]) for g in rows.get("geom_friction", [])} <= bodies
    assert set(rows.get("actuator_gainprm", [])) <= set(range(7))
    parts = {
        "starts": condition.starts is not None,
        "scene": bool(rows),
        "sensors": condition.sensors != Sensors(),
        "delay": condition.actuation.delay_s != (0.0, 0.0),
        "mount": condition.mount != Mount(),
        "arm": bool(condition.actuation.arm),
    }
    starts = {"arm_5", "arm_15", "kettle_3cm", "kettle_6cm"}
    assert sum(parts.values()) == (name != DRAWN) + (name not in starts | {DRAWN, "papers"})
    assert condition.seen(DOMAIN).digest == DOMAIN.digest and len(condition.why) > 10


def test_factors_are_factors(twin: Twin) -> None:
    stiff, _ = changed(twin, load_condition("doors_x3", DOMAIN))
    dof = stiff.jnt_dofadr[stiff.joint("microwave").id]
    assert stiff.dof_damping[dof] == 3 * twin.model.dof_damping[dof] > 0
    assert stiff.dof_frictionloss[dof] == 3 * twin.model.dof_frictionloss[dof] > 0
    burner = stiff.joint("bottom_left_burner").id
    assert stiff.jnt_stiffness[burner] == 3 * twin.model.jnt_stiffness[burner] > 0
    heavy, _ = changed(twin, load_condition("kettle_x3", DOMAIN))
    kettle = heavy.body("kettleroot").id
    assert heavy.body_mass[kettle] == 3 * twin.model.body_mass[kettle] > 0
    assert np.array_equal(heavy.body_inertia[kettle], 3 * twin.model.body_inertia[kettle])


def test_all_are_asked_for_at_once_and_the_plain_one_comes_first() -> None:
    found = load_conditions("all", DOMAIN)
    assert sorted(found) == sorted(SHIPPED) and next(iter(found)) == DRAWN
    assert load_conditions("papers, arm_5", DOMAIN) == {"papers": "papers", "arm_5": "arm_5"}
    with pytest.raises(SpecError, match="'papers' is asked for twice"):
        load_conditions("papers,papers", DOMAIN)
    with pytest.raises(SpecError, match=r"no condition 'paper'; there are .*papers"):
        load_conditions("paper", DOMAIN)


# --- starts ---------------------------------------------------------------------------------------------------------


def starts(name: str, seeds: range) -> np.ndarray:
    """The truth [S, O] at each seed's start."""
    twin = make_twin(DOMAIN, condition=load_condition(name, DOMAIN))
    found = []
    for seed in seeds:
        twin.reset("kitchen", seed)
        found.append(truth(DOMAIN, twin))
    return np.array(found)


def test_the_papers_start_is_one(twin: Twin) -> None:
    found = starts("papers", range(3))
    twin.reset()
    assert np.array_equal(found, np.repeat(truth(DOMAIN, twin)[None], 3, axis=0))


def test_only_the_arm_is_drawn_where_only_the_arm_is_named(twin: Twin) -> None:
    found, home = starts("arm_5", range(12)), twin.scene.start_qpos[:7] + twin.scene.arm.zero_rad
    assert 0.02 < np.abs(found[:, :7] - home).mean() < 0.06 and np.abs(found[:, :7] - home).max() <= 0.1 + 1e-6
    assert np.ptp(found[:, 7:], axis=0).max() < 1e-4


def test_only_the_kettle_is_drawn_where_only_the_kettle_is_named() -> None:
    found, kettle = starts("kettle_3cm", range(12)), [DOMAIN.observation.names.index(f"kettle.{x}") for x in "xy"]
    off = found[:, kettle] - starts("papers", range(1))[:, kettle]
    assert 0.02 < np.abs(off).max() < 0.03 + 1e-3
    rest = np.delete(found, range(kettle[0], 30), axis=1)
    assert np.ptp(rest, axis=0).max() < 1e-4


# --- servos, encoders, tracker, delays -------------------------------------------------------------------------------


def to(twin: ImpairedTwin | Twin, step_rad: float, duration_s: float = 0.4) -> JointCommand:
    still, goal = np.zeros((1, 7)), twin.read().q_rad[None] + step_rad
    path = JointTrajectory(
        start_s=twin.now_s(), times_s=np.array([duration_s]), q_rad=goal, dq_rad_s=still, ddq_rad_s2=still
    )
    return JointCommand(trajectory=path)


def test_weak_servos_pull_half_as_hard_and_feed_forward_as_before(twin: Twin) -> None:
    weak = make_twin(DOMAIN, condition=load_condition("weak_servos", DOMAIN))
    assert isinstance(weak, Twin)
    pulls = []
    for one in (twin, weak):
        one.reset()
        state = one.data.qpos.copy()
        state[3] -= 0.002
        one.set_state(state)
        one._follower.reset(one.scene.start_qpos[:7], one.now_s())
        one.advance(0.002)
        pulls.append(one.data.actuator_force[3])
    assert pulls[0] == pytest.approx(2 * pulls[1], rel=0.01) and abs(pulls[0]) > 5.0
    arm, zero = weak.scene.arm, np.zeros((1, 7))
    torque = arm.kp * (arm.controls(zero, zero, zero + 3.0) + arm.zero_rad)
    assert np.allclose(torque, 3.0)


def test_encoders_are_off_for_whoever_reads_and_in_what_is_commanded(twin: Twin) -> None:
    twin.reset()
    arm = ImpairedTwin(twin, Sensors(encoder_rad=0.02), Actuation())
    home = twin.read().q_rad
    drawn = []
    for seed in (1, 1, 2):
        arm.reset("kitchen", seed)
        drawn.append(arm.read().q_rad - home)
        assert np.allclose(np.abs(drawn[-1]), 0.02) and np.array_equal(arm.desired()[0], arm.read().q_rad)
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[1], drawn[2])
    command = to(arm, 0.05)
    arm.write(command)
    arm.advance(0.8)
    assert np.abs(arm.read().q_rad - command.trajectory.q_rad[-1]).max() < 1e-3
    assert np.abs(actual(arm).read().q_rad - home - 0.05).max() < 1e-3
    assert np.abs(truth(DOMAIN, arm)[:7] - home - 0.05).max() < 1e-3


def test_objects_are_seen_late_under_a_fresh_stamp(twin: Twin) -> None:
    twin.reset()
    late = ImpairedTwin(twin, Sensors(objects_delay_s=0.08), Actuation())
    twin.data.qvel[twin.model.jnt_dofadr[twin.model.joint("microwave").id]] = -1.0
    seen, told = [twin.read_objects().values], []
    for _ in range(6):
        late.advance(0.04)
        seen.append(twin.read_objects().values)
        states = late.read_objects()
        assert states.stamp_s == late.now_s()
        told.append(states.values)
    expected = [seen[0], *seen[:5]]  # 80 ms are two steps of 40
    assert np.abs(np.array(told) - expected).max() < 1e-12 and np.ptp(np.array(seen), axis=0).max() > 0.005
    late.reset()
    assert np.array_equal(late.read_objects().values, twin.read_objects().values)


def test_commands_arrive_late_and_a_brake_at_once(twin: Twin) -> None:
    twin.reset()
    late = ImpairedTwin(twin, Sensors(), Actuation(delay_s=(0.02, 0.04)))
    waits = []
    for seed in range(4):
        late.reset("kitchen", seed)
        late.write(to(late, 0.05))
        began_s = late.now_s()
        assert not late.path_at_rest
        while not twin.desired()[1].any():
            late.advance(0.002)
        waits.append(late.now_s() - began_s)
    assert min(waits) >= 0.02 and max(waits) <= 0.045 and np.ptp(waits) > 0.002
    late.reset()
    home = twin.read().q_rad
    late.write(to(late, 0.05))
    late.hold()
    late.advance(0.5)
    assert late.path_at_rest and np.abs(twin.read().q_rad - home).max() < 1e-3
    late.command_hand(GripperCommand(kind="move", width_m=0.02, speed_m_s=0.1))
    assert late.hand_busy
    late.write(to(late, 0.05))
    late.stop("a test")
    with pytest.raises(BackendError, match="a test"):
        late.write(to(late, 0.05))
    late.recover()
    late.write(to(late, 0.05))
    late.advance(0.8)
    assert np.abs(twin.read().q_rad - home - 0.05).max() < 1e-3


def test_time_is_not_lost_on_the_way(twin: Twin) -> None:
    twin.reset()
    late = ImpairedTwin(twin, Sensors(), Actuation(delay_s=(0.0031, 0.0209)))
    for step in range(1, 51):
        late.write(to(late, 0.001, 0.05))
        late.advance(0.0237)
        assert late.now_s() == pytest.approx(0.0237 * step, abs=0.001 + 1e-9)


# --- environments ----------------------------------------------------------------------------------------------------


def test_an_environment_is_under_a_condition() -> None:
    noisy, plain = SkillEnv(condition="noisy"), SkillEnv(condition="papers")
    seen = np.array([noisy.reset(seed=s)[0] for s in range(20)])
    off = np.abs(seen - plain.truth())
    assert (off <= 3 * DOMAIN.noise + 1e-6).all() and (off > 2 * DOMAIN.noise).any()
    wrong = SkillEnv(condition="encoders_5", noise=False)
    observation, _ = wrong.reset(seed=3)
    assert np.allclose(np.abs(observation - wrong.truth())[:7], 0.05, atol=1e-6)
    assert np.array_equal(wrong.truth(), plain.truth())


def test_a_condition_may_give_episodes_more_time() -> None:
    longer = load_condition("doors_x6", DOMAIN).seen(DOMAIN)
    assert (longer.step_limit, longer.task().step_limit) == (420, 420) and DOMAIN.step_limit == 280
    assert longer.digest == DOMAIN.digest and np.array_equal(longer.noise, DOMAIN.noise)
    assert load_condition("drawn", DOMAIN).seen(DOMAIN) is DOMAIN


def test_an_arm_stands_where_its_mount_says_and_all_else_where_it_was(twin: Twin, tmp_path: Path) -> None:
    file = tmp_path / "moved.yaml"
    file.write_text("why: x\nstarts: none\nmount: {offset_m: [0.03, -0.02, 0.01], yaw_rad: 0.05}\n", encoding="utf-8")
    condition = load_condition(file, DOMAIN)
    assert "mount" in condition.scene_parts
    moved = make_twin(DOMAIN, condition=condition)
    assert isinstance(moved, Twin)
    twin.reset()
    was, now = twin.scene, moved.scene
    assert np.allclose(was.base_rotation.T @ (now.base_m - was.base_m), (0.03, -0.02, 0.01), atol=1e-9)
    turned = was.base_rotation.T @ now.base_rotation
    assert np.arctan2(turned[1, 0], turned[0, 0]) == pytest.approx(0.05) and turned[2, 2] == pytest.approx(1.0)
    hand = [one.data.site("panda_tcp").xpos.copy() for one in (twin, moved)]
    seen = was.base_rotation.T @ (hand[0] - was.base_m), now.base_rotation.T @ (hand[1] - now.base_m)
    assert np.allclose(*seen, atol=1e-4) and np.linalg.norm(hand[1] - hand[0]) > 0.01
    assert np.allclose(truth(DOMAIN, moved), truth(DOMAIN, twin), atol=1e-3)
    again = make_twin(DOMAIN, condition=condition)
    assert isinstance(again, Twin) and np.array_equal(again.scene.base_m, now.base_m)


def test_another_arm_hangs_where_its_servos_hold_it_before_anybody_looks(tmp_path: Path) -> None:
    file = tmp_path / "sagging.yaml"
    file.write_text("why: an arm of another make\nstarts: none\nactuation: {arm: kitchen}\n", encoding="utf-8")
    condition = load_condition(file, DOMAIN)
    assert condition.scene_parts == ("starts", "actuation: arm") or condition.scene_parts == ("actuation: arm",)
    twin = actual(make_twin(DOMAIN, condition=condition))
    assert isinstance(twin, Twin) and twin.scene.arm.name == "kitchen" and twin.now_s() == 0.0
    before = twin.read()
    assert np.abs(before.dq_rad_s).max() < 0.02
    assert 0.005 < np.abs(twin.desired()[0] - before.q_rad).max() < 0.1
    twin.advance(1.0)
    assert np.abs(twin.read().q_rad - before.q_rad).max() < 2e-3
    file.write_text("why: an arm of another make\nactuation: {arm: ur5}\n", encoding="utf-8")
    with pytest.raises(SpecError, match="no arm 'ur5'"):
        make_twin(DOMAIN, condition=load_condition(file, DOMAIN))


def test_a_condition_that_names_no_arm_leaves_the_twin_s_own() -> None:
    own = Twin(arm="kitchen")
    own.change(load_condition("papers", DOMAIN))
    assert own.scene.arm.name == "kitchen"


def test_a_twin_without_a_scene_says_what_it_cannot_do() -> None:
    for name, part in (
        ("doors_x3", "joints"),
        ("kettle_x3", "bodies"),
        ("weak_servos", "gain"),
        ("arm_5", "starts"),
        ("mount_low", "mount"),
    ):
        with pytest.raises(SpecError, match=rf"'kinematic' can't do condition '{name}' .*{part}.*no scene"):
            SkillEnv(twin="kinematic", condition=name)
    env = SkillEnv(twin="kinematic", condition="encoders_2", noise=False)
    observation, _ = env.reset(seed=1)
    assert np.allclose(np.abs(observation - env.truth())[:7], 0.02, atol=1e-6)
    SkillEnv(twin="kinematic", condition="papers").reset(seed=0)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("starts: none", "has no 'why'"),
        ("why: x\nstart: none", "unknown key 'start'; known are"),
        ("why: x\nstarts: papers", "must be a table of keys, is 'papers'"),
        ("why: x\nstarts: {offsets: {pot.x: 0.1}}", "no channel 'pot.x'"),
        ("why: x\njoints: {microwave: {friction: -1}}", "friction is -1, must lie in 0.01 to 100"),
        ("why: x\njoints: {microwave: {mass: 2}}", "unknown key 'mass'; known are stiffness, damping, friction"),
        ("why: x\nbodies: {kettleroot: {mass: 0}}", "mass is 0, must lie in 0.01 to 100"),
        ("why: x\nbodies: {kettleroot: 3}", "must be a table of keys, is 3"),
        ("why: x\nsensors: {encoder_rad: 2}", "encoder_rad is 2, must lie in 0 to 0.2"),
        ("why: x\nsensors: {noise: .nan}", "noise must be a finite number"),
        ("why: x\npatience: 20", "patience is 20"),
        ("why: x\nsensors: {objects_delay_s: 5}", "objects_delay_s is 5, must lie in 0 to 1"),
        ("why: x\nsensors: {blur: 5}", "unknown key 'blur'"),
        ("why: x\nactuation: {gain: 0}", "gain is 0, must lie in 0.01"),
        ("why: x\nactuation: {delay_s: 0.03}", "delay_s must hold 2 finite numbers"),
        ("why: x\nactuation: {delay_s: [0.04, 0.02]}", r"delay_s is \[0.04, 0.02\], must be shortest and longest"),
        ("why: x\nmount: {offset_m: [0.1, 0.02, 0]}", "stand 0.102 m and 0 rad from where the scene has it"),
        ("why: x\nmount: {yaw_rad: -0.2}", "stand 0.000 m and -0.2 rad"),
        ("why: x\nmount: {yaw_rad: .inf}", "yaw_rad must be a finite number"),
        ("why: x\nmount: {offset_m: 0.1}", "offset_m must hold 3 finite numbers"),
        ("why: x\nmount: {pitch_rad: 0.1}", "unknown key 'pitch_rad'"),
        ("why: [", "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_in_words(tmp_path: Path, words: str, complaint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(words)
    with pytest.raises(SpecError, match=complaint):
        load_condition(path, DOMAIN)


def test_a_file_of_ones_own_is_named_by_its_stem_and_what_its_scene_lacks(twin: Twin, tmp_path: Path) -> None:
    path = tmp_path / "fridge.yaml"
    path.write_text("why: the fridge is stiff\njoints: {fridge: {friction: 2}}\nbodies: {pot: {mass: 2}}\n")
    condition = load_condition(path, DOMAIN)
    assert condition.name == "fridge"
    with pytest.raises(SpecError, match=r"'fridge': the scene has no joint 'fridge'; there are .*microwave"):
        changed(twin, condition)
    path.write_text("why: a pot\nbodies: {pot: {mass: 2}}\n")
    with pytest.raises(SpecError, match=r"the scene has no body 'pot'; there are .*kettleroot"):
        changed(twin, load_condition(path, DOMAIN))
