"""A simulated camera: pictures of a MuJoCo scene as a real lens and sensor would give them.

The scene is drawn without a lens at twice the resolution (`OVERSAMPLING`), bent by the lens, averaged to the sensor's
pixels, blurred, and given noise. So a pixel stands where `Intrinsics.project` says, to a few hundredths of a pixel.

    with SimulatedCamera(model, intrinsics, blur_px=0.6, noise=2.0, seed=1) as camera:
        picture = camera.paint(data, rotation, position_m)

Pictures to look at (a board, tags) are put into a scene before it is compiled, by `attach_picture`.

Frames: a camera's pose is that of its optical frame (x right, y down, z ahead) in the world; a picture's frame has its
origin in the middle of the picture, x to the reader's right, y down, z into the sheet. Pixels are uint8 [H, W, 3], RGB;
lengths m. Needs skimo_sim and a GL library, as `skimo_sim.render` does.
"""

from __future__ import annotations

import atexit
from functools import partial
from types import TracebackType
from typing import Any
from weakref import ref

import cv2
import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.contract.types import Array

from ..cameras.camera import Intrinsics

Picture = npt.NDArray[np.uint8]
MjModel = MjData = MjSpec = MjsBody = Any
"""MuJoCo's, which is loaded when a camera is made."""
OVERSAMPLING = 2
EDGE = 1.002
"""How much wider than the lens needs the scene is drawn."""
NEAR_M, FAR_M = 0.02, 20.0
MAX_GEOMS = 2000
THICKNESS_M = 0.0005
"""Of an attached picture's sheet."""
UNLIT = 1.0
"""Emission at which MuJoCo shows a texture's bytes as they are, however a scene is lit."""


class SimulatedCamera:
    """Looks at a scene from where it is told. Close it, or use it as a context manager.

    Args:
        model: what to look at; its off-screen size and shadows are set.
        intrinsics: lens and sensor.
        blur_px: standard deviation of a Gaussian blur; 0 for none.
        noise: standard deviation of the grey levels' noise, of 255.
        seed: of the noise.

    Raises:
        SpecError: a lens that folds over within the picture.
        SetupError: no GL library is there, or it can't draw.
    """

    def __init__(
        self, model: MjModel, intrinsics: Intrinsics, *, blur_px: float = 0.0, noise: float = 0.0, seed: int = 0
    ) -> None:
        if min(blur_px, noise) < 0:
            raise SpecError(f"blur ({blur_px:g} px) and noise ({noise:g} grey levels) must not be below 0")
        from skimo_sim.render import gl_context
        from skimo_sim.scenes.physics import mujoco

        self.intrinsics, self._model = intrinsics, model
        self._blur_px, self._noise, self._rng = blur_px, noise, np.random.default_rng(seed)
        self._frustum, self._size, self._map = _lens_map(intrinsics)
        self._at_exit = None
        self._context = gl_context(*self._size)
        try:
            self._set_up(model)
        except mujoco.FatalError as error:
            self._context.free()
            raise SetupError(f"the GL library that is installed can't draw ({error})") from error
        except BaseException:
            self._context.free()
            raise
        self._at_exit = partial(_close, ref(self))
        atexit.register(self._at_exit)

    def _set_up(self, model: MjModel) -> None:
        from skimo_sim.scenes.physics import mujoco

        width, height = self._size
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = False
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._drawn = np.empty((height, width, 3), np.uint8)
        self._gpu = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._gpu)

    def paint(self, data: MjData, rotation: Array, position_m: Array) -> Picture:
        """Return the picture of a state, whose kinematics are computed, from a pose of the optical frame."""
        return self._sensed(self._through_lens(self._draw(data, rotation, position_m)))

    def _draw(self, data: MjData, rotation: Array, position_m: Array) -> Picture:
        from skimo_sim.scenes.physics import mujoco

        self._context.make_current()  # another camera or painter may have been made or closed since
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, every, self._scene)
        for eye in self._scene.camera:
            eye.pos, eye.forward, eye.up = position_m, rotation[:, 2], -rotation[:, 1]
            eye.frustum_near, eye.frustum_far, eye.frustum_width = NEAR_M, FAR_M, 0.0
            eye.frustum_center, eye.frustum_bottom, eye.frustum_top = (NEAR_M * side for side in self._frustum)
        mujoco.mjr_render(self._viewport, self._scene, self._gpu)
        mujoco.mjr_readPixels(self._drawn, None, self._viewport, self._gpu)
        return self._drawn

    def _through_lens(self, drawn: Picture) -> Picture:
        fine = cv2.remap(drawn, *self._map, cv2.INTER_LINEAR)
        size = self.intrinsics.width, self.intrinsics.height
        return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), np.uint8)

    def _sensed(self, picture: Picture) -> Picture:
        sensed = picture.astype(np.float32)
        if self._blur_px > 0:
            sensed = cv2.GaussianBlur(sensed, (0, 0), self._blur_px)
        if self._noise > 0:
            sensed += self._noise * self._rng.standard_normal(sensed.shape, dtype=np.float32)
        return np.clip(np.rint(sensed), 0, 255).astype(np.uint8)

    def close(self) -> None:
        """Release the GL context; safe to call twice."""
        if self._at_exit is None:
            return
        atexit.unregister(self._at_exit)
        self._at_exit = None
        self._context.make_current()
        self._gpu.free()
        self._context.free()

    def __enter__(self) -> SimulatedCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close(camera: ref[SimulatedCamera]) -> None:
    """Close a camera if it is still there; it was made after its library was loaded, so it is closed before that."""
    if (still_there := camera()) is not None:
        still_there.close()


def _lens_map(intrinsics: Intrinsics) -> tuple[tuple[float, float, float], tuple[int, int], tuple[Array, Array]]:
    """How to draw without the lens, and where each fine pixel of the picture then lies in what was drawn.

    Returns:
        (centre, bottom, top) of the frustum, one ahead; (width, height) to draw, px; the two maps of `cv2.remap`, whose
        rows count from the bottom, as OpenGL's do.
    """
    fine = OVERSAMPLING
    u = (np.arange(intrinsics.width * fine) + 0.5) / fine - 0.5
    v = (np.arange(intrinsics.height * fine) + 0.5) / fine - 0.5
    rays = intrinsics.rays(np.stack(np.meshgrid(u, v), axis=-1))
    low, high = rays.min(axis=(0, 1)), rays.max(axis=(0, 1))
    centre, half = (low + high) / 2, (high - low) / 2 * EDGE
    scale = fine * max(intrinsics.fx, intrinsics.fy)
    width, height = (int(np.ceil(2 * h * scale)) for h in half)
    half_height = float(half[1])
    half_width = half_height * width / height  # MuJoCo takes the frustum's width from the viewport's
    columns = ((rays[..., 0] - centre[0]) / half_width + 1) * width / 2 - 0.5
    rows = (1 - (rays[..., 1] - centre[1]) / half_height) * height / 2 - 0.5
    frustum = float(centre[0]), float(-centre[1] - half_height), float(-centre[1] + half_height)
    return frustum, (width, height), cv2.convertMaps(columns.astype(np.float32), rows.astype(np.float32), cv2.CV_16SC2)


def attach_picture(
    spec: MjSpec,
    body: MjsBody,
    name: str,
    image: Picture,
    *,
    width_m: float,
    height_m: float,
    rotation: Array,
    position_m: Array,
) -> None:
    """Put a flat picture on a body of a scene: visible from its front alone, never touched, without mass or shading.

    Args:
        name: of the texture, material, mesh and geom.
        image: grey [H, W] or RGB [H, W, 3]; a texel should not be much finer than what the camera resolves.
        width_m, height_m: of the whole picture.
        rotation, position_m: [3, 3] and [3], the picture's frame (top of this file) in the body's.
    """
    from skimo_sim.scenes.physics import mujoco

    pixels = np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2))
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3 or min(width_m, height_m) <= 0:
        raise SpecError(
            f"picture {name} must be uint8, grey or RGB, of a size above 0; it is {pixels.dtype} {image.shape}, "
            f"{width_m:g} x {height_m:g} m"
        )
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D)
    texture.height, texture.width, texture.nchannel = pixels.shape
    texture.data = pixels.tobytes()
    material = spec.add_material(name=name, emission=UNLIT, specular=0.0, shininess=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    mesh = spec.add_mesh(name=name)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * [width_m, height_m]
    mesh.uservert = np.vstack([np.c_[corners, np.zeros(4)], np.c_[corners, np.full(4, THICKNESS_M)]]).ravel()
    mesh.userface = _FACES.ravel()
    margin = 0.5 / np.array([pixels.shape[1], pixels.shape[0]])  # sides and back have the colour of its first pixel
    mesh.usertexcoord = np.vstack([[[0, 0], [1, 0], [1, 1], [0, 1]], margin]).ravel()
    mesh.userfacetexcoord = np.where(_FACES < 4, _FACES, 4)[:2].ravel().tolist() + [4] * (_FACES[2:].size)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation, dtype=np.float64).ravel())
    body.add_geom(
        name=name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=name, pos=position_m, quat=quaternion,
        contype=0, conaffinity=0, mass=0, group=0,
    )  # fmt: skip


_FACES = np.array(
    [
        [0, 2, 1], [0, 3, 2],
        [4, 5, 6], [4, 6, 7],
        [0, 1, 5], [0, 5, 4],
        [1, 2, 6], [1, 6, 5],
        [2, 3, 7], [2, 7, 6],
        [3, 0, 4], [3, 4, 7],
    ]
)  # fmt: skip
"""[12, 3] triangles of the sheet: front (z 0, seen from -z), back, sides; outward."""
