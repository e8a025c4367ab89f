"""Sends the hand's goals to a driver's actions without ever waiting for them."""

from __future__ import annotations

from typing import Any

from franka_msgs.action import Grasp, Move
from rclpy.action.client import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from skimo_core.types import GripperCommand

from . import conversions as convert
from .adapters import Adapter


class GripperClient:
    """Move and grasp under an adapter's names; each goal supersedes the one before (the driver sees to that)."""

    def __init__(self, node: Node, adapter: Adapter, width_max_m: float) -> None:
        self._log = node.get_logger()
        self._width_max_m = width_max_m
        self._clients = {
            "move": ActionClient(node, Move, adapter.gripper_move),
            "grasp": ActionClient(node, Grasp, adapter.gripper_grasp),
        }

    def send(self, goal: GripperCommand) -> bool:
        """Send a goal; False if no driver offers the action."""
        client = self._clients[goal.kind]
        if not client.server_is_ready():
            return False
        future = client.send_goal_async(convert.gripper_goal(goal, self._width_max_m))
        future.add_done_callback(self._answered)
        return True

    def close(self) -> None:
        for client in self._clients.values():
            client.destroy()

    def _answered(self, future: Future) -> None:
        handle: Any = future.result()
        if handle is None or not handle.accepted:
            self._log.warning("the hand's driver refused a goal")
