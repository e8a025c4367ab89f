"""What a person reads of an evaluation: a Markdown table, a picture per condition, and the reliability diagram.

Needs matplotlib, and nothing that draws on a screen.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skimo_core.contract.errors import SetupError

from .results import Results, write_results
from .statistics import share_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"
DPI = 150
COLUMNS = 4
"""Of the small reliability diagrams."""


def need_plots() -> None:
    """Raises SetupError where pictures can't be made."""
    if find_spec("matplotlib") is None:
        raise SetupError("--out draws pictures, which needs matplotlib: pip install matplotlib, or give --json instead")


def write_report(folder: Path, results: Results) -> None:
    """Write conditions.json, .md and .png and reliability.png."""
    write_results(folder / "conditions.json", results)
    (folder / "conditions.md").write_text(table(results), encoding="utf-8")
    draw_conditions(folder / "conditions.png", results)
    draw_reliability(folder / "reliability.png", results)


def title(results: Results) -> str:
    """What was run, in a line."""
    first, count = results["seed"], results["episodes"]
    seeds = f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}"
    stack = {"inprocess": "in process", "full": "full stack"}[results["stack"]]
    return f"bundle {results['bundle']} ({results['bundle_id'][:8]}), task {results['task']}, {stack}, {seeds}"


def predicted(figures: dict[str, Any]) -> tuple[int, int]:
    """How many successes the planner predicted, and how many of those came true."""
    audit = figures.get("planned_against_realised") or {}
    count = audit.get("predicted_successes") or 0
    return count, round((audit.get("precision") or 0.0) * count)


def table(results: Results) -> str:
    """The Markdown table of all conditions."""
    of = results["subtasks"]
    head = (
        f"{title(results)}\n\n"
        f"| condition | sub-tasks of {of} (95 %) | all {of} done | predicted successes that came true (95 %) | stops "
        "| gate interventions an episode | ended early | why a lab would fear it |\n|---|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(_row(name, figures, of) for name, figures in results["conditions"].items()) + "\n"


def _row(name: str, figures: dict[str, Any], of: int) -> str:
    low, high = figures["subtasks_interval_95"]
    done, episodes = figures["subtasks_per_episode"], figures["episodes"]
    said, came = predicted(figures)
    share = "-"
    if said:
        bounds = share_interval(came, said)
        share = f"{came / said:.0%} of {said} ({bounds[0]:.0%} .. {bounds[1]:.0%})"
    spoke = sum(figures.get("verdicts", {}).values()) / episodes
    errors = len(figures.get("errors", ()))
    return (
        f"| {name} | {figures['subtasks_mean']:.2f} ({low:.2f} .. {high:.2f}) | {sum(k == of for k in done)} of "
        f"{episodes} | {share} | {figures['stops']} | {spoke:.1f} | {errors} | {figures['why']} |"
    )


def draw_conditions(path: Path, results: Results) -> None:
    """Sub-tasks done and predicted successes that came true, a row for each condition, with 95 % intervals."""
    from matplotlib.figure import Figure

    conditions = results["conditions"]
    names = sorted(conditions, key=lambda name: conditions[name]["subtasks_mean"])
    figure = Figure(figsize=(10.0, 1.6 + 0.36 * len(names)), dpi=DPI, layout="constrained")
    done, true = figure.subplots(1, 2, sharey=True)
    for row, name in enumerate(names):
        _draw_done(done, row, conditions[name])
        _draw_true(true, row, *predicted(conditions[name]))
    of = results["subtasks"]
    done.set(xlim=(-0.03 * of, of * 1.03), xticks=range(of + 1))
    done.set_xlabel(f"ordered sub-tasks done, of {of}\n(grey: episodes; mean with 95 % interval)")
    done.set_yticks(range(len(names)), names)
    true.set_xlabel("predicted successes that came true, %\n(share with 95 % interval; how many were predicted)")
    true.set(xlim=(-3, 118), xticks=range(0, 101, 20))
    for axes in (done, true):
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.7, len(names) - 0.3)
    figure.suptitle(title(results), fontsize=11)
    figure.savefig(path)


def _draw_done(axes: Axes, row: int, figures: dict[str, Any]) -> None:
    counts = figures["subtasks_per_episode"]
    for value in sorted(set(counts)):
        size = 260 * counts.count(value) / len(counts)
        axes.scatter(value, row, s=size, color=GREY, alpha=0.5, linewidths=0, zorder=2)
    low, high = figures["subtasks_interval_95"]
    axes.plot([low, high], [row, row], color=BLUE, linewidth=2.5, solid_capstyle="round", zorder=3)
    axes.plot(figures["subtasks_mean"], row, "o", color=BLUE, markersize=6, zorder=4)


def _draw_true(axes: Axes, row: int, said: int, came: int) -> None:
    if not said:
        axes.text(0, row, "none predicted", color=GREY, va="center", fontsize=8)
        return
    low, high = share_interval(came, said)
    axes.plot([100 * low, 100 * high], [row, row], color=ORANGE, linewidth=2.5, solid_capstyle="round", zorder=3)
    axes.plot(100 * came / said, row, "o", color=ORANGE, markersize=6, zorder=4)
    axes.text(104, row, str(said), color="#4a5568", va="center", fontsize=8)


def draw_reliability(path: Path, results: Results) -> None:
    """Predicted success against what came true, in ten bins: all conditions together, then each."""
    from matplotlib.figure import Figure

    tables = {name: f["reliability"] for name, f in results["conditions"].items() if f.get("reliability")}
    if len(tables) > 1:
        tables = {f"all {len(tables)} conditions": results["reliability"], **tables}
    if not tables:
        return
    columns = min(COLUMNS, len(tables))
    rows = -(-len(tables) // columns)
    figure = Figure(figsize=(0.8 + 2.7 * columns, 0.9 + 2.6 * rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(tables) :]:
        axes.set_visible(False)
    for axes, (name, bins) in zip(grid, tables.items()):
        _draw_bins(axes, name, bins)
    figure.supxlabel("predicted success")
    figure.supylabel("share that came true (95 %)")
    figure.suptitle(f"{title(results)}\narea: how many plans", fontsize=10)
    figure.savefig(path)


def _draw_bins(axes: Axes, name: str, bins: list[dict[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", zorder=1)
    plans = sum(b["count"] for b in bins)
    for b in (b for b in bins if b["count"]):
        low, high = share_interval(round(b["realised"] * b["count"]), b["count"])
        axes.plot([b["mean_predicted"]] * 2, [low, high], color=BLUE, linewidth=1.2, zorder=2)
        size = 12 + 240 * b["count"] / plans
        axes.scatter(b["mean_predicted"], b["realised"], s=size, color=BLUE, alpha=0.7, linewidths=0, zorder=3)
    axes.set_title(f"{name} ({plans} plans)", fontsize=9)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal")
    axes.grid(alpha=0.3)
