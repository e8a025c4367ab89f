"""`skimo twin check --domain D`: whether a domain's twin is fit to try its tasks in, point by point.

Looks at the channels and their ranges, at drawn starts, at whether the arm gets to where the goals are, and at the
speed. A scene that can't be built at all says so itself (scenes.described). Of a twin without a scene it says what it
can't be used for. Reach is rough: a point counts as within reach if the tool's centre can be brought there by some
posture, whatever stands in between. Units m, rad, s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SimulationError, SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.domain import Domain
from skimo_core.domain.pose import HERE
from skimo_core.domain.robot import RobotLimits
from skimo_core.domain.starts import Starts
from skimo_core.domain.tasks import Subtask

from .check import steps_per_second
from .flat import Flat
from .impaired import actual
from .reach import Reach, within
from .scenes.described import Room
from .scenes.physics import mujoco
from .scenes.resting import base_depths
from .scenes.scene import OWN
from .scenes.scene_file import WORLD
from .twin import Twin
from .twins import make_twin

OK, NOTE, FAULT = "ok", "note", "FAULT"
STARTS = 20
REST_S = 1.0
CREEP = 0.01
"""m or rad: what moves further within REST_S of a drawn start is told of."""
SET_OFF = 0.005
"""m or rad by which a channel may come to rest away from where the domain starts it."""
FLOAT_M = 0.005
"""An arm whose foot has nothing nearer below it hangs in the air."""
SPEED_STEPS = 100
WITHOUT_A_SCENE = (
    "nothing is touched or moved in it: no practice in simulation, no promotion's trials, no evaluation, no pictures; "
    "recording, training, serving and the robot itself need none of that. For a scene, give the domain a file: "
    "twin: scene.yaml (skimo_sim.scenes.scene_file)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One point: OK, NOTE or FAULT; what was looked at; and what was found."""

    level: str
    what: str
    words: str

    @property
    def line(self) -> str:
        """As it is printed."""
        return f"  {self.level:<5} {self.what:<9} {self.words}"


def check_up(
    domain: Domain, limits: RobotLimits | None = None, name: str = "", *, starts: int = STARTS, seed: int = 0
) -> list[Finding]:
    """Look at a domain's twin, or another of that name.

    Args:
        starts: how many are drawn, from `seed` on.

    Raises:
        SpecError: there is no twin to look at, and why.
    """
    plain = replace(domain, starts=Starts())
    twin = actual(make_twin(plain, limits, name))
    if not isinstance(twin, Twin):
        flat = isinstance(twin, Flat)
        words = "has no arm, and is drawn from above" if flat else f"has none: {WITHOUT_A_SCENE}"
        without = Finding(level=OK if flat else NOTE, what="scene", words=f"the twin {name or domain.twin!r} {words}")
        return [without, *_starts(actual(make_twin(domain, limits, name)), domain, starts, seed)]
    twin.domain, twin.starts = domain, domain.starts
    return [
        *_arm(twin),
        *_channels(twin),
        *_starts(twin, domain, starts, seed),
        *_goals(twin),
        *_speed(twin),
    ]


def _arm(twin: Twin) -> Iterator[Finding]:
    scene, model = twin.scene, twin.model
    own = "" if twin.limits.name == "panda" else "; masses and friction are the Panda's: none of its own are known"
    words = f"{twin.limits.name}, base at {_numbers(scene.base_m)} m in the scene {scene.name!r}{own}"
    yield Finding(level=OK, what="arm", words=words)
    data = mujoco.MjData(model)
    data.qpos[:] = scene.start_qpos
    mujoco.mj_forward(model, data)
    if isinstance(twin.room, Room) and twin.room.file.frame == WORLD:
        base = twin.domain.base
        off_m = float(np.linalg.norm(base.position_m - scene.base_m))
        off = max(off_m, float(np.abs(base.rotation - scene.base_rotation).max()))
        if off > SET_OFF:
            said = "says nothing of it" if base is HERE else f"has its base at {_numbers(base.position_m)} m"
            yield Finding(
                level=NOTE,
                what="arm",
                words=f"the domain {said}; whoever draws both needs base: {{position_m: {_numbers(scene.base_m)}, "
                f"quat_wxyz: {_numbers(_quaternion(scene.base_rotation), 4)}}}",
            )
    if depths := base_depths(model, data):
        yield Finding(
            level=OK, what="arm", words=f"stands on or in {depths[0][0]!r} ({1e3 * depths[0][1]:.1f} mm deep)"
        )
    joints, bodies = model.njnt - OWN, model.nbody - 1
    step = f"{joints} joints beside the arm's, {bodies} bodies, physics every {1e3 * model.opt.timestep:g} ms"
    yield Finding(level=OK, what="model", words=step)


def _channels(twin: Twin) -> Iterator[Finding]:
    spec, domain = twin.domain.observation, twin.domain
    first = spec.joints + spec.fingers
    values = twin.observed(twin.scene.start_qpos)[first:]
    wanted = domain.start[first:].astype(np.float64)
    yield Finding(level=OK, what="channels", words=f"{len(values)} of objects, all of them in the model")
    for name, unit, value, said in zip(spec.objects, spec.units[first:], values, wanted):
        if abs(value - said) > SET_OFF:
            words = (
                f"{name} rests at {value:.3g} {unit}, the domain starts it at {said:.3g}: give it start: {value:.3g}"
            )
            yield Finding(level=NOTE, what="start", words=words)


def _starts(twin: SimulatedBackend, domain: Domain, count: int, seed: int) -> Iterator[Finding]:
    """Draw starts, and let each rest a while."""
    failed, done, creeping = [], set(), {}
    task = domain.task()
    for k in range(seed, seed + count):
        try:
            twin.reset(task.name, k)
            before = twin.read_objects()
            done |= set(task.done_before(_observed(twin, domain), domain.observation.joints))
            twin.advance(REST_S)
        except (SpecError, SimulationError) as error:
            failed.append(f"{k}: {error}")
            continue
        moved = np.abs(twin.read_objects().values - before.values)
        for channel in np.flatnonzero(moved > CREEP):
            name = before.names[channel]
            creeping[name] = max(creeping.get(name, 0.0), float(moved[channel]))
    if failed:
        yield Finding(level=FAULT, what="starts", words=f"{len(failed)} of {count} can't be drawn; seed {failed[0]}")
    else:
        how = ", the arm free of contact in each" if isinstance(twin, Twin) else ""
        yield Finding(level=OK, what="starts", words=f"{count} of {count} drawn{how}")
    if done:
        yield Finding(level=NOTE, what="starts", words=f"done before anybody did it: {', '.join(sorted(done))}")
    for name, size in creeping.items():
        words = f"{name} moves by itself: up to {size:.3g} within {REST_S:g} s of a start"
        yield Finding(level=NOTE, what="starts", words=words)


def _goals(twin: Twin) -> Iterator[Finding]:
    reach, fine = Reach(twin), 0
    for goal in (twin.domain.subtasks | twin.domain.goals).values():
        faults = list(_faults(twin, reach, goal))
        fine += not faults
        for words in faults:
            yield Finding(level=FAULT, what="goal", words=f"{goal.name!r}: {words}")
    if fine:
        yield Finding(level=OK, what="goals", words=f"{fine} lie within the channels' ranges and the arm's reach")


def _faults(twin: Twin, reach: Reach, goal: Subtask) -> Iterator[str]:
    spec = twin.domain.observation
    for channel, value, tolerance in zip(goal.channels, goal.goal, goal.tolerances):
        low, high = reach.range_of(channel)
        if not within(value, low - tolerance, high + tolerance):
            name, unit = spec.names[channel], spec.units[channel]
            yield f"{name} {value:g} {unit} is beyond what it can be, {low:g} to {high:g} {unit}"
    for what, point_m, short_m in reach.out_of_reach(goal):
        yield f"{what} at {_numbers(point_m)} m is {short_m:.2f} m beyond the tool's reach"


def _speed(twin: Twin) -> Iterator[Finding]:
    twin.starts = Starts()  # from one that is there in any case
    try:
        per_cpu, _ = steps_per_second(twin, steps=SPEED_STEPS, seed=0)
    except SimulationError as error:
        yield Finding(level=FAULT, what="speed", words=str(error))
        return
    pace = per_cpu * twin.domain.action.period_s
    words = f"{pace:.0f} x real time ({per_cpu:.0f} control steps per processor second), the arm moving about"
    yield Finding(level=OK if pace > 1.0 else FAULT, what="speed", words=words)


def _observed(twin: SimulatedBackend, domain: Domain) -> Array:
    spec, robot = domain.observation, twin.read()
    return np.concatenate([robot.q_rad[: spec.joints], robot.finger_m[: spec.fingers], twin.read_objects().values])


def _quaternion(rotation: Array) -> Array:
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rotation).ravel())
    return quat


def _numbers(values: Array, digits: int = 3) -> str:
    return "[" + ", ".join(f"{float(np.round(x, digits)) + 0.0:g}" for x in values) + "]"
