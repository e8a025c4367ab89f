"""How a foreign data set's columns become a domain's channels, as data: `layouts/*.yaml`, or a lab's own file.

    name: mocap
    domain: workbench             whose channels come out
    observations:                 by the width that a file's observations have, which columns are kept, in order
      - {width: 45, keep: [[0, 8], [18, 38]]}           first and last, both kept
    joint_offset_rad: [0, 0, 0, 0, 0, 1.5707963, 0]     added to the joints: the domain's angle where the source's is 0
    velocity_scale_rad_s: 1.0     joint velocity that the source's action of 1 means

`plain` is the layout of files that hold the domain's channels as they are. Units rad, rad/s.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError, SpecError
from ..contract.types import Array
from ..domain import library
from ..domain.domain import Domain
from ..domain.tables import Table, read_yaml

PLAIN = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One source's.

    Attributes:
        domain: name of the domain whose channels come out.
        columns: by width of the source's observations, the columns that are kept.
        joint_offset_rad: one per joint, added to it.
        velocity_scale_rad_s: joint velocity that the source's action of 1 means; None where there are no joints.
    """

    name: str
    domain: str
    columns: dict[int, npt.NDArray[np.int64]]
    joint_offset_rad: Array
    velocity_scale_rad_s: float | None

    def channels(self, observations: npt.NDArray[Any]) -> Array:
        """The domain's channels [R, O], float64, of the source's observations [R, W], W a width of this layout."""
        kept = observations[:, self.columns[observations.shape[1]]].astype(np.float64)
        kept[:, : len(self.joint_offset_rad)] += self.joint_offset_rad
        return kept

    def words(self, width: int, domain: Domain) -> str:
        """What is done to observations of this width, and to the actions."""
        columns = self.columns[width]
        kept = "" if len(columns) == width else f", of which {', '.join(_spans(columns))} are kept"
        joints = zip(domain.observation.names, self.joint_offset_rad)
        moved = [f"{name} by {offset:+.6g} rad" for name, offset in joints if offset]
        said = f"{width} columns in layout {self.name}{kept}" + (f"; moved: {', '.join(moved)}" if moved else "")
        theirs, ours = self.velocity_scale_rad_s, domain.action.scale_rad_s
        if theirs is not None and theirs != ours:
            said += f"; actions as they are, of which 1 meant {theirs:g} rad/s there and means {ours:g} rad/s here"
        return said


def known_layouts() -> tuple[Layout, ...]:
    """The layouts that ship."""
    folder = resources.files("skimo_core.episodes").joinpath("layouts")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return tuple(parse_layout(f.read_text(encoding="utf-8"), f"layouts/{f.name}") for f in files)


def find_layouts(name_or_path: str, domain: Domain) -> tuple[Layout, ...]:
    """The layouts that a source's files may have: the one named, or where none is, all known ones of the domain.

    Raises:
        SpecError: no such layout or file, or it is malformed or of another domain.
    """
    plain = _plain(domain)
    if not name_or_path:
        return (*(layout for layout in known_layouts() if layout.domain == domain.name), plain)
    if library.is_path(name_or_path):
        source = library.find("layouts", name_or_path)
        chosen = parse_layout(source.text, source.where)
    else:
        known = {layout.name: layout for layout in (*known_layouts(), plain)}
        if name_or_path not in known:
            raise SpecError(f"no layout {name_or_path!r}; there are {', '.join(known)}, or give a file's path")
        chosen = known[name_or_path]
    if chosen.domain != domain.name:
        raise SpecError(f"layout {chosen.name} is of domain {chosen.domain!r}, not {domain.name!r}; name that --domain")
    if len(chosen.joint_offset_rad) not in (0, domain.observation.joints):
        raise SpecError(
            f"layout {chosen.name}: joint_offset_rad has {len(chosen.joint_offset_rad)} numbers, domain "
            f"{domain.name!r} has {domain.observation.joints} joints"
        )
    return (chosen,)


def choose(layouts: tuple[Layout, ...], width: int, domain: Domain) -> Layout:
    """The first layout that has observations of this width.

    Raises:
        EpisodeError: none has.
    """
    for layout in layouts:
        if width in layout.columns:
            return layout
    known = "; ".join(f"{layout.name} {', '.join(map(str, layout.columns))}" for layout in layouts)
    raise EpisodeError(
        f"observations has {width} columns, domain {domain.name!r} has {domain.observation.size} channels (widths that "
        f"are known: {known}); name the data's own with --domain, or describe its columns in a file for --layout"
    )


def parse_layout(text: str, where: str) -> Layout:
    """Read the words of a layout file.

    Raises:
        SpecError: not YAML; a key missing, unknown or of the wrong type; columns that the width doesn't have.
    """
    root = Table(read_yaml(text, where), where)
    offsets = root.value("joint_offset_rad")
    layout = Layout(
        name=root.text("name"),
        domain=root.text("domain"),
        columns=dict(_columns(row) for row in root.tables("observations")),
        joint_offset_rad=root.vector("joint_offset_rad", len(offsets) if isinstance(offsets, list) else 0),
        velocity_scale_rad_s=root.number("velocity_scale_rad_s", positive=True) if offsets else None,
    )
    root.refuse_others()
    if short := [width for width, columns in layout.columns.items() if len(columns) < len(layout.joint_offset_rad)]:
        raise SpecError(f"{where}: of width {short[0]} fewer columns are kept than joint_offset_rad has numbers")
    return layout


def _plain(domain: Domain) -> Layout:
    size = domain.observation.size
    return Layout(
        name=PLAIN,
        domain=domain.name,
        columns={size: np.arange(size)},
        joint_offset_rad=np.zeros(0),
        velocity_scale_rad_s=None,
    )


def _columns(row: Table) -> tuple[int, npt.NDArray[np.int64]]:
    width, spans = row.whole("width", low=1), row.value("keep")
    row.refuse_others()
    kept: list[int] = []
    for span in spans if isinstance(spans, list) else [spans]:
        pair = isinstance(span, list) and len(span) == 2 and all(type(x) is int for x in span)
        if not pair or not 0 <= span[0] <= span[1] < width:
            raise SpecError(f"{row.where}: keep must hold [first, last] within 0 to {width - 1}, has {span!r}")
        kept += range(span[0], span[1] + 1)
    if not kept:
        raise SpecError(f"{row.where}: keep is empty; name at least one column")
    return width, np.array(kept, np.int64)


def _spans(columns: npt.NDArray[np.int64]) -> list[str]:
    """Runs of columns, as first..last."""
    runs = np.split(columns, np.flatnonzero(np.diff(columns) != 1) + 1)
    return [f"{run[0]}..{run[-1]}" for run in runs]
