"""`skimo twin check`: how well a commanded trajectory is followed, and how fast the twin is.

The sweep is seeded: each episode draws joint velocities anew every half second and runs them through actuation, as a
policy's actions would be. Errors are measured - desired joint position at the end of each physics slice of 8 ms.
Free motion is reported apart from the slices in which the arm touches something or is on its way back from that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from skimo_core.contract.types import Array
from skimo_core.control.actuate import Actuator
from skimo_core.domain.starts import Starts

from .scenes.physics import mujoco
from .twin import Twin

SLICE_S = 0.008
BACK_RAD = 0.005
"""After a touch, motion counts as free from when every joint is as near to its target as this again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What was measured.

    Attributes:
        errors_rad: [K, 7] tracking errors.
        free: [K] whether the arm was not held back by something that it touches or touched.
        wall_s: time that the physics took.
        simulated_s: how much was simulated.
    """

    errors_rad: Array
    free: np.ndarray
    wall_s: float
    simulated_s: float


def sweep(twin: Twin, *, episodes: int, steps: int, seed: int, amplitude: float = 0.6) -> Sweep:
    """Run a seeded sweep of `episodes` of `steps` control periods with actions up to `amplitude`."""
    rng = np.random.default_rng(seed)
    actuator = Actuator(twin.limits, twin.domain.action)
    arm = arm_bodies(twin.model)
    period_s = twin.domain.action.period_s
    slices = round(period_s / SLICE_S)
    errors, free, wall_s = [], [], 0.0
    for episode in range(episodes):
        twin.reset(seed=episode)
        actuator.reset(twin.read().q_rad, twin.now_s())
        action, held_back = np.zeros(twin.domain.action.size, np.float32), False
        for step in range(steps):
            if step % 6 == 0:
                action = rng.uniform(-amplitude, amplitude, action.size).astype(np.float32)
            command = actuator.command(action, twin.now_s())
            begin_s = time.perf_counter()
            twin.write(command)
            for _ in range(slices):
                twin.advance(SLICE_S)
                error = twin.read().q_rad - twin.desired()[0]
                held_back = touches(twin, arm) or (held_back and bool(np.abs(error).max() > BACK_RAD))
                errors.append(error)
                free.append(not held_back)
            wall_s += time.perf_counter() - begin_s
    return Sweep(
        errors_rad=np.array(errors),
        free=np.array(free),
        wall_s=wall_s,
        simulated_s=episodes * steps * period_s,
    )


def steps_per_second(twin: Twin, *, steps: int, seed: int) -> tuple[float, float]:
    """Control periods simulated in a second of processor time and of wall time, under a seeded sweep."""
    rng = np.random.default_rng(seed)
    actuator = Actuator(twin.limits, twin.domain.action)
    twin.reset()
    actuator.reset(twin.read().q_rad, twin.now_s())
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for _ in range(steps):
        action = rng.uniform(-0.6, 0.6, twin.domain.action.size).astype(np.float32)
        twin.write(actuator.command(action, twin.now_s()))
        twin.advance(twin.domain.action.period_s)
    return steps / (time.process_time() - cpu_s), steps / (time.perf_counter() - wall_s)


def report(arm: str, *, episodes: int, steps: int, seed: int) -> dict[str, Any]:
    """Measure, and return plain numbers for a result file."""
    twin = Twin(arm, Starts())
    measured = sweep(twin, episodes=episodes, steps=steps, seed=seed)
    per_cpu, per_wall = steps_per_second(twin, steps=400, seed=seed)
    return {
        "arm": arm,
        "episodes": episodes,
        "steps": steps,
        "physics_step_s": float(twin.model.opt.timestep),
        "free_fraction": float(measured.free.mean()),
        "free_motion_mrad": statistics_mrad(measured.errors_rad[measured.free]),
        "all_motion_mrad": statistics_mrad(measured.errors_rad),
        "control_steps_per_cpu_second": round(per_cpu, 1),
        "control_steps_per_wall_second": round(per_wall, 1),
        "times_real_time": round(per_cpu * twin.domain.action.period_s, 1),
    }


def statistics_mrad(errors_rad: Array) -> dict[str, list[float]]:
    """Root mean square, 99th percentile and largest absolute error of [K, 7], per joint, mrad."""
    size = np.abs(errors_rad) * 1e3
    rows = {"rms": np.sqrt((size**2).mean(axis=0)), "p99": np.percentile(size, 99, axis=0), "max": size.max(axis=0)}
    return {name: [round(float(x), 4) for x in row] for name, row in rows.items()}


def arm_bodies(model: mujoco.MjModel) -> set[int]:
    """Bodies of arm and hand."""
    return {b for b in range(model.nbody) if model.body(b).name.startswith("panda")}


def touches(twin: Twin, arm: set[int]) -> bool:
    """Whether arm or hand touch anything."""
    contacts = twin.data.contact.geom[: twin.data.ncon]
    return any(int(b) in arm for b in twin.model.geom_bodyid[contacts].ravel())
