"""What callbacks raise because of a message is a line in the log; what a timer raises ends the node."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.task import Future
from std_msgs.msg import String

from skimo_core.contract.errors import SpecError
from skimo_ros import nodes
from skimo_ros.guarded import FAULT, LONGEST_TRACEBACK, Complaints, GuardedExecutor, shortened, traced


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


class Ears:
    """Stands in for a node's logger."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, line: str) -> None:
        self.lines.append(line)

    error = warning


def said_of(context: Context, monkeypatch: pytest.MonkeyPatch, callback: Callable[[String], object]) -> str:
    """What is logged about a message whose callback is this one."""
    node, executor, ears = Node("traced", context=context), GuardedExecutor(context=context), Ears()
    monkeypatch.setattr(node, "get_logger", lambda: ears)
    executor.add_node(node)
    publisher = node.create_publisher(String, "traced/in", 10)
    node.create_subscription(String, "traced/in", callback, 10)
    try:
        serve(executor, node, publisher, 2)
    finally:
        executor.shutdown()
        node.destroy_node()
    (line,) = ears.lines
    return line


def test_a_fault_is_told_with_the_way_to_it(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def ours(message: String) -> None:
        shortened(1)  # type: ignore[arg-type]

    def anybodys(message: String) -> None:
        raise ValueError("bad\x1b[2Jvalue")

    told = said_of(context, monkeypatch, ours)
    assert FAULT in told and "Traceback" in told and "in ours\n" in told and "in shortened\n" in told
    told = said_of(context, monkeypatch, anybodys)
    assert "in anybodys\n" in told and told.endswith("ValueError: bad [2Jvalue")


def test_what_is_the_sender_s_fault_is_a_line(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(message: String) -> None:
        raise SpecError("joint 4 is at 9 rad")

    told = said_of(context, monkeypatch, refuse)
    assert told.endswith("refused: joint 4 is at 9 rad") and "\n" not in told


def test_what_rclpy_s_own_services_raise_is_a_line(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    node, executor, ears = Node("asked", context=context), GuardedExecutor(context=context), Ears()
    monkeypatch.setattr(node, "get_logger", lambda: ears)
    executor.add_node(node)
    client = node.create_client(SetParameters, "asked/set_parameters")
    unknown = ParameterMsg(name="x", value=ParameterValue(type=255))
    try:
        assert client.wait_for_service(20.0)
        client.call_async(SetParameters.Request(parameters=[unknown]))
        asked = Future()
        timer = node.create_timer(0.005, lambda: asked.set_result(True) if executor.counts.refused else None)
        executor.spin_until_future_complete(asked, timeout_sec=20.0)
        node.destroy_timer(timer)
    finally:
        executor.shutdown()
        node.destroy_node()
    (line,) = ears.lines
    assert "255 is not a valid" in line and "\n" not in line


def test_a_long_traceback_keeps_its_end() -> None:
    def dig(depth: int) -> None:
        if depth == 0:
            raise ValueError("x" * 10**6)
        (dig if depth % 2 else dug)(depth - 1)

    def dug(depth: int) -> None:
        dig(depth)

    with pytest.raises(ValueError) as raised:
        dig(200)
    lines = traced(raised.value).splitlines()
    assert len(lines) <= LONGEST_TRACEBACK + 2 and "ValueError: xxx" in lines[-1]
    assert max(map(len, lines)) < 600


class Broken(Node):
    """A node whose own work fails, by whatever is raised."""

    error: Exception

    def __init__(self) -> None:
        super().__init__("broken")
        self.create_timer(0.001, self._work)

    def _work(self) -> None:
        raise self.error


def test_a_node_that_a_fault_ends_shows_where(
    ros_domain: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("_catch_signals", "end_with_parent", "settle_heap"):
        monkeypatch.setattr(nodes, name, lambda *_: None)
    monkeypatch.setattr(Broken, "error", SpecError("no such thing"), raising=False)
    assert nodes.run(Broken) == nodes.FAILED
    assert "broken: no such thing" in capsys.readouterr().err
    monkeypatch.setattr(Broken, "error", ValueError("a fault"))
    with pytest.raises(ValueError, match="a fault"):  # the interpreter prints its traceback and exits with 1
        nodes.run(Broken)


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
