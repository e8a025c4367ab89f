"""The operator's commands: `skimo status`, `skimo stop`, `skimo reset`.

Each joins the ROS domain of the environment (ROS_DOMAIN_ID), asks, prints one line per answer and leaves; exit code 1
when somebody that should have answered did not, or refused.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import rclpy
import rclpy.utilities
import tyro
from action_msgs.msg import GoalStatus
from rclpy.action.client import ActionClient
from rclpy.node import Node
from rclpy.qos import QoSProfile
from skimo_msgs.msg import GateEvent, HandStatus, PlanStatus, RecorderStatus
from skimo_msgs.srv import ResetGate
from std_srvs.srv import Trigger

from skimo_core.contract.errors import SetupError, SkimoError

from . import conversions as convert
from .adapters import Adapter, load_adapter, recovery_type
from .nodes import LATEST_QOS, Names

FAILED = 1
AFTER_RECOVERY_S = 2.0
"""How long a gate may go on refusing after a recovery: until the robot's state says so too."""
AGAIN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Clear the gate's latched stop and let a held policy go on. Look at the arm first."""

    recover: bool = False
    """first ask the driver to recover from its errors (reflex, released user stop)"""
    driver: str = "twin"
    """driver stack whose recovery is asked: its name, or the path of its file"""
    timeout_s: Annotated[float, tyro.conf.arg(help="longest wait for each answer, s")] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop the arm now and keep it stopped until `skimo reset`."""

    timeout_s: Annotated[float, tyro.conf.arg(help="longest wait for the answer, s")] = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Print where the policy, the gate, the hand and the recorder stand."""

    timeout_s: Annotated[float, tyro.conf.arg(help="longest wait for each, s")] = 3.0


class Caller:
    """A short-lived node that asks others."""

    def __init__(self, timeout_s: float) -> None:
        rclpy.init()
        self.node = Node(f"skimo_operator_{time.time_ns() % 10**6}")
        self._timeout_s = timeout_s

    def close(self) -> None:
        self.node.destroy_node()
        rclpy.utilities.try_shutdown()

    def trigger(self, name: str) -> tuple[bool, str]:
        """Call a Trigger service; raises SetupError if nobody answers."""
        return convert.from_trigger(self._call(Trigger, name))

    def clear_stop(self, patience_s: float) -> tuple[bool, str]:
        """Show the gate's stop and clear it, and no newer one; asked again for so long while the gate refuses.

        Raises:
            SetupError: nobody answers.
        """
        message = self.newest(GateEvent, Names.GATE, LATEST_QOS)
        if message is None:
            raise SetupError(_nobody(f"topic {Names.GATE}"))
        report = convert.from_gate_event(message)
        if report.latched:
            print(f"gate: clearing STOP {report.decision.generation}: {'; '.join(report.decision.reasons)}")
        request = convert.reset_stop_request(report.decision.generation)
        end_s = time.monotonic() + patience_s
        while True:
            cleared, text = convert.from_trigger(self._call(ResetGate, Names.GATE_RESET_STOP, request))
            if cleared or time.monotonic() > end_s:
                return cleared, text
            rclpy.spin_once(self.node, timeout_sec=AGAIN_S)

    def recover(self, adapter: Adapter) -> tuple[bool, str]:
        """Ask the driver to recover; return whether it says that it did, and its words.

        Raises:
            SetupError: nobody answers, or the driver's types are not installed.
        """
        kind = recovery_type(adapter)
        if adapter.recovery_kind == "service":
            return convert.from_recovery(self._call(kind, adapter.recovery))
        client = ActionClient(self.node, kind, adapter.recovery)
        try:
            if not client.wait_for_server(self._timeout_s):
                raise SetupError(_nobody(f"action {adapter.recovery}"))
            handle = self._wait(client.send_goal_async(kind.Goal()), adapter.recovery)
            if not handle.accepted:
                return False, "the driver refused to try"
            answer = self._wait(handle.get_result_async(), adapter.recovery)
            recovered = answer.status == GoalStatus.STATUS_SUCCEEDED
            return recovered, "" if recovered else "the driver tried and failed; its log says why"
        finally:
            client.destroy()

    def newest(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        """The newest message of a topic that keeps its last; None if nobody publishes it."""
        got: list[Any] = []
        subscription = self.node.create_subscription(kind, topic, got.append, qos)
        end_s = time.monotonic() + self._timeout_s
        while not got and time.monotonic() < end_s:
            rclpy.spin_once(self.node, timeout_sec=0.1)
        self.node.destroy_subscription(subscription)
        return got[-1] if got else None

    def _call(self, kind: Any, name: str, request: Any = None) -> Any:
        client = self.node.create_client(kind, name)
        try:
            if not client.wait_for_service(self._timeout_s):
                raise SetupError(_nobody(f"service {name}"))
            return self._wait(client.call_async(request or kind.Request()), name)
        finally:
            self.node.destroy_client(client)

    def _wait(self, future: Any, name: str) -> Any:
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=self._timeout_s)
        if not future.done():
            raise SetupError(f"{name} took the request and gave no answer within {self._timeout_s:g} s")
        return future.result()


def reset(argv: list[str]) -> int:
    """Clear the gate's stop and resume a held policy."""
    options = tyro.cli(Reset, args=argv, prog="skimo reset")

    def ask(caller: Caller) -> bool:
        if options.recover:
            recovered, text = caller.recover(load_adapter(options.driver))
            print(f"driver: {'recovered' if recovered else f'not recovered: {text}'}")  # the gate judges what is left
        cleared, text = caller.clear_stop(AFTER_RECOVERY_S if options.recover else 0.0)
        print(f"gate: {text}")
        if not cleared:
            return False
        resumed, text = caller.trigger(Names.RESUME)
        print(f"policy: {text}")
        return resumed

    return _run(options.timeout_s, ask)


def stop(argv: list[str]) -> int:
    """Stop the arm and keep it stopped until `skimo reset`."""
    options = tyro.cli(Stop, args=argv, prog="skimo stop")

    def ask(caller: Caller) -> bool:
        stopped, text = caller.trigger(Names.GATE_STOP)
        print(f"gate: {text}")
        return stopped

    return _run(options.timeout_s, ask)


def status(argv: list[str]) -> int:
    """Print where the policy, the gate, the hand and the recorder stand."""
    options = tyro.cli(Status, args=argv, prog="skimo status")

    def ask(caller: Caller) -> bool:
        gate = caller.newest(GateEvent, Names.GATE, LATEST_QOS)
        hand = caller.newest(HandStatus, Names.HAND, LATEST_QOS)
        plan = caller.newest(PlanStatus, Names.PLAN_STATUS, LATEST_QOS)
        print(f"gate: {_gate_words(gate)}" if gate else f"gate: {_nobody('topic ' + Names.GATE)}")
        print(f"hand: {convert.from_hand_status(hand).words}" if hand else f"hand: {_nobody('topic ' + Names.HAND)}")
        print(f"policy: {_policy_words(plan)}" if plan else f"policy: {_nobody('topic ' + Names.PLAN_STATUS)}")
        recorder = caller.newest(RecorderStatus, Names.RECORDER, LATEST_QOS)
        print(
            f"recorder: {_recorder_words(recorder)}" if recorder else f"recorder: {_nobody('topic ' + Names.RECORDER)}"
        )
        return gate is not None and plan is not None

    return _run(options.timeout_s, ask)


def _run(timeout_s: float, ask: Callable[[Caller], bool]) -> int:
    caller = Caller(timeout_s)
    try:
        return 0 if ask(caller) else FAILED
    except SkimoError as error:
        print(error, file=sys.stderr)
        return FAILED
    finally:
        caller.close()


def _gate_words(message: GateEvent) -> str:
    report = convert.from_gate_event(message)
    counts = f"{report.commands} commands, {report.limited} limited, {report.held} held, {report.stops} stops"
    reasons = "; ".join(report.decision.reasons)
    name = f"STOP {report.decision.generation}" if report.latched else report.decision.verdict.name
    return f"{name} ({counts}){': ' + reasons if reasons else ''}"


def _policy_words(message: PlanStatus) -> str:
    report = convert.from_plan_status(message)
    if not report.episode_id:
        return f"{report.state}{': ' + report.reason if report.reason else ''}"
    where = f"{report.task}: {report.subtasks_done}/{report.subtasks_total} at step {report.step}"
    figures = f"plan {report.plan_ms:.0f} ms, {report.missed_ticks} missed ticks"
    return f"{report.state} ({where}; {figures}){': ' + report.reason if report.reason else ''}"


def _recorder_words(message: RecorderStatus) -> str:
    report = convert.from_recorder_status(message)
    counts = f"{report.written} messages written, {report.dropped} dropped, {report.lost_steps} control steps lost"
    return f"{report.state} ({report.file or 'no file yet'}; {counts}){': ' + report.reason if report.reason else ''}"


def _nobody(what: str) -> str:
    return f"nobody answers for {what}; is the stack up (skimo up) in this ROS_DOMAIN_ID?"
