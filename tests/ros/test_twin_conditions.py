"""The twin's node under a condition: what it publishes is what the sensors say, and what can't be ends it in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from ros.ros_harness import Processes
from sensor_msgs.msg import JointState
from support.waiting import START_S, wait_until

from skimo_core.domain.domain import load_domain
from skimo_core.process.isolation import free_domain
from skimo_ros.nodes import EVENT_QOS

pytestmark = pytest.mark.ros


def test_joint_states_are_off_as_the_condition_says(tmp_path: Path) -> None:
    from skimo_sim.condition import load_condition
    from skimo_sim.impaired import ImpairedTwin, actual
    from skimo_sim.twins import make_twin

    domain = load_domain()
    twin = make_twin(domain, condition=load_condition("encoders_2", domain))
    assert isinstance(twin, ImpairedTwin)
    twin.reset(seed=3)
    seen: list[JointState] = []
    with free_domain() as lock:
        processes = Processes(tmp_path, lock.domain)
        context = Context()
        rclpy.init(context=context, domain_id=lock.domain)
        try:
            processes.node("twin_node", condition="encoders_2", seed=3)
            node = rclpy.create_node("listener", context=context)
            node.create_subscription(JointState, "joint_states", seen.append, EVENT_QOS)
            executor = rclpy.executors.SingleThreadedExecutor(context=context)
            executor.add_node(node)

            def heard() -> bool:
                executor.spin_once(timeout_sec=0.1)
                return bool(seen)

            wait_until(heard, "joint states", START_S, lambda: processes.log("twin_node"))
            node.destroy_node()
        finally:
            processes.end_all()
            rclpy.shutdown(context=context)
        assert "condition encoders_2" in processes.log("twin_node")
    said = np.array(seen[0].position[:7])
    assert np.abs(said - twin.read().q_rad).max() < 1e-3
    assert np.allclose(np.abs(said - actual(twin).read().q_rad), 0.02, atol=1e-3)


def test_a_condition_that_cannot_be_ends_the_node_with_the_reason(tmp_path: Path) -> None:
    with free_domain() as lock:
        processes = Processes(tmp_path, lock.domain)
        for condition, twin, reason in (
            ("encoders_9", "", "no condition 'encoders_9'; there are"),
            ("doors_x3", "kinematic", "'kinematic' can't do condition 'doors_x3' (joints)"),
        ):
            ended = processes.node("twin_node", condition=condition, twin=twin)
            assert ended.wait(START_S) == 1
            assert reason in processes.log("twin_node") and "Traceback" not in processes.log("twin_node")
