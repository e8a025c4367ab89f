"""The twin as a driver: the contract of backends, the path that actions make, the hand, recovery, and other names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from contracts.backend import BackendContract, Rig
from franka_msgs.action import ErrorRecovery, Grasp, Homing, Move
from rclpy.action.client import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from ros.ros_harness import ANSWER_S, Processes, Watcher, clear_gate, let_pass, send_home
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from support.waiting import START_S, wait_until

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import JOINTS, RobotMode
from skimo_core.control.actuate import Actuator
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.urdf import robot_description
from skimo_ros.adapters import load_adapter, robot_state_type
from skimo_ros.backend import RosBackend
from skimo_ros.nodes import LATEST_QOS, Names
from skimo_ros.recorder_node import STATE_QUEUE_QOS
from skimo_ros.twin_node import SEED_DRAWS

pytestmark = [pytest.mark.ros, pytest.mark.alone]

ACTION = load_domain().action
STEPS = 25
ATTEMPTS = 8
SAME_PATH_RAD = 0.005
"""In process and over ROS: what is measured at 100 Hz, with stamps, differs by less (resting poses by a tenth)."""


@pytest.fixture
def home(arm: RosBackend) -> RosBackend:
    send_home(arm)
    return arm


class TestRosBackend(BackendContract):
    @pytest.fixture
    def rig(self, home: RosBackend) -> Iterator[Rig]:
        yield Rig(backend=home, wait=lambda s: let_pass(home, s), rest_rad_s=0.02, follow_rad=0.005)


def actions_HA() -> np.ndarray:
    """Smooth seeded motion with changes of the hand's intent."""
    rng = np.random.default_rng(4)
    walk = np.cumsum(rng.normal(0, 0.12, (STEPS, ACTION.size)), axis=0)
    actions = np.clip(walk, -0.5, 0.5).astype(np.float32)
    actions[:, 7:] = 1.0
    return actions


def path_in_process(start_s: float, q_rad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stamps from `start_s` on and joint positions of the twin, the actions commanded exactly when due."""
    from skimo_sim.twin import Twin

    twin, actuator = Twin(), Actuator(load_limits(), ACTION)
    twin.reset(now_s=start_s)
    actuator.reset(q_rad, start_s)
    times, path = [], []
    for k, action in enumerate(actions_HA()):
        twin.write(actuator.command(action, start_s + k * ACTION.period_s))
        for _ in range(8 if k < STEPS - 1 else 80):
            twin.advance(0.01)
            times.append(twin.now_s())
            path.append(twin.read().q_rad)
    return np.array(times), np.array(path)


def path_over_ros(arm: RosBackend) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Start, stamps, positions, and how late the latest command was, of the same actions paced by the clock."""
    actuator = Actuator(load_limits(), ACTION)
    start_s, worst_s = arm.now_s() + 0.05, 0.0
    actuator.reset(arm.read().q_rad, start_s)
    seen: dict[float, np.ndarray] = {}

    def reached(time_s: float) -> bool:
        state = arm.read()
        seen[state.stamp_s] = state.q_rad
        return arm.now_s() >= time_s

    for k, action in enumerate(actions_HA()):
        due_s = start_s + k * ACTION.period_s
        wait_until(partial(reached, due_s), "the next action to be due", ANSWER_S, poll_s=0.002)
        arm.write(actuator.command(action, due_s))
        worst_s = max(worst_s, arm.now_s() - due_s)
    wait_until(partial(reached, arm.now_s() + 1.0), "the arm to come to rest", ANSWER_S)
    return start_s, np.array(list(seen)), np.array(list(seen.values())), worst_s


def test_the_same_actions_make_the_same_path_in_process_and_over_ros(home: RosBackend, watcher: Watcher) -> None:
    for _ in range(ATTEMPTS):
        sent = len(watcher.sent)
        try:
            start_s, stamps, path, late_s = path_over_ros(home)
        except BackendError as error:  # a pause of half a second, and the gate has stopped, as it should
            print(f"same path: {error}")
            send_home(home)
            continue
        times, expected = path_in_process(start_s, expected_start())
        inside = (stamps > times[0]) & (stamps < times[-1])
        on_time = np.stack([np.interp(stamps[inside], times, expected[:, j]) for j in range(JOINTS)], axis=1)
        gap = np.abs(path[inside] - on_time)
        rest = np.abs(path[-1] - expected[-1]).max()
        print(f"same path: worst {gap.max():.5f} rad, at rest {rest:.5f} rad, command late {1e3 * late_s:.1f} ms")
        if gap.max() < SAME_PATH_RAD and rest < SAME_PATH_RAD / 10:
            assert len(watcher.sent) >= sent + STEPS - 1
            return
        print([r for e in watcher.gate[-30:] for r in e.reasons])
        send_home(home)
    pytest.fail(f"in {ATTEMPTS} attempts the machine never kept the beat, or the paths differ")


def expected_start() -> np.ndarray:
    from skimo_sim.twin import Twin

    return Twin().read().q_rad


def test_a_reset_of_a_resting_arm_is_no_fault_of_the_arm(home: RosBackend, watcher: Watcher) -> None:
    """Joint states that jumped never come with a reference that has not yet: it went out first, with the same stamp."""
    adapter, joints, references = load_adapter("twin"), [], []
    heard = [
        watcher.node.create_subscription(kind, topic, where.append, STATE_QUEUE_QOS)
        for kind, topic, where in (
            (JointState, adapter.joint_states, joints),
            (robot_state_type(adapter), adapter.robot_state, references),
        )
    ]
    try:
        for k in range(3):
            actuator = Actuator(load_limits(), ACTION)
            actuator.reset(home.read().q_rad, home.now_s())
            home.write(actuator.command(np.full(ACTION.size, 0.8, np.float32), home.now_s()))
            let_pass(home, 1.0)
            away = home.read().q_rad
            stops = len([event for event in watcher.gate if event.latched])
            home.reset_twin("kitchen", k)
            let_pass(home, 0.3)
            assert np.abs(home.read().q_rad - away).max() > 0.02
            assert len([event for event in watcher.gate if event.latched]) == stops, watcher.gate[-1].reasons
            q = np.array([message.position[:JOINTS] for message in joints])
            jumped = int(np.abs(np.diff(q, axis=0)).max(axis=1).argmax()) + 1
            stamp = joints[jumped].header.stamp
            assert stamp in [message.header.stamp for message in references]
            joints.clear()
    finally:
        for subscription in heard:
            watcher.node.destroy_subscription(subscription)


def test_a_reset_says_what_its_seed_does(home: RosBackend, watcher: Watcher) -> None:
    done, words, _ = watcher.reset_twin("kitchen", 5)
    assert done and words == SEED_DRAWS


def test_the_arm_is_described_to_whoever_comes_late(home: RosBackend, watcher: Watcher) -> None:
    told: list[String] = []
    subscription = watcher.node.create_subscription(String, Names.DESCRIPTION, told.append, LATEST_QOS)
    try:
        wait_until(lambda: told, "the description", ANSWER_S)
    finally:
        watcher.node.destroy_subscription(subscription)
    assert told[0].data == robot_description(load_limits())


def test_the_hand_moves_grasps_and_homes(home: RosBackend, watcher: Watcher) -> None:
    adapter = load_adapter("twin")
    goals = (
        (Move, adapter.gripper_move, Move.Goal(width=0.03, speed=0.1), 0.03),
        (Grasp, adapter.gripper_grasp, Grasp.Goal(width=0.0, speed=0.1, force=20.0), 0.0),
        (Homing, adapter.gripper_homing, Homing.Goal(), 0.08),
    )
    for kind, name, goal, width_m in goals:
        if kind is Grasp:
            goal.epsilon.inner = goal.epsilon.outer = 0.08
        client = ActionClient(watcher.node, kind, name)
        assert client.wait_for_server(START_S)
        accepted = client.send_goal_async(goal)
        handle = wait_until(lambda sent=accepted: sent.done() and sent.result(), f"{name} to accept", ANSWER_S)
        ended = handle.get_result_async()
        result = wait_until(lambda ended=ended: ended.done() and ended.result(), f"{name} to end", ANSWER_S).result
        assert result.success, result.error
        assert home.read().finger_m.sum() == pytest.approx(width_m, abs=0.01)
        client.destroy()


def test_a_cancelled_goal_leaves_the_fingers_where_they_are(home: RosBackend, context: Context) -> None:
    node, executor = Node("hand_client", context=context), SingleThreadedExecutor(context=context)
    executor.add_node(node)
    client = ActionClient(node, Move, load_adapter("twin").gripper_move)

    def answer(future: Future) -> Any:
        executor.spin_until_future_complete(future, ANSWER_S)
        assert future.done(), "the hand's driver did not answer"
        return future.result()

    try:
        assert client.wait_for_server(START_S)
        home_m = home.read().finger_m.sum()
        handle = answer(client.send_goal_async(Move.Goal(width=0.0, speed=0.02)))
        wait_until(lambda: home.read().finger_m.sum() < home_m - 0.005, "the fingers to move", ANSWER_S)
        ended = handle.get_result_async()
        assert len(answer(handle.cancel_goal_async()).goals_canceling) == 1
        end = answer(ended)
    finally:
        client.destroy()
        executor.shutdown()
        node.destroy_node()
    assert end.status == GoalStatus.STATUS_CANCELED and not end.result.success
    assert end.result.error.startswith("cancelled with the fingers 0.0")
    let_pass(home, 0.3)
    rest_m = home.read().finger_m.sum()
    let_pass(home, 0.3)
    assert home.read().finger_m.sum() == pytest.approx(rest_m, abs=1e-3) and rest_m > 0.005


def test_a_user_stop_stops_the_gate_until_recovered_and_reset(home: RosBackend, watcher: Watcher) -> None:
    assert watcher.trigger(Names.USER_STOP)[0]
    wait_until(lambda: watcher.gate[-1].latched, "the gate to stop", ANSWER_S)
    assert "robot_mode" in watcher.gate[-1].reasons[0]
    wait_until(lambda: home.read().mode is RobotMode.USER_STOPPED, "the mode", ANSWER_S)
    cleared, why = watcher.trigger(Names.GATE_RESET)
    assert not cleared and "USER_STOPPED" in why
    client = ActionClient(watcher.node, ErrorRecovery, load_adapter("twin").recovery)
    assert client.wait_for_server(START_S)
    sent = client.send_goal_async(ErrorRecovery.Goal())
    wait_until(lambda: sent.done() and home.read().mode is RobotMode.IDLE, "the recovery", ANSWER_S)
    client.destroy()
    clear_gate(home)


def test_a_second_gate_in_the_domain_ends_with_the_reason(arm: RosBackend, processes: Processes) -> None:
    first = processes.running["gate_node"]
    second = processes.node("gate_node")
    processes.running["gate_node"] = first
    assert second.wait(START_S) == 1
    assert f"(process {first.pid})" in processes.log("gate_node")
