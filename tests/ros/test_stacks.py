"""Every node against a franka_msgs of each driver stack's shape: multipanda_ros2's here, franka_ros2's everywhere else.

The two share the package's name, so multipanda's lies in a prefix of its own (ros2_ws/build.py --tests), which only the
processes started here find.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from ros.ros_harness import ANSWER_S, Processes, Watcher
from skimo_msgs.msg import GripperCommand as GripperMsg
from skimo_msgs.msg import HandStatus
from std_srvs.srv import Trigger
from support.waiting import START_S, wait_until

from skimo_core.contract.types import GripperCommand
from skimo_core.process.isolation import free_domain, free_port
from skimo_ros import conversions as convert
from skimo_ros.hand import HandReport, HandState
from skimo_ros.nodes import EVENT_QOS, LATEST_QOS, Names

pytestmark = [pytest.mark.ros, pytest.mark.alone, pytest.mark.timeout(600)]  # the interfaces may have to be built first
TESTS = Path(__file__).resolve().parents[1]
PREFIX = Path(sys.prefix)
SHAPE = PREFIX / "share" / "skimo_build" / "multipanda_shape_prefix"
NODES = ("gate_node", "recorder_node", "policy_node")
READ = """
import json, time, rclpy
from rclpy.node import Node
from skimo_ros.adapters import load_adapter
from skimo_ros.arm_state import ArmState
rclpy.init()
node = Node("reader")
state = ArmState(node, load_adapter("multipanda"), objects=False)
end_s = time.monotonic() + 30
robot = None
while (robot is None or robot.desired_q_rad is None) and time.monotonic() < end_s:
    rclpy.spin_once(node, timeout_sec=0.05)
    robot = state.robot_or_none()
print(json.dumps([robot.q_rad.tolist(), robot.desired_q_rad.tolist(), robot.mode.name]))
"""
FILL = """
import numpy as np
from skimo_core.contract.types import RobotMode, RobotState
from skimo_ros import conversions as convert
from skimo_ros.adapters import load_adapter, recovery_type, robot_state_type
adapter = load_adapter("multipanda")
q = np.arange(7.0)
robot = RobotState(stamp_s=5.0, q_rad=q, dq_rad_s=2 * q, tau_nm=3 * q, finger_m=np.zeros(2), mode=RobotMode.REFLEX)
message = convert.FrankaStateFiller(robot_state_type(adapter), adapter.joints, "base").fill(robot, 4 * q, 5 * q)
stamp_s, desired = convert.desired_positions(message, adapter.joints)
assert (stamp_s, desired.tolist(), convert.robot_mode(message)) == (5.0, (4 * q).tolist(), RobotMode.REFLEX)
assert [a.tolist() for a in (message.q, message.dq, message.tau_j)] == [(k * q).tolist() for k in (1, 2, 3)]
answer = recovery_type(adapter).Response(success=False, error="No errors")
assert convert.from_recovery(answer) == (False, "No errors")
assert convert.from_recovery(convert.answer_recovery(answer, True, "")) == (True, "")
print("filled", message.dq_d.tolist() == (5 * q).tolist())
"""


def shaped() -> dict[str, str]:
    """What a process needs in its environment to find multipanda's franka_msgs before ours."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "PYTHONPATH": str(SHAPE / "lib" / version / "site-packages"),
        "LD_LIBRARY_PATH": f"{SHAPE / 'lib'}{os.pathsep}{os.environ['LD_LIBRARY_PATH']}",
        "AMENT_PREFIX_PATH": f"{SHAPE}{os.pathsep}{PREFIX}",
    }


@pytest.fixture(scope="module")
def multipanda() -> dict[str, str]:
    """The environment with multipanda's franka_msgs, which is built if its definitions have changed."""
    build = [sys.executable, str(TESTS.parent / "ros2_ws" / "build.py"), "--quiet", "--tests"]
    done = subprocess.run(build, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return shaped()


@pytest.fixture(scope="module")
def stack(multipanda: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """A driver of multipanda's kind and every node that is beside a robot, in a domain of their own."""
    with free_domain() as lock:
        processes = Processes(Path(tmp_path_factory.mktemp("multipanda")), lock.domain)
        processes.environment.update(multipanda)
        processes.command("driver", [sys.executable, str(TESTS / "support" / "multipanda_driver.py")])
        processes.node("gate_node", driver="multipanda")
        processes.node("recorder_node", driver="multipanda")
        endpoint = f"tcp://127.0.0.1:{free_port()}"  # nobody listens there: the node waits for its server
        processes.node("policy_node", driver="multipanda", endpoint=endpoint, server_wait_s=3600.0)
        yield processes
        processes.end_all()


@pytest.fixture(scope="module")
def beside(stack: Processes) -> Iterator[Watcher]:
    """A watcher in the stack's domain."""
    context = Context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        rclpy.init(context=context, domain_id=int(stack.environment["ROS_DOMAIN_ID"]))
        watcher = Watcher(context)
        yield watcher
        watcher.close()
        rclpy.shutdown(context=context)


def skimo(stack: Processes, *words: str) -> tuple[int, str]:
    """Run a command of the operator's in the stack's environment; return its exit code and what it said."""
    command = [str(PREFIX / "bin" / "skimo"), *words, "--timeout-s", "30"]
    done = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def clear(beside: Watcher) -> None:
    """Wait until the gate is not stopped, or reset it: on a machine that paused it has stopped, as it should."""

    said: list[str] = []

    def free() -> bool:
        if not beside.gate or not beside.gate[-1].latched:
            return bool(beside.gate)
        cleared, text = beside.trigger(Names.GATE_RESET)
        said.append(text)
        return cleared

    wait_until(free, "the gate to be free", START_S, lambda: said[-1:], poll_s=0.2)


def run(code: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_flat_states_are_read_and_written(multipanda: dict[str, str]) -> None:
    assert run(FILL, {**os.environ, **multipanda}) == "filled True\n"


def test_the_mode_and_the_desired_positions_of_multipanda_are_read(stack: Processes) -> None:
    q, desired, mode = json.loads(run(READ, stack.environment))
    assert [round(d - m, 6) for d, m in zip(desired, q)] == [0.001 * (i + 1) for i in range(7)]
    assert mode == "MOVE"


def test_every_node_runs_beside_multipanda(stack: Processes, beside: Watcher) -> None:
    wait_until(lambda: beside.status and beside.gate, "the policy's and the gate's first words", START_S)
    stack.wait_for_log("recorder_node", "recordings go to")
    code, said = skimo(stack, "status")
    assert code == 0 and "hand: nothing asked yet" in said and "policy: unconfigured" in said, said
    assert "nobody answers" not in said
    assert [stack.running[name].poll() for name in NODES] == [None] * len(NODES)


def test_a_reflex_stops_the_gate_until_recovered_and_reset(stack: Processes, beside: Watcher) -> None:
    clear(beside)
    beside.call(Trigger, "driver/reflex", Trigger.Request())
    wait_until(lambda: any("REFLEX" in r for r in beside.gate[-1].reasons), "the gate to say so", ANSWER_S)
    assert beside.gate[-1].latched
    code, said = skimo(stack, "reset")
    assert code == 1 and "REFLEX" in said
    code, said = skimo(stack, "reset", "--recover")
    assert "driver: recovered (multipanda)" in said, said
    clear(beside)


def test_the_hand_is_asked_under_multipandas_names(stack: Processes, beside: Watcher) -> None:
    stack.end("policy_node")  # two that ask the hand would both be refused
    told: list[HandReport] = []
    beside.node.create_subscription(
        HandStatus, Names.HAND, lambda m: told.append(convert.from_hand_status(m)), LATEST_QOS
    )
    goals = beside.node.create_publisher(GripperMsg, Names.GRIPPER, EVENT_QOS)
    wait_until(lambda: told and goals.get_subscription_count() > 0, "the gate's hand", START_S)
    goal = GripperCommand(kind="grasp", width_m=0.02, speed_m_s=0.1, force_n=20.0)

    def done() -> bool:  # on a busy machine the gate may stop first, and the goal is dropped
        clear(beside)
        before = told[-1].goal_id
        goals.publish(convert.to_gripper(goal, 0.0))
        wait_until(lambda: told[-1].goal_id > before and told[-1].state.ended, "the goal's end", ANSWER_S)
        return told[-1].state is HandState.SUCCEEDED

    wait_until(done, "the goal to succeed", START_S, lambda: [report.words for report in told])
    assert told[-1].goal == goal


def test_the_twin_takes_multipandas_names_and_types(multipanda: dict[str, str], tmp_path: Path) -> None:
    with free_domain() as lock:
        processes = Processes(tmp_path, lock.domain)
        processes.environment.update(multipanda)
        processes.node("twin_node", driver="multipanda")
        try:
            q, desired, mode = json.loads(run(READ, processes.environment))
            assert max(abs(d - m) for d, m in zip(desired, q)) < 0.01 and mode in ("IDLE", "MOVE")
        finally:
            processes.end_all()


@pytest.mark.parametrize(
    ("node", "driver", "installed", "lacks"),
    [
        ("gate_node", "multipanda", "ours", "FrankaState"),
        ("twin_node", "multipanda", "ours", "FrankaState"),
        ("gate_node", "twin", "multipanda's", "FrankaRobotState"),
    ],
)
def test_another_stacks_franka_msgs_refuses_to_start_in_words(
    multipanda: dict[str, str], tmp_path: Path, node: str, driver: str, installed: str, lacks: str
) -> None:
    with free_domain() as lock:
        processes = Processes(tmp_path, lock.domain)
        processes.environment.update(multipanda if installed == "multipanda's" else {})
        code = processes.node(node, driver=driver).wait(START_S)
    said = processes.log(node)
    assert code == 1 and f"driver {driver} speaks franka_msgs/msg/{lacks}, which the franka_msgs in" in said, said
    assert "build and source" in said and "Traceback" not in said
