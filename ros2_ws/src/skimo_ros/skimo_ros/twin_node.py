"""The MuJoCo twin behind a driver stack's names: joint states, Franka state, trajectory topic, hand, recovery, reset.

Promises
  - What a real driver of that stack offers, under the same names (`driver`), its robot_description included; plus
    object_states, twin/reset and twin/user_stop, which presses the simulated stop button.
  - A trajectory is followed as joint_trajectory_controller follows it, its header's stamp being its start.
  - What the rig of its cell says is true of it: encoders that are off, clocks that are late, friction, payload.
  - A reset puts arm and objects at a start that the seed draws, as the domain or the `condition` says.
  - Simulated time keeps up with the node's clock at `real_time_factor` 1; other factors publish /clock (0: as fast as
    it goes), and everything else then runs with use_sim_time.
  - Physics that diverge end the process, non-zero, with the reason.
Physics run in a thread of their own; the executor only serves what comes in.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.action.server import ActionServer, ServerGoalHandle
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg
from skimo_msgs.srv import ResetTwin
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.contract.errors import BackendError, SimulationError, SkimoError, SpecError
from skimo_core.contract.types import GripperCommand, JointCommand, JointTrajectory, RobotState
from skimo_core.domain.rig_file import load_rig
from skimo_core.domain.urdf import robot_description

from . import conversions as convert
from .adapters import recovery_type, robot_state_type
from .ending import AFTER_GATE, REST_RAD_S
from .gripper_server import GripperServer
from .guarded import Complaints, traced
from .nodes import COMMAND_QOS, EVENT_QOS, LATEST_QOS, STATE_QOS, Names, now_s, only_one, run
from .parameters import SETUP, Parameter, declare
from .robots import set_up

SEED_DRAWS = "the seed draws the start, what the condition leaves to chance, sensor noise and the planner's dice"

PARAMETERS = (
    *SETUP,
    Parameter("twin", "", "who simulates: a twin that is installed, such as kinematic; empty: the domain's own"),
    Parameter("twin_rig", "", "what is true of the twin's cell: a rig file's path; empty: what `rig` says"),
    Parameter("tracked", False, "a tracker tells the objects: the twin's own states go to twin/object_states"),
    Parameter("condition", "drawn", "what is different from the scene as it ships: a condition's name, or a file"),
    Parameter("task", "", "task whose initial state the twin starts in; empty: the domain's first"),
    Parameter("seed", 0, SEED_DRAWS, low=0, high=2**31),
    Parameter("rate_hz", 100.0, "how often physics advance and joint states go out", low=10.0, high=250.0),
    Parameter("robot_state_rate_hz", 25.0, "how often the Franka state goes out", low=1.0, high=100.0),
    Parameter("object_rate_hz", 50.0, "how often object states go out", low=1.0, high=250.0),
    Parameter("real_time_factor", 1.0, "simulated seconds per second; 0: as fast as it goes", low=0.0, high=100.0),
)
MAX_RAD, MAX_RAD_S, MAX_RAD_S2 = 7.0, 50.0, 1000.0
"""No arm has these; what asks for more is refused as a driver refuses it."""
FILTER_S = 0.02
"""Time constant of the external torques' filter."""
RESET_WAIT_S = 3.0
SEEN_S = 0.3
"""Longer than the gate takes to see that the arm has arrived."""
LONGEST_SLICE_S = 0.1
"""After a pause the twin catches up in slices, so that commands still get in between."""
LATEST_S = 1.0
"""A beat that is later than this is not made up for."""


class TwinClock:
    """Simulated time at a factor of real time, pauses of the machine included; at 0 it advances by a period per tick.

    Args:
        wall: the node's clock. Time begins with its reading, and is its reading at factor 1.
        factor: simulated seconds per second.
        period_s: simulated seconds from tick to tick.
        steady: a clock that never jumps, s.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        factor: float,
        period_s: float,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._factor, self._period_s, self._steady = wall, factor, period_s, steady
        self._start_s, self._real_start_s = wall(), steady()
        self._due_s = self._real_start_s
        self._ticks = 0

    @property
    def published(self) -> bool:
        return self._factor != 1.0

    def now(self) -> float:
        """Simulated time, s; but for the node's clock at factor 1 it never goes back."""
        if self._factor == 1.0:
            return self._wall()
        if self._factor == 0.0:
            return self._start_s + self._ticks * self._period_s
        return self._start_s + (self._steady() - self._real_start_s) * self._factor

    def tick(self) -> float:
        """Count a period; return how long to sleep before the next, s."""
        self._ticks += 1
        if self._factor == 0.0:
            return 0.0
        self._due_s += self._period_s / self._factor
        now_s = self._steady()
        if now_s - self._due_s > LATEST_S:  # the machine slept: the beat starts anew, while time goes on
            self._due_s = now_s
        return max(0.0, self._due_s - now_s)


class TwinNode(Node):
    """A simulated arm as a ROS node."""

    ends_after = AFTER_GATE

    def __init__(self) -> None:
        super().__init__("twin_node")
        self.values = declare(self, PARAMETERS)
        self._only_one = only_one(self)
        # a simulation is needed in this process only
        from skimo_sim.condition import load_condition
        from skimo_sim.twins import make_twin, reset_from

        setup = set_up(self.values)
        self.adapter, self.limits = setup.adapter, setup.limits
        self.failure = ""
        self._complaints = Complaints(self.get_logger().warning)
        self._lock = threading.RLock()
        self._period_s = 1.0 / self.values["rate_hz"]
        factor = self.values["real_time_factor"]
        self._clock_s = TwinClock(lambda: now_s(self), factor, self._period_s * (factor or 1.0))
        condition = load_condition(self.values["condition"], setup.domain)
        rig = load_rig(self.values["twin_rig"] or self.values["rig"])
        self._reset_from = reset_from
        self.twin = make_twin(setup.domain, setup.limits, self.values["twin"], condition, rig)
        self._simulated_s = self.twin.now_s()
        self._publish_to()
        self._serve()
        self._torque_nm = np.zeros(len(self.adapter.joints))
        self._was_reset = True
        self._running = True
        self.twin.reset(self.values["task"], self.values["seed"], now_s=self._clock_s.now())
        self._simulated_s = self.twin.now_s()
        self._thread = threading.Thread(target=self._physics, name="twin-physics", daemon=True)
        self._thread.start()
        kind, driver = type(self.twin).__name__, self.adapter.name
        self.get_logger().info(
            f"{kind} of domain {setup.domain.name} ready under the names of {driver}, condition {condition.name}"
        )
        if (factor := condition.sensors.noise) != 1.0:
            self.get_logger().info(f"the noise of condition {condition.name} is policy_node's: noise_factor {factor:g}")
        if (factor := condition.patience) != 1.0:
            self.get_logger().info(f"the time of condition {condition.name} is policy_node's: patience {factor:g}")

    def at_rest(self) -> bool:
        """Whether the arm rests: its driver is the last to go."""
        with self._lock:
            return bool(abs(self.twin.read().dq_rad_s).max() < REST_RAD_S)

    def close(self) -> None:
        """Stop the physics and the servers."""
        self._running = False
        self._thread.join(2.0)
        self._hand.close()

    # --- HandControl: what the gripper's actions need, safe beside the physics ---------------------------------------

    def command_hand(self, goal: GripperCommand) -> None:
        with self._lock:
            self._catch_up()
            self.twin.command_hand(goal)

    @property
    def hand_width_m(self) -> float:
        with self._lock:
            return self.twin.hand_width_m

    @property
    def hand_busy(self) -> bool:
        with self._lock:
            return self.twin.hand_busy

    # --- inside -----------------------------------------------------------------------------------------------------

    def _publish_to(self) -> None:
        a = self.adapter
        self._joint_states = self.create_publisher(JointState, a.joint_states, EVENT_QOS)
        self._robot_states = self.create_publisher(robot_state_type(a), a.robot_state, STATE_QOS)
        objects = Names.TWIN_OBJECTS if self.values["tracked"] else a.object_states
        self._object_states = self.create_publisher(ObjectStatesMsg, objects, STATE_QOS)
        self._description = self.create_publisher(String, Names.DESCRIPTION, LATEST_QOS)
        self._description.publish(String(data=robot_description(self.limits, a.joints, a.fingers)))
        self._clocks = self.create_publisher(Clock, Names.CLOCK, STATE_QOS) if self._clock_s.published else None
        self._joint_state = JointState()
        self._object_state = ObjectStatesMsg()
        self._object_state.header.frame_id = "world"
        self._franka_state = convert.FrankaStateFiller(robot_state_type(a), a.joints, a.base_frame)
        self._every = {
            name: max(1, round(self.values["rate_hz"] / self.values[f"{name}_rate_hz"]))
            for name in ("robot_state", "object")
        }

    def _serve(self) -> None:
        a, limits = self.adapter, self.limits
        self.create_subscription(TrajectoryMsg, a.command, self._follow, COMMAND_QOS)
        self.create_service(ResetTwin, Names.TWIN_RESET, self._reset)
        self.create_service(Trigger, Names.USER_STOP, self._user_stop)
        opened = GripperCommand(kind="move", width_m=limits.hand_width_max_m, speed_m_s=limits.hand_speed_m_s)
        self._hand = GripperServer(self, a, self, opened)
        if a.recovery_kind == "action":
            self._recovery = ActionServer(self, recovery_type(a), a.recovery, self._recover_action)
        else:
            self.create_service(recovery_type(a), a.recovery, self._recover_service)

    def _physics(self) -> None:
        count = 0
        while self._running:
            try:
                with self._lock:
                    self._catch_up()
                self._publish(count)
            except SimulationError as error:
                self._end(str(error))
                return
            except Exception as error:
                if self._running and self.context.ok():  # else the publishers went before this thread did
                    self.get_logger().error(f"physics:{traced(error)}")
                    self._end(f"the physics ended with {type(error).__name__}: {error}")
                return
            count += 1
            time.sleep(self._clock_s.tick())

    def _end(self, failure: str) -> None:
        """End the node for this reason: a twin whose time stands still must not look alive."""
        self.failure = failure
        self.context.try_shutdown()

    def _catch_up(self) -> None:
        """Let simulated time reach the clock, or one slice of the way there."""
        ahead_s = min(self._clock_s.now() - self._simulated_s, LONGEST_SLICE_S)
        if ahead_s > 0:
            self._simulated_s += ahead_s
            self.twin.advance(ahead_s)

    def _publish(self, count: int) -> None:
        """The arm's state, and every so often the others; the Franka state first.

        Right after a reset all go out: joint states that had jumped, beside a reference that had not yet, would look
        like an arm that does not follow.
        """
        with self._lock:
            due = {name: self._was_reset or count % every == 0 for name, every in self._every.items()}
            self._was_reset = False
            robot = self._felt(self.twin.read())
            objects = self.twin.read_objects() if due["object"] else None
            desired = self.twin.desired()
        if self._clocks is not None:
            self._clocks.publish(convert.to_clock(robot.stamp_s))
        if due["robot_state"]:
            self._robot_states.publish(self._franka_state.fill(robot, *desired))
        a = self.adapter
        self._joint_states.publish(convert.fill_joint_state(self._joint_state, robot, a.joints, a.fingers))
        if objects is not None:
            self._object_states.publish(convert.fill_object_states(self._object_state, objects))

    def _felt(self, robot: RobotState) -> RobotState:
        """The state with its external torques low-pass filtered, as Franka's estimate is; one publisher calls this."""
        if robot.tau_ext_nm is None:
            return robot
        self._torque_nm += (robot.tau_ext_nm - self._torque_nm) * self._period_s / (self._period_s + FILTER_S)
        return dataclasses.replace(robot, tau_ext_nm=self._torque_nm.copy())

    def _follow(self, message: TrajectoryMsg) -> None:
        try:
            with self._lock:
                self._catch_up()
                trajectory = convert.from_trajectory(message, self.adapter.joints, self.twin.now_s())
                self.twin.write(JointCommand(trajectory=_followable(trajectory)))
        except SkimoError as error:
            self._complaints.about(f"trajectory on {self.adapter.command!r}", str(error))

    def _reset(self, request: ResetTwin.Request, response: ResetTwin.Response) -> ResetTwin.Response:
        try:
            task, seed, start = convert.from_reset_request(request)
            self._await_rest()
            with self._lock:
                self._catch_up()
                self._reset_from(start, self.twin, task or self.values["task"], seed, self._simulated_s)
                self._was_reset = True
                stamp_s = self.twin.now_s()
        except SkimoError as error:
            return convert.answer_reset(response, False, str(error), 0.0)
        self.get_logger().info(f"reset: task {task!r} seed {seed}{f' start {start}' if start else ''}")
        return convert.answer_reset(response, True, SEED_DRAWS, stamp_s)

    def _await_rest(self) -> None:
        """Let the arm come to rest first, and be seen there: one that is put elsewhere in mid-motion looks, to whoever
        watches it, like one that does not follow.

        Raises:
            BackendError: it does not come to rest.
        """
        end_s, rests_s = time.monotonic() + RESET_WAIT_S, time.monotonic()
        while time.monotonic() - rests_s < SEEN_S:
            with self._lock:
                moving = not self.twin.path_at_rest
            if moving:
                rests_s = time.monotonic()
            if rests_s > end_s:
                raise BackendError(f"the arm is still led somewhere after {RESET_WAIT_S:g} s; stop its commander first")
            time.sleep(self._period_s)

    def _user_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            self._catch_up()
            self.twin.stop("the user stop is pressed")
        return convert.answer_trigger(response, True, "stopped; recover the robot to release")

    def _recover(self) -> None:
        with self._lock:
            self._catch_up()
            self.twin.recover()
        self.get_logger().info("errors recovered")

    def _recover_action(self, handle: ServerGoalHandle) -> Any:
        self._recover()
        handle.succeed()
        return recovery_type(self.adapter).Result()

    def _recover_service(self, request: Any, response: Any) -> Any:
        self._recover()
        return convert.answer_recovery(response, True, "")


def _followable(trajectory: JointTrajectory) -> JointTrajectory:
    """The trajectory, if any arm could follow it: a driver that is told nonsense does not move, and physics must not.

    Raises:
        SpecError: a position, velocity or acceleration that no arm has.
    """
    for what, array, bound in (
        ("position", trajectory.q_rad, MAX_RAD),
        ("velocity", trajectory.dq_rad_s, MAX_RAD_S),
        ("acceleration", trajectory.ddq_rad_s2, MAX_RAD_S2),
    ):
        worst = np.abs(array).max()
        if not worst <= bound:
            raise SpecError(
                f"trajectory: a {what} of {worst:g} is beyond what any arm follows, bound {bound:g} (rad, s)"
            )
    return trajectory


def main() -> int:
    """Run the twin's node."""
    return run(TwinNode)


if __name__ == "__main__":
    sys.exit(main())
