"""A twin as its rig says: what was measured is what it does, seen through the rig it is right again; commands that come
late, known to, are followed as well as prompt ones."""

from __future__ import annotations

import datetime
from dataclasses import replace

import mujoco
import numpy as np
import numpy.typing as npt
import pytest
from contracts.backend import BackendContract
from contracts.backend import Rig as UnderTest

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JointCommand, JointTrajectory, Verdict
from skimo_core.control.actuate import ActuatorConfig
from skimo_core.control.commander import Arm, Commander
from skimo_core.control.rigged import RiggedBackend, in_time
from skimo_core.domain.cell import Contact, load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig import BARE, Camera, Dynamics, JointOffsets, Latency, Made, Payload, Placement, Rig
from skimo_core.domain.robot import load_limits
from skimo_core.domain.starts import Starts
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend
from skimo_core.safety.situation import GateConfig, gate_in_time
from skimo_eval.trials import truth
from skimo_sim.condition import Actuation, Condition, Sensors, load_condition
from skimo_sim.impaired import actual
from skimo_sim.kinematic import KinematicTwin
from skimo_sim.past import Past
from skimo_sim.scenes.kitchen import build_kitchen
from skimo_sim.twin import Twin
from skimo_sim.twins import make_twin

Array = npt.NDArray[np.float64]
DOMAIN, PANDA = load_domain(), load_limits("panda")
PAPERS = load_condition("papers", DOMAIN)
MADE = Made(date=datetime.date(2026, 1, 15), method="a test")
OFFSET_RAD = np.array([0.03, -0.02, 0.01, 0.04, -0.03, 0.02, -0.05])
PLAIN = Rig(name="lab", robot="panda")
YAW_RAD = -1.57
"""The shipped scene turns the arm by so much, written so in its file."""


def late(latency_s: float) -> Latency:
    return Latency(latency_s=latency_s, sigma_s=0.0, made=MADE)


def camera(latency_s: float) -> dict[str, Camera]:
    return {"wrist": Camera(frame="optical", mount="flange", latency=late(latency_s))}


OFF = JointOffsets(offset_rad=OFFSET_RAD, sigma_rad=np.zeros(7), made=MADE)
FRICTION = Dynamics(
    friction_nm=np.full(7, 0.5),
    damping_nm_s=np.full(7, 0.7),
    armature_kg_m2=np.full(7, 0.1),
    sigma_friction_nm=np.zeros(7),
    sigma_damping_nm_s=np.zeros(7),
    sigma_armature_kg_m2=np.zeros(7),
    made=MADE,
)
BOTTLE = Payload(mass_kg=0.7, centre_m=np.array([0.0, 0.02, 0.06]), sigma_kg=0.0, sigma_m=0.0, made=MADE)


def turn(yaw_rad: float) -> Array:
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def kitchen(off_m: Array | None = None, yaw_rad: float = 0.0) -> Placement:
    """The kitchen in the arm's base frame: where the scene has it, moved by so much and then turned."""
    position_m = np.array([0.0, 0.0, -1.8]) + (0.0 if off_m is None else off_m)
    return Placement(position_m=position_m, rotation=turn(YAW_RAD + yaw_rad), sigma_m=0.0, sigma_rad=0.0, made=MADE)


def to(twin: SimulatedBackend, step_rad: float, duration_s: float = 0.4) -> JointCommand:
    still, goal = np.zeros((1, 7)), twin.read().q_rad[None] + step_rad
    path = JointTrajectory(
        start_s=twin.now_s(), times_s=np.array([duration_s]), q_rad=goal, dq_rad_s=still, ddq_rad_s2=still
    )
    return JointCommand(trajectory=path)


# --- nothing measured -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rig", [None, BARE, PLAIN])
def test_where_nothing_was_measured_nothing_is_different(rig: Rig | None) -> None:
    plain, twin = Twin(), make_twin(DOMAIN, rig=rig)
    assert isinstance(twin, Twin)
    for one in (plain, twin):
        one.reset("kitchen", 3)
        one.write(to(one, 0.05))
        one.advance(0.31)
    assert np.array_equal(twin.data.qpos, plain.data.qpos) and np.array_equal(twin.data.qvel, plain.data.qvel)


def test_under_a_condition_too() -> None:
    condition = load_condition("late_objects", DOMAIN)
    ends = []
    for rig in (None, PLAIN):
        twin = make_twin(DOMAIN, condition=condition, rig=rig)
        twin.reset("kitchen", 3)
        twin.write(to(twin, 0.05))
        for _ in range(5):
            twin.advance(0.061)
        ends.append(np.concatenate([twin.read_objects().values, twin.read().q_rad]))
    assert np.array_equal(*ends)


# --- encoders and clocks ----------------------------------------------------------------------------------------------


def test_encoders_are_off_as_measured_and_by_what_a_condition_draws_besides() -> None:
    rig = replace(PLAIN, joints=OFF)
    twin = make_twin(DOMAIN, condition=PAPERS, rig=rig)
    home = actual(twin).read().q_rad
    for seed in (1, 2):
        twin.reset("kitchen", seed)
        assert np.allclose(twin.read().q_rad, home + OFFSET_RAD) and np.allclose(twin.desired()[0], home + OFFSET_RAD)
    seen = RiggedBackend(twin, rig)
    assert np.allclose(seen.read().q_rad, home) and actual(seen) is actual(twin) is twin.inside  # type: ignore[attr-defined]
    command = to(seen, 0.05)
    seen.write(command)
    seen.advance(0.8)
    assert np.abs(actual(seen).read().q_rad - home - 0.05).max() < 1e-3
    assert np.abs(truth(DOMAIN, seen)[:7] - home - 0.05).max() < 1e-3
    both = make_twin(DOMAIN, condition=load_condition("encoders_2", DOMAIN), rig=rig)
    both.reset("kitchen", 1)
    drawn = both.read().q_rad - actual(both).read().q_rad - OFFSET_RAD
    assert np.allclose(np.abs(drawn), 0.02)


def test_states_are_told_as_late_as_measured_and_seen_through_the_rig_they_are_true() -> None:
    rig = replace(PLAIN, state=late(0.013), joints=OFF)
    twin = make_twin(DOMAIN, condition=PAPERS, rig=rig)
    seen, true = RiggedBackend(twin, rig), Past(1.0)
    assert np.array_equal(twin.read().tau_nm, actual(twin).read().tau_nm), "at first as it began"
    seen.write(to(seen, 0.3, 0.5))
    for k in range(150):
        true.note(actual(twin).now_s(), np.concatenate([actual(twin).read().q_rad, actual(twin).desired()[0]]))
        told, found = twin.read(), seen.read()
        assert told.stamp_s == twin.now_s() and found.stamp_s == pytest.approx(twin.now_s() - 0.013)
        q_rad, desired_rad = np.split(true.at(found.stamp_s), 2)
        assert np.abs(found.q_rad - q_rad).max() < 1e-4, k
        assert np.abs(seen.desired()[0] - desired_rad).max() < 1e-4
        twin.advance(0.004)
    assert np.ptp([row[0] for row in true._rows]) > 0.25


def test_states_are_told_as_finely_however_coarsely_time_passes() -> None:
    rig, ends = replace(PLAIN, state=late(0.013), cameras=camera(0.03)), []
    for dt_s in (0.2, 0.01):
        twin = make_twin(DOMAIN, condition=PAPERS, rig=rig)
        twin.write(to(twin, 0.3, 0.5))
        for _ in range(round(0.2 / dt_s)):
            twin.advance(dt_s)
        ends.append(twin.read().q_rad)
    assert np.abs(ends[0] - ends[1]).max() < 2e-4


def test_objects_are_seen_as_late_as_measured_and_as_a_condition_says_besides() -> None:
    rig = replace(PLAIN, cameras=camera(0.04))
    for condition, wait in ((PAPERS, 1), (replace(PAPERS, sensors=Sensors(objects_delay_s=0.04)), 2)):
        twin = make_twin(DOMAIN, condition=condition, rig=rig)
        real, seen, told = actual(twin), [], []
        assert isinstance(real, Twin)
        real.data.qvel[real.model.jnt_dofadr[real.model.joint("microwave").id]] = -1.0
        for _ in range(6):
            seen.append(real.read_objects().values)
            twin.advance(0.04)
            told.append(twin.read_objects().values)
            assert twin.read_objects().stamp_s == twin.now_s()
            assert RiggedBackend(twin, rig).read_objects().stamp_s == pytest.approx(twin.now_s() - 0.04)
        assert np.abs(np.array(told[wait - 1 :]) - seen[: 7 - wait]).max() < 1e-12
        assert np.ptp(np.array(seen), axis=0).max() > 0.005


def test_commands_take_effect_as_late_as_measured_and_as_a_condition_draws_besides() -> None:
    rig = replace(PLAIN, command=late(0.03))
    for delay_s in ((0.0, 0.0), (0.01, 0.02)):
        twin = make_twin(DOMAIN, condition=replace(PAPERS, actuation=Actuation(delay_s=delay_s)), rig=rig)
        for seed in range(3):
            twin.reset("kitchen", seed)
            twin.write(to(twin, 0.05))
            began_s = twin.now_s()
            while not actual(twin).desired()[1].any():
                twin.advance(0.002)
            waited_s = twin.now_s() - began_s
            assert 0.03 + delay_s[0] <= waited_s <= 0.03 + delay_s[1] + 0.005


def test_a_kinematic_twin_does_offsets_and_delays() -> None:
    rig = replace(PLAIN, joints=OFF, state=late(0.01), command=late(0.02), cameras=camera(0.03))
    twin = make_twin(DOMAIN, name="kinematic", rig=rig)
    assert isinstance(actual(twin), KinematicTwin)
    seen = RiggedBackend(twin, rig)
    seen.write(to(seen, 0.05))
    seen.advance(0.8)
    assert np.allclose(seen.read().q_rad, actual(twin).read().q_rad)
    reference = seen.read().desired_q_rad
    assert reference is not None and np.allclose(reference, seen.read().q_rad)


class TestRiggedTwin(BackendContract):
    """Off and late as its rig says, and seen through it, it is a backend all the same."""

    @pytest.fixture
    def rig(self) -> UnderTest:
        rig = replace(PLAIN, joints=OFF, state=late(0.01), command=late(0.02), cameras=camera(0.03))
        twin = RiggedBackend(make_twin(DOMAIN, condition=PAPERS, rig=rig), rig)
        return UnderTest(backend=twin, wait=twin.advance, follow_rad=0.001)


# --- arm and scene ----------------------------------------------------------------------------------------------------


def test_the_arm_has_the_dynamics_and_the_load_that_were_measured() -> None:
    plain, twin = Twin(starts=Starts()), make_twin(DOMAIN, condition=PAPERS, rig=replace(PLAIN, dynamics=FRICTION))
    assert isinstance(twin, Twin)
    for row, value in ((twin.model.dof_frictionloss, 0.5), (twin.model.dof_damping, 0.7)):
        assert np.array_equal(row[:7], np.full(7, value))
    assert np.array_equal(twin.model.dof_armature[:7], FRICTION.armature_kg_m2)
    loaded = make_twin(DOMAIN, condition=PAPERS, rig=replace(PLAIN, payload=BOTTLE))
    assert isinstance(loaded, Twin)
    gained_kg = loaded.model.body_mass.sum() - plain.model.body_mass.sum()
    assert gained_kg == pytest.approx(0.7)
    sags_rad = [np.abs(one.desired()[0] - one.read().q_rad).max() for one in (plain, loaded)]
    assert 3 * sags_rad[0] < sags_rad[1] < 0.02
    assert np.abs(loaded.read().dq_rad_s).max() < 2e-3, "it hangs at rest before anybody looks"
    assert np.array_equal(loaded.model.dof_frictionloss, plain.model.dof_frictionloss)


@pytest.mark.parametrize("arm", ["panda", "kitchen"])
def test_the_arm_stands_where_the_kitchen_was_measured(arm: str) -> None:
    """A point of the kitchen is then where it was measured, seen from the arm."""
    off_m, yaw_rad = np.array([0.03, -0.02, 0.01]), 0.04
    link = {"panda": "panda_link0", "kitchen": "panda0_link0"}[arm]
    placement = kitchen(off_m, yaw_rad)
    for given, bound in ((None, 1e-12), (kitchen(), 1e-3), (placement, 1e-9)):
        scene = build_kitchen(arm, placement=given)
        data = mujoco.MjData(scene.model)
        mujoco.mj_kinematics(scene.model, data)
        base_m, rotation = data.body(link).xpos, data.body(link).xmat.reshape(3, 3)
        expected = kitchen() if given is None else given
        for point_m in np.eye(3):
            from_arm_m = rotation.T @ (point_m - base_m)
            assert np.abs(from_arm_m - expected.rotation @ point_m - expected.position_m).max() < max(bound, 1e-9)
    assert np.array_equal(scene.start_qpos, build_kitchen(arm).start_qpos)


def test_the_twin_s_hand_is_as_far_from_the_kettle_as_by_the_rig() -> None:
    off_m = np.array([0.0, 0.05, 0.0])  # the kitchen lies 5 cm to the arm's left: the hand reaches 5 cm to its right
    plain = make_twin(DOMAIN, condition=PAPERS)
    moved = make_twin(DOMAIN, condition=PAPERS, rig=replace(PLAIN, furniture={"kitchen": kitchen(off_m)}))
    assert isinstance(plain, Twin) and isinstance(moved, Twin)
    assert np.array_equal(moved.read_objects().values, plain.read_objects().values)
    assert np.array_equal(moved.read().q_rad, plain.read().q_rad)
    shift_m = moved.tcp_pose()[0] - plain.tcp_pose()[0]
    assert np.allclose(shift_m, [0.05, 0.0, 0.0], atol=1e-3)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kitchen": kitchen(np.array([0.2, 0.0, 0.0]))}, r"stands 0.200 m and 0.000 rad from .*bounds 0.1 m and 0.1"),
        ({"kitchen": kitchen(None, 0.15)}, r"0.150 rad from where .*nominally at \[.*-1.8\] m, turned by -1.57 rad"),
        ({"kitchen": kitchen(), "table": kitchen()}, r"furniture 'table' is not in this twin's scene, .*twin_rig"),
    ],
)
def test_furniture_that_stands_elsewhere_is_refused(given: dict[str, Placement], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        make_twin(DOMAIN, condition=PAPERS, rig=replace(PLAIN, furniture=given))


@pytest.mark.parametrize(
    ("given", "part"),
    [({"dynamics": FRICTION}, "dynamics"), ({"payload": BOTTLE}, "payload"), ({"furniture": {"a": kitchen()}}, "furn")],
)
def test_a_twin_without_a_scene_says_what_it_cannot_do(given: dict[str, object], part: str) -> None:
    with pytest.raises(SpecError, match=rf"'kinematic' can't do rig 'lab' \({part}.*no scene and no weight.*twin_rig"):
        make_twin(DOMAIN, name="kinematic", rig=replace(PLAIN, **given))  # type: ignore[arg-type]


def test_an_arm_that_a_condition_mounts_elsewhere_keeps_its_rig_s_dynamics_and_place() -> None:
    rig = replace(PLAIN, dynamics=FRICTION, furniture={"kitchen": kitchen(np.array([0.02, 0.0, 0.0]))})
    here, there = (make_twin(DOMAIN, condition=c, rig=rig) for c in (PAPERS, load_condition("mount_low", DOMAIN)))
    assert isinstance(here, Twin) and isinstance(there, Twin)
    assert np.array_equal(here.model.dof_frictionloss[:7], there.model.dof_frictionloss[:7])
    assert np.allclose(there.model.dof_frictionloss[:7], 0.5)
    apart_m = here.scene.base_rotation.T @ (there.scene.base_m - here.scene.base_m)
    assert np.allclose(apart_m, (-0.03, 0.03, -0.03), atol=1e-9)


def test_another_arm_is_not_given_this_one_s_dynamics() -> None:
    other = Condition(name="other", why="a test", actuation=Actuation(arm="kitchen"))
    with pytest.raises(SpecError, match=r"takes the arm 'kitchen', and rig 'lab' says how another one moves"):
        make_twin(DOMAIN, condition=other, rig=replace(PLAIN, dynamics=FRICTION))


def test_a_condition_changes_the_arm_that_was_measured() -> None:
    weak = make_twin(DOMAIN, condition=load_condition("weak_servos", DOMAIN), rig=replace(PLAIN, dynamics=FRICTION))
    assert isinstance(weak, Twin) and weak.model.dof_damping[0] == 0.7
    assert weak.model.actuator_gainprm[0, 0] == Twin().model.actuator_gainprm[0, 0] / 2


# --- the loop ---------------------------------------------------------------------------------------------------------

YIELDING = Contact(
    torque_hold_share=100.0,
    torque_stop_share=100.0,
    tracking_hold_rad=np.array([10.0]),
    tracking_stop_rad=np.array([10.0]),
)


class Flight:
    """An arm that is led about at random behind its gate, which makes it brake now and then.

    Args:
        true_s: how late its commands take effect.
        known: what policy and gate know of it.
    """

    def __init__(self, true_s: float, known: Rig, *, twin: str = "") -> None:
        self.twin = make_twin(DOMAIN, name=twin, condition=PAPERS, rig=replace(PLAIN, command=late(true_s)))
        self.gate = Gate(PANDA, gate_in_time(GateConfig(), known), cell=load_cell("open"))
        self.arm = GatedBackend(self.twin, self.gate, self.hear)
        self.commander = Commander(
            PANDA, DOMAIN.action, Arm.of(self.arm), in_time(ActuatorConfig(), known), contact=YIELDING
        )
        self.verdicts: list[Verdict] = []
        self.gaps_rad: list[Array] = []
        self.leads_rad: list[Array] = []
        self.arm.reset("kitchen", 0)
        self.commander.reset(self.arm.read().reference_q_rad, self.arm.now_s())

    def hear(self, decision: Decision) -> None:
        self.verdicts.append(decision.verdict)
        if decision.command is not None:
            self.commander.confirm(decision.command.trajectory)

    def fly(self, periods: int = 80) -> Flight:
        rng, action_A = np.random.default_rng(1), np.zeros(9, np.float32)
        for k in range(periods):
            if k % 4 == 0:
                off_rad = self.arm.read().q_rad - PANDA.home_q_rad
                action_A[:7] = np.clip(rng.uniform(-0.3, 0.3, 7) - 0.2 * off_rad, -0.3, 0.3)
            if k % 16 == 15:
                self.brake()
            else:
                self.commander.send(action_A, self.arm.now_s())
            self.pass_period()
            self.commander.settle()
        return self

    def brake(self) -> None:
        decision = self.gate.hold(self.arm.read(), self.arm.now_s())
        if decision.command is not None:
            self.twin.write(decision.command)
        self.hear(decision)

    def pass_period(self) -> None:
        for _ in range(8):
            self.arm.advance(DOMAIN.action.period_s / 8)
            told = self.gate._told
            expected_rad = None if told is None else told.expected(self.arm.read().stamp_s)
            assert expected_rad is not None
            self.gaps_rad.append(self.arm.read().q_rad - expected_rad)
        lead = self.commander._lead()
        assert lead is not None
        self.leads_rad.append(lead[0])


def rms(values: list[Array]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_commands_that_are_known_to_be_late_are_followed_as_well_as_prompt_ones() -> None:
    late_rig = replace(PLAIN, command=late(0.03))
    prompt, known, unknown = Flight(0.0, BARE).fly(), Flight(0.03, late_rig).fly(), Flight(0.03, BARE).fly()
    in_vain = Flight(0.0, late_rig).fly()
    for flight in (prompt, known, in_vain):
        assert set(flight.verdicts) <= {Verdict.PASS, Verdict.HOLD} and flight.verdicts.count(Verdict.HOLD) <= 5
    for other in (prompt, in_vain):
        assert rms(known.gaps_rad) <= 1.1 * rms(other.gaps_rad)
        assert np.abs(known.gaps_rad).max() <= 1.1 * np.abs(other.gaps_rad).max()
    assert rms(known.leads_rad) == pytest.approx(rms(in_vain.leads_rad), rel=0.1)
    assert rms(unknown.gaps_rad) > 2 * rms(prompt.gaps_rad), "else there is nothing to make up for"


def test_the_gate_foresees_where_a_late_arm_goes_brakes_included() -> None:
    """Without dynamics nothing but lateness is left."""
    late_rig = replace(PLAIN, command=late(0.03))
    known, unknown = (Flight(0.03, rig, twin="kinematic").fly() for rig in (late_rig, BARE))
    assert np.abs(known.gaps_rad).max() < 5e-5 and np.abs(unknown.gaps_rad).max() > 1e-3
