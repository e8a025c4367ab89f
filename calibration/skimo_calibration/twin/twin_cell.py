"""A cell that nobody calibrated, in simulation: what a capture would be on a real one, with the truth beside it.

A seed disturbs everything that calibration finds: the encoders' offsets, the camera's place, its lens, where the board
lies; and adds what it must live with: joints that don't stop quite where they read, blur, and noise of the sensor. A
capture is then played as on a real robot and written in the same files (`capture`): for each pose that the robot is
told, the arm is put where its true joints are, a picture is drawn, and what the encoders read is noted. Kinematic:
nothing moves between views.

Frames as in skimo_core.domain.rig; the base frame is the scene's. Units m, rad, px. Needs skimo_sim and a GL library.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from skimo_core.contract.types import Array
from skimo_core.domain.cell import load_cell
from skimo_core.domain.robot import load_limits

from ..cameras.board import A4_BOARD, Picture, draw
from ..cameras.camera import Intrinsics
from ..cameras.capture import Capture, add_view, create_capture
from ..cameras.poses import Setup, ViewRanges, plan_tour
from ..rigid import flange_poses, inverse, moved, pose, turn
from .twin_camera import SimulatedCamera, attach_picture

DATE = datetime.date(2026, 1, 1)
"""That a capture of the twin bears unless told otherwise: the same seed makes the same files."""
PERIOD_S = 4.0
STILL_NOISE_RAD_S = 5e-4
SQUARE_PX = 80
FLOOR_M = -0.06
RANGES = {"flange": ViewRanges(), "base": ViewRanges(distance_m=(0.45, 0.8))}
"""What views to take: a camera in the hand comes near, one at the base can't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """How far the twin is off what is roughly known of it; standard deviations, unless they say otherwise.

    Attributes:
        offset_rad, offset_max_rad: of the encoders' offsets, and the largest there is.
        shift_m, turn_rad: of camera and board, along and about each axis.
        focal: share of the focal lengths; centre_px: of the principal point.
        k1, k2, tangential: lens coefficients.
        joint_noise_rad: where joints stop, beyond what they read. A Panda comes back within 0.1 mm (data sheet): about
            1e-4 rad a joint.
        blur_px, noise: least and greatest blur of the pictures (px) and noise of their grey levels.
    """

    offset_rad: float = 0.02
    offset_max_rad: float = 0.05
    shift_m: float = 0.02
    turn_rad: float = 0.03
    focal: float = 0.02
    centre_px: float = 6.0
    k1: float = 0.08
    k2: float = 0.05
    tangential: float = 0.001
    joint_noise_rad: float = 1e-4
    blur_px: tuple[float, float] = (0.3, 0.8)
    noise: tuple[float, float] = (1.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinRig:
    """The truth about a disturbed cell.

    Attributes:
        setup: what is roughly known of it.
        camera: [4, 4] mount_from_camera; board: [4, 4] base_from_board, or flange_from_board.
        intrinsics: the lens.
        offset_rad: [7] an encoder reads true + offset.
        joint_noise_rad, blur_px, noise: what can't be calibrated.
    """

    setup: Setup
    camera: Array
    board: Array
    intrinsics: Intrinsics
    offset_rad: Array
    joint_noise_rad: float
    blur_px: float
    noise: float

    def camera_for(self, offset_rad: Array) -> Array:
        """[4, 4] the camera's pose that belongs to offsets [7] as somebody has them: what they are wrong in joints 1
        and 7 turns the base's frame and the flange's, and the true camera is seen from these."""
        wrong = self.offset_rad - offset_rad
        about = -wrong[-1] if self.setup.mount == "flange" else wrong[0]
        return pose(turn(np.array([0.0, 0.0, about])), np.zeros(3)) @ self.camera


def nominal_setup(mount: str) -> Setup:
    """What is roughly known of the twin's cell: a wrist camera and a board, or a camera and a board in the hand."""
    intrinsics = Intrinsics(width=640, height=480, fx=610.0, fy=610.0, cx=319.5, cy=239.5, distortion=np.zeros(5))
    if mount == "flange":
        camera = pose(turn(np.array([0.0, 0.0, -np.pi / 4])), np.array([0.05, 0.05, 0.04]))
        board = pose(np.diag([1.0, -1.0, -1.0]) @ turn(np.array([0.0, 0.0, 0.3])), np.array([0.42, 0.1, 0.0]))
    else:
        ahead = np.array([-1.0, 0.0, -0.3]) / np.hypot(1.0, 0.3)
        right = np.array([0.0, 1.0, 0.0])
        camera = pose(np.column_stack([right, np.cross(ahead, right), ahead]), np.array([1.15, 0.0, 0.75]))
        width_m, height_m = A4_BOARD.size_m
        board = pose(np.diag([1.0, -1.0, -1.0]), np.array([-width_m / 2, height_m / 2, 0.16]))
    return Setup(
        limits=load_limits("panda"),
        cell=load_cell("open"),
        mount=mount,
        intrinsics=intrinsics,
        camera=camera,
        board=A4_BOARD,
        board_pose=board,
    )


def disturbed_rig(mount: str, seed: int, disturbance: Disturbance | None = None) -> TwinRig:
    """A cell of that seed."""
    size, rng, setup = disturbance or Disturbance(), np.random.default_rng([seed, 1]), nominal_setup(mount)

    def apart() -> Array:
        return np.concatenate([rng.normal(0.0, size.shift_m, 3), rng.normal(0.0, size.turn_rad, 3)])

    rough = setup.intrinsics
    fx, fy = rough.lens[:2] * (1 + rng.normal(0.0, size.focal) + rng.normal(0.0, size.focal / 10, 2))
    cx, cy = rough.lens[2:4] + rng.normal(0.0, size.centre_px, 2)
    bend = np.array([size.k1, size.k2, size.tangential, size.tangential, 0.0]) * rng.standard_normal(5)
    offsets = rng.normal(0.0, size.offset_rad, setup.limits.joints)
    return TwinRig(
        setup=setup,
        camera=moved(setup.camera, apart()),
        board=moved(setup.board_pose, apart()),
        intrinsics=rough.with_lens(np.array([fx, fy, cx, cy, *bend])),
        offset_rad=np.clip(offsets, -size.offset_max_rad, size.offset_max_rad),
        joint_noise_rad=size.joint_noise_rad,
        blur_px=float(rng.uniform(*size.blur_px)),
        noise=float(rng.uniform(*size.noise)),
    )


class TwinCell:
    """The arm, the board and the camera of a rig, to be looked at. Close it, or use it as a context manager."""

    def __init__(self, rig: TwinRig, seed: int) -> None:
        from skimo_sim.scenes.assets import PANDA_XML, kitchen_root
        from skimo_sim.scenes.physics import mujoco

        self._rig, self._rng = rig, np.random.default_rng([seed, 2])
        spec = mujoco.MjSpec.from_file(str(PANDA_XML))
        spec.meshdir = str(kitchen_root() / "franka_assets" / "meshes")
        spec.compiler.discardvisual = False
        world = spec.worldbody
        world.add_light(pos=[0.5, 0.5, 2.5], dir=[0.0, 0.0, -1.0])
        world.add_geom(
            type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3.0, 3.0, 0.1], pos=[0, 0, FLOOR_M], rgba=[0.5, 0.5, 0.5, 1]
        )
        picture, width_m, height_m = draw(rig.setup.board, square_px=SQUARE_PX)
        bearer, place = world, rig.board
        if rig.setup.mount == "base":
            bearer = spec.body("panda_link7")
            place = pose(np.eye(3), np.array([0.0, 0.0, rig.setup.limits.flange_m])) @ rig.board
        middle = place @ pose(np.eye(3), np.array([*rig.setup.board.size_m, 0.0]) / 2)
        attach_picture(
            spec, bearer, "board", picture, width_m=width_m, height_m=height_m, rotation=middle[:3, :3],
            position_m=middle[:3, 3],
        )  # fmt: skip
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._camera = SimulatedCamera(self._model, rig.intrinsics, blur_px=rig.blur_px, noise=rig.noise, seed=seed)

    def look(self, q_read_rad: Array) -> Picture:
        """The picture when the encoders read so [7]; each time the arm stops a little elsewhere."""
        from skimo_sim.scenes.physics import mujoco

        rig = self._rig
        true = q_read_rad - rig.offset_rad - self._rng.normal(0.0, rig.joint_noise_rad, len(q_read_rad))
        self._data.qpos[: len(true)] = true
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        place = rig.camera
        if rig.setup.mount == "flange":
            place = flange_poses(rig.setup.limits, true[None])[0] @ rig.camera
        return self._camera.paint(self._data, place[:3, :3], place[:3, 3])

    def close(self) -> None:
        """Release what draws."""
        self._camera.close()

    def __enter__(self) -> TwinCell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def play_capture(
    rig: TwinRig,
    folder: Path,
    count: int,
    seed: int,
    *,
    name: str = "",
    ranges: ViewRanges | None = None,
    date: datetime.date = DATE,
) -> Capture:
    """Plan poses for what is roughly known, take a view at each, and write the capture.

    Args:
        name: of the camera; empty: wrist or front, by its mount.
        ranges: of the views; None: the mount's usual ones.

    Raises:
        SpecError: the folder holds something, or no poses can be reached.
        SetupError: there is nothing to draw with.
    """
    rng = np.random.default_rng([seed, 3])
    setup = rig.setup
    tour = plan_tour(setup, count, rng, start_q_rad=setup.limits.home_q_rad, ranges=ranges or RANGES[setup.mount])
    name = name or ("wrist" if setup.mount == "flange" else "front")
    capture = create_capture(
        Capture(
            folder=folder,
            camera=name,
            frame=f"{name}_camera_optical_frame",
            mount=setup.mount,
            robot=setup.limits.name,
            serial="",
            board=setup.board,
            date=date,
            by=f"skimo's twin, seed {seed}",
        )
    )
    with TwinCell(rig, seed) as cell:
        for k, q_rad in enumerate(tour.q_rad):
            still = rng.normal(0.0, STILL_NOISE_RAD_S, len(q_rad))
            capture = add_view(
                capture, cell.look(q_rad), stamp_s=PERIOD_S * (k + 1), q_rad=q_rad, dq_rad_s=still, q_after_rad=q_rad
            )
    return capture


def camera_error(rig: TwinRig, camera: Array, offset_rad: Array) -> tuple[float, float]:
    """How far a calibrated camera lies from the truth, which its offsets belong to: m, rad."""
    apart = inverse(rig.camera_for(offset_rad)) @ camera
    turned = np.arccos(np.clip((np.trace(apart[:3, :3]) - 1) / 2, -1, 1))
    return float(np.linalg.norm(apart[:3, 3])), float(turned)
