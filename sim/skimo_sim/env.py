"""The kitchen as a Gymnasium environment over the twin.

Promises
  - Actions go through skimo_core.control.actuate and observations through skimo_core.control.observe, as in the full
    stack: the same actions give the same joint path.
  - Reward is 1 for each sub-task completed, in the task's order, on the true state; the episode is terminated when all
    are done (SkiMo, Shi et al. 2022, Kitchen). Registered, it is truncated after 280 steps.
  - Observation noise is the papers', drawn from the environment's own seeded generator.
A simulation that diverges terminates the episode with `info["diverged"]`; it happens in no test here.
Nothing is registered by importing this module; `skimo_sim.envs` does that.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from skimo_core.contract.errors import SimulationError, SkimoError
from skimo_core.control.actuate import Actuator
from skimo_core.control.observe import Observer
from skimo_core.domain.tasks import Progress

from .render import Painter
from .twin import Twin

FloatArray = npt.NDArray[np.float32]

OBSERVATION_BOUND = 20.0
"""rad or m; beyond anything that the scene can reach."""


class KitchenEnv(gymnasium.Env[FloatArray, FloatArray]):
    """Observation float32[30], action float32[9] in [-1, 1], 12.5 Hz.

    Args:
        task: "kitchen", "misaligned", or sub-tasks joined by commas, in the order in which they count.
        noise: whether observations carry the papers' noise.
        arm: "panda", or "kitchen" for the arm that ships with the scene.
        render_mode: None or "rgb_array".
        camera: which of the scene's cameras to render from.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 12}

    def __init__(
        self,
        task: str = "kitchen",
        noise: bool = True,
        arm: str = "panda",
        render_mode: str | None = None,
        camera: str = "left",
    ) -> None:
        self.twin = Twin(arm)
        self.domain = self.twin.domain
        self.task = self.domain.task(task)
        self.render_mode = render_mode
        self._noise = noise
        self._camera = camera
        self._painter: Painter | None = None
        self._actuator = Actuator(self.twin.limits, self.domain.action)
        self._truth = Observer(self.domain.observation, max_age_s=np.inf)
        self._progress = Progress(self.task)
        self._observer = self._truth
        size = self.domain.observation.size
        self.observation_space = spaces.Box(-OBSERVATION_BOUND, OBSERVATION_BOUND, (size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (self.domain.action.size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Return to the initial state; only the noise depends on the seed."""
        super().reset(seed=seed)
        self.twin.reset(self.task.name, seed or 0)
        self._actuator.reset(self.twin.read().q_rad, self.twin.now_s())
        noise = self.domain.noise if self._noise else None
        self._observer = Observer(self.domain.observation, max_age_s=np.inf, noise=noise, rng=self.np_random)
        self._progress = Progress(self.task)
        self._progress.update(self.truth())
        return self._observe(), self._info()

    def step(self, action: FloatArray) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Execute an action for one control period."""
        wanted = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        period_s = self.domain.action.period_s
        self.twin.write(self._actuator.command(wanted, self.twin.now_s()))
        try:
            self.twin.advance(period_s)
        except SimulationError as error:
            last = np.nan_to_num(self.truth_unchecked())
            return last, 0.0, True, False, {**self._info(), "diverged": str(error)}
        reward = float(self._progress.update(self.truth()))
        return self._observe(), reward, self._progress.finished, False, self._info()

    def truth(self) -> FloatArray:
        """The observation [30] without noise."""
        return self._truth.observe(self.twin.read(), self.twin.read_objects(), self.twin.now_s())

    def truth_unchecked(self) -> FloatArray:
        """The same, even where it is not finite."""
        return np.asarray(self.twin.data.qpos, np.float32)

    def render(self) -> npt.NDArray[np.uint8] | None:  # type: ignore[override]
        """The camera's picture [480, 640, 3] in render mode "rgb_array".

        Raises:
            SetupError: no GL library is installed.
        """
        if self.render_mode is None:
            return None
        if self.render_mode != "rgb_array":
            raise SkimoError(f"render mode {self.render_mode!r} is unknown; there is rgb_array")
        if self._painter is None:
            self._painter = Painter(arm=self.twin.scene.arm.name)
        return self._painter.paint(self.twin.data.qpos, camera=self._camera)

    def close(self) -> None:
        """Release the renderer."""
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _observe(self) -> FloatArray:
        return self._observer.observe(self.twin.read(), self.twin.read_objects(), self.twin.now_s())

    def _info(self) -> dict[str, Any]:
        done = [s.name for s in self.task.subtasks[: self._progress.done]]
        return {"completed": done, "subtasks_done": self._progress.done}
