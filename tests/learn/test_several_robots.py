"""Recordings of several robots that come to the learner's folder by a copy: whole ones are taken, once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from learn.robot import recorded

from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.recording import write_episode
from skimo_learn.replay import Replay, open_replay

ROBOT = load_limits("panda")


@pytest.fixture
def whole(tmp_path: Path, domain: Domain) -> bytes:
    """A recording, as it lies on a robot's machine."""
    write_episode(tmp_path / "e1.mcap", recorded(domain, 1))
    return (tmp_path / "e1.mcap").read_bytes()


def looked(replay: Replay, folder: Path) -> list[tuple[str, bool]]:
    """What a look at the folder took (True) or refused, by name."""
    return [(entry.name, not entry.refused) for entry in replay.take_from([folder])]


def test_what_is_copied_aside_and_renamed_is_seen_when_it_is_whole(
    tmp_path: Path, domain: Domain, whole: bytes
) -> None:
    """As rsync does it, whose temporary names end in six letters of chance."""
    (folder := tmp_path / "left").mkdir()
    aside = folder / ".e1.mcap.Xq3b9Z"
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        aside.write_bytes(whole[: len(whole) // 2])
        assert looked(replay, folder) == []
        aside.write_bytes(whole)
        assert looked(replay, folder) == []
        os.replace(aside, folder / "e1.mcap")
        assert looked(replay, folder) == [("e1.mcap", True)]
        assert looked(replay, folder) == [] and replay.refused == []


def test_a_slow_copy_under_the_last_name_is_refused_until_it_is_whole(
    tmp_path: Path, domain: Domain, whole: bytes
) -> None:
    """Each part that a look meets is refused for itself, by its digest; the whole is another content, and taken."""
    (folder := tmp_path / "left").mkdir()
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        for part in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
            (folder / "e1.mcap").write_bytes(whole[:part])
            assert looked(replay, folder) == [("e1.mcap", False)], part
            assert looked(replay, folder) == [], part
        assert replay.taken == []
        (folder / "e1.mcap").write_bytes(whole)
        assert looked(replay, folder) == [("e1.mcap", True)]
        assert [entry.episode_id for entry in replay.taken] == ["e1"] and len(replay.refused) == 5


def test_the_same_recording_by_two_ways_counts_once(tmp_path: Path, domain: Domain, whole: bytes) -> None:
    """Copied by two machines, under other names, and again after it was taken away."""
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
    (tmp_path / "left" / "e1.mcap").write_bytes(whole)
    (tmp_path / "right" / "robot-2-e1.mcap").write_bytes(whole)
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        replay.take_from([tmp_path / "left", tmp_path / "right"])
        shutil.move(tmp_path / "left" / "e1.mcap", tmp_path / "right" / "e1.mcap")
        assert replay.take_from([tmp_path / "left", tmp_path / "right"]) == []
        assert len(replay.taken) == 1
