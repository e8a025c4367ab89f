"""From a recorded episode to a video and a filmstrip."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from skimo_core.contract.errors import SpecError
from skimo_core.contract.specs import Named
from skimo_core.domain import library
from skimo_core.domain.domain import Domain, load_domain, parse_domain
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_sim import cli
from skimo_sim import film as films
from skimo_sim.scenes.kitchen import build_kitchen
from skimo_sim.twin import Twin


class FlatPainter:
    """Paints every state one colour; the real one is tested in test_render.py where there is a GL library."""

    arms: ClassVar[list[str]] = []

    def __init__(self, twin: Twin, *, samples: int) -> None:
        self.arms.append(twin.scene.arm.name)

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


def draw(folder: Path, states: np.ndarray, domain: Domain | None = None, **options: Any) -> films.Film:
    domain = domain or load_domain()
    options = {"rate_hz": 12.5, "video": folder / "a.mp4", "strip": folder / "a.png", **options}
    return films.film(states, domain.task(domain.default_task), domain, **options)


def captions_of(folder: Path, monkeypatch: pytest.MonkeyPatch, states: np.ndarray, **options: Any) -> list[str]:
    """What stands under the pictures of an episode."""
    captions, filmstrip = [], films.filmstrip
    monkeypatch.setattr(films, "Painter", FlatPainter)
    monkeypatch.setattr(films, "filmstrip", lambda kept, words: captions.extend(words) or filmstrip(kept, words))
    draw(folder, states, **options)
    return captions


def test_an_episode_becomes_a_video_and_a_filmstrip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "Painter", FlatPainter)
    made = draw(tmp_path, episode(30), pictures=8)
    assert made.frames == 30 and made.video.stat().st_size > 0
    with Image.open(made.strip) as strip:
        assert strip.size == (1600, 600)


def test_captions_count_what_is_complete() -> None:
    states, task = episode(50).astype(np.float64), load_domain().task("kitchen")
    assert films.caption(states, task, 0, 12.5) == " 0.0 s"
    assert films.caption(states, task, 49, 12.5) == " 3.9 s  microwave"
    typed = load_domain().task("microwave=-43deg+-5")
    assert films.caption(states, typed, 49, 12.5) == f" 3.9 s  {typed.name}"


def test_the_last_picture_shows_what_the_last_observation_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = episode(20)
    states[:, 22] = 0.0
    states[-1, 22] = -0.5  # within the threshold, but not when smoothed
    captions = captions_of(tmp_path, monkeypatch, states, pictures=4)
    assert captions[-2:] == [" 1.0 s", " 1.5 s  microwave"]


def test_smoothing_keeps_what_is_still_and_quaternions_of_length_one() -> None:
    states = episode(9).astype(np.float64)
    smoothed = films.smooth(states, load_domain().observation, 0.08)
    assert np.allclose(smoothed[:, :9], states[:, :9])
    assert np.allclose(np.linalg.norm(smoothed[:, 26:30], axis=1), 1.0)
    assert (np.diff(smoothed[:, 22]) <= 1e-12).all()


def test_a_film_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="two observations"):
        draw(tmp_path, episode(1))


@pytest.mark.parametrize(("success", "word"), [(None, ""), (True, "  success"), (False, "  no success")])
def test_the_last_caption_says_how_it_ended_where_that_is_known(
    success: bool | None, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = captions_of(tmp_path, monkeypatch, episode(20), success=success, pictures=3)
    assert captions[0] == " 0.0 s" and captions[-1] == f" 1.5 s  microwave{word}"


def test_time_goes_at_the_recording_s_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert captions_of(tmp_path, monkeypatch, episode(21), rate_hz=20.0, pictures=2)[-1].startswith(" 1.0 s")


BENCH = """
name: bench
robot: fr3
cell: open
twin: kinematic
rate_hz: 20
horizon: 10
step_limit: 200
action: {velocity_scale_rad_s: 1.0}
channels:
JOINTS
  - {name: left_finger, source: finger, unit: m}
  - {name: cube.qx, source: object, unit: "1"}
  - {name: cube.x, source: object, unit: m}
  - {name: cube.qw, source: object, unit: "1"}
  - {name: cube.qy, source: object, unit: "1"}
  - {name: cube.qz, source: object, unit: "1"}
  - {name: lid.qw, source: object, unit: "1"}
threshold: 0.1
subtasks: {lift: {goal: {cube.x: 0.2}}}
""".replace("JOINTS", "\n".join(f"  - {{name: fr3_joint{k}, source: joint, unit: rad}}" for k in range(1, 8)))


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A lab's own domain: one finger, a quaternion out of order, a twin without a scene."""
    path = tmp_path / "bench.yaml"
    path.write_text(BENCH)
    return path


def test_channels_are_known_by_the_domain_and_not_by_number(bench: Path) -> None:
    spec = load_domain(bench).observation
    assert films.quaternions(spec.names) == [[10, 8, 11, 12]]
    states = np.random.default_rng(0).normal(size=(12, spec.size))
    smoothed = films.smooth(states, spec, 0.08)
    assert smoothed[:, 7].min() >= 0.0 and smoothed[:, 7].max() <= 0.08
    assert np.allclose(np.linalg.norm(smoothed[:, [8, 10, 11, 12]], axis=1), 1.0)
    free = [*range(7), 9, 13]
    assert np.allclose(smoothed[2:-2, free].sum(), np.einsum("k,ktc->", films.KERNEL, stacked(states)[:, :, free]))


def stacked(states: np.ndarray) -> np.ndarray:
    """The states within the kernel of each that has them all, [5, T - 4, O]."""
    return np.stack([states[k : len(states) - 4 + k] for k in range(5)])


def test_a_twin_without_a_scene_is_refused_in_words(bench: Path, tmp_path: Path) -> None:
    domain = load_domain(bench)
    with pytest.raises(SpecError, match="bench can't be drawn: its twin, 'kinematic', has no scene"):
        draw(tmp_path, np.zeros((5, domain.observation.size)), domain)
    lying = parse_domain(library.Source(text=BENCH.replace("kinematic", "kitchen"), where="lying"), "lying")
    with pytest.raises(SpecError, match="its channels are not this scene's"):
        draw(tmp_path, np.zeros((5, domain.observation.size)), lying)
    with pytest.raises(SpecError, match="has 12 channels, of domain kitchen 30"):
        draw(tmp_path, np.zeros((5, 12)))


def test_the_arm_in_the_scene_is_the_twin_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = library.find("domains", "kitchen")
    own = library.Source(text=shipped.text.replace("twin: kitchen", "twin: kitchen_own_arm"), where="own")
    monkeypatch.setattr(films, "Painter", FlatPainter)
    for domain in (load_domain(), parse_domain(own, "own")):
        draw(tmp_path, episode(3), domain)
    assert FlatPainter.arms[-2:] == ["panda", "kitchen"]


def recorded(path: Path, domain: Named, channels: tuple[str, ...] = (), width: int = 30, task: str = "") -> Path:
    states = episode(20)[:, :width]
    meta = EpisodeMeta(episode_id="e", source="policy", task=task, domain=domain, channels=channels, success=False)
    write_episode(path, Episode(observations=states, actions=np.zeros((19, 9), np.float32), meta=meta))
    return path


def test_a_recording_is_drawn_in_the_domain_that_it_names(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(films, "Painter", FlatPainter)
    kitchen = load_domain()
    path = recorded(tmp_path / "e.mcap", kitchen.named, kitchen.observation.names)
    assert cli.render([str(path)]) == 0
    assert "e.mp4 (20 frames" in capsys.readouterr().out
    assert cli.render([str(path), "--domain", str(bench)]) == 1
    assert "other than domain bench's fr3_joint1, " in capsys.readouterr().err


def test_a_recording_of_a_typed_goal_is_drawn_and_its_captions_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "Painter", FlatPainter)
    filmstrip, words = films.filmstrip, []
    monkeypatch.setattr(films, "filmstrip", lambda kept, said: words.extend(said) or filmstrip(kept, said))
    task = load_domain().task("microwave=-0.75 light_switch=0,home").name
    path = recorded(tmp_path / "e.mcap", load_domain().named, load_domain().observation.names, task=task)
    assert cli.render([str(path)]) == 0
    assert words[0] == " 0.0 s" and words[-1] == f" 1.5 s  {task.replace(',', ', ')}  no success"


def test_a_recording_of_a_domain_that_is_not_known_here_asks_for_it(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = load_domain(bench)
    path = recorded(tmp_path / "e.mcap", domain.named, domain.observation.names, domain.observation.size)
    assert cli.render([str(path)]) == 1
    assert "recorded in domain 'bench'" in (said := capsys.readouterr().err) and "--domain PATH" in said
    assert cli.render([str(path), "--domain", str(bench)]) == 1
    assert "its twin, 'kinematic', has no scene" in capsys.readouterr().err
    other = recorded(tmp_path / "o.mcap", Named(name="kitchen", digest="0" * 64))
    assert cli.render([str(other)]) == 1
    assert "digest 000000000000" in (said := capsys.readouterr().err) and "--domain PATH" in said


def test_a_cut_recording_is_drawn_as_far_as_it_goes_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(films, "Painter", FlatPainter)
    path = recorded(tmp_path / "e.mcap", load_domain().named)
    path.write_bytes(path.read_bytes()[:-60])
    assert cli.render([str(path)]) == 0
    assert "drawn as far as it goes: was cut short" in capsys.readouterr().out


def test_an_arm_that_stood_elsewhere_is_drawn_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stood: list[np.ndarray] = []

    class Looking(FlatPainter):
        def __init__(self, twin: Any, **options: Any) -> None:
            super().__init__(twin, **options)
            stood.append(twin.scene.base_m)

    monkeypatch.setattr(films, "Painter", Looking)
    draw(tmp_path, episode(4))
    draw(tmp_path, episode(4), condition="mount_low")
    assert np.linalg.norm(stood[1] - stood[0]) == pytest.approx(np.sqrt(27) / 100)
    with pytest.raises(SpecError, match="no condition 'mount_high'"):
        draw(tmp_path, episode(4), condition="mount_high")
