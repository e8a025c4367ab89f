"""Pictures and videos of the kitchen, made from recorded states after a run, never during one.

Promises
  - Works without a display: EGL, or OSMesa. Where neither is installed, SetupError names the Debian package.
  - A state is the scene's qpos: for our arm the same 30 numbers as a noise-free observation.
  - Without shadows and reflections, which cost ten times the rest in software rendering.
Frames are uint8 [height, width, 3]; times s.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from ctypes.util import find_library
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.contract.types import Array

from .scenes.kitchen import build_kitchen

Frame = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 640, 480
PACKAGES = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (or libosmesa6)"
MAX_GEOMS = 2000


class Painter:
    """Draws states of the kitchen from one of its cameras. Close it, or use it as a context manager.

    Attributes:
        zero_rad: [7] Franka's joint angles where the model's are 0; take them off an observation's joints to paint it.

    Args:
        arm: which arm stands in the kitchen.
        width, height: of the frames, pixels.
        samples: of anti-aliasing; 0 is the quickest.

    Raises:
        SetupError: no GL library is there.
    """

    def __init__(self, arm: str = "panda", *, width: int = WIDTH, height: int = HEIGHT, samples: int = 4) -> None:
        self._context = gl_context(width, height)
        scene = build_kitchen(arm, visual=True)
        self.zero_rad = scene.arm.zero_rad
        self._model = scene.model
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

    def paint(self, qpos: Array | npt.NDArray[np.float32], camera: str = "left") -> Frame:
        """Return the picture of a state [nq].

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
        mujoco.mjr_render(self._viewport, self._scene, self._gpu)
        frame = np.empty((self._viewport.height, self._viewport.width, 3), np.uint8)
        mujoco.mjr_readPixels(frame, None, self._viewport, self._gpu)
        return frame[::-1].copy()

    def close(self) -> None:
        """Release the GL context."""
        self._context.make_current()
        self._gpu.free()
        self._context.free()

    def __enter__(self) -> Painter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def gl_context(width: int, height: int) -> Any:
    """Return a current off-screen GL context: EGL where there is one, else OSMesa; MUJOCO_GL may choose.

    Raises:
        SetupError: neither works, naming what to install.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    tried = []
    for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if chosen not in ("", name):
            continue
        if find_library(library) is None:
            tried.append(f"{name}: lib{library} is not installed")
            continue
        try:
            return _open_context(name, width, height)
        except Exception as error:  # PyOpenGL and MuJoCo raise whatever their C libraries do
            tried.append(f"{name}: {type(error).__name__} {error}".strip())
    reason = "; ".join(tried) or f"MUJOCO_GL={chosen} is not one of egl, osmesa"
    raise SetupError(f"no picture can be made without a GL library ({reason}); {PACKAGES}")


def _open_context(name: str, width: int, height: int) -> Any:
    os.environ.setdefault("PYOPENGL_PLATFORM", name)
    if name == "egl":
        from mujoco.egl import GLContext
    else:
        from mujoco.osmesa import GLContext
    context = GLContext(width, height)
    context.make_current()
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
    """Lay frames out in rows, each with its caption.

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
        box = draw.textbbox((8, 6), caption)
        draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill="black")
        draw.text((8, 6), caption, fill="white")
        strip.paste(picture, (k % columns * width, k // columns * height))
    return strip
