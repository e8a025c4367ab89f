"""Recordings that can't be used may be left out of training, and are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import EpisodeError
from skimo_core.domain.domain import load_domain
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import EpisodeWriter, write_episode
from skimo_learn.data import load_episodes

KITCHEN = load_domain("kitchen")


def test_an_episode_that_was_over_at_once_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        meta = EpisodeMeta(episode_id=name, source="play", domain=KITCHEN.named, channels=KITCHEN.observation.names)
        episode = Episode(observations=np.tile(KITCHEN.start, (5, 1)), actions=np.zeros((4, 9), np.float32), meta=meta)
        write_episode(tmp_path / f"{name}.mcap", episode)
    over = EpisodeMeta(episode_id="over", source="policy", domain=KITCHEN.named)
    with EpisodeWriter(tmp_path / "over.mcap", over) as writer:
        writer.step(0.0, KITCHEN.start, None)
    with pytest.raises(EpisodeError, match=r"over.*needs at least 2"):
        load_episodes(tmp_path, domain=KITCHEN)
    assert len(load_episodes(tmp_path, domain=KITCHEN, skip_damaged=True)) == 2
    said = capsys.readouterr().out
    assert "1 of 3 recordings left out; the first: over.mcap" in said


def test_a_folder_of_nothing_usable_is_refused_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "broken.mcap").write_bytes(b"nothing")
    with pytest.raises(EpisodeError, match="no episodes"):
        load_episodes(tmp_path, domain=KITCHEN, skip_damaged=True)
