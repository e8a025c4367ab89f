"""What a page that looks on has heard: the newest of each topic, and when it came.

Promises
  - It publishes nothing and asks nothing. Every subscription is best effort and short but the recorder's (a message now
    and then), so that no publisher ever waits for whoever looks on; and none wakes anybody: what waits is taken when
    `listen` is called.
  - A message that can't be read is left out, and counted.
Ages in s of the steady clock since a message came here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from skimo_msgs.msg import GateEvent, HandStatus, ObjectStates, PlanCandidates, PlanStatus, RecorderStatus

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import FloatArray, Foreseen
from skimo_core.contract.types import Array, RobotMode
from skimo_core.control.reports import PolicyReport

from . import conversions as convert
from .hand import HandReport
from .nodes import LATEST_QOS, POLLED_STATE_QOS, STATE_QOS, Names
from .polling import PolledGroup, decode, subscribe_polled, take_all
from .reports import GateReport, RecorderReport
from .robots import Setup

LOOKED_ON_QOS = QoSProfile(depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
KEPT_VERDICTS, KEPT_TIMES = 40, 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A verdict or an event of the policy's, with the time of day at which it came."""

    at: str
    what: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Figures of the policy node at one moment; ms, and s of the steady clock."""

    at_s: float
    plan_ms: float
    act_ms: float
    tick_late_ms: float
    success_probability: float


@dataclass(slots=True)
class Seen:
    """The newest of everything; None: nothing came yet.

    Attributes:
        observation_O: channels as the domain orders them, NaN where nothing was told.
        predicted_PO: what the plan in force expects at its skills' boundaries.
        verdicts: those of the gate that were not like the one before, newest last.
        came_s: when the newest message of a topic came.
        unread: messages that could not be read.
    """

    observation_O: Array
    report: PolicyReport | None = None
    predicted_PO: FloatArray | None = None
    candidates: Foreseen | None = None
    gate: GateReport | None = None
    hand: HandReport | None = None
    recorder: RecorderReport | None = None
    verdicts: deque[Heard] = field(default_factory=lambda: deque(maxlen=KEPT_VERDICTS))
    times: deque[Times] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    came_s: dict[str, float] = field(default_factory=dict)
    unread: int = 0

    def age_s(self, topic: str, now_s: float) -> float:
        """How long ago the newest message of a topic came; infinite where none did."""
        return now_s - self.came_s.get(topic, -np.inf)


class Feed:
    """Listens for a page on somebody's node.

    Attributes:
        seen: what it heard.
        joint_states, object_states: the topics' names, for `Seen.age_s`.
    """

    def __init__(self, node: Node, setup: Setup, clock: Callable[[], float] = time.monotonic) -> None:
        self._spec, self._adapter, self._offset_rad = setup.domain.observation, setup.adapter, setup.rig.offset_rad
        self._clock = clock
        self._plan = ("", 0)
        self.seen = Seen(observation_O=np.full(self._spec.size, np.nan))
        self.joint_states, self.object_states = self._adapter.joint_states, self._adapter.object_states
        group = PolledGroup()
        topics: tuple[tuple[Any, str, QoSProfile, Callable[[Any], None]], ...] = (
            (JointState, self.joint_states, STATE_QOS, self._take_joints),
            (ObjectStates, self.object_states, STATE_QOS, self._take_objects),
            (PlanStatus, Names.PLAN_STATUS, POLLED_STATE_QOS, self._take_status),
            (PlanCandidates, Names.CANDIDATES, STATE_QOS, self._take_candidates),
            (GateEvent, Names.GATE, LOOKED_ON_QOS, self._take_verdict),
            (HandStatus, Names.HAND, POLLED_STATE_QOS, self._take_hand),
            (RecorderStatus, Names.RECORDER, LATEST_QOS, self._take_recorder),
        )
        self._topics = [
            (topic, subscribe_polled(node, kind, topic, qos, group, raw=True), use)
            for kind, topic, qos, use in topics
            if self._spec.joints or topic != self.joint_states
        ]

    def listen(self) -> None:
        """Take all that came since the last time."""
        for topic, subscription, use in self._topics:
            for data, _ in take_all(subscription):
                try:
                    use(decode(subscription.msg_type, data))
                    self.seen.came_s[topic] = self._clock()
                except SpecError:
                    self.seen.unread += 1

    def _take_joints(self, message: JointState) -> None:
        names, fingers = self._adapter.joints, self._adapter.fingers
        robot = convert.robot_state(message, names, fingers, RobotMode.UNKNOWN)
        offset_rad = self._offset_rad if len(self._offset_rad) == len(names) else 0.0
        self.seen.observation_O[: len(names)] = robot.q_rad - offset_rad
        if len(robot.finger_m) == self._spec.fingers:
            self.seen.observation_O[len(names) : len(names) + len(fingers)] = robot.finger_m

    def _take_objects(self, message: ObjectStates) -> None:
        objects = convert.object_states(message)
        told = dict(zip(objects.names, objects.values.tolist()))
        first = self._spec.joints + self._spec.fingers
        self.seen.observation_O[first:] = [told.get(name, np.nan) for name in self._spec.names[first:]]

    def _take_status(self, message: PlanStatus) -> None:
        report, now_s = convert.from_plan_status(message), self._clock()
        predicted_PO = convert.predicted(message, self._spec.size)
        if predicted_PO is not None or report.episode_id != self._plan[0]:
            self.seen.predicted_PO = predicted_PO
        if report.state == "done":
            self.seen.predicted_PO = self.seen.candidates = None
        before = self.seen.report
        if report.doubt and (before is None or report.doubt != before.doubt):
            self._note("DOUBT", (report.doubt,))
        if report.state == "held" and (before is None or before.state != "held"):
            self._note("HELD", (report.reason,))
        self._plan = (report.episode_id, report.plan_index)
        self.seen.report = report
        self.seen.times.append(
            Times(
                at_s=now_s,
                plan_ms=report.plan_ms,
                act_ms=report.act_ms,
                tick_late_ms=report.tick_late_ms,
                success_probability=report.success_probability,
            )
        )

    def _take_candidates(self, message: PlanCandidates) -> None:
        self.seen.candidates = convert.from_candidates(message, self._spec.size)

    def _take_verdict(self, message: GateEvent) -> None:
        report, before = convert.from_gate_event(message), self.seen.gate
        told = (report.decision.verdict, report.decision.reasons, report.decision.generation, report.latched)
        self.seen.gate = report
        if before is not None:
            old = (before.decision.verdict, before.decision.reasons, before.decision.generation, before.latched)
            if told == old:
                return
        self._note(verdict_words(report), report.decision.reasons)

    def _take_hand(self, message: HandStatus) -> None:
        self.seen.hand = convert.from_hand_status(message)

    def _take_recorder(self, message: RecorderStatus) -> None:
        self.seen.recorder = convert.from_recorder_status(message)

    def _note(self, what: str, reasons: tuple[str, ...]) -> None:
        self.seen.verdicts.append(Heard(at=time.strftime("%H:%M:%S"), what=what, reasons=reasons))


def verdict_words(report: GateReport) -> str:
    """What the gate says, in a word or two."""
    return f"STOP {report.decision.generation}" if report.latched else report.decision.verdict.name
