"""A board on paper: a PDF of its true size, with its data in words and a ruler to check the printer with.

The squares are an image without smoothing, placed to the point; nothing in the file depends on the day. Lengths m.
"""

from __future__ import annotations

from pathlib import Path

from skimo_core.contract.errors import SpecError

from .board import QUIET_M, Board, draw

PAPERS_M = {"A4": (0.210, 0.297), "A3": (0.297, 0.420), "A2": (0.420, 0.594), "letter": (0.2159, 0.2794)}
RULER_M = 0.100
FOOT_M = 0.028
"""Room below the board for words and ruler."""
RIM_M = 0.006
"""What printers leave white."""
INCH_M = 0.0254
HINT = (
    "Print at 100 % (no scaling), measure the ruler and a square, glue the sheet on something flat and stiff.\n"
    "If a square measures otherwise, give what it measures: a wrong size bends every result."
)


def write_sheet(board: Board, path: Path, paper: str = "A4") -> Path:
    """Write a board as a PDF of one page.

    Raises:
        SpecError: an unknown paper, or a board that doesn't fit on it.
    """
    if paper not in PAPERS_M:
        raise SpecError(f"no paper {paper!r}; there are {', '.join(PAPERS_M)}")
    (width_m, height_m), (board_m, tall_m) = PAPERS_M[paper], board.size_m
    if board_m + 2 * RIM_M > width_m or tall_m + 2 * RIM_M + FOOT_M > height_m:
        raise SpecError(
            f"a board of {board_m * 1e3:.0f} x {tall_m * 1e3:.0f} mm doesn't fit on {paper} "
            f"({width_m * 1e3:.0f} x {height_m * 1e3:.0f} mm less rims and {FOOT_M * 1e3:.0f} mm for the ruler); take "
            "a larger paper or smaller squares"
        )
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_m / INCH_M, height_m / INCH_M))
    left_m, bottom_m = (width_m - board_m) / 2, height_m - RIM_M - QUIET_M - tall_m
    axes = figure.add_axes((left_m / width_m, bottom_m / height_m, board_m / width_m, tall_m / height_m))
    axes.imshow(draw(board, margin_m=0.0)[0], cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")
    axes.set_axis_off()
    foot = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    foot.patch.set_alpha(0.0)
    foot.set(xlim=(0, width_m), ylim=(0, height_m))
    foot.set_axis_off()
    foot.text(left_m, bottom_m - QUIET_M, board.words, fontsize=9, va="top")
    foot.text(left_m, RIM_M, HINT, fontsize=5.5, va="bottom", color="0.3")
    ruler(foot, left_m, RIM_M + 0.011)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasPdf(figure).print_pdf(str(path), metadata={"CreationDate": None, "Title": board.words})
    return path


def ruler(axes: object, left_m: float, bottom_m: float) -> None:
    """Draw a scale of 100 mm."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.plot([left_m, left_m + RULER_M], [bottom_m, bottom_m], color="black", linewidth=0.4, solid_capstyle="butt")
    for mm in range(0, 101, 5):
        tall_m = 0.003 if mm % 10 == 0 else 0.0015
        axes.plot([left_m + mm / 1e3] * 2, [bottom_m, bottom_m + tall_m], color="black", linewidth=0.3)
    axes.text(left_m + RULER_M + 0.003, bottom_m, f"{RULER_M * 1e3:.0f} mm", fontsize=7)
