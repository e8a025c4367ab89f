"""What the tests of the nodes share: processes of the stack in a domain of their own, and a watcher of the graph.

Nothing sleeps for a result: `wait_until` looks at a condition until its deadline and says what it waited for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from skimo_msgs.msg import EpisodeEvent, EpisodeStep, GateEvent, PlanStatus
from skimo_msgs.srv import ResetTwin, StartEpisode
from std_srvs.srv import Trigger
from support.waiting import START_S, wait_until
from trajectory_msgs.msg import JointTrajectory

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import Verdict
from skimo_core.process.parent import PARENT
from skimo_ros import conversions as convert
from skimo_ros.backend import RosBackend
from skimo_ros.guarded import GuardedExecutor
from skimo_ros.nodes import EVENT_QOS, LATEST_QOS, Names

ANSWER_S = 10.0


def nobody_publishes(watcher: Watcher, topic: str, *, but: int = 0) -> None:
    """Wait until nobody (but so many) publishes a topic."""
    wait_until(lambda: watcher.node.count_publishers(topic) == but, f"{but} publishers of {topic}", ANSWER_S)


def clear_gate(arm: RosBackend) -> None:
    """Reset the gate; it refuses while robot states are old, as right after a pause of the machine."""

    why: list[str] = []

    def cleared() -> bool:
        try:
            arm.reset_gate()
        except BackendError as error:
            why.append(str(error))
            return False
        return True

    wait_until(cleared, "the gate's reset", ANSWER_S, lambda: why[-1:])


def let_pass(backend: RosBackend, duration_s: float) -> None:
    """Let time pass in the twin's clock: until a state is that much newer."""
    until_s = backend.now_s() + duration_s
    wait_until(lambda: backend.read().stamp_s >= until_s, f"{duration_s:g} s of the twin's time", duration_s + ANSWER_S)


def send_home(arm: RosBackend) -> None:
    """Put the arm at its start, at rest, its gate cleared."""
    if arm.verdict is Verdict.STOP:
        clear_gate(arm)
    arm.take_charge()
    since_s = arm.reset_twin("kitchen", 0)
    wait_until(lambda: arm.read().stamp_s > since_s and arm.read_objects().stamp_s > since_s, "states after the reset")
    let_pass(arm, 0.3)
    if arm.verdict is Verdict.STOP:  # the arm was put elsewhere while the gate had it on its way
        clear_gate(arm)


class Processes:
    """The stack's processes, each with a log; ended with SIGINT, then SIGKILL."""

    def __init__(self, folder: Path, domain: int) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            PARENT: str(os.getpid()),  # a test run that is killed leaves nobody behind
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def node(self, name: str, **parameters: object) -> subprocess.Popen[bytes]:
        """Start a node of skimo_ros with parameters."""
        given = {key: value for key, value in parameters.items() if value != ""}
        words = [word for key, value in given.items() for word in ("-p", f"{key}:={value}")]
        return self.command(name, [sys.executable, "-m", f"skimo_ros.{name}", "--ros-args", *words])

    def command(self, name: str, argv: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(argv, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        self.running[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait_for_log(self, name: str, words: str) -> None:
        def there() -> bool:
            assert self.running[name].poll() is None or words in self.log(name), self.log(name)
            return words in self.log(name)

        wait_until(there, f"{name} to say {words!r}")

    def end(self, name: str) -> int:
        """Ask a process to end; return its exit code."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def end_all(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGINT)
        for process in self.running.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()


class Watcher:
    """A node in this process that hears everything and calls services; spun in a thread."""

    def __init__(self, context: Context) -> None:
        self.node = Node("watcher", context=context)
        self.status: list[PlanStatus] = []
        self.gate: list[GateEvent] = []
        self.steps: list[EpisodeStep] = []
        self.events: list[EpisodeEvent] = []
        self.sent: list[JointTrajectory] = []
        self.diagnostics: list[DiagnosticArray] = []
        for kind, topic, where, qos in (
            (PlanStatus, Names.PLAN_STATUS, self.status, LATEST_QOS),
            (GateEvent, Names.GATE, self.gate, LATEST_QOS),
            (EpisodeStep, Names.EPISODE_STEP, self.steps, EVENT_QOS),
            (EpisodeEvent, Names.EPISODE, self.events, EVENT_QOS),
            (DiagnosticArray, Names.DIAGNOSTICS, self.diagnostics, EVENT_QOS),
            (JointTrajectory, "joint_trajectory_controller/joint_trajectory", self.sent, EVENT_QOS),
        ):
            self.node.create_subscription(kind, topic, where.append, qos)
        self._executor = GuardedExecutor(context=context)  # which bears that tests destroy publishers beside it
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5.0)
        self.node.destroy_node()

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        try:
            assert client.wait_for_service(START_S), f"nobody answers for {name}"
            future = client.call_async(request)
            return wait_until(lambda: future.done() and future.result(), f"an answer of {name}", ANSWER_S)
        finally:
            self.node.destroy_client(client)

    def trigger(self, name: str) -> tuple[bool, str]:
        return convert.from_trigger(self.call(Trigger, name, Trigger.Request()))

    def start_episode(self, task: str, seed: int, episode_id: str) -> tuple[bool, str, str]:
        request = convert.start_request(task, seed, episode_id)
        return convert.from_start_response(self.call(StartEpisode, Names.START_EPISODE, request))

    def reset_twin(self, task: str, seed: int) -> tuple[bool, str, float]:
        return convert.from_reset_response(self.call(ResetTwin, Names.TWIN_RESET, convert.reset_request(task, seed)))

    def health(self, component: str) -> list[DiagnosticStatus]:
        """What a component has said of its health, the newest first."""
        return [s for array in reversed(self.diagnostics) for s in array.status if s.name == component]

    def figures(self, component: str, key: str) -> list[str]:
        """A component's figure as it was told, the newest first."""
        return [row.value for status in self.health(component) for row in status.values if row.key == key]

    @property
    def state(self) -> str:
        return self.status[-1].state if self.status else ""

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
