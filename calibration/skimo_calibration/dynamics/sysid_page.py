"""The page of an identification: hold-out errors before and after, every estimate with its verdict, pictures.

Verdicts judge what was held out. Figures that the fit reports of itself stand in tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from ..report import Criterion, Page
from .logs import JointLog
from .plant_fit import Links, torque_errors
from .signals import prepare
from .sysid import Arm, Identified

TORQUE_SHARE = 0.02
"""Of a joint's torque limit: more than this is left by a model that misses something, a payload or a contact."""
NO_WORSE = 1.05


def page_of(found: Identified, held_out: Sequence[JointLog], links: Links, limits: RobotLimits, shipped: Arm) -> Page:
    """The page."""
    page = Page(
        "System identification",
        f"{found.robot}, {len(found.logs)} log(s), {found.fitted_s:.0f} s fitted, {found.held_out_s:.0f} s held out",
    )
    page.judge(*criteria(found, limits))
    page.heading("What was held out")
    page.table(("joint", *_held_out_head(found)), _held_out_rows(found), "Root mean square errors, before and after.")
    page.figure(_figure(held_out[-1], links, limits, shipped, found.arm), "What the models leave of held-out torques.")
    page.heading("Estimates")
    rows = [
        (e.name, e.value, e.sigma, f"{e.low:.4g} .. {e.high:.4g}", e.kind.unit, e.why_not or "yes")
        for e in found.estimates
    ]
    head = ("parameter", "value", "sigma", "95 % interval", "unit", "identifiable")
    page.table(head, rows, "Intervals: the wider of covariance and block bootstrap.")
    page.text(
        f"Torques are read {found.arm.dynamics.lag_s * 1e3:.1f} ms later than positions. "
        f"{found.plant.rows} rows of moving joints were fitted; they leave, joint by joint, "
        f"{', '.join(f'{n:.3f}' for n in found.plant.noise_nm)} Nm."
    )
    page.heading("Logs")
    page.table(("file", "SHA-256"), found.logs)
    return page


def criteria(found: Identified, limits: RobotLimits) -> tuple[Criterion, ...]:
    """What held-out data say."""
    share = found.after.torque_nm / limits.tau_max_nm
    judged = [
        Criterion(name="hold-out torque error, of the joint's limit", value=float(share.max()), bound=TORQUE_SHARE),
        Criterion(name="hold-out torque error, of that before", value=1.0 / found.torque_gain, bound=NO_WORSE),
    ]
    if (gain := found.joint_gain) is not None:
        judged.append(Criterion(name="hold-out joint error, of that before", value=1.0 / gain, bound=NO_WORSE))
    return tuple(judged)


def _held_out_head(found: Identified) -> tuple[str, ...]:
    head = ("torque before / Nm", "after / Nm")
    return head if found.after.joint_rad is None else (*head, "joint before / mrad", "after / mrad")


def _held_out_rows(found: Identified) -> list[tuple[object, ...]]:
    columns = [found.before.torque_nm, found.after.torque_nm]
    if found.before.joint_rad is not None and found.after.joint_rad is not None:
        columns += [1e3 * found.before.joint_rad, 1e3 * found.after.joint_rad]
    return [(j + 1, *(float(c[j]) for c in columns)) for j in range(len(columns[0]))]


def _figure(log: JointLog, links: Links, limits: RobotLimits, before: Arm, after: Arm) -> Figure:
    piece = prepare(log)
    time_s: Array = piece.t_s[piece.rows] - piece.t_s[0]
    left = {
        "as it ships": torque_errors(piece, links, limits, before.dynamics),
        "identified": torque_errors(piece, links, limits, after.dynamics),
    }
    figure = Figure(figsize=(9, 1.3 * limits.joints), layout="constrained")
    for j, axes in enumerate(np.atleast_1d(figure.subplots(limits.joints, 1, sharex=True))):
        for (name, values), colour in zip(left.items(), ("#c53030", "#2b6cb0")):
            axes.plot(time_s, values[:, j], color=colour, linewidth=0.9, label=name)
        axes.set_ylabel(f"{j + 1} / Nm")
        axes.axhline(0.0, color="#a0aec0", linewidth=0.5)
    figure.axes[0].legend(loc="upper right", ncols=2, fontsize=8)
    figure.axes[-1].set_xlabel("time / s")
    return figure
