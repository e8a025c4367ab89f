"""`skimo promises`: what a bundle's predicted successes are worth, and the bundle with them calibrated.

The bundle flies the domain's tasks and orders of four sub-tasks drawn at random, turn and turn about, under every
condition asked for. How often what its plans predict comes true is fitted as `skimo_core.contract.policy.Calibration`
has it, and written into a new bundle: the same graphs, the old one as its parent. What the calibration is worth is told
on episodes that it was not fitted to: five times over, each fifth by the others (cross-validation).

With `--recordings` it is what the bundle's plans promised on a robot, and what came of them there. A robot's plans are
few, so the fit stays near the calibration that the bundle has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tyro
from tqdm import tqdm

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.contract.policy import Calibration, evidence
from skimo_core.domain.domain import load_domain
from skimo_sim.condition import load_conditions

from .domains import domain_to_fly
from .inprocess import World, factory_for, paired_jobs, run_jobs
from .orders import mixed_orders
from .recorded import recorded_plans
from .statistics import reliability
from .trials import EpisodeResult

FOLDS = 5
RIDGE = 1e-2
"""Penalty on the squared weights: it matters only where few plans tell them apart."""
RIDGE_RECORDED = 1.0
"""Penalty on the squared change of the weights that the bundle has."""
AS_IT_STANDS = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""The calibration that changes nothing."""
NEWTON_STEPS = 50
LEAST_PLANS = 50

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Calibrate a bundle's success probability by what comes of its plans in the twin.

    Attributes:
        out: the new bundle's folder.
        recordings: instead of the twin, folders of a robot's recordings: of the bundle's plans in them. The options
            below are the twin's.
        bundle: path of a bundle, or the name of one that ships.
        domain: what the tasks share: a domain's name, or a file; empty: the one that the bundle carries or names.
        condition: names or files joined by commas, or all that ship, as in skimo eval.
        episodes: how many, under each condition.
        seed: of the first; choose others than those that the bundle is evaluated on.
        workers: processes; 0 means one per core.
    """

    out: Path
    bundle: str = "kitchen"
    domain: str = ""
    recordings: tuple[Path, ...] = ()
    condition: str = "all"
    episodes: int = 10
    seed: int = 300_000
    workers: int = 0

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.seed < 0 or self.workers < 0:
            raise SpecError(f"episodes {self.episodes} (>= 1), seed {self.seed} (>= 0), workers {self.workers} (>= 0)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """What plans said and what came of them: evidence [N, 6], outcome and episode [N]."""

    evidence_NF: Array
    came_N: npt.NDArray[np.bool_]
    episode_N: npt.NDArray[np.int64]

    @classmethod
    def of(cls, results: Sequence[EpisodeResult]) -> Plans:
        """All plans of some episodes.

        Raises:
            SpecError: too few to fit anything to.
        """
        plans = [(k, plan) for k, result in enumerate(results) for plan in result.plans]
        if len(plans) < LEAST_PLANS:
            raise SpecError(
                f"{len(plans)} plans in {len(results)} episodes, at least {LEAST_PLANS}; ask for more episodes"
            )
        said = [p.success_probability if np.isnan(p.predicted_success) else p.predicted_success for _, p in plans]
        return cls(
            evidence_NF=np.stack([evidence(s, p.value, p.spent) for s, (_, p) in zip(said, plans)]),
            came_N=np.array([p.achieved for _, p in plans]),
            episode_N=np.array([k for k, _ in plans]),
        )


def main(argv: list[str]) -> int:
    """Calibrate a bundle's success probability."""
    try:
        args = tyro.cli(Args, args=argv, prog="skimo promises")
        calibrate(args)
    except SkimoError as error:
        print(f"skimo promises: {error}", file=sys.stderr)
        return 1
    return 0


def calibrate(args: Args) -> None:
    """Fly, fit, tell, write."""
    from skimo_server.bundle import load_bundle, resolve_bundle, rewrite_bundle

    folder = resolve_bundle(args.bundle)
    args = replace(args, domain=domain_to_fly(args.bundle, args.domain))
    bundle = load_bundle(folder)
    if args.out.exists():
        raise SpecError(f"{args.out} exists, and bundles are immutable; choose another --out")
    if args.recordings:
        results = recorded_plans(args.recordings, load_domain(args.domain), bundle.manifest)
    else:
        results = list(_flown(args, folder))
    raw = [(p.success_probability, p.achieved) for r in results for p in r.plans]
    plans = Plans.of(results)
    near = astuple(Calibration.of(bundle.manifest.planner.calibration or AS_IT_STANDS))
    penalty = {"near_F": np.array(near), "ridge": RIDGE_RECORDED} if args.recordings else {}
    held_out = cross_validated(plans, **penalty)
    print(f"{len(results)} episodes, {len(raw)} plans; predicted: came true (plans)")
    for name, pairs in (("before", raw), ("after, on episodes not fitted to", list(zip(held_out, plans.came_N)))):
        bins = [b for b in reliability(pairs) if b["count"]]
        print(f"{name}: " + "  ".join(f"{b['mean_predicted']:.2f}: {b['realised']:.2f} ({b['count']})" for b in bins))
        print(f"  Brier score {np.mean([(p - came) ** 2 for p, came in pairs]):.3f}")
    found = fit(plans.evidence_NF, plans.came_N, **penalty)
    planner = replace(bundle.manifest.planner, calibration=tuple(round(float(w), 4) for w in found))
    made = rewrite_bundle(bundle, args.out, planner=planner)
    print(f"{Calibration.of(planner.calibration)}\nwrote {args.out} id {made.bundle_id} parent {made.parent_id}")


def fit(evidence_NF: Array, came_N: npt.NDArray[np.bool_], near_F: Array | float = 0.0, ridge: float = RIDGE) -> Array:
    """Weights [F] of the logistic regression with a penalty on what they are away from `near_F`, by Newton's method."""
    weights_F = np.zeros(evidence_NF.shape[1]) + near_F
    for _ in range(NEWTON_STEPS):
        p_N = probabilities(evidence_NF, weights_F)
        slope_F = evidence_NF.T @ (came_N - p_N) - ridge * (weights_F - near_F)
        curvature_FF = (evidence_NF.T * (p_N * (1.0 - p_N))) @ evidence_NF + ridge * np.eye(len(weights_F))
        weights_F = weights_F + np.linalg.solve(curvature_FF, slope_F)
    return weights_F


def probabilities(evidence_NF: Array, weights_F: Array) -> Array:
    """Of coming true [N]."""
    return 1.0 / (1.0 + np.exp(-np.clip(evidence_NF @ weights_F, -30.0, 30.0)))


def cross_validated(plans: Plans, near_F: Array | float = 0.0, ridge: float = RIDGE) -> Array:
    """Each plan's calibrated probability [N] by a fit to the episodes of the other folds."""
    fold_N, found_N = plans.episode_N % FOLDS, np.zeros(len(plans.came_N))
    for fold in range(FOLDS):
        its = fold_N == fold
        weights_F = fit(plans.evidence_NF[~its], plans.came_N[~its], near_F, ridge)
        found_N[its] = probabilities(plans.evidence_NF[its], weights_F)
    return found_N


def _flown(args: Args, folder: Path) -> Iterator[EpisodeResult]:
    domain = load_domain(args.domain)
    world = World(domain=args.domain)
    conditions = load_conditions(args.condition, domain)
    tasks = mixed_orders(domain, args.episodes, args.seed)
    jobs = paired_jobs(tasks, conditions.values(), args.seed)
    flown = run_jobs(jobs, factory_for(folder, {}), world, workers=args.workers or (os.cpu_count() or 1))
    yield from tqdm(flown, desc="flying", total=len(jobs), unit="episode", mininterval=1.0)
