"""Corrections: a bundle drives, the teleoperator does what it leaves, and the recording says who acted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.specs import Named
from skimo_core.domain.domain import load_domain
from skimo_core.episodes.cache import load_folder
from skimo_core.episodes.episode import INTERVENE
from skimo_core.episodes.recording import read_episode
from skimo_eval.intervene import main
from skimo_server.bundle import load_bundle, resolve_bundle, rewrite_bundle
from skimo_sim.play.player import Player


@pytest.mark.parametrize("name", ["kitchen", "table"])
def test_every_script_has_a_goal_of_the_domain(name: str) -> None:
    domain = load_domain(name)
    for script in Player(domain).teleoperator.scripts.values():
        assert len(domain.task(script.goal).subtasks) == 1


def test_a_recording_says_who_acted_and_only_the_teleoperator_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "fixes"), "--episodes", "1", "--seed", "7", "--workers", "1"]) == 0
    (path,) = (tmp_path / "fixes").glob("*.mcap")
    episode = read_episode(path)
    assert episode.meta.source == "policy" and len(episode.meta.bundle_id) == 64 and episode.kinds is not None
    assert set(episode.kinds[:-1]) == {"act", INTERVENE} and episode.kinds[0] == "act" and episode.kinds[-1] == "done"
    cache, _ = load_folder(tmp_path / "fixes")
    np.testing.assert_array_equal(cache.shown, episode.kinds[:-1] == INTERVENE)
    assert f"{cache.shown.mean():.0%} of them by the teleoperator" in capsys.readouterr().out


def test_a_bundle_that_isn_t_there_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "fixes"), "--bundle", "nothing"]) == 1
    assert "skimo intervene: " in capsys.readouterr().err and not (tmp_path / "fixes").exists()


def test_a_bundle_of_another_domain_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen = load_bundle(resolve_bundle("kitchen"))
    rewrite_bundle(kitchen, tmp_path / "bench", domain=Named(name="bench", digest="0" * 64))
    asked = ["--out", str(tmp_path / "fixes"), "--bundle", str(tmp_path / "bench"), "--domain", "kitchen"]
    assert main(asked) == 1
    assert "its domain is 'bench'" in capsys.readouterr().err and not (tmp_path / "fixes").exists()
