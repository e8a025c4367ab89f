"""Where furniture stands in the arm's base frame, from depth pictures and a model of its surface.

All scans together are laid onto the surface, far first, then near, then each by itself, which takes from the others
what it doesn't tell: iterated nearest points whose normals agree, distances taken to the plane there (Y. Chen and G.
Medioni, "Object modelling by registration of multiple range images", 1992), faces that few points lie on weighing as
much as others (S. Rusinkiewicz and M. Levoy, "Efficient variants of the ICP algorithm", 2001). `scene.combine` then
makes one pose of them, as it does for tags. What they don't tell together is refused: a bare table top leaves the
furniture free to slide.

A model is points with outward normals in the furniture's frame: of boxes as cell files have them, or a lab's own.
Frames: the arm's base frame, and the furniture's. Units m, rad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.cell import Box

from ..rigid import skew, turn, turn_vector
from .scene import Registration, combine
from .viewpoint import Viewpoint

FAR_REACHES_M, NEAR_REACHES_M = (0.2, 0.1), (0.05, 0.025)
"""How far a point looks for the surface: all scans first, then each of them too."""
STEPS = 30
SETTLED = 1e-5
TUKEY = 4.685
NORMAL_MAD = 1.4826
AGREE = 0.7
"""Least cosine between the normals of a scan and of the surface where they are one."""
NEIGHBOURS = 16
"""Points of a scan that tell its normal."""
LEAST_POINTS = 200
MOST_POINTS = 6000
ARM_M = 0.3
"""So far away a turn of one radian counts like a shift of one metre, where directions are compared."""
WEAKEST = 0.002
"""Share of the points' information that the direction that they tell least of must have."""
NEAR_M, FAR_M = 0.2, 3.0
EDGE_SHARE = 0.03
"""A step in depth between neighbours, of the depth, where a camera mixes what lies before and behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """A model: points [M, 3] and their outward normals [M, 3], in the furniture's frame."""

    points_m: Array
    normals: Array
    tree: KDTree = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Points [N, 3] in the arm's base frame, as one depth picture has them, and the surface's normals [N, 3] there."""

    name: str
    points_m: Array
    normals: Array


def surface(points_m: Array, normals: Array) -> Surface:
    """A model of these points.

    Raises:
        SpecError: not as many normals, or none of length 1.
    """
    if (
        points_m.ndim != 2
        or points_m.shape[1:] != (3,)
        or points_m.shape != normals.shape
        or len(points_m) < LEAST_POINTS
    ):
        raise SpecError(
            f"a surface has at least {LEAST_POINTS} points [M, 3] and as many normals, this one {points_m.shape} and "
            f"{normals.shape}"
        )
    if not np.isfinite(points_m).all() or not np.allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-3):
        raise SpecError("a surface's points must be finite and its normals of length 1")
    return Surface(points_m=points_m, normals=normals, tree=KDTree(points_m))


def surface_of(boxes: Sequence[Box], spacing_m: float = 0.02) -> Surface:
    """The faces of boxes, a point every `spacing_m`."""
    points, normals = [], []
    for box in boxes:
        for axis in range(3):
            u, v = (k for k in range(3) if k != axis)
            steps = [np.linspace(-1, 1, max(2, int(2 * box.half_m[k] / spacing_m) + 1)) * box.half_m[k] for k in (u, v)]
            grid = np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, 2)
            for side in (-1.0, 1.0):
                face = np.zeros((len(grid), 3))
                face[:, axis], face[:, u], face[:, v] = side * box.half_m[axis], grid[:, 0], grid[:, 1]
                points.append(face @ box.rotation.T + box.centre_m)
                normals.append(np.tile(side * box.rotation[:, axis], (len(grid), 1)))
    return surface(np.concatenate(points), np.concatenate(normals))


def scan_of(name: str, view: Viewpoint, depth_m: npt.NDArray[np.floating], stride: int = 2) -> Scan:
    """The points of a depth picture [H, W], distances along the optical axis; what isn't finite or near is left out.

    Raises:
        SpecError: a picture of another size than the camera's, or with too few points.
    """
    lens = view.intrinsics
    if depth_m.shape != (lens.height, lens.width):
        raise SpecError(
            f"depth picture {name} is {depth_m.shape[1]} x {depth_m.shape[0]} px, the camera's are {lens.width} x "
            f"{lens.height}; give the intrinsics of this resolution"
        )
    depth = np.where(np.isfinite(depth_m), depth_m, 0.0).astype(np.float64)
    jumps = np.maximum(np.abs(np.gradient(depth, axis=0)), np.abs(np.gradient(depth, axis=1)))
    good = (depth > NEAR_M) & (depth < FAR_M) & (jumps < EDGE_SHARE * depth)
    rows, columns = np.nonzero(good[::stride, ::stride])
    if len(rows) < LEAST_POINTS:
        raise SpecError(
            f"depth picture {name} has {len(rows)} points between {NEAR_M:g} and {FAR_M:g} m, at least {LEAST_POINTS} "
            "must be; millimetres? Give metres"
        )
    pixels = np.stack([columns, rows], axis=-1).astype(np.float64) * stride
    rays = lens.rays(pixels)
    z = depth[rows * stride, columns * stride][:, None]
    points = np.concatenate([rays * z, z], axis=1)
    points = points[:: -(-len(points) // MOST_POINTS)]
    normals = _normals(points)
    return Scan(name=name, points_m=points @ view.rotation.T + view.position_m, normals=normals @ view.rotation.T)


def _normals(points_m: Array) -> Array:
    """Normals [N, 3] of a cloud seen from its origin, towards it: each of the plane through its neighbours."""
    _, index = KDTree(points_m).query(points_m, k=NEIGHBOURS)
    off = points_m[index] - points_m[index].mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(off.swapaxes(1, 2) @ off)[1][..., 0]
    return normals * np.where((normals * points_m).sum(axis=1, keepdims=True) > 0, -1.0, 1.0)


def register_depth(model: Surface, scans: Sequence[Scan], start: tuple[Array, Array]) -> Registration:
    """Where the furniture stands.

    Args:
        start: rotation [3, 3] and position [3] of its frame, to some centimetres and ten degrees.

    Raises:
        SpecError: the scans lie nowhere near the surface, don't tell where it stands, or don't agree.
    """

    def joint(chosen: Sequence[Scan], near: tuple[Array, Array]) -> tuple[Array, Array]:
        return lay_on(model, chosen, near, NEAR_REACHES_M[-1:], hold=True)

    together = lay_on(model, scans, start, FAR_REACHES_M + NEAR_REACHES_M)
    singles = [lay_on(model, [scan], together, NEAR_REACHES_M, hold=True) for scan in scans]
    return combine(scans, singles, joint, model.points_m.mean(axis=0), name=lambda scan: scan.name, method="depth")


def lay_on(
    model: Surface,
    scans: Sequence[Scan],
    start: tuple[Array, Array],
    reaches_m: Sequence[float],
    *,
    hold: bool = False,
) -> tuple[Array, Array]:
    """The furniture's rotation and position at which scans lie on its surface.

    Args:
        hold: leave it as it starts where the scans don't tell, instead of refusing them.

    Raises:
        SpecError: too few points do, or they don't tell.
    """
    name = ", ".join(scan.name for scan in scans)
    points_m = np.concatenate([scan.points_m for scan in scans])
    normals = np.concatenate([scan.normals for scan in scans])
    (rotation, position_m), share, weakest = start, 1.0, np.zeros(6)
    for reach_m in reaches_m:
        for _ in range(STEPS):
            own, turned = (points_m - position_m) @ rotation, normals @ rotation  # in the furniture's frame
            distance, index = model.tree.query(own, distance_upper_bound=reach_m)
            near = np.isfinite(distance)
            near[near] = (turned[near] * model.normals[index[near]]).sum(axis=1) > AGREE
            if near.sum() < LEAST_POINTS:
                raise SpecError(
                    f"scan {name}: {int(near.sum())} of {len(own)} points lie within {reach_m * 1e3:.0f} mm of the "
                    f"furniture's surface, at least {LEAST_POINTS} must; give a better start, or look at the furniture"
                )
            own, normal = own[near], model.normals[index[near]]
            off = ((own - model.points_m[index[near]]) * normal).sum(axis=1)
            slope = np.concatenate([np.cross(own, normal), normal], axis=1)
            weight = _tukey(off, reach_m) * _balance(normal)
            information, right = slope.T @ (slope * weight[:, None]), slope.T @ (weight * off)
            share, weakest, known = _weakest(information, weight, own.mean(axis=0))
            if hold:
                from_start = np.concatenate([turn_vector(start[0].T @ rotation), start[0].T @ (position_m - start[1])])
                information, right = information + known, right - known @ from_start
            step = np.linalg.solve(information + 1e-9 * np.eye(6), right)
            position_m, rotation = position_m + rotation @ step[3:], rotation @ turn(step[:3])
            if np.abs(step).max() < SETTLED:
                break
    if not hold and share < WEAKEST:
        _refuse_free(share, weakest, name)
    return rotation, position_m


def _balance(normals: Array) -> Array:
    """Weights [N] by which every way that a surface faces counts alike, many points or few."""
    _, place, count = np.unique(np.round(2 * normals), axis=0, return_inverse=True, return_counts=True)
    return 1 / np.maximum(count, LEAST_POINTS // 4)[place.ravel()]


def _tukey(off: Array, reach_m: float) -> Array:
    """Weights [N] of distances, none for what lies far beyond most."""
    bound = max(TUKEY * NORMAL_MAD * float(np.median(np.abs(off))), reach_m / 2)
    return np.where(np.abs(off) < bound, (1 - (off / bound) ** 2) ** 2, 0.0)


def _weakest(information: Array, weight: Array, middle_m: Array) -> tuple[float, Array, Array]:
    """What points tell least of, turns counting about their middle, an arm out.

    Returns:
        The share of what they might tell, the direction [6], and the information [6, 6] of a start that outweighs what
        they tell less of than that.
    """
    to_middle = np.eye(6)
    to_middle[3:, :3] = skew(middle_m)
    back = to_middle @ np.diag([1 / ARM_M] * 3 + [1.0] * 3)
    values, directions = np.linalg.eigh(back.T @ information @ back)
    total = max(float(weight.sum()), 1e-9)
    there = np.linalg.inv(back)
    return float(values[0]) / total, directions[:, 0], WEAKEST * total * there.T @ there


def _refuse_free(share: float, direction: Array, name: str) -> None:
    """Raises SpecError for a direction that is hardly told."""
    about, along = direction[:3], direction[3:]
    if np.linalg.norm(along) > np.linalg.norm(about):
        what = f"a shift along {np.round(along, 2).tolist()}"
    else:
        what = f"a turn about {np.round(about, 2).tolist()}"
    raise SpecError(
        f"scan {name} doesn't tell {what} of the furniture's axes: its points tell {share:.2g} of what they might, "
        f"bound {WEAKEST:g}; let the camera see edges, or sides that face other ways"
    )
