"""Who else commands: publishers, on any machine of the domain, on topics on which only one node may publish.

    the driver's command topic      the gate alone; what anybody else sent there is seen as well, message by message
    skimo/proposed, skimo/gripper   one node, the policy's
    the robot state                 one node, the driver's broadcaster
    the arm's joint states          one node among those that publish on the topic (a gripper's may, too)
Counting is cheap: how many publishers match our subscriptions is known at once (1 us each); whose they are is asked of
the graph when that number changes, and once in LOOK_S. A publisher is seen once the middleware has discovered it, some
tenths of a second after its start: after our own start nothing moves for `settle_s`, so that who was there before is
known before the first command. Whoever is discovered later than he sends is found by what he sent.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from .adapters import Adapter
from .arm_state import ArmState
from .guarded import UNNAMED, publishers_of
from .nodes import now_s
from .polling import PolledGroup, subscribe_polled, take_all

LOOK_S = 1.0
REMEMBERED = 64
"""Messages of ours that may still be on their way back to us."""
ANY_SENDER_QOS = QoSProfile(
    depth=REMEMBERED, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)
"""Best effort matches every publisher."""


class Company:
    """Looks who is there. For one thread.

    Args:
        node: the gate's.
        inputs: its own subscriptions on which only one node may publish.
        settle_s: how long after its start nothing may move.
        clock: s, steady.
    """

    def __init__(
        self,
        node: Node,
        adapter: Adapter,
        state: ArmState,
        inputs: tuple[Subscription, ...],
        settle_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node, self._state, self._clock = node, state, clock
        self._name = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
        self._settled_s = clock() + settle_s
        self._commands = subscribe_polled(node, TrajectoryMsg, adapter.command, ANY_SENDER_QOS, PolledGroup(), raw=True)
        self._single = inputs if state.mode_topic is None else (*inputs, state.mode_topic)
        self._ours: deque[bytes] = deque(maxlen=REMEMBERED)
        self._counts: tuple[int, ...] = ()
        self._looked_s = -LOOK_S
        self._others = ""

    def sent(self, data: bytes) -> None:
        """Take note of what the gate publishes to the driver, as it goes over the wire."""
        self._ours.append(data)

    def foreign_command(self) -> str:
        """What somebody else has sent to the driver since the last call, in words; empty if nothing."""
        foreign = [data for data, _ in take_all(self._commands) if data not in self._ours]
        if not foreign:
            return ""
        who = ", ".join(self._others_on(self._commands.topic_name)) or "a publisher that has gone"
        return f"{len(foreign)} trajectories on {self._commands.topic_name!r} are not the gate's; there publishes {who}"

    def others(self) -> str:
        """Who publishes where only one node may, in words; empty if nobody does."""
        counts = tuple(s.get_publisher_count() for s in (self._commands, *self._single))
        now_s_ = self._clock()
        if counts != self._counts or now_s_ - self._looked_s >= LOOK_S:
            self._counts, self._looked_s = counts, now_s_
            self._others = "; ".join(self._name_others())
            if UNNAMED in self._others:
                self._looked_s = -LOOK_S  # look again at once
        arms = self._several_arms()
        return "; ".join(reason for reason in (self._others, arms) if reason)

    @property
    def settling(self) -> bool:
        """Whether others may still be undiscovered, because we have only just started."""
        return self._clock() < self._settled_s

    def _name_others(self) -> list[str]:
        reasons = []
        topic = self._commands.topic_name
        if others := self._others_on(topic):
            reasons.append(f"{', '.join(others)} publishes on {topic!r} too, where only the gate may")
        for subscription in self._single:
            publishers = publishers_of(self._node, subscription.topic_name)
            if len(publishers) > 1:
                reasons.append(f"{', '.join(publishers)} publish on {subscription.topic_name!r}, where only one may")
        return reasons

    def _others_on(self, topic: str) -> list[str]:
        """Everybody but us; a second node of our name stays in the list."""
        publishers = publishers_of(self._node, topic)
        if self._name in publishers:
            publishers.remove(self._name)
        return publishers

    def _several_arms(self) -> str:
        if not self._state.senders.several(now_s(self._node)):
            return ""
        who = ", ".join(self._state.joint_state_publishers())
        return f"more than one node sends this arm's joint states; publishers there: {who}"
