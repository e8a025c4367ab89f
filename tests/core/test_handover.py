"""What a real controller makes of our commands: no step where one trajectory takes over from another."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from support.joint_trajectory_controller import PERIOD_S, JointTrajectoryController

from skimo_core.actuate import Actuator
from skimo_core.handover import with_path_under_way
from skimo_core.safety.limits import load_limits
from skimo_core.tasks import kitchen
from skimo_core.trajectory import TrajectoryFollower, check_trajectory
from skimo_core.types import JOINTS, JointTrajectory

LIMITS, ACTION = load_limits(), kitchen().action
STEPS, PERIODS_PER_STEP = 12, 80
TRAVEL_S = (0.002, 0.009)
"""How long a command takes to the controller."""
LEAVE_S = 0.01


def actions_HA(seed: int) -> np.ndarray:
    walk = np.cumsum(np.random.default_rng(seed).normal(0, 0.15, (STEPS, ACTION.size)), axis=0)
    return np.clip(walk, -0.6, 0.6).astype(np.float32)


def commanded(distribution: str, seed: int, *, in_front: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions [K, 7] at 1 kHz that a controller commands, and those of our own follower of the same commands."""
    rng = np.random.default_rng(seed)
    actuator, follower = Actuator(LIMITS, ACTION), TrajectoryFollower(LIMITS.home_q_rad, 0.5)
    actuator.reset(LIMITS.home_q_rad, 0.5)
    controller = JointTrajectoryController(distribution, LIMITS.home_q_rad)
    sent: list[tuple[float, JointTrajectory]] = []
    path, reference = [], []
    for k, action in enumerate(actions_HA(seed)):
        due_s = 1.0 + k * ACTION.period_s
        trajectory = actuator.command(action, due_s).trajectory
        if in_front:
            trajectory = check_trajectory(with_path_under_way(trajectory, follower, due_s, due_s + LEAVE_S))
        follower.set(trajectory, due_s)
        sent.append((due_s + rng.uniform(*TRAVEL_S), trajectory))
        last = PERIODS_PER_STEP if k < STEPS - 1 else 400
        for n in range(last):
            time_s = due_s + n * PERIOD_S
            while sent and sent[0][0] <= time_s:
                assert controller.receive(sent.pop(0)[1], time_s) == ""
            path.append(controller.update(time_s))
        reference.append(follower.sample(due_s + np.arange(last) * PERIOD_S)[0])
    return np.array(path), np.concatenate(reference)


def worst(path: np.ndarray) -> tuple[float, float]:
    """Acceleration and jerk by backward differences, in limits."""
    ddq, dddq = np.diff(path, 2, axis=0) / PERIOD_S**2, np.diff(path, 3, axis=0) / PERIOD_S**3
    return float(np.abs(ddq / LIMITS.ddq_max_rad_s2).max()), float(np.abs(dddq / LIMITS.dddq_max_rad_s3).max())


@pytest.mark.parametrize("distribution", ["humble", "jazzy"])
@pytest.mark.parametrize("seed", [0, 1])
def test_with_the_path_under_way_in_front_a_controller_takes_over_without_a_step(distribution: str, seed: int) -> None:
    path, reference = commanded(distribution, seed, in_front=True)
    acceleration, jerk = worst(path)
    print(f"{distribution}: acceleration {acceleration:.2f}, jerk {jerk:.2f} limits")
    assert acceleration < 1.1 and jerk < 1.0
    ahead = 1 if distribution == "jazzy" else 0  # Jazzy commands what is due one period later
    gap = np.abs(path[20 : len(path) - ahead] - reference[20 + ahead :])
    assert gap.max() < 1e-6


@pytest.mark.parametrize("distribution", ["humble", "jazzy"])
def test_without_it_every_command_is_a_step(distribution: str) -> None:
    acceleration, _ = worst(commanded(distribution, 0, in_front=False)[0])
    assert acceleration > 10


def test_our_own_follower_makes_the_same_path_whenever_it_takes_it() -> None:
    rng = np.random.default_rng(0)
    actuator = Actuator(LIMITS, ACTION)
    actuator.reset(LIMITS.home_q_rad, 0.5)
    plain = TrajectoryFollower(LIMITS.home_q_rad, 0.5)
    for k in range(30):
        due_s = 1.0 + k * ACTION.period_s
        trajectory = actuator.command(rng.uniform(-1, 1, ACTION.size).astype(np.float32), due_s).trajectory
        since_s = due_s + rng.uniform(0, 0.03)  # so late, some of them, that points have passed
        fronted = copy.copy(plain)
        longer = check_trajectory(with_path_under_way(trajectory, plain, since_s, since_s + LEAVE_S))
        fronted.set(longer, since_s + rng.uniform(0, 0.9 * LEAVE_S))
        plain.set(trajectory, since_s + LEAVE_S)
        times = since_s + LEAVE_S + np.linspace(0, 0.3, 50)
        for a, b in zip(plain.sample(times), fronted.sample(times)):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_a_trajectory_that_ends_before_it_can_be_joined_comes_back_as_it_is() -> None:
    still = np.zeros((2, JOINTS))
    trajectory = JointTrajectory(
        start_s=1.0, times_s=np.array([0.01, 0.5]), q_rad=still, dq_rad_s=still, ddq_rad_s2=still
    )
    follower = TrajectoryFollower(np.zeros(JOINTS), 0.5)
    assert with_path_under_way(trajectory, follower, 1.5, 1.51) is trajectory


def test_what_a_controller_refuses() -> None:
    still = np.zeros((2, JOINTS))
    good = JointTrajectory(start_s=1.0, times_s=np.array([0.1, 0.5]), q_rad=still, dq_rad_s=still, ddq_rad_s2=still)
    controller = JointTrajectoryController("jazzy", still[0])
    assert controller.receive(good, 1.4) == "" and "0.100 s ago" in controller.receive(good, 1.6)
