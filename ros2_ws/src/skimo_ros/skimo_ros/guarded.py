"""The border of a node's process: whatever a message or a request holds, it is refused in words and the node lives on.

`GuardedExecutor` is the one place where what a callback raises is judged:
  - a SkimoError is the sender's fault: a warning that names topic or service, reason, and who publishes there, at most
    one in QUIET_S for each topic; what was left out is counted;
  - so is what rclpy raises before a callback of ours is reached: its parameter services do on types that do not exist,
    and its decoder on a message of another definition;
  - anything else is a fault of ours: an error with its place, and the message is dropped. Nothing that was meant for
    the arm goes on by way of a fault, so the arm comes to rest as if the sender were silent;
  - what is no SkimoError is told with its traceback, as often as the line that it follows, unless rclpy's own services
    or its decoder raised it;
  - what a timer raises ends the node: no message made it, and a node whose own work fails must not look alive.
Single-threaded, like the executor that it is built on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    ConditionReachedException,
    ShutdownException,
    SingleThreadedExecutor,
    TimeoutException,
)
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.task import Future
from rclpy.timer import Timer

from skimo_core.contract.errors import SkimoError

QUIET_S = 5.0
"""After a word on a topic nothing more is said about it for so long; floods are counted, not printed."""
FAULT = "a fault of ours"
LONGEST_REASON = 500
"""Characters of a reason, and of each line of a traceback, that are printed: what was sent may be long."""
RCLPY_CALLS_FROM = (("rclpy", "task.py"), ("rclpy", "executors.py"))
LONGEST_TRACEBACK = 80
"""Lines of a traceback that are printed, the last ones."""


@dataclass(slots=True)
class Counts:
    """What came from outside since the node started: handled, refused in words, and met by a fault of ours."""

    handled: int = 0
    refused: int = 0
    faults: int = 0


@dataclass(slots=True)
class Complaints:
    """Says what is wrong with a source's messages, once in QUIET_S per source, with how often it was not said.

    Args:
        say: prints a line.
        clock: s, steady.
    """

    say: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _said_s: dict[str, float] = field(default_factory=dict)
    _unsaid: dict[str, int] = field(default_factory=dict)

    def about(
        self,
        source: str,
        reason: str,
        senders: Callable[[], str] = lambda: "",
        details: Callable[[], str] = lambda: "",
    ) -> None:
        """Complain about `source`; `senders` and `details` (lines to follow) are asked only where it is printed."""
        now_s = self.clock()
        if now_s - self._said_s.get(source, -QUIET_S) < QUIET_S:
            self._unsaid[source] = self._unsaid.get(source, 0) + 1
            return
        self._said_s[source] = now_s
        more = self._unsaid.pop(source, 0)
        tail = f" (and {more} more before)" if more else ""
        who = senders()
        self.say(f"{source}{who} refused: {shortened(reason)}{tail}{details()}")


def shortened(text: str, longest: int = LONGEST_REASON) -> str:
    """A text that is fit to print: of bounded length, without control characters."""
    printable = "".join(c if c.isprintable() else " " for c in text[: longest + 1])
    return printable if len(text) <= longest else f"{printable[:longest]}... ({len(text)} characters)"


def traced(error: BaseException) -> str:
    """The traceback of what was raised, causes included, on lines of their own that are fit to print."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    left_out = [f"  ... ({len(lines) - LONGEST_TRACEBACK} lines before)"] if len(lines) > LONGEST_TRACEBACK else []
    return "".join(f"\n{shortened(line)}" for line in [*left_out, *lines[-LONGEST_TRACEBACK:]])


class GuardedExecutor(SingleThreadedExecutor):
    """Runs a node's callbacks; what they raise because of a message does not end the node."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.counts = Counts()
        self._complaints: dict[int, Complaints] = {}

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self._serve_one(timeout_sec, lambda: False)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: Any = None) -> None:
        self._serve_one(timeout_sec, future.done)  # `spin_until_future_complete` has asked the future to wake us

    def _serve_one(self, timeout_sec: Any, over: Callable[[], bool]) -> None:
        try:
            handler, entity, node = self.wait_for_ready_callbacks(timeout_sec, None, over)
        except (ShutdownException, TimeoutException, ConditionReachedException):
            return
        except InvalidHandle:  # another thread destroyed a publisher while the wait set was made: rclpy minds, we don't
            return
        handler()
        error = handler.exception()
        outside = not isinstance(entity, Timer)
        self.counts.handled += outside
        if error is None:
            return
        if not outside or not isinstance(error, Exception):
            raise error
        self._complain(entity, node, error)

    def _complain(self, entity: Any, node: Node | None, error: Exception) -> None:
        node = node or next(iter(self.get_nodes()))
        places = traceback.extract_tb(error.__traceback__)
        ours = any(map(_is_ours, places))
        if isinstance(error, SkimoError) or not ours:
            self.counts.refused += 1
            complaints = self._complaints.setdefault(0, Complaints(node.get_logger().warning))
            reason = str(error) if isinstance(error, SkimoError) else f"{type(error).__name__}: {error}"
            plain = isinstance(error, SkimoError) or _is_rclpys(places)
            details = (lambda: "") if plain else (lambda: traced(error))
            complaints.about(_source(entity), reason, lambda: _publishers(entity, node), details)
            return
        self.counts.faults += 1
        complaints = self._complaints.setdefault(1, Complaints(node.get_logger().error))
        where = f"{type(error).__name__} at {Path(places[-1].filename).name}:{places[-1].lineno}"
        reason = f"{FAULT}: {where}: {error}; please report it"
        complaints.about(_source(entity), reason, details=lambda: traced(error))


def _is_ours(place: traceback.FrameSummary) -> bool:
    """Whether a file belongs to one of our packages: skimo_core/safety/gate.py does, site-packages/rclpy/task.py no."""
    return any(part.startswith("skimo_") for part in Path(place.filename).parts[-4:-1])


def _is_rclpys(places: Sequence[traceback.FrameSummary]) -> bool:
    """Whether it was raised under a callback of rclpy's own, or before any was called."""
    paths = [Path(place.filename) for place in places]
    called = next((path for path in paths if path.parts[-2:] not in RCLPY_CALLS_FROM), None)
    return called is None or called.parent.name == "rclpy"


def _source(entity: Any) -> str:
    """What a callback listens to, in words."""
    if isinstance(entity, Subscription):
        return f"message on {entity.topic_name!r}"
    name = getattr(entity, "srv_name", "")
    return f"request to {name!r}" if name else f"request to {type(entity).__name__}"


def _publishers(entity: Any, node: Node) -> str:
    if not isinstance(entity, Subscription):
        return ""
    return f" (published by {', '.join(publishers_of(node, entity.topic_name)) or 'nobody known'})"


UNNAMED = "a node that is not known by name (yet)"


def publishers_of(node: Node, topic: str) -> list[str]:
    """Full names of the nodes that publish a topic, on any machine of the domain; one for each publisher, sorted.

    A publisher is known a moment before its node's name is, and one that is no ROS node has none: `UNNAMED`.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    names = ((info.node_namespace.rstrip("/"), info.node_name) for info in publishers)
    return sorted(UNNAMED if "UNKNOWN_" in name else f"{namespace}/{name}" for namespace, name in names)
