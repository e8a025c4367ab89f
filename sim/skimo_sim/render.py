"""Pictures and videos of a scene, made from recorded states after a run, never during one.

Promises
  - Works without a display: EGL, or OSMesa. Where neither is installed, SetupError names the Debian package.
  - What is still open when the interpreter ends is closed in time: a GL context that outlives its library complains.
  - A state is the scene's qpos; a twin's `state_of` makes one of an observation.
  - Without shadows and reflections, which cost ten times the rest in software rendering.
Frames are uint8 [height, width, 3]; times s.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from ctypes.util import find_library
from fractions import Fraction
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import ref

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.contract.types import Array

from .scenes.kitchen import build_kitchen
from .scenes.physics import mujoco
from .scenes.scene import Drawable, Mark, Scene

Frame = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 640, 480
PACKAGES = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (or libosmesa6)"
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
"""What draws without a display, by MUJOCO_GL's word for it, in order of preference."""
PLATFORM = "PYOPENGL_PLATFORM"
"""Names the library to PyOpenGL, which looks once."""
TRIAL = """
try:
    from mujoco.{name} import GLContext
    GLContext(8, 8).make_current()
except Exception as error:
    print(type(error).__name__, error)
    raise SystemExit(1)
"""
TRY_S = 30.0
MAX_GEOMS = 2000
MARK_M = 0.16
"""Length of a drawn frame's axes."""
CAPTION_PX = 7
"""What a letter of a caption takes, wide ones among narrow ones."""


class Painter:
    """Draws states of a scene from one of its cameras. Close it, or use it as a context manager.

    Args:
        scene: a twin's; or one that was built to be looked at (its `drawn`); or the name of the arm in the kitchen.
        width, height: of the frames, pixels.
        samples: of anti-aliasing; 0 is the quickest.

    Raises:
        SetupError: no GL library is there, or it can't draw.
    """

    def __init__(
        self, scene: Scene | Drawable | str = "panda", *, width: int = WIDTH, height: int = HEIGHT, samples: int = 4
    ) -> None:
        if isinstance(scene, str):
            scene = build_kitchen(scene, visual=True)
        built = scene if isinstance(scene, Scene) else scene.drawn()
        self._context = gl_context(width, height)
        try:
            self._set_up(built.model, width, height, samples)
        except mujoco.FatalError as error:
            self._context.free()
            raise SetupError(f"the GL library that is installed can't draw ({error}); {PACKAGES}") from error
        except BaseException:
            self._context.free()
            raise
        self._at_exit = partial(_close, ref(self))
        atexit.register(self._at_exit)

    def _set_up(self, model: mujoco.MjModel, width: int, height: int, samples: int) -> None:
        self._model = model
        self._data = mujoco.MjData(self._model)
        self._model.vis.quality.shadowsize = 0
        self._model.vis.quality.offsamples = samples
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width, height
        self._scene = mujoco.MjvScene(self._model, maxgeom=MAX_GEOMS)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = False
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._gpu = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._gpu)

    def paint(self, qpos: Array | npt.NDArray[np.float32], camera: str = "left", marks: Sequence[Mark] = ()) -> Frame:
        """Return the picture of a state [nq], with frames drawn in it.

        Raises:
            SpecError: a state of the wrong size, or no such camera.
        """
        if qpos.shape != (self._model.nq,):
            raise SpecError(f"a state to render has shape {qpos.shape}, must be ({self._model.nq},)")
        found = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if found < 0:
            known = [self._model.camera(i).name for i in range(self._model.ncam)]
            raise SpecError(f"no camera {camera!r}; there are {', '.join(known)}")
        self._context.make_current()  # another painter may have been made or closed since
        self._data.qpos[:] = qpos
        mujoco.mj_forward(self._model, self._data)
        self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, found
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, self._camera, every, self._scene)
        for mark in marks:
            self._add(mark)
        mujoco.mjr_render(self._viewport, self._scene, self._gpu)
        frame = np.empty((self._viewport.height, self._viewport.width, 3), np.uint8)
        mujoco.mjr_readPixels(frame, None, self._viewport, self._gpu)
        return frame[::-1].copy()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the scene's cameras."""
        return tuple(self._model.camera(k).name for k in range(self._model.ncam))

    def _add(self, mark: Mark) -> None:
        """A frame: an arrow for each axis, red, green and blue, and its label at the origin."""
        arrow, size = mujoco.mjtGeom.mjGEOM_ARROW, np.array([MARK_M / 20, MARK_M / 20, MARK_M])
        for k in range(3):
            if self._scene.ngeom >= self._scene.maxgeom:
                return
            geom = self._scene.geoms[self._scene.ngeom]
            axes = np.ascontiguousarray(mark.rotation[:, [(k + 1) % 3, (k + 2) % 3, k]])
            colour = np.array([*(0.9 * np.eye(3)[k]), 1.0], np.float32)
            mujoco.mjv_initGeom(geom, arrow, size, mark.position_m, axes.ravel(), colour)
            geom.label = mark.label if k == 2 else ""
            self._scene.ngeom += 1

    def close(self) -> None:
        """Release the GL context; safe to call twice."""
        if self._at_exit is None:
            return
        atexit.unregister(self._at_exit)
        self._at_exit = None
        self._context.make_current()
        self._gpu.free()
        self._context.free()

    def __enter__(self) -> Painter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close(painter: ref[Painter]) -> None:
    """Close a painter if it is still there; it was made after its library was loaded, so it is closed before that."""
    if (still_there := painter()) is not None:
        still_there.close()


def gl_context(width: int, height: int) -> Any:
    """Return a current off-screen GL context: EGL where it works, else OSMesa; MUJOCO_GL may choose.

    Raises:
        SetupError: neither works, naming what to install; or MUJOCO_GL names something else.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen not in ("", *LIBRARIES):
        raise SetupError(
            f"MUJOCO_GL is {chosen!r}, and pictures are made with {' or '.join(LIBRARIES)}, which need no display; "
            "set it to one of these, or to nothing"
        )
    names = [chosen] if chosen else list(LIBRARIES)
    installed = [name for name in names if find_library(LIBRARIES[name]) is not None]
    tried = {name: f"lib{LIBRARIES[name]} is not installed" for name in names if name not in installed}
    for name in installed:
        if len(installed) > 1 and (failure := _try_elsewhere(name)):
            tried[name] = failure
            continue
        try:
            return _open_context(name, width, height)
        except Exception as error:  # PyOpenGL and MuJoCo raise whatever their C libraries do
            tried[name] = f"{type(error).__name__} {error}".strip()
    reasons = "; ".join(f"{name}: {words}" for name, words in tried.items())
    asked = f"MUJOCO_GL is {chosen!r}; " if chosen else ""
    raise SetupError(f"no picture can be made without a GL library ({asked}{reasons}); {PACKAGES}")


def _try_elsewhere(name: str) -> str:
    """Open a context in another process, where there is a choice: MuJoCo keeps to the first library that was loaded.

    Returns:
        Why it failed; empty if it didn't, or if this process has loaded that library.
    """
    if f"mujoco.{name}" in sys.modules:
        return ""
    environment = {**os.environ, PLATFORM: name, "MUJOCO_GL": ""}
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL.format(name=name)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TRY_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no context within {TRY_S:g} s"
    return "" if done.returncode == 0 else done.stdout.strip() or f"a trial ended with code {done.returncode}"


def _open_context(name: str, width: int, height: int) -> Any:
    before = os.environ.get(PLATFORM)
    os.environ[PLATFORM] = name
    try:
        kind = import_module(f"mujoco.{name}").GLContext
        context = kind.__new__(kind)
        context._context = None  # its __del__ looks for it, also where its __init__ failed
        context.__init__(width, height)
        context.make_current()
    except BaseException:
        if before is None:
            del os.environ[PLATFORM]
        else:
            os.environ[PLATFORM] = before
        raise
    return context


def write_video(path: Path, frames: Iterable[Frame], fps: float) -> int:
    """Write frames to an mp4 (H.264) as they come; return how many there were."""
    import av

    count = 0
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": "23", "preset": "veryfast"}
        for frame in frames:
            if count == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            count += 1
        container.mux(stream.encode())
    return count


def filmstrip(frames: Sequence[Frame], captions: Sequence[str], *, columns: int = 4, width: int = 400) -> Image.Image:
    """Lay frames out in rows, each with its caption, in lines that fit it.

    Raises:
        SpecError: no frames, or not one caption each.
    """
    if not frames or len(frames) != len(captions):
        raise SpecError(f"a filmstrip needs frames and a caption for each; there are {len(frames)} and {len(captions)}")
    height = round(frames[0].shape[0] * width / frames[0].shape[1])
    rows = -(-len(frames) // columns)
    strip = Image.new("RGB", (width * min(columns, len(frames)), height * rows), "white")
    for k, (frame, caption) in enumerate(zip(frames, captions)):
        picture = Image.fromarray(frame).resize((width, height))
        draw = ImageDraw.Draw(picture)
        caption = textwrap.fill(caption, width // CAPTION_PX, break_on_hyphens=False)
        box = draw.textbbox((8, 6), caption)
        draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill="black")
        draw.text((8, 6), caption, fill="white")
        strip.paste(picture, (k % columns * width, k // columns * height))
    return strip
