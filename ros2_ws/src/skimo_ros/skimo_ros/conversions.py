"""Between ROS messages and the core's types: the only file that touches message fields.

Joint vectors are picked by name, so the order in a message does not matter. Stamps become seconds of the node's clock
(float, counted from this process's start). Units are those of both sides: rad, rad/s, Nm, m, s.
A message that lacks what is needed, contradicts itself or is longer than anybody needs raises SpecError and nothing
else, whatever it holds: `nodes` makes that a line in the log. Numbers may still be non-finite; who uses them checks.
A driver stack's own messages are told apart by their fields, so that none has to be installed here: franka_ros2's and
multipanda_ros2's packages share the name franka_msgs.
"""

from __future__ import annotations

import array
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from skimo_msgs.msg import (
    EpisodeEvent,
    EpisodeStep,
    GateEvent,
    HandStatus,
    PlanCandidates,
    PlanStatus,
    RecorderStatus,
)
from skimo_msgs.msg import GripperCommand as GripperMsg
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg
from skimo_msgs.srv import ResetGate, ResetTwin, StartEpisode
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg
from trajectory_msgs.msg import JointTrajectoryPoint

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Foreseen
from skimo_core.contract.specs import ActionSpec
from skimo_core.contract.types import (
    Array,
    GripperCommand,
    JointTrajectory,
    ObjectStates,
    RobotMode,
    RobotState,
    Verdict,
)
from skimo_core.control.reports import Episode, EpisodeNews, PolicyReport, StepRecord
from skimo_core.domain.pose import Pose
from skimo_core.domain.starts import STARTS
from skimo_core.safety.gate import Decision

from .hand import HandReport, HandState
from .reports import GateReport, RecorderReport

GRIPPER_KINDS = {"move": GripperMsg.MOVE, "grasp": GripperMsg.GRASP}
MAX_NAMES = 256
"""Joints or object channels in one message; more is nonsense."""
ENCODINGS = {"mono8": 1, "8UC1": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}
"""Images' encodings that are understood (sensor_msgs/image_encodings.hpp), and their bytes per pixel."""
MAX_PIXELS = 64_000_000
LENS = "plumb_bob"
"""The lens model of camera infos: k1, k2, p1, p2, k3."""
COEFFICIENTS = 5
MAX_POINTS = 2000
"""Points of one trajectory: one per ms over the longest motion that a gate lets through."""
MAX_TEXT = 1000
"""Characters of a name, a task or a reason that is taken from a message."""
MAX_REASONS = 32
MAX_FORESEEN = 1_000_000
MAX_EPISODE_ID = 128
"""Characters of an id that an episode may be started with; one that is told may be longer, and is recorded."""
MAX_TOLD_ID = 4096
FLOAT32_MAX = float(np.finfo(np.float32).max)
STAMP_RANGE_S = (-(2**31), 2**31 - 1)
LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


# --- time ----------------------------------------------------------------------------------------------------------


ORIGIN_S = int(time.time())
"""Where this process's seconds begin: since 1970, a float tells only 0.2 us apart, which at 1 rad/s and over a segment
of 2 ms is a jerk of 1500 rad/s3."""


def to_seconds(nanoseconds: int) -> float:
    """A ROS clock's reading in this process's seconds."""
    return (nanoseconds - ORIGIN_S * 10**9) * 1e-9


def to_time(time_s: float) -> Time:
    """Raises SpecError where a stamp can't hold the time."""
    if not STAMP_RANGE_S[0] <= time_s + ORIGIN_S <= STAMP_RANGE_S[1]:
        raise SpecError(f"time {time_s + ORIGIN_S:g} s does not fit a ROS stamp, bounds {STAMP_RANGE_S} s")
    nanoseconds = round(time_s * 1e9) + ORIGIN_S * 10**9
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def from_time(stamp: Time) -> float:
    return (stamp.sec - ORIGIN_S) + stamp.nanosec * 1e-9


def stamp_of(message: Any) -> float:
    """The stamp in a message's header."""
    return from_time(message.header.stamp)


def to_clock(time_s: float) -> Clock:
    return Clock(clock=to_time(time_s))


# --- robot state ---------------------------------------------------------------------------------------------------


def fill_joint_state(
    message: JointState, robot: RobotState, joints: Sequence[str], fingers: Sequence[str]
) -> JointState:
    """Write arm and fingers into a message that is used again and again."""
    still = [0.0] * len(fingers)
    message.header.stamp = to_time(robot.stamp_s)
    message.name = [*joints, *fingers]
    message.position = [*robot.q_rad.tolist(), *robot.finger_m.tolist()]
    message.velocity = [*robot.dq_rad_s.tolist(), *still]
    message.effort = [*robot.tau_nm.tolist(), *still]
    return message


def to_action(
    message: JointState, joints: Sequence[str], fingers: Sequence[str], spec: ActionSpec
) -> npt.NDArray[np.float32]:
    """The action [A] of a person's velocities by joint name, rad/s; a finger's says open (above 0) or close (below 0).

    Joints that it doesn't name stand still. Where one would be faster than an action can say, all are slowed alike.

    Raises:
        SpecError: an unknown name, as many velocities as names are not there, or one that is not finite.
    """
    known = {name: index for index, name in enumerate([*joints, *fingers][: spec.size])}
    if len(message.name) != len(message.velocity) or not message.name:
        raise SpecError(f"{len(message.name)} names and {len(message.velocity)} velocities; give one for each name")
    if unknown := [name for name in message.name if name not in known]:
        raise SpecError(f"joint {unknown[0][:64]!r} is not among {', '.join(known)}")
    wanted_A = np.zeros(spec.size)
    wanted_A[[known[name] for name in message.name]] = message.velocity
    if not np.isfinite(wanted_A).all():
        raise SpecError("a velocity is not finite; give rad/s")
    wanted_A[: spec.joints] /= spec.scale_rad_s
    wanted_A[: spec.joints] /= max(1.0, np.abs(wanted_A[: spec.joints]).max(initial=0.0))
    wanted_A[spec.joints :] = np.sign(wanted_A[spec.joints :])
    return wanted_A.astype(np.float32)


def robot_state(
    message: JointState,
    joints: Sequence[str],
    fingers: Sequence[str],
    mode: RobotMode,
    desired_q_rad: Array | None = None,
) -> RobotState:
    """The robot state in a JointState. Velocities and efforts that a driver leaves out are NaN: nobody knows them.

    Fingers that are not in the message leave `finger_m` empty.

    Raises:
        SpecError: a joint's position is missing, a name stands twice, or lengths differ.
    """
    index = _index("joint states", message.name)
    for field in ("position", "velocity", "effort"):
        count = len(getattr(message, field))
        if count not in (0, len(index)):
            raise SpecError(f"joint states: {len(index)} names but {count} of {field}; its sender is broken")
    missing = [name for name in joints if name not in index]
    if missing or not message.position:
        lacks = missing[0] if missing else "all positions"
        raise SpecError(f"joint states lack {lacks!r}; sent are {_listed(message.name)}; check the adapter's prefix")
    arm = [index[name] for name in joints]
    hand = [index[name] for name in fingers if name in index]
    return RobotState(
        stamp_s=from_time(message.header.stamp),
        q_rad=_picked(message.position, arm),
        dq_rad_s=_picked(message.velocity, arm),
        tau_nm=_picked(message.effort, arm),
        finger_m=_picked(message.position, hand) if len(hand) == len(fingers) else np.zeros(0),
        mode=mode,
        desired_q_rad=desired_q_rad,
    )


def _index(what: str, names: Any) -> dict[str, int]:
    """Where each name stands; raises SpecError for one that stands twice, and for more than anybody needs."""
    if len(names) > MAX_NAMES:
        raise SpecError(f"{what}: {len(names)} names, bound {MAX_NAMES}")
    index = {name: i for i, name in enumerate(names)}
    if len(index) != len(names):
        twice = next(name for i, name in enumerate(names) if index[name] != i)
        raise SpecError(f"{what}: {short(twice)!r} stands twice; which one holds is not known")
    return index


def _listed(names: Any) -> str:
    shown = ", ".join(short(name, 40) for name in names[:12])
    return f"[{shown}{f', ... ({len(names)})' if len(names) > 12 else ''}]"


def short(text: str, longest: int = MAX_TEXT) -> str:
    """A text from a message, of bounded length."""
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


def _picked(values: Sequence[float], at: Sequence[int]) -> Array:
    return np.array([values[i] for i in at]) if len(values) else np.full(len(at), np.nan)


def robot_mode(message: Any) -> RobotMode:
    """The mode in a FrankaRobotState (franka_ros2) or FrankaState (multipanda_ros2); unknown numbers are OTHER."""
    try:
        return RobotMode(int(message.robot_mode))
    except ValueError:
        return RobotMode.OTHER


def desired_positions(message: Any, joints: Sequence[str]) -> tuple[float, Array | None]:
    """Stamp and desired joint positions [7] in a FrankaRobotState or FrankaState; None where there are none.

    By name where the message names its joints; a FrankaState holds joints 1 to 7.

    Raises:
        SpecError: another number of positions than of names or joints, or a joint is missing.
    """
    stamp_s = from_time(message.header.stamp)
    if not hasattr(message, "desired_joint_state"):
        return stamp_s, np.array(message.q_d, dtype=np.float64)
    state = message.desired_joint_state
    return stamp_s, _by_name("desired joint states", state.name, state.position, joints)


def external_torques(message: Any, joints: Sequence[str]) -> Array | None:
    """Torques [7] that something outside puts on the joints, in a FrankaRobotState or FrankaState; raises as above."""
    told = message.tau_ext_hat_filtered
    if not hasattr(told, "effort"):
        return np.array(told, dtype=np.float64)
    return _by_name("external torques", told.name, told.effort, joints)


def _by_name(what: str, names: Any, values: Any, joints: Sequence[str]) -> Array | None:
    """Values in our order of joints: by name, or as they stand where none are named; None where there are none."""
    if not len(values):
        return None
    index = _index(what, names or joints)
    missing = [name for name in joints if name not in index]
    if missing or len(values) != len(index):
        lacks = f"lack {missing[0]!r}" if missing else f"hold {len(values)} values for {len(index)} names"
        raise SpecError(f"{what} {lacks}; sent are {_listed(names)}")
    return _picked(values, [index[name] for name in joints])


class FrankaStateFiller:
    """Fills one FrankaRobotState or FrankaState again and again; building it anew takes longer than publishing it.

    Args:
        kind: the message's type.
        joints: names of the arm's joints.
        frame: of the arm's base.
    """

    def __init__(self, kind: Any, joints: Sequence[str], frame: str) -> None:
        self.message = kind()
        self.message.header.frame_id = frame
        self._nested = hasattr(self.message, "desired_joint_state")
        if self._nested:
            for state in (self.message.measured_joint_state, self.message.desired_joint_state):
                state.name = list(joints)
                state.effort = [0.0] * len(joints)

    def fill(self, robot: RobotState, q_desired_rad: Array, dq_desired_rad_s: Array) -> Any:
        message, stamp = self.message, to_time(robot.stamp_s)
        message.header.stamp = stamp
        message.time = robot.stamp_s
        message.control_command_success_rate = 1.0
        message.robot_mode = int(robot.mode)
        if not self._nested:  # flat arrays, as libfranka has them
            message.q, message.dq, message.tau_j = robot.q_rad, robot.dq_rad_s, robot.tau_nm
            message.q_d, message.dq_d = q_desired_rad, dq_desired_rad_s
            if robot.tau_ext_nm is not None:
                message.tau_ext_hat_filtered = robot.tau_ext_nm
            return message
        measured, desired = message.measured_joint_state, message.desired_joint_state
        measured.header.stamp = desired.header.stamp = stamp
        measured.position, measured.velocity = robot.q_rad.tolist(), robot.dq_rad_s.tolist()
        measured.effort = robot.tau_nm.tolist()
        desired.position, desired.velocity = q_desired_rad.tolist(), dq_desired_rad_s.tolist()
        if robot.tau_ext_nm is not None:
            message.tau_ext_hat_filtered.effort = robot.tau_ext_nm.tolist()
        return message


# --- objects -------------------------------------------------------------------------------------------------------


def fill_object_states(message: ObjectStatesMsg, objects: ObjectStates) -> ObjectStatesMsg:
    message.header.stamp = to_time(objects.stamp_s)
    message.names = list(objects.names)
    message.values = objects.values.astype(np.float32)
    return message


def object_states(message: ObjectStatesMsg) -> ObjectStates:
    """Raises SpecError where names and values do not fit together."""
    names = _index("object states", message.names)
    if len(names) != len(message.values):
        raise SpecError(f"object states: {len(names)} names but {len(message.values)} values")
    return ObjectStates(
        stamp_s=from_time(message.header.stamp),
        names=tuple(message.names),
        values=np.asarray(message.values, dtype=np.float64),
    )


def joint_positions(message: JointState) -> dict[str, float]:
    """Positions by name, of whatever joints a message names; raises SpecError where the two do not fit together."""
    names = _index("joint states", message.name)
    if len(names) != len(message.position):
        raise SpecError(f"joint states: {len(names)} names but {len(message.position)} positions")
    return dict(zip(names, message.position))


def channel_values(message: ObjectStatesMsg) -> dict[str, float]:
    """Values by channel; raises SpecError where names and values do not fit together."""
    objects = object_states(message)
    return dict(zip(objects.names, objects.values.tolist()))


# --- frames --------------------------------------------------------------------------------------------------------


def to_transforms(names: Sequence[tuple[str, str]], poses: Sequence[Pose], stamp_s: float) -> list[TransformStamped]:
    """Where frames stand in their parents': parent and child by name, and the child's pose."""
    stamp, found = to_time(stamp_s), []
    for (parent, child), pose in zip(names, poses, strict=True):
        message = TransformStamped(child_frame_id=child)
        message.header.stamp, message.header.frame_id = stamp, parent
        at, turn = message.transform.translation, message.transform.rotation
        at.x, at.y, at.z = pose.position_m.tolist()
        turn.w, turn.x, turn.y, turn.z = pose.wxyz.tolist()
        found.append(message)
    return found


# --- pictures ------------------------------------------------------------------------------------------------------


def to_image(picture: npt.NDArray[np.uint8], frame: str, stamp_s: float) -> Image:
    """A picture, grey [H, W] or RGB [H, W, 3]."""
    height, width = picture.shape[:2]
    encoding, pixel = ("mono8", 1) if picture.ndim == 2 else ("rgb8", 3)
    message = Image(height=height, width=width, encoding=encoding, step=width * pixel)
    message.header.stamp, message.header.frame_id = to_time(stamp_s), frame
    message.data = array.array("B", picture.tobytes())  # what else rclpy would check byte by byte
    return message


def picture(message: Image) -> npt.NDArray[np.uint8]:
    """The picture in an image: grey [H, W] or RGB [H, W, 3].

    Raises:
        SpecError: another encoding, or fewer bytes than its size says.
    """
    height, width, step, encoding = message.height, message.width, message.step, short(message.encoding, 40)
    pixel = ENCODINGS.get(message.encoding, 0)
    if not pixel:
        raise SpecError(
            f"image of encoding {encoding!r}; understood are {', '.join(ENCODINGS)}: let the camera's driver publish "
            "one of these"
        )
    if not 0 < width * height <= MAX_PIXELS:
        raise SpecError(f"image of {width} x {height} px, bounds 1 and {MAX_PIXELS} px in all")
    if step < width * pixel or len(message.data) != height * step:
        raise SpecError(
            f"image: {len(message.data)} bytes in rows of {step}, {width} x {height} px of {encoding} take "
            f"{height} rows of at least {width * pixel}; its sender is broken"
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, : width * pixel]
    pixels = rows.reshape(height, width, pixel)
    if pixel == 1:
        return pixels[:, :, 0]
    return pixels[:, :, :3] if encoding.startswith("rgb") else pixels[:, :, 2::-1]


def to_camera_info(width: int, height: int, matrix: Array, distortion: Array, frame: str, stamp_s: float) -> CameraInfo:
    """A camera's intrinsics: OpenCV's matrix [3, 3] and the lens's five coefficients."""
    message = CameraInfo(height=height, width=width, distortion_model=LENS)
    message.header.stamp, message.header.frame_id = to_time(stamp_s), frame
    message.d, message.k = distortion.tolist(), matrix.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.column_stack([matrix, np.zeros(3)]).ravel().tolist()
    return message


def camera_info(message: CameraInfo) -> tuple[int, int, Array, Array]:
    """Width, height, OpenCV's matrix [3, 3] and the lens's coefficients [5].

    Raises:
        SpecError: another lens model, more coefficients, or none that could be a camera's.
    """
    matrix, told = np.array(message.k, np.float64).reshape(3, 3), np.array(message.d, np.float64)
    if len(told) > COEFFICIENTS and not told[COEFFICIENTS:].any():
        told = told[:COEFFICIENTS]
    model = short(message.distortion_model, 40)
    if len(told) > COEFFICIENTS or (told.any() and message.distortion_model not in (LENS, "rational_polynomial")):
        raise SpecError(
            f"camera info of lens model {model!r} with {len(told)} coefficients; understood is {LENS} with at most "
            f"{COEFFICIENTS}: calibrate the camera with it (skimo calibrate camera)"
        )
    distortion = np.concatenate([told, np.zeros(COEFFICIENTS - len(told))])
    known = np.isfinite(matrix).all() and np.isfinite(distortion).all() and (np.diag(matrix) > 0).all()
    if not known or not 0 < message.width * message.height <= MAX_PIXELS:
        raise SpecError(
            f"camera info: {message.width} x {message.height} px, focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g} "
            "px; the driver knows no calibration of this camera: give its lens in the rig file"
        )
    return message.width, message.height, matrix, distortion


# --- commands ------------------------------------------------------------------------------------------------------


def to_trajectory(trajectory: JointTrajectory, joints: Sequence[str], sender: str = "") -> TrajectoryMsg:
    """header.stamp is the trajectory's start; its points count from there. `sender` goes into header.frame_id, which
    joint_trajectory_controller does not read: so a listener can tell the gate's trajectories from others'."""
    message = TrajectoryMsg(joint_names=list(joints))
    message.header.stamp = to_time(trajectory.start_s)
    message.header.frame_id = sender
    rows = zip(trajectory.times_s, trajectory.q_rad, trajectory.dq_rad_s, trajectory.ddq_rad_s2)
    message.points = [
        JointTrajectoryPoint(
            positions=q.tolist(), velocities=dq.tolist(), accelerations=ddq.tolist(), time_from_start=_duration(time_s)
        )
        for time_s, q, dq, ddq in rows
    ]
    return message


def from_trajectory(message: TrajectoryMsg, joints: Sequence[str], now_s: float) -> JointTrajectory:
    """A zero stamp means "from now on", as in joint_trajectory_controller; accelerations left out are 0.

    Raises:
        SpecError: other joints than this arm's, too many points or none, or points that lack numbers.
    """
    order = _order(message, joints)
    points = message.points
    if not 0 < len(points) <= MAX_POINTS:
        raise SpecError(f"trajectory: {len(points)} points, bounds 1 and {MAX_POINTS}")
    return JointTrajectory(
        start_s=now_s if message.header.stamp == Time() else from_time(message.header.stamp),
        times_s=np.array([p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in points]),
        q_rad=_rows(points, "positions", order),
        dq_rad_s=_rows(points, "velocities", order),
        ddq_rad_s2=_rows(points, "accelerations", order, optional=True),
    )


def _rows(points: Any, field: str, order: list[int], *, optional: bool = False) -> Array:
    """One kind of number [K, 7] of all points, in our order of joints; what all leave out is 0 if `optional`."""
    counts = {len(getattr(point, field)) for point in points}
    if counts == {len(order)}:
        return np.array([getattr(point, field) for point in points])[:, order]
    if optional and counts == {0}:
        return np.zeros((len(points), len(order)))
    found = ", ".join(map(str, sorted(counts)))
    alternative = f" (or 0 {field} in all)" if optional else ""
    raise SpecError(f"trajectory: points hold {found} {field}, must hold {len(order)}{alternative}")


def sender_of(message: TrajectoryMsg) -> str:
    """Who a trajectory says it comes from (`to_trajectory`); empty where it does not say."""
    return short(message.header.frame_id)


def _order(message: TrajectoryMsg, joints: Sequence[str]) -> list[int]:
    index = _index("trajectory", message.joint_names)
    if set(index) != set(joints):
        raise SpecError(f"trajectory is for joints {_listed(message.joint_names)}, this arm has {list(joints)}")
    return [index[name] for name in joints]


def _duration(time_s: float) -> Duration:
    nanoseconds = round(time_s * 1e9)
    return Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def to_gripper(goal: GripperCommand, stamp_s: float) -> GripperMsg:
    message = GripperMsg(
        kind=GRIPPER_KINDS[goal.kind], width_m=goal.width_m, speed_m_s=goal.speed_m_s, force_n=goal.force_n
    )
    message.header.stamp = to_time(stamp_s)
    return message


def from_gripper(message: GripperMsg) -> GripperCommand:
    kinds = {number: kind for kind, number in GRIPPER_KINDS.items()}
    if message.kind not in kinds:
        raise SpecError(f"gripper command of kind {message.kind}; known are {GRIPPER_KINDS}")
    return GripperCommand(
        kind=kinds[message.kind], width_m=message.width_m, speed_m_s=message.speed_m_s, force_n=message.force_n
    )


def gripper_goal(kind: Any, goal: GripperCommand, width_max_m: float) -> Any:
    """The goal of a driver's action type `kind`; a grasp takes whatever lies between the fingers."""
    if goal.kind == "move":
        return kind.Goal(width=goal.width_m, speed=goal.speed_m_s)
    message = kind.Goal(width=goal.width_m, speed=goal.speed_m_s, force=goal.force_n)
    message.epsilon.inner = message.epsilon.outer = width_max_m
    return message


def from_gripper_goal(message: Any) -> GripperCommand:
    """The goal in a driver's Move or Grasp goal."""
    if hasattr(message, "epsilon"):
        return GripperCommand(kind="grasp", width_m=message.width, speed_m_s=message.speed, force_n=message.force)
    return GripperCommand(kind="move", width_m=message.width, speed_m_s=message.speed)


def gripper_outcome(message: Any, width_m: float) -> tuple[bool, str]:
    """Whether a Move or Grasp goal is reached with the fingers at rest `width_m` apart, as libfranka judges it."""
    if hasattr(message, "epsilon"):
        low, high = message.width - message.epsilon.inner, message.width + message.epsilon.outer
        held = low < width_m < high
        return held, "" if held else f"the object is {width_m:.4f} m wide, outside {low:.4f} to {high:.4f} m"
    reached = abs(width_m - message.width) < GRIPPER_TOLERANCE_M
    return reached, "" if reached else f"the fingers stand {width_m:.4f} m apart, not {message.width:.4f} m"


GRIPPER_TOLERANCE_M = 0.005


# --- events --------------------------------------------------------------------------------------------------------


def to_gate_event(report: GateReport, now_s: float) -> GateEvent:
    message = GateEvent(
        verdict=int(report.decision.verdict),
        reasons=list(report.decision.reasons),
        latched=report.latched,
        generation=report.decision.generation,
        commands=report.commands,
        limited=report.limited,
        held=report.held,
        stops=report.stops,
        state_age_s=report.state_age_s,
    )
    message.header.stamp = to_time(now_s)
    return message


def from_gate_event(message: GateEvent) -> GateReport:
    """Raises SpecError for a verdict that is not known; of many or long reasons only the first are taken."""
    if message.verdict not in tuple(Verdict):
        raise SpecError(f"gate event: verdict {message.verdict} is not known; is the gate of another version?")
    decision = Decision(
        verdict=Verdict(message.verdict),
        reasons=tuple(short(reason) for reason in list(message.reasons)[:MAX_REASONS]),
        command=None,
        generation=message.generation,
    )
    return GateReport(
        decision=decision,
        latched=message.latched,
        commands=message.commands,
        limited=message.limited,
        held=message.held,
        stops=message.stops,
        state_age_s=message.state_age_s,
    )


def to_hand_status(report: HandReport, now_s: float) -> HandStatus:
    message = HandStatus(
        state=int(report.state), goal_id=report.goal_id, attempts=report.attempts, reason=report.reason
    )
    message.header.stamp = to_time(now_s)
    if report.goal is not None:
        message.goal = to_gripper(report.goal, report.asked_s)
    return message


def from_hand_status(message: HandStatus) -> HandReport:
    if message.state not in HandState.__members__.values():
        raise SpecError(f"hand status: state {message.state} is unknown, bound {int(max(HandState))}")
    return HandReport(
        state=HandState(message.state),
        goal_id=message.goal_id,
        goal=from_gripper(message.goal) if message.goal_id else None,
        asked_s=0.0 if message.goal.header.stamp == Time() else from_time(message.goal.header.stamp),
        attempts=message.attempts,
        reason=short(message.reason),
    )


EVENT_KINDS = {
    "start": EpisodeEvent.START,
    "end": EpisodeEvent.END,
    "subtask": EpisodeEvent.SUBTASK,
    "doubt": EpisodeEvent.DOUBT,
}


def to_episode_event(news: EpisodeNews) -> EpisodeEvent:
    message = EpisodeEvent(
        kind=EVENT_KINDS[news.kind],
        episode_id=news.episode.episode_id,
        task=news.episode.task,
        subtasks=list(news.episode.subtasks),
        subtask=news.subtask,
        seed=news.episode.seed,
        bundle_id=news.episode.bundle_id,
        source=news.episode.source,
        explore=news.episode.explore,
        success=news.success,
        subtasks_done=news.subtasks_done,
        steps=news.steps,
        missed_ticks=news.missed_ticks,
        detail=news.detail,
    )
    message.header.stamp = to_time(news.stamp_s)
    return message


def from_episode_event(message: EpisodeEvent) -> EpisodeNews:
    """Raises SpecError for a kind that is not known, and for an episode whose name no file could bear."""
    kinds = {number: kind for kind, number in EVENT_KINDS.items()}
    if message.kind not in kinds:
        raise SpecError(f"episode event of kind {message.kind}; known are {EVENT_KINDS}")
    if len(message.episode_id) > MAX_TOLD_ID:
        raise SpecError(f"episode event: episode_id has {len(message.episode_id)} characters, bound {MAX_TOLD_ID}")
    return EpisodeNews(
        kind=kinds[message.kind],
        stamp_s=from_time(message.header.stamp),
        episode=Episode(
            episode_id=message.episode_id,
            task=message.task,
            subtasks=tuple(message.subtasks),
            seed=message.seed,
            bundle_id=message.bundle_id,
            source=message.source,
            explore=message.explore,
        ),
        subtask=message.subtask,
        success=message.success,
        subtasks_done=message.subtasks_done,
        steps=message.steps,
        missed_ticks=message.missed_ticks,
        detail=message.detail,
    )


def to_episode_step(record: StepRecord, episode_id: str) -> EpisodeStep:
    step = record.step
    message = EpisodeStep(
        episode_id=episode_id,
        step=record.index,
        kind=step.kind.value,
        reason=step.reason,
        step_in_skill=step.step_in_skill,
        reward=float(step.reward),
        verdict=int(record.verdict),
        bundle_id=step.bundle_id,
    )
    message.header.stamp = to_time(record.due_s)
    message.observation = _floats(record.observation_O)
    message.action_proposed = _floats(step.action_A)
    message.action_applied = _floats(record.applied_A)
    message.skill = _floats(step.skill_Z)
    message.promise = _floats(None if step.new_plan is None else step.new_plan.promise_2)
    return message


def _float32(value: float) -> float:
    """A number that fits a float32 field; what is beyond its range counts as its end."""
    return min(max(value, -FLOAT32_MAX), FLOAT32_MAX) if np.isfinite(value) else value


def _floats(array: npt.NDArray[np.float32] | None) -> list[float]:
    return [] if array is None else array.ravel().tolist()


_REPORT_SCALARS = tuple(f for f in PolicyReport.__slots__ if f not in ("skill_Z", "predicted_PO", "candidates"))


def to_plan_status(report: PolicyReport, now_s: float, *, with_prediction: bool) -> PlanStatus:
    """The plan's predictions go along with the first status that tells of it, and no other."""
    scalars = {name: getattr(report, name) for name in _REPORT_SCALARS}
    message = PlanStatus(**{name: _float32(x) if isinstance(x, float) else x for name, x in scalars.items()})
    message.header.stamp = to_time(now_s)
    message.skill = _floats(report.skill_Z)
    message.predicted = _floats(report.predicted_PO if with_prediction else None)
    return message


def from_plan_status(message: PlanStatus) -> PolicyReport:
    """Everything but the arrays of the plan."""
    return PolicyReport(**{name: getattr(message, name) for name in _REPORT_SCALARS})


def predicted(message: PlanStatus, channels: int) -> npt.NDArray[np.float32] | None:
    """The plan's predictions [P, O] where the message carries them; raises SpecError for ones of other channels."""
    if not len(message.predicted):
        return None
    return _foreseen("plan status", message.predicted, channels)


def to_candidates(report: PolicyReport, now_s: float) -> PlanCandidates:
    """What was thought of beside the plan in force; of a report that tells it."""
    assert report.candidates is not None
    predicted_EPO = report.candidates.predicted_EPO
    message = PlanCandidates(
        episode_id=report.episode_id,
        plan_index=report.plan_index,
        boundaries=predicted_EPO.shape[1],
        weights=_floats(report.candidates.weights_E),
        predicted=_floats(predicted_EPO),
    )
    message.header.stamp = to_time(now_s)
    return message


def from_candidates(message: PlanCandidates, channels: int) -> Foreseen:
    """Raises SpecError where the numbers are not so many candidates at so many boundaries of so many channels."""
    rows, weights = message.boundaries, np.asarray(message.weights, np.float32)
    found = _foreseen("plan candidates", message.predicted, channels)
    if not rows or len(found) != len(weights) * rows:
        raise SpecError(f"plan candidates: {len(found)} predictions are not {len(weights)} times {rows}")
    return Foreseen(weights_E=weights, predicted_EPO=found.reshape(len(weights), rows, channels))


def _foreseen(what: str, values: Any, channels: int) -> npt.NDArray[np.float32]:
    """Predictions [N, O] of finite numbers."""
    found = np.asarray(values, np.float32)
    if len(found) > MAX_FORESEEN or not channels or len(found) % channels:
        raise SpecError(f"{what}: {len(found)} predicted numbers for {channels} channels, bound {MAX_FORESEEN}")
    if not np.isfinite(found).all():
        raise SpecError(f"{what}: a predicted number is not finite")
    return found.reshape(-1, channels)


def diagnostics(now_s: float, name: str, level: str, summary: str, values: dict[str, Any]) -> DiagnosticArray:
    """One component's health; `level` is "ok", "warn" or "error"."""
    words = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    rows = [KeyValue(key=key, value=word) for key, word in words.items()]
    status = DiagnosticStatus(level=LEVELS[level], name=name, hardware_id="skimo", message=summary, values=rows)
    message = DiagnosticArray(status=[status])
    message.header.stamp = to_time(now_s)
    return message


# --- services ------------------------------------------------------------------------------------------------------


def answer_trigger(response: Trigger.Response, success: bool, text: str) -> Trigger.Response:
    response.success, response.message = success, text
    return response


def from_trigger(response: Trigger.Response | ResetGate.Response) -> tuple[bool, str]:
    return response.success, response.message


def parameters_request(names: Sequence[str]) -> GetParameters.Request:
    return GetParameters.Request(names=list(names))


def from_parameters(response: GetParameters.Response) -> list[Any]:
    """Values as Python's; None for one that is not declared."""
    return [parameter_value_to_python(value) for value in response.values]


def reset_stop_request(generation: int) -> ResetGate.Request:
    return ResetGate.Request(generation=generation)


def from_reset_stop_request(request: ResetGate.Request) -> int:
    return request.generation


def answer_reset_stop(response: ResetGate.Response, success: bool, text: str) -> ResetGate.Response:
    response.success, response.message = success, text
    return response


def reset_request(task: str, seed: int, start: str = "") -> ResetTwin.Request:
    return ResetTwin.Request(task=task, seed=seed, start=start)


def start_request(task: str, seed: int, episode_id: str = "") -> StartEpisode.Request:
    return StartEpisode.Request(task=task, seed=seed, episode_id=episode_id)


def from_reset_request(request: ResetTwin.Request) -> tuple[str, int, str]:
    """Task, seed and start; raises SpecError for a task's name that is too long, or a start that is none."""
    if request.start not in ("", *STARTS):
        raise SpecError(
            f"start is {request.start[:40]!r}, must be {' or '.join(STARTS)}, or empty: as the condition says"
        )
    return _text("task", request.task), request.seed, request.start


def _text(what: str, text: str) -> str:
    if len(text) > MAX_TEXT:
        raise SpecError(f"{what}: {len(text)} characters, bound {MAX_TEXT}")
    return text


def answer_reset(response: ResetTwin.Response, success: bool, text: str, stamp_s: float) -> ResetTwin.Response:
    response.success, response.message, response.stamp = success, text, to_time(stamp_s)
    return response


def from_reset_response(response: ResetTwin.Response) -> tuple[bool, str, float]:
    return response.success, response.message, from_time(response.stamp)


def from_start_request(request: StartEpisode.Request) -> tuple[str, int, str]:
    """Raises SpecError for a task or an episode's name that is too long."""
    if len(request.episode_id) > MAX_EPISODE_ID:
        raise SpecError(f"episode_id: {len(request.episode_id)} characters, bound {MAX_EPISODE_ID}; it names a file")
    return _text("task", request.task), request.seed, request.episode_id


def answer_start(response: StartEpisode.Response, success: bool, text: str, episode_id: str) -> StartEpisode.Response:
    response.success, response.message, response.episode_id = success, text, episode_id
    return response


def from_start_response(response: StartEpisode.Response) -> tuple[bool, str, str]:
    return response.success, response.message, response.episode_id


def gripper_feedback(kind: Any, width_m: float) -> Any:
    return kind.Feedback(current_width=width_m)


def gripper_result(kind: Any, success: bool, text: str) -> Any:
    return kind.Result(success=success, error=text)


def from_gripper_result(message: Any) -> tuple[bool, str]:
    """Whether a driver's gripper action succeeded, and its words."""
    return bool(message.success), str(message.error)


def from_recovery(response: Any) -> tuple[bool, str]:
    """Whether a driver's recovery service says that it recovered, and its words; one that says nothing did."""
    words = getattr(response, "error", "") or getattr(response, "message", "")
    return bool(getattr(response, "success", True)), str(words)


def answer_recovery(response: Any, success: bool, text: str) -> Any:
    """The reply of a recovery service, whatever its type calls its words."""
    if hasattr(response, "success"):
        response.success = success
    for words in ("error", "message"):
        if hasattr(response, words):
            setattr(response, words, text)
    return response


# --- recorder ------------------------------------------------------------------------------------------------------


def step_place(message: EpisodeStep) -> tuple[str, int]:
    """Which episode a control step belongs to, and its number there."""
    return message.episode_id, message.step


def to_recorder_status(report: RecorderReport, now_s: float) -> RecorderStatus:
    message = RecorderStatus(**{name: getattr(report, name) for name in RecorderReport.__slots__})
    message.header.stamp = to_time(now_s)
    return message


def from_recorder_status(message: RecorderStatus) -> RecorderReport:
    return RecorderReport(**{name: getattr(message, name) for name in RecorderReport.__slots__})
