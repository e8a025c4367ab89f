"""Shadow: planned beside the incumbent, judged by the lines that the server leaves, its link down afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from promote.conftest import NO_CANARY, Family, Robot, Run, decisions, flown, id_of

from skimo_core.contract.errors import SetupError, SpecError, StoreError
from skimo_promote.shadow import ShadowConfig, read_lines
from skimo_promote.store import CANARY, SHADOW, Store


@pytest.fixture
def second(store: Store, first: Path, family: Family) -> str:
    """A candidate that is better in the twin."""
    flown(store, family.second, [4], against=first, before=[2])
    return store.add(family.second).bundle_id


def test_what_plans_much_like_the_incumbent_passes(store: Store, robot: Robot, second: str, family: Family) -> None:
    linked: list[str] = []
    robot.acts = [lambda: robot.plans(second, 2), lambda: linked.append(store.linked(SHADOW))]
    robot.acts += [lambda: robot.plans(second, 2)]
    assert robot.promotion(canary=NO_CANARY).run(second)
    assert linked == [second] and store.linked(SHADOW) == ""
    entry = store.passed(second, "shadowed", id_of(family.first))
    assert entry is not None and entry.evidence["plans"] == 4 and entry.evidence["errors"] == 0
    assert entry.evidence["action_drift"] == 0.05 and entry.evidence["plan_ms"] == [9.0, 8.0]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"drift": 0.3, "own_dice": 0.1}, "acts otherwise"),
        ({"error": "an action is not finite"}, "not finite"),
        ({"error": "it was refused", "drift": None, "plan_ms": None}, "it was refused"),
    ],
)
def test_what_plans_otherwise_slowly_or_not_at_all_is_refused(
    store: Store, robot: Robot, second: str, family: Family, fields: dict[str, Any], why: str
) -> None:
    robot.acts = [lambda: robot.plans(second, 4, **fields)]
    assert not robot.promotion().run(second)
    assert decisions(store, family.second)[-2:] == ["simulated", "refused"] and why in robot.said[-1]
    assert store.linked(SHADOW) == "" and store.incumbent() == id_of(family.first)


@pytest.mark.parametrize(("slow", "passes"), [(19, False), (14, True)])
def test_plans_that_are_slow_now_and_then_are_the_machines_fault(
    store: Store, robot: Robot, second: str, slow: int, passes: bool
) -> None:
    robot.acts = [lambda: robot.plans(second, slow, plan_ms=[90.0, 20.0])]
    robot.acts += [lambda: robot.plans(second, 20 - slow, plan_ms=[20.0, 90.0])]
    assert robot.promotion(shadow=ShadowConfig(plans=20), canary=NO_CANARY).run(second) == passes
    assert passes or "19 of 20 plans take more than 1.5 times" in robot.said[-1]


def test_one_error_ends_it_at_once(store: Store, robot: Robot, second: str) -> None:
    robot.acts = [lambda: robot.plans(second), lambda: robot.plans(second, error="no answer")]
    assert not robot.promotion(shadow=ShadowConfig(plans=1000)).run(second)
    assert robot.now_s == 4.0
    refused = store.history(second)[-1].evidence
    assert (refused["plans"], refused["errors"], refused["action_drift"]) == (2, 1, 0.05)


def test_lines_of_before_and_a_line_that_is_being_written_do_not_count(store: Store, robot: Robot, second: str) -> None:
    file = store.folder / "evidence" / second / "shadow.jsonl"
    robot.plans(second, 9, at="2020-01-01T00:00:00+00:00", error="of another day")
    robot.acts = [lambda: robot.plans(second, 3), lambda: file.write_bytes(file.read_bytes() + b'{"at": "2100-')]
    robot.acts += [lambda: file.write_bytes(file.read_bytes().rpartition(b"\n")[0] + b"\n")]
    robot.acts += [lambda: robot.plans(second)]
    assert robot.promotion(canary=NO_CANARY).run(second)
    assert robot.now_s == 8.0


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "\x00\x00",
        "[]",
        '{"error": ""}',
        '{"at": "yesterday", "error": "x"}',
        '{"at": "2100-01-01T00:00", "drift": NaN, "own_dice": 0, "plan_ms": [1, 1], "promised": [1, 1], "error": ""}',
        '{"at": "2100-01-01T00:00:00Z", "drift": 0, "own_dice": 0, "plan_ms": [1], "promised": [1, 1], "error": ""}',
        '{"at": "2100-01-01T00:00:00Z", "drift": 0, "own_dice": 0, "plan_ms": [1, 1], "promised": [1, -1], "error": 0}',
    ],
)
def test_garbage_is_named_by_its_line_unless_it_is_the_last(tmp_path: Path, garbage: str) -> None:
    file = tmp_path / "shadow.jsonl"
    good = (
        '{"at": "2100-01-01T00:00:00", "drift": 0, "own_dice": 0, "plan_ms": [1, 1], "promised": [1, 1], "error": ""}'
    )
    assert read_lines(file) == []
    file.write_text(f"{good}\n{garbage}\n")
    assert len(read_lines(file)) == 1
    file.write_text(f"{good}\n{garbage}\n{good}\n")
    with pytest.raises(StoreError, match="line 2 "):
        read_lines(file)


def test_without_a_server_it_ends_and_nothing_is_decided(store: Store, robot: Robot, second: str) -> None:
    with pytest.raises(SetupError, match="start a server"):
        robot.promotion(shadow=ShadowConfig(plans=4, quiet_s=60.0)).run(second)
    assert 60.0 <= robot.now_s <= 70.0 and store.linked(SHADOW) == ""
    assert store.history(second)[-1].decision == "simulated"
    robot.acts = [lambda: robot.plans(second, 4)]
    assert robot.promotion(canary=NO_CANARY).run(second)


def test_killed_it_goes_on_with_the_lines_so_far(store: Store, robot: Robot, second: str) -> None:
    def kill() -> None:
        raise KeyboardInterrupt

    robot.acts = [lambda: robot.plans(second, 3), kill]
    with pytest.raises(KeyboardInterrupt):
        robot.promotion(canary=NO_CANARY).run(second)
    assert store.linked(SHADOW) == ""
    robot.acts = [lambda: robot.plans(second)]
    assert robot.promotion(canary=NO_CANARY).run(second)


def test_a_link_that_a_killed_process_left_comes_down_with_the_next(
    store: Store, robot: Robot, second: str, family: Family
) -> None:
    store.link(SHADOW, second)
    store.link(CANARY, second)  # nobody confirmed it
    assert robot.promotion().run(id_of(family.first))  # it drives already
    assert store.linked(SHADOW) == store.linked(CANARY) == ""


def test_a_rollback_by_hand_ends_it(store: Store, robot: Robot, second: str, run: Run, family: Family) -> None:
    """What it was held against drives no more: nothing is decided about it."""
    robot.acts = [lambda: robot.plans(second, 4)]
    assert robot.promotion(canary=NO_CANARY).run(second)
    grandchild = store.add(family.grandchild).bundle_id
    flown(store, family.grandchild, [4], against=family.second, before=[2])
    robot.acts = [lambda: robot.plans(grandchild), lambda: store.roll_back("it spills")]
    with pytest.raises(StoreError, match="drives now"):
        robot.promotion().run(grandchild)
    assert store.linked(SHADOW) == "" and store.incumbent() == id_of(family.first)
    assert decisions(store, family.grandchild)[-1] == "simulated"


def test_a_link_that_somebody_takes_down_is_a_no(store: Store, robot: Robot, second: str) -> None:
    robot.acts = [lambda: robot.plans(second), lambda: store.withdraw(SHADOW)]
    assert not robot.promotion().run(second)
    assert "took its link" in store.history(second)[-1].why


def test_a_stage_that_was_left_out_is_none_that_was_passed(
    store: Store, robot: Robot, run: Run, second: str, family: Family
) -> None:
    assert not run(family.second, yes=False)[0]
    assert store.history(second)[-1].evidence["left_out"]
    robot.acts = [lambda: robot.plans(second, 4)]
    assert robot.promotion(canary=NO_CANARY).run(second) and robot.now_s > 0.0


@pytest.mark.parametrize("wrong", [{"plans": -1}, {"quiet_s": 0.0}, {"quiet_s": float("nan")}])
def test_a_wait_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        ShadowConfig(**wrong)
