"""Two whole stacks in one ROS domain, /left and /right: each is started, stopped, reset and recorded by itself.

The right arm's driver is a lab's own, with another name for its recovery. The twins are kinematic: cheap, and enough.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from mcap.reader import make_reader
from rclpy.context import Context
from ros.ros_harness import ANSWER_S, Processes
from support.waiting import START_S, wait_until
from trajectory_msgs.msg import JointTrajectory

from skimo_core.contract.errors import SetupError
from skimo_core.control.reports import PolicyReport
from skimo_core.domain.domain import load_domain
from skimo_core.process.isolation import free_domain
from skimo_ros import cli
from skimo_ros.adapters import load_adapter
from skimo_ros.backend import RosBackend
from skimo_ros.nodes import COMMAND_QOS, EVENT_QOS, Names
from skimo_ros.operator import Operator
from skimo_ros.reports import GateReport
from skimo_server.testing import make_bundle

pytestmark = [pytest.mark.ros, pytest.mark.alone]
NODES = ("twin_node", "gate_node", "recorder_node", "policy_node")
LAB_DRIVER = "like: franka_ros2\nsource: ours\nrobots: [panda, any]\narm: panda\nrecovery: lab/recover\n"
COMMAND = "import sys; from skimo_ros import cli; sys.exit(getattr(cli, sys.argv[1])(sys.argv[2:]))"


@dataclass
class Arms:
    """Both stacks, and an operator of each."""

    processes: Processes
    operators: dict[str, Operator]
    recordings: Path
    driver: Path

    def skimo(self, command: str, *words: str) -> tuple[int, str]:
        """Run a command of the operator's; return its exit code and what it said."""
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            code = getattr(cli, command)(["--timeout-s", "20", *words])
        return code, said.getvalue()

    def gate(self, arm: str) -> GateReport:
        report = self.operators[arm].gate()
        assert report is not None
        return report

    def is_up(self, arm: str) -> bool:
        report = self.operators[arm].policy()
        return report is not None and report.state == "idle"

    def policy(self, arm: str) -> PolicyReport:
        report = self.operators[arm].policy()
        assert report is not None
        return report


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arms]:
    folder = Path(tmp_path_factory.mktemp("arms"))
    driver = folder / "lab.yaml"
    driver.write_text(LAB_DRIVER)
    domain, bundle = load_domain(), folder / "bundle"
    make_bundle(bundle, observation=domain.observation, action=domain.action)
    context = Context()
    with free_domain() as lock, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.setenv("ROS_DOMAIN_ID", str(lock.domain))
        rclpy.init(context=context, domain_id=lock.domain)
        processes = Processes(folder, lock.domain)
        operators = {arm: Operator(arm, timeout_s=20.0, context=context) for arm in ("left", "right")}
        arms = Arms(processes, operators, folder / "recordings", driver)
        try:
            for arm, stack in (("left", "twin"), ("right", str(driver))):
                start(processes, arm, bundle, driver=stack, recordings=arms.recordings)
                wait_until(lambda arm=arm: arms.is_up(arm), f"{arm} to be up", 3 * START_S)
            yield arms
        finally:
            processes.end_all()
            for operator in operators.values():
                operator.close()
            rclpy.shutdown(context=context)


def start(processes: Processes, arm: str, bundle: Path, *, driver: str, recordings: Path) -> None:
    server = [sys.executable, "-m", "skimo_core.cli", "serve", "--bundle", str(bundle), "--endpoint", f"local/{arm}"]
    processes.command(f"{arm}-server", server)
    given = {
        "twin_node": ["-p", "twin:=kinematic", "-p", "rate_hz:=50.0"],
        "recorder_node": ["-p", f"directory:={recordings}"],
    }
    for node in NODES:
        words = ["-r", f"__ns:=/{arm}", "-p", f"driver:={driver}", *given.get(node, [])]
        processes.command(f"{arm}-{node}", [sys.executable, "-m", f"skimo_ros.{node}", "--ros-args", *words])


def test_each_policy_has_its_own_namespaces_server(arms: Arms) -> None:
    for arm in ("left", "right"):
        said = arms.processes.log(f"{arm}-policy_node")
        assert f"policy server local/{arm} serves bundle" in said
        domain = arms.processes.environment["ROS_DOMAIN_ID"]
        assert f"policy-{domain}-{arm}.sock" in arms.processes.log(f"{arm}-server")


def test_each_status_is_an_arms_own_and_none_is_where_no_arm_is(arms: Arms) -> None:
    for arm in ("/left", "right/"):
        code, said = arms.skimo("status", "--namespace", arm)
        assert code == 0 and "nobody answers" not in said and "policy: idle" in said, said
    told: list[str] = []

    def refused() -> bool:  # whom there is instead is discovered bit by bit
        code, said = arms.skimo("resume", "--timeout-s", "2")
        told.append(said)
        assert code == 1 and "nobody answers for service policy/resume; " in said, said
        return "there is a stack with --namespace /left and one with /right" in said

    wait_until(refused, "both arms to be named", START_S, lambda: told[-1:])


def test_a_second_gate_of_one_arm_is_refused(arms: Arms) -> None:
    command = [sys.executable, "-m", "skimo_ros.gate_node", "--ros-args", "-r", "__ns:=/left"]
    assert arms.processes.command("second", command).wait(START_S) == 1
    arms.processes.running.pop("second")
    assert "already has a skimo /left/gate_node (process " in arms.processes.log("second")


def test_a_start_takes_the_domains_first_task_and_its_arm_alone(arms: Arms) -> None:
    code, said = arms.skimo("start", "no such task", "--namespace", "left")
    assert code == 1 and "unknown task or sub-task 'no such task'" in said and "known are tasks kitchen" in said
    told: list[str] = []

    def begun() -> bool:  # a pause of the machine stops the gate, and the start is refused
        arms.operators["left"].clear_stop(0.0)
        code, said = arms.skimo("start", "--seed", "3", "--reset-twin", "--namespace", "left")
        told.append(said)
        return code == 0

    wait_until(begun, "the start", START_S, lambda: told[-1:], poll_s=0.3)
    assert "twin: scene put back" in told[-1] and "; recorded" in told[-1], told[-1]
    report = arms.policy("left")
    assert report.episode_id.startswith("left-") and report.episode_id.endswith("-3") and report.task == "kitchen"
    assert arms.policy("right").state == "idle"


def fly(arms: Arms, arm: str) -> str:
    """Have an episode under way; on a busy machine it may be held. Returns its name."""
    told: list[str] = []

    def begun() -> bool:
        arms.operators[arm].clear_stop(0.0)
        code, said = arms.skimo("start", "--anew", "--reset-twin", "--namespace", arm)
        told.append(said)
        return code == 0 and wait_until(
            lambda: arms.policy(arm).state in ("running", "missed", "held", "done"), "it to fly", ANSWER_S
        )

    wait_until(begun, f"{arm} to fly", START_S, lambda: told[-1:], poll_s=0.3)
    return arms.policy(arm).episode_id


def test_a_stop_of_one_arm_leaves_the_other_alone_and_so_does_its_reset(arms: Arms) -> None:
    for arm in ("left", "right"):
        fly(arms, arm)
    stops = arms.gate("right").stops
    code, said = arms.skimo("stop", "--namespace", "left")
    assert code == 0 and "stopped (stop " in said
    wait_until(lambda: arms.gate("left").latched, "the stop", ANSWER_S)
    wait_until(lambda: arms.policy("left").state == "held", "the policy to hold", ANSWER_S)
    assert arms.gate("right").stops == stops
    held = arms.policy("left").episode_id
    code, said = arms.skimo("start", "kettle", "--namespace", "left")
    assert code == 1 and said.startswith("policy: held: "), said
    assert "`skimo reset` goes on with it, or `skimo start --anew` drops it" in said
    assert arms.policy("left").episode_id == held
    code, said = arms.skimo("reset", "--namespace", "right")
    assert arms.gate("left").latched and arms.policy("left").state == "held"
    wait_until(lambda: arms.skimo("reset", "--namespace", "left")[0] == 0, "the reset", START_S, poll_s=0.3)
    assert not arms.gate("left").latched
    code, said = arms.skimo("start", "--anew", "--reset-twin", "--namespace", "left")
    assert code == 0 and f"episode {held} ends" in said, said
    assert arms.policy("left").episode_id != held


def test_a_recovery_is_asked_of_the_driver_that_runs(arms: Arms) -> None:
    for arm, driver in (("left", "twin"), ("right", str(arms.driver))):
        code, said = arms.skimo("reset", "--recover", "--namespace", arm)
        assert f"driver: recovered ({driver})" in said, said
    code, said = arms.skimo("reset", "--recover", "--driver", "twin", "--namespace", "right", "--timeout-s", "3")
    assert code == 1 and "nobody answers for action action_server/error_recovery below /right" in said


def test_waiting_for_an_episode_that_is_not_finished_fails(arms: Arms) -> None:
    argv = [sys.executable, "-c", COMMAND, "start", "--anew", "--reset-twin", "--wait", "--namespace", "right"]
    arms.operators["right"].clear_stop(2.0)
    arms.processes.command("waiting", argv)
    arms.processes.wait_for_log("waiting", "begins; ")
    arms.processes.wait_for_log("waiting", "kitchen: 0/4")
    assert arms.operators["right"].trigger(Names.CANCEL)[0]
    assert arms.processes.running.pop("waiting").wait(START_S) == 1
    assert "policy/cancel was called" in arms.processes.log("waiting")


def test_a_backend_below_a_namespace_has_that_arm(arms: Arms) -> None:
    for arm in ("left", "right"):
        arms.operators[arm].trigger(Names.CANCEL)
    context = Context()
    rclpy.init(context=context, domain_id=int(arms.processes.environment["ROS_DOMAIN_ID"]))
    left, nowhere = RosBackend(namespace="/left", context=context), RosBackend(context=context)
    try:
        left.wait_until_up(START_S)
        stops = arms.gate("right").stops
        left.stop("a test")
        wait_until(lambda: arms.gate("left").latched, "the stop", ANSWER_S)
        assert arms.gate("right").stops == stops
        left.reset_gate()
        with pytest.raises(SetupError, match="no joint states"):
            nowhere.wait_until_up(1.0)
    finally:
        left.close()
        nowhere.close()
        rclpy.shutdown(context=context)


def test_health_tells_which_arm_it_is_of(arms: Arms) -> None:
    names: set[str] = set()
    node = arms.operators["left"].node
    node.create_subscription(
        DiagnosticArray, Names.DIAGNOSTICS, lambda m: names.update(s.name for s in m.status), EVENT_QOS
    )
    wanted = {f"skimo/{arm}: {part}" for arm in arms.operators for part in ("gate", "policy", "recorder")}
    assert arms.operators["left"].within(lambda: names >= wanted, ANSWER_S), names


def test_a_second_commander_of_one_arm_is_none_of_the_others(arms: Arms) -> None:
    operator, topic = arms.operators["left"], load_adapter("twin").command
    for arm in arms.operators:
        arms.operators[arm].trigger(Names.CANCEL)
    intruder = operator.node.create_publisher(JointTrajectory, topic, COMMAND_QOS)

    def noticed() -> list[str]:
        return [reason for reason in arms.gate("left").decision.reasons if "second_commander" in reason]

    try:
        (reason, *_) = wait_until(noticed, "the left gate to say so", ANSWER_S)
        assert f"{operator.node.get_fully_qualified_name()} publishes on '/left/{topic}' too" in reason
        assert not [reason for reason in arms.gate("right").decision.reasons if "second_commander" in reason]
    finally:
        operator.node.destroy_publisher(intruder)
    wait_until(lambda: not noticed(), "the left gate to be content again", START_S, poll_s=0.2)


def tells_anew(arms: Arms, arm: str, told: GateReport) -> bool:
    return arms.gate(arm) != told


def test_each_arms_recordings_carry_its_namespace(arms: Arms) -> None:
    names = {arm: fly(arms, arm) for arm in ("left", "right")}
    for arm, name in names.items():
        wait_until(partial(tells_anew, arms, arm, arms.gate(arm)), f"{arm}'s gate to tell, as each second", ANSWER_S)
        assert arms.operators[arm].trigger(Names.CANCEL)[0]
        path = arms.recordings / f"{name}.mcap"
        arms.processes.wait_for_log(f"{arm}-recorder_node", f"{name}.mcap: ")
        with path.open("rb") as stream:
            summary = make_reader(stream).get_summary()
        assert summary is not None and summary.statistics is not None
        topics = {channel.topic for channel in summary.channels.values()}
        assert f"/{arm}/skimo/episode_step" in topics and all(topic.startswith(f"/{arm}/") for topic in topics)
        counted = {summary.channels[key].topic for key in summary.statistics.channel_message_counts}
        assert {f"/{arm}/joint_states", f"/{arm}/skimo/gate"} <= counted
    assert {path.name.split("-")[0] for path in arms.recordings.glob("*.mcap")} == {"left", "right"}
