"""The episode format: what is written is read; what is damaged is refused by name, or salvaged on request."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from skimo_core.contract.errors import EpisodeError
from skimo_core.control.loop import StepKind
from skimo_core.episodes import recording
from skimo_core.episodes.cache import from_episodes, load_folder, read_cache
from skimo_core.episodes.cli import repair
from skimo_core.episodes.definitions import EPISODE_STEP, SEPARATOR
from skimo_core.episodes.episode import INTERVENE, KINDS, Episode, EpisodeMeta, check_episode
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


def test_a_step_says_whose_skill_was_in_force_and_skills_of_two_sizes_come_back(tmp_path: Path) -> None:
    skills = np.full((6, 4), 0.5, np.float32)
    skills[0] = np.nan  # none yet
    skills[1:3, 3:] = np.nan  # the first bundle's are one number shorter
    bundle_ids = np.array(["", "a", "a", "b", "b", "b"])
    episode = replace(an_episode(6), skills=skills, bundle_ids=bundle_ids)
    write_episode(tmp_path / "e.mcap", episode)
    back = read_episode(tmp_path / "e.mcap")
    assert back.skills is not None and back.bundle_ids is not None
    np.testing.assert_array_equal(back.skills, skills)
    np.testing.assert_array_equal(back.bundle_ids, bundle_ids)
    for wrong in (bundle_ids[:5], np.arange(6)):
        with pytest.raises(EpisodeError, match="bundle_ids is"):
            check_episode(replace(episode, bundle_ids=wrong), "here")


def test_skills_of_two_sizes_of_one_bundle_are_refused(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "e.mcap", EpisodeMeta(episode_id="e", source="policy")) as writer:
        for size in (3, 4, 4):
            skill_Z = np.zeros(size, np.float32)
            writer.step(0.0, np.zeros(30, np.float32), np.zeros(9, np.float32), skill_Z=skill_Z, bundle_id="a")
    with pytest.raises(EpisodeError, match=r"skill has rows of widths \[3, 4\]"):
        read_episode(tmp_path / "e.mcap")


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


def known_steps(episode: Episode) -> Episode:
    """The episode with all that a control step may hold; two steps were held before the first plan."""
    rng = np.random.default_rng(1)
    steps = episode.steps
    proposed, skills = rng.uniform(-1, 1, (2, steps, 9)).astype(np.float32)
    proposed[:2] = skills[:2] = np.nan
    kinds = np.array(["prepare", "hold", *["act"] * (steps - 2), "done"])
    return replace(
        episode,
        actions_proposed=proposed,
        skills=skills[:, :6],
        rewards=rng.integers(0, 2, steps + 1).astype(np.float32),
        kinds=kinds,
        verdicts=rng.integers(0, 4, steps + 1).astype(np.uint8),
    )


OPTIONAL = ("actions_proposed", "skills", "rewards", "kinds", "verdicts")


def test_all_that_a_step_holds_is_written_and_read(tmp_path: Path) -> None:
    episode = known_steps(an_episode())
    write_episode(tmp_path / "e.mcap", episode)
    back = read_episode(tmp_path / "e.mcap")
    for field in OPTIONAL:
        np.testing.assert_array_equal(getattr(back, field), getattr(episode, field), err_msg=field)
        assert getattr(back, field).dtype.kind == getattr(episode, field).dtype.kind


def test_what_is_not_known_of_a_step_stays_unknown(tmp_path: Path) -> None:
    write_episode(tmp_path / "e.mcap", an_episode())
    assert all(getattr(read_episode(tmp_path / "e.mcap"), field) is None for field in OPTIONAL)


def test_the_kinds_are_the_loops() -> None:
    assert set(KINDS) == {kind.value for kind in StepKind} | {INTERVENE}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("actions_proposed", np.zeros((20, 8), np.float32), "actions_proposed: shape"),
        ("skills", np.zeros((19, 6), np.float32), "skills: shape"),
        ("rewards", np.full(21, np.inf, np.float32), "rewards: element"),
        ("kinds", np.array(["act"] * 20 + ["rest"]), "kinds .* must be .* hold"),
        ("verdicts", np.zeros(21), "verdicts: dtype"),
    ],
)
def test_misshaped_steps_name_their_field(field: str, value: np.ndarray, words: str) -> None:
    with pytest.raises(EpisodeError, match=rf"file\.mcap: episode play-0: {words}"):
        check_episode(replace(known_steps(an_episode()), **{field: value}), "file.mcap")


def test_metadata_survives_json() -> None:
    meta = an_episode().meta
    assert EpisodeMeta.from_json(meta.to_json()) == meta
    assert "/" not in json.loads(meta.to_json())["episode_id"]
    with pytest.raises(EpisodeError):
        EpisodeMeta.from_json("{}")
