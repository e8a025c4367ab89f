"""The command `skimo bench`: how long plans and actions take on this machine, as percentiles, with provenance.

One warm process, one plan after the other as a control loop asks for them (each from another observation, warm-started
by the last). The bundle is a real one, or random weights of the size of SkiMo's kitchen networks: time does not depend
on the weights. Milliseconds are wall-clock.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from skimo_core.contract.errors import SkimoError
from skimo_core.contract.policy import Goals

from .bundle import load_bundle, resolve_bundle
from .engine import Engine
from .planner import Planner
from .planner_config import PlannerConfig, with_settings
from .testing import make_bundle
from .timing import percentiles

RANDOM = "random"
SUBTASKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Measure plan and action latency against the number of samples."""

    bundle: str = RANDOM
    """a bundle's folder or shipped name; "random": untrained networks of the size of SkiMo's kitchen"""
    samples: tuple[int, ...] = (128, 256, 384, 512)
    """candidates per round, one row of the table each"""
    planner: tuple[str, ...] = field(default=())
    """settings on top of the bundle's own, e.g. preset=skimo_table_2"""
    plans: int = 50
    """plans per row"""
    workers: int = 1
    """threads that share the rows of a large batch"""
    seed: int = 0
    json: Path | None = None
    """where to write the result with its provenance"""


def bench(argv: list[str]) -> int:
    """Measure plan and action latency of a bundle on this machine."""
    options = tyro.cli(Bench, args=argv, prog="skimo bench")
    try:
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine.load(load_bundle(_bundle(options.bundle, Path(folder))), workers=options.workers)
        result = measure(engine, options)
    except SkimoError as error:
        print(f"skimo bench: {error}", file=sys.stderr)
        return 1
    for row in result["rows"]:
        print("samples {samples:5d}   plan ms p50 {p50:7.2f}  p90 {p90:7.2f}  p99 {p99:7.2f}".format(**row))
    print("action        ms p50 {p50:7.3f}  p90 {p90:7.3f}  p99 {p99:7.3f}".format(**result["action_ms"]))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        print(f"wrote {options.json}")
    return 0


def measure(engine: Engine, options: Bench) -> dict[str, Any]:
    """Runs all rows; returns plain JSON values."""
    rng = np.random.default_rng(options.seed)
    config = with_settings(engine.manifest.planner, options.planner)
    size = engine.manifest.observation.size
    observations_NO = rng.standard_normal((options.plans, size)).astype(np.float32)
    channels = np.arange(SUBTASKS) % size
    weights_KO = np.zeros((SUBTASKS, size), np.float32)
    weights_KO[np.arange(SUBTASKS), channels] = 1.0
    thresholds_K = np.full(SUBTASKS, 0.3, np.float32)
    goals = Goals(values_KO=np.zeros_like(weights_KO), weights_KO=weights_KO, thresholds_K=thresholds_K)
    rows = []
    for samples in options.samples:
        planner = Planner(engine, replace(config, samples=samples, elites=min(config.elites, samples)))
        rows.append({"samples": samples, **_plan_row(planner, observations_NO, goals)})
    skill_Z = np.zeros(engine.skill_dim, np.float32)
    action_ms = percentiles([_milliseconds(lambda: engine.act(observations_NO[0], skill_Z)) for _ in range(500)])
    return {
        "rows": rows,
        "action_ms": action_ms,
        "planner": asdict(config),
        "sizes": engine.manifest.sizes,
        "bundle": options.bundle if options.bundle == RANDOM else engine.manifest.bundle_id,
        "provenance": provenance(options),
    }


def provenance(options: Bench) -> dict[str, Any]:
    """What was run where: command, commit, seed, processor, versions; no host name, no paths."""
    words = ["skimo bench", *(["--planner", *options.planner] if options.planner else [])]
    words += ["--samples", *map(str, options.samples), "--plans", str(options.plans), "--workers", str(options.workers)]
    return {
        "command": " ".join(words),
        "seed": options.seed,
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("numpy", "onnxruntime")},
        "load_average_1min": round(os.getloadavg()[0], 2),
    }


def _bundle(name: str, folder: Path) -> Path:
    if name != RANDOM:
        return resolve_bundle(name)
    make_bundle(folder / "random", latent_dim=256, hidden=128, layers=4, planner=PlannerConfig())
    return folder / "random"


def _plan_row(planner: Planner, observations_NO: np.ndarray, goals: Goals) -> dict[str, Any]:
    total_ms, stages, warm_PZ = [], [], None
    for seed, observation_O in enumerate(observations_NO):
        began_s = time.perf_counter()
        plan = planner.plan(observation_O, goals, seed=seed, warm_start_PZ=warm_PZ)
        total_ms.append(1e3 * (time.perf_counter() - began_s))
        stages.append(plan.timings_ms)
        warm_PZ = plan.warm_start_PZ
    medians = {name: float(np.median([s.get(name, 0.0) for s in stages])) for name in stages[-1]}
    return {**percentiles(total_ms), "stages_p50": medians}


def _milliseconds(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began_s)


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
