"""MCAP files of Protocol Buffers come out as they went in; what no reader is here for is refused with the remedy."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from mcap.writer import Writer

from skimo_core.contract.errors import EpisodeError
from skimo_core.ingest.formats import open_source
from skimo_core.ingest.source import Session

START_NS, ROWS = 1_700_000_000_000_000_000, 25
F = descriptor_pb2.FieldDescriptorProto
Message = tuple[str, str, str, bytes, str, Sequence[bytes]]
"""Topic, type, encoding of its definition, definition, encoding of messages, messages."""


def described(file: descriptor_pb2.FileDescriptorProto, name: str, **fields: tuple[int, str] | int) -> None:
    """Add a message type; a field is its type, or type and the name of a message; a negative one is a list."""
    message = file.message_type.add(name=name)
    for number, (field, told) in enumerate(fields.items(), 1):
        kind, of = told if isinstance(told, tuple) else (told, "")
        label = F.LABEL_REPEATED if kind < 0 else F.LABEL_OPTIONAL
        made = message.field.add(name=field, number=number, type=abs(kind), label=label)  # type: ignore[arg-type]
        if of:
            made.type_name = of


def lab() -> descriptor_pb2.FileDescriptorSet:
    """Foxglove's PoseInFrame and Pose, and a lab's joints; what is needed stands behind who needs it."""
    own = descriptor_pb2.FileDescriptorProto(name="lab.proto", package="lab", syntax="proto3")
    own.dependency.extend(["google/protobuf/timestamp.proto", "vector.proto"])
    stamp = (F.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    described(own, "PoseInFrame", timestamp=stamp, frame_id=F.TYPE_STRING, pose=(F.TYPE_MESSAGE, ".lab.Pose"))
    described(own, "Pose", position=(F.TYPE_MESSAGE, ".lab.Vector3"))
    described(own, "Joints", names=-F.TYPE_STRING, position=-F.TYPE_DOUBLE, width=F.TYPE_FLOAT, picture=F.TYPE_BYTES)
    vector = descriptor_pb2.FileDescriptorProto(name="vector.proto", package="lab", syntax="proto3")
    described(vector, "Vector3", x=F.TYPE_DOUBLE, y=F.TYPE_DOUBLE, z=F.TYPE_DOUBLE)
    times = descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    return descriptor_pb2.FileDescriptorSet(file=[own, vector, times])


def poses_and_joints() -> tuple[list[bytes], list[bytes]]:
    pool = descriptor_pool.DescriptorPool()
    for file in reversed(lab().file):
        pool.Add(file)
    pose, joints = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"lab.{n}")) for n in ("PoseInFrame", "Joints")
    )
    told = []
    for k in range(ROWS):
        stamp = {"seconds": START_NS // 10**9, "nanos": 10_000_000 * k}
        told.append(pose(timestamp=stamp, frame_id="base", pose={"position": {"x": 0.1 * k, "y": -0.5}}))
    arm = [joints(names=["b", "a"], position=[1.0 * k, -1.0], width=0.5, picture=bytes(5000)) for k in range(ROWS)]
    return [m.SerializeToString() for m in told], [m.SerializeToString() for m in arm]


def write(path: Path, *topics: Message) -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        for topic, kind, written, definition, encoding, messages in topics:
            schema = writer.register_schema(name=kind, encoding=written, data=definition)
            channel = writer.register_channel(topic=topic, message_encoding=encoding, schema_id=schema)
            for k, data in enumerate(messages):
                at_ns = START_NS + 3_000_000 + 10_000_000 * k
                writer.add_message(channel_id=channel, log_time=at_ns, publish_time=at_ns, data=data)
        writer.finish()
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    poses, arm = poses_and_joints()
    definition = lab().SerializeToString()
    return write(
        tmp_path / "lab.mcap",
        ("/block", "lab.PoseInFrame", "protobuf", definition, "protobuf", poses),
        ("/arm", "lab.Joints", "protobuf", definition, "protobuf", arm),
    )


def session(path: Path) -> Session:
    (found,) = open_source(path).sessions()
    return found


def test_what_went_in_comes_out(recorded: Path) -> None:
    found, about = session(recorded), open_source(recorded).about()
    block, arm = found.signals["/block"], found.signals["/arm.position"]
    assert about.format == "mcap_protobuf" and block.columns == tuple(f"pose.position.{axis}" for axis in "xyz")
    np.testing.assert_allclose(block.values, [[0.1 * k, -0.5, 0.0] for k in range(ROWS)])
    np.testing.assert_allclose(np.diff(block.times_s), 0.01, atol=1e-9)  # by the messages' own stamps
    assert arm.columns == ("b", "a")
    np.testing.assert_array_equal(arm.values, [[k, -1.0] for k in range(ROWS)])
    np.testing.assert_array_equal(found.signals["/arm"].values, np.full((ROWS, 1), 0.5))
    assert "picture has 5,000 elements" in " ".join(about.notes)


def test_a_damaged_message_is_named(recorded: Path, tmp_path: Path) -> None:
    poses, _ = poses_and_joints()
    topic = ("/block", "lab.PoseInFrame", "protobuf", lab().SerializeToString(), "protobuf")
    path = write(tmp_path / "cut.mcap", (*topic, [*poses[:5], poses[5][:-3], *poses[6:]]))
    with pytest.raises(
        EpisodeError, match=r"cut.mcap: /block \(lab.PoseInFrame\): the message logged at .* is no lab.Pose"
    ):
        session(path)
    (kept,) = open_source(path).sessions(skip_damaged=True)
    assert len(kept.signals["/block"].values) == ROWS - 1


PLAIN = struct.pack("<4xd", 1.0)
ALONE = descriptor_pb2.FileDescriptorSet(file=lab().file[:1]).SerializeToString()


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (("/a", "lab.Gone", "protobuf", lab().SerializeToString(), "protobuf", [b""]), "doesn't give 'lab.Gone'"),
        (("/a", "lab.Pose", "protobuf", b"\xff\xff", "protobuf", [b""]), "doesn't give 'lab.Pose'"),
        (
            ("/a", "lab.Pose", "protobuf", ALONE, "protobuf", [b""]),
            "doesn't give 'lab.Pose'",
        ),
        (("/a", "lab_msgs/msg/Own", "ros2idl", b"module lab_msgs {};", "cdr", [PLAIN]),
         r"written as ros2idl, and only ros2msg is read; source .* share/lab_msgs/msg/Own.msg"),
        (("/a", "sensor_msgs/JointState", "ros1msg", b"float64 x", "ros1", [PLAIN]),
         "encoded as 'ros1', only cdr, json, protobuf are read; convert .* rosbags-convert --src"),
        (("/a", "lab", "", b"", "cbor", [b"\xa0"]), "encoded as 'cbor', .* convert them to JSON"),
    ],
)  # fmt: skip
def test_what_can_t_be_read_is_refused_with_topic_and_remedy(tmp_path: Path, topic: Message, words: str) -> None:
    with pytest.raises(EpisodeError, match=rf"/a \({topic[1]}\) is skipped: .*{words}"):
        session(write(tmp_path / "other.mcap", topic))


def test_a_common_message_needs_no_definition_that_is_read(tmp_path: Path) -> None:
    points = [b"\0\1\0\0" + struct.pack("<ddd", k, 2.0, 3.0) for k in range(ROWS)]
    path = write(tmp_path / "idl.mcap", ("/p", "geometry_msgs/msg/Point", "ros2idl", b"module x {};", "cdr", points))
    np.testing.assert_array_equal(session(path).signals["/p"].values, [[k, 2.0, 3.0] for k in range(ROWS)])
