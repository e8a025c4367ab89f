"""Is a rig still true? A few views of a board are predicted from it, and what it says is kept; nothing is calibrated.

Unknown is the board's place alone, which somebody just laid down (or put into the hand); camera, lens and joint offsets
are the rig's. Where the camera was knocked, a joint lost its zero or the lens was turned, the corners are not where
they were predicted. Six views take two minutes; by how far they turn the hand says how much they tell. Units px, m,
rad.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import Camera, Check, Lens, Placement, Rig
from skimo_core.domain.robot import RobotLimits, load_limits

from ..report import Criterion, Page
from ..rigid import flange_poses, inverse, mean_rotation, moved, pose
from .camera import Intrinsics
from .capture import Capture
from .consistency import SECOND_SPREAD_MIN_RAD, spread_rad
from .intrinsics import board_poses
from .projection import Guess, Seen, predict, seen_of
from .views import Sights

VIEWS_MIN = 5
"""A check needs no more: it fits six numbers."""
BEYOND_PX = 1.0
"""Of a distance between corner and prediction, beyond which a residual counts less: one bad view is seen as such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckBounds:
    """What a rig must keep to be used on.

    Attributes:
        apart_px: root mean squared distance between corners and prediction.
        apart_mm: the same at the board.
        spread_rad: least standard deviation of the hand's turns between views, along their second axis.
    """

    apart_px: float = 1.5
    apart_mm: float = 1.5
    spread_rad: float = SECOND_SPREAD_MIN_RAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came out.

    Attributes:
        board: [4, 4] where the board is, on the side that doesn't bear the camera.
        view_px, view_m: [V] root mean squared distances in each view, in the picture and at the board.
        apart_px, apart_m: over all corners.
        spread_rad: of the hand's turns between views, along their second axis.
    """

    board: Array
    view_px: Array
    view_m: Array
    apart_px: float
    apart_m: float
    spread_rad: float


def check_rig_on(rig: Rig, sights: Sights) -> Checked:
    """Hold a rig against what views show.

    Raises:
        SpecError: the rig has no such camera, or not all of it; the pictures are of another size.
    """
    capture, limits = sights.capture, load_limits(rig.robot)
    lens, placed = _known(rig, capture)
    if (lens.width, lens.height) != (sights.width, sights.height):
        raise SpecError(
            f"rig {rig.name} has camera {capture.camera} with {lens.width} x {lens.height} px, the pictures have "
            f"{sights.width} x {sights.height}; take them in the mode that was calibrated"
        )
    q_rad = sights.q_rad - rig.offset_rad
    intrinsics = Intrinsics.of(lens)
    camera = pose(placed.rotation, placed.position_m)
    seen = seen_of(capture.board, sights.corners, q_rad, capture.mount)
    poses = board_poses(intrinsics, capture.board, sights.corners)
    guess = Guess(
        camera=camera,
        board=_place(limits, capture.mount, q_rad, camera, poses),
        offset_rad=np.zeros(limits.joints),
        lens=intrinsics.lens,
        noise_rad=np.zeros_like(q_rad),
    )
    board = _fitted(limits, seen, guess)
    error_px = np.linalg.norm(predict(limits, seen, replace(guess, board=board)) - seen.pixels, axis=-1)
    squares, counts = ((error_px * seen.weight) ** 2).sum(axis=1), seen.weight.sum(axis=1)
    per_px_m = poses[:, 2, 3] / lens.focal_px.mean()
    return Checked(
        board=board,
        view_px=np.sqrt(squares / counts),
        view_m=np.sqrt(squares / counts) * per_px_m,
        apart_px=float(np.sqrt(squares.sum() / counts.sum())),
        apart_m=float(np.sqrt((squares * per_px_m**2).sum() / counts.sum())),
        spread_rad=float(spread_rad(flange_poses(limits, q_rad)[:, :3, :3])[1]),
    )


def check_page(rig: Rig, sights: Sights, checked: Checked, bounds: CheckBounds) -> Page:
    """What the check says, held against its bounds."""
    page = Page(f"Check of rig {rig.name}", f"{len(sights.seen)} views of camera {sights.capture.camera}")
    page.judge(
        Criterion(name="corners against prediction", value=checked.apart_px, bound=bounds.apart_px, unit="px"),
        Criterion(name="the same at the board", value=1e3 * checked.apart_m, bound=bounds.apart_mm, unit="mm"),
        Criterion(
            name="spread of the hand's turns",
            value=checked.spread_rad,
            bound=bounds.spread_rad,
            unit="rad",
            at_least=True,
        ),
    )
    rows = [
        (sight.view.name, float(px), 1e3 * float(m))
        for sight, px, m in zip(sights.seen, checked.view_px, checked.view_m)
    ]
    page.table(
        ("view", "px", "mm at the board"), rows, "Each view predicted from the rig; the board's place is fitted."
    )
    made = [(where, str(entry.date), entry.method, entry.source) for where, entry in rig.made().items()]
    page.table(("entry", "date", "method", "source"), made, "What the rig says, and since when.")
    return page


def outcome(page: Page, today: datetime.date) -> Check:
    """What the rig file is to say of it."""
    return Check(date=today, passed=page.passed, reasons=page.failures)


def _known(rig: Rig, capture: Capture) -> tuple[Lens, Placement]:
    if capture.robot != rig.robot:
        raise SpecError(
            f"rig {rig.name} is a {rig.robot}'s, the capture is of a {capture.robot}; give that robot's rig"
        )
    camera: Camera | None = rig.cameras.get(capture.camera)
    if camera is None or camera.mount != capture.mount:
        has = ", ".join(f"{name} ({c.mount})" for name, c in rig.cameras.items()) or "none"
        raise SpecError(
            f"rig {rig.name} has no camera {capture.camera} ({capture.mount}); it has {has}: calibrate it (skimo "
            "calibrate hand-eye)"
        )
    if camera.lens is None or camera.pose is None:
        raise SpecError(
            f"rig {rig.name} doesn't say all of camera {capture.camera}; run skimo calibrate camera and hand-eye"
        )
    return camera.lens, camera.pose


def _place(limits: RobotLimits, mount: str, q_rad: Array, camera: Array, camera_from_board: Array) -> Array:
    """[4, 4] roughly where the board is: the middle of what the views say."""
    flange = flange_poses(limits, q_rad)
    each = flange @ camera @ camera_from_board if mount == "flange" else inverse(flange) @ camera @ camera_from_board
    return pose(mean_rotation(each[:, :3, :3]), np.median(each[:, :3, 3], axis=0))


def _fitted(limits: RobotLimits, seen: Seen, guess: Guess) -> Array:
    """[4, 4] the board's place under which the corners are predicted best."""

    def apart(twist: Array) -> Array:
        predicted = predict(limits, seen, replace(guess, board=moved(guess.board, twist)))
        return ((predicted - seen.pixels) * seen.weight[..., None]).ravel()

    found = least_squares(apart, np.zeros(6), loss="soft_l1", f_scale=BEYOND_PX, x_scale=1e-3)
    return moved(guess.board, found.x)
