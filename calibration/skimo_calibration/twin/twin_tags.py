"""A twin's scene with tags on its moving parts: what a tracker file's cameras would see of it, and read from that.

    tracker = tracker_of(load_tracker("kitchen"), load_rig("kitchen_twin"), load_domain())
    with TaggedScene(tracker.spec, tracker.views, tracker.domain) as scene:
        picture = scene.paint("left", q_rad, finger_m, objects)

There is one scene that can be painted: the kitchen's.

Tags sit where the file has them, so the file is tried and not only the tracker. `TaggedTwin` is a twin whose object
states come through cameras and tracker instead of from the simulation's memory; everything else is the twin's own.

Frames: the scene's, which is the tracker file's. Pictures are uint8 [H, W, 3], RGB. Needs skimo_sim and a GL library
(`twin_camera`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array, ObjectStates
from skimo_core.domain.domain import Domain

from ..objects.scene import Places
from ..objects.tag_edges import CELLS
from ..objects.tags import Mount, code
from ..objects.tracker_file import Body, Joint, TrackerSpec
from ..objects.tracking import Report, Tracker
from ..objects.viewpoint import Viewpoint
from .twin_camera import Picture, SimulatedCamera, attach_picture

QUIET = 1
"""Cells of white around a tag."""
TEXELS = 8
"""Of a cell."""
BLACK, WHITE = 25, 215
"""Grey levels of ink and paper."""
PAINTED = "kitchen"
"""The twin whose scene this is."""
ARM = 9
"""Positions of arm and fingers, before the objects'."""


def card(tag_id: int) -> npt.NDArray[np.uint8]:
    """The picture of a tag with its white margin, as printed."""
    cells = np.pad(code(tag_id), QUIET, constant_values=True)
    fine = np.kron(cells, np.ones((TEXELS, TEXELS), bool))
    return np.where(fine, WHITE, BLACK).astype(np.uint8)


class TaggedScene:
    """Paints states of a domain's scene, its parts tagged. Close it, or use it as a context manager.

    Args:
        spec: the tracker file.
        views: cameras to paint from, in the scene's frame (`Tracker.views`).
        domain: whose twin is painted.
        places: tags on the furniture, besides.
        blur_px, noise, seed: of the pictures, as `SimulatedCamera` has them.

    Raises:
        SpecError: the domain's twin has no scene that could be painted, or not these parts.
        SetupError: no GL library is there.
    """

    def __init__(
        self,
        spec: TrackerSpec,
        views: Mapping[str, Viewpoint],
        domain: Domain,
        *,
        places: Places | None = None,
        blur_px: float = 0.6,
        noise: float = 2.0,
        seed: int = 0,
    ) -> None:
        from skimo_sim.scenes.kitchen import build_kitchen
        from skimo_sim.scenes.physics import mujoco

        spec.check_domain(domain)
        if domain.twin != PAINTED:
            raise SpecError(
                f"the twin of domain {domain.name} ({domain.twin}) has no scene that can be painted; that of domain "
                f"{PAINTED} has"
            )
        self._objects = domain.observation.objects
        fixed = () if places is None else places.tags
        scene = build_kitchen(visual=True, dress=lambda scene: _attach_tags(scene, spec, self._objects, fixed))
        self._model, self._zero_rad = scene.model, scene.arm.zero_rad
        self._data = mujoco.MjData(self._model)
        self._views = dict(views)
        self._cameras: dict[str, SimulatedCamera] = {}
        lenses: dict[bytes, SimulatedCamera] = {}
        try:
            for k, (name, view) in enumerate(self._views.items()):
                same = str(view.intrinsics).encode()
                if same not in lenses:
                    lenses[same] = SimulatedCamera(
                        self._model, view.intrinsics, blur_px=blur_px, noise=noise, seed=seed + k
                    )
                self._cameras[name] = lenses[same]
        except BaseException:
            self.close()
            raise

    def paint(self, camera: str, q_rad: Array, finger_m: Array, objects: Array) -> Picture:
        """What a camera sees of a state: joints [7], fingers [2], the domain's object channels [K].

        Raises:
            SpecError: no such camera, or a state of another size.
        """
        from skimo_sim.scenes.physics import mujoco

        if camera not in self._cameras:
            raise SpecError(f"no camera {camera!r} looks at the scene; there are {', '.join(self._cameras)}")
        state = np.concatenate([q_rad - self._zero_rad, finger_m, objects])
        if state.shape != (self._model.nq,) or not np.isfinite(state).all():
            raise SpecError(
                f"a state to paint holds {self._model.nq} finite numbers (joints, fingers, objects), this one "
                f"{state.shape[0]}, {int(np.isfinite(state).sum())} of them finite"
            )
        self._data.qpos[:] = state
        mujoco.mj_normalizeQuat(self._model, self._data.qpos)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        view = self._views[camera]
        return self._cameras[camera].paint(self._data, view.rotation, view.position_m)

    def close(self) -> None:
        """Release what draws; safe to call twice."""
        for camera in set(self._cameras.values()):
            camera.close()

    def __enter__(self) -> TaggedScene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TaggedTwin:
    """A twin whose objects are seen: `read_objects` paints its cameras' pictures and tracks the tags in them.

    Args:
        twin: whose scene it is.
        scene: paints it.
        tracker: reads the pictures.

    Attributes:
        inside: the twin, whose states are the truth.
        report: of the newest pictures; None before the first.
    """

    def __init__(self, twin: SimulatedBackend, scene: TaggedScene, tracker: Tracker) -> None:
        self.inside, self._scene, self._tracker = twin, scene, tracker
        self.report: Report | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)

    def read_objects(self) -> ObjectStates:
        """The objects as cameras and tracker tell them; NaN where they are hidden."""
        robot, truth = self.inside.read(), self.inside.read_objects()
        if self.report is not None and truth.stamp_s == self.report.states.stamp_s:
            return self.report.states
        for name in self._tracker.spec.cameras:
            picture = self._scene.paint(name, robot.q_rad, robot.finger_m, truth.values)
            stamp_s = truth.stamp_s + self._tracker.views[name].latency_s
            self.report = self._tracker.take(self._tracker.look(name, picture, stamp_s))
        assert self.report is not None
        return self.report.states


def _attach_tags(scene: Any, spec: TrackerSpec, objects: tuple[str, ...], fixed: tuple[Mount, ...]) -> None:
    """Put a tracker file's tags on the bodies that its channels move, and others on what doesn't move."""
    from skimo_sim.scenes.physics import mujoco

    model = scene.compile()
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    for part in spec.bodies:
        at = ARM + objects.index(part.channels[0])
        data.qpos[at : at + 7] = 0, 0, 0, 1, 0, 0, 0
    mujoco.mj_kinematics(model, data)
    for mount in fixed:
        _attach_tag(scene, "world", mount, mount.rotation, mount.position_m)
    for part in spec.moving:
        body = data.body(_body_of(model, part, objects))
        for mount in part.tags:
            rotation, position_m = mount.rotation, mount.position_m
            if isinstance(part, Joint):
                turn, origin_m = _pose_of(body)
                rotation, position_m = turn.T @ rotation, turn.T @ (position_m - origin_m)
            _attach_tag(scene, body.name, mount, rotation, position_m)


def _attach_tag(scene: Any, body: str, mount: Mount, rotation: Array, position_m: Array) -> None:
    side_m = mount.size_m * (CELLS + 2 * QUIET) / CELLS
    attach_picture(
        scene,
        scene.body(body),
        f"tag {mount.tag_id}",
        card(mount.tag_id),
        width_m=side_m,
        height_m=side_m,
        rotation=rotation * [1.0, -1.0, -1.0],
        position_m=position_m,
    )


def _body_of(model: Any, part: Joint | Body, objects: tuple[str, ...]) -> int:
    """The body that a part's first channel moves; positions are the arm's, then the channels'."""
    at = ARM + objects.index(part.channel if isinstance(part, Joint) else part.channels[0])
    found = [joint for joint in range(model.njnt) if model.jnt_qposadr[joint] == at]
    if not found:
        raise SpecError(f"tracker part {part.name!r} moves nothing of the scene's")
    return int(model.jnt_bodyid[found[0]])


def _pose_of(body: Any) -> tuple[Array, Array]:
    return body.xmat.reshape(3, 3).copy(), body.xpos.copy()
