"""Somebody teleoperates a table with three blocks and a drawer, and a recorder of topics runs beside: rosbag2 files.

Stands in for a lab in docs/your-lab.md. A scripted teleoperator moves the FR3 of the `table` domain's twin; nothing of
skimo's own recording is used, and what is written is what a lab's driver and tracker publish, each at its own rate:

    /joint_states       sensor_msgs/JointState, 100 Hz: seven joints and two fingers, rad and m
    /tracker/red ...    geometry_msgs/PoseStamped, 25 Hz: the blocks in the arm's base frame, m
    /drawer_mm          std_msgs/Float32, 20 Hz, without a stamp: how far the drawer is out, millimetres

    python docs/your_lab/record_bag.py --out lab/bags --episodes 60 --seed 0

A demonstration a bag, in MCAP, as `ros2 bag record` writes it. Demonstration i depends on seed + i alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from skimo_core.contract.errors import BackendError, SkimoError, SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.domain import load_domain
from skimo_sim.play.collect import held_out
from skimo_sim.play.player import FloatArray, Player

SLICES = 5
"""Joint states are told so many times in a control period of 50 ms."""
POSES_EVERY, DRAWER_EVERY = 4, 5
EPOCH_NS = 1_790_000_000_000_000_000
LEAST_SCRIPTS = 3
BLOCKS = ("red", "green", "blue")
BASE = "fr3_link0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Record demonstrations at the table.

    Attributes:
        out: folder for the bags; must be new.
        episodes: demonstrations.
        seed: of the first.
    """

    out: Path
    episodes: int = 60
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What driver and tracker know at a moment: joints [7], their velocities [7], fingers [2], by name the objects."""

    stamp_s: float
    q_rad: Array
    dq_rad_s: Array
    finger_m: Array
    objects: dict[str, float]


class Watched(Player):
    """A player whose twin is looked at five times in each control period."""

    def __init__(self) -> None:
        super().__init__(load_domain("table"))
        self.told: list[Told] = []

    def start(self, *args: Any, **options: Any) -> None:
        super().start(*args, **options)
        self.told = []
        self._look()

    def execute(self, action_A: FloatArray) -> FloatArray:
        due_s = self.arm.now_s()
        with suppress(BackendError):
            self.commander.send(action_A, due_s)
        for _ in range(SLICES):
            self.arm.advance(self.domain.action.period_s / SLICES)
            self._look()
        self.commander.settle()
        return self.commander.applied(due_s)

    def _look(self) -> None:
        robot, objects = self.twin.read(), self.twin.read_objects()
        self.told.append(
            Told(
                stamp_s=robot.stamp_s,
                q_rad=robot.q_rad.copy(),
                dq_rad_s=robot.dq_rad_s.copy(),
                finger_m=robot.finger_m.copy(),
                objects=dict(zip(objects.names, map(float, objects.values))),
            )
        )


def demonstrations(player: Watched, seed: int, count: int) -> Iterator[list[Told]]:
    """What was told in each demonstration, which does none of the domain's named tasks."""
    for number in range(seed, seed + count):
        for attempt in range(20):
            played = player.play(player.freely(), number, attempt=attempt)
            if len(played.scripts) >= LEAST_SCRIPTS and not held_out(played.done, player.domain):
                yield player.told[: 1 + SLICES * len(played.actions)]
                break
        else:
            raise SpecError(f"seed {number}: nothing worth keeping in 20 attempts; try another")


class Bag:
    """Writes one demonstration."""

    def __init__(self, folder: Path) -> None:
        self._types = get_typestore(Stores.ROS2_HUMBLE)
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)

    def write(self, told: list[Told], joints: tuple[str, ...]) -> None:
        """All of it, in the order of time."""
        with self._writer:
            states = self._topic("/joint_states", "sensor_msgs/msg/JointState")
            poses = [self._topic(f"/tracker/{block}", "geometry_msgs/msg/PoseStamped") for block in BLOCKS]
            drawer = self._topic("/drawer_mm", "std_msgs/msg/Float32")
            for row, moment in enumerate(told):
                self._tell(states, moment, self._joint_state(moment, joints))
                for block, topic in zip(BLOCKS, poses):
                    if row % POSES_EVERY == 0:
                        self._tell(topic, moment, self._pose(moment, block))
                if row % DRAWER_EVERY == 0:
                    self._tell(drawer, moment, self._make("std_msgs/msg/Float32", data=1e3 * moment.objects["drawer"]))

    def _topic(self, name: str, kind: str) -> Any:
        return self._writer.add_connection(name, kind, typestore=self._types)

    def _tell(self, topic: Any, moment: Told, message: Any) -> None:
        self._writer.write(topic, _ns(moment), self._types.serialize_cdr(message, topic.msgtype))

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._types.types[kind](**fields)

    def _header(self, moment: Told) -> Any:
        seconds, rest = divmod(_ns(moment), 1_000_000_000)
        stamp = self._make("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=BASE)

    def _joint_state(self, moment: Told, joints: tuple[str, ...]) -> Any:
        fingers = [f"fr3_finger_joint{k + 1}" for k in range(len(moment.finger_m))]
        return self._make(
            "sensor_msgs/msg/JointState",
            header=self._header(moment),
            name=[*joints, *fingers],
            position=np.concatenate([moment.q_rad, moment.finger_m]).astype(np.float64),
            velocity=np.concatenate([moment.dq_rad_s, np.zeros(len(fingers))]).astype(np.float64),
            effort=np.zeros(0),
        )

    def _pose(self, moment: Told, block: str) -> Any:
        x, y, z, yaw = (moment.objects[f"{block}.{part}"] for part in ("x", "y", "z", "yaw"))
        turn = self._make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=np.sin(yaw / 2), w=np.cos(yaw / 2))
        pose = self._make(
            "geometry_msgs/msg/Pose", position=self._make("geometry_msgs/msg/Point", x=x, y=y, z=z), orientation=turn
        )
        return self._make("geometry_msgs/msg/PoseStamped", header=self._header(moment), pose=pose)


def _ns(moment: Told) -> int:
    return EPOCH_NS + round(1e9 * moment.stamp_s)


def main() -> int:
    """Record them."""
    args = tyro.cli(Args)
    try:
        if args.out.exists():
            raise SpecError(f"{args.out} exists; bags are never overwritten, choose another --out")
        player = Watched()
        for number, told in enumerate(demonstrations(player, args.seed, args.episodes)):
            args.out.mkdir(parents=True, exist_ok=True)
            Bag(args.out / f"demo_{number:04d}").write(told, player.limits.joint_names)
    except SkimoError as error:
        print(f"record_bag: {error}", file=sys.stderr)
        return 1
    print(f"{args.episodes} demonstrations in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
