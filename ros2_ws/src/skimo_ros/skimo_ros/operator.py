"""An operator: asks one arm's nodes for things over ROS, and looks at the newest that they told.

Promises
  - All names are below the operator's namespace: what is asked of /left never reaches /right.
  - Every wait has a deadline. Who does not answer is named, with where to look: another namespace that has a gate, too.
  - It reads topics and calls services, and never commands the arm.
The command line, the evaluator and `RosBackend` all ask through this. An operator is a node of its own, spun while it
waits, or sits on a node that somebody else spins. Times s of the steady clock.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import rclpy
from action_msgs.msg import GoalStatus
from rcl_interfaces.srv import GetParameters
from rclpy.action.client import ActionClient
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from skimo_msgs.msg import GateEvent, HandStatus, ObjectStates, PlanStatus, RecorderStatus
from skimo_msgs.srv import ResetGate, ResetTwin, StartEpisode
from std_srvs.srv import Trigger

from skimo_core.contract.errors import BackendError, SetupError
from skimo_core.contract.types import Array, RobotMode
from skimo_core.contract.types import ObjectStates as Objects
from skimo_core.control.pilot import UNDER_WAY
from skimo_core.control.reports import PolicyReport
from skimo_core.link.endpoint import ros_domain
from skimo_core.process.isolation import namespace_of

from . import conversions as convert
from .adapters import Adapter, load_adapter, recovery_type
from .hand import HandReport
from .nodes import LATEST_QOS, STATE_QOS, Names
from .reports import GateReport, RecorderReport

ANSWER_S = 10.0
"""Processes that miss each other's first announcements, which are datagrams, hear of one another by later ones: Fast
DDS sends five in half a second, then one every 3 s (its `leaseDuration_announcementperiod`). On a busy machine one
command in 25 met nobody within 3 s."""
ALSO_S = 4.0
SPIN_S, SLEEP_S = 0.05, 0.002
AGAIN_S = 0.2
SILENT_S = 5.0
"""A policy node that is alive tells where it stands once a second."""
NOT_STOPPED = "NOT STOPPED: {}. Use the emergency stop"
GATE, POLICY, TWIN = "gate_node", "policy_node", "twin_node"
NOTHING: Mapping[str, type] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class StackReport:
    """Where a stack's nodes stand; None: nobody told in time."""

    gate: GateReport | None
    policy: PolicyReport | None
    hand: HandReport | None
    recorder: RecorderReport | None


class Operator:
    """Asks on somebody's behalf.

    Args:
        namespace: of the arm's stack, such as "/left"; "" or "/": none.
        timeout_s: longest wait for each answer.
        node: one that somebody else spins, and whose namespace counts; None: one of its own.
        context: of its own node; None: this process's.
    """

    def __init__(
        self,
        namespace: str = "",
        *,
        timeout_s: float = ANSWER_S,
        node: Node | None = None,
        context: Context | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._executor: SingleThreadedExecutor | None = None
        if node is None:
            name = f"skimo_operator_{os.getpid()}_{time.time_ns() % 10**6}"
            node = Node(name, namespace=namespace_of(namespace), context=context)
            self._executor = SingleThreadedExecutor(context=context)
            self._executor.add_node(node)
        self.node = node
        self._clients: dict[str, Client] = {}

    def close(self) -> None:
        """Leave the graph, if the node is its own."""
        if self._executor is not None:
            self._executor.shutdown()
            self.node.destroy_node()

    # --- asking -----------------------------------------------------------------------------------------------------

    def meet(self, kind: Any, name: str) -> Client:
        """The client of a service, made now, so that the first call need not wait until the two know each other."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        return self._clients[name]

    def call(self, kind: Any, name: str, request: Any = None) -> Any:
        """Ask a service; raises SetupError if nobody answers in time."""
        client = self.meet(kind, name)
        if not self.within(client.service_is_ready, self.timeout_s):
            raise SetupError(self.nobody(f"service {name}"))
        return self._result(client.call_async(request or kind.Request()), name)

    def trigger(self, name: str) -> tuple[bool, str]:
        """Ask a Trigger service; return whether it did it, and its words."""
        return convert.from_trigger(self.call(Trigger, name))

    def newest(self, kinds: Mapping[str, type], *, also: Mapping[str, type] = NOTHING) -> dict[str, Any]:
        """The newest message of topics that keep their last, by topic; None where nobody publishes in time.

        Args:
            kinds: what to wait for, all at once.
            also: what may be missing, and is waited for `ALSO_S` longer than the rest.
        """
        got: dict[str, Any] = dict.fromkeys((*kinds, *also))
        subscriptions = [
            self.node.create_subscription(kind, topic, functools.partial(got.__setitem__, topic), LATEST_QOS)
            for topic, kind in (*kinds.items(), *also.items())
        ]
        if self.within(lambda: all(got[topic] is not None for topic in kinds), self.timeout_s):
            self.within(lambda: None not in got.values(), min(ALSO_S, self.timeout_s))
        for subscription in subscriptions:
            self.node.destroy_subscription(subscription)
        return got

    def wait_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Let time pass until it holds; raises SetupError when it does not in time."""
        if not self.within(condition, timeout_s):
            raise SetupError(f"waited {timeout_s:g} s for {what}; see the stack's output")

    def within(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Let time pass until it holds, or for so long; return whether it does."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                return False
            self._pass_time()
        return True

    def nobody(self, what: str) -> str:
        """That nobody answers, in words, and where the stack may be instead."""
        below = namespace_of(self.node.get_namespace())
        option = f" --namespace {below}" if below else ""
        others = [(n, ns) for n, ns in self.node.get_node_names_and_namespaces() if n == GATE]
        there = sorted(ns for _, ns in others if namespace_of(ns) != below)
        hint = f"; there is a stack with --namespace {' and one with '.join(there)}" if there else ""
        where = f" below {below}" if below else ""
        return f"nobody answers for {what}{where}; is the stack up (skimo up{option}) in this ROS_DOMAIN_ID?{hint}"

    # --- what the stack's nodes tell --------------------------------------------------------------------------------

    def stack(self) -> StackReport:
        """Where all nodes stand that an operator hears of."""
        needed = {Names.GATE: GateEvent, Names.PLAN_STATUS: PlanStatus}
        got = self.newest(needed, also={Names.HAND: HandStatus, Names.RECORDER: RecorderStatus})
        gate, policy, hand, recorder = got.values()
        return StackReport(
            gate=gate and convert.from_gate_event(gate),
            policy=policy and convert.from_plan_status(policy),
            hand=hand and convert.from_hand_status(hand),
            recorder=recorder and convert.from_recorder_status(recorder),
        )

    def gate(self) -> GateReport | None:
        message = self.newest({Names.GATE: GateEvent})[Names.GATE]
        return message and convert.from_gate_event(message)

    def policy(self) -> PolicyReport | None:
        message = self.newest({Names.PLAN_STATUS: PlanStatus})[Names.PLAN_STATUS]
        return message and convert.from_plan_status(message)

    def watch_scene(self, enough: Callable[[Objects, Array], bool], patience_s: float) -> bool:
        """Show object states as they come to `enough` until it says so, or for so long; whether it did.

        The first is waited for and shown, however short the patience. Beside them stands where the joints [J] are, NaN
        while the driver is silent.

        Raises:
            SetupError: the tracker (or the twin) is silent. SpecError: the driver names other joints.
        """
        adapter = self.driver()
        heard, arm = list[ObjectStates](), list[JointState]()
        subscriptions = [
            self.node.create_subscription(ObjectStates, adapter.object_states, heard.append, STATE_QOS),
            self.node.create_subscription(JointState, adapter.joint_states, arm.append, STATE_QOS),
        ]
        end_s, q_rad = time.monotonic() + patience_s, np.full(len(adapter.joints), np.nan)
        try:
            self.within(lambda: bool(arm), ALSO_S)
            while True:
                if not self.within(lambda: bool(heard), self.timeout_s):
                    topic = adapter.object_states
                    raise SetupError(self.nobody(f"topic {topic}") + "; is the objects' tracker running?")
                newest, heard[:] = heard[-1], []
                if arm:
                    q_rad = convert.robot_state(arm[-1], adapter.joints, (), RobotMode.MOVE).q_rad
                    arm[:] = arm[-1:]
                if enough(convert.object_states(newest), q_rad):
                    return True
                if time.monotonic() > end_s:
                    return False
        finally:
            for subscription in subscriptions:
                self.node.destroy_subscription(subscription)

    def parameters(self, node: str, names: Sequence[str]) -> list[Any]:
        """A node's values of these parameters."""
        request = convert.parameters_request(names)
        return convert.from_parameters(self.call(GetParameters, f"{node}/get_parameters", request))

    def driver(self) -> Adapter:
        """The driver stack whose arm the gate commands."""
        driver, arm = self.parameters(GATE, ("driver", "arm"))
        return load_adapter(driver, arm)

    # --- what they do when asked ------------------------------------------------------------------------------------

    def start(self, task: str, seed: int, episode_id: str = "") -> tuple[bool, str, str]:
        """Start an episode: whether it was accepted, what to know about it, and its name."""
        request = convert.start_request(task, seed, episode_id)
        return convert.from_start_response(self.call(StartEpisode, Names.START_EPISODE, request))

    def reset_twin(self, task: str, seed: int, start: str = "") -> tuple[bool, str, float]:
        """Put the twin's scene into a task's initial state: whether, why not, and since when in the twin's clock.

        Args:
            start: one of `STARTS`; empty: as the twin's condition says.

        Raises:
            SetupError: nobody answers; or there is a stack, and its arm is a robot.
        """
        self.need_twin()
        request = convert.reset_request(task, seed, start)
        return convert.from_reset_response(self.call(ResetTwin, Names.TWIN_RESET, request))

    def need_twin(self) -> None:
        """Raises SetupError where nobody answers, and where there is a stack, but its arm is a robot."""
        there, gate_since_s = self.meet(ResetTwin, Names.TWIN_RESET).service_is_ready, math.inf

        def decided() -> bool:
            nonlocal gate_since_s
            if self.sees(GATE):
                gate_since_s = min(gate_since_s, time.monotonic())
            alone = time.monotonic() - gate_since_s > ALSO_S and not self.sees(TWIN)
            return there() or alone

        self.within(decided, self.timeout_s)
        if there():
            return
        if self.sees(GATE) and not self.sees(TWIN):
            raise SetupError(
                "this stack has no twin, it commands a robot; put things back by hand (`skimo scene --wait` says what "
                "goes where)"
            )
        raise SetupError(self.nobody(f"service {Names.TWIN_RESET}"))

    def episode(self) -> PolicyReport | None:
        """The episode that runs or is held; None: there is none, or nobody tells of one in time."""
        report = self.policy()
        return report if report is not None and report.state in ("resetting", *UNDER_WAY) else None

    def sees(self, name: str) -> bool:
        """Whether the stack has a node of that name."""
        own = namespace_of(self.node.get_namespace())
        found = self.node.get_node_names_and_namespaces()
        return any(node == name and namespace_of(below) == own for node, below in found)

    def reset_stop(self, generation: int) -> tuple[bool, str]:
        """Clear the stop of that generation, and no newer one."""
        return convert.from_trigger(self.call(ResetGate, Names.GATE_RESET_STOP, convert.reset_stop_request(generation)))

    def clear_stop(self, patience_s: float, say: Callable[[str], object] = lambda line: None) -> tuple[bool, str]:
        """Look at the gate's stop, say it, and clear it, and no newer one; asked again for so long while it is refused.

        Raises:
            SetupError: nobody answers.
        """
        report = self.gate()
        if report is None:
            raise SetupError(self.nobody(f"topic {Names.GATE}"))
        if report.latched:
            say(f"clearing STOP {report.decision.generation}: {'; '.join(report.decision.reasons)}")
        end_s = time.monotonic() + patience_s
        while True:
            cleared, text = self.reset_stop(report.decision.generation)
            if cleared or time.monotonic() > end_s:
                return cleared, text
            self.within(lambda: False, AGAIN_S)

    def recover(self, adapter: Adapter) -> tuple[bool, str]:
        """Ask the driver to recover; return whether it says that it did, and its words.

        Raises:
            SetupError: nobody answers, or the driver's types are not installed.
        """
        kind = recovery_type(adapter)
        if adapter.recovery_kind == "service":
            return convert.from_recovery(self.call(kind, adapter.recovery))
        client = ActionClient(self.node, kind, adapter.recovery)
        try:
            if not self.within(client.server_is_ready, self.timeout_s):
                raise SetupError(self.nobody(f"action {adapter.recovery}"))
            handle = self._result(client.send_goal_async(kind.Goal()), adapter.recovery)
            if not handle.accepted:
                return False, "the driver refused to try"
            answer = self._result(handle.get_result_async(), adapter.recovery)
            recovered = answer.status == GoalStatus.STATUS_SUCCEEDED
            return recovered, "" if recovered else "the driver tried and failed; its log says why"
        finally:
            client.destroy()

    def follow(self, episode_id: str, say: Callable[[PolicyReport], object], held_s: float) -> PolicyReport:
        """Wait for an episode's end; return the last that was told of it.

        Args:
            say: hears of each change of state, reason or progress.
            held_s: how long it may be held in one go.

        Raises:
            SetupError: the policy's node fell silent.
            BackendError: it was held for longer, or another episode took its place.
        """
        heard: list[PlanStatus] = []
        subscription = self.node.create_subscription(PlanStatus, Names.PLAN_STATUS, heard.append, LATEST_QOS)
        last: PolicyReport | None = None
        free_s = time.monotonic()
        try:
            while last is None or last.state != "done":
                report = self._next(heard)
                if report.episode_id != episode_id:
                    if last is not None or time.monotonic() - free_s > SILENT_S:
                        other = report.episode_id or "none"
                        raise BackendError(f"episode {episode_id} ended unseen; now there is {other}")
                    continue
                if last is None or _told(report) != _told(last):
                    say(report)
                last = report
                free_s = free_s if report.state == "held" else time.monotonic()
                if time.monotonic() - free_s > held_s:
                    raise BackendError(f"held for {held_s:g} s: {report.reason}; `skimo reset` goes on with it")
            return last
        finally:
            self.node.destroy_subscription(subscription)

    def _next(self, heard: list[PlanStatus]) -> PolicyReport:
        if not self.within(lambda: bool(heard), SILENT_S):
            raise SetupError(f"{POLICY} has said nothing for {SILENT_S:g} s; has it ended? `skimo status` looks")
        return convert.from_plan_status(heard.pop(0))

    def _result(self, future: Any, name: str) -> Any:
        if not self.within(future.done, self.timeout_s):
            raise SetupError(f"{name} took the request and gave no answer within {self.timeout_s:g} s")
        return future.result()

    def _pass_time(self) -> None:
        if self._executor is not None:
            self._executor.spin_once(timeout_sec=SPIN_S)
        else:
            time.sleep(SLEEP_S)


def _told(report: PolicyReport) -> tuple[str, str, int]:
    return report.state, report.reason, report.subtasks_done


def init_ros() -> None:
    """Start this process's ROS context once; raises SetupError where ROS_DOMAIN_ID is no domain."""
    if not rclpy.ok():
        rclpy.init(domain_id=ros_domain())


def end_ros() -> None:
    """End this process's ROS context, so that the next may be of another ROS domain."""
    rclpy.try_shutdown()
