"""The episode format: what is written is read; what is damaged is refused by name, or salvaged on request."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from skimo_core.contract.errors import EpisodeError
from skimo_core.episodes import recording
from skimo_core.episodes.cache import from_episodes, load_folder, read_cache
from skimo_core.episodes.cli import ingest, repair
from skimo_core.episodes.definitions import EPISODE_STEP, SEPARATOR
from skimo_core.episodes.episode import Episode, EpisodeMeta, check_episode
from skimo_core.episodes.hdf5 import read_hdf5
from skimo_core.episodes.recording import EpisodeWriter, read_episode, write_episode

MESSAGE = Path(__file__).parents[2] / "ros2_ws" / "src" / "skimo_msgs" / "msg" / "EpisodeStep.msg"


def an_episode(steps: int = 20, seed: int = 0, name: str = "play-0", width: int = 30) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        observations=rng.normal(size=(steps + 1, width)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(steps, 9)).astype(np.float32),
        meta=EpisodeMeta(episode_id=name, source="play", task="kettle", seed=seed, start_q_rad=(0.1,) * 7),
    )


@given(steps=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, steps: int, width: int, seed: int) -> None:
    path = tmp_path_factory.mktemp("episodes") / "e.mcap"
    episode = an_episode(steps, seed, width=width)
    write_episode(path, episode)
    back = read_episode(path)
    assert np.array_equal(back.observations, episode.observations)
    assert np.array_equal(back.actions, episode.actions)
    assert back.meta == episode.meta


def test_the_message_text_is_the_interface_file() -> None:
    fields = [line.partition("#")[0].split() for line in MESSAGE.read_text(encoding="utf-8").splitlines()]
    ours = [line.split() for line in EPISODE_STEP.split(SEPARATOR)[0].splitlines()]
    assert [f for f in fields if f] == [f for f in ours if f]


def test_public_readers_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    episode = an_episode(3)
    write_episode(path, episode)
    with path.open("rb") as stream:
        rows = list(make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages())
    assert [row[3].step for row in rows] == [0, 1, 2, 3]
    assert getattr(rows[1][0], "name", "") == "skimo_msgs/msg/EpisodeStep"
    assert rows[1][3].header.stamp.nanosec == 80_000_000
    np.testing.assert_array_equal(np.float32(rows[2][3].action_applied), episode.actions[2])


def test_steps_are_found_by_their_type_under_any_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "TOPIC", "/left/skimo/episode_step")
    episode = an_episode(5)
    write_episode(tmp_path / "e.mcap", episode)
    assert np.array_equal(read_episode(tmp_path / "e.mcap").observations, episode.observations)


def test_what_is_advised_about_a_cut_file_can_be_done(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    write_episode(path, an_episode())
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(EpisodeError, match=r"mend it with `skimo repair`, or drop it"):
        read_episode(path)
    assert repair([str(path)]) == 0
    assert read_episode(path).steps == 20


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    write_episode(tmp_path / "e.mcap", an_episode())
    with pytest.raises(EpisodeError, match="exists"):
        write_episode(tmp_path / "e.mcap", an_episode())


@given(keep=st.floats(0.0, 0.999))
@settings(max_examples=15, deadline=None)
def test_a_cut_file_is_refused_and_its_whole_steps_can_be_salvaged(
    tmp_path_factory: pytest.TempPathFactory, keep: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    episode = an_episode(250)
    write_episode(folder / "e.mcap", episode)
    whole = (folder / "e.mcap").read_bytes()
    cut = folder / "cut.mcap"
    cut.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(EpisodeError, match=r"cut\.mcap"):
        read_episode(cut)
    try:
        saved = read_episode(cut, salvage=True)
    except EpisodeError as error:
        assert "cut.mcap" in str(error) and keep < 0.5
        return
    assert np.array_equal(saved.observations, episode.observations[: len(saved.observations)])
    assert np.array_equal(saved.actions, episode.actions[: saved.steps])


def test_a_writer_that_is_killed_loses_only_its_last_steps(tmp_path: Path) -> None:
    episode = an_episode(400)
    path = tmp_path / "e.mcap"
    writer = EpisodeWriter(path, episode.meta)
    for t in range(400):
        writer.step(t * 0.08, episode.observations[t], episode.actions[t])
    size_before_its_end = path.stat().st_size
    writer.close()
    path.write_bytes(path.read_bytes()[:size_before_its_end])
    saved = read_episode(path, salvage=True)
    assert saved.steps > 400 - 120  # a chunk of 16 KiB holds about 75 steps


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    write_episode(path, an_episode(200))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(EpisodeError, match=r"e\.mcap"):
        read_episode(path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"observations": np.zeros((3, 30), np.float32)}, "observations"),
        ({"observations": np.full((21, 30), np.nan, np.float32)}, "observations"),
        ({"actions": np.zeros((20, 9))}, "actions"),
        ({"actions": np.zeros(20, np.float32)}, "actions"),
    ],
)
def test_a_misshaped_episode_names_file_episode_and_field(change: dict[str, np.ndarray], field: str) -> None:
    with pytest.raises(EpisodeError) as caught:
        check_episode(replace(an_episode(), **change), "file.mcap")
    assert all(word in str(caught.value) for word in ("file.mcap", "play-0", field))


def test_rows_of_different_widths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    with EpisodeWriter(path, EpisodeMeta(episode_id="odd", source="teleop")) as writer:
        for width in (30, 30, 29):
            writer.step(0.0, np.zeros(width, np.float32), np.zeros(9, np.float32))
    with pytest.raises(EpisodeError, match=r"e\.mcap.*odd.*observation"):
        read_episode(path)


def test_a_folder_becomes_a_cache_and_a_changed_cache_is_refused(tmp_path: Path) -> None:
    episodes = [an_episode(10 + i, i, f"play-{i}") for i in range(3)]
    for episode in episodes:
        write_episode(tmp_path / f"{episode.meta.episode_id}.mcap", episode)
    made, _ = load_folder(tmp_path)
    again, _ = load_folder(tmp_path)
    assert made.digest == again.digest == from_episodes(episodes).digest
    assert np.array_equal(again.episode(1).actions, episodes[1].actions)
    array = np.load(tmp_path / "cache" / "actions.npy")
    array[0, 0] += 1.0
    np.save(tmp_path / "cache" / "actions.npy", array)
    with pytest.raises(EpisodeError, match="digest"):
        read_cache(tmp_path / "cache")


def test_one_damaged_recording_is_named_and_the_rest_still_loads(tmp_path: Path) -> None:
    for i in range(3):
        write_episode(tmp_path / f"play-{i}.mcap", an_episode(10, i, f"play-{i}"))
    (tmp_path / "play-1.mcap").write_bytes((tmp_path / "play-1.mcap").read_bytes()[:-200])
    with pytest.raises(EpisodeError, match=r"play-1\.mcap"):
        load_folder(tmp_path)
    cache, errors = load_folder(tmp_path, skip_damaged=True)
    assert len(cache) == 2 and len(errors) == 1 and "play-1.mcap" in errors[0]


def d4rl_file(path: Path, *, width: int = 60, timeouts: bool = True, steps: tuple[int, ...] = (30, 20)) -> np.ndarray:
    rng = np.random.default_rng(0)
    total = sum(steps)
    observations = rng.normal(size=(total, width)).astype(np.float32)
    ends = np.zeros(total, bool)
    ends[np.cumsum(steps) - 1] = True
    with h5py.File(path, "w") as file:
        file["observations"] = observations
        file["actions"] = rng.uniform(-1, 1, (total, 9)).astype(np.float32)
        file["terminals"] = np.zeros(total, bool) if timeouts else ends
        if timeouts:
            file["timeouts"] = ends
    return observations


@pytest.mark.parametrize("width", [30, 60])
@pytest.mark.parametrize("timeouts", [True, False])
def test_d4rl_files_are_ingested(
    tmp_path: Path, width: int, timeouts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    observations = d4rl_file(tmp_path / "kitchen.hdf5", width=width, timeouts=timeouts)
    assert ingest(["--source", str(tmp_path / "kitchen.hdf5"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("ingested 2 episodes 48 steps digest ")
    cache, _ = load_folder(tmp_path / "out")
    assert cache.lengths.tolist() == [29, 19]  # the state after the last action was not stored
    np.testing.assert_array_equal(cache.episode(1).observations, observations[30:, :30])
    assert {meta.arm for meta in cache.metas} == {"kitchen"}


def test_minari_files_are_read_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(12, 8, 59))
    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
        for i in range(12):
            group = file.create_group(f"episode_{i}")
            group.create_group("observations")["observation"] = observations[i]
            group["actions"] = rng.uniform(-1, 1, (7, 9))
    episodes, errors = read_hdf5(tmp_path / "main_data.hdf5")
    assert not errors and [e.meta.episode_id for e in episodes] == [f"episode_{i}" for i in range(12)]
    expected = np.concatenate([observations[2][:, :9], observations[2][:, 18:39]], axis=1)
    np.testing.assert_allclose(episodes[2].observations, expected, rtol=1e-6)


def test_a_damaged_hdf5_episode_is_named_and_the_rest_still_loads(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.hdf5"
    observations = d4rl_file(path)
    observations[35, 3] = np.nan
    with h5py.File(path, "r+") as file:
        del file["observations"]
        file["observations"] = observations
    with pytest.raises(EpisodeError, match=r"kitchen\.hdf5.*episode 1.*observations"):
        read_hdf5(path)
    episodes, errors = read_hdf5(path, skip_damaged=True)
    assert len(episodes) == 1 and "episode 1" in errors[0]


def test_a_minari_episode_without_a_field_is_named_and_the_rest_still_loads(tmp_path: Path) -> None:
    path = tmp_path / "main_data.hdf5"
    with h5py.File(path, "w") as file:
        for i in range(3):
            file[f"episode_{i}/observations"] = np.zeros((8, 30))
            if i != 1:
                file[f"episode_{i}/actions"] = np.zeros((7, 9))
    with pytest.raises(EpisodeError, match=r"main_data\.hdf5.*episode_1.*actions"):
        read_hdf5(path)
    episodes, errors = read_hdf5(path, skip_damaged=True)
    assert [e.meta.episode_id for e in episodes] == ["episode_0", "episode_2"] and len(errors) == 1


@pytest.mark.parametrize("field", ["actions", "terminals"])
def test_a_missing_field_or_a_cut_file_is_named(tmp_path: Path, field: str) -> None:
    path = tmp_path / "kitchen.hdf5"
    d4rl_file(path)
    with h5py.File(path, "r+") as file:
        del file[field]
    with pytest.raises(EpisodeError, match=field):
        read_hdf5(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EpisodeError, match=r"kitchen\.hdf5"):
        read_hdf5(path)


def test_metadata_survives_json() -> None:
    meta = an_episode().meta
    assert EpisodeMeta.from_json(meta.to_json()) == meta
    assert "/" not in json.loads(meta.to_json())["episode_id"]
    with pytest.raises(EpisodeError):
        EpisodeMeta.from_json("{}")
