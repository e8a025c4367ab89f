"""Teleoperation is recorded as somebody leads the arm, and led again in the twin and through the gate."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from mcap.records import Message
from rclpy.context import Context
from ros.ros_harness import ANSWER_S, Processes, clear_gate, let_pass
from sensor_msgs.msg import JointState, Joy
from skimo_msgs.msg import EpisodeEvent, ObjectStates, RecorderStatus
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from support.waiting import START_S, wait_until
from trajectory_msgs.msg import JointTrajectory

from skimo_calibration.timing.driver_path import DriverPath
from skimo_calibration.timing.timing_mcap import read_timing
from skimo_core.contract.errors import EpisodeError
from skimo_core.contract.types import Verdict
from skimo_core.control import reports
from skimo_core.control.reports import EpisodeNews
from skimo_core.control.retimed import lead
from skimo_core.control.travel import Travel
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig_file import load_rig
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.cache import load_folder
from skimo_core.episodes.recording import read_episode
from skimo_core.episodes.repair import repair
from skimo_core.episodes.replay_cli import replay
from skimo_core.episodes.stream import RecordStream
from skimo_core.process.isolation import free_domain
from skimo_ros import conversions as convert
from skimo_ros.backend import RosBackend
from skimo_ros.episode_log import Folder
from skimo_ros.guarded import GuardedExecutor
from skimo_ros.nodes import EVENT_QOS, RECORD_QOS, Names
from skimo_ros.operator import Operator
from skimo_ros.record_node import RUN, Record, RecordConfig
from skimo_ros.robots import set_up

pytestmark = [pytest.mark.ros, pytest.mark.alone]

LIMITS = load_limits("panda")
STATE_S = 0.02
RIG = f"""
rig: 1
name: late
robot: {{model: panda}}
state: {{latency_s: {STATE_S}, sigma_s: 0.001, made: {{date: 2026-01-15, method: typed in}}}}
"""
JOINTS = "".join(f"  - {{name: panda_joint{k}, source: joint, unit: rad}}\n" for k in range(1, 8))
DOMAIN = f"""
name: bench
robot: panda
cell: open
twin: kinematic
rate_hz: 5
horizon: 4
step_limit: 100
action: {{velocity_scale_rad_s: 1.5}}
objects: {{max_age_s: 0.4}}
channels:
{JOINTS}  - {{name: panda_finger_joint1, source: finger, unit: m}}
  - {{name: panda_finger_joint2, source: finger, unit: m}}
  - {{name: cube.x, source: object, unit: m, start: 0.4}}
threshold: 1.0
subtasks: {{push: {{goal: {{cube.x: 0.5}}}}}}
"""
"""5 Hz: states of a machine that is shared are not always fresher than the 80 ms that 12.5 Hz ask for."""


class Stage:
    """A twin whose states are stamped late, its gate, and somebody who leads its arm."""

    def __init__(self, folder: Path, domain: int, context: Context) -> None:
        self.folder, self.context = folder, context
        self.domain, self.rig = folder / "bench.yaml", folder / "late.yaml"
        self.domain.write_text(DOMAIN)
        self.rig.write_text(RIG)
        self.processes = Processes(folder, domain)
        given = {"domain": self.domain, "rig": self.rig}
        self.processes.node("twin_node", robot_state_rate_hz=50.0, **given)
        self.processes.node("gate_node", **given)
        self.arm = RosBackend(rig=load_rig(str(self.rig)), context=context)
        self.operator = Operator("", timeout_s=ANSWER_S, context=context)
        self.arm.wait_until_up(START_S)

    def close(self) -> None:
        self.operator.close()
        self.arm.close()
        self.processes.end_all()

    def record(self, out: Path, *words: str, keyboard: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "skimo_core.cli", "record", "--domain", str(self.domain), "--rig", str(self.rig)]
        argv += ["--out", str(out), "--min-free-mib", "1", "--least-s", "1", *words]
        with (self.folder / "record.log").open("wb") as log:
            environment = self.processes.environment
            process = subprocess.Popen(argv, env=environment, stdin=keyboard, stdout=log, stderr=log)
        self.processes.running["record"] = process
        self.says("ready; 0 kept")
        return process

    def says(self, words: str, count: int = 1) -> None:
        log = lambda: self.processes.log("record")  # noqa: E731
        wait_until(lambda: log().count(words) >= count, f"the recorder to say {words!r}", START_S, log)

    def teleoperate(self, ways: int, seed: int) -> None:
        """Lead the arm from place to place, as somebody with a 3D mouse would."""
        rng = np.random.default_rng(seed)
        if self.arm.verdict is Verdict.STOP:
            clear_gate(self.arm)
        self.arm.take_charge()
        for _ in range(ways):
            here_rad = self.arm.read().reference_q_rad
            goal_rad = LIMITS.home_q_rad + rng.uniform(-0.2, 0.2, 7)
            way = Travel(LIMITS, here_rad, goal_rad, start_s=self.arm.now_s(), share=0.3)
            lead(way, self.arm, LIMITS, lambda time_s: let_pass(self.arm, time_s))
            let_pass(self.arm, 0.2)
        self.arm.let_go()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    context = Context()
    with free_domain() as lock, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.setenv("ROS_DOMAIN_ID", str(lock.domain))
        rclpy.init(context=context, domain_id=lock.domain)
        made = Stage(Path(tmp_path_factory.mktemp("record")), lock.domain, context)
        try:
            yield made
        finally:
            made.close()
            rclpy.shutdown(context=context)


def test_what_a_teleoperator_did_is_kept_by_key_trains_as_it_is_and_is_led_again(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pty.openpty()
    process = stage.record(tmp_path, "--trim", "--keep-robot-state", "--task", "push", keyboard=theirs)
    os.write(ours, b" ")
    stage.says(" begins")
    stage.teleoperate(4, seed=0)
    os.write(ours, b"\n")
    stage.says("kept")
    os.write(ours, b" ")
    stage.says(" begins", count=2)
    os.write(ours, b"d")
    stage.says("dropped: ")
    os.write(ours, b"q")
    assert process.wait(15) == 0
    stage.processes.running.pop("record")
    assert "1 of 2 episodes kept" in stage.processes.log("record")
    (path,) = tmp_path.glob("*.mcap")
    episode, meta = read_episode(path), read_episode(path).meta
    assert (meta.source, meta.task, meta.domain) == ("teleop", "push", load_domain(stage.domain).named)
    assert meta.rig == load_rig(str(stage.rig)).named and episode.shown_T.all()
    assert len(load_folder(tmp_path)[0]) == 1
    assert replay([str(path), "--domain", str(stage.domain)]) == 0, capsys.readouterr()
    assert abs(reference_late_s(path) - STATE_S) < 0.004
    os.close(ours)
    os.close(theirs)
    led = [str(path), "--domain", str(stage.domain), "--rig", str(stage.rig), "--on", "robot", "--speed", "1"]
    assert replay(led) == 1 and "give --yes" in capsys.readouterr().err
    assert replay([*led, "--yes"]) == 0, capsys.readouterr()
    assert "the gate had no objection" in capsys.readouterr().out
    assert stage.operator.trigger(Names.GATE_STOP)[0]
    assert replay([*led, "--yes"]) == 1 and "the arm is stopped" in capsys.readouterr().err
    clear_gate(stage.arm)


def test_silence_ends_an_episode_in_words_and_a_killed_recorder_leaves_one_that_is_mended(
    stage: Stage, tmp_path: Path
) -> None:
    process = stage.record(tmp_path, "--pedal", "pedal")
    pedal = stage.operator.node.create_publisher(Bool, "pedal", EVENT_QOS)
    wait_until(lambda: pedal.get_subscription_count() == 1, "the pedal to be heard", ANSWER_S)
    twin = stage.processes.running["twin_node"]

    def pressed() -> bool:
        """It stays pressed until it is heard, which is one press."""
        pedal.publish(Bool(data=True))
        return " begins" in stage.processes.log("record")

    wait_until(pressed, "the pedal to begin an episode", ANSWER_S)
    stage.says("steps written", count=3)
    twin.send_signal(signal.SIGSTOP)
    try:
        stage.says("ended by itself: robot state is")
        answer = stage.operator.call(SetBool, RUN, SetBool.Request(data=True))
        assert not answer.success and "no episode begins: robot state is" in answer.message
    finally:
        twin.send_signal(signal.SIGCONT)

    whole = next(iter(tmp_path.glob("*.mcap")))

    def lasting() -> list[Path]:
        """Another episode with some steps on the disk; begun anew while a twin that woke up is late with its states."""
        stage.operator.call(SetBool, RUN, SetBool.Request(data=True))
        return [path for path in tmp_path.glob("*.mcap") if path != whole and salvaged(path) > 5]

    (path,) = wait_until(lasting, "another episode", START_S, poll_s=0.3)
    assert not stage.operator.call(SetBool, RUN, SetBool.Request(data=True)).success
    process.kill()
    process.wait()
    stage.processes.running.pop("record")
    stage.operator.node.destroy_publisher(pedal)
    assert read_episode(whole).steps >= 8
    assert repair(path).done == "repaired" and read_episode(path).steps >= 5


def reference_late_s(path: Path) -> float:
    """By how much the driver's reference in a recording is stamped later than where it was sent."""
    log = read_timing(path, LIMITS)
    assert log.reference is not None and len(log.reference.t_s) > 50
    sent = DriverPath(log.sent, 0.0, "splice", log.reference.values[0])
    inside = log.reference.part(log.reference.t_s > log.sent[0].sent_s + 0.2)
    shifts_s = np.arange(-0.02, 0.06, 0.001)
    return float(min(shifts_s, key=lambda s: float(np.abs(sent.sample(inside.t_s - s)[0] - inside.values).mean())))


def heard(path: Path, kind: type) -> bool:
    """Whether a message of that kind is on the disk by now."""
    stream = RecordStream(path, salvage=True)
    found = [stream.schema_of(record) for record in stream if isinstance(record, Message)]
    return any(of is not None and of[1].name.endswith(f"/{kind.__name__}") for of in found)


def salvaged(path: Path) -> int:
    """How many steps are on the disk by now."""
    try:
        return read_episode(path, salvage=True).steps
    except EpisodeError:
        return 0


def test_the_recorder_keeps_the_driver_s_state_on_request(stage: Stage, tmp_path: Path) -> None:
    given = {"domain": stage.domain, "rig": stage.rig, "directory": tmp_path, "min_free_mib": 1.0}
    stage.processes.node("recorder_node", keep_robot_state=True, **given)
    events = stage.operator.node.create_publisher(EpisodeEvent, Names.EPISODE, RECORD_QOS)
    recorder = {Names.RECORDER: RecorderStatus}

    def listens() -> bool:
        return events.get_subscription_count() == 1 and stage.operator.newest(recorder)[Names.RECORDER] is not None

    wait_until(listens, "the recorder to listen", START_S)
    episode = reports.Episode(episode_id="kept", task="push", subtasks=("push",), seed=3, bundle_id="b", explore=0.0)
    tell = lambda kind: events.publish(  # noqa: E731
        convert.to_episode_event(EpisodeNews(kind=kind, stamp_s=1.0, episode=episode, success=False, steps=0))
    )
    tell("start")
    path = tmp_path / "kept.mcap"
    wait_until(path.exists, "the file to be begun", ANSWER_S)

    def hears_the_gate() -> bool:
        """Led until what the gate sends is in the file: two processes may meet seconds after they have started."""
        stage.teleoperate(1, seed=0)
        return heard(path, JointTrajectory)

    wait_until(hears_the_gate, "the recorder to hear the gate", START_S)
    stage.teleoperate(3, seed=1)
    tell("end")
    assert stage.processes.end("recorder_node") == 0
    stage.operator.node.destroy_publisher(events)
    assert abs(reference_late_s(path) - STATE_S) < 0.004


def test_fingers_come_on_a_topic_of_their_own_and_a_button_of_a_joystick_is_a_pedal(
    stage: Stage, tmp_path: Path
) -> None:
    named = {"driver": "twin", "arm": "", "domain": str(stage.domain), "robot": "", "rig": ""}
    setup = set_up({**named, "robot_serial": "", "rig_max_age_days": 0.0})
    folder, said = Folder(path=tmp_path, min_free_mib=1.0), list[str]()
    config = RecordConfig(folder=folder, gripper_states="hand", pedal="joy", pedal_button=1)
    node = Record(setup, config, said.append, namespace="/other", context=stage.context)
    sender = rclpy.create_node("sender", namespace="/other", context=stage.context)
    executor = GuardedExecutor(context=stage.context)
    executor.add_node(node)
    arm, hand = sender.create_publisher(JointState, "joint_states", 5), sender.create_publisher(JointState, "hand", 5)
    cube, joy = sender.create_publisher(ObjectStates, "object_states", 5), sender.create_publisher(Joy, "joy", 5)

    def told(words: str, *buttons: int) -> bool:
        stamp = sender.get_clock().now().to_msg()
        for topic, names, values in ((hand, setup.adapter.fingers, [0.03] * 2), (arm, setup.adapter.joints, [0.0] * 7)):
            message = JointState(name=list(names), position=values)
            message.header.stamp = stamp
            topic.publish(message)
        objects = ObjectStates(names=["cube.x"], values=[0.4])
        objects.header.stamp = stamp
        cube.publish(objects)
        joy.publish(Joy(buttons=list(buttons)))
        executor.spin_once(timeout_sec=0.01)
        return any(words in line for line in [*said, node.why_not_ready() or "is ready"])

    try:
        wait_until(lambda: told("is ready", 0, 0), "states", ANSWER_S, lambda: node.why_not_ready())
        assert abs(float(node.session.robot.at(np.inf).finger_m.mean()) - 0.03) < 1e-9  # pyright: ignore
        wait_until(lambda: told(" begins", 0, 1), "the button", ANSWER_S, lambda: said)
        told("", 0)  # refused: it has no such button
        wait_until(lambda: told("", 0, 0) and not node._pressed, "the button's release", ANSWER_S)
        wait_until(lambda: told("dropped: ", 0, 1), "the button again", ANSWER_S, lambda: said)
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()
        sender.destroy_node()
