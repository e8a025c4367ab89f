"""The hand's actions (move, grasp, homing) as franka_gripper offers them, over any hand that takes goals and reports.

One goal at a time: a newer one supersedes the older, which is aborted and says so; a goal that is cancelled ends with
the fingers where they are. A goal ends when the fingers are at rest; whether it succeeded is judged as libfranka judges
it. Nothing blocks the executor: a timer looks at the hand while a goal runs, and only then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from rclpy.action.server import ActionServer, CancelResponse, GoalResponse, ServerGoalHandle
from rclpy.node import Node

from skimo_core.contract.errors import SkimoError
from skimo_core.contract.types import GripperCommand

from . import conversions as convert
from .adapters import Adapter, gripper_type, interface

POLL_S = 0.05


class HandControl(Protocol):
    """The hand behind the actions."""

    def command_hand(self, goal: GripperCommand) -> None: ...

    @property
    def hand_width_m(self) -> float: ...

    @property
    def hand_busy(self) -> bool: ...


@dataclass(slots=True)
class Running:
    """The goal under way, and its action type."""

    handle: ServerGoalHandle
    kind: Any


class GripperServer:
    """Serves the three actions under an adapter's names and types."""

    def __init__(self, node: Node, adapter: Adapter, hand: HandControl, homing_goal: GripperCommand) -> None:
        self._node = node
        self._hand = hand
        self._homing_goal = homing_goal
        self._running: Running | None = None
        self._timer = node.create_timer(POLL_S, self._poll)
        self._timer.cancel()
        self._homing = interface(adapter, adapter.gripper_homing_type)
        served = (
            (gripper_type(adapter, "move"), adapter.gripper_move),
            (gripper_type(adapter, "grasp"), adapter.gripper_grasp),
            (self._homing, adapter.gripper_homing),
        )
        self._servers = [self._serve(kind, name) for kind, name in served]

    def close(self) -> None:
        for server in self._servers:
            server.destroy()

    def _serve(self, kind: Any, name: str) -> ActionServer:
        return ActionServer(
            self._node,
            kind,
            name,
            execute_callback=lambda handle: kind.Result(),
            goal_callback=lambda request: GoalResponse.ACCEPT,
            cancel_callback=self._cancel,
            handle_accepted_callback=partial(self._start, kind),
        )

    def _start(self, kind: Any, handle: ServerGoalHandle) -> None:
        if self._running is not None:
            self._end(False, "superseded by a newer goal")
        self._running = Running(handle, kind)
        try:
            goal = self._homing_goal if kind is self._homing else convert.from_gripper_goal(handle.request)
            self._hand.command_hand(goal)
        except SkimoError as error:
            self._end(False, str(error))
            return
        self._timer.reset()

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        """Stop the fingers; the goal ends as cancelled once its client was told that it may."""
        if self._running is None or handle.goal_id.uuid.tolist() != self._running.handle.goal_id.uuid.tolist():
            return CancelResponse.REJECT
        width_m = min(max(self._hand.hand_width_m, 0.0), self._homing_goal.width_m)
        try:
            self._hand.command_hand(replace(self._homing_goal, width_m=width_m))
        except SkimoError as error:  # the arm is stopped, and the hand with it
            self._node.get_logger().warning(f"cancel: {error}")
        executor = self._node.executor
        if executor is not None:  # at once; the timer would get to it too
            executor.create_task(self._poll)
        return CancelResponse.ACCEPT

    def _poll(self) -> None:
        if self._running is None:
            self._timer.cancel()
            return
        running, width_m = self._running, self._hand.hand_width_m
        if running.handle.is_cancel_requested:
            self._end(False, f"cancelled with the fingers {width_m:.4f} m apart")
        elif self._hand.hand_busy:
            running.handle.publish_feedback(convert.gripper_feedback(running.kind, width_m))
        elif running.kind is self._homing:
            self._end(True, "")
        else:
            self._end(*convert.gripper_outcome(running.handle.request, width_m))

    def _end(self, success: bool, text: str) -> None:
        running, self._running = self._running, None
        assert running is not None
        self._timer.cancel()

        def finish(handle: ServerGoalHandle) -> Any:
            cancelled = handle.is_cancel_requested
            finished: Callable[[], None] = handle.canceled if cancelled else handle.succeed if success else handle.abort
            finished()
            return convert.gripper_result(running.kind, success, text)

        running.handle.execute(finish)
