"""The newest robot state and object states that came over the driver's topics, taken when asked for.

State topics run at 30 to 1000 Hz and a node looks at them some tens of times a second, hence polled subscriptions.
A message that is malformed is left out, with a word in the log: what was known before it ages, and whoever needs it
fresh finds it stale. Others may publish on the topic of the joint states too (a gripper, a second arm): only messages
that name all of this arm's joints count, and `senders` notices when more than one node sends such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg

from skimo_core.contract.errors import MissingError, SpecError
from skimo_core.contract.types import Array, ObjectStates, RobotMode, RobotState
from skimo_core.control.clocks import SkewWatch
from skimo_core.control.rigged import corrected
from skimo_core.domain.rig import BARE, Rig

from . import conversions as convert
from .adapters import Adapter, robot_state_type
from .guarded import Complaints, publishers_of
from .nodes import POLLED_STATE_QOS, now_s
from .polling import PolledGroup, decode, subscribe_polled, take_all
from .senders import SenderWatch

TOGETHER_S = 0.06
"""Joint states and the rest (reference, external torques) come on two topics; stamped further apart, they do not belong
together."""


class ArmState:
    """Reads an adapter's state topics. For one thread.

    Args:
        rig: corrects what the driver tells.
        objects: whether to listen to the object tracker too.

    Attributes:
        mode: the newest that the robot told.
        skew: how far the driver's clock lies from ours.
        senders: who sends this arm's joint states.
        mode_topic: the subscription to the robot's own state; None where the driver tells none, and its mode then
            counts as fit, as old as the joint states.
    """

    def __init__(self, node: Node, adapter: Adapter, rig: Rig = BARE, *, objects: bool = True) -> None:
        self.mode = RobotMode.UNKNOWN if adapter.tells_state else RobotMode.IDLE
        self.skew = SkewWatch()
        self.senders = SenderWatch()
        self._node, self._adapter, self._rig = node, adapter, rig
        self._robot: RobotState | None = None
        self._mode_stamp_s: float | None = None
        self._desired_q_rad: Array | None = None
        self._tau_ext_nm: Array | None = None
        self._objects: ObjectStates | None = None
        self._complaints = Complaints(node.get_logger().warning)
        self._group = PolledGroup()
        self._joint_topic = self._subscribe(JointState, adapter.joint_states)
        self.mode_topic = (
            self._subscribe(robot_state_type(adapter), adapter.robot_state) if adapter.tells_state else None
        )
        self._object_topic = self._subscribe(ObjectStatesMsg, adapter.object_states) if objects else None

    def robot(self) -> RobotState:
        """The newest robot state, as the rig corrects it; raises MissingError while none has come."""
        self._take_joint_states()
        if self.mode_topic is not None:
            self._take(self.mode_topic, self._take_mode)
        if self._robot is None:
            raise MissingError(
                f"no joint states on {self._adapter.joint_states!r} yet; is the driver (or twin) running?"
            )
        robot = self._robot
        told_s = self._mode_stamp_s
        together = told_s is not None and abs(robot.stamp_s - told_s) < TOGETHER_S
        told = replace(
            robot,
            mode=self.mode,
            mode_stamp_s=told_s,
            desired_q_rad=self._desired_q_rad if together else None,
            tau_ext_nm=self._tau_ext_nm if together else None,
        )
        return corrected(told, self._rig)

    def robot_or_none(self) -> RobotState | None:
        """The robot state; None while there is none that can be used."""
        try:
            return self.robot()
        except (MissingError, SpecError):
            return None

    def objects(self) -> ObjectStates:
        """The newest object states; raises MissingError while none have come."""
        if self._object_topic is not None:
            self._take(self._object_topic, self._take_objects)
        if self._objects is None:
            raise MissingError(
                f"no object states on {self._adapter.object_states!r}; is the tracker (or twin) running?"
            )
        return self._objects

    def joint_state_publishers(self) -> list[str]:
        """Who publishes on the topic of the joint states; a gripper's node may be among them."""
        return publishers_of(self._node, self._adapter.joint_states)

    def _subscribe(self, kind: Any, topic: str) -> Subscription:
        return subscribe_polled(self._node, kind, topic, POLLED_STATE_QOS, self._group, raw=True)

    def _take_joint_states(self) -> None:
        """Only the newest is decoded while one node publishes; all of them while several do."""
        waiting = take_all(self._joint_topic)
        alone = self._joint_topic.get_publisher_count() <= 1
        for data, info in waiting[-1:] if alone else waiting:
            self._guarded(self._joint_topic, lambda data=data, info=info: self._take_joints(data, info, alone))

    def _take_joints(self, data: bytes, info: dict[str, Any], alone: bool) -> None:
        message = decode(self._joint_topic.msg_type, data)
        if not set(self._adapter.joints) <= set(message.name):
            return
        joints, fingers = self._adapter.joints, self._adapter.fingers
        robot = convert.robot_state(message, joints, fingers, self.mode)
        now = now_s(self._node)
        self.skew.note(now - robot.stamp_s, now)
        if alone:
            self.senders.clear()
        else:
            self.senders.note(info.get("publication_sequence_number"), robot.stamp_s, robot.q_rad, now)
        self._robot = robot

    def _take_mode(self, message: Any) -> None:
        stamp_s, desired_q_rad = convert.desired_positions(message, self._adapter.joints)
        self._tau_ext_nm = convert.external_torques(message, self._adapter.joints)
        self._mode_stamp_s, self._desired_q_rad = stamp_s, desired_q_rad
        self.mode = convert.robot_mode(message)

    def _take_objects(self, message: ObjectStatesMsg) -> None:
        self._objects = convert.object_states(message)

    def _take(self, subscription: Subscription, use: Callable[[Any], None]) -> None:
        """Use the newest message that waits, if one does."""
        waiting = take_all(subscription)
        if waiting:
            self._guarded(subscription, lambda: use(decode(subscription.msg_type, waiting[-1][0])))

    def _guarded(self, subscription: Subscription, use: Callable[[], None]) -> None:
        try:
            use()
        except SpecError as error:
            topic = subscription.topic_name
            who = lambda: f" (published by {', '.join(publishers_of(self._node, topic))})"  # noqa: E731
            self._complaints.about(f"message on {topic!r}", str(error), who)
