"""Pictures and videos; where no GL library is installed, only the message that says so is tested."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
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
    with pytest.raises(SetupError, match="'glfw', and pictures are made with egl or osmesa") as refused:
        render.gl_context(64, 48)
    assert "apt-get" not in str(refused.value)  # what is there need not be installed


@pytest.mark.parametrize("before", [None, "glx"])
def test_each_library_is_tried_under_its_own_name_and_a_failure_leaves_no_trace(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv(render.PLATFORM, raising=False)
    if before is not None:
        monkeypatch.setenv(render.PLATFORM, before)
    monkeypatch.setattr(render, "find_library", lambda name: name)
    monkeypatch.setattr(render, "_try_elsewhere", lambda name: "")

    def fail(name: str) -> None:
        seen.append((name, os.environ[render.PLATFORM]))
        raise ImportError("broken")

    monkeypatch.setattr(render, "import_module", fail)
    with pytest.raises(SetupError, match="egl: ImportError broken; osmesa: ImportError broken"):
        render.gl_context(64, 48)
    assert seen == [("mujoco.egl", "egl"), ("mujoco.osmesa", "osmesa")]
    assert os.environ.get(render.PLATFORM) == before


@pytest.mark.parametrize("word", ["osmesa", "glfw", "nonsense"])
def test_whatever_mujoco_gl_says_physics_run_and_pictures_are_refused_in_words(word: str, tmp_path: Path) -> None:
    """`find_library` is blind here, so that no machine has the library."""
    code = """
        import ctypes.util, sys
        ctypes.util.find_library = lambda name: None
        from skimo_sim.cli import twin
        from skimo_sim.twin import Twin
        Twin().advance(0.01)
        sys.exit(twin(["picture", "never.png"]))
    """
    done = run_python(code, tmp_path, MUJOCO_GL=word)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("skimo twin: ") and word in done.stderr and done.stderr.count("\n") == 1


def run_python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, timeout=100, check=False)


LEFT_OPEN = """
    from skimo_sim.render import Painter
    from skimo_sim.scenes.kitchen import build_kitchen

    def paint():
        painter = Painter(width=64, height=48, samples=0)
        kept.append(painter)
        painter.paint(build_kitchen().start_qpos)
        return painter

    kept = []
    kept.append(kept)
"""
ENDS = {
    "closed": """
    paint().close()
    """,
    "closed twice": """
    painter = paint()
    painter.close()
    painter.close()
    """,
    "left open": """
    paint()
    paint()
    """,
    "failed half way": """
    from skimo_sim import render
    render.build_kitchen = lambda *_, **__: 1 / 0
    try:
        paint()
    except ZeroDivisionError as error:
        kept.append(error)
    """,
}


@needs_gl
@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_drew_ends_without_a_word(end: str, tmp_path: Path) -> None:
    done = run_python(LEFT_OPEN + ENDS[end], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(find_library("EGL") is None, reason="libEGL is not installed")
def test_a_device_that_is_not_there_is_told_in_words_alone(tmp_path: Path) -> None:
    code = """
        from skimo_core.contract.errors import SetupError
        from skimo_sim.render import gl_context
        try:
            gl_context(64, 48)
        except SetupError as error:
            print(error)
    """
    done = run_python(code, tmp_path, MUJOCO_GL="egl", MUJOCO_EGL_DEVICE_ID="999")
    assert "got 999" in done.stdout and (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(None in map(find_library, ("EGL", "OSMesa")), reason="libEGL and libOSMesa are not both installed")
def test_where_egl_fails_osmesa_draws(tmp_path: Path) -> None:
    code = LEFT_OPEN + "    assert paint().paint(build_kitchen().start_qpos).std() > 20"
    done = run_python(code, tmp_path, MUJOCO_GL="", MUJOCO_EGL_DEVICE_ID="999")
    assert (done.returncode, done.stderr) == (0, "")


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


def test_a_long_caption_goes_on_in_the_next_line() -> None:
    caption = " 9.9 s  " + ", ".join(f"drawer_{k}=-0.4{k}+-0.1" for k in range(5))
    strip = np.asarray(render.filmstrip([np.full((300, 400, 3), 100, np.uint8)], [caption]))
    box = np.argwhere((strip != 100).any(axis=2))
    assert box[:, 1].max() < 399 and box[:, 0].max() > 30
