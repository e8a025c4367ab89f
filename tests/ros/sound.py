"""A sound message for each topic of the stack, stamped now: what mutations begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from franka_msgs.msg import FrankaRobotState
from ros.ros_harness import Watcher
from sensor_msgs.msg import JointState
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg

from skimo_core.contract.types import GripperCommand, ObjectStates, RobotState, Verdict
from skimo_core.control.actuate import Actuator
from skimo_core.control.loop import Step, StepKind
from skimo_core.control.reports import Episode, EpisodeNews, PolicyReport, StepRecord
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.safety.gate import Decision
from skimo_ros import conversions as convert
from skimo_ros.adapters import load_adapter
from skimo_ros.nodes import Names, now_s
from skimo_ros.reports import GateReport

ADAPTER = load_adapter("twin")
LIMITS = load_limits()
DOMAIN = load_domain()
EPISODE = Episode(episode_id="sound", task="kitchen", subtasks=("kettle",), seed=1, bundle_id="b")


def sound_messages(watcher: Watcher) -> dict[str, Callable[[], Any]]:
    """By topic, what makes one."""

    def now() -> float:
        return now_s(watcher.node)

    def trajectory() -> Any:
        command = Actuator(LIMITS, DOMAIN.action).command(np.full(9, 0.2, np.float32), now())
        return convert.to_trajectory(command.trajectory, ADAPTER.joints, sender="/gate_node")

    def robot() -> RobotState:
        still = np.zeros(7)
        return RobotState(
            stamp_s=now(), q_rad=LIMITS.home_q_rad, dq_rad_s=still, tau_nm=still, finger_m=np.array([0.01, 0.01])
        )

    def objects() -> Any:
        names = DOMAIN.observation.objects
        values = np.zeros(len(names))
        return convert.fill_object_states(ObjectStatesMsg(), ObjectStates(stamp_s=now(), names=names, values=values))

    def franka() -> FrankaRobotState:
        filler = convert.FrankaStateFiller(FrankaRobotState, ADAPTER.joints, ADAPTER.base_frame)
        return filler.fill(robot(), LIMITS.home_q_rad, np.zeros(7))

    def gate() -> Any:
        decision = Decision(verdict=Verdict.HOLD, reasons=("sound: message",), command=None, generation=0)
        report = GateReport(decision=decision, latched=False, commands=1, limited=0, held=1, stops=0, state_age_s=0.0)
        return convert.to_gate_event(report, now())

    def step() -> Any:
        record = StepRecord(
            index=0,
            due_s=now(),
            step=Step(kind=StepKind.ACT),
            observation_O=np.zeros(DOMAIN.observation.size, np.float32),
            applied_A=np.zeros(DOMAIN.action.size, np.float32),
            verdict=Verdict.PASS,
        )
        return convert.to_episode_step(record, "sound")

    def event() -> Any:
        return convert.to_episode_event(EpisodeNews(kind="start", stamp_s=now(), episode=EPISODE))

    def joints() -> JointState:
        return convert.fill_joint_state(JointState(), robot(), ADAPTER.joints, ADAPTER.fingers)

    goal = GripperCommand(kind="move", width_m=0.05, speed_m_s=0.1)
    return {
        f"/{Names.PROPOSED}": trajectory,
        f"/{ADAPTER.command}": trajectory,
        f"/{ADAPTER.joint_states}": joints,
        f"/{ADAPTER.robot_state}": franka,
        f"/{ADAPTER.object_states}": objects,
        f"/{Names.GRIPPER}": lambda: convert.to_gripper(goal, now()),
        f"/{Names.GATE}": gate,
        f"/{Names.EPISODE}": event,
        f"/{Names.EPISODE_STEP}": step,
        f"/{Names.PLAN_STATUS}": lambda: convert.to_plan_status(
            PolicyReport(state="running"), now(), with_prediction=False
        ),
    }
