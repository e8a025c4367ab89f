"""Play data: scripted teleoperation of the kitchen, four sub-tasks to an episode, with disturbances and corrections.

Promises
  - Episode i depends on `seed + i` alone: any number of workers gives the same arrays.
  - Every action goes through skimo_core.actuate into the twin, and what was executed is what is recorded.
  - Observations carry the domain's sensor noise, as a policy's do.
  - No episode's four sub-tasks are a held-out order (the tasks that evaluation uses), and the ordered pairs are drawn
    evenly, so that all 42 occur.
Units rad, s.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skimo_core.actuate import Actuator, ActuatorConfig
from skimo_core.observe import Observer
from skimo_core.tasks import Domain

from .play.kinematics import ArmKinematics
from .play.scripts import SCRIPTS, Style
from .play.teleoperator import Teleoperator
from .twin import Twin

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayConfig:
    """How an episode is played.

    Attributes:
        steps: control steps of an episode.
        subtasks: how many different sub-tasks are in it.
        noise: deviation of the slowly varying disturbance of joint velocities, in action units.
        noise_steps: its correlation time, control steps.
        shove_probability: chance per step that a short, stronger disturbance begins.
        shove: its deviation, in action units.
        shove_steps: how long it lasts.
        start_rad: half width of the uniform start perturbation of each joint.
        patience_steps: after so many steps an attempt is given up for the next sub-task.
    """

    steps: int = 280
    subtasks: int = 4
    noise: float = 0.035
    noise_steps: float = 3.0
    shove_probability: float = 0.01
    shove: float = 0.16
    shove_steps: int = 4
    start_rad: float = 0.06
    patience_steps: int = 90


@dataclass(slots=True, kw_only=True)
class Play:
    """One recorded episode.

    Attributes:
        observations: [T+1, O]; actions: [T, A].
        asked, done: sub-tasks in the order asked for, and completed.
        steps: control steps that each attempt took.
        start_q_rad: [7] joint positions at the start, without noise.
    """

    observations: FloatArray
    actions: FloatArray
    asked: tuple[str, ...]
    done: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    start_q_rad: tuple[float, ...] = ()


class Disturbance:
    """A correlated wobble and now and then a push, added to joint velocities (DART: Laskey et al. 2017)."""

    def __init__(self, config: PlayConfig, joints: int, rng: np.random.Generator) -> None:
        self._config, self._rng = config, rng
        self._wobble = np.zeros(joints)
        self._push = np.zeros(joints)
        self._left = 0

    def next(self, action: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """What is added to an action's joint velocities; faster motion wobbles more (Harris & Wolpert 1998)."""
        config, rng = self._config, self._rng
        keep = np.exp(-1.0 / config.noise_steps)
        self._wobble = keep * self._wobble + np.sqrt(1 - keep**2) * config.noise * rng.standard_normal(
            self._wobble.size
        )
        starts, push = rng.random() < config.shove_probability, config.shove * rng.standard_normal(self._wobble.size)
        if self._left == 0 and starts:
            self._push, self._left = push, config.shove_steps
        self._left = max(self._left - 1, 0)
        return self._wobble * (0.25 + float(np.abs(action).max())) + (self._push if self._left else 0.0)


class Player:
    """Plays episodes in one twin."""

    def __init__(self, config: PlayConfig | None = None) -> None:
        self.config = config or PlayConfig()
        self.twin = Twin()
        self.domain: Domain = self.twin.domain
        base = self.twin.data.body("panda_link0")
        kinematics = ArmKinematics(base.xpos.copy(), base.xquat.copy(), self.twin.limits)
        fraction, period_s = ActuatorConfig().acceleration_fraction, self.domain.action.period_s
        self.step_rad_s = self.twin.limits.ddq_max_rad_s2 * fraction * period_s / 1.5  # as skimo_core.actuate clips
        self.teleoperator = Teleoperator(self.twin.scene, kinematics, self.domain.action)

    def episode(self, order: tuple[str, ...], seed: int, *, steps: int | None = None) -> Play:
        """Play the sub-tasks of `order`, then whatever the time allows of the others."""
        config, twin, domain = self.config, self.twin, self.domain
        rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
        twin.reset("kitchen", seed)
        start = twin.data.qpos.copy()
        start[:7] += rng.uniform(-config.start_rad, config.start_rad, 7) * np.array([1, 0.5, 1, 1, 1, 1, 1])
        twin.set_state(start)
        start_q_rad = tuple(float(x) for x in twin.read().q_rad)
        observer = Observer(
            domain.observation,
            max_age_s=domain.action.period_s,
            noise=domain.noise,
            rng=np.random.default_rng(np.random.SeedSequence([seed, 1])),
        )
        actuator = Actuator(twin.limits, domain.action)
        actuator.reset(twin.read().q_rad, twin.now_s())
        disturbance = Disturbance(config, domain.action.joints, rng)
        observations, actions = [], []
        queue, done, spent = list(order), [], []
        style, since = draw_style(rng), 0
        for step in range(steps or config.steps):
            robot, objects = twin.read(), twin.read_objects()
            observations.append(observer.observe(robot, objects, twin.now_s()))
            while queue and self.teleoperator.done(queue[0], objects.values):
                done.append(queue.pop(0))
                spent.append(step - since)
                style, since = draw_style(rng), step
            if queue and step - since >= config.patience_steps and len(queue) > 1:
                queue.append(queue.pop(0))
                style, since = draw_style(rng), step
            if not queue and steps is None:
                rest = [s for s in SCRIPTS if s not in done]
                queue = [] if not rest else [rest[int(rng.integers(len(rest)))]]
                since = step
            if not queue:
                break
            action = self.teleoperator.action(queue[0], robot, objects.values, style, self.step_rad_s)
            action[: domain.action.joints] += disturbance.next(action[: domain.action.joints])
            action = np.clip(action, -1.0, 1.0).astype(np.float32)
            applied = actuator.applied_action(action, twin.now_s())
            twin.write(actuator.command(action, twin.now_s()))
            twin.advance(domain.action.period_s)
            actions.append(applied)
        robot, objects = twin.read(), twin.read_objects()
        if len(observations) == len(actions):
            observations.append(observer.observe(robot, objects, twin.now_s()))
            if queue and self.teleoperator.done(queue[0], objects.values):
                done.append(queue.pop(0))
                spent.append(len(actions) - since)
        return Play(
            observations=np.stack(observations),
            actions=np.stack(actions) if actions else np.zeros((0, domain.action.size), np.float32),
            asked=order,
            done=tuple(done),
            steps=tuple(spent),
            start_q_rad=start_q_rad,
        )


def draw_style(rng: np.random.Generator) -> Style:
    """How the next attempt differs from others."""
    return Style(
        yaw_rad=float(rng.uniform(-0.08, 0.08)),
        pitch_rad=float(rng.uniform(-0.06, 0.06)),
        height_m=float(rng.uniform(-0.02, 0.02)),
        pace=float(rng.uniform(0.92, 1.08)),
    )


def draw_order(domain: Domain, seed: int, subtasks: int) -> tuple[str, ...]:
    """A random order of different sub-tasks that is none of the domain's held-out orders."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    allowed = [o for o in itertools.permutations(SCRIPTS, subtasks) if o not in domain.orders.values()]
    return allowed[int(rng.integers(len(allowed)))]
