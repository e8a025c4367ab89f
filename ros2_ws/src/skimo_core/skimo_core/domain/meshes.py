"""What an arm looks like: meshes of its links that another Python package brings; none are kept here.

    meshes: {package: some_package, folder: assets/meshes/visual}      a robot file's; files are LINK.stl

A mesh is in its link's Denavit-Hartenberg frame (joint i's frame for link i), the hand's and the finger's in their own,
as Franka's descriptions have them (franka_description). Where the package is not installed, the arm is drawn by its
capsules. Nothing is imported from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contract.errors import SpecError
from ..contract.types import Array
from .tables import Table

HEADER_BYTES = 84
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
FINGER = "finger"
"""The link whose mesh both fingers are drawn with, the second turned about the hand's z."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """Triangles: corners [V, 3], m, and their indices [F, 3], counter-clockwise from outside."""

    vertices_m: Array
    faces: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meshes:
    """Where they lie.

    Attributes:
        package: that brings them.
        folder: in it.
    """

    package: str
    folder: str

    def path(self, link: str) -> Path | None:
        """The mesh of a link (`link0`, ..., `hand`, `finger`); None where it is not installed."""
        found = find_spec(self.package)
        if found is None or found.origin is None:
            return None
        path = Path(found.origin).parent / self.folder / f"{link}.stl"
        return path if path.is_file() else None


def read_meshes(table: Table) -> Meshes:
    """The table `meshes` of a robot file.

    Raises:
        SpecError: no top-level package, or a folder outside of it.
    """
    meshes = Meshes(package=table.text("package"), folder=table.text("folder"))
    table.refuse_others()
    if not meshes.package.isidentifier():
        raise SpecError(f"{table.where}: package is {meshes.package[:80]!r}, must be a Python package's name")
    if Path(meshes.folder).is_absolute() or ".." in Path(meshes.folder).parts:
        raise SpecError(f"{table.where}: folder is {meshes.folder[:80]!r}, must lie inside the package")
    return meshes


def read_stl(path: Path) -> Surface:
    """The triangles of a binary STL file, corners that coincide made one.

    Raises:
        SpecError: it can't be read, or is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"mesh {path.name} can't be read: {error}") from error
    count = int.from_bytes(data[80:84], "little") if len(data) >= HEADER_BYTES else -1
    if len(data) != HEADER_BYTES + count * _TRIANGLE.itemsize:
        raise SpecError(f"mesh {path.name}: {len(data)} bytes are no binary STL")
    corners = np.frombuffer(data, _TRIANGLE, offset=HEADER_BYTES)["corners"].reshape(-1, 3)
    vertices, faces = np.unique(corners, axis=0, return_inverse=True)
    return Surface(vertices_m=vertices, faces=faces.reshape(-1, 3).astype(np.uint32))


def capsule(start_m: Array, end_m: Array, radius_m: float, *, rings: int = 6, sides: int = 16) -> Surface:
    """The surface of a segment swept by a ball.

    Args:
        rings: circles of each half ball.
        sides: corners of each circle.
    """
    way = end_m - start_m
    length = float(np.linalg.norm(way))
    ahead = way / length if length > 0 else np.array([0.0, 0.0, 1.0])
    side = np.cross(ahead, np.eye(3)[int(np.argmin(np.abs(ahead)))])
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(ahead, side), ahead])
    tilt = np.concatenate([np.linspace(-np.pi / 2, 0, rings), np.linspace(0, np.pi / 2, rings)])
    turn = np.arange(sides) * 2 * np.pi / sides
    ball = np.stack(
        [
            np.cos(tilt)[:, None] * np.cos(turn),
            np.cos(tilt)[:, None] * np.sin(turn),
            np.broadcast_to(np.sin(tilt)[:, None], (2 * rings, sides)),
        ],
        axis=-1,
    )
    centres_m = np.where((np.arange(2 * rings) < rings)[:, None, None], start_m, end_m)
    vertices_m = np.asarray(centres_m + radius_m * (ball @ axes), np.float64).reshape(-1, 3)
    ring, at = np.divmod(np.arange((2 * rings - 1) * sides), sides)
    beside = (at + 1) % sides
    a, b, c, d = (r * sides + s for r, s in ((ring, at), (ring, beside), (ring + 1, at), (ring + 1, beside)))
    faces = np.concatenate([np.stack([a, b, d], -1), np.stack([a, d, c], -1)])
    return Surface(vertices_m=vertices_m, faces=faces.astype(np.uint32))


def joined(surfaces: Sequence[Surface]) -> Surface:
    """Several as one."""
    starts = np.cumsum([0, *(len(surface.vertices_m) for surface in surfaces)])
    return Surface(
        vertices_m=np.concatenate([surface.vertices_m for surface in surfaces]),
        faces=np.concatenate([surface.faces + np.uint32(start) for surface, start in zip(surfaces, starts)]),
    )


def coarser(surface: Surface, cell_m: float) -> Surface:
    """The same with fewer triangles: corners within a cell of a grid become their mean.

    Vertex clustering (Rossignac and Borrel 1993).
    """
    cells, at = np.unique(np.floor(surface.vertices_m / cell_m).astype(np.int64), axis=0, return_inverse=True)
    at = at.ravel()
    sums = np.stack([np.bincount(at, weights=axis, minlength=len(cells)) for axis in surface.vertices_m.T], axis=1)
    faces = at[surface.faces]
    solid = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    kept = np.unique(faces[solid], axis=0)
    return Surface(vertices_m=sums / np.bincount(at, minlength=len(cells))[:, None], faces=kept.astype(np.uint32))
