"""Joint logs out of MCAP files of ROS 2 messages: our own recordings, and what `ros2 bag record -s mcap` writes.

What is read, by message type, whatever the topic's name:
  - franka_msgs/FrankaRobotState (franka_ros2's robot_state): measured_joint_state and desired_joint_state;
  - else sensor_msgs/JointState, and with it, where the file holds them, the commanded trajectories
    (trajectory_msgs/JointTrajectory), from which the reference is made as a joint_trajectory_controller makes it.
Messages are decoded by the definitions in the file. Times are the senders' (headers'), from the first sample on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap_ros2.decoder import DecoderFactory

from skimo_core.contract.errors import EpisodeError, SpecError
from skimo_core.contract.types import Array, JointTrajectory
from skimo_core.control.trajectory import TrajectoryFollower, check_trajectory
from skimo_core.domain.robot import RobotLimits
from skimo_core.episodes.stream import DamageError, RecordStream

from .logs import JointLog, file_digest

STATE, JOINTS, COMMAND = "FrankaRobotState", "JointState", "JointTrajectory"
KINDS = {
    "franka_msgs/msg/FrankaRobotState": STATE,
    "sensor_msgs/msg/JointState": JOINTS,
    "trajectory_msgs/msg/JointTrajectory": COMMAND,
}
DEFINITION_BYTES = 64 * 1024
LONG_ARRAY = re.compile(r"\[(?:<=)?\d{4,}\]")
DECODE_ERRORS = (McapError, ValueError, IndexError, KeyError, struct.error, OverflowError, RecursionError)
Row = tuple[float, Array, Array, Array]
"""Time, s, then positions, velocities and torques, each [J]."""


class _Topic:
    """One topic's messages, decoded: its name, kind and messages with their times, s."""

    def __init__(self, name: str, kind: str, decode: Callable[[bytes], Any]) -> None:
        self.name, self.kind, self.decode = name, kind, decode
        self.messages: list[tuple[float, Any]] = []


def read_mcap(path: Path, limits: RobotLimits, *, topic: str = "") -> JointLog:
    """Read an MCAP log; it is not checked yet (`logs.checked`).

    Args:
        topic: of the joint states or robot state, where the file holds several.

    Raises:
        SpecError: it is damaged, or holds no joints of such an arm, or those of several.
    """
    topics = _messages(path)
    states = _chosen(path.name, topics, topic)
    desired: tuple[Array, Array] | None = None
    if states.kind == STATE:
        rows = [_row(path.name, m.measured_joint_state, t, limits) for t, m in states.messages]
        told = [_row(path.name, m.desired_joint_state, t, limits, torque=False) for t, m in states.messages]
        desired = np.array([r[1] for r in told]), np.array([r[2] for r in told])
    else:
        rows = [_row(path.name, m, t, limits) for t, m in states.messages]
        commands = [t for t in topics if t.kind == COMMAND]
        if len(commands) == 1 and commands[0].messages:
            desired = _reference(path.name, commands[0], rows, limits)
    t_s = np.array([row[0] for row in rows])
    log = JointLog(
        name=path.name,
        digest=file_digest(path),
        t_s=t_s - t_s[0],
        q_rad=np.array([row[1] for row in rows]),
        dq_rad_s=np.array([row[2] for row in rows]),
        tau_nm=np.array([row[3] for row in rows]),
        q_desired_rad=None if desired is None else desired[0],
        dq_desired_rad_s=None if desired is None else desired[1],
    )
    return _since_commanded(log)


def _messages(path: Path) -> list[_Topic]:
    """All messages of the known types, by topic."""
    topics: dict[int, _Topic] = {}
    stream = RecordStream(path)
    try:
        for record in stream:
            if isinstance(record, Message) and (found := stream.schema_of(record)) is not None:
                channel, schema = found
                if _kind(schema) is None:
                    continue
                if channel.id not in topics:
                    topics[channel.id] = _Topic(channel.topic, KINDS[typed(schema)], decoder_of(path.name, *found))
                entry = topics[channel.id]
                entry.messages.append(_decoded(path.name, entry, record))
    except DamageError as error:
        raise SpecError(
            f"{path.name}: {error}; mend it with `skimo repair`, or `ros2 bag` with the mcap plugin's recovery"
        ) from None
    except EpisodeError as error:
        raise SpecError(f"{path.name}: {error}") from None
    return list(topics.values())


def typed(schema: Schema) -> str:
    package, _, name = schema.name.partition("/")
    return f"{package}/msg/{name.rpartition('/')[2]}"


def _kind(schema: Schema) -> str | None:
    return KINDS.get(typed(schema))


def decoder_of(file: str, channel: Channel, schema: Schema) -> Callable[[bytes], Any]:
    text = schema.data.decode("utf-8", "replace")
    if channel.message_encoding != "cdr" or schema.encoding != "ros2msg":
        raise SpecError(
            f"{file}: topic {channel.topic} is encoded as {channel.message_encoding[:9]!r} / {schema.encoding[:9]!r}, "
            "must be 'cdr' / 'ros2msg'; record with ros2 bag's mcap storage"
        )
    if len(schema.data) > DEFINITION_BYTES or LONG_ARRAY.search(text):
        raise SpecError(f"{file}: the definition of {schema.name} is not one of ROS's; record again")
    try:
        decoder = DecoderFactory().decoder_for("cdr", schema)
    except DECODE_ERRORS as error:
        raise SpecError(f"{file}: the definition of {schema.name} can't be read ({error}); record again") from None
    assert decoder is not None
    return decoder


def _decoded(file: str, topic: _Topic, record: Message) -> tuple[float, Any]:
    """The message, and its header's time, s (the receiver's where the header has none)."""
    try:
        message = topic.decode(record.data)
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    except (*DECODE_ERRORS, AttributeError):
        raise SpecError(
            f"{file}: message {record.sequence} on {topic.name} does not fit its definition; the file was altered, or "
            "its recorder is broken"
        ) from None
    return (stamp_ns or record.log_time) * 1e-9, message


def _chosen(file: str, topics: Sequence[_Topic], wanted: str) -> _Topic:
    """The topic that the joints are read from."""
    states = [t for t in topics if t.kind in (STATE, JOINTS) and t.messages]
    if wanted:
        states = [t for t in states if t.name.lstrip("/") == wanted.lstrip("/")]
    elif any(t.kind == STATE for t in states):
        states = [t for t in states if t.kind == STATE]
    if not states:
        named = f" on {wanted}" if wanted else ""
        raise SpecError(
            f"{file}: holds no joint states{named}; record sensor_msgs/JointState or franka_msgs/FrankaRobotState"
        )
    if len(states) > 1:
        names = ", ".join(t.name for t in states)
        raise SpecError(f"{file}: holds joint states on {names}; choose one (--topic)")
    return states[0]


def _row(file: str, state: Any, time_s: float, limits: RobotLimits, *, torque: bool = True) -> Row:
    """The arm's joints in a JointState, in the robot's order."""
    names = list(state.name)
    arm = joints_of(file, names, limits)
    parts = []
    for field in ("position", "velocity", "effort"):
        values = np.asarray(getattr(state, field), dtype=np.float64)
        if field == "effort" and not torque:
            parts.append(np.zeros(len(arm)))
        elif len(values) != len(names):
            raise SpecError(
                f"{file}: joint states hold {len(names)} names and {len(values)} of {field}; record a driver that "
                "fills them all"
            )
        else:
            parts.append(values[arm])
    return time_s, parts[0], parts[1], parts[2]


def joints_of(file: str, names: list[str], limits: RobotLimits) -> list[int]:
    """Where the arm's joints are among the names: all of those that end as the robot's do, under one prefix.

    Fingers, which may be numbered alike, are not all there under theirs.
    """
    tails = [name[len(limits.prefix) :] for name in limits.joint_names]
    place = {name: k for k, name in enumerate(names)}
    prefixes = sorted({name[: -len(tails[0])] for name in names if name.endswith(tails[0])})
    arms = [prefix for prefix in prefixes if all(prefix + tail in place for tail in tails)]
    if len(arms) > 1:
        raise SpecError(f"{file}: holds joints of several arms ({', '.join(arms)}); record each on a topic of its own")
    if not arms:
        raise SpecError(
            f"{file}: joint states hold {', '.join(names[:9])}, a {limits.name} has ...{tails[0]} to ...{tails[-1]}; "
            "name the robot (--robot)"
        )
    return [place[arms[0] + tail] for tail in tails]


def _reference(file: str, topic: _Topic, rows: Sequence[Row], limits: RobotLimits) -> tuple[Array, Array]:
    """Desired positions and velocities [K, J] at the rows' times, NaN before the first command."""
    times_s = np.array([row[0] for row in rows])
    commands = sorted(((t, m) for t, m in topic.messages), key=lambda entry: entry[0])
    follower = TrajectoryFollower(rows[0][1], min(float(times_s[0]), commands[0][0]))
    q = np.full((len(rows), limits.joints), np.nan)
    dq = q.copy()
    begins = np.array([t for t, _ in commands])
    for k, (begin_s, message) in enumerate(commands):
        trajectory = _trajectory(file, message, begin_s, limits)
        if k == 0:
            near = int(np.clip(np.searchsorted(times_s, begin_s), 0, len(rows) - 1))
            follower.reset(rows[near][1], begin_s)
        follower.set(trajectory, begin_s)
        end_s = begins[k + 1] if k + 1 < len(begins) else np.inf
        now = (times_s >= begin_s) & (times_s < end_s)
        if now.any():
            q[now], dq[now], _ = follower.sample(times_s[now])
    return q, dq


def _trajectory(file: str, message: Any, begin_s: float, limits: RobotLimits) -> JointTrajectory:
    arm = joints_of(file, list(message.joint_names), limits)
    points = message.points
    try:
        states = [
            np.array([np.asarray(getattr(p, name), dtype=np.float64)[arm] for p in points])
            for name in ("positions", "velocities", "accelerations")
        ]
        times = np.array([p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in points])
        trajectory = JointTrajectory(
            start_s=begin_s, times_s=times, q_rad=states[0], dq_rad_s=states[1], ddq_rad_s2=states[2]
        )
        return check_trajectory(trajectory, limits.joints)
    except (IndexError, SpecError) as error:
        raise SpecError(f"{file}: a commanded trajectory can't be followed ({error}); leave its topic out") from None


def _since_commanded(log: JointLog) -> JointLog:
    """The log from the first command on, where it knows commands, and has any."""
    if log.q_desired_rad is None:
        return log
    known = np.flatnonzero(np.isfinite(log.q_desired_rad[:, 0]))
    return log.part(slice(int(known[0]), None)) if len(known) else log
