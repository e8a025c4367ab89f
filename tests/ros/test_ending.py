"""Everything is asked to end at once, in mid-motion, and joint_states is listened to until nobody speaks any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from ros.ros_harness import Processes
from sensor_msgs.msg import JointState
from support.waiting import START_S
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.contract.types import JOINTS, JointTrajectory
from skimo_core.process.isolation import DomainLock, free_domain
from skimo_core.process.parent import PARENT
from skimo_ros import conversions as convert
from skimo_ros import ending
from skimo_ros.adapters import load_adapter
from skimo_ros.nodes import COMMAND_QOS, EVENT_QOS, Names, now_s

pytestmark = [pytest.mark.ros, pytest.mark.alone]
AT_REST_RAD_S = 0.01
FAST_RAD_S = 0.5
SWING_RAD, SWING_S = 0.9, 1.9
END_S = 20.0


class Listener:
    """Hears the arm's speed to the end, and swings the arm."""

    def __init__(self, context: Context) -> None:
        self.node = Node("listener", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.adapter = load_adapter("twin", "")
        self.heard: list[tuple[float, float]] = []
        self.q_rad = np.zeros(JOINTS)
        self.node.create_subscription(JointState, self.adapter.joint_states, self._hear, EVENT_QOS)
        self.proposals = self.node.create_publisher(TrajectoryMsg, Names.PROPOSED, COMMAND_QOS)
        self.passed: list[TrajectoryMsg] = []
        self.node.create_subscription(TrajectoryMsg, self.adapter.command, self.passed.append, COMMAND_QOS)

    @property
    def speed_rad_s(self) -> float:
        return self.heard[-1][1]

    def _hear(self, message: JointState) -> None:
        self.heard.append((time.monotonic(), float(np.abs(message.velocity[:JOINTS]).max())))
        self.q_rad = np.array(message.position[:JOINTS])

    def spin_until(self, condition: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, f"waited {timeout_s:g} s for {what}"
            self.executor.spin_once(0.02)

    def propose_swing(self) -> None:
        """Joint 1 a quintic to the side: fast in the middle, at rest at the end."""
        times_s = np.linspace(0.1, SWING_S, 19)
        s = times_s / SWING_S
        along = np.zeros((len(s), JOINTS))
        along[:, 0] = SWING_RAD if self.q_rad[0] < SWING_RAD / 2 else -SWING_RAD
        shape = [10 * s**3 - 15 * s**4 + 6 * s**5, (30 * s**2 - 60 * s**3 + 30 * s**4) / SWING_S]
        shape.append((60 * s - 180 * s**2 + 120 * s**3) / SWING_S**2)
        q, dq, ddq = (part[:, None] * along for part in shape)
        start = JointTrajectory(
            start_s=now_s(self.node), times_s=times_s, q_rad=self.q_rad + q, dq_rad_s=dq, ddq_rad_s2=ddq
        )
        self.proposals.publish(convert.to_trajectory(start, self.adapter.joints))

    def swing(self) -> None:
        """Return while the arm moves fast."""
        end_s = time.monotonic() + START_S
        self.spin_until(lambda: bool(self.heard), "joint states")
        while time.monotonic() < end_s:
            self.propose_swing()
            until_s = time.monotonic() + SWING_S
            while time.monotonic() < until_s:
                self.executor.spin_once(0.02)
                if self.speed_rad_s > FAST_RAD_S:
                    return
        pytest.fail("the arm did not move")

    def hear_to_the_end(self, ended: Callable[[], bool]) -> None:
        self.spin_until(ended, "the end", END_S)
        until_s = time.monotonic() + 0.3
        while time.monotonic() < until_s:  # what is still under way
            self.executor.spin_once(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Processes, Listener]]:
    """Twin and gate, each a process, in a domain of their own."""
    with free_domain() as lock:
        domain = lock.domain
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    processes, context = Processes(tmp_path, domain), Context()
    rclpy.init(context=context, domain_id=domain)
    listener = Listener(context)
    try:
        yield processes, listener
    finally:
        processes.end_all()
        listener.executor.shutdown()
        listener.node.destroy_node()
        rclpy.shutdown(context=context)


def test_the_twin_outlives_the_gate_s_brake_when_all_are_asked_at_once(place: tuple[Processes, Listener]) -> None:
    processes, listener = place
    twin, gate = processes.node("twin_node"), processes.node("gate_node")
    listener.swing()
    for process in (twin, gate, twin, gate):  # by the terminal, and once more by the launcher
        process.send_signal(signal.SIGINT)
    gate_ended_first: list[bool] = []

    def ended() -> bool:
        if gate.poll() is not None and not gate_ended_first:
            gate_ended_first.append(twin.poll() is None)
        return gate.poll() is not None and twin.poll() is not None

    listener.hear_to_the_end(ended)
    assert (gate.returncode, twin.returncode, gate_ended_first) == (0, 0, [True]), processes.log("gate_node")
    assert listener.speed_rad_s < AT_REST_RAD_S


def test_a_node_serves_on_until_the_one_that_it_outlives_is_gone(place: tuple[Processes, Listener]) -> None:
    _, listener = place
    node = listener.node
    policy = DomainLock(node.context.get_domain_id(), "policy_node")
    node.ends_after = ("policy_node", 30.0)  # type: ignore[attr-defined]
    policy.acquire()
    served: list[float] = []
    node.create_timer(0.05, lambda: served.append(time.monotonic()) or (policy.release() if len(served) == 3 else None))
    ending.wait_for_turn(node, listener.executor)
    assert len(served) == 3
    with policy:
        node.ends_after = ("policy_node", 0.2)  # type: ignore[attr-defined]
        began_s = time.monotonic()
        ending.wait_for_turn(node, listener.executor)
        assert time.monotonic() - began_s >= 0.2  # and comes back


def test_a_node_that_shut_ros_down_waits_for_nobody() -> None:
    context = Context()
    rclpy.init(context=context)
    node, executor = Node("ended_itself", context=context), SingleThreadedExecutor(context=context)
    node.ends_after = ("gate_node", END_S)  # type: ignore[attr-defined]
    rclpy.shutdown(context=context)
    ending.wait_for_turn(node, executor)
    node.destroy_node()


def test_the_twin_ends_at_rest_when_the_gate_dies_in_mid_motion(place: tuple[Processes, Listener]) -> None:
    processes, listener = place
    twin = processes.node("twin_node")
    processes.node("gate_node")
    listener.swing()
    processes.kill("gate_node")
    twin.send_signal(signal.SIGTERM)  # what a launcher then does
    listener.hear_to_the_end(lambda: twin.poll() is not None)
    assert twin.returncode == 0
    assert listener.speed_rad_s < AT_REST_RAD_S


PARENT_PROGRAM = """
import os, subprocess, sys
environment = dict(os.environ, **{sys.argv[1]: str(os.getpid())})
for node in sys.argv[2:]:
    print(subprocess.Popen([sys.executable, "-m", f"skimo_ros.{node}"], env=environment, stderr=2).pid, flush=True)
sys.stdin.read()
"""


def test_nodes_end_at_rest_when_who_started_them_is_killed(place: tuple[Processes, Listener]) -> None:
    processes, listener = place
    command = [sys.executable, "-c", PARENT_PROGRAM, PARENT, "twin_node", "gate_node"]
    parent = subprocess.Popen(
        command, env=processes.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    pids = [int(parent.stdout.readline()) for _ in range(2)]
    try:
        listener.swing()
        parent.kill()
        listener.hear_to_the_end(lambda: not any(lives(pid) for pid in pids))
    finally:
        parent.kill()
        parent.communicate()
    assert listener.speed_rad_s < AT_REST_RAD_S


def lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_bounds_of_the_waits_fit_into_one_end() -> None:
    import yaml

    stack = yaml.safe_load((Path(__file__).resolve().parents[2] / "launch/stack.yaml").read_text())
    policy_s, gate_s = ending.AFTER_POLICY[1], ending.AFTER_GATE[1]
    assert policy_s + ending.REST_S < gate_s
    assert gate_s + ending.REST_S < stack["end"]["interrupt_timeout_s"]
