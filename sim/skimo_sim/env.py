"""A domain as a Gymnasium environment over its twin.

Promises
  - Actions go through skimo_core.control.commander and the gate, observations through skimo_core.control.observe, as in
    the full stack: the same actions give the same joint path. `info` says what the gate made of each, and what the arm
    was told; an action that the gate stops terminates the episode.
  - Reward is 1 for each sub-task completed, in the task's order, on the true state; the episode is terminated when all
    are done (SkiMo, Shi et al. 2022, Kitchen). Registered, it is truncated after 280 steps.
  - Observation noise is the domain's, drawn from the environment's own seeded generator.
A simulation that diverges terminates the episode with `info["diverged"]`; it happens in no test here.
Nothing is registered by importing this module; `skimo_sim.envs` does that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import BackendError, SimulationError, SpecError
from skimo_core.contract.types import Verdict
from skimo_core.control.commander import Arm, Commander
from skimo_core.control.observe import Observer
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import DEFAULT, load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.tasks import Progress
from skimo_core.safety.armless import gate_for
from skimo_core.safety.gate import Decision
from skimo_core.safety.gated import GatedBackend

from .condition import DRAWN, load_condition
from .flat import Flat
from .impaired import actual
from .render import Painter
from .scenes.scene import Drawable
from .twins import make_twin

FloatArray = npt.NDArray[np.float32]

OBSERVATION_BOUND = 20.0
"""rad or m; beyond anything that an arm's scene can reach."""


class SkillEnv(gymnasium.Env[FloatArray, FloatArray]):
    """Observation float32[O] in the domain's units, action float32[A] in [-1, 1], a step per control period.

    Args:
        task: a named task, or goals joined by commas, in the order in which they count: sub-tasks' names, or channels
            with values, as microwave=-0.4+-0.1; empty: the domain's first.
        domain: what the tasks share: a domain's name, or a file.
        noise: whether observations carry the domain's noise.
        gate: whether the gate stands before the arm, as it does on the robot. Without it a step costs a third.
        twin: who simulates; empty: the domain's own.
        condition: what is different (skimo_sim.condition): a condition's name, or a file.
        render_mode: None or "rgb_array".
        camera: which of the scene's cameras to render from.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 12}

    def __init__(
        self,
        task: str = "",
        domain: str = DEFAULT,
        noise: bool = True,
        gate: bool = True,
        twin: str = "",
        condition: str = DRAWN,
        render_mode: str | None = None,
        camera: str = "left",
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise SpecError(f"render mode {render_mode!r} is unknown; there is rgb_array")
        plain = load_domain(domain)
        self.condition = load_condition(condition, plain)
        self.domain = self.condition.seen(plain)
        self.task = self.domain.task(task)
        limits = load_limits(self.domain.robot)
        self.twin = make_twin(self.domain, limits, twin, self.condition)
        self.arm: SimulatedBackend = self.twin
        contact = None
        if gate:
            cell = load_cell(self.domain.cell)
            self.arm = GatedBackend(self.twin, gate_for(limits, cell=cell), self._hear)
            contact = cell.contact
        self.render_mode = render_mode
        self._noise = noise
        self._camera = camera
        self._painter: Painter | None = None
        self._commander = Commander(limits, self.domain.action, Arm.of(self.arm), contact=contact)
        self._truth = Observer(self.domain.observation, max_age_s=np.inf)
        self._progress = Progress(self.task)
        self._observer = self._truth
        self._verdict, self._reasons = Verdict.PASS, ""
        size, bound = self.domain.observation.size, OBSERVATION_BOUND if limits.joints else np.inf
        self.observation_space = spaces.Box(-bound, bound, (size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (self.domain.action.size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Return to a start; the seed draws it, the sensor noise, and what the condition leaves to chance."""
        super().reset(seed=seed)
        self.arm.reset(self.task.name, seed or 0)
        self._commander.reset(self.arm.read().reference_q_rad, self.arm.now_s())
        noise = self.domain.noise if self._noise else None
        self._observer = Observer(self.domain.observation, max_age_s=np.inf, noise=noise, rng=self.np_random)
        self._progress = Progress(self.task)
        self._progress.update(self.truth())
        self._verdict, self._reasons = Verdict.PASS, ""
        return self._observe(), self._info()

    def step(self, action: FloatArray) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Execute an action for one control period."""
        wanted = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        due_s = self.arm.now_s()
        self._verdict, self._reasons = Verdict.PASS, ""
        with suppress(BackendError):  # the gate's stop, which `_verdict` tells
            self._commander.send(wanted, due_s)
        try:
            self.arm.advance(self.domain.action.period_s)
        except SimulationError as error:
            last = np.nan_to_num(self.truth_unchecked())
            return last, 0.0, True, False, {**self._info(), "diverged": str(error)}
        if self.arm is not self.twin:
            self._commander.settle()
        self._commander.fate()
        reward = float(self._progress.update(self.truth()))
        over = self._progress.finished or self._verdict is Verdict.STOP
        info = {**self._info(), "action_applied": self._commander.applied(due_s)}
        return self._observe(), reward, over, False, info

    def truth(self) -> FloatArray:
        """The observation [O] without noise, by sensors that are neither off nor late."""
        twin = actual(self.twin)
        return self._truth.observe(twin.read(), twin.read_objects(), twin.now_s())

    def truth_unchecked(self) -> FloatArray:
        """The same, even where it is not finite."""
        twin = actual(self.twin)
        robot, objects = twin.read(), twin.read_objects()
        spec = self.domain.observation
        parts = (robot.q_rad[: spec.joints], robot.finger_m[: spec.fingers], objects.values)
        return np.concatenate(parts).astype(np.float32)

    def render(self) -> npt.NDArray[np.uint8] | None:  # type: ignore[override]
        """The camera's picture [480, 640, 3] in render mode "rgb_array".

        Raises:
            SetupError: no GL library is installed.
            SpecError: this domain's twin has no scene to draw.
        """
        if self.render_mode is None:
            return None
        twin = actual(self.twin)
        if isinstance(twin, Flat):
            return twin.picture(self.truth_unchecked()[None], self.task)
        if not isinstance(twin, Drawable):
            raise SpecError(f"domain {self.domain.name}: its twin has no scene to draw")
        if self._painter is None:
            self._painter = Painter(twin)
        return self._painter.paint(twin.data.qpos, camera=self._camera)

    def close(self) -> None:
        """Release the renderer."""
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _hear(self, decision: Decision) -> None:
        """What the gate said: its gravest word of this step, and what it passed on."""
        if decision.verdict > self._verdict:
            self._verdict, self._reasons = decision.verdict, "; ".join(decision.reasons)
        if decision.command is not None:
            self._commander.confirm(decision.command.trajectory)

    def _observe(self) -> FloatArray:
        return self._observer.observe(self.arm.read(), self.arm.read_objects(), self.arm.now_s())

    def _info(self) -> dict[str, Any]:
        done = [s.name for s in self.task.subtasks[: self._progress.done]]
        verdict = {"verdict": self._verdict.name, "reasons": self._reasons}
        return {"completed": done, "subtasks_done": self._progress.done, **verdict}
