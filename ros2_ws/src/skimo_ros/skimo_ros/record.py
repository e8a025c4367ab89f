"""`skimo record`: a lab's own teleoperation as episodes to train on, whatever moves the arm.

    skimo record --domain table.yaml --out recordings
    skimo pretrain --domain table.yaml --data recordings --out runs/table
Joint states, the fingers' and the objects' must come in; no policy and no gate is needed. Episodes begin and end by a
key, a service or a pedal (`record_node`); what is written, and when an episode is set aside, says `record_session`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import rclpy.utilities
import tyro
from rclpy.executors import ExternalShutdownException

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.domain.domain import DEFAULT
from skimo_core.process.isolation import namespace_of

from .episode_log import Folder
from .guarded import GuardedExecutor
from .operator import init_ros
from .record_node import DISCARD, RUN, Record, RecordConfig
from .record_session import table
from .robots import set_up
from .terminal import Terminal

FAILED = 1
SPIN_S = 0.05
STATUS_S = 1.0
SETUP_KEYS = (
    "driver", "arm", "domain", "robot", "rig", "robot_serial", "rig_max_age_days", "objects_max_age_s",
    "objects_hidden_s",
)  # fmt: skip
QUEUE = 5000
"""Messages that may wait for the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordArgs:
    """Record teleoperation as episodes that train as they are.

    Attributes:
        domain: whose channels, rate and action scale: a name, or a file.
        out: folder for the recordings; made if it is not there.
        task: what is done, as `skimo start` names tasks; goes into the recordings.
        episodes: leave after so many that are kept; 0: when told to.
        trim: leave out the pauses before the first motion of an episode and after its last.
        least_s: an episode that is shorter is set aside; 0: than four of the domain's skills, which training draws.
        gripper_states: topic of the fingers' joint states, where they are not on that of the arm's.
        pedal: topic of a pedal: std_msgs/Bool, true while it is pressed; each press begins or ends an episode.
        pedal_button: the pedal is this button (from 0) of a sensor_msgs/Joy; -1: it is a Bool.
        keep_robot_state: keep the driver's own robot state too, for skimo calibrate latency.
        robot_state_max_mib: most of it in an episode's file.
        objects_max_age_s: object states may be so old; 0: as the domain says.
        objects_hidden_s: so long the last value of a channel that isn't seen stands in; 0: as the domain says.
        group_readable: whether the folder's group may read recordings.
        min_free_mib: free space below which nothing is recorded.
        driver, arm, robot, robot_serial, cell, rig, rig_max_age_days: as the stack's.
        namespace: of the arm's topics, such as /left.
        sim_time: the stack runs in simulated time (/clock).
    """

    domain: str = DEFAULT
    out: Path = Path("recordings")
    task: str = ""
    episodes: int = 0
    trim: bool = False
    least_s: float = 0.0
    gripper_states: str = ""
    pedal: str = ""
    pedal_button: int = -1
    keep_robot_state: bool = False
    robot_state_max_mib: float = 256.0
    objects_max_age_s: float = 0.0
    objects_hidden_s: float = 0.0
    group_readable: bool = False
    min_free_mib: float = 200.0
    driver: str = "twin"
    arm: str = ""
    robot: str = ""
    robot_serial: str = ""
    cell: str = ""
    rig: str = ""
    rig_max_age_days: float = 0.0
    namespace: str = ""
    sim_time: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("least_s", 0.0, 3600.0), ("robot_state_max_mib", 1.0, 800.0), ("episodes", 0, 10**6)):
            if not low <= getattr(self, name) <= high:
                raise SpecError(f"{name} is {getattr(self, name):g}, must lie in {low:g} to {high:g}")


def record(argv: list[str]) -> int:
    """Record teleoperation as episodes that train as they are."""
    try:
        args = tyro.cli(RecordArgs, args=argv, prog="skimo record")
        with Terminal() as terminal:
            return _record(args, terminal)
    except SkimoError as error:
        print(f"skimo record: {error}", file=sys.stderr)
        return FAILED


def _record(args: RecordArgs, terminal: Terminal) -> int:
    named = {key: getattr(args, key) for key in SETUP_KEYS}
    config = _config(args)
    setup = set_up(named)
    init_ros()
    node: Record | None = None
    try:
        node = Record(setup, config, terminal.say, namespace=namespace_of(args.namespace), sim_time=args.sim_time)
        executor = GuardedExecutor()
        executor.add_node(node)
        _attend(node, executor, terminal, args.episodes)
        return 0
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        if node is not None:
            node.close()
            terminal.say(table(node.session.taken, config.folder.path))
            node.destroy_node()
        rclpy.utilities.try_shutdown()


def _config(args: RecordArgs) -> RecordConfig:
    return RecordConfig(
        folder=Folder(
            path=args.out.expanduser(), min_free_mib=args.min_free_mib, group=args.group_readable, capacity=QUEUE
        ),
        cell=args.cell,
        task=args.task,
        gripper_states=args.gripper_states,
        pedal=args.pedal,
        pedal_button=args.pedal_button,
        trim=args.trim,
        least_s=args.least_s,
        keep_robot_state=args.keep_robot_state,
        robot_state_max_mib=args.robot_state_max_mib,
    )


def _attend(node: Record, executor: GuardedExecutor, terminal: Terminal, episodes: int) -> None:
    """Listen until told to leave, by a key or a signal, or there are so many episodes."""
    keys = "space or enter begins and ends an episode, d discards the last, q leaves; " if terminal.has_keys else ""
    terminal.say(f"{keys}service {node.resolve_service_name(RUN)} does too, {node.resolve_service_name(DISCARD)} as d")
    told_s = time.monotonic()
    while rclpy.utilities.ok():
        executor.spin_once(timeout_sec=SPIN_S)
        for key in terminal.pressed():
            if key in " \r\n":
                node.toggle()
            elif key == "d":
                node.discard()
            elif key in "q\x04":
                return
        if episodes and node.session.under_way is None and node.session.kept >= episodes:
            return
        if time.monotonic() - told_s >= STATUS_S:
            told_s = time.monotonic()
            terminal.status(_status(node))


def _status(node: Record) -> str:
    """Where things stand, in a line."""
    session = node.session
    kept = f"{session.kept} kept, {sum(1 for taken in session.taken if taken.dropped)} dropped"
    if (taken := session.under_way) is not None:
        return f"recording {taken.episode_id}: {session.lasts_s:.1f} s, {taken.steps} steps written; {kept}"
    why = node.why_not_ready()
    return f"waiting: {why}; {kept}" if why else f"ready; {kept}"
