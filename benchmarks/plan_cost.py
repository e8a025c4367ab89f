"""What a plan costs, in one run, interleaved: ours, the same search by torch eager, and the matrix products alone.

    plan       as the bundle plans: the distilled network, fewer candidates in the later rounds
    ensemble   the same search with all members of the ensemble, and as many candidates in every round
    eager      each of the two with torch's modules in the networks' place, nothing else changed
    floor      the products of each plan's networks alone, by whichever of numpy and torch takes less

A block of each is timed in turn, round after round, so that a machine whose processors are lent to others slows all of
them alike. Milliseconds are wall-clock.

    python benchmarks/plan_cost.py --bundle kitchen --run runs/kitchen --out benchmarks/results/plan_cost.json
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

THREADS = int(sys.argv[sys.argv.index("--threads") + 1]) if "--threads" in sys.argv else 1
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(THREADS)  # before numpy and torch are loaded, which look once

import time  # noqa: E402

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
import tyro  # noqa: E402

from skimo_core.domain.domain import load_domain  # noqa: E402
from skimo_core.process.provenance import provenance  # noqa: E402
from skimo_learn.export import load_run  # noqa: E402
from skimo_learn.models.agent import SkillModel as TorchModel  # noqa: E402
from skimo_server.bundle import Bundle, load_bundle, resolve_bundle  # noqa: E402
from skimo_server.engine import Engine  # noqa: E402
from skimo_server.model import FloatArray, SkillModel  # noqa: E402
from skimo_server.parity import unpack  # noqa: E402
from skimo_server.planner import Planner  # noqa: E402
from skimo_server.planner_config import PlannerConfig  # noqa: E402
from skimo_server.timing import percentiles  # noqa: E402

ALMOST_NOTHING = 1e-12  # of a penalty: asks for the ensemble and changes no score


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Time the plans of a bundle.

    Attributes:
        bundle: a folder, or a shipped name.
        run: the run that it was exported from, for torch's modules.
        blocks, plans: rounds of blocks, and plans in each block.
        threads: of every contestant.
        out: result file.
    """

    bundle: str = "kitchen"
    run: Path
    blocks: int = 12
    plans: int = 10
    threads: int = 1
    out: Path | None = None


class Eager:
    """torch's own modules, called as the engine is."""

    def __init__(self, model: TorchModel) -> None:
        self._model = model
        self.skill_dim = model.config.skill
        self.graphs = frozenset({"encode", "dynamics", "ensemble", "decode", "prior", "goal_value"})

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """`encode`, `decode`, `prior` and `goal_value` of the model."""
        function = getattr(self._model, name)

        @torch.inference_mode()
        def call(*arrays: FloatArray) -> Any:
            found = function(*(torch.from_numpy(np.require(array, requirements="CW")) for array in arrays))
            return tuple(t.numpy() for t in found) if isinstance(found, tuple) else found.numpy()

        return call

    @torch.inference_mode()
    def dynamics(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, None]:
        return self._model.step(torch.from_numpy(latent_BD), torch.from_numpy(skill_BZ)).numpy(), None

    @torch.inference_mode()
    def ensemble(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray]:
        latent, skill = torch.from_numpy(latent_BD), torch.from_numpy(skill_BZ)
        every = torch.stack(self._model.dynamics.each([latent] * len(self._model.dynamics.members), skill))
        return every.mean(0).numpy(), every.var(0, unbiased=False).mean(-1).sqrt().numpy()


class Counting:
    """Notes how many rows each network is asked for."""

    def __init__(self, model: SkillModel) -> None:
        self._model = model
        self.skill_dim, self.graphs = model.skill_dim, model.graphs
        self.calls: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arrays: FloatArray) -> Any:
            self.calls.append((name, len(arrays[0])))
            return getattr(self._model, name)(*arrays)

        return call


def products(bundle: Bundle) -> dict[str, list[np.ndarray]]:
    """The matrices [in, out] of each network."""
    found: dict[str, list[np.ndarray]] = {}
    for name, data in bundle.graphs.items():
        graph = onnx.load_from_string(data).graph
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        used = [weights[w] for node in graph.node if node.op_type in ("Gemm", "MatMul") for w in node.input[1:2]]
        found[name] = [w for w in used if w.ndim == 2]
    return found


class Floor:
    """The products of one plan's networks, and nothing else."""

    def __init__(self, calls: list[tuple[str, int]], matrices: dict[str, list[np.ndarray]]) -> None:
        rng = np.random.default_rng(0)
        sizes = Counter((rows, w.shape) for name, rows in calls for w in matrices[name])
        self._work = []
        for (rows, (inner, outer)), times in sizes.items():
            x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, inner), (inner, outer)))
            made = np.empty((rows, outer), np.float32)
            self._work.append((times, (x, w, made), tuple(map(torch.from_numpy, (x, w, made)))))
        self.flops = sum(2 * rows * inner * outer * times for (rows, (inner, outer)), times in sizes.items())

    def by_numpy(self) -> None:
        for times, (x, w, made), _ in self._work:
            for _ in range(times):
                np.matmul(x, w, out=made)

    @torch.inference_mode()
    def by_torch(self) -> None:
        for times, _, (x, w, made) in self._work:
            for _ in range(times):
                torch.mm(x, w, out=made)


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    bundle = load_bundle(resolve_bundle(args.bundle))
    manifest, matrices = bundle.manifest, products(bundle)
    observations = unpack(bundle.parity, manifest.sizes, manifest.graphs)["observations"][:, 0]
    goals = load_domain(manifest.domain.name).task().goals(0, manifest.observation.size)
    whole = replace(manifest.planner, later_samples=0, disagreement_weight=ALMOST_NOTHING)
    engine, eager = Engine.load(bundle, workers=args.threads), Eager(load_run(args.run).model)
    timed: dict[str, Callable[[int], object]] = {}
    floors: dict[str, Floor] = {}

    def planning(model: SkillModel, config: PlannerConfig) -> Callable[[int], object]:
        planner, warm = Planner(model, config), [None]

        def plan(index: int) -> None:
            seen_O = observations[index % len(observations)]
            warm[0] = planner.plan(seen_O, goals, seed=index, warm_start_PZ=warm[0]).warm_start_PZ

        return plan

    for name, config in (("plan", manifest.planner), ("ensemble", whole)):
        counting = Counting(engine)
        one = planning(counting, config)
        one(0)
        counting.calls.clear()
        one(1)  # warm-started, as all but the first are
        floors[name] = Floor(counting.calls, matrices)
        timed[name] = planning(engine, config)
        timed[f"{name}, eager"] = planning(eager, config)
        timed[f"{name}, products by numpy"] = lambda _, floor=floors[name]: floor.by_numpy()
        timed[f"{name}, products by torch"] = lambda _, floor=floors[name]: floor.by_torch()
    found: dict[str, list[float]] = {name: [] for name in timed}
    for block in range(args.blocks + 1):  # the first warms up
        for name, run in timed.items():
            for index in range(args.plans):
                began_s = time.perf_counter()
                run(block * args.plans + index)
                found[name] += [1e3 * (time.perf_counter() - began_s)] if block else []
    report(args, found, floors, manifest.bundle_id)


def report(args: Args, found: dict[str, list[float]], floors: dict[str, Floor], bundle_id: str) -> None:
    """Print a row for each, and write them with where they come from."""
    rows: dict[str, Any] = {name: percentiles(times) for name, times in found.items()}
    for name, floor in floors.items():
        best = min(rows[f"{name}, products by {library}"]["p50"] for library in ("numpy", "torch"))
        rows[name] |= {"gflop": floor.flops / 1e9, "floor_ms": best, "over_floor": rows[name]["p50"] / best}
        rows[name]["eager_over_ours"] = rows[f"{name}, eager"]["p50"] / rows[name]["p50"]
    for name, row in rows.items():
        more = f"  {row['over_floor']:.2f} x floor, eager {row['eager_over_ours']:.2f} x" if "gflop" in row else ""
        print(f"{name:28} ms p50 {row['p50']:6.2f}  p99 {row['p99']:6.2f}{more}")
    if args.out is not None:
        command = f"python benchmarks/plan_cost.py --bundle {args.bundle} --run runs/{args.run.name}"
        command += f" --blocks {args.blocks} --plans {args.plans} --threads {args.threads}"
        content = {"provenance": provenance(command=command, seed=0), "bundle_id": bundle_id, "rows": rows}
        args.out.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))
