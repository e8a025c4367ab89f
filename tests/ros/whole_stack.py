"""Every node of the stack and a policy server with random weights, in a ROS domain of their own; nothing is spared."""

from __future__ import annotations

import sys
from pathlib import Path

import rclpy
from rclpy.context import Context
from ros.ros_harness import START_S, Processes, Watcher, wait_until

from skimo_core.domain.domain import load_domain
from skimo_ros.nodes import Names
from skimo_server.testing import make_bundle

NODES = ("gate_node", "policy_node", "recorder_node", "twin_node")


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

    def start(self) -> None:
        """Start everything and wait until an episode may begin."""
        domain, endpoint = load_domain(), f"ipc://{self._folder}/socket"
        bundle = self._folder / "bundle"
        make_bundle(bundle, observation=domain.observation, action=domain.action)
        command = [sys.executable, "-m", "skimo_core.cli", "serve", "--bundle", str(bundle), "--endpoint", endpoint]
        self.processes.command("server", command)
        self.processes.node("twin_node")
        self.processes.node("gate_node")
        self.processes.node("recorder_node", directory=self._folder / "recordings")
        self.processes.node("policy_node", endpoint=endpoint, task="kettle", seed=7)
        self.processes.wait_for_log("twin_node", "ready under the names")
        wait_until(lambda: self.watcher.state == "idle" and self.watcher.gate, "the stack to be up", 3 * START_S)

    def fly(self, episode_id: str) -> None:
        """Begin an episode from the initial state, the gate cleared."""
        watcher = self.watcher
        watcher.trigger(Names.CANCEL)  # no new one begins while one is held

        def begun() -> bool:
            watcher.trigger(Names.GATE_RESET)
            watcher.reset_twin("kitchen", 1)
            return watcher.start_episode("kitchen", 1, episode_id)[0]

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
