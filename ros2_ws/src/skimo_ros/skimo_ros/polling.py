"""Subscriptions that wake no executor: their messages wait in the middleware's queue until somebody asks.

rclpy rebuilds its wait set at every wake-up, which costs a Python node far more than taking a message does. A node that
looks at a topic less often than it is published saves most of its processor time this way.
"""

from __future__ import annotations

from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from skimo_core.contract.errors import SpecError


class PolledGroup(CallbackGroup):
    """Callbacks that no executor runs; their messages are taken by `take_all`; `taken` counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

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


def take_all(subscription: Subscription) -> list[tuple[Any, dict[str, Any]]]:
    """Every message that waits, oldest first, with what the middleware says of it (stamps in ns, sequence number).

    Take raw ones and `decode` them: what can't be decoded is then one bad message, not the end of the queue.
    """
    messages = []
    with subscription.handle:
        while (taken := subscription.handle.take_message(subscription.msg_type, subscription.raw)) is not None:
            messages.append(taken)
    if isinstance(subscription.callback_group, PolledGroup):
        subscription.callback_group.taken += len(messages)
    return messages


def decode(kind: Any, data: bytes) -> Any:
    """The message of type `kind` in CDR bytes.

    Raises:
        SpecError: they hold none, or one of another definition.
    """
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # rclpy's class for it is private; whatever it is, the bytes are no such message
        name = getattr(kind, "__name__", "message")
        raise SpecError(f"{len(data)} bytes are no {name} ({error}); is its sender of this version?") from None
