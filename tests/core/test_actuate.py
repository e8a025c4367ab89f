"""Actuation: whatever the actions, the commanded motion stays within the robot's limits and ends at rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS
from skimo_core.control.actuate import Actuator, ActuatorConfig
from skimo_core.control.trajectory import SHORTEST_S, TrajectoryFollower, check_trajectory
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits

LIMITS = load_limits("panda")
SPEC = load_domain().action
PERIOD_S = SPEC.period_s


def make_actuator() -> Actuator:
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    return actuator


def follow(actions: np.ndarray, late_s: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Desired motion at 1 kHz of a backend that gets each command `late_s` after it is due."""
    actuator, follower = make_actuator(), TrajectoryFollower(LIMITS.home_q_rad)
    samples = []
    for k, action in enumerate(actions):
        command = actuator.command(action, k * PERIOD_S)
        follower.set(check_trajectory(command.trajectory, JOINTS), k * PERIOD_S + late_s)
        end_s = (k + 1) * PERIOD_S + late_s if k + 1 < len(actions) else follower.end_s + 0.1
        samples.append((t := np.arange(k * PERIOD_S + late_s, end_s, 1e-3), *follower.sample(t)))
    return tuple(np.concatenate(x) for x in zip(*samples))  # type: ignore[return-value]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), bias=st.floats(-1, 1))
def test_any_actions_stay_within_the_limits(seed: int, bias: float) -> None:
    rng = np.random.default_rng(seed)
    actions = np.clip(rng.normal(bias, 0.7, (60, SPEC.size)), -1, 1).astype(np.float32)
    _, q, dq, ddq = follow(actions)
    assert (q <= LIMITS.q_max_rad).all() and (q >= LIMITS.q_min_rad).all()
    assert (np.abs(dq) <= LIMITS.dq_max_rad_s).all()
    assert (np.abs(ddq) <= LIMITS.ddq_max_rad_s2 * 1.02).all()
    assert np.abs(dq[-1]).max() == 0.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), bias=st.floats(-1, 1), late_ms=st.floats(0, 40), missing=st.floats(0, 0.3))
@example(seed=8696, bias=-1.0, late_ms=40.0, missing=0.3)
def test_late_and_missing_commands_keep_the_joints_in_their_range(
    seed: int, bias: float, late_ms: float, missing: float
) -> None:
    rng, actuator = np.random.default_rng(seed), make_actuator()
    for k in range(30):
        action = np.clip(rng.normal(bias, 0.7, SPEC.size), -1, 1).astype(np.float32)
        sent_s = k * PERIOD_S + rng.uniform(0, late_ms) * 1e-3
        if rng.random() < missing:
            continue
        trajectory = check_trajectory(actuator.command(action, k * PERIOD_S, sent_s).trajectory, JOINTS)
        assert (trajectory.q_rad <= LIMITS.q_max_rad).all() and (trajectory.q_rad >= LIMITS.q_min_rad).all()
        assert np.diff(trajectory.times_s, prepend=0.0).min() >= 0.999 * SHORTEST_S


def test_velocity_is_reached_after_one_period_and_position_is_its_integral() -> None:
    actuator = make_actuator()
    action = np.full(SPEC.size, 0.1, np.float32)
    follower = TrajectoryFollower(LIMITS.home_q_rad)
    follower.set(actuator.command(action, 0.0).trajectory, 0.0)
    q, dq, ddq = (x[0] for x in follower.sample(np.array([PERIOD_S])))
    np.testing.assert_allclose(dq, 0.1 * SPEC.scale_rad_s, rtol=1e-6)
    np.testing.assert_allclose(q - LIMITS.home_q_rad, 0.1 * SPEC.scale_rad_s * PERIOD_S / 2, rtol=1e-6)
    np.testing.assert_allclose(ddq, 0.0, atol=1e-9)


def test_late_commands_meet_the_same_points() -> None:
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (40, SPEC.size)).astype(np.float32)
    t0, q0, *_ = follow(actions)
    t1, q1, *_ = follow(actions, late_s=0.02)
    due = np.arange(2, 38) * PERIOD_S
    at0 = np.stack([np.interp(due, t0, q0[:, j]) for j in range(JOINTS)], axis=1)
    at1 = np.stack([np.interp(due, t1, q1[:, j]) for j in range(JOINTS)], axis=1)
    assert np.abs(at0 - at1).max() < 2e-3


def test_commands_within_the_reaction_time_make_the_same_path() -> None:
    rng = np.random.default_rng(2)
    actions = rng.uniform(-1, 1, (40, SPEC.size)).astype(np.float32)
    t0, q0, *_ = follow(actions)
    t1, q1, *_ = follow(actions, late_s=0.015)
    times = np.arange(2, 3000) * 1e-3
    at0 = np.stack([np.interp(times, t0, q0[:, j]) for j in range(JOINTS)], axis=1)
    at1 = np.stack([np.interp(times, t1, q1[:, j]) for j in range(JOINTS)], axis=1)
    assert np.abs(at0 - at1)[100:].max() < 1e-6  # the first command starts at rest and is not delayed
    assert np.abs(at0 - at1).max() < 2e-3


@pytest.mark.parametrize("late_s", 1e-3 * np.arange(2, 60))
def test_a_command_sent_late_leaves_the_path_under_way_later_and_not_steeper(late_s: float) -> None:
    action = np.full(SPEC.size, 0.3, np.float32)
    times = PERIOD_S + np.arange(0, 0.3, 1e-3)
    paths = []
    for sent_s in (PERIOD_S, PERIOD_S + late_s):
        actuator, follower = make_actuator(), TrajectoryFollower(LIMITS.home_q_rad)
        follower.set(actuator.command(action, 0.0).trajectory, 0.0)
        silent_q = follower.sample(times)[0]
        follower.set(check_trajectory(actuator.command(-action, PERIOD_S, sent_s).trajectory, JOINTS), PERIOD_S)
        paths.append(follower.sample(times))
    (_, _, in_time_ddq), (late_q, _, late_ddq) = paths
    on_its_way = times <= PERIOD_S + late_s
    np.testing.assert_allclose(late_q[on_its_way], silent_q[on_its_way], atol=1e-9)
    assert np.abs(late_ddq).max() <= np.abs(in_time_ddq).max() * 1.02


@pytest.mark.parametrize("late_s", 1e-3 * np.arange(0, 60))
def test_after_silence_a_command_leaves_the_path_under_way_no_sooner_than_it_may_arrive(late_s: float) -> None:
    """However late the command before was, and so wherever in the reaction time the arm begins to brake."""
    actuator, follower = make_actuator(), TrajectoryFollower(LIMITS.home_q_rad)
    action = np.full(SPEC.size, 0.3, np.float32)
    follower.set(actuator.command(action, 0.0, late_s).trajectory, 0.0)
    due_s = 2 * PERIOD_S  # the command due in between is missing
    times = due_s + np.linspace(0.0, ActuatorConfig().reaction_periods * PERIOD_S, 17)
    silent_q, silent_dq, _ = follower.sample(times)
    follower.set(actuator.command(action, due_s).trajectory, due_s)
    q, dq, _ = follower.sample(times)
    np.testing.assert_allclose(q, silent_q, atol=1e-5)
    np.testing.assert_allclose(dq, silent_dq, atol=1e-3)


def test_a_refused_command_leaves_the_one_before() -> None:
    actuator = make_actuator()
    action = np.full(SPEC.size, 0.3, np.float32)
    first = actuator.command(action, 0.0).trajectory
    follower = TrajectoryFollower(LIMITS.home_q_rad)
    follower.set(first, 0.0)
    actuator.command(-action, PERIOD_S)
    actuator.withdraw()
    now = 2 * PERIOD_S
    np.testing.assert_allclose(actuator.commanded(now)[0], follower.sample(np.array([now]))[0][0])


@pytest.mark.parametrize(
    ("wanted", "lead_rad", "told"),
    [
        (0.3, 0.0, 0.3),
        (0.3, 0.55, 0.3 * 0.05 / 0.09),  # 0.05 of the last 0.09 rad are left
        (0.3, 0.6, 0.0),
        (-0.3, 0.6, -0.3),  # back as it likes
        (0.3, 0.65, -0.25),  # pushed further: 5 / s of 0.05 rad
        (-0.3, -0.65, 0.25),
    ],
)
def test_a_joint_is_led_no_further_than_it_may_be(wanted: float, lead_rad: float, told: float) -> None:
    action = np.zeros(SPEC.size, np.float32)
    action[4] = wanted / SPEC.scale_rad_s
    lead = np.zeros(LIMITS.joints)
    lead[4] = lead_rad
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    actuator.command(action, 0.0, lead=(lead, np.full(LIMITS.joints, 0.6)))
    dq_rad_s = actuator.commanded(SPEC.period_s)[1]
    assert dq_rad_s[4] == pytest.approx(told, abs=1e-6)
    assert np.abs(np.delete(dq_rad_s, 4)).max() < 1e-9


def test_silence_ends_at_rest_within_half_a_second() -> None:
    actions = np.ones((12, SPEC.size), np.float32)
    t, _, dq, _ = follow(actions)
    moving = t[np.abs(dq).max(axis=1) > 1e-3]
    assert moving[-1] - 11 * PERIOD_S <= 0.5


def test_hold_brakes_from_the_commanded_state() -> None:
    actuator = make_actuator()
    for k in range(8):
        actuator.command(np.full(SPEC.size, 0.5, np.float32), k * PERIOD_S)
    now = 8 * PERIOD_S
    brake = actuator.hold(now)
    assert brake is not None
    trajectory = check_trajectory(brake.trajectory, JOINTS)
    q, _ = actuator.commanded(now + 1.0)
    np.testing.assert_allclose(trajectory.q_rad[-1], q)


def test_the_hand_is_commanded_on_a_change_of_intent_only() -> None:
    actuator = make_actuator()
    intents = [1, 1, 0, 0, -1, 1, -1, -1, -1, -1, -1, -1]
    goals = []
    for k, intent in enumerate(intents):
        action = np.zeros(SPEC.size, np.float32)
        action[7:] = intent
        gripper = actuator.command(action, k * PERIOD_S).gripper
        goals.append(gripper.kind if gripper else None)
    assert goals[0] == "move" and goals[1:5] == [None] * 4  # the close at step 4 comes too soon after the open
    assert [g for g in goals if g] == ["move", "grasp"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5])
def test_bad_actions_are_refused(bad: float) -> None:
    action = np.zeros(SPEC.size, np.float32)
    action[3] = bad
    with pytest.raises(SpecError):
        make_actuator().command(action, 0.0)
