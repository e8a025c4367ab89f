"""What every node's process does: quality of service, one of a kind in a domain, ending cleanly with a reason.

State-like topics are read best effort with depth 1 (which matches reliable publishers too); commands are reliable with
depth 1, so that an old one is never delivered after a newer one. Events are reliable; the newest also reaches those
who join later.

A node ends on SIGINT and SIGTERM with exit code 0, whatever threads its imports made (the kernel gives a signal to any
of them): Python's own C handler writes it down a pipe, which a thread of ours reads. A signal that comes again within
REPEAT_S is the same wish (a terminal signals the whole group, and a launcher once more) and is ignored; later, it
means that the goodbye hangs, and the process ends at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
import rclpy.utilities
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import InvalidParameterValueException, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from skimo_core.contract.errors import SetupError, SkimoError
from skimo_core.link.endpoint import ros_domain
from skimo_core.process.heap import settle_heap
from skimo_core.process.isolation import DomainLock, namespace_of, role
from skimo_core.process.parent import end_with_parent

from .conversions import to_seconds
from .ending import come_to_rest, wait_for_turn
from .guarded import GuardedExecutor
from .overrides import refuse_unknown
from .polling import PolledGroup

log = logging.getLogger(__name__)

STATE_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
POLLED_STATE_QOS = QoSProfile(depth=8, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For topics that are looked at now and then, and on which more than one node may publish."""
COMMAND_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
EVENT_QOS = QoSProfile(depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
LATEST_QOS = QoSProfile(
    depth=1,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
RECORD_QOS = QoSProfile(depth=1000, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
"""What is recorded and must not be lost: a minute of control steps waits for a recorder that was paused."""
FAILED = 1
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
REPEAT_S = 10.0
"""A second signal within this time is the first one's echo: longer than the longest end in turn (ending.py)."""
STEADY = Clock(clock_type=ClockType.STEADY_TIME)


def now_s(node: Node) -> float:
    """The node's clock (simulated time where use_sim_time is set) in this process's seconds."""
    return to_seconds(node.get_clock().now().nanoseconds)


class Names:
    """Topic and service names of the stack, relative to its namespace."""

    PROPOSED = "skimo/proposed"
    GRIPPER = "skimo/gripper"
    GATE = "skimo/gate"
    HAND = "skimo/hand"
    PLAN_STATUS = "skimo/plan_status"
    CANDIDATES = "skimo/candidates"
    EPISODE = "skimo/episode"
    EPISODE_STEP = "skimo/episode_step"
    RECORDER = "skimo/recorder"
    DIAGNOSTICS = "/diagnostics"
    DESCRIPTION = "robot_description"
    CLOCK = "/clock"
    IMAGE = "camera/{}/image_raw"
    CAMERA_INFO = "camera/{}/camera_info"
    GATE_RESET = "gate/reset"
    GATE_RESET_STOP = "gate/reset_stop"
    GATE_STOP = "gate/stop"
    GATE_HOLD = "gate/hold"
    START_EPISODE = "policy/start_episode"
    RESUME = "policy/resume"
    CANCEL = "policy/cancel"
    POLICY_HOLD = "policy/hold"
    INTERVENE = "policy/intervene"
    TELEOP = "policy/teleop"
    TWIN_RESET = "twin/reset"
    USER_STOP = "twin/user_stop"
    TWIN_OBJECTS = "twin/object_states"


def only_one(node: Node) -> DomainLock:
    """Make this process the only one on this machine that runs a node of this name in its namespace; keep the result.

    Raises:
        SetupError: there is one already; names its process and what to do.
    """
    lock = DomainLock(node.context.get_domain_id(), role(node.get_namespace(), node.get_name()))
    lock.acquire()
    return lock


def component(node: Node, part: str) -> str:
    """The name of a part of the stack in /diagnostics, which all namespaces share."""
    return f"skimo{namespace_of(node.get_namespace())}: {part}"


def run(make: Callable[[], Node], args: list[str] | None = None) -> int:
    """Run one node until SIGINT or SIGTERM; return the process's exit code.

    What was given wrongly ends it with a line; anything else that is raised leaves with its traceback. The signals are
    waited for in a thread, so that the ROS context is still whole when the node says goodbye.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    asked_to_end = Future()
    _catch_signals(lambda: asked_to_end.set_result(True))
    end_with_parent()
    try:
        domain = ros_domain()
    except SetupError as error:
        print(f"{make.__name__}: {error}", file=sys.stderr, flush=True)
        return FAILED
    rclpy.init(args=args, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    node: Node | None = None
    executor = GuardedExecutor()
    try:
        node = make()
        refuse_unknown(node)
        executor.add_node(node)
        settle_heap()
        executor.spin_until_future_complete(asked_to_end)
        wait_for_turn(node, executor)
        log.info("%s: from outside came %s", node.get_name(), _counted(node, executor))
    except ExternalShutdownException:
        pass
    except (SkimoError, ParameterException, InvalidParameterValueException) as error:
        name = node.get_name() if node is not None else make.__name__
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return FAILED
    finally:
        if node is not None:
            come_to_rest(node, executor)
            close(node)
        rclpy.utilities.try_shutdown()
    return _exit_code(node)


def _counted(node: Node, executor: GuardedExecutor) -> str:
    """How many messages and requests a node took, in words."""
    counts = executor.counts
    groups = {s.callback_group for s in node.subscriptions if isinstance(s.callback_group, PolledGroup)}
    polled = sum(group.taken for group in groups)
    return f"{counts.handled} handled, {polled} polled, {counts.refused} refused, {counts.faults} faults"


def _catch_signals(ask_to_end: Callable[[], Any]) -> None:
    """Call `ask_to_end` in a thread of its own at the first ending signal, whichever thread of the process gets it."""
    heard, told = os.pipe()
    os.set_blocking(told, False)  # the C handler must not wait
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in ENDING_SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)  # a mask is inherited from whoever started us
    threading.Thread(target=_await_signals, args=(heard, ask_to_end), name="signals", daemon=True).start()


def _await_signals(heard: int, ask_to_end: Callable[[], Any]) -> None:
    _next_signal(heard)
    asked_s = time.monotonic()
    ask_to_end()
    while _next_signal(heard):
        if time.monotonic() - asked_s > REPEAT_S:
            os._exit(FAILED)  # asked again, and not in the same breath: whatever hangs


def _next_signal(heard: int) -> int:
    """Wait for an ending signal; others (a child's end, a timer) are not ours."""
    while (number := os.read(heard, 1)[0]) not in ENDING_SIGNALS:
        pass
    return number


def _exit_code(node: Node | None) -> int:
    """0, or 1 with the reason printed if the node ended itself for one (`failure`)."""
    failure = getattr(node, "failure", "")
    if failure and node is not None:
        print(f"{type(node).__name__}: {failure}", file=sys.stderr, flush=True)  # its own name went with it
    return FAILED if failure else 0


def close(node: Node) -> None:
    """Let the node say goodbye (`close`), then destroy it."""
    goodbye = getattr(node, "close", None)
    if goodbye is not None:
        goodbye()
    node.destroy_node()
