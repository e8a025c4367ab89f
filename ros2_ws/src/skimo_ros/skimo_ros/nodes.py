"""What every node's process does: quality of service, one of a kind in a domain, ending cleanly with a reason.

State-like topics are read best effort with depth 1 (which matches reliable publishers too); commands are reliable with
depth 1, so that an old one is never delivered after a newer one. Events are reliable; the newest also reaches those
who join later.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import rclpy
import rclpy.utilities
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import InvalidParameterValueException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from skimo_core.errors import SetupError, SkimoError

log = logging.getLogger(__name__)

STATE_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
EVENT_QOS = QoSProfile(depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
LATEST_QOS = QoSProfile(
    depth=1,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
FAILED = 1
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
DISCOVERY_S = 1.0
"""How long a node looks for another of its name before it believes that it is alone."""

STEADY = Clock(clock_type=ClockType.STEADY_TIME)


def now_s(node: Node) -> float:
    """The node's clock (simulated time where use_sim_time is set), s."""
    return node.get_clock().now().nanoseconds * 1e-9


class Names:
    """Topic and service names of the stack, relative to its namespace."""

    PROPOSED = "skimo/proposed"
    GRIPPER = "skimo/gripper"
    GATE = "skimo/gate"
    PLAN_STATUS = "skimo/plan_status"
    EPISODE = "skimo/episode"
    EPISODE_STEP = "skimo/episode_step"
    DIAGNOSTICS = "/diagnostics"
    CLOCK = "/clock"
    GATE_RESET = "gate/reset"
    GATE_STOP = "gate/stop"
    GATE_HOLD = "gate/hold"
    START_EPISODE = "policy/start_episode"
    RESUME = "policy/resume"
    POLICY_HOLD = "policy/hold"
    TWIN_RESET = "twin/reset"
    USER_STOP = "twin/user_stop"


def refuse_a_second(node: Node, wait_s: float = DISCOVERY_S) -> None:
    """Raise if another node of this name is in the domain.

    Raises:
        SetupError: naming the node and what to do.
    """
    mine = (node.get_name(), node.get_namespace())
    end_s = time.monotonic() + wait_s
    while time.monotonic() < end_s:
        if node.get_node_names_and_namespaces().count(mine) > 1:
            raise SetupError(
                f"a node {node.get_fully_qualified_name()} is already running in this ROS domain; "
                "stop it, or set another ROS_DOMAIN_ID"
            )
        rclpy.spin_once(node, timeout_sec=0.05)


def run(make: Callable[[], Node], args: list[str] | None = None) -> int:
    """Run one node until SIGINT or SIGTERM; return the process's exit code.

    The signals are waited for in a thread, so that the ROS context is still whole when the node says goodbye.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    asked_to_end = Future()
    threading.Thread(target=_await_signal, args=(asked_to_end,), name="signals", daemon=True).start()
    node: Node | None = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin_until_future_complete(asked_to_end)
    except ExternalShutdownException:
        pass
    except (SkimoError, ParameterException, InvalidParameterValueException, ValueError) as error:
        name = node.get_name() if node is not None else make.__name__
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return FAILED
    finally:
        if node is not None:
            close(node)
        rclpy.utilities.try_shutdown()
    return _exit_code(node)


def _await_signal(asked_to_end: Future) -> None:
    signal.sigwait(ENDING_SIGNALS)
    asked_to_end.set_result(True)
    signal.sigwait(ENDING_SIGNALS)
    os._exit(FAILED)  # asked twice: whatever hangs


def _exit_code(node: Node | None) -> int:
    """0, or 1 with the reason printed if the node ended itself for one (`failure`)."""
    failure = getattr(node, "failure", "")
    if failure and node is not None:
        print(f"{node.get_name()}: {failure}", file=sys.stderr, flush=True)
    return FAILED if failure else 0


def close(node: Node) -> None:
    """Let the node say goodbye (`close`), then destroy it."""
    goodbye = getattr(node, "close", None)
    if goodbye is not None:
        goodbye()
    node.destroy_node()
