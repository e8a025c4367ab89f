"""Pictures and videos; where no GL library is installed, only the message that says so is tested."""

from __future__ import annotations

from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import SetupError, SpecError
from skimo_sim import render
from skimo_sim.scenes.kitchen import build_kitchen

needs_gl = pytest.mark.skipif(
    find_library("EGL") is None and find_library("OSMesa") is None, reason="no GL library is installed"
)


def test_without_a_gl_library_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(render, "find_library", lambda name: None)
    with pytest.raises(SetupError, match="apt-get install libegl1"):
        render.gl_context(64, 48)


def test_an_unknown_gl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(SetupError, match="glfw"):
        render.gl_context(64, 48)


@needs_gl
def test_a_picture_shows_the_state() -> None:
    start = build_kitchen().start_qpos
    moved = start.copy()
    moved[22] = -1.2
    with render.Painter(width=160, height=120, samples=0) as painter:
        closed, again = painter.paint(start), painter.paint(start)
        opened = painter.paint(moved)
        with pytest.raises(SpecError, match="no camera 'back'"):
            painter.paint(start, "back")
        with pytest.raises(SpecError, match="must be"):
            painter.paint(start[:9])
    assert closed.shape == (120, 160, 3) and closed.std() > 20
    assert np.array_equal(closed, again) and (closed != opened).any()


def test_a_video_has_the_frames_it_was_given(tmp_path: Path) -> None:
    import av

    frames = [np.full((48, 64, 3), 10 * k, np.uint8) for k in range(12)]
    path = tmp_path / "run.mp4"
    assert render.write_video(path, frames, 12.5) == 12
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        assert container.streams.video[0].average_rate == 12.5
    assert len(decoded) == 12 and (decoded[0].height, decoded[0].width) == (48, 64)


def test_a_filmstrip_lays_frames_out_in_rows() -> None:
    frames = [np.zeros((48, 64, 3), np.uint8)] * 5
    strip = render.filmstrip(frames, [f"{k} s" for k in range(5)], columns=3, width=100)
    assert strip.size == (300, 150)
    with pytest.raises(SpecError, match="caption"):
        render.filmstrip(frames, ["one"])
