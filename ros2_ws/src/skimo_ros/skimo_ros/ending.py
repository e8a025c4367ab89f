"""How a node ends: each after those that need it, the arm at rest before its driver goes.

ROS's launch asks all nodes at once, and so does a dying parent. The order policy, gate, driver comes from here:
  1. A node waits until the one that it outlives (`ends_after`: that node's name, and the longest wait, s) is gone, and
     serves it meanwhile.
  2. It says how the arm is to come to rest (`brake`).
  3. It serves on until the arm has been at rest (`at_rest`) for SETTLED_S, at most REST_S.
All three are a node's own, and a node without them ends at once. Whoever starts the stack waits longer than their sum
(`end` in launch/stack.yaml).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.executors import Executor
from rclpy.node import Node

from skimo_core.process.isolation import RoleWatch, role

AFTER_POLICY = ("policy_node", 3.0)
AFTER_GATE = ("gate_node", 6.0)
"""The gate's own wait for the policy, its rest, and a little."""
REST_S = 2.0
SETTLED_S = 0.1
REST_RAD_S = 0.005
"""Joint speeds below this are rest; half of what counts as rest at the end."""
POLL_S = 0.02


def wait_for_turn(node: Node, executor: Executor) -> None:
    """Serves on until the node that this one outlives is gone, or for its bound; not after a shutdown of ROS."""
    name, bound_s = getattr(node, "ends_after", ("", 0.0))
    if name and node.context.ok():
        with RoleWatch(node.context.get_domain_id(), role(node.get_namespace(), name)) as watch:
            _spin_while(node, executor, watch.is_held, bound_s)


def come_to_rest(node: Node, executor: Executor) -> None:
    """Brakes, and serves on until the arm is at rest, or for REST_S; nothing where ROS has been shut down."""
    brake = getattr(node, "brake", None)
    if brake is not None and node.context.ok():
        brake()
    if hasattr(node, "at_rest"):
        _spin_while(node, executor, _not_settled(node), REST_S)


def _not_settled(node: Any) -> Callable[[], bool]:
    moved_s = [time.monotonic()]

    def moves() -> bool:
        now_s = time.monotonic()
        if not node.at_rest():
            moved_s[0] = now_s
        return now_s - moved_s[0] < SETTLED_S

    return moves


def _spin_while(node: Node, executor: Executor, condition: Callable[[], bool], bound_s: float) -> None:
    end_s = time.monotonic() + bound_s
    while condition() and time.monotonic() < end_s and node.context.ok():
        executor.spin_once(POLL_S)
