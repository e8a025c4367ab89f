"""The newest robot state and object states that came over the driver's topics, taken when asked for.

State topics run at 30 to 1000 Hz and a node looks at them some tens of times a second, hence polled subscriptions.
"""

from __future__ import annotations

from rclpy.node import Node
from sensor_msgs.msg import JointState
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg

from skimo_core.errors import MissingError, SpecError
from skimo_core.types import ObjectStates, RobotMode, RobotState

from . import conversions as convert
from .adapters import Adapter, robot_state_type
from .nodes import STATE_QOS
from .polling import PolledGroup, subscribe_polled, take_newest

TOGETHER_S = 0.06
"""Joint states and the reference come on two topics; stamped further apart, they do not belong together."""


class ArmState:
    """Reads an adapter's state topics. For one thread.

    Args:
        objects: whether to listen to the object tracker too.
    """

    def __init__(self, node: Node, adapter: Adapter, *, objects: bool = True) -> None:
        self.mode = RobotMode.IDLE
        self._adapter = adapter
        self._robot: JointState | None = None
        self._desired_stamp_s, self._desired_q_rad = 0.0, None
        self._objects: ObjectStatesMsg | None = None
        group = PolledGroup()
        self._joint_topic = subscribe_polled(node, JointState, adapter.joint_states, STATE_QOS, group)
        self._mode_topic = subscribe_polled(node, robot_state_type(adapter), adapter.robot_state, STATE_QOS, group)
        self._object_topic = (
            subscribe_polled(node, ObjectStatesMsg, adapter.object_states, STATE_QOS, group) if objects else None
        )

    def robot(self) -> RobotState:
        """The newest robot state.

        Raises:
            MissingError: no joint states have come.
            SpecError: they lack a joint.
        """
        message = take_newest(self._joint_topic)
        if message is not None and set(self._adapter.joints) <= set(message.name):
            self._robot = message  # others may publish under this topic's name too: a gripper, a second arm
        if (message := take_newest(self._mode_topic)) is not None:
            self.mode = convert.robot_mode(message)
            self._desired_stamp_s, self._desired_q_rad = convert.desired_positions(message)
        if self._robot is None:
            raise MissingError(
                f"no joint states on {self._adapter.joint_states!r} yet; is the driver (or twin) running?"
            )
        apart_s = abs(convert.stamp_of(self._robot) - self._desired_stamp_s)
        desired_q_rad = self._desired_q_rad if apart_s < TOGETHER_S else None
        return convert.robot_state(self._robot, self._adapter.joints, self._adapter.fingers, self.mode, desired_q_rad)

    def robot_or_none(self) -> RobotState | None:
        """The robot state; None while there is none that can be used."""
        try:
            return self.robot()
        except (MissingError, SpecError):
            return None

    def objects(self) -> ObjectStates:
        """The newest object states; raises MissingError while none have come."""
        message = take_newest(self._object_topic) if self._object_topic is not None else None
        self._objects = message or self._objects
        if self._objects is None:
            raise MissingError(
                f"no object states on {self._adapter.object_states!r}; is the tracker (or twin) running?"
            )
        return convert.object_states(self._objects)
