"""Every node of the stack and a policy server with random weights, in a ROS domain of their own; nothing is spared."""

from __future__ import annotations

import sys
from pathlib import Path

import rclpy
from rclpy.context import Context
from ros.ros_harness import Processes, Watcher
from support.waiting import START_S, wait_until

from skimo_core.domain.domain import DEFAULT, load_domain
from skimo_ros.nodes import Names
from skimo_server.testing import make_bundle

NODES = ("gate_node", "policy_node", "recorder_node", "twin_node")
HEAR_EPISODES = 3
"""The gate, the recorder, the watcher: who begins before the recorder listens finds only the rest in its recording."""


class WholeStack:
    """Started and ended as a whole.

    Attributes:
        processes: by the nodes' names, and "server".
        watcher: a node in the same domain that hears everything.
    """

    def __init__(self, folder: Path, domain: int) -> None:
        self._folder = folder
        self.processes = Processes(folder, domain)
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.watcher = Watcher(self._context)

    def start(self, *, bundle: Path | None = None, domain: Path | str = DEFAULT) -> None:
        """Start everything, by default with random weights, and wait until an episode may begin."""
        endpoint = f"ipc://{self._folder}/socket"
        if bundle is None:
            spec, bundle = load_domain(domain), self._folder / "bundle"
            make_bundle(bundle, observation=spec.observation, action=spec.action)
        command = [sys.executable, "-m", "skimo_core.cli", "serve", "--bundle", str(bundle), "--endpoint", endpoint]
        self.processes.command("server", command)
        self.processes.node("twin_node", domain=domain)
        self.processes.node("gate_node", domain=domain)
        self.processes.node("recorder_node", directory=self._folder / "recordings", domain=domain)
        self.processes.node("policy_node", endpoint=endpoint, task=self._task(domain), seed=7, domain=domain)
        self.processes.wait_for_log("twin_node", "ready under the names")
        self.processes.wait_for_log("recorder_node", "recordings go to")
        wait_until(lambda: self.watcher.state == "idle" and self.watcher.gate, "the stack to be up", 3 * START_S)
        heard = lambda: self.watcher.node.count_subscribers(Names.EPISODE) >= HEAR_EPISODES  # noqa: E731
        wait_until(heard, "the recorder to hear of episodes", START_S)

    @staticmethod
    def _task(domain: Path | str) -> str:
        return "kettle" if domain == DEFAULT else ""

    def fly(self, episode_id: str, task: str = "kitchen") -> None:
        """Begin an episode from the initial state, the gate cleared."""
        watcher = self.watcher
        watcher.trigger(Names.CANCEL)  # no new one begins while one is held

        def begun() -> bool:
            watcher.trigger(Names.GATE_RESET)
            watcher.reset_twin(task, 1)
            return watcher.start_episode(task, 1, episode_id)[0]

        wait_until(begun, f"episode {episode_id} to begin", START_S, lambda: watcher.gate[-1:], poll_s=0.3)

    def alive(self) -> list[str]:
        """The nodes that live and answer."""
        return [name for name in NODES if self.processes.running[name].poll() is None and self._answers(name)]

    def close(self) -> None:
        self.processes.end_all()
        self.watcher.close()
        rclpy.shutdown(context=self._context)

    def _answers(self, name: str) -> bool:
        from rcl_interfaces.srv import GetParameters

        request = GetParameters.Request(names=["use_sim_time"])
        return self.watcher.call(GetParameters, f"{name}/get_parameters", request).values[0].type == 1


def logs(stack: WholeStack, words: str) -> list[str]:
    """Lines of the nodes' logs that hold these words."""
    return [line for name in NODES for line in stack.processes.log(name).splitlines() if words in line]
