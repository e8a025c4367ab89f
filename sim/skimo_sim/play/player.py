"""Plays one episode: a teleoperator, its disturbances and the twin, through the policy's own action interface.

Promises
  - An episode depends on its order of sub-tasks and its seed alone.
  - Every action, disturbance included, goes through skimo_core.control.commander and the gate into the twin, and what
    the arm was told is what is recorded: the recorded actions, executed again from the same start, make the same path.
    A play that the gate stops is over, and given up.
  - Observations carry the domain's sensor noise, as a policy's do; the teleoperator sees the kitchen as it is.
  - Sub-tasks count as done by the task's own goals, on the twin's truth.
Units rad, s, control steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import Array
from skimo_core.control.commander import Arm, Commander
from skimo_core.control.observe import Observer
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend

from ..twin import Twin
from .disturbance import Disturbance, DisturbanceConfig
from .kinematics import ArmKinematics
from .scripts import SCRIPTS, Style
from .teleoperator import Teleoperator

FloatArray = npt.NDArray[np.float32]

MISS_M = (0.03, 0.12)
NOTICED_STEPS = (3, 10)
MISJUDGED_STEPS = 34
"""How far off the part, to a side and short of it, a misjudged attempt goes; after how much work in vain it is noticed,
and when at last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayConfig:
    """How an episode is played.

    Attributes:
        steps: control steps of an episode.
        start_rad: half width of the uniform perturbation of each joint's start.
        patience_steps: a sub-task that takes longer, once its place is judged right, ends the play.
        misjudged: share of attempts that first go beside the part and work there in vain.
        disturbance: what keeps the hand from doing what was meant.
    """

    steps: int = 280
    start_rad: float = 0.06
    patience_steps: int = 60
    misjudged: float = 0.35
    disturbance: DisturbanceConfig = field(default_factory=DisturbanceConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One episode as it was recorded.

    Attributes:
        observations: [T+1, O], with sensor noise. actions: [T, A], executed.
        done: sub-tasks in the order in which their goals were reached.
        scripts: (sub-task, control steps) of each script that ran to its end, in order, from when its place was
            judged right.
        gave_up: whether a sub-task took longer than the patience allows.
        start_q_rad: [7] where the arm started.
    """

    observations: FloatArray
    actions: FloatArray
    done: tuple[str, ...]
    scripts: tuple[tuple[str, int], ...]
    gave_up: bool
    start_q_rad: tuple[float, ...]


class Player:
    """Plays episodes in one twin."""

    def __init__(self, config: PlayConfig | None = None) -> None:
        self.config = config or PlayConfig()
        self.twin = Twin()
        self.domain: Domain = self.twin.domain
        self.arm = GatedBackend(self.twin, Gate(self.twin.limits, cell=load_cell(self.domain.cell)), self._hear)
        self.commander = Commander(self.twin.limits, self.domain.action, Arm.of(self.arm))
        base = self.twin.data.body("panda_link0")
        kinematics = ArmKinematics(base.xpos.copy(), base.xquat.copy(), self.twin.limits)
        self.teleoperator = Teleoperator(self.twin.scene, kinematics, self.domain.action)

    def play(self, order: tuple[str, ...], seed: int, *, attempt: int = 0) -> Played:
        """Do the sub-tasks of `order`, until they are done, the time is up or patience is at an end.

        Args:
            seed, attempt: everything random is drawn from these two.
        """
        twin, domain = self.twin, self.domain
        chance = np.random.default_rng(np.random.SeedSequence([seed, attempt, 2]))
        self._start(seed, chance)
        observer = self._observer(np.random.default_rng(np.random.SeedSequence([seed, attempt, 1])))
        plain = Observer(domain.observation, max_age_s=np.inf)
        disturbance = Disturbance(self.config.disturbance, domain.action.joints, chance)
        start = tuple(float(q) for q in twin.read().q_rad)
        observations, actions = [], []
        agenda, done = Agenda(order, self.config, chance), Done(domain)
        for step in range(self.config.steps + 1):
            robot, objects, now_s = twin.read(), twin.read_objects(), twin.now_s()
            observations.append(observer.observe(robot, objects, now_s))
            done.note(plain.observe(robot, objects, now_s))
            current = agenda.current(step, partial(self.teleoperator.done, objects=objects.values))
            if current is None or step == self.config.steps:
                break
            view = self.teleoperator.view(robot.q_rad, robot.finger_m, objects.values)
            wanted = self.teleoperator.aim(current, view, agenda.style)
            agenda.note(step, wanted.engaged)
            action = self.teleoperator.action(current, robot.q_rad, view, wanted)
            disturbance.apply(action, domain.action.joints)
            actions.append(self.execute(action))
            if self.arm.gate.stopped:
                break
        return Played(
            observations=np.stack(observations),
            actions=np.stack(actions),
            done=tuple(done.names),
            scripts=tuple(agenda.finished),
            gave_up=agenda.gave_up or self.arm.gate.stopped,
            start_q_rad=start,
        )

    def execute(self, action_A: FloatArray) -> FloatArray:
        """Act for one control period; returns the action that the arm was told."""
        due_s = self.arm.now_s()
        with suppress(BackendError):  # the gate's stop, which `gate.stopped` tells
            self.commander.send(action_A, due_s)
        self.arm.advance(self.domain.action.period_s)
        self.commander.settle()
        return self.commander.applied(due_s)

    def _hear(self, decision: Decision) -> None:
        if decision.command is not None:
            self.commander.confirm(decision.command.trajectory)

    def _start(self, seed: int, chance: np.random.Generator) -> None:
        self.arm.reset("", seed)
        qpos = self.twin.data.qpos.copy()
        spread = np.full(7, self.config.start_rad)
        spread[1] /= 2.0  # joint 2 starts near its limit
        qpos[:7] += chance.uniform(-spread, spread)
        self.put(qpos)

    def put(self, qpos: Array) -> None:
        """Put the twin into a state [nq], at rest; arm and gate are led from there."""
        self.twin.set_state(qpos)
        self.arm.gate.resync(self.twin.read(), self.twin.now_s())
        self.commander.reset(self.twin.read().q_rad, self.twin.now_s())

    def _observer(self, rng: np.random.Generator) -> Observer:
        domain = self.domain
        return Observer(domain.observation, max_age_s=domain.action.period_s, noise=domain.noise, rng=rng)


class Agenda:
    """Which sub-task's script runs, and in which style.

    A misjudged attempt is noticed after a few steps of work in vain, or when it has taken long enough.
    """

    def __init__(self, order: tuple[str, ...], config: PlayConfig, chance: np.random.Generator) -> None:
        self._open = list(order)
        self._config, self._chance = config, chance
        self.gave_up = False
        self.finished: list[tuple[str, int]] = []
        self._turn(0)

    def current(self, step: int, over: Callable[[str], bool]) -> str | None:
        """The sub-task to do at `step`; None when all are done, or one takes too long.

        Args:
            over: whether a sub-task's script has nothing left to do.
        """
        while self._open and over(self._open[0]):
            self.finished.append((self._open.pop(0), step - self._since))
            self._turn(step)
        self.gave_up = bool(self._open) and step - self._since > self._config.patience_steps
        return self._open[0] if self._open and not self.gave_up else None

    def note(self, step: int, engaged: bool) -> None:
        """Tell whether the hand works at `step` where it takes the part to be."""
        if not self.style.misses:
            return
        self._in_vain += engaged
        if self._in_vain > self._notices_after or step - self._since >= MISJUDGED_STEPS:
            self.style, self._since = replace(self.style, miss_m=(0.0, 0.0)), step

    def _turn(self, step: int) -> None:
        self._since, self._in_vain = step, 0
        self.style = draw_style(self._chance, self._config.misjudged)
        self._notices_after = int(self._chance.integers(*NOTICED_STEPS))


class Done:
    """Sub-tasks whose goals were reached, in order."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.names: list[str] = []

    def note(self, truth_O: FloatArray) -> None:
        for name, subtask in self._domain.subtasks.items():
            if name not in self.names and bool(subtask.complete(truth_O)):
                self.names.append(name)


def draw_style(chance: np.random.Generator, misjudged: float) -> Style:
    """How the next attempt differs from others; a share of `misjudged` first goes beside the part."""
    misses, miss_m, angle = chance.random() < misjudged, chance.uniform(*MISS_M), chance.uniform(0.0, np.pi)
    return Style(
        yaw_rad=float(chance.uniform(-0.08, 0.08)),
        pitch_rad=float(chance.uniform(-0.06, 0.06)),
        height_m=float(chance.uniform(-0.02, 0.02)),
        pace=float(chance.uniform(0.92, 1.08)),
        miss_m=(float(miss_m * np.cos(angle)), float(miss_m * np.sin(angle))) if misses else (0.0, 0.0),
    )


def draw_order(seed: int, attempt: int = 0) -> tuple[str, ...]:
    """All sub-tasks in random order."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, attempt, 3]))
    return tuple(np.array(list(SCRIPTS))[rng.permutation(len(SCRIPTS))].tolist())
