"""The watchdog: how often it bites for nothing, how soon it bites for something, and what it does then.

`pytest -s tests/promote/test_watchdog.py -k "seldom or soon"` prints what the README says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from promote.conftest import SUBTASKS, Family, Robot, id_of

from skimo_core.contract.errors import SpecError
from skimo_promote.driven import Driven, Gate, Recordings
from skimo_promote.store import CANARY, INCUMBENT, Store
from skimo_promote.watchdog import Watchdog, WatchdogConfig, compare

STORES, EPISODES = 400, 100
SOME = 200
COMMANDS, MEDDLED = 200, 0.01
LIMIT, STOP = 1, 3
CONFIG = WatchdogConfig()
Draw = Callable[[np.random.Generator, int, float], npt.NDArray[np.float64]]


def each_by_itself(rng: np.random.Generator, count: int, mean: float) -> npt.NDArray[np.float64]:
    """Shares of sub-tasks done where each succeeds or fails whatever the others do."""
    return rng.binomial(SUBTASKS, mean / SUBTASKS, count) / SUBTASKS


def one_after_the_other(rng: np.random.Generator, count: int, mean: float) -> npt.NDArray[np.float64]:
    """Where the first failure ends the episode, so that episodes differ widely."""
    chances = np.linspace(0.0, 1.0, 10_001)
    means = sum(chances**k for k in range(1, SUBTASKS + 1))
    chance = chances[int(np.searchsorted(means, mean))]
    return np.cumprod(rng.random((count, SUBTASKS)) < chance, axis=1).sum(1) / SUBTASKS


def seen(done: float = 1.0, meddled: int = 0, *, stops: int = 0, task: str = "") -> Driven:
    verdicts = {"LIMIT": meddled, "STOP": stops}
    gate = Gate(commands=COMMANDS, verdicts={name: count for name, count in verdicts.items() if count})
    return Driven(name="", began_s=0.0, task=task, bundle_id="x", done=done, gates={"x": gate}, whole=True)


def episodes(rng: np.random.Generator, draw: Draw, count: int, mean: float, meddled: float = MEDDLED) -> list[Driven]:
    """The gate's share differs from episode to episode as much as it may: tenfold."""
    shares = meddled * rng.choice([0.2, 1.8], count)
    return [seen(float(d), int(m)) for d, m in zip(draw(rng, count, mean), rng.binomial(COMMANDS, shares))]


def alarms_after(
    draw: Draw, count: int, mean: float, meddled: float = MEDDLED, *, stores: int = SOME
) -> npt.NDArray[np.int_]:
    """Episodes after which each of many stores rolls back, its former incumbent having done 3.6 of 4 over 50 episodes;
    more than `count` for never."""
    rng, found = np.random.default_rng(0), []
    for _ in range(stores):
        old = episodes(rng, draw, CONFIG.most, 3.6)
        finding = compare(episodes(rng, draw, count, mean, meddled), old, CONFIG)
        measures = [finding.evidence[name] for name in ("done", "unmeddled")]
        won = [m["episodes"][0] for m in measures if m["odds"] >= 2.0 / CONFIG.alpha]
        assert bool(won) == bool(finding.why)
        found.append(min(won, default=count + 1))
    return np.array(found)


@pytest.mark.parametrize(("draw", "stores"), [(each_by_itself, SOME), (one_after_the_other, STORES)])
def test_without_a_change_it_seldom_rolls_back_however_long_it_looks(draw: Draw, stores: int) -> None:
    wrong = np.mean(alarms_after(draw, EPISODES, 3.6, stores=stores) <= EPISODES)
    print(f"\n{draw.__name__}: of {stores} stores without a change {wrong:.2%} roll back within {EPISODES} episodes")
    assert wrong <= CONFIG.alpha


@pytest.mark.parametrize(("draw", "share"), [(each_by_itself, 0.95), (one_after_the_other, 0.55)])
def test_a_subtask_less_is_seen_soon(draw: Draw, share: float) -> None:
    soon = alarms_after(draw, EPISODES, 2.6)
    shares = [float(np.mean(soon <= count)) for count in (20, 40, 100)]
    print(f"\n{draw.__name__}: 2.6 instead of 3.6 of 4 within 20, 40, 100 episodes: {shares}, median {np.median(soon)}")
    assert shares[1] > share


def test_a_gate_that_meddles_five_times_as_often_is_seen_soon() -> None:
    soon = alarms_after(each_by_itself, 40, 3.6, 5 * MEDDLED)
    print(
        f"\n5 % instead of 1 % of commands meddled with: seen within 40 in {np.mean(soon <= 40):.0%}, {np.median(soon)}"
    )
    assert np.mean(soon <= 40) > 0.95


def test_stops_count_as_nothing_done() -> None:
    old = [seen() for _ in range(50)]
    assert compare([seen(stops=i % 2) for i in range(20)], old, CONFIG).why.startswith("done 0.5")
    assert not compare([seen() for _ in range(200)], old, CONFIG).why


def test_too_few_episodes_of_before_say_nothing() -> None:
    assert compare([seen(0.0)] * 100, [seen()] * 9, CONFIG).evidence.keys() == {"alpha", "tasks"}
    assert compare([seen(0.0)] * 100, [seen()] * 50, CONFIG).why


def test_another_task_is_no_drop_where_tasks_recur() -> None:
    old = [seen(task="easy") for _ in range(40)]
    hard = [seen(0.2, task="hard") for _ in range(100)]
    assert not compare(hard, old, CONFIG).why
    assert compare([*hard, *[seen(0.2, task="easy")] * 30], old, CONFIG).evidence["done"]["episodes"][0] <= 30
    drawn = [seen(task=f"drawn {i}") for i in range(40)]  # never the same one twice: all are held against all
    assert compare(hard, drawn, CONFIG).why


T0, DAY_S = 1_800_000_000, 86_400
"""When the first incumbent came, UNIX s, and the second one after it."""


@pytest.fixture
def guarded(store: Store, family: Family) -> tuple[str, str]:
    """Two incumbents, a day after the other."""
    ids = [store.add(folder).bundle_id for folder in (family.first, family.second)]
    for day, bundle_id in enumerate(ids):
        at = f"2027-01-{15 + day}T08:00:00Z"
        Store(store.folder, clock=lambda at=at: at).promote(bundle_id, "test", {})
    return ids[0], ids[1]


def test_a_drop_brings_the_former_back_with_the_figures_in_the_ledger(
    store: Store, robot: Robot, guarded: tuple[str, str]
) -> None:
    old, new = guarded
    watchdog = Watchdog(store, Recordings([robot.folder]), CONFIG, robot.said.append)
    for i in range(20):
        robot.drives(old, at_s=T0 + i)
    assert not watchdog.look() and robot.said == []
    robot.drives(new, 5, done=0, at_s=T0 + i)  # as a canary, before its promotion: slow motion counts for nothing
    robot.drives(old, 5, done=0, at_s=T0 + DAY_S + 1)  # whoever's these are, they are not the incumbent's
    assert not watchdog.look()
    store.link(CANARY, "f" * 64)
    rolled = []
    for i in range(30):
        robot.drives(new, done=1, at_s=T0 + DAY_S + 2 + i)
        rolled.append(watchdog.look())
    assert rolled.count(True) == 1 and store.linked(INCUMBENT) == store.incumbent() == old
    assert store.linked(CANARY) == ""
    entry = store.ledger.entries()[-1]
    assert entry.decision == "rolled back" and entry.evidence["instead_of"] == new
    assert entry.evidence["by"] == "watchdog" and entry.evidence["done"]["mean"] == [0.25, 1.0]
    assert entry.evidence["done"]["episodes"] == [rolled.index(True) + 1, 20] and "done 0.25" in entry.why
    assert not robot.promotion().run(new) and "--again" in robot.said[-1]


def test_what_was_flown_to_explore_is_left_out(store: Store, robot: Robot, guarded: tuple[str, str]) -> None:
    old, new = guarded
    watchdog = Watchdog(store, Recordings([robot.folder]), CONFIG, robot.said.append)
    robot.drives(old, 20, at_s=T0)
    robot.drives(new, 20, done=0, explore=0.3, at_s=T0 + DAY_S)
    assert not watchdog.look() and store.incumbent() == new
    robot.drives(new, 20, done=0, at_s=T0 + DAY_S + 60)
    assert watchdog.look() and store.incumbent() == old


def test_a_former_that_is_damaged_leaves_the_incumbent(store: Store, robot: Robot, guarded: tuple[str, str]) -> None:
    old, new = guarded
    watchdog = Watchdog(store, Recordings([robot.folder]), CONFIG, robot.said.append)
    robot.drives(old, 20, at_s=T0)
    robot.drives(new, 20, done=0, at_s=T0 + DAY_S)
    (store.path(old) / "parity.npz").unlink()
    assert not watchdog.look() and not watchdog.look()
    assert store.incumbent() == new and len(robot.said) == 1 and "can't be rolled back" in robot.said[0]


def test_an_incumbent_that_is_not_watched_is_named(store: Store, robot: Robot, guarded: tuple[str, str]) -> None:
    watchdog = Watchdog(store, Recordings([robot.folder]), CONFIG, robot.said.append)
    assert not watchdog.look()
    robot.drives(guarded[1], 20, done=0, at_s=T0 + DAY_S)
    assert not watchdog.look()
    assert len(robot.said) == 1 and "not watched: 0 episodes" in robot.said[0]


def test_the_first_incumbent_has_nothing_to_go_back_to(store: Store, robot: Robot, family: Family) -> None:
    store.promote(store.add(family.first).bundle_id, "test", {})
    robot.drives(id_of(family.first), 20, done=0)
    assert not Watchdog(store, Recordings([robot.folder]), CONFIG, robot.said.append).look() and robot.said == []


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 0.5}, {"least": 0}, {"least": 60}])
def test_a_watchdog_that_shows_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        WatchdogConfig(**wrong)
