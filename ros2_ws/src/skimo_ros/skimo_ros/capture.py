"""`skimo calibrate capture`: move the arm from pose to pose through the gate, and take a picture at rest in each.

The stack runs without a policy (`skimo up policy:=false`, on a robot with its own arguments besides); the camera's
driver publishes on camera/NAME/image_raw. Poses are planned from what is roughly known of camera and board, or read
from a file, or given by hand: then nothing is commanded, and a person guides the arm.

Promises
  - Every way goes through the gate, slowly. A stop ends the capture with its reason; the views that were taken stay,
    and the same command goes on with those that are missing.
  - A picture counts if it was taken, by its stamp and the camera's latency, after the arm came to rest.
Joints are written as the encoders read them. Units rad, m, s.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tyro
from sensor_msgs.msg import Image

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.contract.types import Array
from skimo_core.control.travel import EVERY_S
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import DEFAULT
from skimo_core.domain.robot import RobotLimits
from skimo_core.domain.tables import Table, read_yaml

from . import conversions as convert
from .led_arm import LOOK_S, LedArm
from .nodes import STATE_QOS, Names
from .operator import end_ros, init_ros
from .robots import Setup, set_up

if TYPE_CHECKING:
    from skimo_calibration.cameras.board import Board
    from skimo_calibration.cameras.capture import Capture

MAX_VIEWS = 200
SETTLE_S = 0.4
"""How long an arm that has come to rest is left alone before its picture counts."""
PICTURE_S = 10.0
"""Longest wait for a picture."""
FLAT = (np.pi, 0.0, 0.0)
"""The turn of a board that lies face up, its x ahead of the arm; so does one that the hand holds look back at it."""
LYING_M, HELD_M = (0.42, 0.1, 0.0), 0.16


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureArgs:
    """Move the arm through the gate from pose to pose and take a picture of the board in each.

    Attributes:
        out: the capture's folder; one that is not complete is gone on with.
        camera: its name in the rig, and in camera/NAME/image_raw.
        mount: what bears the camera: the flange, or the base (the hand then bears the board).
        views: how many.
        poses: YAML file with q_rad, a list of true joint positions, rad; otherwise they are planned.
        by_hand: a person guides the arm and presses Enter for each picture; nothing is commanded.
        board: YAML file with the board's data; the board that `skimo calibrate board` prints by default.
        board_at: roughly where the board's first corner is, in the base's frame (in the flange's, where the hand bears
            the board), m; by default it lies ahead of the arm, or its middle is 0.16 m before the flange.
        board_turn: its rotation vector there, rad; as it is, it lies face up.
        rig: what is known of the cell so far, as the gate has it; for planned poses the camera's rough lens and pose.
        share: of the robot's limits that the ways use.
        seed: of the poses that are planned.
        driver, arm, domain, robot, cell, namespace: as the stack's.
    """

    out: tyro.conf.Positional[Path]
    camera: str
    mount: Literal["flange", "base"] = "flange"
    views: int = 24
    poses: Path | None = None
    by_hand: bool = False
    board: Path | None = None
    board_at: tuple[float, float, float] | None = None
    board_turn: tuple[float, float, float] = FLAT
    rig: str = ""
    share: float = 0.15
    seed: int = 0
    driver: str = "twin"
    arm: str = ""
    domain: str = DEFAULT
    robot: str = ""
    cell: str = ""
    namespace: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.views <= MAX_VIEWS:
            raise SpecError(f"views is {self.views}, must lie in 1 to {MAX_VIEWS}")
        if self.by_hand and self.poses is not None:
            raise SpecError("--by-hand and --poses contradict each other; give one")


def capture(args: tyro.conf.OmitArgPrefixes[CaptureArgs]) -> None:
    """Move the arm through the gate from pose to pose and take a picture of the board in each."""
    named = {key: getattr(args, key) for key in ("driver", "arm", "domain", "robot", "rig")}
    setup = set_up({**named, "robot_serial": "", "rig_max_age_days": 0.0})
    taken = _begin(args, setup)
    init_ros()
    try:
        photographer = Photographer(args, setup)
        try:
            goals = _goals(args, setup, taken.board, photographer.rest())
            for number, goal in enumerate(goals[len(taken.views) :], start=len(taken.views) + 1):
                if goal is None:
                    input(f"guide the arm to view {number} of {len(goals)}, let go, and press Enter (Ctrl-C ends) ")
                else:
                    photographer.go(goal, args.share, "the view's pose")
                taken = photographer.take(taken)
                print(f"view {number} of {len(goals)}", flush=True)
        finally:
            photographer.close()
    finally:
        end_ros()
    print(f"{args.out}: {len(taken.views)} views; next: skimo calibrate camera {args.out}")


def _begin(args: CaptureArgs, setup: Setup) -> Capture:
    """The capture of that folder, or a new one."""
    from skimo_calibration.cameras.board import A4_BOARD, read_board
    from skimo_calibration.cameras.capture import HEAD, Capture, create_capture, load_capture

    if (args.out / HEAD).exists():
        begun = load_capture(args.out)
        if (begun.camera, begun.mount) != (args.camera, args.mount):
            raise SpecError(
                f"{args.out} is of camera {begun.camera} at the {begun.mount}; give {args.camera} at the {args.mount} "
                "a folder of its own"
            )
        return begun
    known = setup.rig.cameras.get(args.camera)
    return create_capture(
        Capture(
            folder=args.out,
            camera=args.camera,
            frame=known.frame if known is not None else f"{args.camera}_optical_frame",
            mount=args.mount,
            robot=setup.limits.name,
            serial=setup.rig.serial,
            board=A4_BOARD if args.board is None else read_board(_table(args.board)),
            date=datetime.datetime.now(datetime.timezone.utc).date(),
            by="skimo calibrate capture",
        )
    )


def _table(path: Path) -> Table:
    try:
        return Table(read_yaml(path.read_text(encoding="utf-8"), str(path)), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} can't be read: {error}") from None


def _goals(args: CaptureArgs, setup: Setup, board: Board, here_rad: Array) -> Sequence[Array | None]:
    """True joint positions [7] of all views; None where a person leads the arm."""
    if args.by_hand:
        return [None] * args.views
    if args.poses is not None:
        return _from_file(args.poses, setup.limits)
    return _planned(args, setup, board, here_rad)


def _from_file(path: Path, limits: RobotLimits) -> list[Array]:
    table = _table(path)
    rows: Any = table.value("q_rad")
    table.refuse_others()
    if not isinstance(rows, list) or not rows:
        raise SpecError(f"{path}: q_rad must be a list of joint positions, rad")
    found = [Table({"q_rad": row}, f"{path}: view {k}").vector("q_rad", limits.joints) for k, row in enumerate(rows)]
    for number, q_rad in enumerate(found):
        if ((q_rad < limits.q_min_rad) | (q_rad > limits.q_max_rad)).any():
            raise SpecError(f"{path}: view {number} {q_rad.tolist()} rad lies outside the joints' range; degrees?")
    return found


def _planned(args: CaptureArgs, setup: Setup, board: Board, here_rad: Array) -> list[Array]:
    from skimo_calibration.cameras.camera import Intrinsics
    from skimo_calibration.cameras.poses import Setup as Rough
    from skimo_calibration.cameras.poses import plan_tour
    from skimo_calibration.rigid import pose, turn

    known = setup.rig.cameras.get(args.camera)
    if known is None or known.lens is None or known.pose is None:
        raise SetupError(
            f"rig {args.rig or '(none)'} doesn't say roughly where camera {args.camera!r} sits and what its lens is, "
            "which planned poses need: type that in (rigs/example.yaml shows how), or give --poses FILE, or --by-hand"
        )
    width_m, height_m = board.size_m
    usual_m = LYING_M if args.mount == "flange" else (-width_m / 2, height_m / 2, HELD_M)
    at_m = np.array(usual_m if args.board_at is None else args.board_at)
    rough = Rough(
        limits=setup.limits,
        cell=load_cell(args.cell or setup.domain.cell),
        mount=args.mount,
        intrinsics=Intrinsics.of(known.lens),
        camera=pose(known.pose.rotation, known.pose.position_m),
        board=board,
        board_pose=pose(turn(np.array(args.board_turn)), at_m),
    )
    return list(plan_tour(rough, args.views, np.random.default_rng(args.seed), start_q_rad=here_rad).q_rad)


class Photographer(LedArm):
    """Moves an arm over the graph and takes pictures with one of its cameras; in the graph from here to `close`.

    Raises:
        SetupError: the stack isn't up.
    """

    def __init__(self, args: CaptureArgs, setup: Setup) -> None:
        super().__init__("capture", setup, driver=args.driver, arm=args.arm, namespace=args.namespace)
        self._rig = setup.rig
        known = setup.rig.cameras.get(args.camera)
        self._late_s = known.latency.latency_s if known is not None and known.latency is not None else 0.0
        self._topic = Names.IMAGE.format(args.camera)
        self._newest: Image | None = None
        self.node.create_subscription(Image, self._topic, self._hear, STATE_QOS)
        self.arm.wait_until_up()

    def rest(self) -> Array:
        """The true joint positions [7] of the arm."""
        return self.arm.read().q_rad

    def take(self, capture: Capture) -> Capture:
        """Take a picture of an arm at rest; returns the capture with that view.

        Raises:
            SetupError: no picture comes. SpecError: it can't be read.
        """
        from skimo_calibration.cameras.capture import add_view

        message = self._picture(self.arm.now_s() + SETTLE_S + self._late_s)
        state, offset_rad = self.arm.read(), self._rig.offset_rad
        self.let_pass(EVERY_S)
        return add_view(
            capture,
            convert.picture(message),
            stamp_s=convert.stamp_of(message) - self._late_s,
            q_rad=state.q_rad + offset_rad,
            dq_rad_s=state.dq_rad_s,
            q_after_rad=self.arm.read().q_rad + offset_rad,
        )

    def _picture(self, since_s: float) -> Image:
        """The first picture with a stamp after `since_s`."""
        until_s = self.arm.now_s() + PICTURE_S
        while (newest := self._newest) is None or convert.stamp_of(newest) < since_s:
            if self.arm.now_s() > until_s:
                came = (
                    "none came" if newest is None else f"the newest is {since_s - convert.stamp_of(newest):.1f} s older"
                )
                raise SetupError(
                    f"waited {PICTURE_S:g} s for a picture on {self._topic!r} taken since the arm is at rest, {came}; "
                    "does the camera's driver run, in this clock?"
                )
            self.let_pass(LOOK_S)
        return newest

    def _hear(self, message: Image) -> None:
        self._newest = message
