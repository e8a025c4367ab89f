"""multipanda_ros2's driver as its users meet it: its names, types and rate, over an arm that stands still.

    PYTHONPATH=<a franka_msgs of multipanda's shape> python multipanda_driver.py

Publishes joint states and FrankaState at 30 Hz, with a reference (q_d) a little off the measured position; takes the
hand's goals and reaches them at once; `driver/reflex` puts it into REFLEX, which its recovery service ends.
"""

from __future__ import annotations

from typing import Any

import rclpy
from franka_msgs.action import Grasp, Move
from franka_msgs.msg import FrankaState
from franka_msgs.srv import ErrorRecovery
from rclpy.action.server import ActionServer
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

HOME_RAD = (0.0, -0.7853981633974483, 0.0, -2.356194490192345, 0.0, 1.5707963267948966, 0.7853981633974483)
OFF_RAD = 0.001
"""How far the reference lies from the measured position: this times the joint's number."""
RATE_HZ = 30.0


class Driver(Node):
    """One arm and its hand."""

    def __init__(self) -> None:
        super().__init__("multipanda_driver")
        self.mode, self.width_m = FrankaState.ROBOT_MODE_MOVE, 0.08
        self.joint_states = self.create_publisher(JointState, "joint_states", 10)
        self.states = self.create_publisher(FrankaState, "franka_robot_state_broadcaster/robot_state", 10)
        self.create_service(ErrorRecovery, "panda_error_recovery_service_server/error_recovery", self.recover)
        self.create_service(Trigger, "driver/reflex", self.reflex)
        self.servers = [
            ActionServer(self, kind, f"panda_gripper/{name}", self.reach)
            for kind, name in ((Move, "move"), (Grasp, "grasp"))
        ]
        self.create_timer(1 / RATE_HZ, self.publish)

    def publish(self) -> None:
        stamp = self.get_clock().now().to_msg()
        arm = JointState(position=[*HOME_RAD, self.width_m / 2, self.width_m / 2], velocity=[0.0] * 9)
        arm.name = [*(f"panda_joint{i + 1}" for i in range(7)), "panda_finger_joint1", "panda_finger_joint2"]
        state = FrankaState(robot_mode=self.mode, q=HOME_RAD)
        state.q_d = [q + OFF_RAD * (i + 1) for i, q in enumerate(HOME_RAD)]
        arm.header.stamp = state.header.stamp = stamp
        self.joint_states.publish(arm)
        self.states.publish(state)

    def reach(self, handle: Any) -> Any:
        self.width_m = handle.request.width
        handle.succeed()
        return Grasp.Result(success=True) if hasattr(handle.request, "epsilon") else Move.Result(success=True)

    def reflex(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.mode, response.success = FrankaState.ROBOT_MODE_REFLEX, True
        return response

    def recover(self, request: ErrorRecovery.Request, response: ErrorRecovery.Response) -> ErrorRecovery.Response:
        response.success = self.mode == FrankaState.ROBOT_MODE_REFLEX
        response.error = "" if response.success else "No errors"
        self.mode = FrankaState.ROBOT_MODE_MOVE
        return response


def main() -> None:
    rclpy.init()
    try:
        rclpy.spin(Driver())
    except (KeyboardInterrupt, ExternalShutdownException):
        return


if __name__ == "__main__":
    main()
