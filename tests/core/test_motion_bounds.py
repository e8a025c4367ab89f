"""Bounds on motions hold at every instant and are tight; brakes are the shortest that keep the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS, JointTrajectory
from skimo_core.control.braking import GRID_S, braking_trajectory
from skimo_core.control.trajectory import TrajectoryFollower, quintics
from skimo_core.domain.robot import load_limits
from skimo_core.safety.bounds import extents
from skimo_core.safety.checks import GateConfig, foresee
from skimo_core.safety.path import TRANSIT_S, ToldPath, splice

LIMITS = load_limits("panda")


def derivatives(coefficients: np.ndarray, durations_s: np.ndarray, count: int = 400) -> list[np.ndarray]:
    """Position to jerk of each quintic, [S, count, 7] each, by Horner's rule."""
    tau = np.linspace(0, 1, count)[None, :, None] * durations_s[:, None, None]
    found = []
    for _ in range(4):
        value = np.zeros((len(durations_s), count, JOINTS))
        for k in reversed(range(coefficients.shape[1])):
            value = value * tau + coefficients[:, k][:, None]
        found.append(value)
        coefficients = coefficients[:, 1:] * np.arange(1, coefficients.shape[1])[:, None]
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shortest=st.floats(-2.7, -1))
def test_nothing_leaves_the_bounds_and_the_bounds_are_tight(seed: int, shortest: float) -> None:
    rng = np.random.default_rng(seed)
    durations_s = 10 ** rng.uniform(shortest, 0, 5)
    coefficients = quintics(durations_s, rng.normal(size=(6, 3, JOINTS)))
    for extent, values in zip(extents(coefficients, durations_s), derivatives(coefficients, durations_s)):
        low, high = extent.low.reshape(-1, 5, JOINTS).min(axis=0), extent.high.reshape(-1, 5, JOINTS).max(axis=0)
        varies = np.ptp(values, axis=1)
        slack = 1e-9 * np.abs(values).max(axis=1)
        assert (low <= values.min(axis=1) + slack).all() and (high >= values.max(axis=1) - slack).all()
        assert (high - values.max(axis=1) <= 0.006 * varies + slack).all()


def state_at_speed(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    dq, ddq = rng.uniform(-1, 1, (2, JOINTS))
    return LIMITS.home_q_rad, dq * LIMITS.dq_max_rad_s, rng.choice([0.0, 0.5, 0.95]) * ddq * LIMITS.ddq_max_rad_s2


@pytest.mark.parametrize("seed", range(60))
def test_a_brake_keeps_acceleration_and_jerk_and_is_nearly_the_shortest(seed: int) -> None:
    q, dq, ddq = state_at_speed(seed)
    stop = braking_trajectory((q, dq, ddq), 0.0, LIMITS.ddq_max_rad_s2, LIMITS.dddq_max_rad_s3)
    assert stop is not None
    durations_s = np.diff(stop.times_s, prepend=0.0)
    points = np.stack([stop.q_rad, stop.dq_rad_s, stop.ddq_rad_s2], axis=1)
    coefficients = quintics(durations_s, np.concatenate([[np.stack([q, dq, ddq])], points]))
    _, _, acceleration, jerk = extents(coefficients, durations_s)
    assert (acceleration.size <= np.maximum(LIMITS.ddq_max_rad_s2, np.abs(ddq)) * 1.001).all()
    assert (jerk.size <= LIMITS.dddq_max_rad_s3).all()
    at_once_s = (np.abs(dq) / LIMITS.ddq_max_rad_s2).max()  # as if jerk were free
    onset_s = 2 * (LIMITS.ddq_max_rad_s2 / LIMITS.dddq_max_rad_s3).max() * 4 / 0.95
    assert stop.times_s[-1] <= at_once_s / 0.95 + 2 * onset_s + 2 * GRID_S


def test_a_brake_from_rest_is_none_and_one_from_nonsense_is_refused() -> None:
    still = np.zeros(JOINTS)
    assert braking_trajectory((still, still, still), 0.0, LIMITS.ddq_max_rad_s2, LIMITS.dddq_max_rad_s3) is None
    with pytest.raises(SpecError, match="not finite"):
        braking_trajectory((still, still * np.nan, still), 0.0, LIMITS.ddq_max_rad_s2, LIMITS.dddq_max_rad_s3)


def moving(seed: int = 0) -> TrajectoryFollower:
    """On its way: at 0.05 s in mid-motion, with a knot at 0.053 s."""
    rng = np.random.default_rng(seed)
    follower = TrajectoryFollower(LIMITS.home_q_rad)
    q = LIMITS.home_q_rad + 0.1 * rng.normal(size=(3, JOINTS)).cumsum(axis=0)
    dq = 0.3 * rng.normal(size=(3, JOINTS))
    dq[-1] = 0.0
    times_s = np.array([0.053, 0.2, 0.5])
    follower.set(JointTrajectory(start_s=0.0, times_s=times_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=np.zeros((3, 7))), 0.0)
    return follower


@pytest.mark.parametrize("late_s", [0.0, 0.0012, 0.003])
def test_a_driver_that_gets_it_within_the_transit_time_moves_as_foreseen(late_s: float) -> None:
    now_s, current = 0.05, moving()
    wanted = JointTrajectory(
        start_s=0.04,
        times_s=np.array([0.005, 0.1, 0.4]),
        q_rad=LIMITS.home_q_rad + np.array([[0.0], [0.02], [0.03]]) * np.ones(JOINTS),
        dq_rad_s=np.zeros((3, JOINTS)),
        ddq_rad_s2=np.zeros((3, JOINTS)),
    )
    proposal = splice(current, wanted, now_s)
    assert proposal is not None and proposal.trajectory.start_s == wanted.start_s
    driver = moving()
    driver.set(proposal.trajectory, now_s + late_s)
    times_s = np.linspace(now_s + late_s, 0.6, 500)
    for foreseen, done in zip(proposal.follower.sample(times_s), driver.sample(times_s)):
        np.testing.assert_allclose(done, foreseen, atol=1e-6)
    assert proposal.trajectory.start_s + proposal.trajectory.times_s[0] == pytest.approx(now_s)  # begins in the past
    before_s = np.linspace(now_s, now_s + TRANSIT_S, 50)  # until then, what was under way
    np.testing.assert_allclose(proposal.follower.sample(before_s)[0], current.sample(before_s)[0], atol=1e-9)


def test_a_trajectory_that_lies_in_the_past_is_no_proposal() -> None:
    still = np.zeros((1, JOINTS))
    late = JointTrajectory(start_s=0.0, times_s=np.array([0.056]), q_rad=still, dq_rad_s=still, ddq_rad_s2=still)
    assert splice(moving(), late, 0.05) is None


def test_what_was_told_is_remembered_for_as_long_as_states_may_be_old() -> None:
    told = ToldPath(LIMITS.home_q_rad, 0.0)
    rng = np.random.default_rng(0)
    positions = []
    for k in range(40):
        now_s = 0.08 * k
        goal = LIMITS.home_q_rad + 0.05 * rng.normal(size=(1, JOINTS))
        still = np.zeros((1, JOINTS))
        wanted = JointTrajectory(start_s=now_s, times_s=np.array([0.3]), q_rad=goal, dq_rad_s=still, ddq_rad_s2=still)
        proposal = splice(told.now, wanted, now_s)
        assert proposal is not None
        told.take(proposal.follower)
        positions.append((now_s + 0.05, told.now.at(now_s + 0.05)[0]))
    for stamp_s, q_rad in positions[-8:]:
        np.testing.assert_array_equal(told.expected(stamp_s), q_rad)
    assert told.expected(-1.0) is None


def test_looks_are_dense_where_the_arm_is_fast() -> None:
    motion = foresee(moving(), LIMITS, GateConfig(glance_m=0.1, travel_m=0.01))
    for looks, apart_m in ((motion.glance, 0.1), (motion.closely(), 0.01)):
        assert looks.stray_m <= apart_m / 2
        steps_m = np.linalg.norm(np.diff(looks.points_m, axis=0), axis=-1).max(axis=1)
        assert steps_m.max() <= apart_m
