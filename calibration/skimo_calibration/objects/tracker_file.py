"""A tracker file: which tags sit where on what moves, and which channel of the domain comes of it. `trackers/*.yaml`.

    name: workbench
    domain: workbench             whose object channels these are: a domain's name or file
    cameras: [left, right]        of the rig; they stand still
    shift_px: 2.0                 how far calibration of cameras and tags' places leave a tag off (standard deviation)
    shape_px: 0.15                how far print and glue leave each of its corners off, beside the picture's noise
    together_s: 0.005             pictures exposed within this are used as one
    carry_s: 0.1                  a value that another camera saw so long before still goes out
    frame: {position_m: [0, 0, -0.9], quat_wxyz: [1, 0, 0, 0]}     pose, in the arm's base frame, of the frame that all
                                  places here are told in, and the domain's poses; left out: the arm's base frame
    furniture: table              whose place in the rig, if it was measured, is that frame's instead; may be left out
    parts:
      - name: door                a hinge turns about an axis, a slide moves along it
        kind: hinge
        channel: door
        point_m: [0.5, 0.4, 0.2]                  (a hinge's)
        axis: [0, 0, 1]
        range: [-1.6, 0.0]        rad (slide: m)
        max_speed: 3.0            per second; what moves faster is a mistake until it stays there
        max_sigma: 0.05           what is known no better counts as hidden
        tags:                     where they are while the channel is 0
          - {id: 3, size_m: 0.06, position_m: [0.49, 0.2, 0.3], quat_wxyz: [1, 0, 0, 0]}
      - name: kettle              a pose: of a body that goes where it wants
        kind: pose
        channels: [kettle.x, kettle.y, kettle.z, kettle.qw, kettle.qx, kettle.qy, kettle.qz]
        up: [0, 0, 1]             where its z points, if nothing else tells two answers apart; may be left out
        max_speed: [1.5, 10.0]    m/s, rad/s
        max_sigma: [0.02, 0.2]    m, rad
        tags: [...]               in the body's frame
      - {name: lamp, kind: coupled, channel: lamp, to: switch, factor: 0.0714, offset: 0.0}
      - {name: shelf, kind: constant, channel: shelf, value: 0.0}

A tag's frame has x to the reader's right, y up, z out of the sheet; its size is the black square's side. One found by
its name ships with skimo_calibration or comes with a package (entry point group skimo.trackers), else give its path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain import library
from skimo_core.domain.domain import Domain
from skimo_core.domain.rig import Rig
from skimo_core.domain.tables import Table, read_yaml

from ..rigid import skew
from .tag_fit import Doubt, read_doubt
from .tags import Mount, read_mounts

KIND = "trackers"
POSE = ("x", "y", "z", "qw", "qx", "qy", "qz")
UNITS = {"hinge": "rad", "slide": "m"}
MARGIN = 0.02
"""Beyond a joint's range, of the range: what a door's stop gives way, and errors of zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """A part with one channel: a "hinge" about, or a "slide" along, an axis [3] through a point [3]; m, rad."""

    name: str
    kind: str
    channel: str
    point_m: Array
    axis: Array
    low: float
    high: float
    max_speed: float
    max_sigma: float
    tags: tuple[Mount, ...]

    def moved(self, points_m: Array, values: Array) -> Array:
        """Points [..., P, 3] at value 0 as they are at `values` [...], which broadcast (E. Rodrigues, 1840)."""
        value = np.asarray(values)[..., None, None]
        if self.kind == "slide":
            return points_m + value * self.axis
        arm = points_m - self.point_m
        along = (arm @ self.axis)[..., None] * self.axis
        across = arm @ skew(self.axis).T
        return self.point_m + along + np.cos(value) * (arm - along) + np.sin(value) * across


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A part with seven channels, x y z qw qx qy qz.

    Attributes:
        up: [3] where its z points, if nothing else tells; None: nothing does.
        max_speed, max_sigma: of position (m/s, m) and orientation (rad/s, rad).
        tags: in the body's frame.
    """

    name: str
    channels: tuple[str, ...]
    up: Array | None
    max_speed: tuple[float, float]
    max_sigma: tuple[float, float]
    tags: tuple[Mount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupled:
    """A channel that follows another: offset + factor * it."""

    name: str
    channel: str
    to: str
    factor: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A channel that nothing changes."""

    name: str
    channel: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerSpec:
    """A tracker file's contents; see the module.

    Attributes:
        frame_rotation, frame_position_m: of the file's frame, in the arm's base frame.
        furniture: whose place in a rig is that frame's instead; empty: none's.
    """

    name: str
    domain: str
    cameras: tuple[str, ...]
    doubt: Doubt
    together_s: float
    carry_s: float
    frame_rotation: Array
    frame_position_m: Array
    furniture: str
    joints: tuple[Joint, ...]
    bodies: tuple[Body, ...]
    coupled: tuple[Coupled, ...]
    constants: tuple[Constant, ...]

    @property
    def moving(self) -> tuple[Joint | Body, ...]:
        """Parts that bear tags."""
        return (*self.joints, *self.bodies)

    @property
    def tag_ids(self) -> frozenset[int]:
        return frozenset(tag.tag_id for part in self.moving for tag in part.tags)

    @property
    def units(self) -> dict[str, str]:
        """What a channel's unit has to be, as far as the part's kind says."""
        joints = {joint.channel: UNITS[joint.kind] for joint in self.joints}
        bodies = {name: unit for body in self.bodies for name, unit in zip(body.channels, "mmm1111")}
        return joints | bodies

    @property
    def channels(self) -> tuple[str, ...]:
        """All that it tells, in the file's order by kinds."""
        rest = (part.channel for part in (*self.coupled, *self.constants))
        return (*(joint.channel for joint in self.joints), *(c for body in self.bodies for c in body.channels), *rest)

    def frame_in(self, rig: Rig) -> tuple[Array, Array]:
        """Rotation [3, 3] and position [3] of the file's frame in the arm's base frame, as rig or file have it."""
        placed = rig.furniture.get(self.furniture)
        if placed is None:
            return self.frame_rotation, self.frame_position_m
        return placed.rotation, placed.position_m

    def check_domain(self, domain: Domain) -> None:
        """Refuse a domain whose object channels these are not.

        Raises:
            SpecError: a channel is missing, is none of the domain's, or has another unit.
        """
        wanted = domain.observation.objects
        if missing := [name for name in wanted if name not in self.channels]:
            raise SpecError(
                f"tracker {self.name}: channel {missing[0]!r} of domain {domain.name} ({len(missing)} in all) has no "
                "part; add one, or say that it is constant"
            )
        if unknown := [name for name in self.channels if name not in wanted]:
            raise SpecError(
                f"tracker {self.name}: domain {domain.name} has no object channel {unknown[0]!r}; there are "
                f"{', '.join(wanted)}"
            )
        units = dict(zip(domain.observation.names, domain.observation.units))
        for name, unit in self.units.items():
            if units[name] != unit:
                raise SpecError(
                    f"tracker {self.name}: channel {name!r} is told in {unit}, domain {domain.name} has it in "
                    f"{units[name]}"
                )


def load_tracker(name_or_path: str | Path) -> TrackerSpec:
    """Load a tracker file by its name or path.

    Raises:
        SpecError: no such file, or it is malformed.
    """
    return parse_tracker(library.find(KIND, name_or_path, "skimo_calibration"))


def parse_tracker(source: library.Source) -> TrackerSpec:
    """Read the words of a tracker file.

    Raises:
        SpecError: not YAML; a key missing, unknown or of a wrong type; a tag, channel or part named twice.
    """
    root = Table(read_yaml(source.text, source.where), source.where)
    rows = root.tables("parts")
    frame = root.table("frame") if "frame" in root else None
    kinds = [row.choice("kind", (*UNITS, "pose", "coupled", "constant")) for row in rows]
    spec = TrackerSpec(
        name=root.text("name"),
        domain=library.beside(source, root.text("domain")),
        cameras=root.texts("cameras"),
        doubt=read_doubt(root),
        together_s=_at_least(root, "together_s", 0.0),
        carry_s=_at_least(root, "carry_s", 0.0),
        frame_rotation=np.eye(3) if frame is None else frame.rotation("quat_wxyz"),
        frame_position_m=np.zeros(3) if frame is None else frame.vector("position_m", 3),
        furniture=root.text("furniture") if "furniture" in root else "",
        joints=tuple(_joint(row, kind) for row, kind in zip(rows, kinds) if kind in UNITS),
        bodies=tuple(_body(row) for row, kind in zip(rows, kinds) if kind == "pose"),
        coupled=tuple(_coupled(row) for row, kind in zip(rows, kinds) if kind == "coupled"),
        constants=tuple(
            Constant(name=row.text("name"), channel=row.text("channel"), value=row.number("value"))
            for row, kind in zip(rows, kinds)
            if kind == "constant"
        ),
    )
    if frame is not None:
        frame.refuse_others()
    for table in (root, *rows):
        table.refuse_others()
    _refuse_contradictions(spec, source.where)
    return spec


def _joint(row: Table, kind: str) -> Joint:
    low, high = row.vector("range", 2)
    if not low < high:
        raise SpecError(f"{row.where}: range is {low:g} to {high:g}, must rise")
    margin = MARGIN * (high - low)
    return Joint(
        name=row.text("name"),
        kind=kind,
        channel=row.text("channel"),
        point_m=row.vector("point_m", 3) if kind == "hinge" else np.zeros(3),
        axis=row.direction("axis", 3),
        low=low - margin,
        high=high + margin,
        max_speed=row.number("max_speed", positive=True),
        max_sigma=row.number("max_sigma", positive=True),
        tags=read_mounts(row),
    )


def _body(row: Table) -> Body:
    speed, turn = row.vector("max_speed", 2, positive=True)
    sigma_m, sigma_rad = row.vector("max_sigma", 2, positive=True)
    return Body(
        name=row.text("name"),
        channels=row.texts("channels", len(POSE)),
        up=row.direction("up", 3) if "up" in row else None,
        max_speed=(float(speed), float(turn)),
        max_sigma=(float(sigma_m), float(sigma_rad)),
        tags=read_mounts(row),
    )


def _coupled(row: Table) -> Coupled:
    return Coupled(
        name=row.text("name"),
        channel=row.text("channel"),
        to=row.text("to"),
        factor=row.number("factor"),
        offset=row.number("offset") if "offset" in row else 0.0,
    )


def _at_least(table: Table, key: str, low: float) -> float:
    value = table.number(key)
    if value < low:
        raise SpecError(f"{table.where}: {key} is {value:g}, must be at least {low:g}")
    return value


def _refuse_contradictions(spec: TrackerSpec, where: str) -> None:
    ids = [tag.tag_id for part in spec.moving for tag in part.tags]
    names = [part.name for part in (*spec.moving, *spec.coupled, *spec.constants)]
    for what, values in (("tag", ids), ("channel", list(spec.channels)), ("part", names)):
        if twice := [value for k, value in enumerate(values) if value in values[:k]]:
            raise SpecError(f"{where}: {what} {twice[0]!r} stands twice")
    measured = {joint.channel for joint in spec.joints}
    for part in spec.coupled:
        if part.to not in measured:
            known = ", ".join(sorted(measured)) or "none"
            raise SpecError(f"{where}: {part.name}: to is {part.to!r}, must be a hinge's or slide's channel: {known}")
        if not math.isfinite(part.factor):
            raise SpecError(f"{where}: {part.name}: factor is {part.factor:g}")
    if not spec.cameras:
        raise SpecError(f"{where}: cameras: there are none")
