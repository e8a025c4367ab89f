"""An arm's log out of an MCAP file of ROS 2 messages: our own recordings, and what `ros2 bag record -s mcap` writes.

Read are, by message type, whatever the topic's name:
    sensor_msgs/JointState                             where the joints are
    trajectory_msgs/JointTrajectory                    what the driver was sent; sent when the middleware says so
    franka_msgs/FrankaRobotState, FrankaState,         the positions that the driver tells its own controller, where
    control_msgs/JointTrajectoryControllerState        one of them is there
Our recordings hold the first two, and the third where they were asked to (`keep_robot_state`).
Times s from the first joint state on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mcap.records import Message

from skimo_core.contract.errors import EpisodeError, SpecError
from skimo_core.contract.types import Array, JointTrajectory
from skimo_core.control.trajectory import check_trajectory
from skimo_core.domain.robot import RobotLimits
from skimo_core.episodes.stream import DamageError, RecordStream

from ..dynamics.log_mcap import DECODE_ERRORS, decoder_of, joints_of, typed
from ..dynamics.logs import file_digest
from .timing import ArmLog, Sent, Track

JOINTS, COMMAND = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
REFERENCES = (
    "control_msgs/msg/JointTrajectoryControllerState",
    "franka_msgs/msg/FrankaRobotState",
    "franka_msgs/msg/FrankaState",
)
Stamped = tuple[int, int, int, Any]
"""A message with its own stamp, when it was sent, and when it was received, ns."""


def read_timing(path: Path, limits: RobotLimits, *, topic: str = "") -> ArmLog:
    """Read an MCAP log; it is not checked yet (`timing.checked`).

    Args:
        topic: of the joint states, where the file holds several.

    Raises:
        SpecError: there is no such file; it is damaged, or holds no joints of such an arm, or those of several.
    """
    if not path.is_file():
        raise SpecError(f"{path}: there is no such file")
    topics = _topics(path)
    states = _one(path.name, topics, JOINTS, topic)
    if not states:
        where = f" on {topic}" if topic else ""
        raise SpecError(f"{path.name}: holds no joint states{where}; record sensor_msgs/JointState with what is sent")
    begin_ns = states[0][0]
    references = [kind for kind in REFERENCES if any(found == kind for found, _ in topics)]
    reference = _one(path.name, topics, references[0], "") if references else []
    commands = _one(path.name, topics, COMMAND, "")
    return ArmLog(
        name=path.name,
        digest=file_digest(path),
        states=_track(path.name, "joint states", states, begin_ns, limits),
        reference=_track(path.name, "the driver's reference", reference, begin_ns, limits) if reference else None,
        sent=tuple(_sent(path.name, entry, begin_ns, limits) for entry in sorted(commands, key=lambda e: e[1])),
        begin_ns=begin_ns,
    )


def _topics(path: Path) -> dict[tuple[str, str], list[Stamped]]:
    """Messages of the known types, by type and topic."""
    found: dict[tuple[str, str], list[Stamped]] = {}
    decoders: dict[int, Any] = {}
    stream = RecordStream(path)
    try:
        for record in stream:
            if not isinstance(record, Message) or (of := stream.schema_of(record)) is None:
                continue
            channel, schema = of
            if (kind := typed(schema)) not in (JOINTS, COMMAND, *REFERENCES):
                continue
            if channel.id not in decoders:
                decoders[channel.id] = decoder_of(path.name, channel, schema)
            found.setdefault((kind, channel.topic), []).append(_stamped(path.name, decoders[channel.id], record))
    except DamageError as error:
        raise SpecError(f"{path.name}: {error}; mend it with `skimo repair`, or record anew") from None
    except EpisodeError as error:
        raise SpecError(f"{path.name}: {error}") from None
    return found


def _stamped(file: str, decode: Any, record: Message) -> Stamped:
    try:
        message = decode(record.data)
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    except (*DECODE_ERRORS, AttributeError):
        raise SpecError(
            f"{file}: message {record.sequence} does not fit its definition; the file was altered, or its recorder is "
            "broken: record anew"
        ) from None
    sent_ns = record.publish_time or record.log_time
    return stamp_ns or sent_ns, sent_ns, record.log_time, message


def _one(file: str, topics: dict[tuple[str, str], list[Stamped]], kind: str, wanted: str) -> list[Stamped]:
    """The messages of a kind; empty where there are none."""
    named = {topic: messages for (of, topic), messages in topics.items() if of == kind}
    if wanted:
        named = {topic: messages for topic, messages in named.items() if topic.lstrip("/") == wanted.lstrip("/")}
    if len(named) > 1:
        option = " (--topic)" if kind == JOINTS else "; record one alone"
        raise SpecError(f"{file}: holds {kind} on {', '.join(sorted(named))}; choose one{option}")
    return next(iter(named.values()), [])


def _track(file: str, what: str, entries: Sequence[Stamped], begin_ns: int, limits: RobotLimits) -> Track:
    """Positions over time; messages of others on the same topic, as a gripper's, are left out."""
    ours = [entry for entry in entries if _is_arm(entry[3], limits)] or list(entries)
    rows = np.array([_positions(file, message, limits) for *_, message in ours], np.float64)
    times_s = np.array([[1e-9 * (ns - begin_ns) for ns in entry[:3]] for entry in ours], np.float64)
    return Track(what=what, t_s=times_s[:, 0], values=rows, came_s=times_s[:, 2])


def _is_arm(message: Any, limits: RobotLimits) -> bool:
    names = getattr(message, "name", None)
    tails = [name.removeprefix(limits.prefix) for name in limits.joint_names]
    return names is None or all(any(name.endswith(tail) for name in names) for tail in tails)


def _positions(file: str, message: Any, limits: RobotLimits) -> Array:
    """The arm's joints [J] in a joint state, or those that a driver's state says are desired."""
    if hasattr(message, "q_d"):
        values = np.asarray(message.q_d, dtype=np.float64)
        if values.shape != (limits.joints,):
            raise SpecError(f"{file}: a Franka state holds {values.size} joints, a {limits.name} has {limits.joints}")
        return values
    if hasattr(message, "desired_joint_state"):
        message = message.desired_joint_state
    names = list(message.name if hasattr(message, "name") else message.joint_names)
    point = getattr(message, "reference", getattr(message, "desired", None))
    values = np.asarray(message.position if point is None else point.positions, dtype=np.float64)
    if len(values) != len(names):
        raise SpecError(
            f"{file}: a joint state has {len(names)} names and {len(values)} positions; record a driver that fills them"
        )
    return values[joints_of(file, names, limits)]


def _sent(file: str, entry: Stamped, begin_ns: int, limits: RobotLimits) -> Sent:
    stamp_ns, sent_ns, _, message = entry
    order = joints_of(file, list(message.joint_names), limits)
    try:
        q, dq, ddq = (
            np.array([np.array(getattr(point, name), np.float64)[order] for point in message.points], np.float64)
            for name in ("positions", "velocities", "accelerations")
        )
        trajectory = JointTrajectory(
            start_s=1e-9 * (stamp_ns - begin_ns),
            times_s=np.array([_seconds(point.time_from_start) for point in message.points], np.float64),
            q_rad=q,
            dq_rad_s=dq,
            ddq_rad_s2=ddq,
        )
        return Sent(sent_s=1e-9 * (sent_ns - begin_ns), trajectory=check_trajectory(trajectory, limits.joints))
    except (IndexError, SpecError) as error:
        raise SpecError(
            f"{file}: a trajectory to the driver can't be followed ({error}); record what the gate sends"
        ) from None


def _seconds(duration: Any) -> float:
    return duration.sec + 1e-9 * duration.nanosec
