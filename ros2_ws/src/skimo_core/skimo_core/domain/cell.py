"""The cell that an arm stands in, as data: `cells/*.yaml` with its workspace and its fixed obstacles.

Obstacles are boxes and planes in the arm's base frame (z up along joint 1, x ahead); m. Each has a margin, how near the
arm may come to it, and a list of links that are exempt, because they must come near or touch: fingers at a handle.
What moves (a door, a kettle) is no obstacle here: nothing says where it is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contract.errors import SpecError
from ..contract.specs import Named
from ..contract.types import Array
from . import library
from .shapes import check_link
from .tables import Table, read_yaml

LONGEST_M = 1000.0
"""Anything larger is a mistake of units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A solid box.

    Attributes:
        centre_m, half_m: [3] centre and half extents along the box's own axes.
        rotation: [3, 3] the box's axes as columns.
        margin_m: how near the arm may come.
        exempt: names of links that are not checked against it.
    """

    name: str
    centre_m: Array
    half_m: Array
    rotation: Array
    margin_m: float
    exempt: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The half space in which normal . x < offset_m is solid; `margin_m` and `exempt` as for a box."""

    name: str
    normal: Array
    offset_m: float
    margin_m: float
    exempt: tuple[str, ...]


LEAD = 0.75
"""Share of the gap at which the gate holds: a joint comes to rest a little beyond its greatest lead."""
PRESS = 0.6
"""Share of the torque at which the gate holds: it still rises while a joint comes to rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """How hard the arm may work against what stands in its cell.

    Attributes:
        torque_hold_share, torque_stop_share: of the robot's reflex torques: bounds on external torque.
        tracking_hold_rad, tracking_stop_rad: how far each joint may lie from where it was told to be; a number for each
            joint, or one for all.
    """

    torque_hold_share: float
    torque_stop_share: float
    tracking_hold_rad: Array
    tracking_stop_rad: Array

    @property
    def lead_rad(self) -> Array:
        """How far a command may lead each joint beyond where it is: a little less than holds it, [7] or [1]."""
        return LEAD * self.tracking_hold_rad

    @property
    def press_share(self) -> float:
        """Of the robot's reflex torques: how hard a command may press a joint against what is in its way."""
        return PRESS * self.torque_hold_share


FREE = Contact(
    torque_hold_share=1.0,
    torque_stop_share=1.5,
    tracking_hold_rad=np.array([0.1]),
    tracking_stop_rad=np.array([0.2]),
)
"""An arm that only touches what it grasps. Beyond the reflex torques a Franka arm stops by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Surroundings of one arm.

    Attributes:
        workspace_low_m, workspace_high_m: [3] corners of the box that elbow, wrist, flange and tool may be in.
        contact: how hard the arm may work against them.
        digest: SHA-256 of what the file says, comments left out.
    """

    name: str
    workspace_low_m: Array
    workspace_high_m: Array
    boxes: tuple[Box, ...]
    planes: tuple[Plane, ...]
    contact: Contact
    digest: str

    @property
    def named(self) -> Named:
        """What names it."""
        return Named(name=self.name, digest=self.digest)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Names of all obstacles, boxes first."""
        return tuple(o.name for o in (*self.boxes, *self.planes))


def known_cells() -> tuple[str, ...]:
    """Names of the cells that the package ships."""
    return library.known("cells")


def load_cell(name_or_path: str | Path = "open") -> Cell:
    """Load a cell by its name, or a cell file by its path (`library`).

    Raises:
        SpecError: no such cell or file, or it is malformed.
    """
    source = library.find("cells", name_or_path)
    return parse_cell(source.text, source.where)


def parse_cell(text: str, where: str) -> Cell:
    """Read the words of a cell file; `where` names it in errors.

    Raises:
        SpecError: not YAML; a key missing, unknown, or of the wrong type, size or sign; an unknown link; a name twice.
    """
    data = read_yaml(text, where)
    root = Table(data, where)
    workspace = root.table("workspace")
    low, high = workspace.vector("low_m", 3), workspace.vector("high_m", 3)
    workspace.refuse_others()
    if not (low < high).all():
        raise SpecError(f"{where}: workspace low_m {low.tolist()} is not below high_m {high.tolist()} on every axis")
    cell = Cell(
        name=root.text("name"),
        workspace_low_m=low,
        workspace_high_m=high,
        boxes=tuple(_box(row) for row in root.tables("boxes")),
        planes=tuple(_plane(row) for row in root.tables("planes")),
        contact=_contact(root.table("contact")) if "contact" in root else FREE,
        digest=hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest(),
    )
    root.refuse_others()
    twice = [name for name in cell.obstacles if cell.obstacles.count(name) > 1]
    if twice:
        raise SpecError(f"{where}: two obstacles are called {twice[0]!r}; names must differ")
    return cell


def _contact(row: Table) -> Contact:
    contact = Contact(
        torque_hold_share=row.number("torque_hold_share", positive=True),
        torque_stop_share=row.number("torque_stop_share", positive=True),
        tracking_hold_rad=row.vector("tracking_hold_rad", None, positive=True),
        tracking_stop_rad=row.vector("tracking_stop_rad", None, positive=True),
    )
    row.refuse_others()
    sizes = {len(contact.tracking_hold_rad), len(contact.tracking_stop_rad)} - {1}
    if len(sizes) > 1:
        raise SpecError(
            f"{row.where}: tracking_hold_rad and tracking_stop_rad hold {sorted(sizes)} numbers; give as many"
        )
    for kind, hold, stop in (
        ("torque", contact.torque_hold_share, contact.torque_stop_share),
        ("tracking", contact.tracking_hold_rad, contact.tracking_stop_rad),
    ):
        if np.any(hold > stop):
            raise SpecError(f"{row.where}: {kind}_hold {hold} must not exceed {kind}_stop {stop}, joint by joint")
    return contact


def _box(row: Table) -> Box:
    rotation = row.rotation("quat_wxyz") if "quat_wxyz" in row else np.eye(3)
    half_m, centre_m = row.vector("half_m", 3, positive=True), row.vector("centre_m", 3)
    if max(half_m.max(), np.abs(centre_m).max()) > LONGEST_M:
        raise SpecError(f"{row.where}: centre_m and half_m are in metres; more than {LONGEST_M:g} is a mistake")
    box = Box(
        name=row.text("name"),
        centre_m=centre_m,
        half_m=half_m,
        rotation=rotation,
        margin_m=_margin(row),
        exempt=_exempt(row),
    )
    row.refuse_others()
    return box


def _plane(row: Table) -> Plane:
    plane = Plane(
        name=row.text("name"),
        normal=row.direction("normal", 3),
        offset_m=row.number("offset_m"),
        margin_m=_margin(row),
        exempt=_exempt(row),
    )
    row.refuse_others()
    return plane


def _margin(row: Table) -> float:
    margin_m = row.number("margin_m")
    if margin_m < 0:
        raise SpecError(f"{row.where}: margin_m must not be below 0, is {margin_m:g}")
    return margin_m


def _exempt(row: Table) -> tuple[str, ...]:
    """The links exempt; the base always is, which doesn't move."""
    named = row.texts("exempt") if "exempt" in row else ()
    return ("link0", *(check_link(name, row.where) for name in named if name != "link0"))


def exempt_table(cell: Cell, links: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """[obstacles, links] whether a link is exempt from an obstacle, boxes first."""
    return np.array([[link in o.exempt for link in links] for o in (*cell.boxes, *cell.planes)], bool).reshape(
        -1, len(links)
    )
