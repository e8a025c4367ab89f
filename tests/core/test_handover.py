"""What a real controller makes of what leaves the gate: no step where one trajectory takes over from another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.joint_trajectory_controller import PERIOD_S, JointTrajectoryController

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS, JointCommand, JointTrajectory, RobotState, Verdict
from skimo_core.control.actuate import Actuator
from skimo_core.control.pilot import act_deadline_s
from skimo_core.control.trajectory import TrajectoryFollower
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.safety.gate import Gate
from skimo_core.safety.path import ARRIVAL_S

LIMITS, ACTION = load_limits(), load_domain().action
STEPS, PERIODS_PER_STEP = 12, 80


def actions_HA(seed: int) -> np.ndarray:
    walk = np.cumsum(np.random.default_rng(seed).normal(0, 0.15, (STEPS, ACTION.size)), axis=0)
    return np.clip(walk, -0.6, 0.6).astype(np.float32)


def commanded(distribution: str, seed: int, *, gated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions [K, 7] at 1 kHz that a controller commands, and those that were foreseen."""
    rng = np.random.default_rng(seed)
    actuator, gate, foreseen = Actuator(LIMITS, ACTION), Gate(LIMITS), TrajectoryFollower(LIMITS.home_q_rad, 0.5)
    actuator.reset(LIMITS.home_q_rad, 0.5)
    controller = JointTrajectoryController(distribution, LIMITS.home_q_rad)
    sent: list[tuple[float, JointTrajectory]] = []
    path, reference = [], []
    still = np.zeros(JOINTS)
    for k, action in enumerate(actions_HA(seed)):
        due_s = 1.0 + k * ACTION.period_s
        command = actuator.command(action, due_s, due_s)
        q = foreseen.at(due_s)[0]
        robot = RobotState(stamp_s=due_s, q_rad=q, dq_rad_s=still, tau_nm=still, finger_m=np.zeros(2))
        if gated:
            decision = gate.consider(command, robot, due_s)
            assert decision.command is not None, decision.reasons
            command = decision.command
        foreseen.set(command.trajectory, due_s)
        sent.append((due_s + rng.uniform(0.0, ARRIVAL_S), command.trajectory))
        last = PERIODS_PER_STEP if k < STEPS - 1 else 400
        for n in range(last):
            time_s = due_s + n * PERIOD_S
            while sent and sent[0][0] <= time_s:
                assert controller.receive(sent.pop(0)[1], time_s) == ""
            path.append(controller.update(time_s))
        reference.append(foreseen.sample(due_s + np.arange(last) * PERIOD_S)[0])
    return np.array(path), np.concatenate(reference)


def worst(path: np.ndarray) -> tuple[float, float]:
    """Acceleration and jerk by backward differences, in limits."""
    ddq, dddq = np.diff(path, 2, axis=0) / PERIOD_S**2, np.diff(path, 3, axis=0) / PERIOD_S**3
    return float(np.abs(ddq / LIMITS.ddq_max_rad_s2).max()), float(np.abs(dddq / LIMITS.dddq_max_rad_s3).max())


@pytest.mark.parametrize("distribution", ["humble", "jazzy"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_controller_takes_over_what_leaves_the_gate_without_a_step(distribution: str, seed: int) -> None:
    path, reference = commanded(distribution, seed, gated=True)
    acceleration, jerk = worst(path)
    assert acceleration < 1.0 and jerk < 1.0
    ahead = 1 if distribution == "jazzy" else 0  # Jazzy commands what is due one period later
    gap = np.abs(path[20 : len(path) - ahead] - reference[20 + ahead :])
    assert gap.max() < 1e-6


@pytest.mark.parametrize("distribution", ["humble", "jazzy"])
def test_what_was_not_spliced_would_be_a_step_at_every_command(distribution: str) -> None:
    acceleration, _ = worst(commanded(distribution, 0, gated=False)[0])
    assert acceleration > 10


@pytest.mark.parametrize("rate_hz", [5.0, 12.5, 20.0, 40.0])
@pytest.mark.parametrize("robot", ["panda", "fr3"])
def test_the_gate_passes_what_actuation_makes_at_any_rate_and_lateness(rate_hz: float, robot: str) -> None:
    limits, spec = load_limits(robot), replace(ACTION, rate_hz=rate_hz)
    rng, period_s = np.random.default_rng(3), spec.period_s
    actuator, gate, arm = Actuator(limits, spec), Gate(limits), TrajectoryFollower(limits.home_q_rad)
    actuator.reset(limits.home_q_rad, 0.0)
    still = np.zeros(JOINTS)
    for k in range(80):
        due_s = k * period_s
        sent_s = due_s + rng.uniform(0.0, 0.9) * act_deadline_s(period_s)
        seen_s = sent_s + rng.uniform(0.0005, 0.003)  # when it is at the gate
        action = rng.uniform(-0.4, 0.4, spec.size).astype(np.float32)
        trajectory = actuator.command(action, due_s, sent_s).trajectory
        q = arm.at(seen_s)[0]
        robot_state = RobotState(stamp_s=seen_s, q_rad=q, dq_rad_s=still, tau_nm=still, finger_m=np.zeros(2))
        decision = gate.consider(JointCommand(trajectory=trajectory), robot_state, seen_s)
        assert decision.verdict is Verdict.PASS and decision.command is not None, (k, decision.reasons)
        arm.set(decision.command.trajectory, seen_s)
        actuator.adopt(decision.command.trajectory)


def test_a_rate_that_commands_can_not_keep_is_refused() -> None:
    with pytest.raises(SpecError, match="more than half a control period at 50 Hz"):
        Actuator(LIMITS, replace(ACTION, rate_hz=50.0))
