"""The ROS graph as a backend: commands go through the gate node as the policy's do, states come from the driver.

For evaluation through the full stack and for the contract that every backend keeps; the policy node does not need it.
It is a node of its own with its own executor thread, so that a caller may simply sleep. Times are the node's clock.
The gate lets only one node propose: a backend is one from its first `write` until `let_go`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from skimo_msgs.msg import GateEvent
from skimo_msgs.msg import GripperCommand as GripperMsg
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.contract.errors import BackendError, MissingError, SetupError
from skimo_core.contract.types import JointCommand, ObjectStates, RobotState, Verdict
from skimo_core.control.trajectory import check_trajectory
from skimo_core.domain.rig import BARE, Rig

from . import conversions as convert
from .adapters import load_adapter
from .arm_state import ArmState
from .guarded import GuardedExecutor
from .nodes import COMMAND_QOS, EVENT_QOS, LATEST_QOS, Names, now_s
from .operator import ANSWER_S, Operator
from .reports import GateReport


class RosBackend:
    """Implements `skimo_core.contract.backend.Backend` over the graph.

    Args:
        driver, arm: as every node's parameters of that name.
        rig: as the gate's; commands and states are true angles.
        namespace: of the arm's stack.
        context: a ROS context that the caller initialised; None: the default one.
    """

    def __init__(
        self,
        driver: str = "twin",
        arm: str = "",
        *,
        rig: Rig = BARE,
        namespace: str = "",
        context: Context | None = None,
    ) -> None:
        self._adapter = load_adapter(driver, arm)
        self._node = Node("ros_backend", namespace=namespace, context=context)
        self._operator = Operator(node=self._node, timeout_s=ANSWER_S)
        self._state = ArmState(self._node, self._adapter, rig)
        self._gate: GateReport | None = None
        self._stopped_for = ""
        self._proposals: Publisher | None = None
        self._hand: Publisher | None = None
        self._node.create_subscription(GateEvent, Names.GATE, self._take_verdict, LATEST_QOS)
        for name in (Names.GATE_HOLD, Names.GATE_STOP):
            self._operator.meet(Trigger, name)
        self._executor = GuardedExecutor(context=context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="ros-backend", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join(2.0)
        self._node.destroy_node()

    def take_charge(self) -> tuple[Publisher, Publisher]:
        """Our publishers to the gate: made and matched now, so that the first command need not wait for that.

        Raises:
            BackendError: no gate listens.
        """
        if self._proposals is None or self._hand is None:
            self._proposals = self._node.create_publisher(TrajectoryMsg, Names.PROPOSED, COMMAND_QOS)
            self._hand = self._node.create_publisher(GripperMsg, Names.GRIPPER, EVENT_QOS)
            publishers = self._proposals, self._hand
            if not self._operator.within(lambda: all(p.get_subscription_count() for p in publishers), ANSWER_S):
                self.let_go()
                raise BackendError(f"no gate listens on {Names.PROPOSED!r} (waited {ANSWER_S:g} s); is the stack up?")
        return self._proposals, self._hand

    def let_go(self) -> None:
        """Propose nothing more, so that another node may."""
        for publisher in (self._proposals, self._hand):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._proposals = self._hand = None

    def wait_until_up(self, timeout_s: float = 20.0) -> None:
        """Wait for states, for the gate, and for the gate to listen; raises SetupError naming what is missing."""
        if not self._operator.within(lambda: not self._missing(), timeout_s) and (missing := self._missing()):
            raise SetupError(f"waited {timeout_s:g} s for {missing}; is the stack up in this ROS_DOMAIN_ID?")

    def now_s(self) -> float:
        return now_s(self._node)

    def read(self) -> RobotState:
        return self._state.robot()

    def read_objects(self) -> ObjectStates:
        return self._state.objects()

    def write(self, command: JointCommand) -> None:
        """Propose a command to the gate.

        Raises:
            BackendError: stopped, by us or by the gate.
            SpecError: the trajectory is malformed.
        """
        if self._stopped_for:
            raise BackendError(f"the arm is stopped ({self._stopped_for}); reset the gate: `skimo reset`")
        message = convert.to_trajectory(
            check_trajectory(command.trajectory, len(self._adapter.joints)), self._adapter.joints
        )
        proposals, hand = self.take_charge()
        proposals.publish(message)
        if command.gripper is not None:
            hand.publish(convert.to_gripper(command.gripper, command.trajectory.start_s))

    def hold(self) -> None:
        with _asked():
            self._operator.trigger(Names.GATE_HOLD)

    def stop(self, reason: str) -> None:
        self._stopped_for = reason
        with _asked():
            self._operator.trigger(Names.GATE_STOP)

    def reset_gate(self) -> None:
        """Clear the stop that was told last, as an operator does; raises BackendError if the gate refuses."""
        seen = self._gate.decision.generation if self._gate is not None else 0
        with _asked():
            cleared, text = self._operator.reset_stop(seen)
        if not cleared:
            raise BackendError(f"the gate refuses its reset: {text}")
        self._stopped_for = ""

    def reset_twin(self, task: str, seed: int) -> float:
        """Put the twin into a task's initial state; return since when, in its clock."""
        with _asked():
            done, text, stamp_s = self._operator.reset_twin(task, seed)
        if not done:
            raise BackendError(f"the twin refuses its reset: {text}")
        return stamp_s

    @property
    def verdict(self) -> Verdict:
        """The newest verdict of the gate."""
        return self._gate.decision.verdict if self._gate is not None else Verdict.PASS

    def _take_verdict(self, message: GateEvent) -> None:
        self._gate = convert.from_gate_event(message)
        if self._gate.latched:
            self._stopped_for = "; ".join(self._gate.decision.reasons)

    def _missing(self) -> str:
        try:
            self.read()
            self.read_objects()
        except MissingError as error:
            return str(error)
        there = self._node.count_subscribers(Names.PROPOSED)
        return "the gate node" if self._gate is None or there == 0 else ""

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return


@contextmanager
def _asked() -> Iterator[None]:
    """Nobody who answers is, for a backend, an arm that can't do what it was asked."""
    try:
        yield
    except SetupError as error:
        raise BackendError(str(error)) from None
