"""Promotion: each stage passes and refuses, and whatever happens the incumbent goes on driving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from promote.conftest import PASSED, Family, Robot, Run, decisions, flown, id_of

from skimo_core.contract.errors import PolicyError, SpecError, StoreError
from skimo_core.episodes.locks import held
from skimo_promote import sanity
from skimo_promote.cli import bundles, ledger, promote, rollback
from skimo_promote.store import CANARY, SHADOW, Store
from skimo_promote.trial import TrialConfig, fly
from skimo_server.bundle import Bundle, load_bundle


def test_the_first_bundle_of_a_store_drives_by_a_persons_word(store: Store, first: Path) -> None:
    assert decisions(store, first) == PASSED
    assert id_of(store.folder / "incumbent") == id_of(first)


def test_what_is_better_in_the_twin_is_promoted(store: Store, run: Run, first: Path, family: Family) -> None:
    flown(store, family.second, [4, 3, 4], against=first, before=[3, 3, 2])
    drives, said = run(family.second)
    assert drives and id_of(store.folder / "incumbent") == id_of(family.second)
    assert decisions(store, family.second) == PASSED
    trial = store.history(id_of(family.second))[3]
    assert trial.evidence["pairs"] < 60 and trial.evidence["difference"] == pytest.approx(1.0, abs=0.1)
    assert any("sub-tasks" in line for line in said)


@pytest.mark.parametrize(
    ("done", "meddled", "why"),
    [
        ([1, 2, 2], 0, "worse under drawn"),
        ([3, 3, 2], 0, "not shown to be better"),
        ([4, 4, 4], 30, "the gate interferes"),
    ],
)
def test_what_is_not_better_or_needs_the_gate_more_is_refused(
    store: Store, run: Run, first: Path, family: Family, done: list[int], meddled: int, why: str
) -> None:
    flown(store, family.second, done, against=first, before=[3, 3, 2], meddled=meddled)
    drives, said = run(family.second)
    assert not drives and why in said[-1]
    assert id_of(store.folder / "incumbent") == id_of(first)
    assert decisions(store, family.second) == ["added", "fits", "sane", "refused"]
    again, words = run(family.second)
    assert not again and "--again" in words[-1]


def test_a_candidate_that_acts_otherwise_altogether_is_not_even_flown(
    store: Store, run: Run, first: Path, family: Family
) -> None:
    drives, said = run(family.wild)
    assert not drives and "acts otherwise" in said[-1]
    assert decisions(store, family.wild) == ["added", "fits", "refused"]


def test_a_candidate_of_another_parent_is_refused_unless_allowed(
    store: Store, run: Run, first: Path, family: Family
) -> None:
    drives, said = run(family.stranger)
    assert not drives and "--any-parent" in said[-1]
    _, said = run(family.stranger, any_parent=True, again=True)
    assert "acts otherwise" in said[-1]


def test_without_a_persons_word_it_waits_and_goes_on_from_there(
    store: Store, run: Run, first: Path, family: Family
) -> None:
    flown(store, family.second, [4], against=first, before=[2])
    drives, said = run(family.second, yes=False)
    assert not drives and "--yes" in said[-1] and id_of(store.folder / "incumbent") == id_of(first)
    drives, said = run(family.second)
    assert drives and said[:3] == ["fits: before", "sane: before", "simulated: before"]
    assert decisions(store, family.second) == PASSED


def test_what_passed_against_a_former_incumbent_is_tried_against_the_new_one(
    store: Store, run: Run, first: Path, family: Family
) -> None:
    flown(store, family.third, [4], against=first, before=[2])
    assert not run(family.third, yes=False)[0]
    flown(store, family.second, [4], against=first, before=[2])
    assert run(family.second)[0]
    drives, said = run(family.third)  # made from the first, which drives no longer
    assert not drives and "not from the incumbent" in said[-1]


def test_what_was_rolled_back_is_not_promoted_again_by_its_old_merits(
    store: Store, run: Run, first: Path, family: Family
) -> None:
    flown(store, family.second, [4], against=first, before=[2])
    assert run(family.second)[0]
    store.roll_back("it dropped a cup")
    drives, said = run(family.second)
    assert not drives and "it dropped a cup" in said[-1]
    flown(store, family.second, [2], against=first, before=[2])
    drives, said = run(family.second, again=True)
    assert not drives and "not shown" in said[-1]


@pytest.mark.parametrize(
    "stage",
    ["Promotion._fits", "check_sanity", "fly", "watch_shadow", "Promotion._confirmed", "watch_canary", "Store.promote"],
)
def test_killed_at_any_stage_it_goes_on_there(
    store: Store, robot: Robot, first: Path, family: Family, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    second = store.add(family.second).bundle_id
    flown(store, family.second, [4], against=first, before=[2])
    robot.acts = [lambda: robot.plans(second, 4), lambda: robot.drives(second, 3)]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(f"skimo_promote.promotion.{stage}", kill)
        robot.promotion().run(second)
    assert store.incumbent() == id_of(first) and store.linked(SHADOW) == store.linked(CANARY) == ""
    passed = decisions(store, family.second)
    assert passed == PASSED[: len(passed)]
    assert robot.promotion().run(second) and decisions(store, family.second) == PASSED


def test_one_promotion_at_a_time(store: Store, run: Run, first: Path, family: Family) -> None:
    with held(store.folder / "promote.lock", 0.0, "another promotion"), pytest.raises(StoreError, match="at work"):
        run(family.second)
    assert id_of(store.folder / "incumbent") == id_of(first)


def test_a_result_of_another_trial_is_not_taken(store: Store, run: Run, first: Path, family: Family) -> None:
    flown(store, family.second, [4], against=first, before=[2])
    for file in (store.folder / "evidence").rglob("*.json"):
        file.write_text(file.read_text().replace('"condition": "drawn"', '"other": "drawn"'))
    with pytest.raises(StoreError, match="flown again"):
        run(family.second)


def test_a_pair_is_really_flown(store: Store, family: Family) -> None:
    """Random networks against random networks, by `skimo eval` in a process of its own."""
    second, first = (store.path(store.add(folder).bundle_id) for folder in (family.second, family.first))
    config = TrialConfig(batch=1, max_pairs=1, workers=1, task="microwave", conditions=("papers",))
    verdict = fly(second, first, store.folder / "evidence", config, lambda words: None)
    assert not verdict.passed and verdict.evidence["pairs"] == 1 and verdict.evidence["by_condition"] == {"papers": 0.0}
    assert len(list((store.folder / "evidence" / config.folder).glob("*.json"))) == 2


def test_the_commands_tell_all_of_it(
    store: Store, first: Path, family: Family, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", str(store.folder)]
    assert bundles(["add", str(family.second), *where]) == 0
    flown(store, family.second, [4], against=first, before=[2])
    trial = ["--trial.batch", "20", "--trial.max-pairs", "60", "--shadow.plans", "0", "--canary.episodes", "0"]
    assert promote([id_of(family.second)[:10], *where, *trial]) == 1  # nobody said yes
    assert promote([str(family.second), *where, *trial, "--yes"]) == 0
    assert rollback([*where, "--why", "too bold"]) == 0
    assert bundles(["list", *where]) == 0
    assert bundles(["show", id_of(family.second)[:10], *where]) == 0
    assert bundles(["compare", id_of(family.first)[:10], id_of(family.second)[:10], *where]) == 0
    assert ledger(where) == 0
    out = capsys.readouterr().out
    for words in ("incumbent", "too bold", "recipe.name: random weights -> second", "made from", "17 decisions"):
        assert words in out
    head = store.ledger.entries()[-1].digest
    assert ledger([*where, "--verify", "--head", head]) == 0
    assert ledger([*where, "--verify", "--head", "f" * 64]) == 1
    assert rollback(where) == bundles(["prune", "--keep", "-1", *where]) == 1
    assert promote([str(family.second), *where, "--trial.alpha", "2"]) == 1
    lines = store.folder / "ledger.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b"too bold", b"too cold"))
    assert ledger([*where, "--verify"]) == 1
    assert "line 17 was changed" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"alpha": 0.6}, {"margin": 4.0}, {"conditions": ()}, {"batch": 0}, {"max_pairs": 0}])
def test_a_trial_that_shows_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        TrialConfig(**wrong)


def test_another_task_is_another_trial() -> None:
    assert TrialConfig().folder == TrialConfig(alpha=0.01).folder != TrialConfig(task="home").folder
    assert TrialConfig().folder == TrialConfig(ray="auto").folder  # the same, flown elsewhere


def answers(plan_ms: list[float], action: float = 0.0) -> sanity.Answers:
    few = len(plan_ms)
    actions = [np.full(9, action, np.float32)] * few
    return sanity.Answers(policy=None, seed=0, actions=actions, promised=[0.5] * few, plan_ms=plan_ms)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("new_ms", "old_ms", "passes"),
    [
        ([20.0] * 8, [13.0] * 8, False),
        ([40.0] * 4 + [13.0] * 4, [39.0] * 4 + [13.0] * 4, True),  # the machine was slow for a while
        ([40.0] * 4 + [13.0] * 4, [13.0] * 8, True),  # or just then: no more than half
        ([40.0] * 5 + [13.0] * 3, [13.0] * 8, False),
        ([14.0] * 8, [9.5] * 8, True),  # 5 ms more are always allowed
    ],
)
def test_a_candidate_is_slow_if_it_is_slower_state_by_state(
    new_ms: list[float], old_ms: list[float], passes: bool
) -> None:
    verdict = sanity._judge(answers(new_ms), answers(old_ms), answers(old_ms), sanity.SanityConfig())
    assert verdict.passed is passes and (passes or "plans take more than 1.5 times the incumbent's" in verdict.why)


def test_a_moment_s_pause_in_one_of_the_incumbent_s_plans_hides_nothing_and_blames_nobody() -> None:
    paused = [13.0] * 7 + [90.0]
    assert not sanity._judge(answers([20.0] * 8), answers(paused), answers([13.0] * 8), sanity.SanityConfig()).passed
    assert sanity._judge(answers(paused), answers([13.0] * 8), answers([13.0] * 8), sanity.SanityConfig()).passed


def test_an_incumbent_that_can_t_answer_is_no_fault_of_the_candidate_s(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = load_bundle(family.first), load_bundle(family.second)
    load = sanity.Engine.load

    def loaded(bundle: Bundle) -> Any:
        if bundle.manifest.bundle_id == first.manifest.bundle_id:
            raise PolicyError("the incumbent is broken")
        return load(bundle)

    monkeypatch.setattr(sanity.Engine, "load", loaded)
    with pytest.raises(PolicyError, match="incumbent is broken"):
        sanity.check_sanity(second, first, sanity.SanityConfig(states=2))
