"""Where the arm should stand for a capture: joint positions that show the board from all sides, and ways between them.

From rough poses of camera and board, views are drawn that spread the board over the picture, tilt it, turn it and vary
its distance; inverse kinematics finds joints for each. Kept is what lies within the joints' limits less a margin, is
free of the arm itself, of the cell's obstacles, of the board (or of the camera, where the board moves), and shows
enough of the board. The poses are then ordered into a short tour whose straight ways in joint space are free as well;
what no free way leads to is left out.

Planned for a rough guess: margins are for errors of a few centimetres, and the gate still checks every command.
Frames: the arm's base frame; mount as in skimo_core.domain.rig. Units m, rad, px.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.cell import Box, Cell
from skimo_core.domain.robot import RobotLimits
from skimo_core.safety.collision import Collision

from ..rigid import flange_poses, inverse, joints_and_flange, pose, turn, turn_vector
from .board import Board
from .camera import Intrinsics

Mask = npt.NDArray[np.bool_]
TRIES = 40
"""Draws for each pose that is asked for, before giving up."""
IK_STEPS, IK_DAMPING = 60, 0.03
IK_SHIFT_M, IK_TURN_RAD = 1e-3, 2e-3
WAY_STEP_RAD = 0.05
CAMERA_HALF_M = 0.06
"""Half the side of a box that a fixed camera and its stand are taken for."""
HELD_GAP_M = 0.05
"""Least distance of a board in the hand from the arm's own lower links."""
SHEET_HALF_M = 0.004


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRanges:
    """What views to draw.

    Attributes:
        distance_m: of the board's middle from the camera: least and greatest.
        tilt_max_rad: between the board's normal and the line of sight.
        roll_max_rad: about the line of sight, either way.
        fill: share of the picture, from its middle, over which the board's middle is spread.
        visible: least share of the board's corners in the picture.
        margin_rad: from the joints' limits.
        margin_m: beyond the cell's margins, for the guess's errors.
    """

    distance_m: tuple[float, float] = (0.32, 0.6)
    tilt_max_rad: float = 0.8
    roll_max_rad: float = np.pi
    fill: float = 0.65
    visible: float = 0.7
    margin_rad: float = 0.1
    margin_m: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is roughly known of a rig.

    Attributes:
        limits, cell: the arm and its surroundings.
        mount: "flange" or "base": what bears the camera.
        intrinsics: the camera's, roughly.
        camera: [4, 4] mount_from_camera.
        board: the board, and `board_pose` [4, 4] base_from_board or flange_from_board.
    """

    limits: RobotLimits
    cell: Cell
    mount: str
    intrinsics: Intrinsics
    camera: Array
    board: Board
    board_pose: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Tour:
    """Poses in the order in which to take them.

    Attributes:
        q_rad: [K, 7].
        way_rad: length of the way, the largest joint's.
        tried: how many views were drawn.
    """

    q_rad: Array
    way_rad: float
    tried: int


def plan_tour(
    setup: Setup, count: int, rng: np.random.Generator, *, start_q_rad: Array, ranges: ViewRanges | None = None
) -> Tour:
    """Find `count` poses and a free tour through them.

    Raises:
        SpecError: too few poses can be reached; says what to change.
    """
    ranges = ranges or ViewRanges()
    room = _Free(setup, ranges)
    if not room.at(start_q_rad[None])[0]:
        raise SpecError(
            f"the tour's start {np.round(start_q_rad, 3).tolist()} rad is not free of the arm, the cell or the board "
            f"with {ranges.margin_m:g} m to spare; begin elsewhere, or correct the rough poses"
        )
    found, tried = np.empty((0, setup.limits.joints)), 0
    while len(found) < count and tried < TRIES * count:
        batch = 2 * count
        q_rad = _reach(setup, _drawn(setup, ranges, batch, rng), start_q_rad, rng)
        tried += batch
        good = q_rad[room.at(q_rad) & (visible_share(setup, q_rad) >= ranges.visible)] if len(q_rad) else q_rad
        found = _tour(np.vstack([found, good])[: 2 * count], start_q_rad, room)[:count]
    if len(found) < count:
        raise SpecError(
            f"{len(found)} of {count} poses can be reached, of {tried} tried; ask for fewer, move the board nearer to "
            "the middle of the arm's reach, or allow less tilt and distance"
        )
    found = _tour(found, start_q_rad, room)
    way = np.abs(np.diff(np.vstack([start_q_rad, found]), axis=0)).max(axis=1).sum()
    return Tour(q_rad=found, way_rad=float(way), tried=tried)


# --- views ----------------------------------------------------------------------------------------------------------


def _drawn(setup: Setup, ranges: ViewRanges, count: int, rng: np.random.Generator) -> Array:
    """camera_from_board [count, 4, 4]: strata over the picture, in random order."""
    camera, side = setup.intrinsics, int(np.ceil(np.sqrt(count)))
    cells = rng.permutation(side * side)[:count]
    share = (np.stack([cells % side, cells // side], axis=1) + rng.uniform(size=(count, 2))) / side - 0.5
    pixels = (share * ranges.fill + 0.5) * [camera.width - 1, camera.height - 1]
    sight = np.concatenate([camera.rays(pixels), np.ones((count, 1))], axis=1)
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    middle = sight * rng.uniform(*ranges.distance_m, size=(count, 1))
    roll = rng.uniform(-ranges.roll_max_rad, ranges.roll_max_rad, size=count)
    lean, about = ranges.tilt_max_rad * np.sqrt(rng.uniform(size=count)), rng.uniform(0, 2 * np.pi, size=count)
    tilt = turn(np.stack([lean * np.cos(about), lean * np.sin(about), 0 * lean], axis=1))
    facing = _turn_onto(sight)  # the board's z, into the sheet, goes along the line of sight
    rotation = facing @ tilt @ turn(np.stack([0 * roll, 0 * roll, roll], axis=1))
    half = np.array([*setup.board.size_m, 0.0]) / 2
    return pose(rotation, middle - rotation @ half)


def _turn_onto(directions: Array) -> Array:
    """Rotations [K, 3, 3] that take z to directions [K, 3] the short way."""
    axis = np.cross([0.0, 0.0, 1.0], directions)
    sine = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.arctan2(sine, directions[:, 2:])
    return turn(axis * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 0.0))


def camera_from_board(setup: Setup, q_rad: Array) -> Array:
    """[K, 4, 4] at joint positions [K, 7]."""
    flange = flange_poses(setup.limits, q_rad)
    if setup.mount == "flange":
        return inverse(flange @ setup.camera) @ setup.board_pose
    return inverse(setup.camera) @ flange @ setup.board_pose


def visible_share(setup: Setup, q_rad: Array) -> Array:
    """[K] share of the board's corners that lie in the picture; 0 where it is seen from behind."""
    poses = camera_from_board(setup, q_rad)
    points = setup.board.points_m @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]
    pixels = setup.intrinsics.project(points)
    inside = (pixels >= 0).all(axis=-1) & (pixels <= [setup.intrinsics.width - 1, setup.intrinsics.height - 1]).all(-1)
    facing = np.einsum("kij,kj->ki", np.swapaxes(poses[:, :3, :3], 1, 2), poses[:, :3, 3])[:, 2] > 0
    return inside.mean(axis=1) * facing


def _reach(setup: Setup, wanted: Array, start_q_rad: Array, rng: np.random.Generator) -> Array:
    """Joints [M, 7] within limits for those of the views camera_from_board [K, 4, 4] that can be reached."""
    if setup.mount == "flange":
        flange = setup.board_pose @ inverse(wanted) @ inverse(setup.camera)
    else:
        flange = setup.camera @ wanted @ inverse(setup.board_pose)
    guess = start_q_rad + rng.normal(0.0, 0.3, size=(len(wanted), len(start_q_rad)))
    return solve_ik(setup.limits, flange, guess)


def solve_ik(limits: RobotLimits, wanted: Array, guess_rad: Array) -> Array:
    """Joint positions [M, J] within limits of those flange poses [K, 4, 4] that damped least squares reach from a
    guess [K, J] (Y. Nakamura, H. Hanafusa, "Inverse kinematic solutions with singularity robustness", 1986)."""
    low, high = limits.q_min_rad, limits.q_max_rad
    q_rad = np.clip(guess_rad, low, high)
    for _ in range(IK_STEPS):
        axes, origins, flange = joints_and_flange(limits, q_rad)
        error = _apart(flange, wanted)
        arm = flange[:, None, :3, 3] - origins
        jacobian = np.concatenate([np.cross(axes, arm), axes], axis=-1)  # [K, J, 6]
        square = np.swapaxes(jacobian, 1, 2) @ jacobian + IK_DAMPING**2 * np.eye(6)
        step = (jacobian @ np.linalg.solve(square, error[..., None]))[..., 0]
        q_rad = np.clip(q_rad + np.clip(step, -0.3, 0.3), low, high)
    error = _apart(flange_poses(limits, q_rad), wanted)
    good = (np.linalg.norm(error[:, :3], axis=1) < IK_SHIFT_M) & (np.linalg.norm(error[:, 3:], axis=1) < IK_TURN_RAD)
    return q_rad[good]


def _apart(have: Array, want: Array) -> Array:
    """[K, 6] shift and turn from one pose to another, in the base frame."""
    turned = turn_vector(want[:, :3, :3] @ np.swapaxes(have[:, :3, :3], 1, 2))
    return np.concatenate([want[:, :3, 3] - have[:, :3, 3], turned], axis=1)


# --- room -----------------------------------------------------------------------------------------------------------


class _Free:
    """Whether joint positions, and straight ways between them, keep clear of everything."""

    def __init__(self, setup: Setup, ranges: ViewRanges) -> None:
        self._setup, self._ranges = setup, ranges
        self._collision = Collision(setup.limits, replace(setup.cell, boxes=(*setup.cell.boxes, _foreign(setup))))
        self._low, self._high = setup.limits.q_min_rad + ranges.margin_rad, setup.limits.q_max_rad - ranges.margin_rad
        capsules = setup.limits.capsules
        self._lower = np.flatnonzero(np.array(capsules.moved_by)[capsules.link] <= 4)
        self._radius = capsules.radius_m[self._lower]

    def at(self, q_rad: Array) -> Mask:
        """[K] of bool at joint positions [K, 7]."""
        within = ((q_rad >= self._low) & (q_rad <= self._high)).all(axis=1)
        room = self._collision.room(q_rad)
        margin_m = self._ranges.margin_m
        return within & (room.self_m > 0) & (room.obstacle_m > margin_m) & self._carried(q_rad)

    def between(self, a_rad: Array, b_rad: Array) -> bool:
        """Whether the straight way from one position to another [7] is free."""
        steps = int(np.ceil(np.abs(b_rad - a_rad).max() / WAY_STEP_RAD)) + 1
        q_rad = a_rad + np.linspace(0, 1, steps + 1)[:, None] * (b_rad - a_rad)
        room = self._collision.room(q_rad)
        return bool(
            (room.self_between_m > 0).all() and (room.obstacle_between_m > 0).all() and self._carried(q_rad).all()
        )

    def _carried(self, q_rad: Array) -> Mask:
        """[K] of bool: whether what the flange bears (camera, or board) keeps clear of obstacles and lower links."""
        setup = self._setup
        flange = flange_poses(setup.limits, q_rad)
        points = _held_points(setup) @ np.swapaxes(flange[:, :3, :3], 1, 2) + flange[:, None, :3, 3]
        free = np.ones(len(q_rad), bool)
        for plane in setup.cell.planes:
            free &= (points @ plane.normal - plane.offset_m).min(axis=1) > plane.margin_m
        for box in (*setup.cell.boxes, _foreign(setup)):
            outside = np.maximum(np.abs((points - box.centre_m) @ box.rotation) - box.half_m, 0.0)
            free &= np.linalg.norm(outside, axis=-1).min(axis=1) > box.margin_m
        if setup.mount == "base":
            ends = self._collision.capsule_ends(q_rad)[:, self._lower]
            free &= (_point_segment_m(points, ends) - self._radius).min(axis=(1, 2)) > HELD_GAP_M
        return free


def _held_points(setup: Setup) -> Array:
    """[P, 3] of what the flange bears, in its frame."""
    if setup.mount == "flange":
        return setup.camera[None, :3, 3]
    width_m, height_m = setup.board.size_m
    across, down = np.meshgrid(np.linspace(0, width_m, 5), np.linspace(0, height_m, 5))
    sheet = np.stack([across.ravel(), down.ravel(), np.zeros(across.size)], axis=1)
    return sheet @ setup.board_pose[:3, :3].T + setup.board_pose[:3, 3]


def _foreign(setup: Setup) -> Box:
    """What stands in the cell for the capture: the board, or the camera, as a box."""
    if setup.mount == "flange":
        half = np.array([*setup.board.size_m, 2 * SHEET_HALF_M]) / 2
        centre = setup.board_pose[:3, :3] @ np.array([half[0], half[1], 0.0]) + setup.board_pose[:3, 3]
        return Box(name="board", centre_m=centre, half_m=half, rotation=setup.board_pose[:3, :3], margin_m=0.02,
                   exempt=("link0",))  # fmt: skip
    return Box(name="camera", centre_m=setup.camera[:3, 3], half_m=np.full(3, CAMERA_HALF_M), rotation=np.eye(3),
               margin_m=0.02, exempt=("link0",))  # fmt: skip


def _point_segment_m(points: Array, ends: Array) -> Array:
    """Distances [K, P, C] of points [K, P, 3] from segments [K, C, 2, 3]."""
    start, way = ends[:, None, :, 0], (ends[:, :, 1] - ends[:, :, 0])[:, None]
    there = points[:, :, None] - start
    share = (there * way).sum(-1) / np.maximum((way * way).sum(-1), 1e-12)
    return np.linalg.norm(there - np.clip(share, 0, 1)[..., None] * way, axis=-1)


# --- order ----------------------------------------------------------------------------------------------------------


def _tour(q_rad: Array, start_q_rad: Array, room: _Free) -> Array:
    """The poses in the order of a short tour whose ways are free; what none leads to is left out.

    Always on to the nearest that a free way leads to.
    """
    left, order, here = list(range(len(q_rad))), [], start_q_rad
    while left:
        by_way = sorted(left, key=lambda k: float(np.abs(q_rad[k] - here).max()))
        onward = next((k for k in by_way if room.between(here, q_rad[k])), None)
        if onward is None:
            break
        order.append(onward)
        left.remove(onward)
        here = q_rad[onward]
    return q_rad[order]
