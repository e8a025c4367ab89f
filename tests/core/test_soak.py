"""Whatever commands come, and whenever: what leaves the gate keeps every limit, and every stream ends at rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimo_core.contract.types import JOINTS, JointCommand, JointTrajectory, Verdict
from skimo_core.domain.cell import load_cell
from skimo_core.domain.robot import load_limits
from skimo_core.safety.adversary import MAKERS, sharpened
from skimo_core.safety.collision import Collision
from skimo_core.safety.gate import Gate
from skimo_core.safety.soak import REST_S, Driver, run_stream

LIMITS = load_limits("panda")
CELL = load_cell("kitchen")
COLLISION = Collision(LIMITS, CELL)
TOLERANCE = 0.01


@pytest.mark.parametrize("block", range(4))
def test_streams_of_attacks_keep_the_limits(block: int) -> None:
    verdicts: set[str] = set()
    for stream in range(5 * block, 5 * block + 5):
        tally = run_stream(1, stream, LIMITS, CELL)
        assert tally.worst.within(TOLERANCE), f"stream {stream}: {tally.worst}"
        verdicts |= set(tally.verdicts)
    assert verdicts >= {"PASS", "LIMIT", "HOLD"}


COMMANDS = st.tuples(
    st.sampled_from(["command", "command", "command", "late", "again", "stop", "hold", "silence"]),
    st.integers(0, 10_000),
    st.floats(0.001, 0.3),
    st.floats(0.0, 0.005),
)


@settings(max_examples=25, deadline=None)
@given(events=st.lists(COMMANDS, min_size=1, max_size=25))
def test_any_stream_keeps_the_limits_and_ends_at_rest(events: list[tuple[str, int, float, float]]) -> None:
    gate, driver, now_s = Gate(LIMITS, cell=CELL), Driver(LIMITS.home_q_rad, 0.0), 0.0
    last: JointTrajectory | None = None
    for kind, seed, pause_s, transit_s in events:
        now_s += pause_s
        driver.advance(now_s)
        robot = driver.state(now_s)
        if kind == "stop":
            decision = gate.stop("hypothesis", now_s)
        elif kind == "hold":
            decision = gate.hold(robot, now_s)
        elif kind == "silence":
            decision = gate.watch(robot, now_s)
        else:
            rng = np.random.default_rng(seed)
            made = MAKERS[seed % len(MAKERS)](rng, LIMITS, driver.led(now_s), now_s - (0.03 if kind == "late" else 0))
            last = last if kind == "again" and last is not None else made
            decision = gate.consider(JointCommand(trajectory=last), robot, now_s)
        if decision.command is not None:
            driver.take(decision.command.trajectory, now_s + transit_s)
        if gate.stopped and seed % 3 == 0:
            now_s += REST_S
            driver.advance(now_s)
            assert gate.reset(gate.generation, driver.state(now_s), now_s)[0]
    driver.advance(now_s + REST_S)
    worst = driver.worst(LIMITS, COLLISION)
    assert worst.within(TOLERANCE), worst


def excursion(joint: int, size_rad: float, at_s: tuple[float, float, float]) -> JointTrajectory:
    q = np.repeat(LIMITS.home_q_rad[None], 3, axis=0)
    q[1, joint] -= size_rad
    still = np.zeros((3, JOINTS))
    return JointTrajectory(start_s=0.0, times_s=np.array(at_s), q_rad=q, dq_rad_s=still, ddq_rad_s2=still)


@pytest.mark.parametrize("size_rad", [3.0, 0.04, 0.02])
@pytest.mark.parametrize("joint", range(JOINTS))
def test_an_excursion_between_two_looks_is_seen(joint: int, size_rad: float) -> None:
    """Home, away, home, at rest at each, within 60 ms: at 454 times the velocity limit for 3 rad."""
    driver = Driver(LIMITS.home_q_rad, 0.0)
    attack = excursion(joint, size_rad, (0.0402, 0.0448, 0.1))
    decision = Gate(LIMITS).consider(JointCommand(trajectory=attack), driver.state(0.0), 0.0)
    assert decision.verdict is Verdict.HOLD and decision.command is None


def test_a_stop_in_a_hard_approach_stays_within_the_joints_ranges() -> None:
    """The latest stop that still keeps the range is found by sharpening; whenever the gate stops, the range is kept."""
    for joint in range(JOINTS):
        q = (LIMITS.q_max_rad + LIMITS.q_min_rad) / 2
        q[joint] = LIMITS.q_max_rad[joint] - 0.25
        goal, still = q.copy(), np.zeros((1, JOINTS))
        goal[joint] = LIMITS.q_max_rad[joint]
        driver, gate = Driver(q, 0.0), Gate(LIMITS)
        fast = JointTrajectory(start_s=0.0, times_s=np.array([1.2]), q_rad=goal[None], dq_rad_s=still, ddq_rad_s2=still)
        hard, _ = sharpened(gate, fast, driver.state(0.0), 0.0)
        decision = gate.consider(JointCommand(trajectory=hard), driver.state(0.0), 0.0)
        assert decision.command is not None, decision.reasons
        driver.take(decision.command.trajectory, 0.001)
        driver.advance(0.6)
        stop = gate.stop("half way", 0.6)
        assert stop.command is not None
        driver.take(stop.command.trajectory, 0.602)
        driver.advance(3.0)
        worst = driver.worst(LIMITS, Collision(LIMITS, load_cell("open")))
        assert worst.within(TOLERANCE), worst
