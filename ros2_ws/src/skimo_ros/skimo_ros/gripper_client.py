"""Sends the hand's goals to a driver's actions, follows each to its end, and tells how it went on skimo/hand.

Promises
  - Nothing here waits: answers come as callbacks, and a timer looks at deadlines while something is under way.
  - One goal at a time. A newer goal supersedes the older: one that was not sent yet is forgotten; one under way is
    cancelled, and the newer follows when it has ended, or after `cancel_s` where the driver can't end it.
  - Before each attempt the gate is asked anew. What it stops is dropped.
  - A goal that is refused, held by the gate or lost (no driver, no answer, a driver that went away) is tried again
    after `pause_s`, `attempts` times in all, and never more often. A goal that failed is not: the hand was moved.
  - A goal without a result after the fingers' whole way and `margin_s` is cancelled and given up.
Widths m, times s of the steady clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action.client import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from skimo_msgs.msg import HandStatus

from skimo_core.contract.types import GripperCommand, Verdict
from skimo_core.safety.gate import Decision

from . import conversions as convert
from .adapters import Adapter, gripper_type
from .hand import HandConfig, HandReport, HandState
from .nodes import LATEST_QOS, STEADY, Names, now_s

LOOK_S = 0.05
WORDS_MAX = 200
"""A driver's words are cut to so many characters."""


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One goal on its way to a driver's action, or in it.

    Attributes:
        goal_id: the goal's.
        client, action: whose, and its name.
        due_s: when what is awaited (an answer, then the result) is overdue.
        handle: of the goal, once it was taken.
        leave_by_s: when it is waited for no longer; set once nobody wants it any more.
        cancelled: it was asked to end.
        disturbed: an attempt that was thought lost turned up and was cancelled, which may have stopped this one too.
    """

    goal_id: int
    client: ActionClient
    action: str
    due_s: float
    handle: Any = None
    leave_by_s: float | None = None
    cancelled: bool = False
    disturbed: bool = False


class GripperClient:
    """Move and grasp under an adapter's names and types.

    Args:
        width_max_m: the fingers' whole way.
        judge: the gate's word on a goal, asked before each attempt.
    """

    def __init__(
        self,
        node: Node,
        adapter: Adapter,
        width_max_m: float,
        judge: Callable[[GripperCommand], Decision],
        config: HandConfig | None = None,
    ) -> None:
        self._node, self._width_max_m, self._judge = node, width_max_m, judge
        self._config = config or HandConfig()
        self._actions = {
            "move": (adapter.gripper_move, gripper_type(adapter, "move")),
            "grasp": (adapter.gripper_grasp, gripper_type(adapter, "grasp")),
        }
        self._clients = {key: ActionClient(node, kind, name) for key, (name, kind) in self._actions.items()}
        self._attempt: Attempt | None = None
        self._next_s = 0.0
        self._status = node.create_publisher(HandStatus, Names.HAND, LATEST_QOS)
        self._timer = node.create_timer(LOOK_S, self._look, clock=STEADY)
        self._timer.cancel()
        self._tell(HandReport())

    def send(self, goal: GripperCommand) -> None:
        """Take a goal; whatever was asked before is superseded."""
        if self._open:
            self._end(HandState.SUPERSEDED, "a newer goal came first")
        self._next_s = 0.0
        self._tell(
            HandReport(state=HandState.WAITING, goal_id=self.report.goal_id + 1, goal=goal, asked_s=now_s(self._node))
        )
        self._timer.reset()
        self._look()

    def drop(self, reason: str) -> None:
        """Forget a goal that has not ended; what the driver already does of it goes on."""
        if self._open:
            self._end(HandState.DROPPED, reason)

    @property
    def complaints(self) -> tuple[str, ...]:
        """What the gate's events say of the hand: nothing, unless its newest goal ended badly."""
        return (f"hand: {self.report.words}",) if self.report.state.bad else ()

    def close(self) -> None:
        self._timer.cancel()
        for client in self._clients.values():
            client.destroy()

    # --- the beat ---------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> bool:
        return self.report.goal is not None and not self.report.state.ended

    def _wanted(self, attempt: Attempt) -> bool:
        return self._open and attempt.goal_id == self.report.goal_id

    def _look(self) -> None:
        now, attempt = time.monotonic(), self._attempt
        if attempt is not None and self._wanted(attempt):
            self._watch(attempt, now)
        if attempt is not None and not self._wanted(attempt):
            self._let_go(attempt, now)
        if self._attempt is None and self._open and now >= self._next_s:
            self._try(now)
        if self._attempt is None and not self._open:
            self._timer.cancel()

    def _watch(self, attempt: Attempt, now: float) -> None:
        """Look at a wanted attempt's deadlines."""
        if not attempt.client.server_is_ready():
            self._attempt = None
            self._again(HandState.LOST, f"the driver of {attempt.action} went away")
        elif now > attempt.due_s and attempt.handle is None:
            self._attempt = None
            self._again(HandState.LOST, f"{attempt.action} gave no answer within {self._config.accept_s:g} s")
        elif now > attempt.due_s:
            goal = self.report.goal
            assert goal is not None
            after_s = self._config.result_s(goal, self._width_max_m)
            self._end(HandState.HUNG, f"{attempt.action} gave no result within {after_s:.1f} s")

    def _let_go(self, attempt: Attempt, now: float) -> None:
        """End an attempt that nobody wants any more, or stop waiting for its end."""
        if attempt.leave_by_s is None:
            attempt.leave_by_s = now + self._config.cancel_s
        if attempt.handle is not None and not attempt.cancelled:
            attempt.cancelled = True
            attempt.handle.cancel_goal_async()
        if now > attempt.leave_by_s or not attempt.client.server_is_ready():
            self._attempt = None

    def _try(self, now: float) -> None:
        """Send the goal, if the gate lets it and somebody is there to take it."""
        goal = self.report.goal
        assert goal is not None
        decision = self._judge(goal)
        if decision.verdict is Verdict.STOP:
            self._end(HandState.DROPPED, "; ".join(decision.reasons))
            return
        action, kind = self._actions[goal.kind]
        client = self._clients[goal.kind]
        attempts = self.report.attempts + 1
        if decision.verdict is not Verdict.PASS:
            self._tell(replace(self.report, attempts=attempts))
            self._again(HandState.DROPPED, f"the gate holds it: {'; '.join(decision.reasons)}")
        elif not client.server_is_ready():
            self._tell(replace(self.report, attempts=attempts))
            self._again(HandState.LOST, f"no driver offers the action {action}")
        else:
            attempt = Attempt(
                goal_id=self.report.goal_id, client=client, action=action, due_s=now + self._config.accept_s
            )
            self._attempt = attempt
            self._tell(replace(self.report, state=HandState.SENT, attempts=attempts))
            future = client.send_goal_async(convert.gripper_goal(kind, goal, self._width_max_m))
            future.add_done_callback(partial(self._answered, attempt))

    # --- the driver's answers ---------------------------------------------------------------------------------------

    def _answered(self, attempt: Attempt, future: Future) -> None:
        """The driver took the goal, or did not."""
        handle = _value(future)
        if handle is not None and not handle.accepted:
            handle = None
        if attempt is not self._attempt:
            if handle is not None:
                self._refuse_late(handle)
            return
        if handle is not None:
            attempt.handle = handle
            handle.get_result_async().add_done_callback(partial(self._finished, attempt))
            if self._wanted(attempt) and self.report.goal is not None:
                attempt.due_s = time.monotonic() + self._config.result_s(self.report.goal, self._width_max_m)
                self._tell(replace(self.report, state=HandState.RUNNING, reason=""))
        else:
            self._attempt = None
            if self._wanted(attempt):
                self._again(HandState.REFUSED, f"{attempt.action} refused the goal")
        self._look()

    def _refuse_late(self, handle: Any) -> None:
        """A goal that was given up was taken after all: end it, which may end the one under way too."""
        handle.cancel_goal_async()
        if self._attempt is not None:
            self._attempt.disturbed = True

    def _finished(self, attempt: Attempt, future: Future) -> None:
        """The goal ended, one way or another."""
        if attempt is not self._attempt:
            return
        self._attempt = None
        if self._wanted(attempt):
            self._judge_result(attempt, _value(future))
        self._look()

    def _judge_result(self, attempt: Attempt, answer: Any) -> None:
        if answer is None or answer.status == GoalStatus.STATUS_UNKNOWN:
            self._again(HandState.LOST, f"{attempt.action} does not know the goal any more")
            return
        success, words = convert.from_gripper_result(answer.result)
        if answer.status == GoalStatus.STATUS_SUCCEEDED and success:
            self._end(HandState.SUCCEEDED, "")
        elif attempt.disturbed:
            self._again(HandState.LOST, f"{attempt.action} ended it together with an older attempt")
        elif answer.status == GoalStatus.STATUS_CANCELED:
            self._end(HandState.FAILED, f"somebody else cancelled it {words}".strip())
        else:
            self._end(HandState.FAILED, words or f"{attempt.action} says no more than that it failed")

    # --- what is told -----------------------------------------------------------------------------------------------

    def _again(self, state: HandState, reason: str) -> None:
        """Try once more after a pause, or end in `state` if that was the last attempt."""
        if self.report.attempts >= self._config.attempts:
            self._end(state, reason)
            return
        self._next_s = time.monotonic() + self._config.pause_s
        self._tell(replace(self.report, state=HandState.WAITING, reason=reason[:WORDS_MAX]))

    def _end(self, state: HandState, reason: str) -> None:
        self._tell(replace(self.report, state=state, reason=reason[:WORDS_MAX]))
        log = self._node.get_logger()
        if state.bad:
            log.warning(f"hand: {self.report.words}")
        else:
            log.info(f"hand: {self.report.words}")

    def _tell(self, report: HandReport) -> None:
        self.report = report
        if self._node.context.ok():
            self._status.publish(convert.to_hand_status(report, now_s(self._node)))


def _value(future: Future) -> Any:
    """What the driver answered; None if it could not be read."""
    return None if future.cancelled() or future.exception() is not None else future.result()
