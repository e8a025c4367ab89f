"""A domain without an arm: the same commander, loop and gate, and nothing that a joint would be needed for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Plan
from skimo_core.contract.specs import SkillSpec
from skimo_core.contract.types import GripperCommand, JointCommand, ObjectStates, RobotMode, RobotState, Verdict
from skimo_core.control.actuate import Actuator
from skimo_core.control.commander import Arm, Commander
from skimo_core.control.loop import SkillLoop, StepKind
from skimo_core.control.planning import PlanOutcome, PlanRequest
from skimo_core.domain.cell import FREE
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import NO_ARM, load_limits
from skimo_core.safety.armless import ArmlessGate, gate_for
from skimo_core.safety.gate import Gate

MAZE = load_domain("maze")
NONE = load_limits(NO_ARM)
PUSH = np.array([0.5, -1.0], np.float32)


def robot(stamp_s: float, mode: RobotMode = RobotMode.IDLE) -> RobotState:
    none = np.zeros(0)
    return RobotState(stamp_s=stamp_s, q_rad=none, dq_rad_s=none, tau_nm=none, finger_m=none, mode=mode)


def told(due_s: float, action: np.ndarray = PUSH) -> JointCommand:
    return Actuator(NONE, MAZE.action).command(action, due_s)


# --- data -------------------------------------------------------------------------------------------------------------


def test_a_domain_without_joints_needs_no_robot_no_cell_and_may_be_faster_than_an_arm(tmp_path: Path) -> None:
    assert (MAZE.robot, MAZE.cell, MAZE.action.rate_hz, MAZE.action.joints) == (NO_ARM, "open", 100.0, 0)
    data = {
        "name": "point",
        "rate_hz": 100,
        "horizon": 10,
        "step_limit": 5,
        "action": {"others": ["force"]},
        "channels": [{"name": "x", "source": "object", "unit": "m"}],
        "subtasks": {"there": {"goal": {"x": 1.0}, "threshold": 0.1}},
    }
    path = tmp_path / "point.yaml"
    path.write_text(yaml.safe_dump(data))
    assert load_domain(path).robot == NO_ARM
    path.write_text(yaml.safe_dump({**data, "rate_hz": 2000}))
    with pytest.raises(SpecError, match="rate_hz is 2000, must lie in 1 to 1000"):
        load_domain(path)
    joint = [{"name": "j", "source": "joint", "unit": "rad"}, *data["channels"]]
    path.write_text(yaml.safe_dump({**data, "channels": joint, "rate_hz": 20}))
    with pytest.raises(SpecError, match="velocity_scale_rad_s"):
        load_domain(path)
    path.write_text(yaml.safe_dump({**data, "channels": joint, "rate_hz": 20, "action": {"velocity_scale_rad_s": 1}}))
    with pytest.raises(SpecError, match="has no 'robot'"):
        load_domain(path)


def test_the_robot_that_is_none_has_limits_of_no_joint_and_a_name_that_a_bundle_can_hold() -> None:
    assert NONE.joints == 0 and NONE.prefix == "" and NONE.capsules.of_pairs()[0].shape == (2, 0)
    assert NONE.accepts(load_limits(NO_ARM).digest) and not NONE.accepts(load_limits("panda").digest)


# --- the commander ----------------------------------------------------------------------------------------------------


def test_an_action_goes_out_as_it_is_for_a_period_and_is_recorded_if_it_was_passed_on() -> None:
    sent: list[JointCommand] = []
    clock = [0.0]
    arm = Arm(
        robot=lambda: robot(clock[0]),
        objects=lambda: ObjectStates(stamp_s=clock[0], names=(), values=np.zeros(0)),
        send=sent.append,
        clock=lambda: clock[0],
    )
    commander = Commander(NONE, MAZE.action, arm, contact=FREE)
    commander.reset(np.zeros(0), 0.0)
    for step in range(4):
        clock[0] = step * MAZE.action.period_s
        commander.send(PUSH, clock[0])
        command = sent[-1]
        assert command.others is not None and np.array_equal(command.others, PUSH) and command.gripper is None
        assert command.trajectory.start_s == clock[0] and command.trajectory.times_s.tolist() == [0.01]
        if passed := step % 2 == 0:
            commander.confirm(command.trajectory)
        assert commander.settle() == (0 if passed else 1)
        assert commander.fate().passed_on == passed
        assert np.array_equal(commander.applied(clock[0]), PUSH if passed else 0 * PUSH)
    commander.brake()
    commander.take_where_it_is()
    assert len(sent) == 4, "silence ends the action; a brake is nothing more"
    with pytest.raises(SpecError, match="below the bound -1"):
        commander.send(2 * PUSH, 0.1)
    with pytest.raises(SpecError, match="0 joints, robot panda has 7"):
        Commander(load_limits("panda"), MAZE.action, arm)


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_whoever_asks_for_a_gate_gets_the_one_that_fits() -> None:
    assert type(gate_for(NONE)) is ArmlessGate and type(gate_for(load_limits("panda"))) is Gate


def test_good_actions_pass_unchanged() -> None:
    gate = gate_for(NONE)
    for step in range(50):
        now_s = 0.01 * step
        decision = gate.consider(told(now_s), robot(now_s), now_s)
        assert decision.verdict is Verdict.PASS, decision.reasons
        assert decision.command is not None and decision.command.others is not None
        assert np.array_equal(decision.command.others, PUSH)
        assert gate.watch(robot(now_s), now_s).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("command", "state", "verdict", "words"),
    [
        (replace(told(0.0), others=np.array([0.0, 1.5])), robot(0.0), Verdict.HOLD, "one is 1.5 in size, bound 1"),
        (replace(told(0.0), others=None), robot(0.0), Verdict.HOLD, "told its own actions"),
        (replace(told(0.0), others=np.array([0.0, np.nan])), robot(0.0), Verdict.STOP, "not all finite"),
        (told(-0.03), robot(0.0), Verdict.HOLD, "ended 20 ms ago"),
        (told(-0.2), robot(0.0), Verdict.HOLD, "the command is 200 ms old"),
        (told(0.0), robot(-0.2), Verdict.HOLD, "robot state is 200 ms old"),
        (told(0.0), robot(-1.0), Verdict.STOP, "robot state is 1000 ms old"),
        (told(0.0), None, Verdict.STOP, "no robot state came"),
        (told(0.0), robot(0.0, RobotMode.USER_STOPPED), Verdict.STOP, "robot mode is USER_STOPPED"),
    ],
)
def test_what_is_not_fit_does_not_pass(
    command: JointCommand, state: RobotState | None, verdict: Verdict, words: str
) -> None:
    gate = gate_for(NONE)
    gate.resync(robot(-0.01), -0.01)
    decision = gate.consider(command, state, 0.0)
    assert decision.verdict is verdict and decision.command is None
    assert words in "; ".join(decision.reasons)


def test_an_older_action_does_not_replace_a_newer_one_and_a_hand_there_is_none() -> None:
    gate = gate_for(NONE)
    assert gate.consider(told(0.01), robot(0.01), 0.01).verdict is Verdict.PASS
    assert "before one already followed" in gate.consider(told(0.005), robot(0.011), 0.011).reasons[0]
    hand = GripperCommand(kind="grasp", width_m=0.0, speed_m_s=0.1)
    assert gate.consider_hand(hand, robot(0.02), 0.02).verdict is Verdict.HOLD


def test_a_stop_stays_until_a_human_resets_that_very_one() -> None:
    gate = gate_for(NONE)
    gate.consider(told(0.0), robot(0.0), 0.0)
    assert gate.stop("a test", 0.01).command is None
    assert gate.consider(told(0.02), robot(0.02), 0.02).verdict is Verdict.STOP
    assert not gate.reset(gate.generation - 1, robot(0.03), 0.03)[0]
    assert gate.reset(gate.generation, robot(0.03), 0.03)[0]
    assert gate.consider(told(0.04), robot(0.04), 0.04).verdict is Verdict.PASS
    assert gate.hold(robot(0.05), 0.05).verdict is Verdict.HOLD
    assert gate.watch(robot(0.06), 0.4).verdict is Verdict.HOLD
    assert gate.watch(robot(0.06), 0.7).verdict is Verdict.STOP, "a silent twin is a fault"


# --- the loop ---------------------------------------------------------------------------------------------------------


class Fresh:
    """Plans in no time, and notes from which observation."""

    took_s = 0.0

    def __init__(self) -> None:
        self.seen: list[float] = []
        self._outcome: PlanOutcome | None = None

    def submit(self, request: PlanRequest) -> None:
        self.seen.append(float(request.observation_O[0]))
        skills = np.zeros((2, 3), np.float32)
        plan = Plan(
            skills_PZ=skills,
            warm_start_PZ=skills,
            value=0.0,
            predicted_PO=np.zeros((2, 4), np.float32),
            success_probability=0.0,
            bundle_id="b",
        )
        self._outcome = PlanOutcome(index=request.index, plan=plan)

    def take(self) -> PlanOutcome | None:
        outcome, self._outcome = self._outcome, None
        return outcome

    def clear(self) -> None:
        self._outcome = None


def test_without_a_lead_each_skill_is_planned_from_where_it_begins_and_none_is_late() -> None:
    planning = Fresh()
    spec = SkillSpec(horizon=10, dim=3, plan_length=2)
    loop = SkillLoop(MAZE.task(), spec, lambda *_: PUSH, planning, period_s=0.01, joints=0, lead_s=0.0)
    for step in range(45):
        done = loop.step(np.array([step, 30, 0, 0], np.float32))
        assert done.kind is StepKind.ACT and done.step_in_skill == step % 10
        assert (done.new_plan is not None) == (step % 10 == 0)
        assert done.action_A is not None and np.array_equal(done.action_A, PUSH)
    assert planning.seen == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert loop.counts.late_plans == loop.counts.missed == 0
