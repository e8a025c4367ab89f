"""A domain's scene to look at, as pictures or in MuJoCo's own window: before an episode, never during one."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from skimo_core.contract.errors import SetupError
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.starts import Starts

from .film import drawable
from .flat import Flat
from .impaired import actual
from .render import Frame, Painter
from .scenes.physics import mujoco
from .scenes.scene import OWN, Drawable, Scene
from .twins import make_twin

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def draw(
    domain: str, seed: int | None = None, camera: str = "", *, width: int, height: int, frames: bool = False
) -> dict[str, Frame]:
    """Pictures of a domain's start, by camera: all of them, or the one that is named.

    Args:
        domain: its name, or its file's path.
        seed: draws the start; None: the plain one.
        frames: whether the frames that its channels tell of are drawn.

    Raises:
        SpecError: no such domain or camera, or it has no scene.
        SetupError: no GL library is installed.
    """
    known = load_domain(domain)
    if isinstance(flat := actual(make_twin(known if seed is not None else replace(known, starts=Starts()))), Flat):
        flat.reset(seed=seed or 0)
        return {"above": flat.picture(flat.read_objects().values[None], known.task())}
    twin, scene = _at_start(known, seed)
    marks = scene.objects.marks(scene.model, _data(scene, twin)) if frames else ()
    with Painter(scene, width=width, height=height) as painter:
        names = [camera] if camera else painter.cameras
        return {name: painter.paint(twin.data.qpos, name, marks) for name in names}


def show(domain: str, seed: int | None = None) -> None:
    """Open a window on a domain's start until it is closed; the arm holds still, objects can be pulled.

    Raises:
        SpecError: no such domain, or it has no scene.
        SetupError: there is no display, or no window can be opened on it.
    """
    twin, scene = _at_start(load_domain(domain), seed)
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in DISPLAYS):
        raise SetupError(
            f"there is no display to open a window on ({' and '.join(DISPLAYS)} are not set); draw pictures instead: "
            f"skimo twin picture out.png --domain {domain}"
        )
    data = _data(scene, twin)
    data.ctrl[:OWN] = data.qpos[:OWN]
    try:
        from mujoco import viewer

        viewer.launch(scene.model, data)
    except Exception as error:  # the window's library raises whatever its C code does
        raise SetupError(f"no window can be opened: {type(error).__name__} {error}") from error


def _at_start(domain: Domain, seed: int | None) -> tuple[Drawable, Scene]:
    twin = drawable(domain)
    twin.start(seed)
    return twin, twin.drawn()


def _data(scene: Scene, twin: Drawable) -> mujoco.MjData:
    data = mujoco.MjData(scene.model)
    data.qpos[:] = twin.data.qpos
    mujoco.mj_forward(scene.model, data)
    return data
