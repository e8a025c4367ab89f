"""The gate: each fault triggers its reason, the gravest verdict wins in any order, a stop stays until it is reset."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skimo_core.contract.types import (
    JOINTS,
    Array,
    GripperCommand,
    JointCommand,
    JointTrajectory,
    RobotMode,
    RobotState,
    Verdict,
)
from skimo_core.control.actuate import Actuator
from skimo_core.control.trajectory import TrajectoryFollower
from skimo_core.domain.cell import Cell, known_cells, load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.kinematics import arm_points
from skimo_core.domain.robot import load_limits
from skimo_core.safety.checks import CHECKS, Check, GateConfig, foresee
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.path import ARRIVAL_S

LIMITS = load_limits("panda")
SPEC = load_domain().action
PERIOD_S = SPEC.period_s


def state(now_s: float = 0.0, **changes: Any) -> RobotState:
    fields: dict[str, Any] = {
        "stamp_s": now_s,
        "q_rad": LIMITS.home_q_rad,
        "dq_rad_s": np.zeros(JOINTS),
        "tau_nm": np.zeros(JOINTS),
        "finger_m": np.full(2, 0.02),
    }
    return RobotState(**{**fields, **changes})


def good_command(now_s: float = 0.0, size: float = 0.3) -> JointCommand:
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, now_s)
    return actuator.command(np.full(SPEC.size, size, np.float32), now_s)


def changed(command: JointCommand, **changes: Any) -> JointCommand:
    return dataclasses.replace(command, trajectory=dataclasses.replace(command.trajectory, **changes))


def move(joint: int, by_rad: float, in_s: float) -> JointCommand:
    q = LIMITS.home_q_rad.copy()
    q[joint] += by_rad
    rest = np.zeros((1, JOINTS))
    trajectory = JointTrajectory(start_s=0.0, times_s=np.array([in_s]), q_rad=q[None], dq_rad_s=rest, ddq_rad_s2=rest)
    return JointCommand(trajectory=trajectory)


def with_nan(command: JointCommand) -> JointCommand:
    q = command.trajectory.q_rad.copy()
    q[0, 3] = np.nan
    return changed(command, q_rad=q)


def not_at_rest(command: JointCommand) -> JointCommand:
    dq = command.trajectory.dq_rad_s.copy()
    dq[-1] = 0.1
    return changed(command, dq_rad_s=dq)


def many_points(count: int) -> JointCommand:
    still = np.zeros((count, JOINTS))
    times_s = 0.005 * np.arange(1, count + 1, dtype=np.float64)
    q = np.repeat(LIMITS.home_q_rad[None], count, axis=0)
    return JointCommand(
        trajectory=JointTrajectory(start_s=0.0, times_s=times_s, q_rad=q, dq_rad_s=still, ddq_rad_s2=still)
    )


def towards(q_rad: Array) -> JointCommand:
    still = np.zeros((1, JOINTS))
    return JointCommand(
        trajectory=JointTrajectory(
            start_s=0.0, times_s=np.array([1.99]), q_rad=q_rad[None], dq_rad_s=still, ddq_rad_s2=still
        )
    )


FOLDED = np.array([0, 1.75, 2.8, -3, 0, 0.2, 0])
"""The hand 68 mm inside link 2."""
IN_THE_MICROWAVE = np.array([0, 1.7, 0, -1.2, 0, 2.9, 0.8])
"""The arm presses the microwave with 531 N."""
GOOD = good_command()
WIDE = dataclasses.replace(GOOD, gripper=GripperCommand(kind="move", width_m=0.3, speed_m_s=0.1))
FAULTS: list[tuple[str, Verdict, JointCommand, RobotState | None]] = [
    ("state_missing", Verdict.STOP, GOOD, None),
    ("state_stale", Verdict.HOLD, GOOD, state(-0.2)),
    ("state_stale", Verdict.STOP, GOOD, state(-0.6)),
    ("state_ahead", Verdict.HOLD, GOOD, state(0.03)),
    ("state_ahead", Verdict.STOP, GOOD, state(0.6)),
    ("state_finite", Verdict.STOP, GOOD, state(dq_rad_s=np.full(JOINTS, np.nan))),
    ("state_finite", Verdict.STOP, GOOD, state(desired_q_rad=np.full(JOINTS, np.nan))),
    ("state_finite", Verdict.STOP, GOOD, state(tau_ext_nm=np.full(JOINTS, np.inf))),
    ("state_plausible", Verdict.STOP, GOOD, state(q_rad=np.full(JOINTS, 50.0))),
    ("state_plausible", Verdict.STOP, GOOD, state(dq_rad_s=np.full(JOINTS, 5.0))),
    ("robot_mode", Verdict.STOP, GOOD, state(mode=RobotMode.REFLEX)),
    ("robot_mode", Verdict.STOP, GOOD, state(mode=RobotMode.USER_STOPPED)),
    ("robot_mode", Verdict.STOP, GOOD, state(mode=RobotMode.OTHER)),
    ("robot_mode", Verdict.HOLD, GOOD, state(mode=RobotMode.GUIDING)),
    ("robot_mode", Verdict.HOLD, GOOD, state(mode=RobotMode.UNKNOWN)),
    ("robot_mode_silent", Verdict.STOP, GOOD, state(mode_stamp_s=-0.6)),
    ("external_torque", Verdict.HOLD, GOOD, state(tau_ext_nm=1.1 * LIMITS.reflex_tau_nm)),
    ("external_torque", Verdict.STOP, GOOD, state(tau_ext_nm=-1.6 * LIMITS.reflex_tau_nm)),
    ("command_finite", Verdict.STOP, with_nan(GOOD), state()),
    ("command_form", Verdict.HOLD, not_at_rest(GOOD), state()),
    ("command_form", Verdict.HOLD, changed(GOOD, times_s=GOOD.trajectory.times_s[::-1]), state()),
    ("command_form", Verdict.HOLD, changed(GOOD, times_s=np.array([0.08, 0.0815, 0.184])), state()),
    ("command_form", Verdict.HOLD, move(0, 0.1, 5.0), state()),
    ("command_form", Verdict.HOLD, many_points(201), state()),
    ("command_stale", Verdict.HOLD, changed(GOOD, start_s=-0.1), state()),
    ("command_stale", Verdict.HOLD, changed(GOOD, start_s=0.19), state()),
    ("start_gap", Verdict.HOLD, changed(GOOD, q_rad=GOOD.trajectory.q_rad + 0.4), state()),
    ("start_gap", Verdict.HOLD, changed(GOOD, q_rad=GOOD.trajectory.q_rad + np.array([[0.0], [0.0], [0.6]])), state()),
    ("gripper", Verdict.HOLD, WIDE, state()),
    ("joint_position", Verdict.LIMIT, move(3, 2.4, 1.9), state()),
    ("joint_velocity", Verdict.LIMIT, move(0, 1.9, 1.5), state()),
    ("joint_velocity", Verdict.HOLD, move(0, 1.5, 0.7), state()),
    ("joint_acceleration", Verdict.LIMIT, move(1, 0.2, 0.36), state()),
    ("joint_acceleration", Verdict.HOLD, move(1, 0.2, 0.2), state()),
    ("joint_jerk", Verdict.LIMIT, move(0, 1.05e-4, 0.015), state()),
    ("workspace", Verdict.HOLD, move(1, 0.25, 1.0), state()),
    ("tool_speed", Verdict.HOLD, move(0, 1.0, 0.9), state()),
    ("self_collision", Verdict.HOLD, towards(FOLDED), state(q_rad=np.array([0, 1.2, 2.8, -2.2, 0, 0.6, 0]))),
    ("obstacle", Verdict.HOLD, towards(IN_THE_MICROWAVE), state()),
]


def strict(check: str) -> GateConfig:
    """The default, narrowed where home lies too far from the borders for a small fault to reach them."""
    return GateConfig(workspace_high_m=(0.32, 1.0, 1.3)) if check == "workspace" else GateConfig()


def limits_for(check: str) -> Any:
    return dataclasses.replace(LIMITS, cartesian_velocity_max_m_s=0.5) if check == "tool_speed" else LIMITS


def cell_for(check: str) -> Cell:
    return load_cell("kitchen" if check == "obstacle" else "open")


def names(decision: Decision) -> set[str]:
    return {reason.split(":")[0] for reason in decision.reasons}


@pytest.mark.parametrize(("check", "verdict", "command", "robot"), FAULTS)
def test_each_fault_triggers_its_reason(check: str, verdict: Verdict, command: JointCommand, robot: Any) -> None:
    gate = Gate(limits_for(check), strict(check), cell=cell_for(check))
    decision = gate.consider(command, robot, 0.0)
    assert check in names(decision) and decision.verdict is verdict
    if verdict is Verdict.HOLD:
        assert decision.command is None
    if verdict is Verdict.STOP:
        assert decision.command is not command and gate.stopped


PRESSED = 0.02
"""How far joint 1 lies off where it was told to be, pressed there."""


@pytest.mark.parametrize(
    ("command", "torque", "verdict"),
    [
        (move(0, 0.1, 1.0), 1.1, Verdict.PASS),  # with the push
        (move(0, -0.1, 1.0), 1.1, Verdict.HOLD),  # against it
        (move(1, 0.05, 1.0), 1.1, Verdict.HOLD),  # it stays pressed
        (move(0, 0.1, 1.0), 1.6, Verdict.STOP),
    ],
)
def test_an_arm_held_for_what_it_presses_on_may_give_way(
    command: JointCommand, torque: float, verdict: Verdict
) -> None:
    q_rad, tau_nm = LIMITS.home_q_rad.copy(), np.zeros(JOINTS)
    q_rad[0] += PRESSED
    tau_nm[0] = torque * LIMITS.reflex_tau_nm[0]
    gate = Gate(LIMITS, cell=load_cell("open"))
    gate.resync(state(), 0.0)
    decision = gate.consider(command, state(q_rad=q_rad, tau_ext_nm=tau_nm), 0.0)
    assert decision.verdict is verdict, decision.reasons


@pytest.mark.parametrize(
    ("by_rad", "lies_off_rad", "verdict"),
    [(0.1, 0.15, Verdict.PASS), (-0.1, 0.15, Verdict.HOLD), (0.1, -0.15, Verdict.HOLD), (0.1, 0.25, Verdict.STOP)],
)
def test_an_arm_that_is_pushed_off_its_path_may_give_way(by_rad: float, lies_off_rad: float, verdict: Verdict) -> None:
    q_rad = LIMITS.home_q_rad.copy()
    q_rad[0] += lies_off_rad
    gate = Gate(LIMITS, cell=load_cell("open"))
    gate.resync(state(), 0.0)
    assert gate.consider(move(0, by_rad, 1.0), state(q_rad=q_rad), 0.0).verdict is verdict


def test_an_arm_that_presses_on_something_has_not_been_moved_by_somebody() -> None:
    q_rad, tau_nm = LIMITS.home_q_rad.copy(), np.zeros(JOINTS)
    q_rad[0] += 0.06
    tau_nm[0] = 0.8 * LIMITS.reflex_tau_nm[0]
    for pressing, moved in ((None, True), (tau_nm, False)):
        gate = Gate(LIMITS, cell=load_cell("kitchen"))
        gate.resync(state(), 0.0)
        gate.watch(state(1.0, q_rad=q_rad, tau_ext_nm=pressing), 1.0)
        # what begins where the arm was told to be jumps for a gate that has taken it where it is
        decision = gate.consider(changed(GOOD, start_s=1.0), state(1.0, q_rad=q_rad, tau_ext_nm=pressing), 1.0)
        assert (decision.verdict is Verdict.PASS) is not moved, decision.reasons


@pytest.mark.parametrize("told", [True, False], ids=["by its reference", "far off"])
def test_an_arm_that_was_put_elsewhere_is_taken_there_whatever_it_felt_last(told: bool) -> None:
    q_rad, tau_nm = LIMITS.home_q_rad.copy(), np.zeros(JOINTS)
    q_rad[0] += 0.06 if told else 1.0
    tau_nm[0] = 0.8 * LIMITS.reflex_tau_nm[0]  # an older message than the position's
    gate = Gate(LIMITS, cell=load_cell("kitchen"))
    gate.resync(state(), 0.0)
    there = state(1.0, q_rad=q_rad, tau_ext_nm=tau_nm, desired_q_rad=q_rad if told else None)
    assert gate.watch(there, 1.0).verdict is Verdict.PASS


def test_every_check_of_the_table_is_tried() -> None:
    """By the faults above, or by the sequences below: those that need a command before."""
    objecting: set[str] = set()

    def heard(check: Check) -> Check:
        def ask(*arguments: Any) -> Any:
            finding = check(*arguments)
            objecting.update([check.__name__] if finding is not None else [])
            return finding

        return ask

    for fault, _, command, robot in FAULTS:
        gate = Gate(limits_for(fault), strict(fault), cell=cell_for(fault), checks=tuple(map(heard, CHECKS)))
        gate.consider(command, robot, 0.0)
    assert {c.__name__ for c in CHECKS} - objecting == {"command_is_in_sequence", "arm_follows", "controller_obeys"}


def test_a_command_from_the_past_is_out_of_order() -> None:
    gate = Gate(LIMITS)
    assert gate.consider(GOOD, state(), 0.0).verdict is Verdict.PASS
    decision = gate.consider(GOOD, state(), 0.01)
    assert decision.verdict is Verdict.HOLD and names(decision) == {"command_order"}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    bias=st.floats(-1, 1),
    late_ms=st.floats(0, 40),
    transit_ms=st.floats(0, 2),
    missing=st.floats(0, 0.3),
)
@example(seed=1126, bias=0.0, late_ms=31.0, transit_ms=0.0, missing=0.125)  # the arm brakes 0.1 ms after a due time
@example(seed=349566, bias=-0.909, late_ms=33.686, transit_ms=2.0, missing=0.3)
@example(seed=176949, bias=1.0, late_ms=26.0, transit_ms=1.2, missing=0.3)  # seven commands in a row are missing
def test_whatever_actuation_makes_passes_however_late(
    seed: int, bias: float, late_ms: float, transit_ms: float, missing: float
) -> None:
    rng = np.random.default_rng(seed)
    gate, actuator = Gate(LIMITS), Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    unknown = {"workspace", "tool_speed", "self_collision"}  # actuation knows joints alone
    for k in range(20):
        if rng.random() < missing:
            robot = state(k * PERIOD_S, q_rad=actuator.commanded(k * PERIOD_S)[0])
            assert gate.watch(robot, k * PERIOD_S).verdict is Verdict.PASS  # a gate that nobody calls is asleep
            continue
        action = np.clip(rng.normal(bias, 0.7, SPEC.size), -1, 1).astype(np.float32)
        sent_s = k * PERIOD_S + rng.uniform(0, late_ms) * 1e-3
        now_s = sent_s + transit_ms * 1e-3
        robot = state(now_s, q_rad=actuator.commanded(now_s)[0])
        decision = gate.consider(actuator.command(action, k * PERIOD_S, sent_s), robot, now_s)
        assert names(decision) <= unknown, decision.reasons
        if decision.verdict is not Verdict.PASS or decision.command is None:
            return
        actuator.adopt(decision.command.trajectory)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    commands=st.integers(1, 6),
    after_ms=st.floats(12, 200),
    transit_ms=st.floats(0, 2),
)
def test_a_brake_of_actuation_passes_whenever_it_is_made(
    seed: int, commands: int, after_ms: float, transit_ms: float
) -> None:
    rng = np.random.default_rng(seed)
    gate, actuator = Gate(LIMITS), Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    due_s = 0.0
    for due_s in PERIOD_S * np.arange(commands):
        action = rng.uniform(-0.5, 0.5, SPEC.size).astype(np.float32)
        robot = state(due_s, q_rad=actuator.commanded(due_s)[0])
        decision = gate.consider(actuator.command(action, due_s, due_s), robot, due_s)
        assert decision.verdict is Verdict.PASS and decision.command is not None, decision.reasons
        actuator.adopt(decision.command.trajectory)
    now_s = due_s + after_ms * 1e-3
    if (brake := actuator.hold(now_s)) is None:
        return
    sent_s = now_s + transit_ms * 1e-3
    decision = gate.consider(brake, state(sent_s, q_rad=actuator.commanded(sent_s)[0]), sent_s)
    assert decision.verdict is Verdict.PASS and decision.command is not None, decision.reasons


def test_what_arrives_within_the_reaction_time_goes_on_as_it_was_meant() -> None:
    rng = np.random.default_rng(3)
    gate, actuator = Gate(LIMITS), Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    meant, led = (TrajectoryFollower(LIMITS.home_q_rad) for _ in range(2))
    for k in range(30):
        due_s = k * PERIOD_S
        now_s = due_s + rng.uniform(0.001, 0.006)
        command = actuator.command(rng.uniform(-1, 1, SPEC.size).astype(np.float32), due_s, due_s)
        decision = gate.consider(command, state(now_s, q_rad=led.at(now_s)[0]), now_s)
        assert decision.verdict is Verdict.PASS and decision.command is not None, decision.reasons
        assert decision.command.trajectory.start_s == command.trajectory.start_s  # by which its sender knows it
        actuator.adopt(decision.command.trajectory)
        led.set(decision.command.trajectory, now_s + rng.uniform(0, ARRIVAL_S))
        meant.set(command.trajectory, due_s)
        times_s = np.linspace(due_s + 0.02, due_s + PERIOD_S, 20)
        np.testing.assert_allclose(led.sample(times_s)[0], meant.sample(times_s)[0], atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(CHECKS), fault=st.sampled_from(FAULTS))
def test_the_order_of_the_checks_does_not_matter(order: Any, fault: Any) -> None:
    check, _, command, robot = fault
    decisions = [
        Gate(limits_for(check), strict(check), cell=cell_for(check), checks=checks).consider(command, robot, 0.0)
        for checks in (CHECKS, order)
    ]
    assert decisions[0].verdict is decisions[1].verdict and decisions[0].reasons == decisions[1].reasons


LIMITED = [
    *(move(joint, by, in_s) for joint, by, in_s in ((0, 1.9, 1.5), (1, 0.2, 0.36), (5, 1.2, 0.8), (3, 2.4, 1.9))),
    move(0, 1.05e-4, 0.015),
]


@pytest.mark.parametrize("command", LIMITED)
def test_what_is_limited_keeps_the_limits_and_gives_what_they_allow(command: JointCommand) -> None:
    decision = Gate(LIMITS).consider(command, state(), 0.0)
    assert decision.verdict is Verdict.LIMIT and decision.command is not None
    follower = TrajectoryFollower(LIMITS.home_q_rad)
    follower.set(decision.command.trajectory, 0.0)
    motion = foresee(follower, LIMITS, GateConfig())
    room = GateConfig().tolerance
    used = [
        (extent.size / limit).max()
        for extent, limit in (
            (motion.dq, LIMITS.dq_max_rad_s),
            (motion.ddq, LIMITS.ddq_max_rad_s2),
            (motion.dddq, LIMITS.dddq_max_rad_s3),
        )
    ]
    reach = ((motion.q.high - LIMITS.home_q_rad) / (LIMITS.q_max_rad - LIMITS.home_q_rad)).max()
    assert max(used) <= 1 + room and reach <= 1 + 1e-9
    assert max(*used, reach) > 0.8  # much of what the limits allow
    again = Gate(LIMITS).consider(decision.command, state(), 0.0)
    assert again.verdict is Verdict.PASS, again.reasons


def test_hold_goes_on_along_the_path_and_recovers() -> None:
    gate, actuator = Gate(LIMITS), Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    action = np.full(SPEC.size, 0.2, np.float32)
    verdicts = []
    for k in range(6):
        now_s = k * PERIOD_S
        command = actuator.command(action, now_s)
        if k == 3:
            command = changed(command, start_s=now_s - 0.1)
        decision = gate.consider(command, state(now_s), now_s)
        if decision.command is None:
            actuator.withdraw()
        verdicts.append(decision.verdict)
    assert verdicts == [Verdict.PASS] * 3 + [Verdict.HOLD] + [Verdict.PASS] * 2


def test_a_stop_is_latched_until_its_own_generation_is_reset() -> None:
    gate = Gate(LIMITS)
    gate.consider(GOOD, state(), 0.0)
    stop = gate.stop("operator", 0.05)
    assert gate.hold(state(0.06), 0.06).command is None
    assert stop.verdict is Verdict.STOP and stop.command is not None
    assert np.abs(stop.command.trajectory.dq_rad_s[-1]).max() == 0.0
    later = gate.consider(good_command(0.5), state(0.5), 0.5)
    assert later.verdict is Verdict.STOP and later.command is None and later.reasons == stop.reasons
    assert gate.watch(state(0.5), 0.5).verdict is Verdict.STOP
    assert gate.reset(stop.generation - 1, state(0.6), 0.6)[0] is False
    assert gate.reset(stop.generation, state(0.6, mode=RobotMode.REFLEX), 0.6)[0] is False
    assert gate.reset(stop.generation, state(0.0), 0.6)[0] is False and gate.stopped
    assert gate.reset(stop.generation, state(0.6), 0.6)[0] is True
    assert gate.consider(good_command(0.6), state(0.6), 0.6).verdict is Verdict.PASS


def test_the_watchdog_stops_for_a_silent_robot_but_not_for_a_silent_policy() -> None:
    gate = Gate(LIMITS)
    assert gate.watch(None, 0.0).verdict is Verdict.PASS  # nothing is up yet
    gate.consider(GOOD, state(), 0.0)
    assert gate.watch(state(5.0), 5.0).verdict is Verdict.PASS
    assert gate.watch(state(5.0), 5.2).verdict is Verdict.HOLD and not gate.stopped
    decision = gate.watch(state(5.0), 5.6)
    assert decision.verdict is Verdict.STOP and names(decision) == {"state_stale"}


def arrive(gate: Gate, now_s: float = 1.0) -> Array:
    """Let GOOD come to rest, seen by the gate; where that is."""
    gate.consider(GOOD, state(), 0.0)
    rest = GOOD.trajectory.q_rad[-1]
    for seen_s in np.arange(0.04, now_s + 0.02, 0.04):
        follower = TrajectoryFollower(LIMITS.home_q_rad)
        follower.set(GOOD.trajectory, 0.0)
        assert gate.watch(state(seen_s, q_rad=follower.at(seen_s)[0]), seen_s).verdict is Verdict.PASS
    return rest


def test_an_arm_moved_by_somebody_else_is_taken_where_it_is() -> None:
    gate = Gate(LIMITS)
    elsewhere = arrive(gate) + 0.3
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(elsewhere, 1.2)
    command = actuator.command(np.full(SPEC.size, 0.3, np.float32), 1.2)
    assert gate.consider(command, state(1.2, q_rad=elsewhere), 1.2).verdict is Verdict.PASS


def test_a_hold_of_an_arm_that_was_moved_sends_it_nowhere() -> None:
    gate = Gate(LIMITS)
    elsewhere = arrive(gate) + 0.5
    assert gate.hold(state(1.2, q_rad=elsewhere), 1.2).command is None


def test_an_arm_that_does_not_follow_is_held_then_stopped() -> None:
    gate, actuator = Gate(LIMITS), Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    held_rad: list[float] = []
    for k in range(40):  # the driver ignores every command, and the policy does not care
        now_s = k * PERIOD_S
        command = actuator.command(np.full(SPEC.size, 0.5, np.float32), now_s)
        decision = gate.consider(command, state(now_s), now_s)
        if decision.verdict is not Verdict.PASS:
            assert "tracking" in names(decision), decision.reasons
            held_rad.append(float(np.abs(actuator.commanded(now_s)[0] - LIMITS.home_q_rad).max()))
        if decision.verdict is Verdict.STOP:
            break
        if decision.command is None:
            actuator.withdraw()
    assert gate.stopped and 0 < held_rad[0] < 0.5
    assert len(held_rad) < 12  # a second in all


def test_a_controller_that_somebody_else_leads_is_stopped_in_mid_motion() -> None:
    gate, actuator = Gate(LIMITS), Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    for k in range(3):
        now_s = k * PERIOD_S
        q = actuator.commanded(now_s)[0]
        robot = state(now_s, q_rad=q, desired_q_rad=q)
        command = actuator.command(np.full(SPEC.size, 0.3, np.float32), now_s)
        assert gate.consider(command, robot, now_s).verdict is Verdict.PASS
    now_s = 3 * PERIOD_S - 0.02
    q = actuator.commanded(now_s)[0]
    foreign = q + 0.2 * np.eye(JOINTS)[5]
    decision = gate.watch(state(now_s, q_rad=q, desired_q_rad=foreign), now_s)
    assert decision.verdict is Verdict.STOP and names(decision) == {"reference"}


def test_a_reference_that_is_older_than_the_measured_state_is_compared_with_its_own_time() -> None:
    gate, actuator = Gate(LIMITS), Actuator(LIMITS, SPEC)
    actuator.reset(LIMITS.home_q_rad, 0.0)
    apart_rad = 0.0
    for k in range(10):
        now_s = k * PERIOD_S
        told_s = max(0.0, now_s - 0.05)
        q, told = actuator.commanded(now_s)[0], LIMITS.home_q_rad
        if gate._told is not None and (before := gate._told.expected(told_s)) is not None:
            told = before
        apart_rad = max(apart_rad, float(np.abs(q - told).max()))
        robot = state(now_s, q_rad=q, desired_q_rad=told, mode_stamp_s=told_s)
        command = actuator.command(np.full(SPEC.size, 1.0, np.float32), now_s)
        decision = gate.consider(command, robot, now_s)
        assert decision.verdict is Verdict.PASS, decision.reasons
    assert apart_rad > GateConfig().reference_hold_rad


def test_how_hard_the_arm_may_work_is_the_cells() -> None:
    felt = state(tau_ext_nm=2.0 * LIMITS.reflex_tau_nm)
    verdicts = {name: Gate(LIMITS, cell=load_cell(name)).consider(GOOD, felt, 0.0).verdict for name in known_cells()}
    assert verdicts == {"open": Verdict.STOP, "kitchen": Verdict.PASS, "table": Verdict.PASS}


def test_a_gate_that_slept_blames_itself_and_goes_on_when_awake() -> None:
    gate = Gate(LIMITS)
    rest = arrive(gate)
    old = state(1.02, q_rad=rest)  # the newest state that it can have when it wakes
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(rest, 6.0)
    decision = gate.consider(actuator.command(np.full(SPEC.size, 0.3, np.float32), 6.0), old, 6.0)
    assert decision.verdict is Verdict.HOLD and "gate_slept" in names(decision) and decision.command is None
    assert gate.watch(state(6.03, q_rad=rest), 6.04).verdict is Verdict.PASS
    actuator.withdraw()
    command = actuator.command(np.full(SPEC.size, 0.3, np.float32), 6.08)
    assert gate.consider(command, state(6.08, q_rad=rest), 6.08).verdict is Verdict.PASS
    last = state(6.08, q_rad=rest)
    verdicts = [gate.watch(last, now_s).verdict for now_s in np.arange(6.12, 6.7, 0.04)]
    assert verdicts[-1] is Verdict.STOP  # awake, and still no state


def test_time_that_goes_back_stops_with_that_reason_and_a_reset_mends_it() -> None:
    gate = Gate(LIMITS)
    gate.consider(good_command(100.0), state(100.0), 100.0)
    decision = gate.watch(state(90.04), 90.04)
    assert decision.verdict is Verdict.STOP and names(decision) == {"clock_jumped"} and decision.command is None
    assert "back by 9.960 s" in decision.reasons[0]
    assert gate.reset(decision.generation, state(91.0), 91.0)[0]
    assert gate.consider(good_command(91.0), state(91.0), 91.0).verdict is Verdict.PASS


def test_a_moving_arm_is_not_reset() -> None:
    gate = Gate(LIMITS)
    stop = gate.stop("operator", 0.0)
    cleared, why = gate.reset(stop.generation, state(0.1, dq_rad_s=np.full(JOINTS, 0.1)), 0.1)
    assert not cleared and "joint 1 at 0.100 rad/s" in why and gate.stopped
    assert gate.reset(stop.generation, state(0.2), 0.2)[0]


@pytest.mark.parametrize("told", [True, False])
def test_a_sagging_arm_is_not_taken_for_a_moved_one(told: bool) -> None:
    gate = Gate(LIMITS)
    rest = arrive(gate)
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(rest, 1.2)
    command = actuator.command(np.full(SPEC.size, 0.3, np.float32), 1.2)
    sagging = state(1.2, q_rad=rest - 0.02, desired_q_rad=rest if told else None)
    decision = gate.consider(command, sagging, 1.2)
    assert decision.verdict is Verdict.PASS, decision.reasons


def test_a_controllers_reference_tells_small_moves_by_others() -> None:
    gate = Gate(LIMITS)
    moved = arrive(gate) + 0.03
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(moved, 1.2)
    command = actuator.command(np.full(SPEC.size, 0.3, np.float32), 1.2)
    decision = gate.consider(command, state(1.2, q_rad=moved, desired_q_rad=moved), 1.2)
    assert decision.verdict is Verdict.PASS, decision.reasons


def test_a_hand_goal_is_judged_on_its_own() -> None:
    gate = Gate(LIMITS)
    good = GripperCommand(kind="grasp", width_m=0.0, speed_m_s=0.1, force_n=40.0)
    assert gate.consider_hand(good, state(), 0.0).verdict is Verdict.PASS
    assert gate.consider_hand(dataclasses.replace(good, force_n=400.0), state(), 0.0).verdict is Verdict.HOLD


def test_forward_kinematics_of_the_home_pose() -> None:
    points = arm_points(LIMITS, LIMITS.home_q_rad[None])[0]
    np.testing.assert_allclose(points[2], [0.3069, 0.0, 0.5903], atol=1e-3)  # flange; the hand points straight down
    np.testing.assert_allclose(points[3], points[2] - [0, 0, 0.1034], atol=1e-9)
