"""Pictures of tags as a camera of known lens and place would take them, drawn ray by ray: for tests of readers."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from skimo_calibration.cameras.camera import Intrinsics
from skimo_calibration.objects.tag_fit import Seen, seen_by
from skimo_calibration.objects.tags import Mount, Sighting, code
from skimo_calibration.objects.viewpoint import Viewpoint
from skimo_calibration.rigid import turn
from skimo_core.contract.types import Array

LENS = Intrinsics(
    width=640, height=480, fx=620.0, fy=621.0, cx=323.0, cy=242.0, distortion=np.array([0.08, -0.15, 1e-3, -5e-4, 0.05])
)
RAYS = 8
"""Of a pixel, no two in one row or column: edges along the pixels' rows lie right to a 16th of one."""
WITHIN = (np.stack([np.arange(RAYS), np.arange(RAYS) * 3 % RAYS], axis=-1) + 0.5) / RAYS - 0.5
CELLS, CARD = 8, 10
INK, PAPER, GROUND = 30.0, 210.0, 120.0
FACING = np.diag([1.0, -1.0, -1.0])
"""How a tag is turned that is upright and looks at the camera."""


def draw(
    tags: Iterable[Mount],
    view: Viewpoint,
    rng: np.random.Generator,
    *,
    blur_px: float = 0.7,
    noise: float = 2.0,
    paper: float = PAPER,
) -> npt.NDArray[np.uint8]:
    """The grey picture of tags, whose mounts are in the frame of the view's pose; nearer ones come later."""
    lens = view.intrinsics
    picture = np.full((lens.height, lens.width), GROUND)
    for tag in tags:
        rotation = view.rotation.T @ tag.rotation
        position = view.rotation.T @ (tag.position_m - view.position_m)
        _draw_one(picture, tag, rotation, position, lens, paper)
    blurred = cv2.GaussianBlur(picture, (0, 0), blur_px) if blur_px else picture
    return np.clip(np.rint(blurred + rng.normal(0.0, noise, blurred.shape)), 0, 255).astype(np.uint8)


def _draw_one(picture: Array, tag: Mount, rotation: Array, position: Array, lens: Intrinsics, paper: float) -> None:
    half = tag.size_m * CARD / CELLS / 2
    around = np.array([[x, y, 0.0] for x in (-half, half) for y in (-half, half)]) @ rotation.T + position
    pixels = lens.project(around)
    if rotation[:, 2] @ position > 0 or not np.isfinite(pixels).all():
        return
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 3, [lens.width, lens.height])
    if (high <= low).any():
        return
    columns, rows = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    rays = lens.rays(np.stack([columns, rows], axis=-1)[..., None, :] + WITHIN)
    ahead = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1) @ rotation
    eye = -rotation.T @ position
    at = (eye[:2] + ahead[..., :2] * (-eye[2] / ahead[..., 2:])) / tag.size_m
    column, row = np.floor((at[..., 0] + 0.5) * CELLS).astype(int), np.floor((0.5 - at[..., 1]) * CELLS).astype(int)
    inside = (column >= 0) & (column < CELLS) & (row >= 0) & (row < CELLS)
    white = code(tag.tag_id)[row.clip(0, CELLS - 1), column.clip(0, CELLS - 1)]
    here = picture[low[1] : high[1], low[0] : high[0]]
    card = (np.abs(at) < CARD / CELLS / 2).all(axis=-1)
    here[:] = np.where(card, np.where(inside & ~white, INK, paper), here[..., None]).mean(axis=-1)


def sightings(
    tags: Iterable[Mount], view: Viewpoint, rng: np.random.Generator, noise_px: float = 0.05
) -> tuple[Seen, ...]:
    """What a detector would tell of tags, none drawn: of those that face the camera and are in its picture."""
    lens, found = view.intrinsics, []
    for tag in tags:
        local = (tag.corners - view.position_m) @ view.rotation
        pixels = lens.project(local)
        faces = (view.rotation.T @ tag.rotation)[:, 2] @ local.mean(axis=0) < 0
        if faces and ((pixels >= 0) & (pixels < [lens.width, lens.height])).all():
            corners = pixels + rng.normal(0.0, noise_px, (4, 2))
            found.append(Sighting(tag_id=tag.tag_id, corners_px=corners, sigma_px=noise_px, margin=80.0))
    return seen_by(view, found)


def camera_at(name: str, eye_m: Array, target_m: Array, lens: Intrinsics = LENS, latency_s: float = 0.0) -> Viewpoint:
    """A camera that looks at a point, upright."""
    ahead = np.asarray(target_m, float) - eye_m
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.column_stack([right, np.cross(ahead, right), ahead])
    return Viewpoint(
        name=name, intrinsics=lens, rotation=rotation, position_m=np.asarray(eye_m, float), latency_s=latency_s
    )


AHEAD = Viewpoint(name="ahead", intrinsics=LENS, rotation=np.eye(3), position_m=np.zeros(3))
"""A camera whose optical frame is the frame of all poses."""


def random_tag(
    rng: np.random.Generator, *, size_m: float = 0.06, near_m: float = 0.3, far_m: float = 0.8, tilt_rad: float = 1.05
) -> Mount:
    """A tag somewhere in view of AHEAD, turned by anything and tilted by up to `tilt_rad`."""
    z = rng.uniform(near_m, far_m)
    axis = rng.normal(size=2)
    lean = turn(np.array([*axis / np.linalg.norm(axis), 0.0]) * rng.uniform(0.09, tilt_rad))
    return Mount(
        tag_id=int(rng.integers(587)),
        size_m=size_m,
        rotation=FACING @ lean @ turn(np.array([0.0, 0.0, rng.uniform(-np.pi, np.pi)])),
        position_m=np.array([rng.uniform(-0.3, 0.3) * z, rng.uniform(-0.2, 0.2) * z, z]),
    )
