"""Tags on paper: a PDF of their true size, each with its id and size in words, cutting lines and a ruler.

Cells are an image without smoothing, placed to the point; nothing in the file depends on the day. Lengths m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skimo_core.contract.errors import SpecError

from ..cameras.sheet import FOOT_M, INCH_M, PAPERS_M, RIM_M, ruler
from .tag_edges import CELLS
from .tags import code

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUIET = 1
"""Cells of white that a tag needs around it."""
WORDS_M = 0.005
"""Below each card."""
GAP_M = 0.003
HINT = (
    "Print at 100 % (no scaling) and measure the ruler and a black square: that side is the tag's size_m.\n"
    "Leave the white margin on, glue the tag on something flat and stiff, matt rather than glossy."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A tag to print: its id, the side of its black square, and what it is for."""

    tag_id: int
    size_m: float
    use: str = ""

    @property
    def side_m(self) -> float:
        """With its white margin."""
        return self.size_m * (CELLS + 2 * QUIET) / CELLS

    @property
    def words(self) -> str:
        return f"id {self.tag_id}   {self.size_m * 1e3:g} mm   {self.use}".rstrip()


def write_tags(cards: Sequence[Card], path: Path, paper: str = "A4") -> int:
    """Write tags as a PDF; returns its number of pages.

    Raises:
        SpecError: no tags, an id that there isn't, an unknown paper, or a tag that doesn't fit on it.
    """
    pages = _laid_out(cards, paper)
    from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
    from matplotlib.figure import Figure

    width_m, height_m = PAPERS_M[paper]
    path.parent.mkdir(parents=True, exist_ok=True)
    with PdfPages(path, metadata={"CreationDate": None, "Title": "AprilTags 36h11"}) as file:
        for number, page in enumerate(pages, 1):
            figure = Figure(figsize=(width_m / INCH_M, height_m / INCH_M))
            FigureCanvasPdf(figure)
            for card, left_m, bottom_m in page:
                _draw(figure, card, left_m / width_m, bottom_m / height_m, width_m, height_m)
            foot = _whole(figure, width_m, height_m)
            title = f"AprilTag 36h11, page {number} of {len(pages)}"
            foot.text(RIM_M, FOOT_M - GAP_M, title, fontsize=9, va="top")
            foot.text(RIM_M, RIM_M, HINT, fontsize=5.5, va="bottom", color="0.3")
            ruler(foot, RIM_M, RIM_M + 0.011)
            for card, left_m, bottom_m in page:
                foot.text(left_m, bottom_m - 0.001, card.words, fontsize=6, va="top")
            file.savefig(figure)
    return len(pages)


def _laid_out(cards: Sequence[Card], paper: str) -> list[list[tuple[Card, float, float]]]:
    """Pages of cards, large ones first, with the left and lower edge of each, in rows from the top."""
    if paper not in PAPERS_M:
        raise SpecError(f"no paper {paper!r}; there are {', '.join(PAPERS_M)}")
    if not cards:
        raise SpecError("no tags to print; name their ids, or a tracker file")
    width_m, height_m = PAPERS_M[paper]
    cards = sorted(cards, key=lambda card: -card.size_m)
    pages: list[list[tuple[Card, float, float]]] = [[]]
    left_m, top_m, tall_m = RIM_M, height_m - RIM_M, 0.0
    for card in cards:
        code(card.tag_id)
        if not card.size_m > 0 or card.side_m > min(width_m - 2 * RIM_M, height_m - RIM_M - FOOT_M - WORDS_M):
            raise SpecError(
                f"tag {card.tag_id} of {card.size_m * 1e3:g} mm is {card.side_m * 1e3:g} mm wide with its margin, and "
                f"doesn't fit on {paper} ({width_m * 1e3:.0f} x {height_m * 1e3:.0f} mm); take a larger paper or a "
                "smaller size"
            )
        if left_m + card.side_m > width_m - RIM_M:
            left_m, top_m, tall_m = RIM_M, top_m - tall_m - WORDS_M - GAP_M, 0.0
        if top_m - card.side_m - WORDS_M < FOOT_M:
            pages.append([])
            left_m, top_m, tall_m = RIM_M, height_m - RIM_M, 0.0
        pages[-1].append((card, left_m, top_m - card.side_m))
        left_m, tall_m = left_m + card.side_m + GAP_M, max(tall_m, card.side_m)
    return pages


def _draw(figure: Figure, card: Card, left: float, bottom: float, width_m: float, height_m: float) -> None:
    axes = figure.add_axes((left, bottom, card.side_m / width_m, card.side_m / height_m))
    cells = np.pad(code(card.tag_id), QUIET, constant_values=True)
    axes.imshow(np.kron(cells, np.ones((8, 8))), cmap="gray", vmin=0, vmax=1, interpolation="none", aspect="auto")
    axes.set(xticks=[], yticks=[])
    for line in axes.spines.values():
        line.set(linewidth=0.2, color="0.6", linestyle=(0, (4, 4)))


def _whole(figure: Figure, width_m: float, height_m: float) -> Axes:
    """Axes over the whole page, in m."""
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.patch.set_alpha(0.0)
    axes.set(xlim=(0, width_m), ylim=(0, height_m))
    axes.set_axis_off()
    return axes
