"""A driver without a robot state of its own: said in its file, taken at that, and told wherever it matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from support.waiting import wait_until

from skimo_core.contract.errors import MissingError, SetupError, SpecError
from skimo_core.contract.types import RobotMode, RobotState
from skimo_core.domain.cell import load_cell
from skimo_core.domain.robot import load_limits
from skimo_core.safety.gate import Gate
from skimo_core.setup.finding import Asked
from skimo_ros import conversions as convert
from skimo_ros import doctor
from skimo_ros.adapters import load_adapter, recovery_type, robot_state_type
from skimo_ros.arm_state import ArmState
from skimo_ros.company import Company
from skimo_ros.nodes import STATE_QOS, now_s

pytestmark = pytest.mark.ros
BARE = """
like: franka_ros2
robots: [panda]
arm: panda
source: a driver of plain joint trajectories
robot_state: none
robot_state_type: none
recovery: none
recovery_type: none
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "bare.yaml"
    path.write_text(BARE)
    return path


def test_its_file_says_so_of_name_and_type_alike(bare: Path) -> None:
    adapter = load_adapter(str(bare))
    assert not adapter.tells_state and load_adapter("twin").tells_state
    bare.write_text(BARE.replace("robot_state_type: none\n", ""))
    with pytest.raises(SpecError, match="robot_state and robot_state_type must both be 'none', or neither"):
        load_adapter(str(bare))
    bare.write_text(BARE + "gripper_move_type: none\n")
    with pytest.raises(SpecError, match="gripper_move_type is 'none', must be"):
        load_adapter(str(bare))


def test_who_needs_one_is_told_that_there_is_none(bare: Path) -> None:
    adapter = load_adapter(str(bare))
    with pytest.raises(SpecError, match="tells no robot state"):
        robot_state_type(adapter)
    with pytest.raises(SetupError, match="has no recovery"):
        recovery_type(adapter)
    (found,) = doctor.driver(Asked(domain="kitchen", driver=str(bare)))
    assert found.verdict == "warn" and "reflexes and user stops are not seen" in found.what


def test_the_arm_is_known_by_its_joint_states_alone(bare: Path, ros_domain: int) -> None:
    adapter = load_adapter(str(bare))
    context = Context()
    context.init(domain_id=ros_domain)
    node = Node("gate_node", context=context)
    try:
        state = ArmState(node, adapter, objects=False)
        company = Company(node, adapter, state, (), 0.0)
        with pytest.raises(MissingError):
            state.robot()
        publisher = node.create_publisher(JointState, adapter.joint_states, STATE_QOS)
        names = [*adapter.joints, *adapter.fingers]
        home = [*load_limits("panda").home_q_rad.tolist(), 0.02, 0.02]

        def heard() -> RobotState | None:
            message = JointState(name=names, position=home, velocity=[0.0] * 9)
            message.header.stamp = convert.to_time(now_s(node))
            publisher.publish(message)
            return state.robot_or_none()

        robot = wait_until(heard, "a robot state")
        assert robot.mode is RobotMode.IDLE and robot.mode_stamp_s is None
        assert robot.tau_ext_nm is None or np.isnan(robot.tau_ext_nm).all()
        assert company.others() == ""
        verdict = Gate(load_limits("panda"), cell=load_cell("open")).watch(robot, now_s(node))
        assert verdict.verdict.name == "PASS", verdict.reasons
    finally:
        node.destroy_node()
        context.try_shutdown()
