"""Canary: it drives slowly, and the gate's word decides; the link outlives the incumbent's by a moment, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from promote.conftest import NO_SHADOW, PASSED, STEPS, Family, Robot, decisions, flown, id_of

from skimo_core.contract.errors import SetupError, SpecError, StoreError
from skimo_promote.canary import CanaryConfig
from skimo_promote.store import CANARY, INCUMBENT, Store

LIMIT, HOLD, STOP = 1, 2, 3


@pytest.fixture
def second(store: Store, first: Path, family: Family) -> str:
    """A candidate that is better in the twin."""
    flown(store, family.second, [4], against=first, before=[2])
    return store.add(family.second).bundle_id


def test_after_quiet_episodes_it_drives_and_the_server_never_falls_back(
    store: Store, robot: Robot, second: str, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[tuple[str, str]] = []
    link, withdraw = Store.link, Store.withdraw

    def see(then: Any) -> Any:
        def doing(store: Store, *args: str) -> None:
            then(store, *args)
            links.append((store.linked(INCUMBENT), store.linked(CANARY)))

        return doing

    monkeypatch.setattr(Store, "link", see(link))
    monkeypatch.setattr(Store, "withdraw", see(withdraw))
    robot.acts = [lambda: robot.drives(second, 2, done=0), lambda: robot.drives(second, done=0)]
    assert robot.promotion(shadow=NO_SHADOW).run(second)
    first = id_of(family.first)
    driving = [canary or incumbent for incumbent, canary in links]  # as the server has it
    assert driving == sorted(driving, key=[first, second].index)
    assert (first, second) in links and links[-1] == (second, "")
    assert decisions(store, family.second) == PASSED
    evidence = store.history(second)[-2].evidence
    assert evidence["episodes"] == [3, 0] and evidence["commands"] == [3 * STEPS, 0]


def test_a_stop_refuses_it_at_once(store: Store, robot: Robot, second: str, family: Family) -> None:
    robot.acts = [lambda: robot.drives(second), lambda: robot.drives(second, verdicts=[0, HOLD, STOP])]
    assert not robot.promotion(canary=CanaryConfig(episodes=100), shadow=NO_SHADOW).run(second)
    assert "stopped" in robot.said[-1] and robot.now_s == 4.0
    assert store.linked(CANARY) == "" and store.incumbent() == id_of(family.first)
    refused = store.history(second)[-1].evidence
    assert refused["verdicts"] == [{"HOLD": 1, "STOP": 1}, {}] and refused["meddled"][0] == 0.05
    assert not robot.promotion().run(second) and "--again" in robot.said[-1]


def test_a_stop_counts_in_an_episode_that_it_shares(store: Store, robot: Robot, second: str, family: Family) -> None:
    ids = [id_of(family.first)] * 10 + [second] * 10
    robot.acts = [lambda: robot.drives(ids[0], ids=ids, verdicts=[0] * 15 + [STOP])]
    assert not robot.promotion(shadow=NO_SHADOW).run(second)
    assert "stopped" in robot.said[-1]


def test_a_stop_of_the_incumbent_or_of_a_person_is_not_its_own(
    store: Store, robot: Robot, second: str, family: Family
) -> None:
    ids = [id_of(family.first)] * 10 + [second] * 10
    robot.acts = [lambda: robot.drives(ids[0], ids=ids, verdicts=[0] * 5 + [STOP])]
    robot.acts += [lambda: robot.drives(second, verdicts=[0] * 15 + [STOP], helped_from=12)]
    robot.acts += [lambda: robot.drives(second, 2)]
    assert robot.promotion(shadow=NO_SHADOW).run(second)
    assert store.history(second)[-2].evidence["episodes"][0] == 3  # the shared one is none of them


@pytest.mark.parametrize(("before", "passes"), [(0, False), (1, True)])
def test_the_gate_may_meddle_twice_as_much_as_with_the_incumbent(
    store: Store, robot: Robot, second: str, family: Family, before: int, passes: bool
) -> None:
    robot.drives(id_of(family.first), 2, verdicts=[LIMIT] * before)  # 5 % of its commands, or none
    robot.acts = [lambda: robot.drives(second), lambda: robot.drives(second, 2, verdicts=[LIMIT, LIMIT])]
    assert robot.promotion(shadow=NO_SHADOW).run(second) == passes
    if not passes:
        assert "6.7% of its commands, bound 2.0%" in robot.said[-1]


def test_what_does_not_count(store: Store, robot: Robot, second: str, family: Family) -> None:
    """Of before a person's word, of others, of people, damaged, being written, or the same once more."""
    robot.drives(second, 5, at_s=1e9)

    def others() -> None:
        robot.drives(id_of(family.first), 5)
        robot.drives(second, 5, source="teleop")

    def damaged() -> None:
        robot.drives(second, 2)
        cut, copied = sorted(robot.folder.glob("*.mcap"))[-2:]
        cut.write_bytes(cut.read_bytes()[:-40])
        (robot.folder / "again.mcap").write_bytes(copied.read_bytes())
        (robot.folder / "broken.mcap").write_bytes(b"nothing")

    robot.acts = [others, damaged]
    with pytest.raises(SetupError, match="after the first 1; have the robot drive"):
        robot.promotion(canary=CanaryConfig(episodes=2, quiet_s=20.0), shadow=NO_SHADOW).run(second)
    assert store.linked(CANARY) == "" and decisions(store, family.second)[-1] == "confirmed"
    robot.acts = [lambda: robot.drives(second, 2)]
    assert robot.promotion(shadow=NO_SHADOW).run(second)
    evidence = store.history(second)[-2].evidence
    assert evidence["unread"] == ["broken.mcap"] and evidence["commands"][0] > 3 * STEPS  # the damaged one tells too


def test_a_stop_in_a_damaged_recording_counts(store: Store, robot: Robot, second: str) -> None:
    def damaged() -> None:
        robot.drives(second, verdicts=[STOP])
        cut = next(robot.folder.glob("*.mcap"))
        cut.write_bytes(cut.read_bytes()[:-40])

    robot.acts = [damaged]
    assert not robot.promotion(shadow=NO_SHADOW).run(second)
    assert "stopped" in robot.said[-1]


def test_killed_it_goes_on_with_the_episodes_so_far(store: Store, robot: Robot, second: str) -> None:
    def kill() -> None:
        raise KeyboardInterrupt

    robot.acts = [lambda: robot.drives(second, 2), kill]
    with pytest.raises(KeyboardInterrupt):
        robot.promotion(shadow=NO_SHADOW).run(second)
    assert store.linked(CANARY) == ""
    store.link(CANARY, second)  # as a process leaves it that dies outright
    robot.acts = [lambda: robot.drives(second)]
    assert robot.promotion(shadow=NO_SHADOW).run(second) and store.linked(CANARY) == ""


def test_killed_between_the_ledger_and_the_links(
    store: Store, robot: Robot, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter("ab")

    def point(store: Store) -> None:
        if next(calls) == "b":  # after the ledger's line
            raise KeyboardInterrupt

    robot.drives(second, 3, at_s=4e9)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "point", point)
        patched.setattr(Store, "withdraw", lambda store, name: None)
        robot.promotion(shadow=NO_SHADOW).run(second)
    assert store.incumbent() == second and store.linked(INCUMBENT) != second == store.linked(CANARY)
    assert robot.promotion(shadow=NO_SHADOW).run(second)
    assert store.linked(INCUMBENT) == second and store.linked(CANARY) == ""


def test_a_rollback_by_hand_takes_it_off_the_robot(store: Store, robot: Robot, second: str) -> None:
    def roll_back() -> None:
        with pytest.raises(StoreError, match="nothing to go back to"):
            store.roll_back("it spills")
        assert store.linked(CANARY) == ""

    robot.acts = [lambda: robot.drives(second), roll_back]
    assert not robot.promotion(shadow=NO_SHADOW).run(second)
    assert "took its link" in robot.said[-1]


def test_nothing_to_judge_by_is_said_before_anything_is_flown(
    store: Store, second: str, run: Any, family: Family
) -> None:
    with pytest.raises(SpecError, match="--recordings"):
        run(family.second, canary=CanaryConfig())
    assert decisions(store, family.second) == ["added"]


@pytest.mark.parametrize("wrong", [{"episodes": -1}, {"recent": 0}, {"quiet_s": 0.0}])
def test_a_wait_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        CanaryConfig(**wrong)
