"""What recordings say of bundles: whose commands they were, what the gate made of them, what was done."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from promote.conftest import STEPS, recorded

from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.locks import lock
from skimo_core.episodes.recording import EpisodeWriter
from skimo_promote.driven import Driven, Gate, Recordings

A, B = "a" * 64, "b" * 64
LIMIT, HOLD, STOP = 1, 2, 3


def only(path: Path) -> Driven:
    (found,) = Recordings([path.parent]).look(0.0)
    return found


def test_of_one_bundle(tmp_path: Path) -> None:
    seen = only(recorded(tmp_path / "x.mcap", A, done=3, verdicts=[0, LIMIT, LIMIT, HOLD], at_s=2e9))
    assert (seen.bundle_id, seen.done, seen.whole, seen.began_s) == (A, 0.75, True, 2e9)
    assert seen.gate == Gate(commands=STEPS, verdicts={"LIMIT": 2, "HOLD": 1}) and seen.gate.meddled == 3


def test_of_two_bundles_each_answers_for_its_own_commands(tmp_path: Path) -> None:
    ids = [A] * 8 + [""] * 2 + [B] * 10
    seen = only(recorded(tmp_path / "x.mcap", A, ids=ids, verdicts=[LIMIT] * 11))
    assert seen.bundle_id == "" and seen.gate == Gate(commands=0, verdicts={})
    assert seen.gates == {A: Gate(commands=8, verdicts={"LIMIT": 8}), B: Gate(commands=10, verdicts={"LIMIT": 1})}


def test_a_step_without_a_skill_belongs_to_the_only_bundle(tmp_path: Path) -> None:
    seen = only(recorded(tmp_path / "x.mcap", B, ids=["", *[A] * (STEPS - 1)], verdicts=[STOP]))
    assert seen.bundle_id == A and seen.gate.stops == 1


def test_the_last_observations_verdict_counts_if_it_is_a_stop(tmp_path: Path) -> None:
    assert only(recorded(tmp_path / "x.mcap", A, verdicts=[0] * STEPS + [STOP])).gate.stops == 1


def test_what_a_person_does_is_not_the_bundles(tmp_path: Path) -> None:
    seen = only(recorded(tmp_path / "x.mcap", A, done=4, helped_from=2, verdicts=[0, 0, LIMIT, STOP]))
    assert seen.done == 0.5 and seen.gate == Gate(commands=2, verdicts={})


def test_play_and_teleoperation_are_not_looked_at(tmp_path: Path) -> None:
    recorded(tmp_path / "x.mcap", "", source="play")
    assert Recordings([tmp_path]).look(0.0) == []


def test_a_recordings_own_stamps_tell_when_it_began(tmp_path: Path) -> None:
    for name, first_s in (("wall", 1.9e9), ("sim", 5.0), ("ahead", 2.1e9)):
        meta = EpisodeMeta(episode_id=name, source="policy", task="a", bundle_id=A)
        with EpisodeWriter(tmp_path / f"{name}.mcap", meta) as writer:
            for t in range(3):
                action = None if t == 2 else np.zeros(2, np.float32)
                writer.step(first_s + t, np.zeros(3, np.float32), action, kind="done" if t == 2 else "act")
        os.utime(tmp_path / f"{name}.mcap", (2e9, 2e9))
    began = {seen.name: seen.began_s for seen in Recordings([tmp_path]).look(0.0)}
    assert began == {"wall.mcap": pytest.approx(1.9e9), "sim.mcap": 2e9, "ahead.mcap": 2e9}


def test_one_that_is_being_written_is_looked_at_when_it_is_done(tmp_path: Path) -> None:
    path, watched = recorded(tmp_path / "x.mcap", A), Recordings([tmp_path])
    with open(path, "rb") as file:
        assert lock(file.fileno())
        assert watched.look(0.0) == []
    assert len(watched.look(0.0)) == 1


def test_each_counts_once_and_what_changes_counts_as_it_is_now(tmp_path: Path) -> None:
    path, watched = recorded(tmp_path / "x.mcap", A), Recordings([tmp_path, tmp_path])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])  # as it is copied by somebody who takes no lock
    assert [seen.whole for seen in watched.look(0.0)] == [False]
    path.write_bytes(whole)
    (tmp_path / "copy.mcap").write_bytes(whole)
    assert [seen.whole for seen in watched.look(0.0)] == [True]


def test_what_cannot_be_read_is_named_and_left(tmp_path: Path) -> None:
    path, watched = tmp_path / "x.mcap", Recordings([tmp_path])
    path.write_bytes(b"nothing")
    assert watched.look(0.0) == [] and "MCAP" in watched.unread["x.mcap"]
    path.unlink()
    recorded(path, A)
    assert len(watched.look(0.0)) == 1 and watched.unread == {}


def test_of_before_is_not_opened(tmp_path: Path) -> None:
    recorded(tmp_path / "x.mcap", A, at_s=2e9)
    (tmp_path / "y.mcap").write_bytes(b"nothing")
    os.utime(tmp_path / "y.mcap", (1e9, 1e9))
    watched = Recordings([tmp_path])
    assert len(watched.look(1.5e9)) == 1 and watched.unread == {}
    assert watched.look(3e9) == []
