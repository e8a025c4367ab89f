"""The gate as a process of its own: the only one that commands the driver.

Promises
  - A proposed trajectory goes on to the driver only if the gate lets it (skimo_core.safety.gate); so does a hand goal.
  - While anybody else publishes to the driver, or a second node on what the gate listens to, nothing moves; if
    something does, it is stopped (skimo_ros.company). The reason names the node.
  - It judges true joint angles, as the rig corrects them; what the driver hears is in its encoders' terms.
  - A policy that falls silent is no fault: what it sent last ends at rest. A robot state that is lost, or an error
    mode of the robot, stops the arm, whether commands come or not.
  - A stop stays until a human resets it; that is refused while its cause lasts. gate/reset_stop clears the stop whose
    generation it names. gate/reset names none, so it clears a stop only if that has been told for TOLD_S: long enough
    that whoever calls can have seen it. Robot errors are never cleared here.
  - Every verdict that is not PASS is told on skimo/gate as it happens, the newest also to those who join later, and
    once a second in any case.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.serialization import serialize_message
from skimo_msgs.msg import EpisodeEvent, GateEvent
from skimo_msgs.msg import GripperCommand as GripperMsg
from skimo_msgs.srv import ResetGate
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.contract.types import GripperCommand, JointCommand, JointTrajectory, RobotState, Verdict
from skimo_core.control import rigged
from skimo_core.control.clocks import JumpWatch
from skimo_core.domain.cell import load_cell
from skimo_core.domain.robot import RobotLimits
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.situation import gate_in_time

from . import conversions as convert
from . import ending
from .arm_state import ArmState
from .company import Company
from .ending import AFTER_POLICY
from .gripper_client import GripperClient
from .nodes import COMMAND_QOS, EVENT_QOS, LATEST_QOS, Names, component, now_s, only_one, run
from .parameters import CELL, SETUP, Parameter, declare
from .reports import GateReport
from .robots import set_up
from .settings import GATE, gate_config

PARAMETERS = (
    *SETUP,
    *GATE,
    CELL,
    Parameter(
        "settle_s", 1.0, "how long after the start nothing moves, so that others are discovered", low=0.0, high=30.0
    ),
    Parameter("watch_rate_hz", 25.0, "how often the robot is looked at without a command", low=10.0, high=200.0),
)
TOLD_S = 1.0
"""A stop that gate/reset may clear has been told for so long; gate/reset_stop, which names it, need not wait."""
JUMP_S = 0.1
"""Between two looks, 40 ms apart, no clock that is merely slewed goes so far from the steady one."""
REST_RAD_S = 0.05
"""Joint speeds below this count as rest when the arm's position is taken over at an episode's start."""


class GateNode(Node):
    """Stands between skimo/proposed and the driver."""

    ends_after = AFTER_POLICY

    def __init__(self) -> None:
        super().__init__("gate_node")
        values = declare(self, PARAMETERS)
        self._only_one = only_one(self)
        setup = set_up(values)
        self.adapter, self.limits = setup.adapter, setup.limits
        self._rig = setup.rig
        self.cell = load_cell(values["cell"] or setup.domain.cell)
        self.gate = Gate(self.limits, gate_in_time(gate_config(values), self._rig), cell=self.cell)
        _warm_up(self.gate, self.limits)
        self._stops = 0
        self._heard = False
        self._stopped_at_s = -np.inf
        self._rest_at_s = -np.inf
        self._told: Decision | None = None
        self._resync_after_s: float | None = None
        self._driver = self.create_publisher(TrajectoryMsg, self.adapter.command, COMMAND_QOS)
        self._events = self.create_publisher(GateEvent, Names.GATE, LATEST_QOS)
        self._health = self.create_publisher(DiagnosticArray, Names.DIAGNOSTICS, EVENT_QOS)
        self._hand = GripperClient(self, self.adapter, self.limits.hand_width_max_m, self._judge_hand)
        self._state = ArmState(self, self.adapter, self._rig, objects=False)
        inputs = (
            self.create_subscription(TrajectoryMsg, Names.PROPOSED, self._propose, COMMAND_QOS),
            self.create_subscription(GripperMsg, Names.GRIPPER, self._propose_hand, EVENT_QOS),
        )
        simulated = self.get_parameter("use_sim_time").value
        self._jumps = JumpWatch(lambda: now_s(self), None if simulated else time.monotonic, JUMP_S)
        self._company = Company(self, self.adapter, self._state, inputs, values["settle_s"])
        self.create_subscription(EpisodeEvent, Names.EPISODE, self._episode, EVENT_QOS)
        self.create_service(Trigger, Names.GATE_RESET, self._reset)
        self.create_service(ResetGate, Names.GATE_RESET_STOP, self._reset_stop)
        self.create_service(Trigger, Names.GATE_STOP, self._stop)
        self.create_service(Trigger, Names.GATE_HOLD, self._hold)
        self.create_timer(1.0 / values["watch_rate_hz"], self._watch)
        self.create_timer(1.0, self._tell_health)
        if not self.adapter.tells_state:
            self.get_logger().warning(
                f"driver {self.adapter.name} tells no robot state: reflexes, user stops and external torques are not "
                "seen here; joint states alone are judged"
            )
        self.get_logger().info(f"gate ready: commands go to {self.adapter.command!r} of {self.adapter.name}")

    def brake(self) -> None:
        """The last thing that the driver hears is a way to rest."""
        self._pass_on(self.gate.hold(self._robot(), now_s(self)))

    def at_rest(self) -> bool:
        """Whether the arm rests; one that is not heard of counts as resting, nothing more can be done for it."""
        robot = self._state.robot_or_none()
        return robot is None or bool(abs(robot.dq_rad_s).max() < ending.REST_RAD_S)

    def close(self) -> None:
        """Let go of the hand's driver."""
        self._hand.close()

    def _propose(self, message: TrajectoryMsg) -> None:
        now = now_s(self)
        trajectory = convert.from_trajectory(message, self.adapter.joints, now)
        decision = self._refusal(now)
        if decision is None:
            decision = self.gate.consider(JointCommand(trajectory=trajectory), self._robot(), now)
        else:
            self.gate.counts.by_verdict[decision.verdict] += 1
        self._pass_on(decision)

    def _propose_hand(self, message: GripperMsg) -> None:
        self._hand.send(convert.from_gripper(message))

    def _judge_hand(self, goal: GripperCommand) -> Decision:
        """The gate's word on a goal, asked before each attempt to send it."""
        now = now_s(self)
        decision = self._refusal(now) or self.gate.consider_hand(goal, self._robot(), now)
        self._pass_on(decision)
        return decision

    # --- who else is there ------------------------------------------------------------------------------------------

    def _refusal(self, now: float) -> Decision | None:
        """STOP for a clock that jumped; HOLD or STOP while somebody else commands, or may do so unseen; else None."""
        jumped = self._jumps.words()
        self._jumps.restart()
        if jumped:
            return self.gate.stop(f"clock_jumped: {jumped}; commands and states are from another time", now)
        foreign = self._company.foreign_command()
        if foreign:
            return self.gate.stop(f"second_commander: {foreign}", now)
        others = self._company.others()
        if others and now < self._rest_at_s:
            return self.gate.stop(f"second_commander: {others}", now)
        self._heard = self._heard or self._robot() is not None
        if self.gate.stopped or not (others or self._company.settling or not self._heard):
            return None
        waits_for = "who else is in the domain" if self._company.settling else "for the robot's first state"
        reason = f"second_commander: {others}" if others else f"settling: looking {waits_for}"
        return Decision(verdict=Verdict.HOLD, reasons=(reason,), command=None, generation=self.gate.generation)

    def _pass_on(self, decision: Decision) -> None:
        """Send what may go on; tell what is worth telling."""
        if decision.command is not None:
            self._send(decision.command.trajectory)
        told = self._told
        changed = told is None or decision.verdict is not told.verdict or decision.generation != told.generation
        if changed and decision.verdict is Verdict.STOP:
            self._stops += 1
            self._stopped_at_s = time.monotonic()
            self.get_logger().error(
                f"STOP {decision.generation}: {'; '.join(decision.reasons)}; reset with `skimo reset`"
            )
        if changed or (decision.verdict is not Verdict.PASS and decision.verdict is not Verdict.STOP):
            self._tell(decision)

    def _send(self, trajectory: JointTrajectory) -> None:
        """Publish to the driver, as bytes: the same that will come back to `Company`."""
        sender = self.get_fully_qualified_name()
        message = convert.to_trajectory(rigged.told(trajectory, self._rig), self.adapter.joints, sender=sender)
        data = serialize_message(message)
        self._company.sent(data)
        self._rest_at_s = trajectory.start_s + float(trajectory.times_s[-1])
        self._driver.publish(data)

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

    def _look(self) -> Decision:
        """Look at the robot, and at who else is there."""
        now = now_s(self)
        refusal = self._refusal(now)
        seen = self.gate.watch(self._robot(), now)
        return seen if refusal is None or seen.verdict >= refusal.verdict else refusal

    def _watch(self) -> None:
        decision = self._look()
        if decision.verdict is Verdict.STOP:
            self._pass_on(decision)

    def _tell_health(self) -> None:
        now = now_s(self)
        decision = self._look()
        if not self._company.settling:  # whoever waits for a first word of the gate waits until it may be commanded
            self._pass_on(decision)
            self._tell(decision)
        skew, skew_s = self._state.skew.words(), self._state.skew.skew_s
        blocked = "; ".join(decision.reasons) if decision.verdict is Verdict.HOLD else ""
        hand = "; ".join(self._hand.complaints)
        level = "error" if self.gate.stopped or blocked else "warn" if skew or hand else "ok"
        counts = {verdict.name.lower(): n for verdict, n in self.gate.counts.by_verdict.items()}
        text = "; ".join(self.gate.stopped_for) or blocked or skew or hand or "ready"
        values = {
            **counts,
            "generation": self.gate.generation,
            "robot_mode": self._state.mode.name,
            "hand": self._hand.report.words,
            "others": self._company.others() or "none",
            "driver_clock_behind_ms": "unknown" if skew_s is None else 1e3 * skew_s,
        }
        self._health.publish(convert.diagnostics(now, component(self, "gate"), level, text, values))

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
        told_s = time.monotonic() - self._stopped_at_s
        if self.gate.stopped and told_s < TOLD_S:
            text = (
                f"stop {self.gate.generation} is {told_s:.1f} s old; gate/reset clears none younger than {TOLD_S:g} s: "
                f"look again, or name it to {Names.GATE_RESET_STOP}: {'; '.join(self.gate.stopped_for)}"
            )
            return convert.answer_trigger(response, False, text)
        return convert.answer_trigger(response, *self._clear(self.gate.generation))

    def _reset_stop(self, request: ResetGate.Request, response: ResetGate.Response) -> ResetGate.Response:
        return convert.answer_reset_stop(response, *self._clear(convert.from_reset_stop_request(request)))

    def _clear(self, generation: int) -> tuple[bool, str]:
        """Clear the stop of that generation, unless its cause lasts."""
        others = "; ".join(reason for reason in (self._company.foreign_command(), self._company.others()) if reason)
        if others and self.gate.stopped:
            cleared, text = False, f"second_commander: {others}"
        else:
            cleared, text = self.gate.reset(generation, self._robot(), now_s(self))
        self.get_logger().info(f"reset of stop {generation} asked: {text}")
        self._tell_health()
        return cleared, text

    def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._pass_on(self.gate.stop("gate/stop was called", now_s(self)))
        return convert.answer_trigger(response, True, f"stopped (stop {self.gate.generation})")

    def _hold(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._pass_on(self.gate.hold(self._robot(), now_s(self)))
        return convert.answer_trigger(response, True, "braking; the next command moves on")


def _warm_up(gate: Gate, limits: RobotLimits) -> None:
    """Judge one standstill with a copy, so that the first real command does not pay for what Python loads late."""
    still = np.zeros((1, len(limits.home_q_rad)))
    trajectory = JointTrajectory(
        start_s=0.0, times_s=np.array([0.1]), q_rad=limits.home_q_rad[None], dq_rad_s=still, ddq_rad_s2=still
    )
    robot = RobotState(stamp_s=0.0, q_rad=limits.home_q_rad, dq_rad_s=still[0], tau_nm=still[0], finger_m=np.zeros(2))
    Gate(limits, gate.config).consider(JointCommand(trajectory=trajectory), robot, 0.0)


def main() -> int:
    """Run the gate's node."""
    return run(GateNode)


if __name__ == "__main__":
    sys.exit(main())
