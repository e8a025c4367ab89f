"""A lab's own scene: its model (MJCF or URDF) with our arm mounted in it, as its scene file says.

Promises
  - Arm and hand come first in the compiled model; what the lab's model holds keeps its names, options and order behind
    them. Its own timestep and integrator give way to those that the arm's servos are made for.
  - The start has the arm at its home, joints and free bodies where the domain's channels start them, at rest: what is
    not supported there is let fall first. A body whose channels all start at 0 stays where the model has it.
  - Whatever is wrong with the files is said in words: what, where, and what there is instead.
Frames: the lab model's world. Units m, rad, s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS, Array
from skimo_core.domain.domain import Domain
from skimo_core.domain.rig import Placement
from skimo_core.domain.robot import RobotLimits

from .arm import FINGERS, arm_of
from .channels import Described, describe, names_of
from .models import compiled, read_model
from .mount import BASE_BODY, FINGERTIP_M, panda_spec, refuse_unknown_robot
from .physics import mujoco
from .placing import placed
from .resting import at_rest
from .scene import OWN, SLEEP, Dress, Scene
from .scene_file import BASE, TURN, SceneFile, View
from .views import look_at

ARMS = ("panda",)
DAYLIGHT = ((0.45, 0.45, 0.45), (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
"""Ambient, diffuse and specular light from where the eye is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Builds the scene of a file for a domain and a robot; implements skimo_sim.scenes.scene.Build."""

    file: SceneFile
    domain: Domain
    limits: RobotLimits

    def __call__(
        self,
        arm: str = "panda",
        *,
        visual: bool = False,
        placement: Placement | None = None,
        dress: Dress | None = None,
    ) -> Scene:
        """See Build.

        Raises:
            SpecError: whatever is wrong with the files, in words; another arm; one that would stand elsewhere.
            SetupError: the arm's meshes are not installed.
        """
        file = self.file
        _refuse_channels(self.domain)
        if arm not in ARMS:
            raise SpecError(f"no arm {arm!r} for the scene {file.name!r}; there is {', '.join(ARMS)}")
        spec, base = assemble(file, self.limits, placement, visual=visual)
        if dress is not None:
            dress(spec)
        model = compiled(spec, file.where)
        model.opt.enableflags |= SLEEP
        frame = base if file.frame == BASE else (np.zeros(3), np.eye(3))
        observation = self.domain.observation
        objects = describe(model, observation.objects, file.channels, file.where, frame)
        _refuse_undrawable(self.domain, objects, file.where)
        start = self._start(model, objects)
        if not visual:
            start = at_rest(model, start, file.where)
        return Scene(
            name=file.name,
            model=model,
            arm=arm_of(model, arm),
            start_qpos=start,
            objects=objects,
            base_m=base[0],
            base_rotation=base[1],
            fingertip_m=FINGERTIP_M[file.fingers],
        )

    def _start(self, model: mujoco.MjModel, objects: Described) -> Array:
        """The state [nq] at the domain's start, before anything has come to rest."""
        start = model.qpos0.copy()
        home = self.limits.home_q_rad if self.file.home_rad is None else self.file.home_rad
        bad = (home < self.limits.q_min_rad) | (home > self.limits.q_max_rad)
        if bad.any():
            joint = int(np.argmax(bad))
            raise SpecError(
                f"{self.file.where}: arm: home_rad: joint {joint + 1} is {home[joint]:g} rad, must lie in "
                f"{self.limits.q_min_rad[joint]:g} to {self.limits.q_max_rad[joint]:g} rad"
            )
        start[:JOINTS] = home
        start[JOINTS:OWN] = self.limits.hand_width_max_m / FINGERS
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        spec = self.domain.observation
        values = self.domain.start[spec.joints + spec.fingers :].astype(np.float64)
        objects.put(start, objects.with_own(values, objects.read(data)))
        return start


def assemble(
    file: SceneFile, limits: RobotLimits, placement: Placement | None = None, *, visual: bool = False
) -> tuple[mujoco.MjSpec, tuple[Array, Array]]:
    """The arm in the lab's model, not compiled, and where its base stands: position [3], rotation [3, 3].

    Raises:
        SpecError: a file that is missing, malformed or doesn't compile; no such body; a base that could move.
    """
    refuse_unknown_robot(limits)
    lab = read_model(file.model, file.where)
    alone = compiled(lab.copy(), file.where)
    base = _base(alone, file)
    if placement is not None:
        base = placed(*base, placement)
    _refuse_clashes(alone, file)
    spec = panda_spec(limits, file.fingers)
    mount = spec.body(BASE_BODY)
    mount.pos, mount.quat = base[0], _quaternion(base[1])
    _let_pass(lab, file)
    lab.compiler.discardvisual = spec.compiler.discardvisual = not visual
    lab.option.timestep = file.timestep_s
    lab.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option, spec.visual, spec.stat = lab.option, lab.visual, lab.stat
    spec.modelname = file.name
    spec.attach(lab, prefix="", frame=spec.worldbody.add_frame())
    _add_cameras(spec, file, base)
    if visual:
        _light(spec)
    return spec, base


def _base(model: mujoco.MjModel, file: SceneFile) -> tuple[Array, Array]:
    """Position [3] and rotation [3, 3] of the arm's base in the lab model's world."""
    body = 0
    if file.on:
        try:
            body = model.body(file.on).id
        except KeyError:
            known = ", ".join(names_of(model, "body")) or "none with a name"
            raise SpecError(f"{file.where}: arm: body: the model has no body {file.on!r}; there are {known}") from None
    if model.body_weldid[body] != 0:
        raise SpecError(f"{file.where}: arm: body: {file.on!r} can move; an arm stands on something that doesn't")
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    rotation = data.xmat[body].reshape(3, 3)
    return data.xpos[body] + rotation @ file.xyz_m, rotation @ _rotation(file.rpy_rad)


def _rotation(rpy_rad: Array) -> Array:
    """Turned about the fixed axes x, then y, then z, as URDF has it."""
    quat, matrix = np.zeros(4), np.zeros(9)
    mujoco.mju_euler2Quat(quat, np.asarray(rpy_rad, np.float64), "XYZ")
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def _quaternion(rotation: Array) -> Array:
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rotation).ravel())
    return quat


def _refuse_clashes(model: mujoco.MjModel, file: SceneFile) -> None:
    """Raises SpecError for names that are the arm's."""
    for source in ("joint", "body", "site"):
        count = {"joint": model.njnt, "body": model.nbody, "site": model.nsite}[source]
        if taken := [n for n in (getattr(model, source)(k).name for k in range(count)) if n.startswith("panda_")]:
            raise SpecError(
                f"{file.where}: model: {source} {taken[0]!r} has a name of the arm's: take the arm out of the model "
                "(ours is put in its place), or name it otherwise"
            )


def _let_pass(lab: mujoco.MjSpec, file: SceneFile) -> None:
    """Let nothing touch the bodies that are only there to be looked at."""
    for name in file.visual:
        body = lab.body(name)
        if body is None:
            known = ", ".join(b.name for b in lab.bodies if b.name and b.name != "world") or "none with a name"
            raise SpecError(f"{file.where}: visual: the model has no body {name!r}; there are {known}")
        for geom in body.geoms:
            geom.contype = geom.conaffinity = 0


def _refuse_channels(domain: Domain) -> None:
    """Raises SpecError for a domain whose arm's channels are not those of this one."""
    spec = domain.observation
    if spec.joints != JOINTS or spec.fingers > FINGERS:
        raise SpecError(
            f"domain {domain.name} has channels of {spec.joints} joints and {spec.fingers} fingers; the arm in a scene "
            f"has {JOINTS} and at most {FINGERS}; add what is missing, or take twin: kinematic"
        )


def _refuse_undrawable(domain: Domain, objects: Described, where: str) -> None:
    """Raises SpecError where the domain's starts draw what only follows something else."""
    starts, names = domain.starts, domain.observation.objects
    settable = {names[k] for k in objects.movable()}
    drawn = [*starts.offsets, *(f"{body}.{part}" for body in starts.turns for part in TURN)]
    drawn += [channel for places in starts.places.values() for place in places.at for channel in place]
    if unset := [name for name in drawn if name in names and name not in settable]:
        raise SpecError(
            f"{where}: the starts of domain {domain.name} draw {unset[0]!r}, which no start can set here: its body has "
            "no free joint of its own; draw what moves it instead"
        )


def _add_cameras(spec: mujoco.MjSpec, file: SceneFile, base: tuple[Array, Array]) -> None:
    there = {camera.name for camera in spec.cameras}
    for name, view in {**_views_round(base), **file.cameras}.items():
        if name in there and name not in file.cameras:
            continue
        camera = spec.camera(name) if name in there else spec.worldbody.add_camera()
        look_at(camera, name, view.eye_m, view.target_m, view.fovy_deg)


def _light(spec: mujoco.MjSpec) -> None:
    """Daylight for a model that says nothing of light, and a sky for one that has none."""
    if not spec.lights:
        light = spec.visual.headlight
        light.ambient, light.diffuse, light.specular = DAYLIGHT
    if not any(texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX for texture in spec.textures):
        sky = spec.add_texture()
        sky.name, sky.type, sky.builtin = (
            "sky",
            mujoco.mjtTexture.mjTEXTURE_SKYBOX,
            mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        )
        sky.rgb1, sky.rgb2, sky.width, sky.height = (0.93, 0.95, 0.97), (0.70, 0.76, 0.82), 64, 384


def _views_round(base: tuple[Array, Array]) -> dict[str, View]:
    """Views of what an arm at a place reaches: from its right, its left and from before it."""
    eyes = {"room": (1.6, -1.1, 0.9), "left": (-0.35, 1.25, 0.85), "front": (1.8, 0.05, 0.8)}
    target = base[0] + base[1] @ [0.42, 0.0, 0.1]
    return {name: View(eye_m=base[0] + base[1] @ eye, target_m=target) for name, eye in eyes.items()}
