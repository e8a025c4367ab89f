"""A camera as data: what its lens and sensor do to a ray.

Frames: the optical frame, x to the right of the picture, y down, z ahead. The first pixel's centre is at (0, 0), as in
OpenCV. Lens: OpenCV's five coefficients k1, k2, p1, p2, k3 (D. C. Brown, "Close-range camera calibration",
Photogrammetric Engineering 37(8), 1971). Units: px, m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import Lens

COEFFICIENTS = 5
LENS = 4 + COEFFICIENTS
"""A lens as a vector: fx, fy, cx, cy, k1, k2, p1, p2, k3."""
INVERSION_STEPS = 30
INVERSION_LEFT = 1e-6
"""How well the lens is inverted, in the units of a ray's tangent: far below a thousandth of a pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intrinsics:
    """What a pixel sees.

    Attributes:
        width, height: of the picture, px.
        fx, fy: focal lengths, px.
        cx, cy: principal point, px.
        distortion: [5] k1, k2, p1, p2, k3.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Array

    def __post_init__(self) -> None:
        numbers = np.array([self.fx, self.fy, self.cx, self.cy, *np.ravel(self.distortion)])
        if np.shape(self.distortion) != (COEFFICIENTS,) or not np.isfinite(numbers).all():
            raise SpecError(
                f"a camera has focal lengths, a principal point and {COEFFICIENTS} lens coefficients k1 k2 p1 p2 k3, "
                f"all finite; given {numbers.round(4).tolist()}"
            )
        if min(self.width, self.height) < 1 or min(self.fx, self.fy) <= 0:
            raise SpecError(
                f"a camera's picture ({self.width} x {self.height} px) and focal lengths ({self.fx:g}, {self.fy:g} px) "
                "must be above 0"
            )

    @classmethod
    def of(cls, lens: Lens) -> Intrinsics:
        """Those of a rig's lens."""
        (fx, fy), (cx, cy) = lens.focal_px.tolist(), lens.centre_px.tolist()
        return cls(width=lens.width, height=lens.height, fx=fx, fy=fy, cx=cx, cy=cy, distortion=lens.distortion)

    @property
    def matrix(self) -> Array:
        """[3, 3] OpenCV's camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def lens(self) -> Array:
        """[9] as a vector."""
        return np.array([self.fx, self.fy, self.cx, self.cy, *self.distortion])

    def with_lens(self, lens: Array) -> Intrinsics:
        """The same sensor behind another lens [9]."""
        fx, fy, cx, cy = (float(x) for x in lens[:4])
        return replace(self, fx=fx, fy=fy, cx=cx, cy=cy, distortion=np.array(lens[4:], np.float64))

    @property
    def field_of_view_rad(self) -> tuple[float, float]:
        """Angles across the picture, to the right and down, lens left out."""
        return 2 * float(np.arctan(self.width / 2 / self.fx)), 2 * float(np.arctan(self.height / 2 / self.fy))

    def project(self, points_m: Array) -> Array:
        """Pixels [..., 2] of points [..., 3] in the optical frame; NaN where a point isn't ahead."""
        depth_m = np.where(points_m[..., 2:] > 0, points_m[..., 2:], np.nan)
        return self.pixels(points_m[..., :2] / depth_m)

    def pixels(self, rays: Array) -> Array:
        """Pixels [..., 2] of rays [..., 2], given as x / z and y / z."""
        bent = distort(rays, self.distortion)
        return bent * [self.fx, self.fy] + [self.cx, self.cy]

    def rays(self, pixels: Array) -> Array:
        """Rays [..., 2], as x / z and y / z, that pixels [..., 2] see: the inverse of `pixels`, by Newton's method.

        Raises:
            SpecError: the lens folds over within these pixels, so that they see no one ray.
        """
        bent = (pixels - [self.cx, self.cy]) / [self.fx, self.fy]
        rays = bent.copy()
        for _ in range(INVERSION_STEPS):
            left = bent - distort(rays, self.distortion)
            if np.abs(left).max(initial=0.0) < INVERSION_LEFT / 1e3:
                break
            slope = distortion_slope(rays, self.distortion)
            xx, xy, yy = slope[..., 0, 0], slope[..., 0, 1], slope[..., 1, 1]
            x, y = left[..., 0], left[..., 1]
            rays += np.stack([yy * x - xy * y, xx * y - xy * x], axis=-1) / (xx * yy - xy * xy)[..., None]
        settled = np.abs(bent - distort(rays, self.distortion)).max(initial=0.0) < INVERSION_LEFT
        if not settled or _folded(rays, self.distortion):
            raise SpecError(
                f"lens coefficients {np.round(self.distortion, 4).tolist()} fold over within the picture; calibrate "
                "with views that reach its corners"
            )
        return rays


def distort(rays: Array, distortion: Array) -> Array:
    """What the lens makes of rays [..., 2]."""
    k1, k2, p1, p2, k3 = distortion
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    across = 2 * x * y
    return np.stack(
        [x * radial + p1 * across + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + p2 * across], axis=-1
    )


def _folded(rays: Array, distortion: Array) -> bool:
    """Whether a ray lies beyond where the lens turns back, from where it can't be seen."""
    k1, k2, _, _, k3 = distortion
    r2 = (rays**2).sum(axis=-1)
    slope = distortion_slope(rays, distortion)
    return bool(((1 + r2 * (k1 + r2 * (k2 + r2 * k3)) <= 0) | (np.linalg.det(slope) <= 0)).any())


def distortion_slope(rays: Array, distortion: Array) -> Array:
    """Derivative [..., 2, 2] of `distort` by the ray; symmetric."""
    k1, k2, p1, p2, k3 = distortion
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    by_r2 = k1 + r2 * (2 * k2 + r2 * 3 * k3)
    mixed = 2 * x * y * by_r2 + 2 * p1 * x + 2 * p2 * y
    xx = radial + 2 * x * x * by_r2 + 2 * p1 * y + 6 * p2 * x
    yy = radial + 2 * y * y * by_r2 + 6 * p1 * y + 2 * p2 * x
    return np.stack([np.stack([xx, mixed], axis=-1), np.stack([mixed, yy], axis=-1)], axis=-2)


def project(points_m: Array, lens: Array) -> Array:
    """Pixels [..., 2] of points [..., 3] ahead of a lens [9]."""
    return distort(points_m[..., :2] / points_m[..., 2:], lens[4:]) * lens[:2] + lens[2:4]


def point_slope(points_m: Array, lens: Array) -> Array:
    """Derivative [..., 2, 3] of `project` by the point."""
    rays = points_m[..., :2] / points_m[..., 2:]
    ray_by_point = np.zeros((*points_m.shape[:-1], 2, 3))
    ray_by_point[..., 0, 0] = ray_by_point[..., 1, 1] = 1 / points_m[..., 2]
    ray_by_point[..., 2] = -rays / points_m[..., 2:]
    return distortion_slope(rays, lens[4:]) * lens[:2, None] @ ray_by_point


def lens_slope(points_m: Array, lens: Array) -> Array:
    """Derivative [..., 2, 9] of `project` by the lens."""
    rays = points_m[..., :2] / points_m[..., 2:]
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    bent = distort(rays, lens[4:])
    made = np.zeros((*x.shape, 2, LENS))
    made[..., 0, 0], made[..., 1, 1] = bent[..., 0], bent[..., 1]
    made[..., 0, 2] = made[..., 1, 3] = 1.0
    powers = np.stack([r2, r2 * r2, r2 * r2 * r2], axis=-1)
    for row, along in enumerate((x, y)):
        made[..., row, 4:6] = lens[row] * along[..., None] * powers[..., :2]
        made[..., row, 8] = lens[row] * along * powers[..., 2]
    made[..., 0, 6], made[..., 0, 7] = lens[0] * 2 * x * y, lens[0] * (r2 + 2 * x * x)
    made[..., 1, 6], made[..., 1, 7] = lens[1] * (r2 + 2 * y * y), lens[1] * 2 * x * y
    return made
