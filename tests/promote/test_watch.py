"""The watch: candidates go through as they come, in an order that is told, whoever kills it; it ends on a word."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from promote.conftest import PASSED, Family, Robot, decisions, flown, id_of

from skimo_core.contract.errors import StoreError
from skimo_core.episodes.locks import held
from skimo_promote import cli
from skimo_promote.driven import Recordings
from skimo_promote.ledger import unix_s
from skimo_promote.pace import Pace
from skimo_promote.store import CANARY, INCUMBENT, SHADOW, Store
from skimo_promote.watch import RETRY_S, Watch
from skimo_promote.watchdog import Watchdog, WatchdogConfig

Leave = Callable[[Path], Path]


@pytest.fixture
def leave(tmp_path: Path) -> Leave:
    """A learner, that leaves a bundle as its next candidate, a second after the one before."""
    folder = tmp_path / "candidates"
    folder.mkdir()

    def go(source: Path) -> Path:
        number = len(list(folder.iterdir())) + 1
        beside, there = folder / f".{number:03d}", folder / f"{number:03d}"
        shutil.copytree(source, beside)
        os.utime(beside / "manifest.json", (1.7e9 + number, 1.7e9 + number))
        beside.rename(there)
        return there

    return go


@pytest.fixture
def watch(store: Store, robot: Robot, tmp_path: Path) -> Callable[..., Watch]:
    def go(**changes: Any) -> Watch:
        watchdog = Watchdog(store, Recordings([robot.folder]), WatchdogConfig(), robot.said.append)
        folders = [tmp_path / "candidates"]
        return Watch(store, folders, robot.promotion(**changes), watchdog, robot.pace, robot.said.append)

    return go


def kill() -> None:
    raise KeyboardInterrupt


def works(robot: Robot, bundle_id: str) -> list[Callable[[], object]]:
    """What a server and a robot do with a candidate that is good."""
    return [partial(robot.plans, bundle_id, 4), partial(robot.drives, bundle_id, 3)]


def test_a_candidate_goes_through_as_it_comes_and_the_watch_goes_on(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    flown(store, family.second, [4], against=first, before=[2])
    robot.acts = [lambda: None, lambda: leave(family.second), *works(robot, id_of(family.second)), lambda: None, kill]
    with pytest.raises(KeyboardInterrupt):
        watch().run()
    assert decisions(store, family.second) == PASSED
    assert store.linked(SHADOW) == store.linked(CANARY) == ""


def test_the_newest_goes_first_and_older_ones_are_put_down_as_superseded(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    leave(family.third)
    leave(family.second)
    leave(family.stranger)  # of another parent
    flown(store, family.second, [4], against=first, before=[2])
    watching = watch(yes=False)
    robot.acts = [lambda: robot.plans(id_of(family.second), 4)]
    while watching.look():
        pass
    assert decisions(store, family.third) == ["added", "superseded"]
    assert store.history(id_of(family.third))[-1].evidence["by"] == id_of(family.second)
    assert decisions(store, family.stranger) == ["added", "refused"]
    assert decisions(store, family.second)[-1] == "shadowed"
    assert [held.state for held in store.bundles()] == ["incumbent", "shadowed", "superseded", "refused"]
    assert not watch(yes=False).look() or store.prune(keep=0) == [id_of(family.third), id_of(family.stranger)]


def test_a_refusal_ends_nothing(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    watching = watch()
    leave(family.second)
    flown(store, family.second, [2], against=first, before=[2])
    assert watching.look() and decisions(store, family.second)[-1] == "refused"
    assert not watching.look()
    leave(family.third)
    flown(store, family.third, [4], against=first, before=[2])
    robot.acts = works(robot, id_of(family.third))
    assert watching.look() and store.incumbent() == id_of(family.third)
    assert not watching.look() and not watch().look()


def test_without_yes_it_waits_for_a_word_from_elsewhere(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    second, third = id_of(family.second), id_of(family.third)
    watching = watch(yes=False)
    for candidate in (family.second, family.third):
        leave(candidate)
        flown(store, candidate, [4], against=first, before=[2])
        robot.acts = [partial(robot.plans, id_of(candidate), 4)]
        assert watching.look() and decisions(store, candidate)[-1] == "shadowed"
    assert f"skimo promote {third[:12]} --yes" in robot.said[-1]
    assert not watching.look()
    robot.acts = works(robot, second)[1:]
    assert robot.promotion().run(second)  # a person's word
    assert watching.look()
    assert "not from the incumbent" in store.history(third)[-1].why
    assert not watching.look()


def test_a_candidate_of_a_former_incumbent_is_refused_with_that_reason(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    store.promote(store.add(family.second).bundle_id, "test", {})
    leave(family.third)
    assert watch().look()
    why = store.history(id_of(family.third))[-1].why
    assert f"made from {id_of(first)[:12]}, not from the incumbent {id_of(family.second)[:12]}" in why


@pytest.mark.parametrize("pauses", [0, 1, 2, 3])
def test_killed_at_any_moment_the_next_start_goes_on(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family, pauses: int
) -> None:
    second = id_of(family.second)
    leave(family.second)
    flown(store, family.second, [4], against=first, before=[2])
    acts = [lambda: robot.plans(second, 2), lambda: robot.plans(second, 2), lambda: robot.drives(second, 2)]
    robot.acts = [*acts[:pauses], kill]
    with pytest.raises(KeyboardInterrupt):
        watch().run()
    leave(family.third)  # newer, but what was begun comes first
    robot.acts = [*acts[pauses:], lambda: robot.drives(second)]
    assert watch().look() and decisions(store, family.second) == PASSED


def test_what_died_outright_leaves_nothing_up(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    second = store.add(family.second).bundle_id
    store.ledger.append("confirmed", second, "a person's word", {"against": id_of(first)})
    store.link(SHADOW, second)
    store.link(CANARY, second)
    robot.acts = [kill]
    with pytest.raises(KeyboardInterrupt):
        watch().run()  # its folder is gone, so nobody goes on with it
    assert store.linked(SHADOW) == store.linked(CANARY) == ""


def test_one_watch_at_a_time_and_one_promotion_beside_it(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    with held(store.folder / "watch.lock", 0.0, "another watch"), pytest.raises(StoreError, match="another watch"):
        watch().run()
    watching = watch()
    leave(family.stranger)
    with held(store.folder / "promote.lock", 0.0, "another promotion"):
        assert watching.look() and "another promotion" in robot.said[-1]
        assert not watching.look()
    robot.now_s += RETRY_S
    assert watching.look() and decisions(store, family.stranger)[-1] == "refused"


def test_without_a_server_it_tries_again_later(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    leave(family.second)
    flown(store, family.second, [4], against=first, before=[2])
    watching = watch()
    assert watching.look() and "nothing came" in robot.said[-1] and not watching.look()
    robot.now_s += RETRY_S
    robot.acts = works(robot, id_of(family.second))
    assert watching.look() and store.incumbent() == id_of(family.second)


def test_what_is_no_bundle_is_named_once_until_it_changes(
    store: Store, robot: Robot, watch: Any, leave: Leave, first: Path, family: Family
) -> None:
    there = leave(family.stranger)
    whole = (there / "encode.onnx").read_bytes()
    (there / "encode.onnx").write_bytes(b"nothing")
    watching = watch()
    assert not watching.look() and not watching.look()
    assert [("no candidate" in words, "encode.onnx" in words) for words in robot.said] == [(True, True)]
    (there / "encode.onnx").write_bytes(whole)
    os.utime(there / "manifest.json", (1.8e9, 1.8e9))
    assert watching.look() and decisions(store, family.stranger)[-1] == "refused"


def test_a_rollback_meanwhile_ends_the_trial_against_the_incumbent_that_was(
    store: Store, robot: Robot, watch: Any, leave: Leave, family: Family
) -> None:
    first, second, grandchild = (id_of(folder) for folder in (family.first, family.second, family.grandchild))
    for month, folder in enumerate((family.first, family.second), 1):
        at = f"2020-0{month}-01T00:00:00Z"
        Store(store.folder, clock=lambda at=at: at).promote(store.add(folder).bundle_id, "test", {})
    leave(family.grandchild)
    flown(store, family.grandchild, [4], against=family.second, before=[2])
    robot.drives(first, 20, at_s=unix_s("2020-01-02"))
    robot.between = Watchdog(store, Recordings([robot.folder]), WatchdogConfig(), robot.said.append).look
    robot.acts = [lambda: robot.plans(grandchild), lambda: robot.drives(second, 20, done=0)]
    assert watch().look()
    assert any(words.startswith(f"rolled back to {first[:12]}") for words in robot.said)
    assert "drives now" in robot.said[-1] and robot.now_s == 4.0
    assert decisions(store, family.grandchild)[-1] == "simulated"
    assert store.linked(INCUMBENT) == first and store.linked(SHADOW) == ""


def test_ctrl_c_and_sigterm_end_it_cleanly(
    store: Store,
    robot: Robot,
    leave: Leave,
    first: Path,
    family: Family,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = leave(family.second).parent
    flown(store, family.second, [4], against=first, before=[2])
    linked: list[str] = []

    def end(duration_s: float) -> None:
        linked.append(store.linked(SHADOW))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cli, "Pace", lambda **given: Pace(sleep=end, **given))
    where = ["--store", str(store.folder), "--watch", str(folder), "--recordings", str(robot.folder)]
    assert cli.promote([*where, "--trial.batch", "20", "--trial.max-pairs", "60", "--yes"]) == 130
    assert linked == [id_of(family.second)] and store.linked(SHADOW) == ""
    assert "goes on" in capsys.readouterr().err
    assert decisions(store, family.second)[-1] == "simulated"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([], "either a bundle"),
        (["kitchen", "--watch", "."], "either a bundle"),
        (["--watch", "nowhere", "--recordings", "."], "nowhere: no such folder"),
        (["kitchen", "--recordings", "nowhere"], "nowhere: no such folder"),
        (["--watch", "."], "--recordings"),
    ],
)
def test_words_that_make_no_sense_are_refused(argv: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.promote(argv) == 1
    assert why in capsys.readouterr().err
