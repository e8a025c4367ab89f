"""What callbacks raise because of a message is a line in the log; what a timer raises ends the node."""

from __future__ import annotations

import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.task import Future
from std_msgs.msg import String

from skimo_core.contract.errors import SpecError
from skimo_ros.guarded import Complaints, GuardedExecutor, shortened


def serve(executor: GuardedExecutor, node: Node, publisher: Publisher, count: int) -> None:
    """Publish and serve until so many were handled; a timer of the executor's own would be a callback too."""
    enough = Future()

    def go_on() -> None:
        if executor.counts.handled >= count:
            enough.set_result(True)
        else:
            publisher.publish(String(data="x"))

    timer = node.create_timer(0.005, go_on)
    executor.spin_until_future_complete(enough, timeout_sec=20.0)
    node.destroy_timer(timer)
    assert enough.done()


def test_a_callback_that_raises_is_told_and_the_next_message_is_served(context: Context) -> None:
    node = Node("guarded", context=context)
    executor = GuardedExecutor(context=context)
    executor.add_node(node)
    publisher = node.create_publisher(String, "guarded/in", 10)

    def refuse(message: String) -> None:
        if executor.counts.handled % 2:
            raise SpecError("no good")
        raise ValueError("not ours")

    node.create_subscription(String, "guarded/in", refuse, 10)
    try:
        serve(executor, node, publisher, 6)
        assert executor.counts.refused == executor.counts.handled and executor.counts.faults == 0
        node.create_timer(0.001, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            serve(executor, node, publisher, 10**6)
    finally:
        executor.shutdown()
        node.destroy_node()


def test_a_fault_in_our_own_files_is_counted_as_one(context: Context) -> None:
    node = Node("faulty", context=context)
    executor = GuardedExecutor(context=context)
    executor.add_node(node)
    publisher = node.create_publisher(String, "faulty/in", 10)
    node.create_subscription(String, "faulty/in", lambda message: shortened(1), 10)  # type: ignore[arg-type]
    try:
        serve(executor, node, publisher, 3)
        assert executor.counts.faults == executor.counts.handled
    finally:
        executor.shutdown()
        node.destroy_node()


def test_a_flood_is_one_line_and_a_count() -> None:
    said: list[str] = []
    now = [0.0]
    complaints = Complaints(said.append, lambda: now[0])
    for k in range(1000):
        now[0] = 0.001 * k
        complaints.about("message on '/x'", f"reason {k}", lambda: " (published by /y)")
    complaints.about("message on '/z'", "other")
    now[0] = 6.0
    complaints.about("message on '/x'", "again")
    assert said == [
        "message on '/x' (published by /y) refused: reason 0",
        "message on '/z' refused: other",
        "message on '/x' refused: again (and 999 more before)",
    ]


def test_what_is_printed_is_short_and_printable() -> None:
    assert shortened("a\x1b[2J\nb") == "a [2J b"
    assert len(shortened("x" * 10**6)) < 600 and "1000000 characters" in shortened("x" * 10**6)
