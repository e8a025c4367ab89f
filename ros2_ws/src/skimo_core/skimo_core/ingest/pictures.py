"""A picture of imported trajectories: each channel over time, every episode a line, and the actions' distribution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..domain.domain import Domain
from ..episodes.episode import Episode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .report import ChannelReport, Report

MOST_LINES = 80
"""Episodes that are drawn; more only make the picture black."""
COLUMNS = 5
MOST_ROWS = 24
DPI = 80
MOVES, STILL, LIMIT = "#3b6ea5", "#b0b0b0", "#c8553d"


def draw(path: Path, report: Report, episodes: Sequence[Episode], domain: Domain) -> None:
    """Write the picture as PNG; raises ImportError where matplotlib isn't installed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = _spread(episodes)
    panels = len(report.channels) + len(report.actions)
    rows = min(MOST_ROWS, -(-panels // COLUMNS))
    height_in = 0.8 + 1.7 * rows
    figure = Figure(figsize=(3.0 * COLUMNS, height_in), dpi=DPI)
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    # a fixed layout: matplotlib's own takes seconds for so many panels
    figure.subplots_adjust(0.035, 0.35 / height_in, 0.99, 1 - 0.65 / height_in, wspace=0.25, hspace=0.5)
    axes: list[Axes] = list(grid.ravel())
    for axis, (index, channel) in zip(axes, enumerate(report.channels)):
        _trajectories(axis, channel, [episode.observations[:, index] for episode in shown], domain.action.period_s)
    for axis, (index, action) in zip(axes[len(report.channels) :], enumerate(report.actions)):
        _histogram(axis, action, np.concatenate([episode.actions[:, index] for episode in episodes]))
    for axis in axes[panels:]:
        axis.set_axis_off()
    licences = ", ".join(dict.fromkeys(source.licence for source in report.sources))
    figure.suptitle(
        f"{', '.join(source.name for source in report.sources)}: {report.episodes} episodes, {report.steps} steps at "
        f"{report.rate_hz:g} Hz, licence {licences}" + (f" ({len(shown)} drawn)" if len(shown) < len(episodes) else ""),
        fontsize=11,
        y=1 - 0.12 / height_in,
        va="top",
    )
    figure.savefig(path)


def _spread(episodes: Sequence[Episode]) -> list[Episode]:
    """Evenly chosen ones, if there are too many."""
    chosen = np.unique(np.linspace(0, len(episodes) - 1, min(MOST_LINES, len(episodes))).astype(int))
    return [episodes[k] for k in chosen]


def _trajectories(axis: Axes, channel: ChannelReport, lines: Sequence[np.ndarray], period_s: float) -> None:
    for values in lines:
        axis.plot(period_s * np.arange(len(values)), values, lw=0.8, alpha=0.6, color=STILL if channel.still else MOVES)
    _titled(axis, f"{channel.name} ({channel.unit}) over s" + (", never moved" if channel.still else ""), channel.still)


def _histogram(axis: Axes, action: ChannelReport, values: np.ndarray) -> None:
    axis.hist(values, bins=np.linspace(-1, 1, 41).tolist(), color=MOVES)
    for bound in (-1, 1):
        axis.axvline(bound, color=LIMIT, lw=0.8)
    axis.set_yticks([])
    _titled(axis, action.name + (", one value" if action.still else ""), action.still)


def _titled(axis: Axes, title: str, still: bool) -> None:
    axis.set_title(title, fontsize=8, color="#808080" if still else "black")
    axis.tick_params(labelsize=7)
    axis.locator_params(nbins=4)
