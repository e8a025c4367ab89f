"""How well latencies are found: of commands and joint states from an arm's log, of a camera from what it saw meanwhile.

Commands: the twin, its commands and states late as a rig says (drawn), is led about behind its gate, with starts from
rest; its log is what a recorder would hold: trajectories with the times at which they were sent, joint states 100 times
a second, at odd times, with encoder noise. Each log is read with the driver's reference and without. Cameras: an arm
sways, a camera that may stand anywhere sees a tag on its flange, late, with noise and strays.

    OMP_NUM_THREADS=1 python benchmarks/calibrate_latency.py --out benchmarks/results/calibration/latency.json
Writes OUT.json with every draw and its provenance, and a table OUT.md beside it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from skimo_calibration.rigid import flange_poses, turn
from skimo_calibration.timing.latency import command_timing
from skimo_calibration.timing.seen import camera_shift
from skimo_calibration.timing.timing import ArmLog, Sent, Track
from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.types import Array
from skimo_core.control.commander import Arm, Commander
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig import Latency, Made, Rig
from skimo_core.domain.robot import load_limits
from skimo_core.process.provenance import provenance
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend
from skimo_sim.condition import load_condition
from skimo_sim.twins import make_twin

STATE_S = 0.01
"""Between joint states, on average."""
ENCODER_RAD = 1e-4
TICK_S = 0.002
"""The twin takes commands up at whole physics steps, so latencies are drawn in these."""
COMMAND_TICKS, PROMPT_TICKS = (9, 23), (0, 8)
"""What shows, and what hardly does: actuation lets the path under way go on for 12 ms after a command was sent."""
STATES_S = (0.0, 0.01)
CHANGES, RUN, REST = 4, 20, 4
"""Control periods between changes of speed, led without a pause, and without a command."""
CAMERA_S = (0.0, 0.12)
CAMERA_HZ, CAMERA_NOISE_M, STRAYS = 15.0, 1.5e-3, 0.03
SEEN_S = 30.0
DOMAIN, PANDA = load_domain(), load_limits("panda")
PAPERS = load_condition("papers", DOMAIN)
MADE = Made(date=datetime.date(2026, 1, 15), method="drawn")


def rig_of(command_s: float, state_s: float) -> Rig:
    """A rig of a cell whose commands and states are so late."""
    command, state = (Latency(latency_s=s, sigma_s=0.0, made=MADE) for s in (command_s, state_s))
    return Rig(name="drawn", robot="panda", command=command, state=state)


class Flight:
    """Leads a twin about behind its gate, and keeps its log."""

    def __init__(self, twin: SimulatedBackend, seed: int, noise_rad: float = ENCODER_RAD) -> None:
        self.twin, self.rng, self._noise_rad = twin, np.random.default_rng(seed), noise_rad
        self.sent: list[Sent] = []
        self._rows: list[tuple[float, Array, Array]] = []
        self._gate = Gate(PANDA, cell=load_cell("open"))
        self._arm = GatedBackend(twin, self._gate, self._hear)
        self._arm.reset("kitchen", seed)
        self._commander = Commander(PANDA, DOMAIN.action, Arm.of(self._arm))
        self._commander.reset(self._arm.read().reference_q_rad, twin.now_s())

    def _hear(self, decision: Decision) -> None:
        """What the gate lets through is what the driver is sent, then and there."""
        if decision.command is not None:
            self.sent.append(Sent(sent_s=self.twin.now_s(), trajectory=decision.command.trajectory))
            self._commander.confirm(decision.command.trajectory)

    def fly(self, seconds: float) -> ArmLog:
        """The log of so long a flight."""
        self._pass(0.5)
        action_A, period_s = np.zeros(DOMAIN.action.size, np.float32), DOMAIN.action.period_s
        for k in range(round(seconds / period_s)):
            if k % CHANGES == 0:
                off_rad = self.twin.read().q_rad - PANDA.home_q_rad
                action_A[:7] = np.clip(self.rng.uniform(-0.3, 0.3, 7) - 0.3 * off_rad, -0.4, 0.4)
            if k % (RUN + REST) < RUN:
                self._commander.send(action_A, self.twin.now_s())
            self._pass(period_s)
            self._commander.settle()
        times_s, q_rad, told_rad = (np.array(column, np.float64) for column in zip(*self._rows, strict=True))
        return ArmLog(
            name="flight",
            digest="",
            states=Track(what="joint states", t_s=times_s, values=q_rad),
            reference=Track(what="the driver's reference", t_s=times_s, values=told_rad),
            sent=tuple(self.sent),
        )

    def _pass(self, seconds: float) -> None:
        cuts_s = np.sort(self.rng.uniform(0.0, seconds, round(seconds / STATE_S) - 1))
        for step_s in np.diff([0.0, *cuts_s.tolist(), seconds]).tolist():
            self._arm.advance(step_s)
            if self._rows and self.twin.now_s() <= self._rows[-1][0]:
                continue  # less than a step of the physics has passed
            q_rad = self.twin.read().q_rad + self.rng.normal(0.0, self._noise_rad, 7)
            self._rows.append((self.twin.now_s(), q_rad, self.twin.desired()[0]))


def flown(command_s: float, state_s: float, seed: int, seconds: float, twin: str = "") -> ArmLog:
    """The log of a twin whose commands and states are so late."""
    return Flight(make_twin(DOMAIN, name=twin, condition=PAPERS, rig=rig_of(command_s, state_s)), seed).fly(seconds)


def swaying(rng: np.random.Generator, seconds: float = SEEN_S) -> tuple[Track, Any]:
    """Joint states of an arm that sways, and where it is [K, 7] at any times [K]."""
    rates_hz, phases = rng.uniform(0.2, 0.5, 7), rng.uniform(0.0, 2 * np.pi, 7)
    swing_rad = np.array([0.3, 0.15, 0.3, 0.2, 0.3, 0.2, 0.3])

    def at(times_s: Array) -> Array:
        return PANDA.home_q_rad + swing_rad * np.sin(2 * np.pi * rates_hz * times_s[:, None] + phases)

    times_s = np.arange(0.0, seconds, STATE_S)
    noisy_rad = at(times_s) + rng.normal(0.0, ENCODER_RAD, (len(times_s), 7))
    return Track(what="joint states", t_s=times_s, values=noisy_rad), at


def sighted(rng: np.random.Generator, at: Any, late_s: float, point_m: Array, seconds: float = SEEN_S) -> Track:
    """Sightings [M, 3] of a point on the flange, from anywhere, stamped so late; a share of them stray."""
    stamps_s = np.cumsum(rng.uniform(0.8, 1.2, int(seconds * CAMERA_HZ)) / CAMERA_HZ)
    stamps_s = stamps_s[stamps_s < seconds]
    poses = flange_poses(PANDA, at(stamps_s - late_s))
    points_m = poses[:, :3, :3] @ point_m + poses[:, :3, 3]
    seen_m = points_m @ turn(rng.normal(size=3)).T + rng.normal(size=3)
    seen_m += rng.normal(0.0, CAMERA_NOISE_M, seen_m.shape)
    seen_m[rng.random(len(seen_m)) < STRAYS] += rng.normal(0.0, 0.1, 3)
    return Track(what="sightings", t_s=stamps_s, values=seen_m)


def commands(draws: int, seed: int, seconds: float) -> list[dict[str, float]]:
    """Errors of command and state latency, ms, for each draw."""
    rows = []
    for k in range(draws):
        rng = np.random.default_rng([seed, k])
        command_s, state_s = TICK_S * rng.integers(*COMMAND_TICKS), rng.uniform(*STATES_S)
        log = flown(command_s, state_s, seed + k, seconds)
        row = {"command_ms": 1e3 * command_s, "state_ms": 1e3 * state_s}
        for name, given in (("reference", log), ("joints", replace(log, reference=None))):
            found = command_timing(given, rng)
            row |= {
                f"command_error_ms_{name}": 1e3 * (found.command.late_s - command_s),
                f"command_sigma_ms_{name}": 1e3 * found.command.sigma_s,
            }
            if found.state is not None:
                row["state_error_ms"] = 1e3 * (found.state.late_s - state_s)
        rows.append(row)
        print(json.dumps({key: round(value, 2) for key, value in row.items()}), flush=True)
    return rows


def prompt(draws: int, seed: int, seconds: float) -> list[dict[str, float]]:
    """Bounds on command latencies that hardly show, ms, for each draw; joint states alone."""
    rows = []
    for k in range(draws):
        rng = np.random.default_rng([seed, k, 2])
        command_s = TICK_S * rng.integers(*PROMPT_TICKS)
        found = command_timing(replace(flown(command_s, 0.0, seed + k, seconds), reference=None), rng)
        rows.append(
            {
                "command_ms": 1e3 * command_s,
                "at_most_ms": 1e3 * found.at_most_s,
                "error_ms": 1e3 * (found.command.late_s - command_s),
                "sigma_ms": 1e3 * found.command.sigma_s,
            }
        )
        print(json.dumps({key: round(value, 2) for key, value in rows[-1].items()}), flush=True)
    return rows


def cameras(draws: int, seed: int) -> list[dict[str, float]]:
    """Errors of a camera's latency, ms, for each draw; where the tag sits is known to a centimetre."""
    rows = []
    for k in range(draws):
        rng = np.random.default_rng([seed, k, 1])
        late_s, point_m = rng.uniform(*CAMERA_S), np.array([0.05, 0.0, 0.1])
        states, at = swaying(rng)
        seen = sighted(rng, at, late_s, point_m)
        found = camera_shift(states, seen, PANDA, "base", point_m + rng.normal(0.0, 0.01 / np.sqrt(3), 3), rng)
        rows.append(
            {
                "camera_ms": 1e3 * late_s,
                "camera_error_ms": 1e3 * (found.late_s - late_s),
                "camera_sigma_ms": 1e3 * found.sigma_s,
            }
        )
    return rows


def summary(rows: Sequence[dict[str, float]], error: str, sigma: str = "") -> dict[str, float]:
    """Median and worst error, ms, and how often it is within two sigmas."""
    errors = np.abs([row[error] for row in rows])
    figures = {"median_ms": float(np.median(errors)), "worst_ms": float(errors.max())}
    if sigma:
        figures["within_2_sigma"] = float(np.mean(errors <= 2 * np.array([row[sigma] for row in rows])))
    return figures


def table(figures: dict[str, dict[str, float]], draws: int) -> str:
    """As Markdown."""
    lines = [
        f"Latencies found against those drawn, {draws} draws (`benchmarks/calibrate_latency.py`).",
        "",
        "| | median error / ms | worst / ms | within 2 sigma |",
        "|---|---|---|---|",
    ]
    for name, row in figures.items():
        share = f"{row['within_2_sigma']:.0%}" if "within_2_sigma" in row else ""
        lines.append(f"| {name} | {row['median_ms']:.2f} | {row['worst_ms']:.2f} | {share} |")
    return "\n".join(lines) + "\n"


def main(*, draws: int = 20, seconds: float = 20.0, seed: int = 0, out: Path | None = None) -> None:
    """Measure.

    Args:
        draws: of each kind.
        seconds: of each flight.
        seed: of the draws.
        out: result file; a table stands beside it as .md.
    """
    command_rows, camera_rows = commands(draws, seed, seconds), cameras(draws, seed)
    prompt_rows = prompt(draws // 2, seed, seconds / 2)
    figures = {
        "command, driver's reference in the log": summary(
            command_rows, "command_error_ms_reference", "command_sigma_ms_reference"
        ),
        "command, joint states alone": summary(command_rows, "command_error_ms_joints", "command_sigma_ms_joints"),
        "joint states' stamps (reference in the log)": summary(command_rows, "state_error_ms"),
        "command below 16 ms, joint states alone (bounded from above)": summary(prompt_rows, "error_ms", "sigma_ms"),
        "camera": summary(camera_rows, "camera_error_ms", "camera_sigma_ms"),
    }
    print(table(figures, draws))
    if out is not None:
        command = f"python benchmarks/calibrate_latency.py --draws {draws} --seconds {seconds:g} --seed {seed}"
        made = provenance(command, seed, ("numpy", "scipy", "mujoco"))
        rows = {"commands": command_rows, "prompt": prompt_rows, "cameras": camera_rows}
        content = {"provenance": made, "figures": figures, **rows}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        out.with_suffix(".md").write_text(table(figures, draws), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
