"""A camera that stands still in the cell: what its pixels see, from where, and how late its pictures are stamped.

Frames: the arm's base frame, and the camera's optical frame in it (x right, y down, z ahead). Units m, px, s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import Camera, Rig

from ..cameras.camera import Intrinsics


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewpoint:
    """A camera in its place.

    Attributes:
        name: in the rig.
        rotation, position_m: [3, 3] and [3], the optical frame's in the arm's base frame, or whatever is asked for.
        latency_s: how much later a picture is stamped than it was exposed.
    """

    name: str
    intrinsics: Intrinsics
    rotation: Array
    position_m: Array
    latency_s: float = 0.0


def lens_of(camera: Camera, name: str, rig: str) -> Intrinsics:
    """A camera's intrinsics; raises SpecError where nobody measured them."""
    lens = camera.lens
    if lens is None:
        raise SpecError(f"rig {rig}: camera {name!r} has no lens; calibrate it (skimo calibrate camera)")
    return Intrinsics.of(lens)


def check_cameras(rig: Rig, names: Iterable[str]) -> None:
    """Refuse cameras that can't look on.

    Raises:
        SpecError: the rig has no such camera, it moves with the hand, or its pose was not measured.
    """
    for name in names:
        if name not in rig.cameras:
            known = ", ".join(rig.cameras) or "none"
            raise SpecError(
                f"rig {rig.name or '(none)'} has no camera {name!r}; there are {known}; give the cell's rig"
            )
        camera = rig.cameras[name]
        if camera.mount != "base":
            raise SpecError(
                f"rig {rig.name}: camera {name!r} moves with the hand (mount: {camera.mount}); take one that stands "
                "still (mount: base)"
            )
        if camera.pose is None:
            raise SpecError(f"rig {rig.name}: camera {name!r} has no pose; find it (skimo calibrate hand-eye)")


def viewpoints(rig: Rig, names: Iterable[str], lenses: Mapping[str, Intrinsics] | None = None) -> dict[str, Viewpoint]:
    """The cameras of a rig by these names.

    Args:
        lenses: of those whose lens the rig doesn't have.

    Raises:
        SpecError: one can't look on (`check_cameras`), or nobody knows its lens.
    """
    names = tuple(names)
    check_cameras(rig, names)
    found = {}
    for name in names:
        camera = rig.cameras[name]
        assert camera.pose is not None
        found[name] = Viewpoint(
            name=name,
            intrinsics=(lenses or {}).get(name) or lens_of(camera, name, rig.name),
            rotation=camera.pose.rotation,
            position_m=camera.pose.position_m,
            latency_s=0.0 if camera.latency is None else camera.latency.latency_s,
        )
    return found
