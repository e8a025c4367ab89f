"""The figures of sim_to_sim.py in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skimo_eval.statistics import bootstrap_interval

FILE_KP, FILE_DAMPING = np.repeat([870.0, 120.0], [4, 3]), np.repeat([100.0, 10.0], [4, 3])
"""What the environment's files say."""

HEAD = (
    "| bundle, driver, where | sub-tasks of 4, in order (95 %) | in any order | all 4 | episodes | promised, came "
    "true | gate held, limited or stopped |"
)
WORDS = {
    "our arm": "our twin's arm, as it ships",
    "our arm, as late": "the same, as late as was identified",
    "identified, helped as ours": "identified, but its weight held, and our arm's friction and mass made up for",
    "identified": "identified, helped by nobody",
}


def report(content: dict[str, Any]) -> str:
    """The figures in Markdown."""
    lines = ["# Sim to sim: FrankaKitchen-v1 in the robot's place", ""]
    lines += ["`benchmarks/sim_to_sim.py`: its head says what the parts and cells are, and how each is run again.", ""]
    if "identified" in content:
        lines += told(content["identified"])
    if content["flights"]:
        lines += flights(content["flights"])
    return "\n".join([*lines, ""])


def told(found: dict[str, Any]) -> list[str]:
    """What was identified, and what that foresees."""
    lines = ["## Identified", "", "| | joints 1 to 7 (95 %) | its files say |", "|---|---|---|"]
    truth = {"kp": FILE_KP, "damping": FILE_DAMPING, "friction": np.zeros(7), "armature": np.zeros(7)}
    for kind, unit in (("kp", "Nm/rad"), ("damping", "Nm s/rad"), ("friction", "Nm"), ("armature", "kg m2"),
                       ("kv", "Nm s/rad"), ("offset", "Nm")):  # fmt: skip
        rows = [e for e in found["estimates"] if e["name"].startswith(f"{kind} joint")]
        says = "" if kind not in truth else " ".join(f"{v:g}" for v in truth[kind])
        lines.append(f"| {kind} / {unit} | {'; '.join(_shown(e) for e in rows)} | {says or '-'} |")
    others = [
        e for e in found["estimates"] if " joint " not in e["name"] and not e["name"].startswith("payload inertia")
    ]
    lines += [
        f"| {e['name']} / {e['unit']} | {_shown(e)} | {'0.04' if e['name'] == 'delay' else '-'} |" for e in others
    ]
    missed = [
        e["name"]
        for kind, values in truth.items()
        for joint, value in enumerate(values)
        for e in found["estimates"]
        if e["name"] == f"{kind} joint {joint + 1}" and not e["low"] <= value <= e["high"]
    ]
    lines += ["", f"Intervals that don't hold what its files say: {', '.join(missed) or 'none'}."]
    unsure = [e["name"] for e in found["estimates"] if e["why_not"]]
    lines += ["", f"Not identifiable by the criteria of `skimo calibrate sysid`: {', '.join(unsure)}.", ""]
    for hand, said in found["as_shipped"].items():
        words = said.get("refused") or (
            f"held-out torque error {said['torque_share_of_limit']:.3f} of a joint's limit (at most 0.02 passes), "
            f"joint error {_mrad(said['joint_rad'])} mrad for {_mrad(said['joint_before_rad'])} before"
        )
        lines.append(f"- `skimo calibrate sysid` as it is, {hand}: {words}")
    lines += ["", "| held-out motion, joint error of the twin / mrad | joints 1 to 7 |", "|---|---|"]
    lines += [f"| {WORDS[name]} | {_mrad(values)} |" for name, values in found["held_out_joint_rad"].items()]
    lines += [
        "",
        "| the same motion there: how far the arm lies from its reference / mrad | joints 1 to 7 |",
        "|---|---|",
    ]
    lines += [f"| {name} | {_mrad(values)} |" for name, values in found["tracking_rad"].items()]
    return [*lines, ""]


def flights(cells: dict[str, Any]) -> list[str]:
    """Sub-tasks of each cell."""
    lines = ["## Flown", "", HEAD, "|---|---|---|---|---|---|---|"]
    for name, cell in cells.items():
        rows = cell["rows"]
        done = [row["done"] for row in rows]
        low, high = bootstrap_interval(done)
        own = f"{np.mean([len(row['any_order']) for row in rows]):.2f}" if name.endswith("there") else "-"
        said = [p for row in rows for p in row["predicted"]]
        came = [c for row in rows for c in row["came_true"]]
        promise = f"{np.mean(said):.2f}, {np.mean(came):.2f}" if said else "-"
        meddled = sum(sum(row["verdicts"].values()) for row in rows)
        lines.append(
            f"| {name} | {np.mean(done):.2f} ({low:.2f} .. {high:.2f}) | {own} | {sum(d == 4 for d in done)} | "
            f"{len(rows)} | {promise} | {meddled} |"
        )
    return [*lines, *paired(cells)]


def paired(cells: dict[str, Any]) -> list[str]:
    """What making up for the arm brings, seed by seed."""
    lines = []
    for name, cell in cells.items():
        label, driver, where = name.rsplit(", ", 2)
        other = cells.get(f"{label}, position, {where}")
        if driver != "compensated" or other is None:
            continue
        plain = {row["seed"]: row["done"] for row in other["rows"]}
        gained = [row["done"] - plain[row["seed"]] for row in cell["rows"] if row["seed"] in plain]
        low, high = bootstrap_interval(gained)
        lines.append(
            f"- {label}, {where}: compensated less position, seed by seed {np.mean(gained):+.2f} ({low:+.2f} .. "
            f"{high:+.2f}), {len(gained)} seeds"
        )
    return ["", *lines] if lines else []


def _shown(e: dict[str, Any]) -> str:
    return (
        f"{round(e['value'], 9):.4g} ({e['low']:.4g} .. {e['high']:.4g}{', not identifiable' if e['why_not'] else ''})"
    )


def _mrad(values: Sequence[float]) -> str:
    return " ".join(f"{1e3 * value:.1f}" for value in values)
