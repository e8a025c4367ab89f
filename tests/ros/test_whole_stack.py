"""The whole stack against what it must bear: a frozen gate, a second commander, and messages that nobody should send.

Also: who may do what in its graph (SROS2) is what its nodes do. The order matters: what breaks most comes last.
Some hundred messages to each subscription here; `benchmarks/fuzz_nodes.py` sends many more.
"""

from __future__ import annotations

import signal
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from ros.fuzz import Attack, Fuzzer
from ros.ros_harness import ANSWER_S
from ros.sound import sound_messages
from ros.whole_stack import NODES, WholeStack, logs
from support.waiting import START_S, wait_until

from skimo_core.contract.types import Verdict
from skimo_ros.adapters import load_adapter
from skimo_ros.guarded import FAULT
from skimo_ros.nodes import COMMAND_QOS, Names

pytestmark = [pytest.mark.ros, pytest.mark.alone]

POLICY = Path(__file__).resolve().parents[2] / "launch/security/policy.xml"
ACTION_PARTS = {"services": ("send_goal", "get_result", "cancel_goal"), "topics": ("feedback", "status")}
MESSAGES, REQUESTS = 30, 5
EXPECTED = {
    "/joint_states",
    "/object_states",
    "/franka_robot_state_broadcaster/robot_state",
    "/joint_trajectory_controller/joint_trajectory",
    "/skimo/proposed",
    "/skimo/gripper",
    "/skimo/gate",
    "/skimo/episode",
    "/skimo/episode_step",
    "/skimo/plan_status",
    "/franka_gripper/move/_action/feedback",
    "/franka_gripper/move/_action/send_goal",
    "/franka_gripper/grasp/_action/cancel_goal",
    "/policy/start_episode",
    "/gate/reset_stop",
    "/gate_node/set_parameters",
    "/twin/reset",
}


def allowed(node: str) -> dict[str, set[str]]:
    """Absolute names by what a node may do with them: publish, subscribe, reply, request; actions taken apart."""
    profile = ElementTree.parse(POLICY).getroot().find(f"enclaves/enclave/profiles/profile[@node='{node}']")
    assert profile is not None and profile.get("ns") == "/"
    may: dict[str, set[str]] = {"publish": set(), "subscribe": set(), "reply": set(), "request": set()}
    for group in profile:
        ((how, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        for item in group:
            name = f"/{item.text}" if not item.text.startswith(("/", "~")) else item.text.replace("~", f"/{node}")
            if group.tag != "actions":
                may[how].add(name)
                continue
            server = how == "execute"
            may["reply" if server else "request"] |= {f"{name}/_action/{p}" for p in ACTION_PARTS["services"]}
            may["publish" if server else "subscribe"] |= {f"{name}/_action/{p}" for p in ACTION_PARTS["topics"]}
    return may


@pytest.mark.parametrize("name", NODES)
def test_every_node_does_what_its_enclave_allows_and_nothing_else(whole_stack: WholeStack, name: str) -> None:
    node, may = whole_stack.watcher.node, allowed(name)

    def at_odds() -> list[str]:
        """Where the node does other things than it may; what it does is discovered bit by bit."""
        if name not in node.get_node_names():
            return [f"{name} is not known yet"]
        does = {
            "publish": node.get_publisher_names_and_types_by_node(name, "/"),
            "subscribe": node.get_subscriber_names_and_types_by_node(name, "/"),
            "reply": node.get_service_names_and_types_by_node(name, "/"),
            "request": node.get_client_names_and_types_by_node(name, "/"),
        }
        found = []
        for how, topics in does.items():
            names = {topic for topic, _ in topics}
            others = {n for n in may[how] if n.startswith(("/panda_", "/clock"))}  # multipanda's; simulated time
            found += [f"{name} may not {how} {topic}" for topic in sorted(names - may[how])]
            found += [f"{name} does not {how} {topic}" for topic in sorted(may[how] - names - others)]
        return found

    wait_until(lambda: not at_odds(), "it to do just what it may", ANSWER_S, at_odds)


def test_only_the_gate_may_command_the_driver_and_only_the_policy_may_propose() -> None:
    profiles = [p.get("node", "") for p in ElementTree.parse(POLICY).getroot().iter("profile")]
    assert set(profiles) >= {*NODES, "skimo_operator"}
    command = f"/{load_adapter('twin').command}"
    assert [node for node in profiles if command in allowed(node)["publish"]] == ["gate_node"]
    for topic in (Names.PROPOSED, Names.GRIPPER, Names.EPISODE):
        assert [node for node in profiles if f"/{topic}" in allowed(node)["publish"]] == ["policy_node"]


def test_a_start_that_names_no_task_takes_the_nodes_own(whole_stack: WholeStack) -> None:
    watcher = whole_stack.watcher
    whole_stack.fly("before")  # the gate cleared, the scene put back
    started, why, _ = watcher.start_episode("", 99, "defaults")
    assert started, why
    event = wait_until(lambda: [e for e in watcher.events if e.episode_id == "defaults"], "news of it", ANSWER_S)[0]
    assert (event.task, event.seed, list(event.subtasks)) == ("kettle", 7, ["kettle"])
    started, why, _ = watcher.start_episode("no such task", 0, "")
    assert not started and "unknown task" in why
    started, why, _ = watcher.start_episode("kettle", 0, "x" * 400)
    assert not started and "400 characters, bound 128" in why


def test_a_frozen_gate_holds_the_policy_and_what_was_sent_last_ends_at_rest(whole_stack: WholeStack) -> None:
    stack, watcher = whole_stack, whole_stack.watcher
    gate = stack.processes.running["gate_node"]

    def frozen_while_it_acts() -> bool:
        """On a busy machine an episode may be held before the gate is frozen: then again."""
        stack.fly("frozen")
        wait_until(lambda: watcher.state in ("running", "held"), "it to fly", START_S)
        gate.send_signal(signal.SIGSTOP)
        try:
            held = wait_until(lambda: watcher.state == "held" and watcher.status[-1], "the policy to hold", ANSWER_S)
            return "is gate_node alive" in held.reason
        finally:
            gate.send_signal(signal.SIGCONT)

    wait_until(frozen_while_it_acts, "the policy to notice the frozen gate", START_S, lambda: watcher.status[-1])
    steps = wait_until(
        lambda: [s for s in watcher.steps if s.episode_id == "frozen" and "did not pass" in s.reason], "steps", ANSWER_S
    )
    assert all(s.verdict == Verdict.HOLD for s in steps) and not np.any(steps[-1].action_applied)
    assert any(np.any(s.action_proposed) for s in steps)

    before = len(watcher.steps)

    def goes_on() -> bool:
        watcher.trigger(Names.GATE_RESET)
        if not watcher.trigger(Names.RESUME)[0] or watcher.state == "done":
            stack.fly("frozen no more")
        return any(np.any(s.action_applied) for s in watcher.steps[before:])

    wait_until(goes_on, "the policy to go on with the gate that woke", START_S, lambda: watcher.status[-1], poll_s=0.2)


def test_the_policy_holds_where_another_commands_the_driver_and_says_who(whole_stack: WholeStack) -> None:
    stack, watcher = whole_stack, whole_stack.watcher
    topic = load_adapter("twin").command
    message = sound_messages(watcher)[f"/{topic}"]()
    message.header.frame_id = ""
    message.points = message.points[:1]
    message.points[0].velocities, message.points[0].accelerations = [], []  # a driver may take it, we could not

    def foreign_while_it_acts() -> bool:
        """On a busy machine an episode may be held before: then again."""
        stack.fly("foreign")
        wait_until(lambda: watcher.state in ("running", "held"), "it to fly", START_S)
        intruder = watcher.node.create_publisher(type(message), topic, COMMAND_QOS)
        try:
            wait_until(lambda: intruder.get_subscription_count() >= 4, "everybody to listen", ANSWER_S)
            intruder.publish(message)
            held = wait_until(lambda: watcher.state == "held" and watcher.status[-1], "the policy to hold", ANSWER_S)
            wait_until(lambda: watcher.gate[-1].latched, "the gate to stop", ANSWER_S)
        finally:
            watcher.node.destroy_publisher(intruder)
        return "/watcher" in held.reason or "second_commander" in held.reason

    wait_until(foreign_while_it_acts, "the policy to name the other", START_S, lambda: watcher.status[-1])
    assert stack.alive() == list(NODES)


def test_the_fuzzer_draws_the_same_again_and_reaches_what_is_dangerous() -> None:
    from trajectory_msgs.msg import JointTrajectory

    def draw() -> list[JointTrajectory]:
        fuzzer = Fuzzer(3)
        return [fuzzer.message(JointTrajectory) for _ in range(300)]

    drawn, again = draw(), draw()
    assert [str(m) for m in drawn] == [str(m) for m in again]
    points = [p for m in drawn for p in m.points[:10]]
    assert any(len(p.positions) == 7 and len(p.accelerations) == 3 for p in points)
    assert any(np.isnan(p.positions).any() for p in points) and any(np.isinf(p.velocities).any() for p in points)
    assert {m.header.stamp.sec for m in drawn} >= {2**31 - 1, -(2**31), 0}
    assert max(len(m.points) for m in drawn) > 1000 and max(len(m.joint_names) for m in drawn) > 1000


def test_no_message_and_no_request_ends_a_node(whole_stack: WholeStack) -> None:
    stack, watcher = whole_stack, whole_stack.watcher
    stack.fly("fuzzed")
    attack = Attack(watcher.node, NODES, Fuzzer(1), valid=sound_messages(watcher), spared=("change_state",))
    try:
        assert set(attack.names) >= EXPECTED, EXPECTED - set(attack.names)
        attack.run(MESSAGES, REQUESTS)
        print(attack.sent)
    finally:
        attack.close()
    assert stack.alive() == list(NODES)
    assert logs(stack, FAULT) == [] and logs(stack, "Traceback") == []
    for topic in ("/skimo/proposed", "/joint_states"):
        assert [line for line in logs(stack, f"message on '{topic}'") if "refused: " in line], topic
    stack.fly("after the attack")  # and the stack is whole
    wait_until(lambda: watcher.state in ("running", "missed", "held", "preparing"), "it to fly", ANSWER_S)


def test_no_request_to_the_lifecycle_ends_the_policy_node(whole_stack: WholeStack) -> None:
    attack = Attack(whole_stack.watcher.node, ["policy_node"], Fuzzer(2), spared=("parameters", "/policy/"))
    try:
        assert "/policy_node/change_state" in attack.names
        attack.run(0, 12)
    finally:
        attack.close()
    assert whole_stack.alive() == list(NODES)
    assert logs(whole_stack, FAULT) == [] and logs(whole_stack, "Traceback") == []
