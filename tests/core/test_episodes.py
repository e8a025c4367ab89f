"""Recordings, cache and importers: what goes in comes out, and damage is named, salvaged on request, never silent."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimo_core.episodes.cache import from_episodes, load_folder, read_cache
from skimo_core.episodes.cli import ingest
from skimo_core.episodes.definitions import EPISODE_STEP
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.hdf5 import read_hdf5
from skimo_core.episodes.recording import EpisodeWriter, read_episode, write_episode
from skimo_core.errors import EpisodeError

MESSAGE = Path(__file__).parents[2] / "ros2_ws/src/skimo_msgs/msg/EpisodeStep.msg"


def make_episode(steps: int = 40, seed: int = 0, name: str = "one") -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        observations=rng.normal(size=(steps + 1, 30)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, 9)).astype(np.float32),
        meta=EpisodeMeta(episode_id=name, source="play", task="kettle", seed=seed, start_q_rad=(0.1,) * 7),
    )


@settings(max_examples=10, deadline=None)
@given(steps=st.integers(1, 60), seed=st.integers(0, 100))
def test_a_recording_reads_back_exactly(tmp_path_factory: pytest.TempPathFactory, steps: int, seed: int) -> None:
    path = tmp_path_factory.mktemp("recording") / "one.mcap"
    episode = make_episode(steps, seed)
    write_episode(path, episode)
    back = read_episode(path)
    assert back.meta == episode.meta
    np.testing.assert_array_equal(back.observations, episode.observations)
    np.testing.assert_array_equal(back.actions, episode.actions)


def test_the_schema_is_the_message_that_ros_builds() -> None:
    def fields(text: str) -> list[str]:
        lines = (re.sub(r"\s+", " ", line.partition("#")[0]).strip() for line in text.splitlines())
        return [line for line in lines if line]

    assert fields(EPISODE_STEP.partition("=" * 80)[0]) == fields(MESSAGE.read_text())


@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_a_cut_recording_is_refused_by_name_and_salvaged_on_request(tmp_path: Path, share: float) -> None:
    episode = make_episode(300)
    write_episode(tmp_path / "whole.mcap", episode)
    data = (tmp_path / "whole.mcap").read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(EpisodeError, match=r"cut\.mcap: .*salvage"):
        read_episode(cut)
    salvaged = read_episode(cut, salvage=True)
    assert 0 < salvaged.steps <= episode.steps
    np.testing.assert_array_equal(salvaged.actions, episode.actions[: salvaged.steps])


def test_a_writer_that_is_never_closed_loses_only_the_last_steps(tmp_path: Path) -> None:
    episode = make_episode(300)
    writer = EpisodeWriter(tmp_path / "open.mcap", episode.meta)
    for t in range(300):
        writer.step(t * 0.08, episode.observations[t], episode.actions[t])
    copy = tmp_path / "copy.mcap"
    copy.write_bytes((tmp_path / "open.mcap").read_bytes())  # what a killed process would leave behind
    assert read_episode(copy, salvage=True).steps > 200
    writer.close()


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    write_episode(tmp_path / "one.mcap", make_episode(300))
    data = bytearray((tmp_path / "one.mcap").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "one.mcap").write_bytes(data)
    with pytest.raises(EpisodeError, match=r"one\.mcap"):
        read_episode(tmp_path / "one.mcap")


def test_recordings_are_never_overwritten(tmp_path: Path) -> None:
    write_episode(tmp_path / "one.mcap", make_episode())
    with pytest.raises(EpisodeError, match="never overwritten"):
        write_episode(tmp_path / "one.mcap", make_episode())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observations": np.zeros((40, 30), np.float32)}, "observations has 40 rows for 40 actions"),
        ({"actions": np.full((40, 9), np.nan, np.float32)}, "actions holds a non-finite number at step 0"),
        ({"actions": np.zeros((40, 9))}, "actions is float64"),
    ],
)
def test_mis_shaped_episodes_are_refused(tmp_path: Path, change: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(EpisodeError, match=re.escape(words)):
        write_episode(tmp_path / "bad.mcap", replace(make_episode(), **change))


def test_the_cache_gives_the_episodes_and_follows_the_folder(tmp_path: Path) -> None:
    for index in range(3):
        write_episode(tmp_path / f"{index}.mcap", make_episode(10 + index, index, str(index)))
    first, errors = load_folder(tmp_path)
    again, _ = load_folder(tmp_path)
    assert not errors and first.digest == again.digest and len(again) == 3
    np.testing.assert_array_equal(again.episode(2).observations, make_episode(12, 2).observations)
    write_episode(tmp_path / "3.mcap", make_episode(5, 3, "3"))
    assert len(load_folder(tmp_path)[0]) == 4


def test_a_damaged_recording_is_named_and_the_rest_loads_on_request(tmp_path: Path) -> None:
    for index in range(3):
        write_episode(tmp_path / f"{index}.mcap", make_episode(10, index, str(index)))
    (tmp_path / "1.mcap").write_bytes((tmp_path / "1.mcap").read_bytes()[:500])
    with pytest.raises(EpisodeError, match=r"1\.mcap"):
        load_folder(tmp_path)
    cache, errors = load_folder(tmp_path, skip_damaged=True)
    assert len(cache) == 2 and len(errors) == 1 and "1.mcap" in errors[0]


def test_a_changed_cache_is_refused(tmp_path: Path) -> None:
    write_episode(tmp_path / "0.mcap", make_episode())
    load_folder(tmp_path)
    actions = np.load(tmp_path / "cache" / "actions.npy")
    actions[0, 0] += 1e-3
    np.save(tmp_path / "cache" / "actions.npy", actions)
    with pytest.raises(EpisodeError, match="delete the cache"):
        read_cache(tmp_path / "cache")


def test_episodes_of_another_width_do_not_mix() -> None:
    other = replace(make_episode(), observations=np.zeros((41, 29), np.float32))
    with pytest.raises(EpisodeError, match="observations has width 29, the first episode 30"):
        from_episodes([make_episode(), other])


def write_d4rl(path: Path, episodes: int = 3, steps: int = 20, width: int = 60) -> np.ndarray:
    rows = episodes * steps
    observations = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["observations"] = observations
        file["actions"] = np.zeros((rows, 9), np.float32)
        file["terminals"] = (np.arange(rows) % steps == steps - 1) & (np.arange(rows) < steps)
        file["timeouts"] = np.arange(rows) % steps == steps - 1
    return observations


def test_d4rl_files_become_episodes(tmp_path: Path) -> None:
    observations = write_d4rl(tmp_path / "kitchen.hdf5")
    episodes, errors = read_hdf5(tmp_path / "kitchen.hdf5")
    assert not errors and [e.steps for e in episodes] == [19, 19, 19]
    np.testing.assert_array_equal(episodes[1].observations, observations[20:40, :30])
    assert episodes[0].meta.arm == "kitchen"


@pytest.mark.parametrize("grouped", [True, False])
def test_minari_files_become_episodes(tmp_path: Path, grouped: bool) -> None:
    rng = np.random.default_rng(0)
    full = rng.normal(size=(12, 59))
    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
        for index in (0, 1, 10):
            group = file.create_group(f"episode_{index}")
            group["observations/observation" if grouped else "observations"] = full
            group["actions"] = np.zeros((11, 9))
    episodes, _ = read_hdf5(tmp_path / "main_data.hdf5")
    assert [e.meta.episode_id for e in episodes] == ["episode_0", "episode_1", "episode_10"]
    expected = np.concatenate([full[:, :9], full[:, 18:39]], axis=1).astype(np.float32)
    np.testing.assert_array_equal(episodes[0].observations, expected)


def test_damaged_hdf5_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.hdf5"
    write_d4rl(path)
    with h5py.File(path, "a") as file:
        del file["actions"]
    with pytest.raises(EpisodeError, match=r"kitchen\.hdf5: field actions is missing"):
        read_hdf5(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EpisodeError, match=r"kitchen\.hdf5: can't be read as HDF5"):
        read_hdf5(path)
    write_d4rl(tmp_path / "narrow.hdf5", width=20)
    with pytest.raises(EpisodeError, match=r"narrow\.hdf5: episode 0: observations have 20 columns"):
        read_hdf5(tmp_path / "narrow.hdf5")
    assert len(read_hdf5(tmp_path / "narrow.hdf5", skip_damaged=True)[1]) == 3


def test_the_ingest_command_writes_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_d4rl(tmp_path / "kitchen.hdf5")
    argv = ["--source", str(tmp_path / "kitchen.hdf5"), "--out", str(tmp_path / "out")]
    assert ingest(argv) == 0
    cache, _ = load_folder(tmp_path / "out")
    assert capsys.readouterr().out.strip() == f"ingested 3 episodes 57 steps digest {cache.digest}"
    assert json.loads((tmp_path / "out" / "cache" / "meta.json").read_text())["digest"] == cache.digest
    assert ingest(argv) == 1
    assert "not empty" in capsys.readouterr().err
