"""The gate as a process of its own: the only one that commands the driver.

Promises
  - A proposed trajectory goes on to the driver only if the gate lets it (skimo_core.safety.gate); so does a hand goal.
  - A policy that falls silent is no fault: what it sent last ends at rest. A robot state that is lost, or an error
    mode of the robot, stops the arm, whether commands come or not.
  - A stop stays until gate/reset, which a human calls; it is refused while its cause lasts. Robot errors are never
    cleared here.
  - Every verdict that is not PASS is told on skimo/gate as it happens, the newest also to those who join later, and
    once a second in any case.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from skimo_msgs.msg import EpisodeEvent, GateEvent
from skimo_msgs.msg import GripperCommand as GripperMsg
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.errors import SpecError
from skimo_core.safety.checks import GateConfig
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.limits import RobotLimits
from skimo_core.types import GripperCommand, JointCommand, JointTrajectory, RobotState, Verdict

from . import conversions as convert
from .adapters import load_adapter
from .arm_state import ArmState
from .gripper_client import GripperClient
from .nodes import COMMAND_QOS, EVENT_QOS, LATEST_QOS, Names, now_s, only_one, run
from .parameters import DRIVER, ROBOT, Parameter, declare
from .reports import GateReport
from .robots import limits_of

_DEFAULT = GateConfig()
PARAMETERS = (
    *DRIVER,
    *ROBOT,
    Parameter(
        "state_age_max_s", _DEFAULT.state_age_max_s, "with an older robot state nothing goes on", low=0.01, high=1.0
    ),
    Parameter("state_lost_s", _DEFAULT.state_lost_s, "an older robot state stops the arm", low=0.01, high=5.0),
    Parameter("command_age_max_s", _DEFAULT.command_age_max_s, "an older command is refused", low=0.01, high=1.0),
    Parameter(
        "start_gap_rad", _DEFAULT.start_gap_rad, "bound on a trajectory's jump at its start", low=0.001, high=0.5
    ),
    Parameter("workspace_low_m", [0.0], "box in the base frame, x y z; [0.0]: the robot's own"),
    Parameter("workspace_high_m", [0.0], "box in the base frame, x y z; [0.0]: the robot's own"),
    Parameter("watch_rate_hz", 25.0, "how often the robot is looked at without a command", low=10.0, high=200.0),
)
REST_RAD_S = 0.05
"""Joint speeds below this count as rest when the arm's position is taken over at an episode's start."""


class GateNode(Node):
    """Stands between skimo/proposed and the driver."""

    def __init__(self) -> None:
        super().__init__("gate_node")
        values = declare(self, PARAMETERS)
        self._only_one = only_one(self)
        self.adapter = load_adapter(values["driver"], values["arm"])
        self.limits = limits_of(self.adapter, values["robot"])
        self.gate = Gate(self.limits, _config(values))
        _warm_up(self.gate, self.limits)
        self._stops = 0
        self._told: Decision | None = None
        self._resync_after_s: float | None = None
        self._driver = self.create_publisher(TrajectoryMsg, self.adapter.command, COMMAND_QOS)
        self._events = self.create_publisher(GateEvent, Names.GATE, LATEST_QOS)
        self._health = self.create_publisher(DiagnosticArray, Names.DIAGNOSTICS, EVENT_QOS)
        self._hand = GripperClient(self, self.adapter, self.limits.hand_width_max_m, self._judge_hand)
        self._state = ArmState(self, self.adapter, objects=False)
        self.create_subscription(TrajectoryMsg, Names.PROPOSED, self._propose, COMMAND_QOS)
        self.create_subscription(GripperMsg, Names.GRIPPER, self._propose_hand, EVENT_QOS)
        self.create_subscription(EpisodeEvent, Names.EPISODE, self._episode, EVENT_QOS)
        self.create_service(Trigger, Names.GATE_RESET, self._reset)
        self.create_service(Trigger, Names.GATE_STOP, self._stop)
        self.create_service(Trigger, Names.GATE_HOLD, self._hold)
        self.create_timer(1.0 / values["watch_rate_hz"], self._watch)
        self.create_timer(1.0, self._tell_health)
        self.get_logger().info(f"gate ready: commands go to {self.adapter.command!r} of {self.adapter.name}")

    def close(self) -> None:
        """The last thing that the driver hears is a way to rest."""
        if self.context.ok():
            self._pass_on(self.gate.hold(now_s(self)))
        self._hand.close()

    def _propose(self, message: TrajectoryMsg) -> None:
        now = now_s(self)
        try:
            trajectory = convert.from_trajectory(message, self.adapter.joints, now)
        except SpecError as error:
            self.get_logger().warning(f"proposal refused: {error}")
            return
        self._pass_on(self.gate.consider(JointCommand(trajectory=trajectory), self._robot(), now))

    def _propose_hand(self, message: GripperMsg) -> None:
        try:
            goal = convert.from_gripper(message)
        except SpecError as error:
            self.get_logger().warning(f"hand goal refused: {error}")
            return
        self._hand.send(goal)

    def _judge_hand(self, goal: GripperCommand) -> Decision:
        """The gate's word on a goal, asked before each attempt to send it."""
        decision = self.gate.consider_hand(goal, self._robot(), now_s(self))
        self._pass_on(decision)
        return decision

    def _pass_on(self, decision: Decision) -> None:
        """Send what may go on; tell what is worth telling."""
        if decision.command is not None:
            self._driver.publish(convert.to_trajectory(decision.command.trajectory, self.adapter.joints))
        told = self._told
        changed = told is None or decision.verdict is not told.verdict or decision.generation != told.generation
        if changed and decision.verdict is Verdict.STOP:
            self._stops += 1
            self.get_logger().error(
                f"STOP {decision.generation}: {'; '.join(decision.reasons)}; reset with `skimo reset`"
            )
        if changed or (decision.verdict is not Verdict.PASS and decision.verdict is not Verdict.STOP):
            self._tell(decision)

    def _tell(self, decision: Decision) -> None:
        self._told = decision
        now = now_s(self)
        robot, counts = self._robot(), self.gate.counts.by_verdict
        report = GateReport(
            decision=replace(decision, reasons=(*decision.reasons, *self._hand.complaints)),
            latched=self.gate.stopped,
            commands=sum(counts.values()),
            limited=counts[Verdict.LIMIT],
            held=counts[Verdict.HOLD],
            stops=self._stops,
            state_age_s=now - robot.stamp_s if robot is not None else -1.0,
        )
        self._events.publish(convert.to_gate_event(report, now))

    def _watch(self) -> None:
        decision = self.gate.watch(self._robot(), now_s(self))
        if decision.verdict is Verdict.STOP:
            self._pass_on(decision)

    def _tell_health(self) -> None:
        now = now_s(self)
        decision = self.gate.watch(self._robot(), now)
        self._pass_on(decision)
        self._tell(decision)
        level = "error" if self.gate.stopped else "warn" if self._hand.complaints else "ok"
        counts = {verdict.name.lower(): n for verdict, n in self.gate.counts.by_verdict.items()}
        text = "; ".join((*self.gate.stopped_for, *self._hand.complaints)) or "ready"
        values = {**counts, "generation": self.gate.generation, "robot_mode": self._state.mode.name}
        values["hand"] = self._hand.report.words
        self._health.publish(convert.diagnostics(now, "skimo: gate", level, text, values))

    def _episode(self, message: EpisodeEvent) -> None:
        """At an episode's start the scene was reset: what is measured from then on is where the arm is."""
        news = convert.from_episode_event(message)
        if news.kind == "start":
            self._resync_after_s = news.stamp_s
            self._hand.drop("a new episode began")
            self._robot()

    def _robot(self) -> RobotState | None:
        """The newest robot state; the first after an episode's start says where the arm is."""
        robot = self._state.robot_or_none()
        if robot is not None and self._resync_after_s is not None and robot.stamp_s >= self._resync_after_s:
            self._resync_after_s = None
            if abs(robot.dq_rad_s).max() < REST_RAD_S:
                self.gate.resync(robot, now_s(self))
        return robot

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        cleared, text = self.gate.reset(self.gate.generation, self._robot(), now_s(self))
        self.get_logger().info(f"reset asked: {text}")
        self._tell_health()
        return convert.answer_trigger(response, cleared, text)

    def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._pass_on(self.gate.stop("gate/stop was called", now_s(self)))
        return convert.answer_trigger(response, True, f"stopped (stop {self.gate.generation})")

    def _hold(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._pass_on(self.gate.hold(now_s(self)))
        return convert.answer_trigger(response, True, "braking; the next command moves on")


def _warm_up(gate: Gate, limits: RobotLimits) -> None:
    """Judge one standstill with a copy, so that the first real command does not pay for what Python loads late."""
    still = np.zeros((1, len(limits.home_q_rad)))
    trajectory = JointTrajectory(
        start_s=0.0, times_s=np.array([0.1]), q_rad=limits.home_q_rad[None], dq_rad_s=still, ddq_rad_s2=still
    )
    robot = RobotState(stamp_s=0.0, q_rad=limits.home_q_rad, dq_rad_s=still[0], tau_nm=still[0], finger_m=np.zeros(2))
    Gate(limits, gate.config).consider(JointCommand(trajectory=trajectory), robot, 0.0)


def _config(values: dict) -> GateConfig:
    return GateConfig(
        state_age_max_s=values["state_age_max_s"],
        state_lost_s=values["state_lost_s"],
        command_age_max_s=values["command_age_max_s"],
        start_gap_rad=values["start_gap_rad"],
        workspace_low_m=_corner(values, "workspace_low_m"),
        workspace_high_m=_corner(values, "workspace_high_m"),
    )


def _corner(values: dict, name: str) -> tuple[float, float, float] | None:
    corner = values[name]
    if len(corner) == 1:
        return None
    if len(corner) != 3:
        raise SpecError(f"parameter {name} has {len(corner)} numbers, must have 3: x, y, z in the base frame, m")
    return corner[0], corner[1], corner[2]


def main() -> int:
    """Run the gate's node."""
    return run(GateNode)


if __name__ == "__main__":
    sys.exit(main())
