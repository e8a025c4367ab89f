"""Where furniture stands in the arm's base frame, from tags whose places on it are known: several pictures, one pose.

    places = load_places("kitchen")                 places/*.yaml: which tag sits where on the furniture
    found = register(places, [shot_of(view, picture, places) for ...])
    rig.furniture["kitchen"] = placement(found, made)

Each shot gives a pose by itself; a shot that lies off from the others is refused and named; all corners of the rest are
then fitted at once. What is told of the quality comes from the shots, not from the fit: their scatter, the spread of
fits without a part of them (jackknife; B. Efron, 1982), and how far fits of two halves lie apart. Shots from one camera
in one place share that camera's own error: let the hand carry it about, or take several cameras.

A places file:
    name: table
    shift_px: 2.0                 how far calibration of cameras and tags' places leave a tag off (standard deviation)
    shape_px: 0.15                how far print and glue leave each of its corners off, beside the picture's noise
    tags: [{id: 40, size_m: 0.1, position_m: [0.1, 0.2, 0.0], quat_wxyz: [1, 0, 0, 0]}, ...]     in its own frame

Frames: the arm's base frame, and the furniture's. A tag's frame as in `tags`. Units m, rad, px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain import library
from skimo_core.domain.rig import Made, Placement
from skimo_core.domain.tables import Table, read_yaml

from ..report import Criterion, Page
from ..rigid import mean_rotation
from .tag_fit import Doubt, Evidence, Seen, fit_body, read_doubt, refine_body, seen_by
from .tags import Mount, find_tags, read_mounts, turned_rad
from .viewpoint import Viewpoint

KIND = "places"
LEAST = 3
"""Shots; fewer have no scatter."""
FOLDS = 5
OUTLIER = 4.0
"""Standard deviations, by the median of the distances, beyond which a shot is refused."""
FLOOR_M, FLOOR_RAD = 0.001, 0.002
"""Shots that lie nearer than this to the median are no outliers, however well the rest agree."""
NORMAL_MAD = 1.4826
TOLERANCE_M, TOLERANCE_RAD = 0.002, np.deg2rad(0.3)
Input = TypeVar("Input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """A places file: tags by their ids, in the furniture's frame."""

    name: str
    doubt: Doubt
    tags: tuple[Mount, ...]

    def mounts(self, seen: Sequence[Seen]) -> list[Mount]:
        """Of what is seen."""
        by_id = {mount.tag_id: mount for mount in self.tags}
        return [by_id[one.sighting.tag_id] for one in seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture's tags; what it is called, and from where it was taken stands in them."""

    name: str
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Where the furniture stands. How far apart poses are is told at its middle, where the arm works, in m and rad.

    Attributes:
        rotation, position_m: of its frame in the arm's base frame.
        middle_m: [3] that point in the furniture's frame.
        sigma_m, sigma_rad: standard deviation of the middle (its length) and the orientation, from fits without a part.
        origin_sigma_m: likewise of `position_m`, which may lie far off.
        scatter_m, scatter_rad: root mean square distance of single shots from the result.
        held_out_m, held_out_rad: half the distance between the fits of two halves, neither of which saw the other:
            about the error of both together.
        used: names of the shots that it rests on.
        refused: names of those that it doesn't, with reasons.
        poses: of the shots that were used, rotation and position.
        method: in words.
    """

    rotation: Array
    position_m: Array
    middle_m: Array
    sigma_m: float
    sigma_rad: float
    origin_sigma_m: float
    scatter_m: float
    scatter_rad: float
    held_out_m: float
    held_out_rad: float
    used: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    poses: tuple[tuple[Array, Array], ...]
    method: str


def load_places(name_or_path: str | Path) -> Places:
    """Load a places file by its name or path.

    Raises:
        SpecError: no such file, or it is malformed, or a tag stands twice in it.
    """
    source = library.find(KIND, name_or_path, "skimo_calibration")
    root = Table(read_yaml(source.text, source.where), source.where)
    places = Places(name=root.text("name"), doubt=read_doubt(root), tags=read_mounts(root))
    root.refuse_others()
    ids = [mount.tag_id for mount in places.tags]
    if twice := [tag_id for k, tag_id in enumerate(ids) if tag_id in ids[:k]]:
        raise SpecError(f"{source.where}: tag {twice[0]} stands twice; one id sits in one place")
    return places


def shot_of(name: str, view: Viewpoint, picture: npt.NDArray[np.uint8], places: Places) -> Shot:
    """The furniture's tags in a picture (grey or RGB); one that is seen twice is left out.

    Raises:
        SpecError: no picture, or not of this camera's size.
    """
    ids = [mount.tag_id for mount in places.tags]
    found = [tag for tag in find_tags(picture, view.intrinsics) if tag.tag_id in ids]
    once = [tag for tag in found if sum(other.tag_id == tag.tag_id for other in found) == 1]
    return Shot(name=name, seen=seen_by(view, once))


def register(places: Places, shots: Sequence[Shot]) -> Registration:
    """Where the furniture stands, from shots of its tags.

    Raises:
        SpecError: too few shots show tags, or agree.
    """
    seen = [shot for shot in shots if shot.seen]
    blind = [(shot.name, "shows none of the furniture's tags") for shot in shots if not shot.seen]
    singles = [_single(places, shot) for shot in seen]

    def joint(chosen: Sequence[Shot], start: tuple[Array, Array]) -> tuple[Array, Array]:
        every = [one for shot in chosen for one in shot.seen]
        place = refine_body(places.mounts(every), Evidence(every, places.doubt), *start)
        return place.rotation, place.position_m

    middle_m = np.mean([mount.position_m for mount in places.tags], axis=0)
    method = f"tags {', '.join(str(mount.tag_id) for mount in places.tags)}"
    return combine(seen, singles, joint, middle_m, name=lambda shot: shot.name, aside=blind, method=method)


def _single(places: Places, shot: Shot) -> tuple[Array, Array]:
    _, place = fit_body(places.mounts(shot.seen), Evidence(shot.seen, places.doubt))
    return place.rotation, place.position_m


# --- from single poses to one: also for depth (scene_depth) -----------------------------------------------------------


def combine(
    inputs: Sequence[Input],
    singles: Sequence[tuple[Array, Array]],
    joint: Callable[[Sequence[Input], tuple[Array, Array]], tuple[Array, Array]],
    middle_m: Array,
    *,
    name: Callable[[Input], str],
    aside: Sequence[tuple[str, str]] = (),
    method: str = "",
) -> Registration:
    """One pose of many inputs, its outliers refused.

    Args:
        inputs: N shots, or scans.
        singles: N rotations [3, 3] and positions [3], each of one input alone.
        joint: the pose of some of them together, near a first one.
        middle_m: [3] of the furniture, in its frame.
        name: of an input.
        aside: inputs that gave no pose, and why.
        method: in words.

    Raises:
        SpecError: fewer than LEAST are left.
    """
    near, why = _consensus(singles, middle_m)
    kept = [one for one, reason in zip(inputs, why) if not reason]
    refused = [*aside, *((name(one), reason) for one, reason in zip(inputs, why) if reason)]
    if len(kept) < LEAST:
        told = "; ".join(f"{shot}: {reason}" for shot, reason in refused) or "there are no more"
        raise SpecError(f"{len(kept)} shots can be used, at least {LEAST} must be ({told}); take more")
    poses = [pose for pose, reason in zip(singles, why) if not reason]
    rotation, position_m = result = joint(kept, near)
    parts = [list(range(k, len(kept), FOLDS)) for k in range(min(FOLDS, len(kept)))]
    without = [joint([kept[k] for k in range(len(kept)) if k not in part], near) for part in parts]
    one_half, other_half = (joint(kept[k::2], near) for k in range(2))
    scatter = _rms([_apart(pose, result, middle_m) for pose in poses])
    held_out = np.array(_apart(one_half, other_half, middle_m)) / 2
    jackknife = np.sqrt(len(parts) - 1)
    sigma_m, sigma_rad = jackknife * _rms([_apart(one, result, middle_m) for one in without])
    return Registration(
        rotation=rotation,
        position_m=position_m,
        middle_m=middle_m,
        sigma_m=float(sigma_m),
        sigma_rad=float(sigma_rad),
        origin_sigma_m=float(jackknife * _rms([_apart(one, result, np.zeros(3)) for one in without])[0]),
        scatter_m=float(scatter[0]),
        scatter_rad=float(scatter[1]),
        held_out_m=float(held_out[0]),
        held_out_rad=float(held_out[1]),
        used=tuple(name(one) for one in kept),
        refused=tuple(refused),
        poses=tuple(poses),
        method=method,
    )


def _consensus(singles: Sequence[tuple[Array, Array]], middle_m: Array) -> tuple[tuple[Array, Array], list[str]]:
    """The middle of poses, and for each why it is refused; empty where it isn't."""
    if not singles:
        return (np.eye(3), np.zeros(3)), []
    distances = np.array([[_apart(one, other, middle_m) for other in singles] for one in singles])
    scaled = distances / [FLOOR_M, FLOOR_RAD]
    off = distances[int(np.argmin(np.median(scaled.sum(axis=2), axis=1)))]
    bounds = np.maximum(OUTLIER * NORMAL_MAD * np.median(off, axis=0), [FLOOR_M, FLOOR_RAD])
    why = [
        f"lies {m * 1e3:.1f} mm and {np.rad2deg(rad):.2f} deg off the others" if (pair > bounds).any() else ""
        for pair, (m, rad) in zip(off, off)
    ]
    kept = [pose for pose, reason in zip(singles, why) if not reason]
    rotation = mean_rotation(np.stack([turned for turned, _ in kept]))
    return (rotation, np.median(np.stack([position for _, position in kept]), axis=0)), why


def _apart(one: tuple[Array, Array], other: tuple[Array, Array], middle_m: Array) -> tuple[float, float]:
    """m at the furniture's middle, rad."""
    moved_m = one[0] @ middle_m + one[1] - other[0] @ middle_m - other[1]
    return float(np.linalg.norm(moved_m)), turned_rad(one[0], other[0])


def _rms(pairs: Sequence[tuple[float, float]]) -> Array:
    """[2] m, rad."""
    return np.sqrt((np.array(pairs) ** 2).mean(axis=0))


# --- what is handed on ------------------------------------------------------------------------------------------------


def placement(found: Registration, made: Made) -> Placement:
    """As a rig file has it: deviations of each coordinate."""
    return Placement(
        position_m=found.position_m,
        rotation=found.rotation,
        sigma_m=found.origin_sigma_m / np.sqrt(3),
        sigma_rad=found.sigma_rad / np.sqrt(3),
        made=made,
    )


def page_of(furniture: str, found: Registration) -> Page:
    """The registration's page; judged are its hold-out and its spread."""
    page = Page("Scene registration", f"{furniture}, {len(found.used)} shots; {found.method}")
    for name, value_m in (("hold-out", found.held_out_m), ("standard deviation", found.sigma_m)):
        page.judge(Criterion(name=f"{name}, position", value=value_m * 1e3, bound=TOLERANCE_M * 1e3, unit="mm"))
    for name, value_rad in (("hold-out", found.held_out_rad), ("standard deviation", found.sigma_rad)):
        value, bound = float(np.rad2deg(value_rad)), float(np.rad2deg(TOLERANCE_RAD))
        page.judge(Criterion(name=f"{name}, orientation", value=value, bound=bound, unit="deg"))
    at_m = found.rotation @ found.middle_m + found.position_m
    rows = [
        (
            shot,
            *(1e3 * (rotation @ found.middle_m + position_m - at_m)).tolist(),
            float(np.rad2deg(turned_rad(rotation, found.rotation))),
        )
        for shot, (rotation, position_m) in zip(found.used, found.poses)
    ]
    page.heading("Single shots")
    page.table(
        ("shot", "x / mm", "y / mm", "z / mm", "turn / deg"), rows, "How far each shot alone lies off the result."
    )
    if found.refused:
        page.heading("Refused")
        page.table(("shot", "why"), found.refused)
    return page
