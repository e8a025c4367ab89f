"""A tracker of your own: a node that tells where things are, as policy and recorder want to hear it.

    python docs/own_tracker.py DOMAIN [--ros-args -r __ns:=/left]     with skimo_msgs sourced; beside `skimo up`

It publishes skimo_msgs/ObjectStates on `object_states`: every object channel of the domain by its name, in its unit,
NaN for what is not seen now. The stamp is when the picture was taken, by the clock of the robot's machine; one may
be `objects.max_age_s` old when it is used, so publish at least as often as the domain's rate. `look` is the part to
replace: here everything stays where the domain's start has it. `skimo doctor` says what is heard of it.
"""

import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from skimo_msgs.msg import ObjectStates

from skimo_core.domain.domain import Domain, load_domain

RATE_HZ = 30.0


def look(domain: Domain) -> dict[str, float]:
    """Where things are now, by channel, in the domain's units and frame; NaN or left out: not seen."""
    return dict(zip(domain.observation.names, domain.start.tolist()))


def main() -> None:
    rclpy.init(args=sys.argv)
    arguments = remove_ros_args(sys.argv)
    domain = load_domain(arguments[1] if len(arguments) > 1 else "kitchen")
    node = rclpy.create_node("own_tracker")
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(ObjectStates, "object_states", qos)
    names = domain.observation.objects

    def tell() -> None:
        taken = node.get_clock().now()  # of the picture, where there is one: before it was looked at
        seen = look(domain)
        message = ObjectStates(names=list(names), values=[seen.get(name, float("nan")) for name in names])
        message.header.stamp = taken.to_msg()
        publisher.publish(message)

    node.create_timer(1.0 / RATE_HZ, tell)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return


if __name__ == "__main__":
    main()
