"""`skimo demo --learn`: a changed twin, a bundle that fails there, help, candidates, and what comes to drive.

In process, the same code as on a robot. Writes learning.png and learning.md beside rounds.json. The last line is
`demo: learned X -> Y of 4 sub-tasks with N corrections in M minutes of the robot's time; FOLDER`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skimo_core.domain.domain import load_domain

from .domains import domain_to_fly
from .improve import ImproveConfig, Round, improve
from .report import BLUE, DPI, GREY, ORANGE, need_plots
from .statistics import bootstrap_interval


def learn(config: ImproveConfig, out: Path) -> list[Round]:
    """Do the rounds in a folder, and show them.

    Raises:
        SpecError, SetupError: as `improve`; matplotlib isn't installed.
    """
    need_plots()
    since_s = time.monotonic()

    def say(words: str) -> None:
        print(f"demo: {(time.monotonic() - since_s) / 60:4.1f} min  {words}", flush=True)

    say(f"the twin is changed: {config.condition}; {config.bundle} drives, and knows nothing of it")
    rounds = improve(config, out, say)
    (out / "learning.md").write_text(table(rounds), encoding="utf-8")
    draw(out / "learning.png", rounds, config)
    print(table(rounds))
    first, last = rounds[0], [r for r in rounds if r.promoted][-1]
    helps, minutes = sum(r.helps for r in rounds), sum(r.robot_s for r in rounds) / 60
    of = _asked(config)
    print(
        f"demo: learned {np.mean(first.worth):.2f} -> {np.mean(last.worth):.2f} of {of} sub-tasks with {helps} "
        f"corrections in {minutes:.1f} minutes of the robot's time; {out}"
    )
    return rounds


def table(rounds: Sequence[Round]) -> str:
    """A row for each round."""
    rows = [
        "| round | practised | helped | robot, min | person, min | candidate | sub-tasks (95 %) | old twin | drives |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rounds:
        low, high = bootstrap_interval(r.worth)
        practised = f"{np.mean(r.practised):.2f} in {len(r.practised)} episodes" if r.practised else "-"
        drives = "yes" if r.promoted else f"no: {r.why[-1] if r.why else ''}"
        rows.append(
            f"| {r.number} | {practised} | {r.helps} | {r.robot_s / 60:.1f} | {r.person_s / 60:.1f} | "
            f"{r.candidate[:8]} | {np.mean(r.worth):.2f} ({low:.2f} .. {high:.2f}) | {np.mean(r.unchanged):.2f} | "
            f"{drives} |"
        )
    return "\n".join(rows) + "\n"


def _asked(config: ImproveConfig) -> int:
    """Sub-tasks of its task."""
    return len(load_domain(domain_to_fly(config.bundle, config.domain)).task(config.task).subtasks)


def draw(path: Path, rounds: Sequence[Round], config: ImproveConfig) -> None:
    """What each candidate is worth against the robot's time, and what drove."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    most = 1.05 * _asked(config)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=(3, 2), layout="constrained")
    minutes = np.cumsum([r.robot_s for r in rounds]) / 60
    worth = [np.mean(r.worth) for r in rounds]
    bars = np.abs(np.array([bootstrap_interval(r.worth) for r in rounds]).T - np.array(worth))
    drives = np.maximum.accumulate([i if r.promoted else 0 for i, r in enumerate(rounds)])
    left.step(minutes, [worth[i] for i in drives], where="post", color=GREY, label="who drives")
    for promoted, colour, name in ((True, BLUE, "promoted"), (False, ORANGE, "refused")):
        chosen = [i for i, r in enumerate(rounds) if r.promoted is promoted]
        if chosen:
            at = minutes[chosen], [worth[i] for i in chosen]
            left.errorbar(*at, yerr=bars[:, chosen], fmt="o", capsize=3, color=colour, label=name)
    left.plot(minutes, [np.mean(r.unchanged) for r in rounds], ":", color=GREY, label="in the old twin")
    left.set(xlabel="robot's time, minutes", ylabel="sub-tasks", ylim=(0, most), title=f"{config.condition}, measured")
    left.legend(frameon=False, loc="lower right")
    practised = [done for r in rounds for done in r.practised]
    right.bar(range(1, len(practised) + 1), practised, color=BLUE)
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set(xlabel="episode of practice", ylabel="sub-tasks, help included", ylim=(0, most))
    right.set_title(f"{sum(r.helps for r in rounds)} corrections, {sum(r.person_s for r in rounds):.0f} s of a person")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
