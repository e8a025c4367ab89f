"""An arm that a command leads through the running stack's gate, from place to place and along paths.

The stack runs without a policy (`skimo up policy:=false`). Every way goes through the gate, and silence ends at rest: a
command that is killed leaves an arm that brakes within a second. Joints are true angles, by the rig that is named.
Units rad, s.
"""

from __future__ import annotations

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import Array, RobotState
from skimo_core.control.retimed import lead
from skimo_core.control.travel import Travel

from .backend import RosBackend
from .robots import Setup

LOOK_S = 0.01
ARRIVE_S, AT_REST_RAD_S, THERE_RAD = 5.0, 0.01, 0.05
"""How long after its way's end an arm may take to come to rest there, and what that means."""


class LedArm:
    """The arm, and a node of our own; in the graph from here to `close`.

    Attributes:
        arm: over the graph.
        node: spun while time passes (`let_pass`); subscribe before `wait_until_up`.
    """

    def __init__(self, name: str, setup: Setup, *, driver: str, arm: str, namespace: str) -> None:
        """Args: the node's name, then what a command's arguments say."""
        self._limits = setup.limits
        self.arm = RosBackend(driver, arm, rig=setup.rig, namespace=namespace)
        self.node = rclpy.create_node(name, namespace=namespace)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def close(self) -> None:
        """Leave the graph; an arm under way comes to rest by itself."""
        self.arm.let_go()
        self.arm.close()
        self._executor.shutdown()
        self.node.destroy_node()

    def way_to(self, goal_rad: Array, share: float) -> Travel:
        """The way from where the arm is to a position [J], from now on, at a share of its limits."""
        here_rad = self.arm.read().reference_q_rad
        return Travel(self._limits, here_rad, goal_rad, start_s=self.arm.now_s(), share=share)

    def go(self, goal_rad: Array, share: float, where: str) -> None:
        """Move straight to a position [J], and come to rest there; `where` names it in errors.

        Raises:
            BackendError: the gate stopped the arm, or it didn't arrive.
        """
        self.arm.take_charge()  # takes its time with the first way, which must not have begun by then
        lead(self.way_to(goal_rad, share), self.arm, self._limits, self.let_pass)
        until_s = self.arm.now_s() + ARRIVE_S
        while not _rests_at(state := self.arm.read(), goal_rad):
            if self.arm.now_s() > until_s:
                apart = float(np.abs(state.q_rad - goal_rad).max())
                raise BackendError(
                    f"the arm is {apart:.3f} rad from {where} {ARRIVE_S:g} s after it was due there; is something in "
                    f"its way, or does the gate hold it ({self.arm.verdict.name})? See skimo status"
                )
            self.let_pass(LOOK_S)

    def let_pass(self, time_s: float) -> None:
        """Let time pass in the arm's clock, hearing what the node subscribed to."""
        until_s = self.arm.now_s() + time_s
        while (left_s := until_s - self.arm.now_s()) > 0:
            self._executor.spin_once(timeout_sec=min(left_s, LOOK_S))
            self.look()

    def look(self) -> None:
        """Called again and again while time passes."""


def _rests_at(state: RobotState, goal_rad: Array) -> bool:
    still = float(np.abs(state.dq_rad_s).max()) < AT_REST_RAD_S
    return still and float(np.abs(state.q_rad - goal_rad).max()) < THERE_RAD
