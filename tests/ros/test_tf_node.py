"""The frames that tf_node tells: put together they are where kinematics and the twin have links and bodies."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import numpy as np
import pytest
from rclpy.context import Context
from ros.ros_harness import Processes, Watcher, send_home
from support.waiting import wait_until
from tf2_msgs.msg import TFMessage

from skimo_core.domain.bodies import objects_in_base
from skimo_core.domain.domain import load_domain
from skimo_core.domain.kinematics import arm_points
from skimo_core.domain.pose import HERE, Pose
from skimo_core.domain.robot import load_limits
from skimo_core.domain.rotations import matrix
from skimo_core.domain.urdf import robot_description
from skimo_ros.backend import RosBackend
from skimo_ros.nodes import EVENT_QOS, LATEST_QOS
from skimo_ros.tf_node import TF, TF_STATIC, arm_links, hand_on_flange, link_steps

pytestmark = pytest.mark.ros
ANSWER_S = 20.0


@pytest.fixture(scope="module")
def frames(
    processes: Processes, watcher: Watcher, arm: RosBackend, context: Context
) -> Iterator[dict[str, tuple[str, Pose]]]:
    """Each frame's parent and pose in it, as they were told last."""
    told: dict[str, tuple[str, Pose]] = {}

    def note(message: TFMessage) -> None:
        for one in message.transforms:
            at, turn = one.transform.translation, one.transform.rotation
            rotation = matrix(np.array([turn.w, turn.x, turn.y, turn.z]))
            told[one.child_frame_id] = (
                one.header.frame_id,
                Pose(position_m=np.array([at.x, at.y, at.z]), rotation=rotation),
            )

    node = watcher.node
    subscriptions = [
        node.create_subscription(TFMessage, topic, note, qos)
        for topic, qos in ((TF, EVENT_QOS), (TF_STATIC, LATEST_QOS))
    ]
    processes.node("tf_node")
    processes.wait_for_log("tf_node", "frames: panda_link1")
    wait_until(lambda: {"panda_hand", "panda_link7", "kettle"} <= set(told), "the frames", ANSWER_S, lambda: set(told))
    yield told
    for subscription in subscriptions:
        node.destroy_subscription(subscription)
    assert processes.end("tf_node") == 0


def in_base(frames: dict[str, tuple[str, Pose]], name: str) -> Pose:
    pose = HERE
    while name in frames:
        name, step = frames[name]
        pose = step.of(pose)
    assert name == "panda_link0"
    return pose


def test_links_and_bodies_stand_where_the_twin_has_them(frames: dict[str, tuple[str, Pose]], arm: RosBackend) -> None:
    send_home(arm)
    limits, q_rad = load_limits(), arm.read().q_rad
    tool_m = arm_points(limits, q_rad[None])[0, -1]
    reach = np.array([0.0, 0.0, limits.tool_m - limits.flange_m])
    wait_until(
        lambda: np.allclose(in_base(frames, "panda_hand").points(reach), tool_m, atol=2e-3),
        "the hand's frame",
        ANSWER_S,
    )
    kettle = dict(zip(arm.read_objects().names, arm.read_objects().values))
    there_m = objects_in_base(load_domain()).points(np.array([kettle[f"kettle.{axis}"] for axis in "xyz"]))
    np.testing.assert_allclose(in_base(frames, "kettle").position_m, there_m, atol=2e-3)


@pytest.mark.parametrize("robot", ["panda", "fr3"])
def test_the_frames_are_those_of_the_description(robot: str) -> None:
    """What robot_state_publisher would make of the URDF at these joint positions."""
    limits = load_limits(robot)
    q_rad, finger_m = limits.home_q_rad + 0.1, np.array([0.01, 0.02])
    at = dict(zip((*limits.joint_names, *limits.finger_names), (*q_rad, *finger_m)))
    told = dict(zip(arm_links(limits, limits.joint_names, limits.finger_names), link_steps(limits, q_rad, finger_m)))
    prefix = limits.prefix
    told[(f"{prefix}_link7", f"{prefix}_hand")] = hand_on_flange(limits)
    for joint in ElementTree.fromstring(robot_description(limits)).iter("joint"):
        pair = tuple(joint.find(end).get("link") for end in ("parent", "child"))  # type: ignore[union-attr]
        origin = joint.find("origin")
        assert origin is not None
        xyz, (roll, pitch, yaw) = (np.array(origin.get(key, "").split(), float) for key in ("xyz", "rpy"))
        assert pitch == 0.0
        rotation = _about(2, yaw) @ _about(0, roll)
        if joint.get("type") == "revolute":
            rotation = rotation @ _about(2, at[joint.get("name", "")])
        elif joint.get("type") == "prismatic":
            axis = np.array(joint.find("axis").get("xyz").split(), float)  # type: ignore[union-attr]
            xyz = xyz + rotation @ axis * at[joint.get("name", "")]
        np.testing.assert_allclose(told[pair].position_m, xyz, atol=1e-8)  # type: ignore[index]
        np.testing.assert_allclose(told[pair].rotation, rotation, atol=1e-8)  # type: ignore[index]


def _about(axis: int, angle_rad: float) -> np.ndarray:
    half = angle_rad / 2
    return matrix(np.array([np.cos(half), *(np.sin(half) * np.eye(3)[axis])]))
