"""Corners of square markers to a few hundredths of a pixel: straight lines through their four edges, intersected.

A corner's own neighbourhood holds little of it; its two edges hold a hundred pixels. Across each edge the grey levels
are sampled, the squared gradient's centre is taken as the place of the edge, and a line is fitted robustly through all
of them, on straight rays where the lens is known, because a lens bends lines. Idea: E. Olson, "AprilTag: A robust and
flexible visual fiducial system", ICRA 2011, section III. Units px, the first pixel's centre at (0, 0).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from skimo_core.contract.types import Array

from ..cameras.camera import Intrinsics

PASSES = 2
SAMPLES = 24
"""Places along an edge."""
STEPS = 17
"""Grey levels across it."""
ENDS = 0.08
"""Share of an edge at each end that is left out: the neighbouring edge blurs it."""
CELLS = 8
LEAST_PX, MOST_PX = 1.5, 4.0
"""Bounds of how far across an edge is looked, one of the marker's cells in between."""
REWEIGHTINGS = 2
LEAST_SPREAD_PX = 1e-3
INDEPENDENT_PX = 3.0
"""Places nearer to one another than this share their noise."""
FLOOR_PX = 0.04
"""What blur, sampling and a printer leave where nothing else does."""
SMALL_PX3 = 0.8
"""By so much, divided by the square of a cell's width, do cells that are hardly resolved draw an edge away."""
LOST_PX = 1.0
"""Standard deviation of corners that could not be refined."""


def refine(grey: npt.NDArray[np.uint8], corners_px: Array, intrinsics: Intrinsics | None = None) -> tuple[Array, Array]:
    """Refine dark squares' corners on light ground.

    Args:
        grey: [H, W].
        corners_px: [T, 4, 2] in order around each, to about a pixel.
        intrinsics: the lens; None: straight.

    Returns:
        Corners [T, 4, 2], and the standard deviation [T] of one of their coordinates, px.
    """
    corners, sigma_px = corners_px.astype(np.float64), np.full(len(corners_px), LOST_PX)
    for last in [False] * (PASSES - 1) + [True]:
        lens = intrinsics if last else None
        places, weights, reach = _edges(grey, corners)
        found, spread = _intersect(places, weights, lens)
        moved = np.abs(found - corners).max(axis=(1, 2))
        good = np.isfinite(moved) & (moved < 2 * reach.max(axis=1))
        sides = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
        independent = np.maximum(sides / INDEPENDENT_PX, 3.0)
        cell_px = sides.min(axis=1) / CELLS
        at_ends = np.sqrt((4 * spread**2 / independent).mean(axis=1) + FLOOR_PX**2 + (SMALL_PX3 / cell_px**2) ** 2)
        corners = np.where(good[:, None, None], found, corners)
        sigma_px = np.where(good, at_ends, LOST_PX)
    return corners, sigma_px


def _edges(grey: npt.NDArray[np.uint8], corners: Array) -> tuple[Array, Array, Array]:
    """Where each edge lies: places [T, 4, S, 2], their weights [T, 4, S], and how far was looked [T, 4]."""
    ends = np.roll(corners, -1, axis=1)
    along = ends - corners
    unit = along / np.linalg.norm(along, axis=2, keepdims=True)
    outward = np.stack([unit[..., 1], -unit[..., 0]], axis=-1)
    middles = (corners + ends) / 2
    depth = ((middles - np.roll(middles, -2, axis=1)) * outward).sum(axis=2, keepdims=True)
    outward *= np.sign(depth)
    reach = np.clip(np.abs(depth[..., 0]) / CELLS, LEAST_PX, MOST_PX)
    share = np.linspace(ENDS, 1 - ENDS, SAMPLES)
    on_edge = corners[:, :, None] + share[:, None] * along[:, :, None]
    across = np.linspace(-1.0, 1.0, STEPS) * reach[..., None]
    at = on_edge[..., None, :] + across[:, :, None, :, None] * outward[:, :, None, None]
    levels = _sample(grey, at)
    rise = np.clip(np.diff(levels, axis=-1), 0.0, None) ** 2
    between = (across[..., 1:] + across[..., :-1])[:, :, None] / 2
    offset = (rise * between).sum(axis=-1) / np.maximum(rise.sum(axis=-1), 1e-6)
    contrast = np.clip(levels[..., -3:].mean(axis=-1) - levels[..., :3].mean(axis=-1), 1e-3, None)
    return on_edge + offset[..., None] * outward[:, :, None], contrast**2, reach


def _sample(grey: npt.NDArray[np.uint8], at: Array) -> Array:
    """Grey levels [...] at places [..., 2], bilinear; beyond the picture its border's."""
    flat = at.reshape(-1, STEPS, 2).astype(np.float32)
    levels = cv2.remap(
        grey.astype(np.float32), flat[..., 0], flat[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return levels.reshape(at.shape[:-1]).astype(np.float64)


def _intersect(places: Array, weights: Array, lens: Intrinsics | None) -> tuple[Array, Array]:
    """Corners [T, 4, 2] where the edges' lines meet, and the spread of places about each line [T, 4], px."""
    focal = 1.0 if lens is None else (lens.fx + lens.fy) / 2
    straight = places if lens is None else lens.rays(places) * focal
    normal, distance, spread = _lines(straight, weights)
    before_n, before_d = np.roll(normal, 1, axis=1), np.roll(distance, 1, axis=1)
    determinant = before_n[..., 0] * normal[..., 1] - before_n[..., 1] * normal[..., 0]
    determinant = np.where(np.abs(determinant) > 1e-6, determinant, np.nan)
    x = (before_d * normal[..., 1] - distance * before_n[..., 1]) / determinant
    y = (distance * before_n[..., 0] - before_d * normal[..., 0]) / determinant
    corners = np.stack([x, y], axis=-1)
    return corners if lens is None else lens.pixels(corners / focal), spread


def _lines(points: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Robust lines n . p = d through points [..., S, 2]: normals [..., 2], distances [...], spreads [...]."""
    normal, distance, spread = _line(points, weights)
    for _ in range(REWEIGHTINGS):
        beside = (points * normal[..., None, :]).sum(axis=-1) - distance[..., None]
        normal, distance, spread = _line(points, weights / (1 + (beside / spread[..., None] / 2) ** 2))
    return normal, distance, spread


def _line(points: Array, weights: Array) -> tuple[Array, Array, Array]:
    """The line of the least weighted squares, and 1.5 times the median of the distances from it."""
    middle = (points * weights[..., None]).sum(axis=-2) / weights.sum(axis=-1)[..., None]
    off = points - middle[..., None, :]
    scatter = np.einsum("...s,...si,...sj->...ij", weights, off, off)
    normal = np.linalg.eigh(scatter)[1][..., :, 0]
    beside = np.einsum("...si,...i->...s", off, normal)
    return normal, (normal * middle).sum(axis=-1), 1.5 * np.median(np.abs(beside), axis=-1) + LEAST_SPREAD_PX
