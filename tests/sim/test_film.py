"""From a recorded episode to a video and a filmstrip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_sim import film as films
from skimo_sim.scenes.kitchen import build_kitchen


class FlatPainter:
    """Paints every state one colour; the real one is tested in test_render.py where there is a GL library."""

    zero_rad = np.zeros(7)

    def __init__(self, arm: str, *, samples: int) -> None:
        self.arm = arm

    def paint(self, qpos: np.ndarray, camera: str) -> np.ndarray:
        assert qpos.shape == (30,)
        return np.full((48, 64, 3), 100, np.uint8)

    def __enter__(self) -> FlatPainter:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def episode(steps: int) -> np.ndarray:
    """Nothing moves but the microwave's door, which opens at half time."""
    states = np.repeat(build_kitchen().start_qpos[None], steps, axis=0)
    states[steps // 2 :, 22] = -0.75
    return states.astype(np.float32)


def test_an_episode_becomes_a_video_and_a_filmstrip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "Painter", FlatPainter)
    made = films.film(
        episode(30), load_domain().task("kitchen"), video=tmp_path / "a.mp4", strip=tmp_path / "a.png", pictures=8
    )
    assert made.frames == 30 and made.video.stat().st_size > 0
    with Image.open(made.strip) as strip:
        assert strip.size == (1600, 600)


def test_captions_count_what_is_complete() -> None:
    states, task = episode(50).astype(np.float64), load_domain().task("kitchen")
    assert films.caption(states, task, 0, 12.5) == " 0.0 s"
    assert films.caption(states, task, 49, 12.5) == " 3.9 s  microwave"


def test_the_last_picture_shows_what_the_last_observation_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, captions, filmstrip = episode(20), [], films.filmstrip
    states[:, 22] = 0.0
    states[-1, 22] = -0.5  # within the threshold, but not when smoothed
    monkeypatch.setattr(films, "Painter", FlatPainter)
    monkeypatch.setattr(films, "filmstrip", lambda kept, words: captions.extend(words) or filmstrip(kept, words))
    films.film(states, load_domain().task("kitchen"), video=tmp_path / "a.mp4", strip=tmp_path / "a.png", pictures=4)
    assert captions[-2:] == [" 1.0 s", " 1.5 s  microwave"]


def test_smoothing_keeps_what_is_still_and_quaternions_of_length_one() -> None:
    states = episode(9).astype(np.float64)
    smoothed = films.smooth(states)
    assert np.allclose(smoothed[:, :9], states[:, :9])
    assert np.allclose(np.linalg.norm(smoothed[:, 26:30], axis=1), 1.0)
    assert (np.diff(smoothed[:, 22]) <= 1e-12).all()


def test_a_film_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="two observations"):
        films.film(episode(1), load_domain().task("kitchen"), video=tmp_path / "a.mp4", strip=tmp_path / "a.png")
