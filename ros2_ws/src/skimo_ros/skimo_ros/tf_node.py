"""Frames for RViz and Foxglove: the arm's links and the objects' bodies, as transforms on tf.

Promises
  - It listens to joint states and object states, looks at them `rate_hz` times a second, and commands nothing. Whether
    it lives changes nothing else.
  - Links bear the names of `robot_description`; a body's frame bears its channels' name and hangs from the arm's base
    frame, so that no other frame has a second parent. What is not seen is not told of.
  - Names are relative: below a namespace /left the topics are /left/tf and /left/tf_static, since two arms of one kind
    have links of one name.
  - Angles are true ones: what a rig says the encoders are off is taken off.
A robot's driver brings a robot_state_publisher of its own: there `arm` is false, and only the bodies are told.
Frames and units: each in its parent's (skimo_core.domain.kinematics, Denavit-Hartenberg); m, rad.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg
from tf2_msgs.msg import TFMessage

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array, RobotMode
from skimo_core.domain.bodies import bodies_of, objects_in_base
from skimo_core.domain.kinematics import joint_offsets, joint_turns
from skimo_core.domain.pose import Pose
from skimo_core.domain.robot import RobotLimits
from skimo_core.domain.urdf import FINGER_LIFT_M

from . import conversions as convert
from .guarded import Complaints
from .nodes import EVENT_QOS, LATEST_QOS, STATE_QOS, now_s, only_one, run
from .parameters import SETUP, Parameter, declare
from .polling import PolledGroup, decode, subscribe_polled, take_all
from .robots import set_up

PARAMETERS = (
    *SETUP,
    Parameter("arm_links", True, "tell of the arm's links too; false where the driver does so itself"),
    Parameter("rate_hz", 20.0, "how often frames go out", low=1.0, high=30.0),
)
TF, TF_STATIC = "tf", "tf_static"
SIDES = (1.0, -1.0)
"""Along which y of the hand each finger opens."""


class TfNode(Node):
    """Publishes where things are."""

    def __init__(self) -> None:
        super().__init__("tf_node")
        values = declare(self, PARAMETERS)
        self._only_one = only_one(self)
        setup = set_up(values)
        self._spec, self._adapter, self._limits = setup.domain.observation, setup.adapter, setup.limits
        self._offset_rad = setup.rig.offset_rad
        self._bodies, self._objects = bodies_of(self._spec), objects_in_base(setup.domain, setup.rig)
        self._complaints = Complaints(self.get_logger().warning)
        self._frames = self.create_publisher(TFMessage, TF, EVENT_QOS)
        self._fixed = self.create_publisher(TFMessage, TF_STATIC, LATEST_QOS)
        group = PolledGroup()
        self._tells_arm = bool(values["arm_links"])
        self._links = arm_links(self._limits, self._adapter.joints, self._adapter.fingers) if self._tells_arm else []
        self._joint_states = subscribe_polled(self, JointState, self._adapter.joint_states, STATE_QOS, group, raw=True)
        self._object_states = subscribe_polled(
            self, ObjectStatesMsg, self._adapter.object_states, STATE_QOS, group, raw=True
        )
        if self._tells_arm and "hand" in self._limits.capsules.links:
            names = (self._links[self._limits.joints - 1][1], f"{_prefix(self._adapter.joints)}hand")
            fixed = convert.to_transforms([names], [hand_on_flange(self._limits)], now_s(self))
            self._fixed.publish(TFMessage(transforms=fixed))
        self.create_timer(1.0 / values["rate_hz"], self._tell)
        told = [*(child for _, child in self._links), *(body.name for body in self._bodies)]
        self.get_logger().info(f"frames: {', '.join(told) or 'none, the domain has no bodies'}")

    def _tell(self) -> None:
        transforms = []
        for subscription, use in ((self._joint_states, self._arm), (self._object_states, self._seen)):
            for data, _ in take_all(subscription)[-1:]:
                try:
                    transforms += use(decode(subscription.msg_type, data))
                except SpecError as error:
                    self._complaints.about(f"message on {subscription.topic_name!r}", str(error))
        if transforms:
            self._frames.publish(TFMessage(transforms=transforms))

    def _arm(self, message: JointState) -> list[Any]:
        if not self._tells_arm:
            return []
        robot = convert.robot_state(message, self._adapter.joints, self._adapter.fingers, RobotMode.UNKNOWN)
        offset_rad = self._offset_rad if len(self._offset_rad) == len(robot.q_rad) else 0.0
        poses = link_steps(self._limits, robot.q_rad - offset_rad, robot.finger_m)
        return convert.to_transforms(self._links[: len(poses)], poses, robot.stamp_s)

    def _seen(self, message: ObjectStatesMsg) -> list[Any]:
        objects = convert.object_states(message)
        told = dict(zip(objects.names, objects.values.tolist()))
        seen_O = np.array([told.get(name, np.nan) for name in self._spec.names])
        found = [(body.name, pose) for body in self._bodies if (pose := body.pose(seen_O)) is not None]
        names = [(self._adapter.base_frame, name) for name, _ in found]
        return convert.to_transforms(names, [self._objects.of(pose) for _, pose in found], objects.stamp_s)


def arm_links(limits: RobotLimits, joints: Sequence[str], fingers: Sequence[str]) -> list[tuple[str, str]]:
    """Parent and child of each link that moves, named as in the arm's URDF; those of joints first, then fingers."""
    prefix = _prefix(joints)
    links = [(f"{prefix}link{k}", f"{prefix}link{k + 1}") for k in range(limits.joints)]
    if "hand" not in limits.capsules.links:
        return links
    return [*links, *((f"{prefix}hand", name.replace("_joint", "")) for name in fingers)]


def link_steps(limits: RobotLimits, q_rad: Array, finger_m: Array) -> list[Pose]:
    """Where each of `arm_links` stands in its parent's frame; no fingers where their positions [2] are not known."""
    offsets, turns = joint_offsets(limits), joint_turns(limits, q_rad[None])
    steps = [Pose(position_m=offset, rotation=turn[0]) for offset, turn in zip(offsets, turns)]
    for side, way_m in zip(SIDES, finger_m if "hand" in limits.capsules.links else ()):
        steps.append(Pose(position_m=np.array([0.0, side * way_m, FINGER_LIFT_M]), rotation=np.eye(3)))
    return steps


def hand_on_flange(limits: RobotLimits) -> Pose:
    """The hand's frame in the last link's."""
    c, s = np.cos(limits.hand_yaw_rad), np.sin(limits.hand_yaw_rad)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return Pose(position_m=np.array([0.0, 0.0, limits.flange_m]), rotation=turn)


def _prefix(joints: Sequence[str]) -> str:
    return joints[0].removesuffix("joint1")


def main() -> int:
    """Run the node of the frames."""
    return run(TfNode)


if __name__ == "__main__":
    sys.exit(main())
