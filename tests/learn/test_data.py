"""Episodes: windows stay inside one episode, and what is mis-shaped is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skimo_core.contract.errors import EpisodeError
from skimo_core.contract.specs import UNKNOWN, Named
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.cache import digest, from_episodes, load_folder
from skimo_core.episodes.episode import INTERVENE, Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_learn.data import EpisodeSet, check_widths, load_episodes


def arrays(lengths: tuple[int, ...] = (5, 12, 7)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    observations = [rng.normal(size=(t + 1, 30)).astype(np.float32) for t in lengths]
    return observations, [rng.uniform(-1, 1, (t, 9)).astype(np.float32) for t in lengths]


def test_every_window_lies_in_one_episode_and_none_is_missing() -> None:
    observations, actions = arrays()
    episodes = EpisodeSet.from_arrays(observations, actions)
    starts = episodes.windows(6)
    assert len(starts) == (12 - 6 + 1) + (7 - 6 + 1)
    for start in starts.tolist():
        owner = int(torch.searchsorted(episodes.starts_E, start, right=True)) - 1
        offset = start - int(episodes.starts_E[owner])
        rows = torch.arange(start, start + 7)
        assert np.array_equal(episodes.observations_RO[rows], observations[owner][offset : offset + 7])
        assert np.array_equal(episodes.actions_RA[rows[:-1]], actions[owner][offset : offset + 6])


def test_windows_that_are_shown_hold_no_step_of_the_policy() -> None:
    observations, actions = arrays((5, 12))
    shown = [np.ones(5, bool), np.ones(12, bool)]
    shown[1][6] = False
    episodes = EpisodeSet.from_arrays(observations, actions, shown=shown)
    assert (episodes.windows(5, shown=True) - 6).tolist() == [-6, 0, 1, 7]  # the second begins at row 6
    assert episodes.windows(5).tolist() == [0, *range(6, 14)]
    assert episodes.select([1]).windows(5, shown=True).tolist() == [0, 1, 7]
    with pytest.raises(EpisodeError, match="nobody shows 8 steps in a row in 2 episodes"):
        episodes.windows(8, shown=True)


def test_of_a_policys_recording_only_what_a_person_did_is_shown(tmp_path: Path, domain: Domain) -> None:
    observations, actions = arrays((5, 12))
    kinds = np.array([*["act"] * 7, *[INTERVENE] * 5, "done"])
    for o, a, source, k in zip(observations, actions, ("play", "policy"), (None, kinds)):
        meta = EpisodeMeta(episode_id=source, source=source)
        write_episode(tmp_path / f"{source}.mcap", Episode(observations=o, actions=a, meta=meta, kinds=k))
    for _ in range(2):  # from the recordings, then from the cache that they left
        episodes = load_episodes(tmp_path, domain=domain)
        assert episodes.shown_R.tolist() == [True] * 6 + [False] * 7 + [True] * 6
    shown = load_folder(tmp_path)[0]
    assert digest(shown.observations, shown.actions, ~shown.shown, shown.lengths) != shown.digest


def test_splitting_keeps_whole_episodes_and_shares_none() -> None:
    episodes = EpisodeSet.from_arrays(*arrays((5, 6, 7, 8, 9, 10)))
    train, held_out = episodes.split(0.34)
    assert sorted([*train.steps_E.tolist(), *held_out.steps_E.tolist()]) == [5, 6, 7, 8, 9, 10]
    assert held_out.steps_E.tolist() == [7, 10]


def test_windows_longer_than_every_episode_are_refused() -> None:
    with pytest.raises(EpisodeError, match=r"longest of 3 episodes has 12 steps.*needs 30"):
        EpisodeSet.from_arrays(*arrays()).windows(30)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda o, a: o.__setitem__(1, o[1][:, :29]), r"play: episode 1: observations is float32 \[13, 29\]"),
        (lambda o, a: a.__setitem__(2, a[2][:-1]), r"play: episode 2: observations has 8 rows for 6 actions"),
        (lambda o, a: a.__setitem__(0, a[0].astype(np.float64)), r"play: episode 0: actions is float64"),
        (lambda o, a: o[1].__setitem__((4, 3), np.nan), r"play: episode 1: observations row 4 channel 3 is nan"),
        (lambda o, a: a.pop(), r"play: 3 observation arrays and 2 action arrays"),
    ],
)
def test_mis_shaped_data_name_source_episode_and_field(damage, message: str) -> None:
    observations, actions = arrays()
    damage(observations, actions)
    with pytest.raises(EpisodeError, match=message):
        EpisodeSet.from_arrays(observations, actions, source="play")


def test_another_robots_episodes_are_refused(domain: Domain) -> None:
    observations, actions = arrays()
    check_widths(EpisodeSet.from_arrays(observations, actions), domain.observation, domain.action)
    narrow = EpisodeSet.from_arrays([o[:, :20] for o in observations], actions, source="maze")
    with pytest.raises(EpisodeError, match="maze: observations has width 20"):
        check_widths(narrow, domain.observation, domain.action)
    actions[1][4, 2] = 1.5
    with pytest.raises(EpisodeError, match=r"play: episode 1: actions step 4 is 1\.500"):
        check_widths(EpisodeSet.from_arrays(observations, actions, source="play"), domain.observation, domain.action)


def record(folder: Path, *metas: EpisodeMeta) -> list[Episode]:
    """Recordings of those episodes."""
    observations, actions = arrays((5, 12, 7)[: len(metas)])
    folder.mkdir(exist_ok=True)
    made = [Episode(observations=o, actions=a, meta=m) for o, a, m in zip(observations, actions, metas)]
    for episode in made:
        write_episode(folder / f"{episode.meta.episode_id}.mcap", episode)
    return made


def test_recordings_load_as_they_were_written_and_a_changed_cache_is_refused(tmp_path: Path, domain: Domain) -> None:
    made = record(tmp_path / "play", *(EpisodeMeta(episode_id=f"e{i}", source="play") for i in range(3)))
    loaded = load_episodes(tmp_path / "play", domain=domain)
    again = load_episodes(tmp_path / "play", domain=domain)
    assert loaded.digests == {"play": from_episodes(made).digest} == again.digests
    assert torch.equal(loaded.observations_RO, EpisodeSet.from_arrays(*arrays()).observations_RO)
    path = tmp_path / "play" / "cache" / "actions.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(EpisodeError, match="digest"):
        load_episodes(tmp_path / "play", domain=domain)
    with pytest.raises(EpisodeError, match="no such folder"):
        load_episodes(tmp_path / "none", domain=domain)


def whole_meta(domain: Domain, episode_id: str = "e0") -> EpisodeMeta:
    return EpisodeMeta(
        episode_id=episode_id,
        source="play",
        domain=domain.named,
        robot=load_limits(domain.robot).named,
        channels=domain.observation.names,
        rate_hz=domain.action.rate_hz,
    )


OTHER = Named(name="other", digest="ab" * 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"domain": OTHER}, r"domain 'other' \(digest abababababab\), wanted 'kitchen' \(digest .*--domain"),
        ({"robot": OTHER}, r"robot 'other' \(digest abababababab\), wanted 'panda' \(digest .*--robot"),
        ({"rate_hz": 20.0}, r"20 control steps per second, wanted 12\.5"),
        ({"channels": tuple(f"c{i}" for i in range(30))}, r"channel 0 'c0', wanted 'panda_joint1'"),
    ],
)
@pytest.mark.parametrize("folders", [1, 2])
def test_recordings_of_something_else_are_refused_even_among_others(
    tmp_path: Path, change: dict[str, Any], words: str, folders: int, domain: Domain
) -> None:
    odd = replace(whole_meta(domain, "e1"), **change)
    if folders == 1:
        paths = [tmp_path / "one"]
        record(paths[0], whole_meta(domain), odd)
    else:
        paths = [tmp_path / "one", tmp_path / "two"]
        record(paths[0], whole_meta(domain))
        record(paths[1], odd)
    with pytest.raises(EpisodeError, match=rf"{paths[-1].name}: episode e1: .*{words}"):
        load_episodes(*paths, domain=domain)


def test_what_recordings_say_is_kept_and_what_they_leave_open_is_told(
    tmp_path: Path, domain: Domain, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "open", EpisodeMeta(episode_id="e0", source="teleop"))
    record(tmp_path / "whole", whole_meta(domain, "e1"))
    loaded = load_episodes(tmp_path / "open", domain=domain)
    assert loaded.robot == UNKNOWN
    said = capsys.readouterr().out
    assert "open: 1 of 1 episodes don't name their domain; taken as 'kitchen' (digest " in said
    assert "don't name their robot; taken as 'panda'" in said and "don't name their channels" in said
    both = load_episodes(tmp_path / "whole", tmp_path / "open", domain=domain)
    assert both.robot == load_limits("panda").named == both.split(0.5)[0].robot
    load_episodes(tmp_path / "whole", domain=domain)
    assert "whole: " not in capsys.readouterr().out


def test_recordings_made_with_a_named_robot_are_taken_as_such(tmp_path: Path, domain: Domain) -> None:
    fr3 = load_limits("fr3")
    record(tmp_path / "play", replace(whole_meta(domain), robot=fr3.named))
    assert load_episodes(tmp_path / "play", domain=domain, robot=fr3).robot == fr3.named
