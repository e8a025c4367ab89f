"""A recorded path led again: through every position, within the robot's limits and the gate's."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.errors import BackendError, SpecError
from skimo_core.contract.types import Array, GripperCommand, Verdict
from skimo_core.control.retimed import SHARE, Retimed, hand_goals, lead
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend
from skimo_sim.twins import make_twin

DOMAIN, PANDA, FR3 = load_domain(), load_limits("panda"), load_limits("fr3")
PERIOD_S = DOMAIN.action.period_s


def recorded(limits: RobotLimits, seed: int, *, noise_rad: float = 1e-4) -> Array:
    """Positions [T + 1, 7] of a teleoperation: smooth, from rest to rest, with an encoder's noise."""
    rng = np.random.default_rng(seed)
    phase = np.linspace(0.0, np.pi, 60)[:, None]
    way = np.sin(phase) ** 2 * rng.normal(0, 0.25, 7) + np.sin(2 * phase) ** 2 * rng.normal(0, 0.15, 7)
    return limits.home_q_rad + way + rng.normal(0, noise_rad, way.shape)


@pytest.mark.parametrize(("limits", "speed"), [(PANDA, 1.0), (PANDA, 0.3), (FR3, 0.6)], ids=["fast", "slow", "fr3"])
def test_a_path_goes_through_every_position_within_its_share_of_the_limits(limits: RobotLimits, speed: float) -> None:
    q_rad = recorded(limits, 1)
    path = Retimed(limits, q_rad, PERIOD_S, start_s=5.0, speed=speed)
    due_s = np.array([path.due_s(step) for step in range(len(q_rad))])
    assert np.allclose(path.sample(due_s)[0], q_rad) and due_s[-1] == pytest.approx(path.end_s)
    times_s = np.arange(path.start_s, path.end_s, 0.002)
    q, dq, ddq = path.sample(times_s)
    low, high = limits.velocity_bounds(q)
    assert (dq < SHARE * high + 0.03).all() and (dq > SHARE * low - 0.03).all()
    assert (np.abs(ddq) < 1.05 * SHARE * limits.ddq_max_rad_s2).all()
    assert path.slower >= 1 / speed and bool(path.bound_by) == (path.slower > 1 / speed + 1e-9)
    ends = path.sample(np.array([path.start_s, path.end_s]))
    assert np.abs(ends[1]).max() < 1e-9 and np.abs(ends[2]).max() < 1e-6


def test_it_passes_the_gate_and_the_hand_follows_the_intents() -> None:
    heard: list[Decision] = []
    arm = GatedBackend(make_twin(DOMAIN, PANDA, "kinematic"), Gate(PANDA), heard.append)
    arm.reset()
    q_rad = recorded(PANDA, 2)
    arm.backend.start_at(np.concatenate([q_rad[0], [0.04, 0.04], np.zeros(21)]))  # pyright: ignore[reportAttributeAccessIssue]
    arm.gate.resync(arm.read(), arm.now_s())
    actions = np.zeros((len(q_rad) - 1, 9), np.float32)
    actions[:, 7:] = np.where(np.arange(len(actions)) < 30, 1.0, -1.0)[:, None]
    path = Retimed(PANDA, q_rad, PERIOD_S, start_s=arm.now_s(), speed=0.5)
    goals = hand_goals(actions, 7, PANDA)
    assert [(step, goal.kind) for step, goal in goals] == [(0, "move"), (30, "grasp")]
    lead(path, arm, PANDA, arm.advance, [(path.due_s(step), goal) for step, goal in goals])
    arm.advance(0.5)
    assert {decision.verdict for decision in heard} == {Verdict.PASS}
    assert np.abs(arm.read().q_rad - q_rad[-1]).max() < 1e-6 and arm.hand_width_m < 1e-6


def test_a_stop_ends_it_and_so_does_a_hold() -> None:
    arm = GatedBackend(make_twin(DOMAIN, PANDA, "kinematic"), Gate(PANDA))
    arm.reset()
    path = Retimed(PANDA, np.linspace(PANDA.home_q_rad, PANDA.home_q_rad + 0.3, 30), PERIOD_S, start_s=arm.now_s())

    def wait(time_s: float) -> None:
        arm.advance(time_s)
        if arm.now_s() > 0.5:
            arm.stop("a human said so")

    with pytest.raises(BackendError, match="a human said so"):
        lead(path, arm, PANDA, wait)
    other = GatedBackend(make_twin(DOMAIN, PANDA, "kinematic"), Gate(PANDA))
    other.reset()
    with pytest.raises(BackendError, match="the gate held the arm: too near"):
        lead(path, other, PANDA, other.advance, why_held=lambda: "too near")


@pytest.mark.parametrize(
    ("q_rad", "speed", "words"),
    [
        (np.zeros((1, 7)), 1.0, "1 positions make no path"),
        (np.repeat(PANDA.home_q_rad[None], 3, 0), 0.0, "speed is 0"),
        (np.repeat(PANDA.home_q_rad[None], 3, 0) + 3.0, 1.0, "step 0 has joint 1 at 3.0000 rad, its range is -2.89"),
    ],
)
def test_what_is_no_path_is_refused(q_rad: Array, speed: float, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Retimed(PANDA, q_rad, PERIOD_S, speed=speed)


def test_intents_between_the_thresholds_keep_the_hand_and_a_hand_less_robot_has_none() -> None:
    actions = np.full((5, 9), 0.1, np.float32)
    assert hand_goals(actions, 7, PANDA) == [] and hand_goals(actions[:, :7], 7, PANDA) == []
    actions[2:, 7:] = -1.0
    assert hand_goals(actions, 7, PANDA) == [
        (2, GripperCommand(kind="grasp", width_m=0.0, speed_m_s=PANDA.hand_speed_m_s, force_n=PANDA.hand_force_n))
    ]
