"""Subscriptions that wake no executor: their messages wait in the middleware's queue until somebody asks.

rclpy rebuilds its wait set at every wake-up, which costs a Python node far more than taking a message does. A node that
looks at a topic less often than it is published saves most of its processor time this way.
"""

from __future__ import annotations

from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription


class PolledGroup(CallbackGroup):
    """Callbacks that no executor runs; their messages are taken by `take_newest`."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        return


def subscribe_polled(
    node: Node, kind: Any, topic: str, qos: QoSProfile, group: PolledGroup, *, raw: bool = False
) -> Subscription:
    """A subscription whose messages (CDR bytes if `raw`) wait in its queue until they are taken."""
    return node.create_subscription(kind, topic, lambda message: None, qos, callback_group=group, raw=raw)


def take_all(subscription: Subscription) -> list[tuple[Any, dict[str, int]]]:
    """Every message that waits, oldest first, with its source and reception stamps in ns."""
    messages = []
    with subscription.handle:
        while (taken := subscription.handle.take_message(subscription.msg_type, subscription.raw)) is not None:
            messages.append(taken)
    return messages


def take_newest(subscription: Subscription) -> Any:
    """The newest message since the last call; None if none came."""
    messages = take_all(subscription)
    return messages[-1][0] if messages else None
