"""Calibrating what plans promise: the fit finds the weights that made the outcomes, and is judged on other episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Calibration, Plan, evidence
from skimo_eval.promises import Plans, cross_validated, fit, main, probabilities
from skimo_eval.trials import EpisodeResult, PlanRecord
from skimo_server.bundle import load_bundle, resolve_bundle

TRUE_F = np.array([1.0, 0.4, 0.2, -1.5, -1.0])


def episodes(count: int = 400) -> list[EpisodeResult]:
    """Episodes of eight plans whose outcomes are drawn by known weights."""
    rng, found = np.random.default_rng(0), []
    for seed in range(count):
        plans = []
        for spent in range(8):
            said, value = float(rng.choice([0.0, 0.5, 1.0], p=[0.2, 0.2, 0.6])), float(rng.uniform(0.05, 0.95))
            came = rng.random() < probabilities(evidence(said, value, spent)[None], TRUE_F)[0]
            plan = PlanRecord(
                step=spent,
                subtask="kettle",
                value=value,
                success_probability=said,
                predicted_O=np.zeros(0, np.float32),
            )
            plan.achieved, plan.spent = bool(came), spent
            plans.append(plan)
        found.append(EpisodeResult(seed=seed, task=("kettle",), plans=plans))
    return found


def test_the_fit_finds_what_made_the_outcomes() -> None:
    plans = Plans.of(episodes())
    np.testing.assert_allclose(fit(plans.evidence_NF, plans.came_N), TRUE_F, atol=0.25)
    said = cross_validated(plans)
    bins = np.minimum((10 * said).astype(int), 9)
    for k in range(10):
        its = bins == k
        if its.sum() >= 100:
            assert abs(said[its].mean() - plans.came_N[its].mean()) < 0.07


def test_a_fold_is_judged_by_the_others_alone() -> None:
    plans = Plans.of(episodes(50))
    turned = Plans(
        evidence_NF=plans.evidence_NF, came_N=plans.came_N ^ (plans.episode_N % 5 == 0), episode_N=plans.episode_N
    )
    its = plans.episode_N % 5 == 0
    np.testing.assert_array_equal(cross_validated(plans)[its], cross_validated(turned)[its])
    assert not np.allclose(cross_validated(plans)[~its], cross_validated(turned)[~its])


def test_what_was_calibrated_is_fitted_by_what_the_model_said() -> None:
    plain, calibrated = episodes(20), episodes(20)
    for result in calibrated:
        for plan in result.plans:
            plan.predicted_success, plan.success_probability = plan.success_probability, 0.123
    np.testing.assert_array_equal(Plans.of(plain).evidence_NF, Plans.of(calibrated).evidence_NF)


def test_a_calibration_weighs_what_it_was_fitted_on() -> None:
    skills = np.zeros((3, 10), np.float32)
    plan = Plan(
        skills_PZ=skills, warm_start_PZ=skills, value=0.3, predicted_PO=np.zeros((3, 30), np.float32),
        success_probability=1.0, bundle_id="b",
    )  # fmt: skip
    for spent in (0, 3):
        told = Calibration.of(TRUE_F)(plan, spent)
        assert told.success_probability == pytest.approx(probabilities(evidence(1.0, 0.3, spent)[None], TRUE_F)[0])
        assert told.predicted_success == 1.0


def test_too_few_plans_are_refused() -> None:
    with pytest.raises(SpecError, match="24 plans in 3 episodes, at least 50; ask for more episodes"):
        Plans.of(episodes(3))


def test_a_bundle_is_flown_and_written_with_its_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "calibrated"
    arguments = [
        "--out",
        str(out),
        "--condition",
        "papers,doors_x3",
        "--episodes",
        "2",
        "--seed",
        "9",
        "--workers",
        "1",
    ]
    assert main(arguments) == 0
    made, old = load_bundle(out).manifest, load_bundle(resolve_bundle("kitchen")).manifest
    assert made.parent_id == old.bundle_id and len(made.planner.calibration) == 5 and made.files == old.files
    assert "after, on episodes not fitted to" in capsys.readouterr().out
    assert main(arguments) == 1 and "choose another --out" in capsys.readouterr().err
