"""Recordings as others make them, for tests of `skimo_core.ingest`: HDF5 by h5py, LeRobot's folders by pyarrow, bags by
rosbags, whose CDR and definitions are not ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.interfaces import Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

START_NS = 1_700_000_000_000_000_000
JOINTS = tuple(f"panda_joint{k}" for k in range(1, 8))
OBJECT_STATES = "std_msgs/Header header\nstring[] names\nfloat32[] values\n"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456\n"


def wave(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """[rows, width] of slow sines."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, width)
    return np.sin(phase + 0.05 * np.arange(rows)[:, None])


def minari_file(path: Path, steps: Iterable[int] = (7, 5), *, grouped: bool = False) -> None:
    with h5py.File(path, "w") as file:
        for index, count in enumerate(steps):
            group = file.create_group(f"episode_{index}")
            rows = wave(count + 1, 12, index)
            if grouped:
                group.create_group("observations")["observation"] = rows
            else:
                group["observations"] = rows
            group["actions"] = wave(count, 3, index + 100)
            group["rewards"] = np.zeros(count)
            group["infos/success"] = np.zeros(count, bool)
            group["infos/names"] = np.array([b"a"] * count)


def d4rl_table(path: Path, steps: Iterable[int] = (6, 4), *, timeouts: bool = True) -> None:
    counts = list(steps)
    ends = np.zeros(sum(counts), bool)
    ends[np.cumsum(counts) - 1] = True
    with h5py.File(path, "w") as file:
        file["observations"] = wave(len(ends), 11).astype(np.float32)
        file["actions"] = wave(len(ends), 4).astype(np.float32)
        file["terminals"] = np.zeros_like(ends) if timeouts else ends
        if timeouts:
            file["timeouts"] = ends
        file["infos/qpos"] = wave(len(ends), 9)
        file["metadata/policy"] = b"none"


def robomimic_file(path: Path, steps: Iterable[int] = (6, 4, 5)) -> None:
    arguments = {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(arguments)
        for index, count in enumerate(steps):
            demo = data.create_group(f"demo_{index}")
            demo.attrs["num_samples"] = count
            demo["obs/robot0_joint_pos"] = wave(count, 7, index)
            demo["obs/agentview_image"] = np.zeros((count, 8, 8, 3), np.uint8)
            demo["next_obs/robot0_joint_pos"] = wave(count, 7, index)
            demo["actions"] = wave(count, 7, index + 50)
            demo["rewards"] = np.zeros(count)
            demo["dones"] = np.zeros(count, np.int64)
        data.attrs["total"] = sum(steps)
        file["mask/train"] = np.array([b"demo_0"])


def trace_file(path: Path, trials: int = 3, rows: int = 11) -> None:
    """As robohive writes them."""
    with h5py.File(path, "w") as file:
        for index in range(trials):
            group = file.create_group(f"Trial{index}")
            group["time"] = 0.08 * np.arange(rows)
            group["observations"] = wave(rows, 5, index)
            group["actions"] = wave(rows, 3, index)
            group["env_infos/obs_dict/qp_robot"] = wave(rows, 9, index)
            group["env_infos/state/body_pos"] = np.zeros((rows, 2, 3))
            group["env_infos/label"] = np.array([b"x"] * rows)


def lerobot_folder(folder: Path, version: str = "v3.0", steps: tuple[int, ...] = (8, 5, 6), *, fps: float = 10) -> None:
    """A data set of 7 joints as state and action, a video that isn't there, and two tasks."""
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [7], "names": {"motors": list(JOINTS)}},
        "action": {"dtype": "float32", "shape": [7], "names": None},
        "observation.images.wrist": {"dtype": "video", "shape": [8, 8, 3], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
    }
    for name, kind in (("timestamp", "float32"), ("frame_index", "int64"), ("episode_index", "int64")):
        features[name] = {"dtype": kind, "shape": [1], "names": None}
    new = version == "v3.0"
    place = (
        "chunk-{chunk_index:03d}/file-{file_index:03d}"
        if new
        else "chunk-{episode_chunk:03d}/episode_{episode_index:06d}"
    )
    info = {
        "codebase_version": version,
        "robot_type": "panda",
        "fps": fps,
        "total_episodes": len(steps),
        "total_frames": sum(steps),
        "chunks_size": 1000,
        "data_path": f"data/{place}.parquet",
        "features": features,
    }
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    tables = [lerobot_rows(index, count, fps) for index, count in enumerate(steps)]
    tasks = ["stack the blocks" if index % 2 else "open the drawer" for index in range(len(steps))]
    if new:
        _lerobot_v3(folder, tables, tasks)
    else:
        _lerobot_v2(folder, tables, tasks)


def lerobot_rows(index: int, count: int, fps: float) -> pa.Table:
    state = wave(count, 7, index).astype(np.float32)
    return pa.table(
        {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 7),
            "action": pa.array(list(state + 0.01), pa.list_(pa.float32())),
            "next.done": pa.array([k == count - 1 for k in range(count)]),
            "timestamp": pa.array((np.arange(count) / fps).astype(np.float32)),
            "frame_index": pa.array(np.arange(count)),
            "episode_index": pa.array(np.full(count, index)),
            "task_index": pa.array(np.full(count, index % 2)),
        }
    )


def _lerobot_v3(folder: Path, tables: list[pa.Table], tasks: list[str]) -> None:
    for name in ("data", "meta/episodes"):
        (folder / name / "chunk-000").mkdir(parents=True)
    # The first file holds two episodes, the second the rest.
    parts = [tables[:2], tables[2:]]
    for number, part in enumerate(parts):
        if part:
            pq.write_table(pa.concat_tables(part), folder / f"data/chunk-000/file-{number:03d}.parquet")
    rows = [
        {
            "episode_index": index,
            "tasks": [tasks[index]],
            "length": table.num_rows,
            "data/chunk_index": 0,
            "data/file_index": int(index >= 2),
        }
        for index, table in enumerate(tables)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    named = pa.table({"task_index": [0, 1], "task": ["open the drawer", "stack the blocks"]})
    pq.write_table(named, folder / "meta/tasks.parquet")


def _lerobot_v2(folder: Path, tables: list[pa.Table], tasks: list[str]) -> None:
    (folder / "data/chunk-000").mkdir(parents=True)
    lines = []
    for index, table in enumerate(tables):
        pq.write_table(table, folder / f"data/chunk-000/episode_{index:06d}.parquet")
        lines.append(json.dumps({"episode_index": index, "tasks": [tasks[index]], "length": table.num_rows}))
    (folder / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    named = [{"task_index": 0, "task": "open the drawer"}, {"task_index": 1, "task": "stack the blocks"}]
    (folder / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, named)) + "\n")


class ForeignBag:
    """Messages of a bag, then the bag itself by rosbags' writer."""

    def __init__(self) -> None:
        self.store: Typestore = get_typestore(Stores.ROS2_HUMBLE)
        self.store.register(get_types_from_msg(OBJECT_STATES, "skimo_msgs/msg/ObjectStates"))
        self.messages: list[tuple[str, str, int, bytes]] = []

    def make(self, kind: str, **fields: Any) -> Any:
        """A message of that type."""
        return self.store.types[kind](**fields)

    def header(self, stamp_ns: int, frame: str = "panda_link0") -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)

    def add(self, topic: str, kind: str, log_ns: int, **fields: Any) -> None:
        data = bytes(self.store.serialize_cdr(self.make(kind, **fields), kind))
        self.messages.append((topic, kind, log_ns, data))

    def joint_state(self, log_ns: int, names: tuple[str, ...], q_rad: Any, *, stamp_ns: int | None = None) -> None:
        q = np.ascontiguousarray(q_rad, np.float64)
        header = self.header(log_ns if stamp_ns is None else stamp_ns)
        self.add(
            "/joint_states",
            "sensor_msgs/msg/JointState",
            log_ns,
            header=header,
            name=list(names),
            position=q,
            velocity=10 * q,
            effort=np.zeros(0),
        )

    def pose(self, topic: str, log_ns: int, xyz: tuple[float, float, float], *, frame: str = "panda_link0") -> None:
        pose = self.make(
            "geometry_msgs/msg/Pose",
            position=self.make("geometry_msgs/msg/Point", x=xyz[0], y=xyz[1], z=xyz[2]),
            orientation=self.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        )
        self.add(topic, "geometry_msgs/msg/PoseStamped", log_ns, header=self.header(log_ns, frame), pose=pose)

    def transforms(self, log_ns: int, children: dict[str, float]) -> None:
        made = [self.transform(log_ns, child, x) for child, x in children.items()]
        self.add("/tf", "tf2_msgs/msg/TFMessage", log_ns, transforms=made)

    def transform(self, log_ns: int, child: str, x: float) -> Any:
        inner = self.make(
            "geometry_msgs/msg/Transform",
            translation=self.make("geometry_msgs/msg/Vector3", x=x, y=0.0, z=0.0),
            rotation=self.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        )
        return self.make(
            "geometry_msgs/msg/TransformStamped", header=self.header(log_ns), child_frame_id=child, transform=inner
        )

    def trajectory(self, log_ns: int, points: list[tuple[float, list[float]]]) -> None:
        made = [
            self.make(
                "trajectory_msgs/msg/JointTrajectoryPoint",
                positions=np.array(q, np.float64),
                velocities=np.zeros(0),
                accelerations=np.zeros(0),
                effort=np.zeros(0),
                time_from_start=self.make(
                    "builtin_interfaces/msg/Duration", sec=int(at_s), nanosec=round(math.fmod(at_s, 1) * 1e9)
                ),
            )
            for at_s, q in points
        ]
        self.add(
            "/command",
            "trajectory_msgs/msg/JointTrajectory",
            log_ns,
            header=self.header(log_ns),
            joint_names=["a", "b"],
            points=made,
        )

    def write(self, folder: Path, storage: str = "mcap", packed: str = "") -> None:
        """The bag's folder.

        Args:
            storage: mcap or sqlite3.
            packed: "file" or "message", with zstd.
        """
        plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        writer = Writer(folder, version=9, storage_plugin=plugin)
        if packed:
            writer.set_compression(CompressionMode[packed.upper()], CompressionFormat.ZSTD)
        nothing: list[Qos] = []
        with writer:
            open_topics: dict[str, Any] = {}
            for topic, kind, log_ns, data in self.messages:
                if topic not in open_topics:
                    open_topics[topic] = writer.add_connection(
                        topic, kind, typestore=self.store, offered_qos_profiles=nothing
                    )
                writer.write(open_topics[topic], log_ns, data)


def arm_bag(rows: int = 20) -> ForeignBag:
    """Joint states, an object's pose, object states and a status text, at 50 Hz."""
    bag = ForeignBag()
    q_rad = wave(rows, 7)
    for k in range(rows):
        at_ns = START_NS + k * 20_000_000
        order = JOINTS if k % 2 else JOINTS[::-1]  # a driver that doesn't keep an order
        bag.joint_state(at_ns + 1_000_000, order, q_rad[k] if k % 2 else q_rad[k, ::-1], stamp_ns=at_ns)
        bag.pose("/block/pose", at_ns, (0.4, 0.001 * k, 0.02))
        values = np.array([0.1 * k, 0.5], np.float32)
        bag.add(
            "/skimo/object_states",
            "skimo_msgs/msg/ObjectStates",
            at_ns,
            header=bag.header(at_ns),
            names=["drawer", "lid"],
            values=values,
        )
        bag.add("/status", "std_msgs/msg/String", at_ns, data="fine")
    return bag


def json_mcap(path: Path, messages: Iterable[tuple[str, int, dict[str, Any]]], *, statistics: bool = True) -> None:
    """An MCAP file of JSON messages: topic, log time in ns, content."""
    with path.open("wb") as file:
        writer = McapWriter(file, compression=CompressionType.ZSTD, use_statistics=statistics)
        writer.start(profile="", library="a lab's own")
        channels: dict[str, int] = {}
        for topic, log_ns, message in messages:
            if topic not in channels:
                schema = writer.register_schema(f"lab.{topic.strip('/')}", "jsonschema", b'{"type": "object"}')
                channels[topic] = writer.register_channel(topic, "json", schema)
            writer.add_message(channels[topic], log_ns, json.dumps(message).encode(), log_ns)
        writer.finish()
