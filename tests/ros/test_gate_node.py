"""The gate as a process: what is unfit does not reach the driver, and a stop stays."""

from __future__ import annotations

import numpy as np
from ros.ros_harness import ANSWER_S, Watcher, clear_gate, wait_until
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.types import JOINTS, JointCommand, JointTrajectory, Verdict
from skimo_ros import conversions as convert
from skimo_ros.adapters import load_adapter
from skimo_ros.backend import RosBackend
from skimo_ros.nodes import COMMAND_QOS, Names


def propose(watcher: Watcher, trajectory: JointTrajectory) -> None:
    publisher = watcher.node.create_publisher(TrajectoryMsg, Names.PROPOSED, COMMAND_QOS)
    wait_until(lambda: publisher.get_subscription_count() > 0, "the gate to listen", ANSWER_S)
    publisher.publish(convert.to_trajectory(trajectory, load_adapter("twin").joints))
    wait_until(lambda: publisher.wait_for_all_acked(), "the proposal to arrive", ANSWER_S)


def move(arm: RosBackend, by_rad: float, in_s: float) -> JointTrajectory:
    still = np.zeros((1, JOINTS))
    return JointTrajectory(
        start_s=arm.now_s(),
        times_s=np.array([in_s]),
        q_rad=arm.read().q_rad[None] + by_rad,
        dq_rad_s=still,
        ddq_rad_s2=still,
    )


def ready(arm: RosBackend, watcher: Watcher) -> None:
    clear_gate(arm)
    wait_until(lambda: not watcher.gate[-1].latched, "the gate to say so", ANSWER_S)


def test_a_fair_trajectory_goes_on_and_an_excessive_one_does_not(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    sent, held = len(watcher.sent), watcher.gate[-1].held
    propose(watcher, move(arm, 0.02, 0.5))
    wait_until(lambda: len(watcher.sent) == sent + 1, "the trajectory to go on", ANSWER_S)
    propose(watcher, move(arm, 0.8, 0.3))
    event = wait_until(lambda: watcher.gate[-1].held > held and watcher.gate[-1], "the gate to hold", ANSWER_S)
    assert any("joint_" in reason for e in watcher.gate for reason in e.reasons) and not event.latched
    assert len(watcher.sent) == sent + 1


def test_what_is_not_finite_stops_the_arm_until_reset(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    bad = move(arm, 0.02, 0.5)
    bad.q_rad[0, 2] = np.nan
    propose(watcher, bad)
    stopped = wait_until(lambda: watcher.gate[-1].latched and watcher.gate[-1], "the gate to stop", ANSWER_S)
    assert "command_finite" in stopped.reasons[0] and stopped.verdict == Verdict.STOP
    assert all(np.isfinite(p.positions).all() for message in watcher.sent for p in message.points)
    sent = len(watcher.sent)
    commands = watcher.gate[-1].commands
    propose(watcher, move(arm, 0.02, 0.5))
    wait_until(lambda: watcher.gate[-1].commands > commands, "the refusal to be counted", ANSWER_S)
    assert len(watcher.sent) == sent
    generation = watcher.gate[-1].generation
    ready(arm, watcher)
    arm.write(JointCommand(trajectory=move(arm, 0.02, 0.5)))
    wait_until(lambda: len(watcher.sent) > sent, "the arm to be commanded again", ANSWER_S)
    assert watcher.gate[-1].generation == generation


def test_an_operators_stop_is_latched(arm: RosBackend, watcher: Watcher) -> None:
    ready(arm, watcher)
    assert watcher.trigger(Names.GATE_STOP)[0]
    wait_until(lambda: watcher.gate[-1].latched, "the stop", ANSWER_S)
    ready(arm, watcher)
