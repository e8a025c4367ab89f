"""Where the tool's centre can be brought, roughly: positions alone, whatever stands in between.

Numerical inverse kinematics (damped least squares) on the scene's own arm, within its joints' ranges, from several
postures. Units m, rad; the scene's world.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skimo_core.contract.types import JOINTS, Array
from skimo_core.domain.tasks import Subtask

from .scenes.channels import Described
from .scenes.physics import mujoco
from .twin import Twin

POSTURES, STEPS = 6, 60
DAMPING = 0.05
STEP_MAX_RAD = 0.3
NEAR_M = 0.01
PULL_M = 0.05
"""A body need not be met in its middle: what is nearer than that is within reach."""


class Reach:
    """Of the arm in a twin's scene; works on data of its own."""

    def __init__(self, twin: Twin) -> None:
        self._twin, self._model = twin, twin.model
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site(twin.scene.arm.tcp_site).id
        low, high = self._model.jnt_range[:JOINTS].T
        rng = np.random.default_rng(0)
        home = twin.scene.start_qpos[:JOINTS]
        self._postures = [home, *(rng.uniform(low, high) for _ in range(POSTURES - 1))]

    def range_of(self, channel: int) -> tuple[float, float]:
        """Least and greatest value that a channel can have, in its unit; infinite where nothing bounds it."""
        spec, model, zero = self._twin.domain.observation, self._model, self._twin.scene.arm.zero_rad
        objects = self._twin.scene.objects
        joint = -1
        if channel < spec.joints:
            low, high = model.jnt_range[channel] + zero[channel]
            return float(low), float(high)
        if channel < spec.joints + spec.fingers:
            joint = JOINTS + channel - spec.joints
        elif isinstance(objects, Described):
            joint = objects.joint_of(model, channel - spec.joints - spec.fingers)
        if joint < 0 or not model.jnt_limited[joint]:
            return -np.inf, np.inf
        low, high = model.jnt_range[joint]
        return float(low), float(high)

    def out_of_reach(self, goal: Subtask) -> Iterator[tuple[str, Array, float]]:
        """What of a goal's objects, put where the goal has them, the tool doesn't get to: name, where, by how much."""
        objects, spec = self._twin.scene.objects, self._twin.domain.observation
        if not isinstance(objects, Described):
            return
        first = spec.joints + spec.fingers
        observation = self._twin.observed(self._twin.scene.start_qpos)
        observation[list(goal.channels)] = goal.goal
        self._data.qpos[:] = self._twin.state_of(observation)
        mujoco.mj_kinematics(self._model, self._data)
        wanted = {channel - first for channel in goal.channels if channel >= first}
        for name, body in objects.bodies_of(self._model, wanted).items():
            point = self._nearest(body)
            if (short_m := self.short_of(point)) > PULL_M:
                yield name, point, short_m

    def short_of(self, point_m: Array) -> float:
        """How far from a point [3] the tool's centre stays at best, m."""
        return min(self._search(point_m, posture) for posture in self._postures)

    def _nearest(self, body: int) -> Array:
        """The middle of that of a body's shapes which is nearest to the arm's base, or the body itself."""
        model, data, base = self._model, self._data, self._twin.scene.base_m
        points = data.geom_xpos[model.geom_bodyid == body]
        if not len(points):
            return data.xpos[body].copy()
        return points[int(np.argmin(np.linalg.norm(points - base, axis=1)))].copy()

    def _search(self, point_m: Array, posture: Array) -> float:
        model, data = self._model, self._data
        low, high = model.jnt_range[:JOINTS].T
        best, q = np.inf, posture.copy()
        rows = np.zeros((3, model.nv))
        for _ in range(STEPS):
            data.qpos[:JOINTS] = q
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            off = point_m - data.site_xpos[self._site]
            best = min(best, float(np.linalg.norm(off)))
            if best < NEAR_M:
                return 0.0
            mujoco.mj_jacSite(model, data, rows, None, self._site)
            columns = rows[:, :JOINTS]
            step = columns.T @ np.linalg.solve(columns @ columns.T + DAMPING**2 * np.eye(3), off)
            q = np.clip(q + np.clip(step, -STEP_MAX_RAD, STEP_MAX_RAD), low, high)
        return best


def within(value: float, low: float, high: float) -> bool:
    """Whether a value lies between two, rounding aside."""
    return bool(low - 1e-9 <= value <= high + 1e-9)
