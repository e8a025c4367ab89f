"""How well the twin's arm explains a real arm's torques, and what its friction and rotors would be by that log.

For a log of an arm in free motion (CSV, as skimo_calibration reads it): the RMSE of measured torques less those
of inverse dynamics, joint by joint, for the links alone, with the arm's parts added, and with what `panda.xml` had
before (rotors of 0.2 and 0.1 kg m2, damping of 0.5 and 0.2 Nm s/rad, both assumed). Then fits to one half, judged on
the other. No log is kept here. The one that the committed figures are from is published with C. Gaz et al., "Dynamic
Identification of the Franka Emika Panda Robot With Retrieval of Feasible Parameters Using Penalty-Based Optimization",
RA-L 4(4), 2019 (github.com/marcocognetti/FrankaEmikaPandaDynModel, GPL-3.0): exciting trajectory 1, a Panda without
hand, its four text files as columns t, q1..q7, dq1..dq7, tau1..tau7.

    python benchmarks/arm_model.py LOG.csv [--hand] [--out benchmarks/results/calibration]
writes arm_model.json and arm_model.md there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from skimo_calibration.dynamics.logs import read_logs
from skimo_calibration.dynamics.plant_fit import COULOMB_WIDTH_RAD_S, ArmDynamics, fit_plant
from skimo_calibration.dynamics.signals import Signals, prepare
from skimo_calibration.twin.twin_arm import LinkModel, links_of, shipped_arm
from skimo_core.contract.types import Array
from skimo_core.domain.robot import load_limits
from skimo_core.process.provenance import provenance

SOURCE = "Gaz et al. 2019, exciting trajectory 1 (marcocognetti/FrankaEmikaPandaDynModel)"
BEFORE = {
    "friction": np.array([0.24, 0.23, 0.14, 0.43, 0.33, 0.16, 0.25]),
    "damping": np.repeat([0.5, 0.2], [4, 3]),
    "armature": np.repeat([0.2, 0.1], [4, 3]),
}
"""What `panda.xml` held before, Nm, Nm s/rad, kg m2."""
PUBLISHED = np.array(
    [
        [0.54615, 0.87224, 0.64068, 1.2794, 0.83904, 0.30301, 0.56489],
        [5.1181, 9.0657, 10.136, 5.5903, 8.3469, 17.133, 10.336],
        [0.039533, 0.025882, -0.04607, 0.036194, 0.026226, -0.021047, 0.0035526],
    ]
)
"""Gaz et al.'s sigmoids: amplitude, Nm; slope, s/rad; shift, rad/s."""


def published_friction(dq_rad_s: Array) -> Array:
    """Gaz et al. 2019, eq. 3: 0 at rest."""
    size, slope, shift = PUBLISHED
    return size / (1 + np.exp(-slope * (dq_rad_s + shift))) - size / (1 + np.exp(-slope * shift))


def errors(piece: Signals, links: LinkModel) -> dict[str, list[float]]:
    """RMSE of each model, Nm."""
    q, dq, ddq = piece.q_rad, piece.dq_rad_s, piece.ddq_rad_s2
    left, sign, now = piece.tau_nm - links.torque(q, dq, ddq), np.tanh(dq / COULOMB_WIDTH_RAD_S), shipped_arm().dynamics
    friction, damping = now.friction_nm * sign, now.damping_nm_s * dq
    models = {
        "links alone": 0.0,
        "before: + armature": BEFORE["armature"] * ddq,
        "before: + Coulomb friction": BEFORE["friction"] * sign,
        "before: + damping": BEFORE["damping"] * dq,
        "before: all": BEFORE["armature"] * ddq + BEFORE["friction"] * sign + BEFORE["damping"] * dq,
        "now: + Coulomb friction": friction,
        "now: all": friction + damping + now.armature_kg_m2 * ddq,
        "published friction": published_friction(dq),
    }
    return {name: rms(piece.smooth(left - model)[piece.rows]) for name, model in models.items()}


def halves(piece: Signals, links: LinkModel) -> dict[str, Any]:
    """Fits to either half, without a prior to speak of, and what they leave of the other half beside `now: all`."""
    limits, zero = load_limits(), np.zeros(7)
    nothing = ArmDynamics(friction_nm=zero, damping_nm_s=zero, armature_kg_m2=zero, offset_nm=zero)
    middle = len(piece.t_s) // 2
    parts = [cut(piece, slice(None, middle)), cut(piece, slice(middle, None))]
    found = {}
    for name, fitted, other in (("first", parts[0], parts[1]), ("second", parts[1], parts[0])):
        fit = fit_plant([fitted], links, limits, nothing, np.random.default_rng(0), payload=False).dynamics
        left = other.tau_nm - links.torque(other.q_rad, other.dq_rad_s, other.ddq_rad_s2)
        own = fit.torque(limits, other.q_rad, other.dq_rad_s, other.ddq_rad_s2) - fit.offset_nm
        found[name] = {
            "friction_nm": rounded(fit.friction_nm),
            "damping_nm_s": rounded(fit.damping_nm_s),
            "armature_kg_m2": rounded(fit.armature_kg_m2),
            "offset_nm": rounded(fit.offset_nm),
            "other_half_nm": rms(other.smooth(left - own)[other.rows]),
            "other_half_now_nm": errors(other, links)["now: all"],
            "other_half_links_nm": errors(other, links)["links alone"],
        }
    return found


def cut(piece: Signals, rows: slice) -> Signals:
    return Signals(
        rate_hz=piece.rate_hz,
        t_s=piece.t_s[rows],
        q_rad=piece.q_rad[rows],
        dq_rad_s=piece.dq_rad_s[rows],
        ddq_rad_s2=piece.ddq_rad_s2[rows],
        tau_nm=piece.tau_nm[rows],
    )


def rms(values: Array) -> list[float]:
    return rounded(np.sqrt((values**2).mean(axis=0)))


def rounded(values: Array) -> list[float]:
    return [round(float(v), 4) for v in values]


def whole(piece: Signals, links: LinkModel) -> dict[str, Any]:
    """The fit to all of the log: value and standard deviation by parameter."""
    zero = np.zeros(7)
    nothing = ArmDynamics(friction_nm=zero, damping_nm_s=zero, armature_kg_m2=zero, offset_nm=zero)
    fit = fit_plant([piece], links, load_limits(), nothing, np.random.default_rng(0), payload=False)
    free = fit_plant([piece], links, load_limits(), nothing, np.random.default_rng(0))
    mass = next(e for e in free.estimates if e.kind.name == "payload mass")
    return {
        "lag_ms": round(1e3 * fit.dynamics.lag_s, 2),
        "estimates": {e.name: [round(e.value, 4), round(e.sigma, 4)] for e in fit.estimates},
        "payload_kg_if_one_were_sought": [round(mass.value, 3), round(mass.sigma, 3)],
    }


def table(figures: dict[str, Any]) -> str:
    """In Markdown."""
    lines = [f"Torque RMSE in Nm, joints 1 to 7, over 10 Hz; {figures['log']}.", ""]
    lines += ["| model | 1 | 2 | 3 | 4 | 5 | 6 | 7 |", "|---|---|---|---|---|---|---|---|"]
    for name, row in figures["errors"].items():
        lines.append(f"| {name} | " + " | ".join(f"{v:.3f}" for v in row) + " |")
    for half, row in figures["halves"].items():
        for key, label in (("other_half_links_nm", "links alone"), ("other_half_now_nm", "now: all")):
            lines.append(
                f"| not fitted by the {half} half: {label} | " + " | ".join(f"{v:.3f}" for v in row[key]) + " |"
            )
        fit = " | ".join(f"{v:.3f}" for v in row["other_half_nm"])
        lines.append(f"| ... and a fit to the {half} half | {fit} |")
    lines += ["", "| fitted to all of it | 1 | 2 | 3 | 4 | 5 | 6 | 7 |", "|---|---|---|---|---|---|---|---|"]
    estimates = figures["whole"]["estimates"]
    for kind, unit in (("friction", "Nm"), ("damping", "Nm s/rad"), ("armature", "kg m2"), ("offset", "Nm")):
        cells = [estimates[f"{kind} joint {j}"] for j in range(1, 8)]
        lines.append(f"| {kind} / {unit} | " + " | ".join(f"{v:.3f} ± {s:.3f}" for v, s in cells) + " |")
    mass, sigma = figures["whole"]["payload_kg_if_one_were_sought"]
    lines += [
        "",
        f"Torques lag by {figures['whole']['lag_ms']} ms. A payload, sought: {mass} ± {sigma} kg; there is none.",
    ]
    return "\n".join(lines) + "\n"


def main(
    log: tyro.conf.Positional[Path],
    /,
    hand: bool = False,
    source: str = SOURCE,
    out: Path = Path("benchmarks/results/calibration"),
) -> None:
    limits = load_limits()
    links = links_of(limits, hand=hand)
    (piece,) = (prepare(piece) for piece in read_logs((log,), limits))
    figures = {
        "log": source,
        "log_sha256": hashlib.sha256(log.read_bytes()).hexdigest(),
        "errors": errors(piece, links),
        "halves": halves(piece, links),
        "whole": whole(piece, links),
    }
    made = provenance(f"python benchmarks/arm_model.py {log.name}", 0, ("numpy", "scipy", "mujoco"))
    out.mkdir(parents=True, exist_ok=True)
    content = {"provenance": made, **figures}
    (out / "arm_model.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (out / "arm_model.md").write_text(table(figures), encoding="utf-8")
    print(table(figures))


if __name__ == "__main__":
    tyro.cli(main)
