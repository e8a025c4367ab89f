"""The twin: gravity, tracking, determinism, limits, hand, goals, reset."""

from __future__ import annotations

import copy
from pathlib import Path

import mujoco
import numpy as np
import pytest

from skimo_core.contract.errors import BackendError, SimulationError
from skimo_core.contract.types import GripperCommand, JointCommand, JointTrajectory, RobotMode
from skimo_core.control.actuate import Actuator
from skimo_core.domain.starts import Starts
from skimo_eval.trials import truth
from skimo_sim.check import statistics_mrad, sweep
from skimo_sim.scenes.kitchen import ARMS
from skimo_sim.twin import Twin


@pytest.fixture(scope="module")
def shared() -> Twin:
    return Twin(starts=Starts())


@pytest.fixture
def twin(shared: Twin) -> Twin:
    shared.reset()
    return shared


def act(twin: Twin, actions: np.ndarray, actuator: Actuator | None = None) -> np.ndarray:
    """Execute actions [T, A]; return the states [T, nq]."""
    if actuator is None:
        actuator = Actuator(twin.limits, twin.domain.action)
        actuator.reset(twin.read().q_rad, twin.now_s())
    states = []
    for action in actions:
        twin.write(actuator.command(action, twin.now_s()))
        twin.advance(twin.domain.action.period_s)
        states.append(twin.data.qpos.copy())
    return np.array(states)


def actions(seed: int, steps: int, amplitude: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-amplitude, amplitude, (steps, 9)).astype(np.float32)


def test_gravity_is_compensated(twin: Twin) -> None:
    start = twin.read().q_rad
    twin.advance(2.0)
    assert np.abs(twin.read().q_rad - start).max() < 1e-3
    assert np.abs(twin.read().tau_nm[1]) > 5.0  # by the motors: the torque is measured


def test_a_trajectory_commanded_is_a_trajectory_followed(twin: Twin) -> None:
    measured = sweep(twin, episodes=2, steps=80, seed=3)
    assert measured.free.mean() > 0.5
    errors = statistics_mrad(measured.errors_rad[measured.free])
    assert max(errors["rms"]) < 0.5 and max(errors["p99"]) < 2.0


@pytest.mark.parametrize("arm", ARMS)
def test_the_same_actions_give_the_same_states(arm: str) -> None:
    first, second = (Twin(arm, Starts()) for _ in range(2))
    wanted = actions(0, 40)
    states = act(first, wanted)
    act(second, actions(1, 10))
    second.reset(seed=5)
    assert np.array_equal(states, act(second, wanted))


def test_a_snapshot_goes_on_bit_for_bit(twin: Twin) -> None:
    actuator = Actuator(twin.limits, twin.domain.action)
    actuator.reset(twin.read().q_rad, twin.now_s())
    act(twin, actions(2, 20), actuator)
    state, kept, other = twin.snapshot(), copy.deepcopy(actuator), Twin()
    states = act(twin, actions(3, 20), actuator)
    other.restore(state)
    assert other.now_s() == pytest.approx(1.6)
    assert np.array_equal(states, act(other, actions(3, 20), kept))


def test_reset_returns_to_the_initial_state_and_voids_commands(twin: Twin) -> None:
    start = twin.data.qpos.copy()
    act(twin, actions(4, 10))
    twin.stop("a test")
    twin.reset("misaligned", 7, now_s=12.5)
    assert np.array_equal(twin.data.qpos, start)
    assert twin.now_s() == 12.5 and twin.task.name == "misaligned"
    twin.advance(0.2)
    assert np.abs(twin.data.qpos[:7] - start[:7]).max() < 1e-4
    assert twin.read().mode is RobotMode.IDLE


def test_joint_limits_and_torque_limits_hold(twin: Twin) -> None:
    push = np.ones((120, 9), np.float32)
    push[60:] = -1.0
    limits, worst = twin.limits, np.zeros(7)
    actuator = Actuator(limits, twin.domain.action)
    actuator.reset(twin.read().q_rad, twin.now_s())
    for action in push:
        twin.write(actuator.command(action, twin.now_s()))
        for _ in range(10):
            twin.advance(0.008)
            state = twin.read()
            worst = np.maximum(worst, np.abs(state.tau_nm))
            assert (state.q_rad > limits.q_min_rad - 0.02).all() and (state.q_rad < limits.q_max_rad + 0.02).all()
    assert (worst <= limits.tau_max_nm + 1e-6).all()


def test_an_arm_held_back_comes_back_without_swinging(twin: Twin) -> None:
    state = twin.data.qpos.copy()
    state[5] -= 0.4
    goal = twin.read().q_rad
    twin.set_state(state)
    twin._follower.reset(goal, twin.now_s())
    joint_6 = []
    for _ in range(250):
        twin.advance(0.008)
        joint_6.append(twin.read().q_rad[5])
    assert max(joint_6) < goal[5] + 0.01
    assert joint_6[-1] == pytest.approx(goal[5], abs=1e-3)


def test_the_hand_moves_at_its_speed_and_its_fingers_together(twin: Twin) -> None:
    twin.command_hand(GripperCommand(kind="move", width_m=0.02, speed_m_s=0.1))
    twin.advance(0.3)
    assert twin.hand_width_m == pytest.approx(0.05, abs=0.005) and twin.hand_busy
    twin.advance(0.6)
    assert twin.hand_width_m == pytest.approx(0.02, abs=1e-3) and not twin.hand_busy
    left, right = twin.read().finger_m
    assert left == pytest.approx(right, abs=1e-4)


def test_a_grasp_stops_at_what_lies_between_and_presses_with_its_force(twin: Twin) -> None:
    state = twin.data.qpos.copy()
    position, rotation = twin.tcp_pose()
    # one of the kettle's upright bars, 46 mm thick, comes between the fingers
    state[23:26] = position + rotation[:, 2] * 0.03 - np.array([-0.092, 0.0, 0.18])
    state[26:30] = 1.0, 0.0, 0.0, 0.0
    state[7:9] = 0.024
    twin.set_state(state)
    twin.command_hand(GripperCommand(kind="grasp", width_m=0.0, speed_m_s=0.1, force_n=30.0))
    twin.advance(0.6)
    assert twin.hand_width_m == pytest.approx(0.047, abs=0.001)
    assert np.abs(twin.data.qfrc_actuator[7:9]).max() == pytest.approx(30.0, abs=1.0)
    assert twin.data.qpos[25] > 1.75  # 130 mm above the stove: held


def test_hand_goals_out_of_bounds_are_refused(twin: Twin) -> None:
    for goal in (
        GripperCommand(kind="squeeze", width_m=0.02, speed_m_s=0.1),
        GripperCommand(kind="move", width_m=0.09, speed_m_s=0.1),
        GripperCommand(kind="move", width_m=0.02, speed_m_s=1.0),
        GripperCommand(kind="grasp", width_m=0.02, speed_m_s=0.1, force_n=200.0),
    ):
        with pytest.raises(BackendError):
            twin.command_hand(goal)


@pytest.mark.parametrize("arm", ARMS)
def test_each_goal_state_completes_its_subtask(arm: str) -> None:
    twin = Twin(arm, Starts())
    for subtask in twin.domain.subtasks.values():
        twin.reset()
        assert not subtask.complete(truth(twin.domain, twin))
        state = twin.data.qpos.copy()
        state[list(subtask.channels)] = subtask.goal
        twin.set_state(state)
        twin.advance(0.08)
        done = [s.name for s in twin.domain.subtasks.values() if s.complete(truth(twin.domain, twin))]
        assert done == [subtask.name]


def test_the_shipped_arm_is_as_weak_as_ever() -> None:
    twin = Twin("kitchen")
    measured = sweep(twin, episodes=1, steps=40, seed=0)
    assert max(statistics_mrad(measured.errors_rad)["rms"]) > 10.0


def test_time_left_over_is_owed(twin: Twin) -> None:
    for _ in range(10):
        twin.advance(0.0013)
    assert twin.now_s() == pytest.approx(0.013, abs=0.001)


def test_a_diverged_simulation_says_so(twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file where it is
    twin.data.qvel[20] = 1e6
    with pytest.raises(SimulationError, match="diverged"):
        twin.advance(0.01)
    twin.reset()
    twin.advance(0.01)


def test_after_a_stop_an_operator_can_recover(twin: Twin) -> None:
    twin.stop("a test")
    assert twin.read().mode is RobotMode.USER_STOPPED and twin.stop_reason == "a test"
    with pytest.raises(BackendError, match="a test"):
        twin.command_hand(GripperCommand(kind="move", width_m=0.02, speed_m_s=0.1))
    twin.recover()
    act(twin, actions(5, 2))
    assert twin.stop_reason == ""


def arm_contacts(twin: Twin) -> set[tuple[str, str]]:
    """Pairs of the arm's own bodies that touch."""
    model = twin.model
    bodies = model.geom_bodyid[twin.data.contact.geom[: twin.data.ncon]]
    names = [tuple(sorted(model.body(int(b)).name for b in pair)) for pair in bodies]
    return {(a, b) for a, b in names if a.startswith("panda") and b.startswith("panda")}


def at(twin: Twin, q_rad: np.ndarray) -> np.ndarray:
    """The initial state with the arm elsewhere."""
    state = twin.scene.start_qpos.copy()
    state[:7] = q_rad
    return state


def test_the_arm_touches_itself(twin: Twin) -> None:
    twin.set_state(at(twin, np.array([0.0, 1.75, 2.8, -3.0, 0.0, 0.2, 0.0])))
    assert ("panda_hand", "panda_link2") in arm_contacts(twin)
    twin.set_state(at(twin, np.array([-0.77, -1.2, 2.72, -3.0, 1.44, 3.58, 1.81])))
    assert any(a in ("panda_link0", "panda_link1") for a, _ in arm_contacts(twin)), arm_contacts(twin)


def test_neighbouring_links_do_not_touch(twin: Twin) -> None:
    limits, rng = twin.limits, np.random.default_rng(0)
    neighbours = {("panda_link0", "panda_link1"), ("panda_link5", "panda_link7"), ("panda_hand", "panda_link7")}
    neighbours |= {(f"panda_link{k}", f"panda_link{k + 1}") for k in range(7)}
    for q in (limits.home_q_rad, twin.scene.start_qpos[:7]):
        twin.set_state(at(twin, q))
        assert not arm_contacts(twin)
    for q in rng.uniform(limits.q_min_rad, limits.q_max_rad, (100, 7)):
        twin.data.qpos[:7] = q
        mujoco.mj_fwdPosition(twin.model, twin.data)
        assert not arm_contacts(twin) & neighbours


def test_external_torque_is_what_the_contacts_put_on_the_joints(twin: Twin) -> None:
    twin.set_state(at(twin, twin.limits.home_q_rad))
    twin.advance(0.1)
    free = twin.read().tau_ext_nm
    assert free is not None and np.abs(free).max() < 1e-9
    goal, rest = np.array([[0.0, 1.7, 0.0, -1.2, 0.0, 2.9, 0.8]]), np.zeros((1, 7))
    pressing = JointTrajectory(
        start_s=twin.now_s(), times_s=np.array([2.0]), q_rad=goal, dq_rad_s=rest, ddq_rad_s2=rest
    )
    twin.write(JointCommand(trajectory=pressing))
    twin.advance(2.4)
    told = twin.read().tau_ext_nm
    assert told is not None and np.abs(told).max() > 50.0
    np.testing.assert_allclose(told, contact_torque(twin), atol=1e-6)


def contact_torque(twin: Twin) -> np.ndarray:
    """J^T f [7], contact by contact, from each one's point, frame and force."""
    model, data = twin.model, twin.data
    torque = np.zeros(model.nv)
    for k in range(data.ncon):
        contact, wrench = data.contact[k], np.zeros(6)
        mujoco.mj_contactForce(model, data, k, wrench)
        axes = contact.frame.reshape(3, 3).T
        for geom, sign in ((contact.geom1, -1.0), (contact.geom2, 1.0)):
            linear, angular = np.zeros((2, 3, model.nv))
            mujoco.mj_jac(model, data, linear, angular, contact.pos, int(model.geom_bodyid[geom]))
            torque += sign * (linear.T @ axes @ wrench[:3] + angular.T @ axes @ wrench[3:])
    return torque[:7]
