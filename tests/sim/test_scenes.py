"""A lab's own scene: its model with our arm in it, its channels, and what is said where something is wrong with it."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from support.lab_scene import DOMAIN, MODEL, SCENE, observation, write_lab

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import Domain
from skimo_core.domain.library import find
from skimo_core.domain.rig import BARE, Made, Placement, Rig
from skimo_core.domain.rotations import matrix
from skimo_sim.condition import Actuation, BodyFactors, Condition, JointFactors
from skimo_sim.scenes.physics import mujoco
from skimo_sim.scenes.scene import OWN
from skimo_sim.twin import Twin
from skimo_sim.twins import make_twin


def twin_of(domain: Domain, condition: Condition | None = None, rig: Rig | None = None) -> Twin:
    twin = make_twin(domain, condition=condition, rig=rig)
    assert isinstance(twin, Twin)
    return twin


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return write_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def twin(domain: Domain) -> Twin:
    return twin_of(domain)


def turned(angle_rad: float) -> np.ndarray:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def test_the_arm_stands_where_the_file_says_with_the_robot_s_own_limits(twin: Twin) -> None:
    model, data = twin.model, twin.data
    np.testing.assert_allclose(data.body("panda_link0").xpos, [0.0, 0.1, 0.8], atol=1e-9)
    np.testing.assert_allclose(data.body("panda_link0").xmat.reshape(3, 3), turned(0.3), atol=1e-9)
    np.testing.assert_allclose(model.jnt_range[:7], np.column_stack([twin.limits.q_min_rad, twin.limits.q_max_rad]))
    np.testing.assert_allclose(model.jnt_actfrcrange[:7, 1], twin.limits.tau_max_nm)
    start = twin.scene.start_qpos
    np.testing.assert_allclose(start[:7], twin.limits.home_q_rad)
    assert (model.opt.timestep, model.opt.cone, model.opt.gravity[2]) == (0.002, mujoco.mjtCone.mjCONE_ELLIPTIC, -9.7)


def test_what_the_domain_starts_is_where_it_starts_and_at_rest(twin: Twin, domain: Domain) -> None:
    twin.start(None)
    first = twin.read_objects().values
    wanted = observation(domain)[9:]
    np.testing.assert_allclose(np.delete(first, 1), np.delete(wanted, 1), atol=2e-3)  # the knob follows the door
    twin.advance(1.0)
    np.testing.assert_allclose(twin.read_objects().values, first, atol=1e-4)
    assert np.abs(twin.external_torque()).max() == 0.0


def test_observations_and_states_are_each_other_s_inverse(twin: Twin, domain: Domain) -> None:
    turn = {"cup__qw": np.cos(0.4), "cup__qx": 0.0, "cup__qy": np.sin(0.4), "cup__qz": 0.0}
    wanted = observation(domain, fr3_joint2=-0.5, fr3_joint4=-2.0, fr3_joint6=1.5, cup__x=0.4, door=-0.7, **turn)
    told = twin.observed(twin.state_of(wanted))
    settable = [k for k, name in enumerate(domain.observation.names) if name != "knob.x"]
    np.testing.assert_allclose(told[settable], wanted[settable], atol=1e-6)
    knob = 9 + domain.observation.objects.index("knob.x")
    hinge, arm = np.array([0.49, 0.4]), turned(-0.7)[:2, :2] @ [-0.02, -0.17]
    assert told[knob] == pytest.approx((hinge + arm)[0], abs=1e-6)


def test_poses_can_be_told_from_the_arm_s_base(tmp_path: Path) -> None:
    """The same cup, seen from the base, lies elsewhere, and is put back where it was."""
    domain = write_lab(tmp_path, scene=SCENE + "frame: base\n", domain=DOMAIN.replace("start: 0.84", "start: 0.04"))
    twin = twin_of(domain)
    at = slice(twin.model.joint("door").qposadr[0] + 1, None)
    assert at.stop is None
    cup = twin.model.jnt_qposadr[twin.model.body("cup").jntadr[0]]
    np.testing.assert_allclose(
        twin.scene.start_qpos[cup : cup + 3], [0, 0.1, 0.8] + turned(0.3) @ [0.5, -0.1, 0.04], atol=2e-3
    )
    told = twin.observed(twin.scene.start_qpos)
    np.testing.assert_allclose(told[11:18], observation(domain)[11:18], atol=2e-3)


def test_a_yaw_is_a_turn_about_z_of_whatever_the_body_was(tmp_path: Path) -> None:
    quaternions = [line for line in DOMAIN.splitlines() if "cup.q" in line]
    words = DOMAIN.replace("\n".join(quaternions), "  - {name: cup.yaw, source: object, unit: rad, start: 2.0}")
    words = words.replace(", turns: {cup: 0.5}", "")
    twin = twin_of(write_lab(tmp_path, domain=words))
    told = twin.observed(twin.scene.start_qpos)
    assert told[14] == pytest.approx(2.0, abs=1e-3)
    cup = twin.model.jnt_qposadr[twin.model.body("cup").jntadr[0]]
    np.testing.assert_allclose(matrix(twin.scene.start_qpos[cup + 3 : cup + 7]), turned(2.0), atol=2e-3)


def test_a_body_that_the_domain_starts_nowhere_stays_where_the_model_has_it(tmp_path: Path) -> None:
    words = DOMAIN.replace("start: 0.5}", "start: 0.0}").replace("start: -0.1}", "start: 0.0}")
    words = words.replace("start: 0.84}", "start: 0.0}").replace("start: 1.0}", "start: 0.0}")
    twin = twin_of(write_lab(tmp_path, domain=words))
    np.testing.assert_allclose(twin.observed(twin.scene.start_qpos)[11:14], [0.5, -0.1, 0.84], atol=2e-3)


def test_starts_are_drawn_as_anywhere_and_the_same_seed_gives_the_same_episode(twin: Twin) -> None:
    rows = []
    for seed in (1, 2, 1):
        twin.reset(seed=seed)
        twin.advance(0.5)
        rows.append(twin.data.qpos.copy())
    assert np.array_equal(rows[0], rows[2]) and not np.array_equal(rows[0], rows[1])
    assert np.abs(twin.external_torque()).max() == 0.0


def test_a_snapshot_goes_on_bit_for_bit(twin: Twin) -> None:
    twin.reset(seed=4)
    twin.data.joint("door").qvel[:] = -1.0
    kept = twin.snapshot()
    twin.advance(0.4)
    first = twin.data.qpos.copy()
    twin.restore(kept)
    twin.advance(0.4)
    assert np.array_equal(twin.data.qpos, first)


def test_conditions_change_what_they_name_and_refuse_what_is_not_there(domain: Domain, twin: Twin) -> None:
    heavy = Condition(
        name="heavy", why="full", bodies={"cup": BodyFactors(mass=3.0)}, joints={"door": JointFactors(damping=2.0)}
    )
    changed = twin_of(domain, condition=heavy)
    assert changed.model.body("cup").mass == pytest.approx(3.0 * twin.model.body("cup").mass)
    assert changed.model.joint("door").damping == pytest.approx(1.0)
    with pytest.raises(SpecError, match=r"no body 'kettle'; there are .*cup"):
        twin_of(domain, condition=Condition(name="odd", why="-", bodies={"kettle": BodyFactors(mass=2.0)}))
    with pytest.raises(SpecError, match="no arm 'kitchen' for the scene 'bench'"):
        twin_of(domain, condition=Condition(name="own", why="-", actuation=Actuation(arm="kitchen")))


def test_the_arm_stands_where_the_rig_says_unless_that_is_elsewhere(domain: Domain) -> None:
    """The bench as a rig measured it, seen from the arm: 3 cm further ahead than the scene has it."""

    def rig(ahead_m: float) -> Rig:
        position = turned(-0.3) @ -np.array([0.0, 0.1, 0.8]) + [ahead_m, 0.0, 0.0]
        made = Made(date=date(2026, 1, 1), method="by hand")
        place = Placement(position_m=position, rotation=turned(-0.3), sigma_m=0.001, sigma_rad=0.001, made=made)
        return replace(BARE, name="here", furniture={"bench": place})

    moved = twin_of(domain, rig=rig(0.03))
    expected = np.array([0.0, 0.1, 0.8]) - turned(0.3) @ [0.03, 0.0, 0.0]
    np.testing.assert_allclose(moved.data.body("panda_link0").xpos, expected, atol=1e-9)
    np.testing.assert_allclose(moved.scene.base_m, expected, atol=1e-9)
    with pytest.raises(SpecError, match=r"by the rig the arm stands 0\.300 m"):
        twin_of(domain, rig=rig(0.3))


def test_what_pushes_the_arm_is_felt(twin: Twin) -> None:
    twin.start(None)
    twin.data.joint("door").qpos[:] = 0.0
    state = observation(twin.domain)
    state[:7] = twin.limits.home_q_rad
    tcp, _ = twin.tcp_pose()
    state[11:14] = tcp - [0.0, 0.0, 0.03]  # the cup between the fingers
    state[7:9] = 0.04
    twin.set_state(twin.state_of(state))
    twin.data.body("cup").xfrc_applied[:3] = [0.0, 0.0, 5.0]
    twin.advance(0.3)
    twin.data.body("cup").xfrc_applied[:3] = 0.0
    assert np.abs(twin.external_torque()).max() > 0.3


def test_a_lab_s_own_actuators_are_left_alone(twin: Twin) -> None:
    assert twin.model.nu == OWN + 1
    twin.start(None)
    twin.data.ctrl[OWN] = 0.1
    twin.advance(2.0)
    assert twin.read_objects().values[-1] == pytest.approx(0.1, abs=0.01)


def test_the_scene_is_drawn_with_what_is_only_to_be_looked_at(twin: Twin) -> None:
    seen = twin.drawn().model
    cameras = [seen.camera(k).name for k in range(seen.ncam)]
    assert set(cameras) == {"room", "left", "front", "side", "ceiling"}
    assert seen.ngeom > twin.model.ngeom and seen.nq == twin.model.nq
    assert [seen.joint(k).name for k in range(seen.njnt)] == [twin.model.joint(k).name for k in range(twin.model.njnt)]


URDF = """
<robot name="desk">
  <link name="world"/>
  <link name="desk">
    <inertial><mass value="10"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><origin xyz="0.4 0 -0.05"/><geometry><box size="1.4 1.4 0.1"/></geometry></collision>
  </link>
  <joint name="desk_fixed" type="fixed">
    <parent link="world"/><child link="desk"/><origin xyz="0 0 0.8" rpy="0 0 0"/>
  </joint>
  <link name="lid">
    <inertial><mass value="0.5"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><origin xyz="0.1 0 0.011"/><geometry><box size="0.2 0.2 0.02"/></geometry></collision>
  </link>
  <joint name="door" type="revolute">
    <parent link="desk"/><child link="lid"/><origin xyz="0.6 0.3 0.0"/><axis xyz="0 -1 0"/>
    <limit lower="0" upper="1.5" effort="10" velocity="1"/><dynamics damping="0.2" friction="0.1"/>
  </joint>
  <link name="plate">
    <inertial><mass value="0.3"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><geometry><box size="0.1 0.1 0.01"/></geometry></collision>
  </link>
  <joint name="tray" type="prismatic">
    <parent link="desk"/><child link="plate"/><origin xyz="0.4 -0.4 0.006"/><axis xyz="0 1 0"/>
    <limit lower="-0.2" upper="0.2" effort="10" velocity="1"/>
  </joint>
  <link name="cup">
    <inertial><mass value="0.1"/><inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><geometry><cylinder radius="0.03" length="0.08"/></geometry></collision>
  </link>
  <joint name="cup_free" type="floating">
    <parent link="world"/><child link="cup"/><origin xyz="0.5 -0.1 0.84"/>
  </joint>
</robot>
"""
URDF_SCENE = (
    SCENE.replace("bench.xml", "desk.urdf").replace("body: bench", "body: desk").replace("visual: [curtain]", "")
)


def urdf_lab(folder: Path, model: str, scene: str) -> Domain:
    """The same domain with a URDF, which has no sites."""
    words = DOMAIN.replace("  - {name: knob.x, source: object, unit: m, start: 0.47}\n", "")
    words = words.replace("door: -1.0", "door: 1.0")
    return write_lab(folder, model=model, model_name="desk.urdf", scene=scene, domain=words)


def test_a_urdf_is_a_model_as_well(tmp_path: Path) -> None:
    twin = twin_of(urdf_lab(tmp_path, URDF, URDF_SCENE.replace("  knob: {site: knob}\n", "")))
    assert twin.model.body("desk").name == "desk"  # fixed links keep their names
    np.testing.assert_allclose(twin.data.body("panda_link0").xpos, [0.0, 0.1, 0.8], atol=1e-9)
    told = dict(zip(twin.domain.observation.objects, twin.observed(twin.scene.start_qpos)[9:]))
    assert told["cup.z"] == pytest.approx(0.84, abs=2e-3) and told["door"] == pytest.approx(0.0, abs=2e-2)
    state = twin.state_of(observation(twin.domain, door=0.8, tray__at=0.1))
    told = dict(zip(twin.domain.observation.objects, twin.observed(state)[9:]))
    assert (told["door"], told["tray.at"]) == (0.8, 0.1)


WRONG = {
    "no model": ({"scene": SCENE.replace("bench.xml", "bank.xml")}, "there is no file .*bank.xml; paths are relative"),
    "not XML": ({"model": "<mujoco><body"}, "bench.xml can't be read as MJCF or URDF: unclosed token"),
    "not a model": ({"model": "<svg/>"}, "Unrecognized XML model type: 'svg'"),
    "no mesh": (
        {
            "model": MODEL.replace("<worldbody>", '<asset><mesh name="m" file="cup.stl"/></asset><worldbody>').replace(
                'type="cylinder" size="0.03 0.04"', 'type="mesh" mesh="m"'
            )
        },
        "it doesn't compile: .*cup.stl",
    ),
    "no mass": (
        {"model": MODEL.replace("<freejoint/>", '<freejoint/></body><body name="air"><freejoint/>')},
        "it doesn't compile: .*mass",
    ),
    "no joint": ({"scene": SCENE.replace("{joint: door}", "{joint: gate}")}, "no joint 'gate'; there are door, tray"),
    "no body": ({"scene": SCENE.replace("{body: cup}", "{body: mug}")}, "no body 'mug'; there are bench, .*cup"),
    "no site": ({"scene": SCENE.replace("{site: knob}", "{site: nob}")}, "no site 'nob'; there are corner, knob"),
    "a ball": (
        {"model": MODEL.replace('name="door" type="hinge" axis="0 0 1" range="-1.6 0"', 'name="door" type="ball"')},
        "joint 'door' is neither a hinge nor a slide",
    ),
    "no entry": ({"scene": SCENE.replace("  tray.at: {joint: tray}\n", "")}, "says nothing of 'tray.at'; add tray.at"),
    "an entry too many": ({"scene": SCENE.replace("visual:", "  lamp: {body: cup}\nvisual:")}, "'lamp' is no channel"),
    "twice": ({"scene": SCENE.replace("visual:", "  cup.x: {body: cup}\nvisual:")}, "'cup.x' is there twice"),
    "two of one": (
        {"scene": SCENE.replace("tray.at: {joint: tray}", "tray.at: {joint: door}")},
        "door and tray.at are both the value of 'door'",
    ),
    "a part of a turn": (
        {"domain": DOMAIN.replace("name: cup.qz", "name: cup.yaw").replace("turns: {cup: 0.5}, ", "")},
        "give qw, qx, qy, qz all four, or yaw, not both",
    ),
    "which value": ({"scene": SCENE.replace("tray.at: {joint: tray}", "tray.at: {body: cup}")}, "which value of 'cup'"),
    "unknown key": ({"scene": SCENE + "fog: 1\n"}, "unknown key 'fog'"),
    "of nothing": (
        {"scene": SCENE.replace("{joint: door}", "{}")},
        "names nothing; a channel is one of joint, body or site",
    ),
    "long steps": ({"scene": SCENE + "timestep_s: 0.02\n"}, "timestep_s is 0.02, must lie in 0.0001 to 0.004"),
    "no such mount": ({"scene": SCENE.replace("body: bench,", "body: bank,")}, "no body 'bank'; there are bench"),
    "a mount that moves": ({"scene": SCENE.replace("body: bench,", "body: cup,")}, "'cup' can move"),
    "a home out of range": (
        {"scene": SCENE.replace("rpy_rad", "home_rad: [0, -1, 0, 0, 0, 1.5, 0], rpy_rad")},
        "home_rad: joint 4 is 0 rad, must lie in -3.0421 to -0.1518",
    ),
    "a base in the furniture": (
        {"scene": SCENE.replace("xyz_m: [0.0, 0.1, 0.0]", "xyz_m: [0.6, 0.3, 0.1]")},
        "base stands 0.*m deep in 'cupboard'",
    ),
    "an arm in something": (
        {
            "scene": SCENE.replace("visual: [curtain]\n", "").replace(
                "rpy_rad", "home_rad: [0, 0.7, 0, -1.5, 0, 2, 0], rpy_rad"
            )
        },
        "the arm's .* touches '(bench|curtain)'",
    ),
    "a cup in the bench": ({"domain": DOMAIN.replace("start: 0.84", "start: 0.80")}, "'bench' stands .* deep in 'cup'"),
    "a cup in the air": (
        {"domain": DOMAIN.replace("start: 0.84", "start: 1.1")},
        "'cup' does not stay where it starts",
    ),
    "unstable": (
        {"model": MODEL.replace('damping="0.5"', 'damping="0.5" stiffness="1e9" springref="1"')},
        "the model is unstable: .*'door'|diverge",
    ),
    "no such curtain": ({"scene": SCENE.replace("[curtain]", "[blind]")}, "visual: the model has no body 'blind'"),
    "the arm's names": ({"model": MODEL.replace('name="tray"', 'name="panda_joint1"')}, "has a name of the arm's"),
    "straight down": (
        {"scene": SCENE.replace("eye_m: [1.5, 1.5, 1.5]", "eye_m: [0.4, 0.0, 1.5]")},
        "straight above or below",
    ),
    "a follower drawn": (
        {"domain": DOMAIN.replace("offsets: {cup.x: 0.05}", "offsets: {knob.x: 0.05}")},
        "draw 'knob.x', which no start can set",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_words(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, words = WRONG[case]
    monkeypatch.chdir(tmp_path)  # MuJoCo logs there what diverged
    domain = write_lab(tmp_path, **files)
    with pytest.raises(SpecError, match=words):
        make_twin(domain)


CYLINDER = '<cylinder radius="0.03" length="0.08"/>'


def write_mesh(path: Path, half_m: float = 0.04) -> None:
    """A cube as binary STL."""
    corners = half_m * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    faces = ["013", "032", "467", "475", "045", "051", "237", "276", "026", "064", "157", "173"]
    rows = [struct.pack("<12fH", 0, 0, 0, *corners[[int(k) for k in face]].ravel(), 0) for face in faces]
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(80) + struct.pack("<I", len(faces)) + b"".join(rows))


def test_meshes_lie_where_the_model_says_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mesh(tmp_path / "lab" / "meshes" / "cup.stl")
    model = MODEL.replace('angle="radian"', 'angle="radian" meshdir="meshes"')
    model = model.replace("<worldbody>", '<asset><mesh name="m" file="cup.stl"/></asset><worldbody>')
    model = model.replace('type="cylinder" size="0.03 0.04"', 'type="mesh" mesh="m"')
    domain = write_lab(tmp_path / "lab", model=model)
    monkeypatch.chdir("/")
    twin = twin_of(domain)
    assert twin.observed(twin.scene.start_qpos)[13] == pytest.approx(0.84, abs=2e-3)


@pytest.mark.parametrize("name", ["package://lab/meshes/cup.stl", "meshes/cup.stl"])
def test_a_urdf_s_meshes_are_found(name: str, tmp_path: Path) -> None:
    write_mesh(tmp_path / "lab" / "meshes" / "cup.stl")
    scene = URDF_SCENE.replace("  knob: {site: knob}\n", "")
    twin = twin_of(urdf_lab(tmp_path / "lab", URDF.replace(CYLINDER, f'<mesh filename="{name}"/>'), scene))
    assert twin.model.nmesh == twin_of(urdf_lab(tmp_path / "plain", URDF, scene)).model.nmesh + 1


def test_a_urdf_s_meshes_that_can_t_be_had_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = URDF_SCENE.replace("  knob: {site: knob}\n", "")
    absent = URDF.replace(CYLINDER, '<mesh filename="package://theirs/cup.stl"/>')
    with pytest.raises(SpecError, match=r"no folder 'theirs' with cup\.stl lies beside or above"):
        twin_of(urdf_lab(tmp_path / "absent", absent, scene))
    with pytest.raises(SpecError, match=r"mesh cup\.dae can't be read: MuJoCo reads .*; convert it"):
        twin_of(urdf_lab(tmp_path / "dae", URDF.replace(CYLINDER, '<mesh filename="cup.dae"/>'), scene))
    seen = "<visual><geometry><mesh filename='cup.dae'/></geometry></visual><collision><geometry>" + CYLINDER
    twin_of(urdf_lab(tmp_path / "seen", URDF.replace(f"<collision><geometry>{CYLINDER}", seen), scene))
    assert "the visual mesh cup.dae is left out" in caplog.text


def test_a_floating_link_below_another_root_is_told_what_to_call_it(tmp_path: Path) -> None:
    words = URDF.replace('name="world"', 'name="room"').replace('link="world"', 'link="room"')
    domain = write_lab(tmp_path, model=words, model_name="desk.urdf", scene=URDF_SCENE)
    with pytest.raises(SpecError, match=r"free joint .*: in a URDF the root link must then be called world"):
        make_twin(domain)


def test_an_arm_that_there_is_no_model_of_is_refused_and_what_can_be_done(tmp_path: Path) -> None:
    robot = find("robots", "fr3").text.replace("0.384", "0.42").replace("name: fr3", "name: longer")
    (tmp_path / "longer.yaml").write_text(robot, encoding="utf-8")
    domain = write_lab(tmp_path, domain=DOMAIN.replace("robot: fr3", "robot: ./longer.yaml"))
    with pytest.raises(SpecError, match=r"no scene can hold robot 'longer'.*take twin: kinematic.*no practice"):
        make_twin(domain)
    assert make_twin(domain, name="kinematic").read().q_rad.shape == (7,)


def test_a_scene_that_is_not_there_is_refused_in_words(domain: Domain) -> None:
    with pytest.raises(SpecError, match=r"no twin 'nowhere'.*installed are .*table.*ending in \.yaml"):
        make_twin(domain, name="nowhere")
    with pytest.raises(SpecError, match=r"there is no scene file /nowhere/scene\.yaml; it lies beside"):
        make_twin(domain, name="/nowhere/scene.yaml")
