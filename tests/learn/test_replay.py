"""The replay: each episode once, whatever happens, and nothing that doesn't belong."""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learn.robot import recorded
from promote.conftest import files_of_at_most

from skimo_core.contract.errors import EpisodeError, StoreError
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.cli import label
from skimo_core.episodes.recording import write_episode
from skimo_learn import replay as module
from skimo_learn.finetune_cli import told_of
from skimo_learn.replay import Replay, open_replay

ROBOT = load_limits("panda")


@pytest.fixture
def robot(tmp_path: Path, domain: Domain) -> Path:
    """A robot's folder with three episodes."""
    folder = tmp_path / "robot"
    folder.mkdir()
    for seed in range(3):
        write_episode(folder / f"e{seed}.mcap", recorded(domain, seed))
    return folder


def taken(folder: Path, domain: Domain, *robots: Path) -> list[str]:
    with open_replay(folder, domain, ROBOT) as replay:
        replay.take_from(robots)
        return [entry.episode_id for entry in replay.taken]


def test_each_episode_is_taken_once_from_any_robot(tmp_path: Path, robot: Path, domain: Domain) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(robot / "e0.mcap", other / "another-name.mcap")
    write_episode(other / "e7.mcap", recorded(domain, 7))
    replay = tmp_path / "replay"
    assert sorted(taken(replay, domain, robot, other)) == ["e0", "e1", "e2", "e7"]
    assert sorted(taken(replay, domain, robot, other)) == ["e0", "e1", "e2", "e7"]
    shutil.rmtree(robot)
    with open_replay(replay, domain, ROBOT) as again:
        assert len(again.episodes([entry.digest for entry in again.taken])) == 4


def test_what_is_labelled_later_takes_the_place_of_what_it_was(tmp_path: Path, robot: Path, domain: Domain) -> None:
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        replay.take_from([robot])
        before = {entry.episode_id: entry.digest for entry in replay.taken}
        for words in ("spilt", "stood"):  # of one length: the second label changes neither time nor size
            assert label([str(robot / "e1.mcap"), "--success", "false", "--note", words]) == 0
            assert [entry.episode_id for entry in replay.take_from([robot])] == ["e1"]
    with open_replay(tmp_path / "replay", domain, ROBOT) as again:
        now = {entry.episode_id: entry.digest for entry in again.taken}
        assert len(again.taken) == 3 and now["e1"] != before["e1"] and now["e0"] == before["e0"]
        (labelled,) = again.episodes([now["e1"]])
        assert labelled.meta.success is False
        (as_it_was,) = again.episodes([before["e1"]])  # of a round that was begun before
        assert as_it_was.rewards is not None and as_it_was.rewards.sum() == 1.0


def test_what_came_of_a_policys_skills_is_told(tmp_path: Path, robot: Path, domain: Domain) -> None:
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        entry = replay.take_from([robot])[0]
    assert dict(entry.skills) == {"whole": 5} and told_of(entry) == "took e0.mcap: 80 steps, skills: 5 whole"


def test_what_is_being_written_waits(tmp_path: Path, robot: Path, domain: Domain) -> None:
    with open(robot / "e1.mcap", "rb") as file, open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        replay.take_from([robot])
        assert [entry.episode_id for entry in replay.taken] == ["e0", "e2"]
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
        assert [entry.episode_id for entry in replay.take_from([robot])] == ["e1"]


def test_what_does_not_belong_is_refused_once_with_the_reason(tmp_path: Path, robot: Path, domain: Domain) -> None:
    whole = (robot / "e1.mcap").read_bytes()
    (robot / "e1.mcap").write_bytes(whole[: len(whole) // 2])
    fast = recorded(domain, 5)
    write_episode(robot / "e5.mcap", replace(fast, meta=replace(fast.meta, rate_hz=50.0)))
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        said = {entry.name: entry.refused for entry in replay.take_from([robot])}
        assert "skimo repair" in said["e1.mcap"] and "50 control steps per second" in said["e5.mcap"]
        assert not said["e0.mcap"] and not said["e2.mcap"]
        assert replay.take_from([robot]) == []
        (robot / "e1.mcap").write_bytes(whole)  # mended
        assert [entry.episode_id for entry in replay.take_from([robot])] == ["e1"]
    assert (robot / "e5.mcap").exists()


@pytest.mark.parametrize("moment", ["before the copy", "after the copy", "in mid-line"])
def test_a_learner_that_dies_loses_none_and_counts_none_twice(
    tmp_path: Path, robot: Path, domain: Domain, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder = tmp_path / "replay"
    write, note = module.write_atomic, Replay._note
    calls = iter(range(10))

    def dies(*arguments: object) -> None:
        if next(calls) == 1:
            if moment == "in mid-line":
                with open(folder / "taken.jsonl", "ab") as log:
                    log.write(b'{"digest": "0')
            raise KeyboardInterrupt
        (write if moment == "before the copy" else note)(*arguments)  # type: ignore[operator]

    with monkeypatch.context() as patch:
        if moment == "before the copy":
            patch.setattr(module, "write_atomic", dies)
        else:
            patch.setattr(Replay, "_note", dies)
        with pytest.raises(KeyboardInterrupt):
            taken(folder, domain, robot)
    assert taken(folder, domain, robot) == ["e0", "e1", "e2"]
    assert len(list((folder / "episodes").glob("*.mcap"))) == 3


def test_one_learner_uses_a_replay(tmp_path: Path, domain: Domain) -> None:
    with (
        open_replay(tmp_path / "replay", domain, ROBOT),
        pytest.raises(StoreError, match="another learner"),
        open_replay(tmp_path / "replay", domain, ROBOT),
    ):
        pass


def test_a_disk_that_fills_up_in_mid_copy_takes_nothing_and_goes_on(
    tmp_path: Path, robot: Path, domain: Domain
) -> None:
    """Where half a line of the log is left, too: the next one does not go on in it."""
    folder, torn = tmp_path / "replay", robot / "torn.mcap"
    with open_replay(folder, domain, ROBOT) as replay:
        with files_of_at_most(2000), pytest.raises(StoreError, match=r"make room, e0\.mcap was not taken"):
            replay.take_from([robot])
        assert replay.taken == [] and list((folder / "episodes").iterdir()) == []
        assert len(replay.take_from([robot])) == 3
        torn.write_bytes(b"nothing")
        size = (folder / "taken.jsonl").stat().st_size
        with files_of_at_most(size + 50), pytest.raises(StoreError, match=r"make room, torn\.mcap was not taken"):
            replay.take_from([robot])
        assert [entry.name for entry in replay.take_from([robot])] == ["torn.mcap"]
    assert taken(folder, domain, robot) == ["e0", "e1", "e2"]
    with open_replay(folder, domain, ROBOT) as replay:
        assert [entry.name for entry in replay.refused] == ["torn.mcap"]


def test_a_copy_that_was_damaged_since_is_told(tmp_path: Path, robot: Path, domain: Domain) -> None:
    assert len(taken(tmp_path / "replay", domain, robot)) == 3
    copy = next((tmp_path / "replay" / "episodes").iterdir())
    copy.write_bytes(copy.read_bytes()[:-200])
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay, pytest.raises(EpisodeError, match=copy.name):
        replay.episodes([entry.digest for entry in replay.taken])


def test_what_is_taken_is_what_was_recorded(tmp_path: Path, robot: Path, domain: Domain) -> None:
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        replay.take_from([robot])
        first = replay.episodes([replay.taken[0].digest])[0]
    np.testing.assert_array_equal(first.observations, recorded(domain, 0).observations)
