"""The gate as a process: what is unfit does not reach the driver, and a stop stays."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from functools import lru_cache

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from ros.ros_harness import ANSWER_S, Processes, Watcher, clear_gate, nobody_publishes, send_home
from sensor_msgs.msg import JointState
from skimo_msgs.srv import ResetGate
from support.waiting import START_S, wait_until
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import JOINTS, JointCommand, JointTrajectory, Verdict
from skimo_ros import conversions as convert
from skimo_ros.adapters import load_adapter
from skimo_ros.backend import RosBackend
from skimo_ros.nodes import COMMAND_QOS, EVENT_QOS, Names

pytestmark = [pytest.mark.ros, pytest.mark.alone]

COMMAND_TOPIC = load_adapter("twin").command


@pytest.fixture(scope="module", autouse=True)
def at_home(arm: RosBackend) -> None:
    """Whatever flew before may have left the arm where every move brings it too near something."""
    send_home(arm)
    arm.let_go()


def propose(arm: RosBackend, watcher: Watcher, trajectory: JointTrajectory) -> None:
    """Propose as the only one who does."""
    arm.let_go()
    nobody_publishes(watcher, Names.PROPOSED)
    publisher = watcher.node.create_publisher(TrajectoryMsg, Names.PROPOSED, COMMAND_QOS)
    wait_until(lambda: publisher.get_subscription_count() > 0, "the gate to listen", ANSWER_S)
    publisher.publish(convert.to_trajectory(trajectory, load_adapter("twin").joints))
    wait_until(lambda: publisher.wait_for_all_acked(), "the proposal to arrive", ANSWER_S)
    watcher.node.destroy_publisher(publisher)
    nobody_publishes(watcher, Names.PROPOSED)


def move(arm: RosBackend, by_rad: float, in_s: float) -> JointTrajectory:
    still = np.zeros((1, JOINTS))
    return JointTrajectory(
        start_s=arm.now_s(),
        times_s=np.array([in_s]),
        q_rad=arm.read().q_rad[None] + by_rad,
        dq_rad_s=still,
        ddq_rad_s2=still,
    )


@lru_cache(maxsize=1)
def place(arm: RosBackend) -> np.ndarray:
    """Where the arm was when it was first asked."""
    return arm.read().q_rad


def nudge(arm: RosBackend) -> JointTrajectory:
    """A small move that leads to one place, or away from it: may be repeated for ever."""
    home = place(arm)
    away = float(np.abs(arm.read().q_rad - home).max()) > 0.01
    trajectory = move(arm, 0.0, 0.5)
    trajectory.q_rad[0] = home if away else home + 0.02
    return trajectory


def goes_on(arm: RosBackend, watcher: Watcher) -> None:
    """Command until something goes on to the driver."""
    sent = len(watcher.sent)

    def passed() -> bool:
        if len(watcher.sent) == sent:
            arm.write(JointCommand(trajectory=nudge(arm)))
        return len(watcher.sent) > sent

    wait_until(passed, "a command to go on", ANSWER_S, lambda: watcher.gate[-1], poll_s=0.1)


def ready(arm: RosBackend, watcher: Watcher) -> None:
    clear_gate(arm)
    wait_until(lambda: not watcher.gate[-1].latched, "the gate to say so", ANSWER_S)


def test_a_fair_trajectory_goes_on_and_an_excessive_one_does_not(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    sent = len(watcher.sent)

    def passed() -> bool:  # a busy machine's pause makes a command too old
        commands = watcher.gate[-1].commands
        propose(arm, watcher, move(arm, 0.02, 0.5))
        answered = lambda: len(watcher.sent) > sent or watcher.gate[-1].commands > commands  # noqa: E731
        wait_until(answered, "an answer", ANSWER_S)
        return len(watcher.sent) == sent + 1

    wait_until(passed, "the trajectory to go on", START_S, lambda: watcher.gate[-1])
    held = watcher.gate[-1].held
    propose(arm, watcher, move(arm, 0.8, 0.3))
    event = wait_until(lambda: watcher.gate[-1].held > held and watcher.gate[-1], "the gate to hold", ANSWER_S)
    assert any("joint_" in reason for e in watcher.gate for reason in e.reasons) and not event.latched
    assert len(watcher.sent) == sent + 1


def test_what_is_not_finite_stops_the_arm_until_reset(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    bad = move(arm, 0.02, 0.5)
    bad.q_rad[0, 2] = np.nan
    propose(arm, watcher, bad)
    stopped = wait_until(lambda: watcher.gate[-1].latched and watcher.gate[-1], "the gate to stop", ANSWER_S)
    assert "command_finite" in stopped.reasons[0] and stopped.verdict == Verdict.STOP
    assert all(np.isfinite(p.positions).all() for message in watcher.sent for p in message.points)
    sent = len(watcher.sent)
    commands = watcher.gate[-1].commands
    propose(arm, watcher, move(arm, 0.02, 0.5))
    wait_until(lambda: watcher.gate[-1].commands > commands, "the refusal to be counted", ANSWER_S)
    assert len(watcher.sent) == sent
    generation = watcher.gate[-1].generation
    ready(arm, watcher)
    goes_on(arm, watcher)
    assert watcher.gate[-1].generation == generation


def test_an_operators_stop_is_latched(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    assert watcher.trigger(Names.GATE_STOP)[0]
    wait_until(lambda: watcher.gate[-1].latched, "the stop", ANSWER_S)
    ready(arm, watcher)


def latched(watcher: Watcher, *words: str) -> str:
    """Wait for a stop whose reason holds these words; return it."""

    def seen() -> str:
        event = watcher.gate[-1]
        text = "; ".join(event.reasons)
        return text if event.latched and all(word in text for word in words) else ""

    return wait_until(seen, f"a stop that names {words}", ANSWER_S, lambda: watcher.gate[-1].reasons)


def test_a_reset_clears_the_stop_that_was_seen_and_no_newer_one(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    assert watcher.trigger(Names.GATE_STOP)[0]
    seen = wait_until(lambda: watcher.gate[-1].latched and watcher.gate[-1], "the stop", ANSWER_S).generation
    ready(arm, watcher)
    assert watcher.trigger(Names.GATE_STOP)[0]
    cleared, why = watcher.trigger(Names.GATE_RESET)  # at once: nobody can have seen it
    assert not cleared and f"stop {seen + 1} is" in why and Names.GATE_RESET_STOP in why
    answer = watcher.call(ResetGate, Names.GATE_RESET_STOP, convert.reset_stop_request(seen))
    assert not answer.success and f"stop {seen} is not the newest" in answer.message
    answer = watcher.call(ResetGate, Names.GATE_RESET_STOP, convert.reset_stop_request(seen + 1))
    assert answer.success, answer.message


def test_an_old_stop_may_be_cleared_without_its_name(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    assert watcher.trigger(Names.GATE_STOP)[0]
    wait_until(lambda: watcher.trigger(Names.GATE_RESET)[0], "gate/reset to have waited its second", ANSWER_S)


def test_skimo_reset_shows_the_stop_that_it_clears(arm: RosBackend, watcher: Watcher, processes: Processes) -> None:
    ready(arm, watcher)
    assert watcher.trigger(Names.GATE_STOP)[0]
    process = processes.command("reset", [sys.executable, "-m", "skimo_core.cli", "reset", "--timeout-s", "3"])
    process.wait(START_S)
    processes.running.pop("reset")
    said = processes.log("reset")
    stop = wait_until(lambda: next((e for e in reversed(watcher.gate) if e.latched), None), "the stop", ANSWER_S)
    assert f"clearing STOP {stop.generation}: asked: gate/stop was called" in said, said
    assert f"stop {stop.generation} cleared" in said, said


def test_while_another_node_publishes_to_the_driver_nothing_moves_and_it_is_named(
    arm: RosBackend, watcher: Watcher
) -> None:
    ready(arm, watcher)
    at_rest(arm)
    intruder = watcher.node.create_publisher(TrajectoryMsg, COMMAND_TOPIC, COMMAND_QOS)
    try:
        held = watcher.gate[-1].held

        def refused() -> bool:
            arm.write(JointCommand(trajectory=nudge(arm)))
            return any("/watcher publishes on" in r for e in watcher.gate if e.held > held for r in e.reasons)

        wait_until(refused, "a refusal that names the intruder", ANSWER_S, lambda: watcher.gate[-1])
        sent = len(watcher.sent)
        commands = watcher.gate[-1].commands
        arm.write(JointCommand(trajectory=nudge(arm)))
        wait_until(lambda: watcher.gate[-1].commands > commands, "the refusal to be counted", ANSWER_S)
        assert len(watcher.sent) == sent and not watcher.gate[-1].latched
        wait_until(
            lambda: any("/watcher publishes on" in d.message for d in watcher.health("skimo: gate")),
            "the diagnostics to say so",
            ANSWER_S,
        )
    finally:
        watcher.node.destroy_publisher(intruder)
    goes_on(arm, watcher)


def at_rest(arm: RosBackend) -> None:
    """Wait until whatever was sent has ended."""
    since_s = arm.now_s()
    wait_until(lambda: arm.now_s() > since_s + 0.7, "what was sent to end", ANSWER_S)


def test_a_foreign_trajectory_stops_the_arm_even_if_its_sender_has_gone(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    at_rest(arm)
    intruder = watcher.node.create_publisher(TrajectoryMsg, COMMAND_TOPIC, COMMAND_QOS)
    wait_until(lambda: intruder.get_subscription_count() >= 3, "the driver and the gate to listen", ANSWER_S)
    message = convert.to_trajectory(nudge(arm), load_adapter("twin").joints, sender="/gate_node")
    for point in message.points:
        point.velocities = []  # as other programs send: the driver may take it, we could not
    intruder.publish(message)
    wait_until(lambda: intruder.wait_for_all_acked(), "the trajectory to arrive", ANSWER_S)
    watcher.node.destroy_publisher(intruder)
    latched(watcher, "1 trajectories on", "are not the gate's")
    ready(arm, watcher)


def test_a_publisher_that_comes_while_the_arm_moves_stops_it(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    goes_on(arm, watcher)
    arm.write(JointCommand(trajectory=move(arm, 0.03, 1.9)))
    intruder = watcher.node.create_publisher(TrajectoryMsg, COMMAND_TOPIC, COMMAND_QOS)
    try:
        latched(watcher, "second_commander", "publishes on")  # its node's name may come a moment later
        named = lambda: any("/watcher publishes on" in value for value in watcher.figures("skimo: gate", "others"))  # noqa: E731
        wait_until(named, "the diagnostics to name it", ANSWER_S)
        answer = watcher.call(ResetGate, Names.GATE_RESET_STOP, convert.reset_stop_request(watcher.gate[-1].generation))
        cleared, why = answer.success, answer.message
        assert not cleared and "/watcher publishes on" in why  # its cause lasts
    finally:
        watcher.node.destroy_publisher(intruder)
    clear_gate(arm)


def test_a_second_proposer_is_not_obeyed(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    goes_on(arm, watcher)
    wait_until(lambda: arm.now_s() > arm.read().stamp_s - 1.0, "a state")
    second = watcher.node.create_publisher(TrajectoryMsg, Names.PROPOSED, COMMAND_QOS)
    try:

        def refused() -> bool:
            if watcher.gate[-1].latched:
                return any("/ros_backend, /watcher publish on" in r for r in watcher.gate[-1].reasons)
            second.publish(convert.to_trajectory(nudge(arm), load_adapter("twin").joints))
            return any("/ros_backend, /watcher publish on" in r for e in watcher.gate[-3:] for r in e.reasons)

        wait_until(refused, "the gate to name both", ANSWER_S, lambda: watcher.gate[-1], poll_s=0.05)
    finally:
        watcher.node.destroy_publisher(second)
    nobody_publishes(watcher, Names.PROPOSED, but=1)
    clear_gate(arm)


def test_a_second_node_that_sends_this_arms_joint_states_is_named_and_a_grippers_is_not(
    arm: RosBackend, watcher: Watcher
) -> None:
    ready(arm, watcher)
    adapter = load_adapter("twin")
    other = watcher.node.create_publisher(JointState, adapter.joint_states, EVENT_QOS)
    try:
        wait_until(lambda: other.get_subscription_count() >= 2, "gate and backend to listen", ANSWER_S)

        def say(names: tuple[str, ...], offset_rad: float) -> None:
            state = arm.read()
            message = JointState(name=list(names), position=[offset_rad] * len(names), velocity=[0.0] * len(names))
            if len(names) == JOINTS:
                message.position = (state.q_rad + offset_rad).tolist()
            message.header.stamp = convert.to_time(arm.now_s())
            other.publish(message)

        for _ in range(40):
            say(adapter.fingers, 0.01)
            wait_until(lambda: other.wait_for_all_acked(), "it to arrive", ANSWER_S)
        goes_on(arm, watcher)

        def named() -> bool:
            say(adapter.joints, 0.0005)  # too little for any check of positions
            words = "; ".join(r for e in watcher.gate[-3:] for r in e.reasons)
            if "more than one node" not in words and not watcher.gate[-1].latched:
                with suppress(BackendError):  # it hears of the gate's stop before the watcher may
                    arm.write(JointCommand(trajectory=nudge(arm)))
            return "more than one node sends this arm's joint states" in words and "/watcher" in words

        wait_until(named, "the gate to name both", ANSWER_S, lambda: watcher.gate[-1].reasons, poll_s=0.02)
    finally:
        watcher.node.destroy_publisher(other)
    clear_gate(arm)


def test_a_gate_that_slept_blames_nobody_and_moves_again(
    arm: RosBackend, watcher: Watcher, processes: Processes
) -> None:
    ready(arm, watcher)
    goes_on(arm, watcher)
    wait_until(lambda: arm.read().mode is not None and not watcher.gate[-1].latched, "the gate to be clear", ANSWER_S)
    stops = watcher.gate[-1].stops
    gate = processes.running["gate_node"]
    gate.send_signal(signal.SIGSTOP)
    try:
        since_s = arm.now_s()
        wait_until(lambda: arm.now_s() > since_s + 1.0, "the gate to sleep for a second", ANSWER_S)
    finally:
        gate.send_signal(signal.SIGCONT)
    goes_on(arm, watcher)
    assert watcher.gate[-1].stops == stops, watcher.gate[-1].reasons


def test_another_clock_is_refused_on_a_running_node(arm: RosBackend, watcher: Watcher) -> None:
    value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=True)
    request = SetParameters.Request(parameters=[ParameterMsg(name="use_sim_time", value=value)])
    for node in ("gate_node", "twin_node"):
        result = watcher.call(SetParameters, f"{node}/set_parameters", request).results[0]
        assert not result.successful and "read at start" in result.reason


def test_before_others_could_be_discovered_nothing_moves(
    arm: RosBackend, watcher: Watcher, processes: Processes
) -> None:
    ready(arm, watcher)
    assert processes.end("gate_node") == 0
    told = len(watcher.gate)
    processes.node("gate_node", settle_s=4.0)
    try:
        processes.wait_for_log("gate_node", "gate ready")

        def refused() -> bool:
            arm.write(JointCommand(trajectory=nudge(arm)))
            return any(r.startswith("settling: ") for e in watcher.gate[told:] for r in e.reasons)

        wait_until(refused, "the gate to say that it is looking who is there", ANSWER_S, poll_s=0.1)
        goes_on(arm, watcher)
    finally:
        processes.end("gate_node")
        processes.node("gate_node")
        arm.wait_until_up(90.0)
        goes_on(arm, watcher)
