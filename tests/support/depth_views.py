"""Depth pictures of boxes, ray by ray, with a stereo camera's noise: for tests of registration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skimo_calibration.objects.viewpoint import Viewpoint
from skimo_core.contract.types import Array
from skimo_core.domain.cell import Box

MM = 1e-3


def depth_of(
    boxes: Sequence[Box], pose: tuple[Array, Array], view: Viewpoint, rng: np.random.Generator, noise: float = 0.0015
) -> Array:
    """[H, W] distances along the optical axis, m, 0 where nothing is.

    Args:
        pose: rotation and position of the boxes' frame in the arm's base frame.
        noise: standard deviation at 1 m; it grows with the square of the distance, and depths are whole millimetres.
    """
    lens = view.intrinsics
    columns, rows = np.meshgrid(np.arange(lens.width), np.arange(lens.height))
    rays = lens.rays(np.stack([columns, rows], axis=-1).astype(float))
    ahead = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1) @ view.rotation.T
    nearest = np.full(rays.shape[:-1], np.inf)
    for box in boxes:
        axes, centre_m = pose[0] @ box.rotation, pose[0] @ box.centre_m + pose[1]
        eye, way = (view.position_m - centre_m) @ axes, ahead @ axes
        way = np.where(np.abs(way) < 1e-9, 1e-9, way)
        near, far = (-box.half_m - eye) / way, (box.half_m - eye) / way
        enters, leaves = np.minimum(near, far).max(axis=-1), np.maximum(near, far).min(axis=-1)
        nearest = np.where((enters < leaves) & (enters > 0) & (enters < nearest), enters, nearest)
    seen = np.isfinite(nearest)
    depth = np.where(seen, nearest, 0.0)
    depth += np.where(seen, rng.normal(0.0, 1.0, depth.shape) * noise * depth**2, 0.0)
    return np.round(depth / MM) * MM
