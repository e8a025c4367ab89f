"""Control steps from whatever moves an arm: executing them leads along its path, and nothing is made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from skimo_core.contract.types import Array, ObjectStates, RobotState
from skimo_core.control.actuate import Actuator
from skimo_core.control.executed import FingerIntents, joint_actions, velocities_rad_s
from skimo_core.control.teleop import LEAD_STEPS, Feed, Teleop, TeleopStep, Trim
from skimo_core.control.travel import Travel
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.ingest.motion import velocities

DOMAIN, LIMITS = load_domain("kitchen"), load_limits("panda")
SPEC, PERIOD_S = DOMAIN.action, DOMAIN.action.period_s
OBJECTS = DOMAIN.observation.objects


def wander(rng: np.random.Generator, ways: int) -> tuple[Array, Array]:
    """Times [K] at 100 Hz and positions [K, 7] of an arm that goes from place to place, a pause at either end."""
    q_rad = np.repeat(LIMITS.home_q_rad[None], 60, axis=0)
    for _ in range(ways):
        goal = np.clip(LIMITS.home_q_rad + rng.normal(0, 0.15, 7), LIMITS.q_min_rad + 0.3, LIMITS.q_max_rad - 0.3)
        way = Travel(LIMITS, q_rad[-1], goal, start_s=0.0, share=0.25)
        q_rad = np.concatenate([q_rad, way.sample(np.arange(0.01, way.end_s, 0.01))[0]])
    q_rad = np.concatenate([q_rad, np.repeat(q_rad[-1:], 60, axis=0)])
    return 0.01 * np.arange(len(q_rad), dtype=np.float64), q_rad


def executed(actions_TA: np.ndarray, q_rad: Array) -> Array:
    """Positions [T + 1, 7] on the grid of an arm that rests at `q_rad` and executes actions."""
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(q_rad, 0.0)
    path = [q_rad]
    for step, action_A in enumerate(actions_TA):
        actuator.command(action_A.astype(np.float32), step * PERIOD_S)
        path.append(actuator.commanded((step + 1) * PERIOD_S)[0])
    return np.array(path)


def with_fingers(joints_TJ: np.ndarray) -> np.ndarray:
    return np.concatenate([joints_TJ, np.zeros((len(joints_TJ), SPEC.size - SPEC.joints))], axis=1)


def feeds(times_s: Array, q_rad: Array, finger_m: Array | None = None) -> list[RobotState]:
    none = np.zeros(7)
    fingers = np.full(len(times_s), 0.04) if finger_m is None else finger_m
    return [
        RobotState(stamp_s=float(t), q_rad=q, dq_rad_s=none, tau_nm=none, finger_m=np.full(2, f))
        for t, q, f in zip(times_s, q_rad, fingers)
    ]


def steps_of(states: Sequence[RobotState], begin_s: float, end_s: float, burst: int) -> tuple[list[TeleopStep], Teleop]:
    """The steps of states that are heard so many at a time, each having come 2 ms after its stamp."""
    robot, objects = Feed[RobotState](), Feed[ObjectStates]()
    teleop, steps = Teleop(DOMAIN, LIMITS, robot, objects, begin_s), []
    states = [state for state in states if state.stamp_s <= end_s]
    for first in range(0, len(states), burst):
        for state in states[first : first + burst]:
            robot.add(state, state.stamp_s + 0.002)
            values = np.full(len(OBJECTS), state.stamp_s)
            objects.add(ObjectStates(stamp_s=state.stamp_s, names=OBJECTS, values=values), state.stamp_s + 0.002)
        now_s = states[min(first + burst, len(states)) - 1].stamp_s + 0.002
        if now_s > begin_s:
            steps += teleop.advance(now_s)
    return [*steps, *teleop.finish(end_s)], teleop


@pytest.mark.parametrize("seed", range(4))
def test_executing_them_leads_along_the_path_without_drift_and_nearer_than_mean_velocities(seed: int) -> None:
    times_s, q_rad = wander(np.random.default_rng(seed), 5)
    due_s = np.arange(0.0, times_s[-1] - PERIOD_S, PERIOD_S)
    grid = np.stack([np.interp(np.append(due_s, due_s[-1] + PERIOD_S), times_s, q) for q in q_rad.T], axis=1)
    ours, excess = joint_actions(velocities_rad_s(times_s, q_rad, due_s, PERIOD_S), SPEC, LIMITS)
    apart = np.abs(executed(with_fingers(ours), grid[0]) - grid)
    mean, _ = joint_actions(np.diff(grid, axis=0) / PERIOD_S, SPEC, LIMITS)
    assert excess is None
    assert apart.max() < 0.015 and apart[-1].max() < 0.001
    assert 3 * apart.mean() < np.abs(executed(with_fingers(mean), grid[0]) - grid).mean()


def test_on_the_grid_they_are_central_differences_as_those_of_ingest() -> None:
    q_rad = np.cumsum(np.random.default_rng(0).normal(0, 0.02, (40, 7)), axis=0)
    found = velocities(q_rad, PERIOD_S)
    assert np.allclose(found[:-1], (q_rad[2:] - q_rad[:-2]) / (2 * PERIOD_S))
    assert np.allclose(found[-1], (q_rad[-1] - q_rad[-2]) / PERIOD_S)


def test_what_is_faster_than_an_action_can_say_is_cut_and_counted() -> None:
    velocity = np.zeros((5, 7))
    velocity[1:3, 4] = 2.0, -3.0
    actions, excess = joint_actions(velocity, SPEC, LIMITS)
    assert excess is not None and (excess.steps, excess.joint, excess.velocity_rad_s) == (2, 4, 3.0)
    assert np.abs(actions).max() == 1.0 and excess.more_than(excess).steps == 4


def test_intents_keep_through_jitter_and_change_with_the_width() -> None:
    hand = FingerIntents(0.08, 0.08)
    rng = np.random.default_rng(0)
    widths = np.concatenate(
        [np.full(20, 0.08), np.linspace(0.08, 0.03, 10), np.full(20, 0.03), np.linspace(0.03, 0.08, 10)]
    )
    intents = [hand.next(width + rng.normal(0, 0.0005)) for width in widths]
    assert intents[:20] == [1.0] * 20 and intents[24:50] == [-1.0] * 26 and intents[-5:] == [1.0] * 5
    assert FingerIntents(0.04, 0.08).intent == 0.0


def test_a_recorder_that_was_paused_makes_the_same_steps() -> None:
    times_s, q_rad = wander(np.random.default_rng(1), 3)
    states = feeds(times_s, q_rad)
    smooth, _ = steps_of(states, 0.1, 2.0, burst=1)
    late, _ = steps_of(states, 0.1, 2.0, burst=70)
    assert len(smooth) == len(late) == 24 and smooth[-1].action_A is None
    for one, other in zip(smooth[:-2], late[:-2]):
        assert np.array_equal(one.observation_O, other.observation_O)
        assert np.array_equal(one.action_A, other.action_A)  # pyright: ignore[reportArgumentType]
    path = executed(np.array([step.action_A for step in smooth[:-1]]), smooth[0].observation_O[:7].astype(np.float64))
    assert np.abs(path - np.array([step.observation_O[:7] for step in smooth])).max() < 0.02


def test_a_gap_and_a_clock_that_goes_back_end_the_steps_in_words_and_what_is_before_is_whole() -> None:
    times_s, q_rad = wander(np.random.default_rng(2), 3)
    states = feeds(times_s, q_rad)
    steps, teleop = steps_of([s for s in states if not 1.0 < s.stamp_s < 1.4], 0.1, 3.0, burst=5)
    assert "robot state is" in teleop.ended and "bound 80 ms" in teleop.ended
    assert steps[-1].action_A is None and 0.95 < steps[-1].due_s < 1.1
    assert all(step.action_A is not None for step in steps[:-1])
    earlier = [replace(s, stamp_s=s.stamp_s - 0.7) for s in states if s.stamp_s > 1.5]
    _, teleop = steps_of([s for s in states if s.stamp_s < 1.5] + earlier, 0.1, 3.0, burst=5)
    assert "went back by 0.680 s" in teleop.ended


def test_a_missing_channel_refuses_the_first_look() -> None:
    robot = Feed[RobotState]()
    robot.add(feeds(np.zeros(1), LIMITS.home_q_rad[None])[0], 0.0)
    with pytest.raises(Exception, match="no object states yet"):
        Teleop(DOMAIN, LIMITS, robot, Feed[ObjectStates](), 0.0).look(0.01)


def test_pauses_at_the_ends_are_trimmed_and_those_in_between_are_not() -> None:
    still = [True] * 10 + [False] * 5 + [True] * 8 + [False] * 5 + [True] * 12
    steps = [
        TeleopStep(due_s=float(k), observation_O=np.zeros(1, np.float32), action_A=np.zeros(1, np.float32), still=s)
        for k, s in enumerate(still)
    ]
    trim = Trim()
    kept = [step for given in [*steps, replace(steps[-1], due_s=40.0, action_A=None)] for step in trim.add(given)]
    kept += trim.end()
    assert [step.due_s for step in kept] == [float(k) for k in range(10 - LEAD_STEPS, 28 + LEAD_STEPS + 1)]
    assert kept[-1].action_A is None and all(step.action_A is not None for step in kept[:-1])
    nothing = Trim()
    assert [kept for step in steps[:10] for kept in nothing.add(step)] + nothing.end() == []
