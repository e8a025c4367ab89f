"""`skimo twin reset`: a real twin's node put back over ROS, and refused where an episode runs or there is no twin."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from ros.ros_harness import Processes
from sensor_msgs.msg import JointState
from skimo_msgs.msg import PlanStatus
from std_srvs.srv import Trigger
from support.waiting import START_S, wait_until

from skimo_core.contract.errors import SpecError
from skimo_core.control.reports import PolicyReport
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.process.isolation import free_domain
from skimo_ros import conversions as convert
from skimo_ros import operator
from skimo_ros.guarded import GuardedExecutor
from skimo_ros.nodes import LATEST_QOS, STATE_QOS, Names
from skimo_sim.cli import twin
from skimo_sim.kinematic import KinematicTwin

pytestmark = pytest.mark.ros
LIMITS = load_limits()
SOON = ("--timeout-s", "20")


class Stack(Node):
    """A policy node that says what the test wants it to say, and hears where the arm is."""

    def __init__(self, context: Context) -> None:
        super().__init__("policy_node", context=context)
        self._told = self.create_publisher(PlanStatus, Names.PLAN_STATUS, LATEST_QOS)
        self.create_service(Trigger, Names.CANCEL, self._cancel)
        self.create_subscription(JointState, "joint_states", self._see, STATE_QOS)
        self.q_rad = np.full(7, np.nan)
        self.tell("idle")

    def tell(self, state: str) -> None:
        report = PolicyReport(state=state, episode_id="ep-1", task="kettle", subtasks_total=1)
        self._told.publish(convert.to_plan_status(report, 0.0, with_prediction=False))

    def _cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.tell("done")
        return convert.answer_trigger(response, True, "episode ep-1 ends")

    def _see(self, message: JointState) -> None:
        self.q_rad = np.array(message.position[:7])

    def wait_for(self, q_rad: np.ndarray) -> None:
        wait_until(lambda: np.allclose(self.q_rad, q_rad, atol=1e-6), "the arm at its start", START_S)


@pytest.fixture(scope="module")
def domain() -> Iterator[int]:
    """A ROS domain, in which the commands then ask."""
    with pytest.MonkeyPatch.context() as patch, free_domain() as lock:
        patch.setitem(os.environ, "ROS_DOMAIN_ID", str(lock.domain))
        patch.setitem(os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield lock.domain


@pytest.fixture(scope="module")
def context(domain: int) -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture(scope="module")
def stack(context: Context, domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A twin that starts at the papers' start, and a policy."""
    processes = Processes(Path(tmp_path_factory.mktemp("stack")), domain)
    node, executor = Stack(context), GuardedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    processes.node("twin_node", twin="kinematic", condition="papers", seed=5)
    processes.wait_for_log("twin_node", "ready")
    yield node
    processes.end_all()
    executor.shutdown()
    thread.join(5.0)
    node.destroy_node()


def drawn_rad(seed: int) -> np.ndarray:
    there = KinematicTwin(load_domain(), LIMITS)
    there.reset(seed=seed)
    return there.read().q_rad


def test_drawn_papers_or_as_the_condition_says(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.wait_for(LIMITS.home_q_rad)
    assert twin(["reset", "--start", "drawn", "--seed", "3", *SOON]) == 0
    assert capsys.readouterr().out == "twin: put back, seed 3\n"
    stack.wait_for(drawn_rad(3))
    assert twin(["reset", *SOON]) == 0
    assert capsys.readouterr().out == "twin: put back, seed 5\n"  # the stack's own
    stack.wait_for(LIMITS.home_q_rad)


def test_refused_while_an_episode_is_under_way(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.tell("running")
    with pytest.raises(SystemExit, match="1"):
        twin(["reset", "--start", "drawn", *SOON])
    said = capsys.readouterr().out
    assert "twin: episode ep-1 is running (kettle: 0/1" in said and "give --anew" in said
    stack.wait_for(LIMITS.home_q_rad)
    assert twin(["reset", "--start", "drawn", "--anew", *SOON]) == 0
    assert "policy: episode ep-1 ends" in capsys.readouterr().out
    stack.wait_for(drawn_rad(5))


def test_what_is_no_start_and_no_task_is_refused(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        twin(["reset", "--task", "teapot", *SOON])
    assert "twin: unknown task or sub-task 'teapot'" in capsys.readouterr().out
    with pytest.raises(SpecError, match="start is 'upside down', must be drawn or papers"):
        convert.from_reset_request(convert.reset_request("", 0, "upside down"))


def test_without_a_twin_it_says_what_to_do_instead(
    domain: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operator, "ALSO_S", 0.5)
    with free_domain() as lock:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(lock.domain))
        with pytest.raises(SystemExit, match="1"):
            twin(["reset", "--timeout-s", "0.5"])
        assert "nobody answers for service twin/reset" in capsys.readouterr().err
        context = Context()
        rclpy.init(context=context, domain_id=lock.domain)
        gate = Node("gate_node", context=context)
        try:
            with pytest.raises(SystemExit, match="1"):
                twin(["reset", *SOON])
            said = capsys.readouterr().err
            assert "this stack has no twin" in said and "skimo scene --wait" in said
        finally:
            gate.destroy_node()
            rclpy.shutdown(context=context)
