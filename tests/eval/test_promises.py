"""Calibrating what plans promise: the fit finds the weights that made the outcomes, and is judged on other episodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Calibration, Plan, evidence
from skimo_core.domain.domain import load_domain
from skimo_core.episodes.episode import INTERVENE, Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_eval.promises import Plans, cross_validated, fit, main, probabilities
from skimo_eval.recorded import recorded_plans
from skimo_eval.trials import EpisodeResult, PlanRecord
from skimo_server.bundle import load_bundle, resolve_bundle

TRUE_F = np.array([1.0, 0.4, 0.2, -1.5, -1.0, 0.5])


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
    for spent in (0, 1, 3):
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
    assert made.parent_id == old.bundle_id and len(made.planner.calibration) == 6 and made.files == old.files
    assert "after, on episodes not fitted to" in capsys.readouterr().out
    assert main(arguments) == 1 and "choose another --out" in capsys.readouterr().err


# --- of a robot's recordings ----------------------------------------------------------------------------------------

KITCHEN = load_domain("kitchen")
SHIPPED = load_bundle(resolve_bundle("kitchen")).manifest
STEPS, EVERY = 80, 10


def recorded(folder: Path, number: int, *, done_at: int, **changes: Any) -> None:
    """A robot's episode: a plan every ten steps for the microwave, which is open from `done_at` on, then the kettle."""
    observations = np.zeros((STEPS + 1, KITCHEN.observation.size), np.float32)
    microwave = KITCHEN.subtasks["microwave"]
    observations[done_at:, list(microwave.channels)] = microwave.goal
    promises = np.full((STEPS, 2), np.nan, np.float32)
    promises[::EVERY] = 0.5, 0.9
    kinds = np.full(STEPS + 1, "act", dtype="<U9")
    kinds[-1] = "done"
    episode = Episode(
        observations=observations,
        actions=np.zeros((STEPS, KITCHEN.action.size), np.float32),
        meta=EpisodeMeta(episode_id=f"e{number}", source="policy", task="microwave,kettle", domain=KITCHEN.named),
        kinds=kinds,
        bundle_ids=np.full(STEPS, SHIPPED.bundle_id),
        promises=promises,
    )
    folder.mkdir(exist_ok=True)
    write_episode(folder / f"e{number}.mcap", replace(episode, **changes))


def test_a_recording_tells_what_came_of_each_plan(tmp_path: Path) -> None:
    recorded(tmp_path, 0, done_at=35)
    (result,) = recorded_plans([tmp_path], KITCHEN, SHIPPED)
    told = [(p.step, p.subtask, p.spent, p.achieved) for p in result.plans]
    assert told == [
        (0, "microwave", 0, False),
        (10, "microwave", 1, True),
        (20, "microwave", 2, True),
        (30, "microwave", 3, True),
        (40, "kettle", 0, False),
        (50, "kettle", 1, False),
    ]  # the last two end with the episode, so that nobody knows
    first, again = result.plans[0], Calibration.of(SHIPPED.planner.calibration)
    assert first.predicted_success == pytest.approx(0.9) and first.value == 0.5
    assert first.success_probability == pytest.approx(again.probability(first.predicted_success, 0.5, 0))


def test_plans_whose_skills_did_not_run_are_left_out(tmp_path: Path) -> None:
    kinds = np.full(STEPS + 1, "act", dtype="<U9")
    kinds[12], kinds[63:70], kinds[-1] = "hold", INTERVENE, "done"
    others = np.full(STEPS, SHIPPED.bundle_id)
    others[20:30] = "another"
    recorded(tmp_path, 0, done_at=35, kinds=kinds, bundle_ids=others)
    (result,) = recorded_plans([tmp_path], KITCHEN, SHIPPED)
    assert [(p.step, p.spent) for p in result.plans] == [(30, 3)]


def test_a_robot_s_plans_move_the_calibration_that_the_bundle_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(24):
        recorded(tmp_path / "robot", number, done_at=200)  # nothing ever comes true
    (tmp_path / "robot" / "torn.mcap").write_bytes(b"torn")
    options = ["--recordings", str(tmp_path / "robot"), "--out", str(tmp_path / "made")]
    assert main(options) == 0
    told = capsys.readouterr()
    assert "24 episodes, 144 plans" in told.out and "left out: torn.mcap" in told.err
    made = load_bundle(tmp_path / "made").manifest
    assert made.parent_id == SHIPPED.bundle_id and made.files == SHIPPED.files
    before, after = (Calibration.of(m.planner.calibration).probability(0.9, 0.5, 0) for m in (SHIPPED, made))
    assert after < 0.5 * before
    again = recorded_plans([tmp_path / "robot"], KITCHEN, made)  # plans of the bundle that it is a copy of
    assert len(again) == 24


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"promises": None}, "none of 1 recordings holds a plan of bundle"),
        ({"bundle_ids": np.full(STEPS, "another")}, "none of 1 recordings holds a plan of bundle"),
        ({"meta": EpisodeMeta(episode_id="e0", source="policy", task="sing")}, "its task can't be read"),
        ({"meta": EpisodeMeta(episode_id="e0", source="policy", task="kettle", part=2)}, "begins in mid-episode"),
    ],
)
def test_recordings_without_plans_are_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    recorded(tmp_path, 0, done_at=35, **changes)
    with pytest.raises(SpecError, match=why):
        recorded_plans([tmp_path], KITCHEN, SHIPPED)
    with pytest.raises(SpecError, match="no such folder"):
        recorded_plans([tmp_path / "nowhere"], KITCHEN, SHIPPED)
