"""An arm seen through its rig: true angles on our side, the encoders' on its own; stamps of when it was measured."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np
import pytest
from contracts.backend import BackendContract
from contracts.backend import Rig as UnderTest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import GripperCommand, JointCommand, JointTrajectory, RobotMode, RobotState
from skimo_core.control.actuate import Actuator, ActuatorConfig
from skimo_core.control.rigged import RiggedBackend, corrected, in_time, meant, narrowed, told
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig import BARE, Camera, JointOffsets, Latency, Made, Rig
from skimo_core.domain.robot import load_limits
from skimo_core.safety.path import ARRIVAL_S, TRANSIT_S
from skimo_core.safety.situation import GateConfig, gate_in_time
from skimo_sim.kinematic import KinematicTwin

PANDA = load_limits("panda")
MADE = Made(date=datetime.date(2026, 1, 15), method="a test")
OFFSET_RAD = np.array([0.03, -0.02, 0.01, 0.04, -0.03, 0.02, -0.05])


def late(latency_s: float) -> Latency:
    return Latency(latency_s=latency_s, sigma_s=0.001, made=MADE)


RIG = Rig(
    name="lab",
    robot="panda",
    joints=JointOffsets(offset_rad=OFFSET_RAD, sigma_rad=np.zeros(7), made=MADE),
    state=late(0.004),
    command=late(0.03),
    cameras={
        "wrist": Camera(frame="a", mount="flange", latency=late(0.02)),
        "room": Camera(frame="b", mount="base", latency=late(0.05)),
        "unmeasured": Camera(frame="c", mount="base"),
    },
)
OFFSETS = st.lists(st.floats(-0.2, 0.2), min_size=7, max_size=7).map(np.array)


def rig_of(offset_rad: np.ndarray) -> Rig:
    return Rig(name="x", robot="panda", joints=JointOffsets(offset_rad=offset_rad, sigma_rad=np.zeros(7), made=MADE))


def path(seed: int) -> JointTrajectory:
    rng = np.random.default_rng(seed)
    q, dq, ddq = rng.normal(size=(3, 4, 7))
    times_s = np.array([0.1, 0.2, 0.3, 0.4])
    return JointTrajectory(start_s=seed * 0.1, times_s=times_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=ddq)


STATE = RobotState(
    stamp_s=10.0,
    q_rad=PANDA.home_q_rad,
    dq_rad_s=np.ones(7),
    tau_nm=np.ones(7),
    finger_m=np.zeros(2),
    mode=RobotMode.MOVE,
    mode_stamp_s=9.99,
    desired_q_rad=PANDA.home_q_rad + 0.01,
    tau_ext_nm=np.ones(7),
)


@settings(max_examples=50, deadline=None)
@given(offset_rad=OFFSETS, seed=st.integers(0, 1000))
def test_what_is_told_means_what_was_meant(offset_rad: np.ndarray, seed: int) -> None:
    rig, trajectory = rig_of(offset_rad), path(seed)
    for one, other in ((told, meant), (meant, told)):
        there = other(one(trajectory, rig), rig)
        assert np.allclose(there.q_rad, trajectory.q_rad, atol=1e-12)
        assert np.array_equal(there.dq_rad_s, trajectory.dq_rad_s) and there.start_s == trajectory.start_s
    assert np.allclose(told(trajectory, rig).q_rad - offset_rad, trajectory.q_rad, atol=1e-12)


def test_a_state_is_of_when_it_was_measured_and_in_true_angles() -> None:
    found = corrected(STATE, RIG)
    assert found.stamp_s == pytest.approx(9.996) and found.mode_stamp_s == pytest.approx(9.986)
    assert np.allclose(found.q_rad, STATE.q_rad - OFFSET_RAD)
    assert found.desired_q_rad is not None and np.allclose(found.desired_q_rad - found.q_rad, 0.01)
    for name in ("dq_rad_s", "tau_nm", "finger_m", "mode", "tau_ext_nm"):
        assert getattr(found, name) is getattr(STATE, name)
    silent = corrected(replace(STATE, desired_q_rad=None, mode_stamp_s=None), RIG)
    assert silent.desired_q_rad is None and silent.mode_stamp_s is None


def test_nothing_is_corrected_where_nothing_was_measured() -> None:
    found = corrected(STATE, BARE)
    assert found.stamp_s == STATE.stamp_s and np.array_equal(found.q_rad, STATE.q_rad)
    assert np.array_equal(narrowed(PANDA, BARE).q_min_rad, PANDA.q_min_rad)
    assert in_time(ActuatorConfig(), BARE) == ActuatorConfig()


@settings(max_examples=50, deadline=None)
@given(offset_rad=OFFSETS, share=st.floats(0, 1))
def test_within_narrowed_limits_joints_and_encoders_are_within_the_robot_s(
    offset_rad: np.ndarray, share: float
) -> None:
    limits = narrowed(PANDA, rig_of(offset_rad))
    assert (limits.q_min_rad < limits.q_max_rad).all() and limits.digest == PANDA.digest
    true_rad = limits.q_min_rad + share * (limits.q_max_rad - limits.q_min_rad)
    for q_rad in (true_rad, true_rad + offset_rad):
        assert (q_rad >= PANDA.q_min_rad - 1e-12).all() and (q_rad <= PANDA.q_max_rad + 1e-12).all()
    room = (limits.q_max_rad - limits.q_min_rad) - (PANDA.q_max_rad - PANDA.q_min_rad)
    assert np.allclose(room, -np.abs(offset_rad)), "no more is given away than must be"


@settings(max_examples=30, deadline=None)
@given(command_s=st.floats(0, 0.031))
def test_a_command_has_as_long_to_the_arm_as_it_takes(command_s: float) -> None:
    """From the gate, and to the gate as long as before."""
    plain, rig = ActuatorConfig(), replace(BARE, command=late(command_s))
    found, gate = in_time(plain, rig), gate_in_time(GateConfig(), rig)
    assert found == replace(plain, transit_s=found.transit_s)
    assert gate == replace(GateConfig(), leave_after_s=gate.leave_after_s)
    assert gate.leave_after_s >= max(command_s, TRANSIT_S)
    assert found.transit_s - gate.leave_after_s == pytest.approx(plain.transit_s - TRANSIT_S)
    Actuator(PANDA, load_domain().action, found)


def test_what_arrives_as_every_command_does_needs_no_more_time() -> None:
    prompt = replace(BARE, command=late(ARRIVAL_S))
    assert in_time(ActuatorConfig(), prompt) == ActuatorConfig() and gate_in_time(GateConfig(), prompt) == GateConfig()


def test_a_command_that_takes_too_long_for_the_rate_is_refused_in_words() -> None:
    config = in_time(ActuatorConfig(), replace(BARE, command=late(0.06)))
    with pytest.raises(SpecError, match=r"may take 69 ms to the arm .*lower the domain's rate"):
        Actuator(PANDA, load_domain().action, config)
    with pytest.raises(SpecError, match=r"rig lab: commands take effect 300 ms late, .* at most 91 ms; mend"):
        in_time(ActuatorConfig(), replace(RIG, command=late(0.3)))


# --- the backend ------------------------------------------------------------------------------------------------------


@pytest.fixture
def arm() -> RiggedBackend:
    return RiggedBackend(KinematicTwin(load_domain(), PANDA), RIG)


class TestRiggedBackend(BackendContract):
    @pytest.fixture
    def rig(self, arm: RiggedBackend) -> UnderTest:
        return UnderTest(backend=arm, wait=arm.advance, follow_rad=1e-6)


def test_the_arm_behind_it_is_told_its_encoders_angles(arm: RiggedBackend) -> None:
    arm.reset("kitchen", 3, now_s=5.0)
    still, goal = np.zeros((1, 7)), arm.read().q_rad[None] + 0.05
    trajectory = JointTrajectory(start_s=5.0, times_s=np.array([0.5]), q_rad=goal, dq_rad_s=still, ddq_rad_s2=still)
    hand = GripperCommand(kind="move", width_m=0.02, speed_m_s=0.1)
    arm.write(JointCommand(trajectory=trajectory, gripper=hand))
    assert arm.hand_busy and not arm.path_at_rest
    arm.advance(1.0)
    assert arm.now_s() == 6.0 and arm.read().stamp_s == pytest.approx(5.996)
    assert np.allclose(arm.read().q_rad, goal[0]) and np.allclose(arm.desired()[0], goal[0])
    assert np.allclose(arm.inside.read().q_rad, goal[0] + OFFSET_RAD)
    assert arm.hand_width_m == pytest.approx(0.02)


def test_objects_are_of_when_the_slowest_camera_saw_them(arm: RiggedBackend) -> None:
    assert arm.read_objects().stamp_s == pytest.approx(arm.now_s() - 0.05)


def test_where_nothing_was_measured_an_arm_may_have_any_number_of_joints() -> None:
    six = replace(PANDA, q_min_rad=PANDA.q_min_rad[:6], q_max_rad=PANDA.q_max_rad[:6])
    assert (narrowed(six, BARE).q_min_rad == six.q_min_rad).all() and (narrowed(six, BARE).q_max_rad < 4).all()
    q_rad = np.arange(6.0)
    state = RobotState(stamp_s=1.0, q_rad=q_rad, dq_rad_s=0 * q_rad, tau_nm=0 * q_rad, finger_m=np.zeros(0))
    assert (corrected(state, BARE).q_rad == q_rad).all()
    times_s, points = np.array([0.1]), q_rad[None]
    path = JointTrajectory(start_s=0.0, times_s=times_s, q_rad=points, dq_rad_s=0 * points, ddq_rad_s2=0 * points)
    assert (told(path, BARE).q_rad == points).all() and (meant(path, BARE).q_rad == points).all()
