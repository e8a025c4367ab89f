"""Plays one episode: a teleoperator, its disturbances and the twin, through the policy's own action interface.

Somebody else may drive (`Driver`), such as a policy that is to be corrected: the teleoperator then looks on, and takes
over what the driver gives up (Kelly et al., "HG-DAgger: Interactive Imitation Learning with Human Experts", 2019).

Promises
  - An episode depends on its seed, its attempt and how its scripts are chosen alone.
  - Every action, disturbance included, goes through skimo_core.control.commander and the gate into the twin, and what
    the arm was told is what is recorded: the recorded actions, executed again from the same start, make the same path.
    A play that the gate stops is over, and given up.
  - A play that is given up keeps what was before the script that failed.
  - Observations carry the domain's sensor noise, as a policy's do; the teleoperator sees the scene as it is.
  - Sub-tasks count as done by the task's own goals, on the twin's truth.
Units rad, s, control steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import BackendError, SpecError
from skimo_core.control.commander import Arm, Commander
from skimo_core.control.observe import Observer
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend

from ..twins import make_twin
from .disturbance import Disturbance
from .plays import need_play, teleoperator_of
from .teleoperator import FloatArray, PlayConfig, PlayedTwin, ScriptInfo, Style

EXTENT = (0.4, 0.9)
"""Share of the way that a part is moved that is left between."""
MISS_M = (0.03, 0.12)
"""How far off the part, to a side and short of it, a misjudged attempt goes."""


class Driver(Protocol):
    """Who drives while the teleoperator looks on."""

    def begin(self, goal: str, steps: tuple[int, int], chance: np.random.Generator) -> None:
        """Somebody wants a goal of the domain done, and waits for so many control steps, drawn evenly."""
        ...

    def reached(self, observation_O: FloatArray) -> bool:
        """Whether that is done, as far as the driver can see."""
        ...

    def act(self, observation_O: FloatArray) -> FloatArray | None:
        """The next action [A]; None to give up."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One episode as it was recorded.

    Attributes:
        observations: [T+1, O], with sensor noise. actions: [T, A], executed.
        driven: [T], whether a driver acted, and not the teleoperator.
        done: sub-tasks in the order in which their goals were reached, those left out that were at the start.
        scripts: (sub-task, control steps) of each script that ran to its end, in order, from when its place was
            judged right.
        gave_up: whether a script took longer than the patience allows, or the gate stopped it.
        start_q_rad: [7] where the arm started.
    """

    observations: FloatArray
    actions: FloatArray
    driven: npt.NDArray[np.bool_]
    done: tuple[str, ...]
    scripts: tuple[tuple[str, int], ...]
    gave_up: bool
    start_q_rad: tuple[float, ...]


class Player:
    """Plays episodes of a domain in one twin.

    Args:
        driver: drives every script first, and the arm is led no further than a policy may lead it.
        adapt: makes another config of the teleoperator's own.
        twin: played in; None: the domain's own.

    Raises:
        SpecError: the domain has no scripted play, or its twin draws no starts.
    """

    def __init__(
        self,
        domain: Domain,
        driver: Driver | None = None,
        adapt: Callable[[PlayConfig], PlayConfig] = lambda config: config,
        twin: SimulatedBackend | None = None,
    ) -> None:
        need_play(domain)
        self.domain, self.driver = domain, driver
        self.limits, cell = load_limits(domain.robot), load_cell(domain.cell)
        self.twin = _playable(domain, twin or make_twin(domain, self.limits))
        self.teleoperator = teleoperator_of(domain, self.twin)
        self.config = adapt(self.teleoperator.config)
        contact = cell.contact if driver else None
        self.arm = GatedBackend(self.twin, Gate(self.limits, cell=cell), self._hear)
        self.commander = Commander(self.limits, domain.action, Arm.of(self.arm), contact=contact)

    def play(self, choose: Choose, seed: int, *, attempt: int = 0, asked: tuple[str, ...] = ()) -> Played:
        """Run scripts as they are chosen, until none is left, the time is up or patience is at an end.

        Args:
            seed, attempt: everything random is drawn from these two.
            asked: goals of the domain, as typed, that must not hold at the start.
        """
        twin, domain, joints = self.twin, self.domain, self.domain.action.joints
        chance = np.random.default_rng(np.random.SeedSequence([seed, attempt, 2]))
        self.start(seed, attempt=attempt, asked=asked)
        observer = self._observer(np.random.default_rng(np.random.SeedSequence([seed, attempt, 1])))
        plain = Observer(domain.observation, max_age_s=np.inf)
        disturbance = Disturbance(self.config.disturbance, joints, chance)
        start = tuple(float(q) for q in twin.read().q_rad)
        observations, actions, driven = [], [], []
        agenda, done = Agenda(choose, self.config, chance, self.driver, self._goal_of), Done(domain)
        for step in range(self.config.steps + 1):
            robot, objects, now_s = twin.read(), twin.read_objects(), twin.now_s()
            observations.append(observer.observe(robot, objects, now_s))
            done.note(step, plain.observe(robot, objects, now_s))
            view = self.teleoperator.view(robot, objects.values)
            over, applies = (partial(_seen, ask, view) for ask in (self.teleoperator.over, self.teleoperator.applies))
            current = agenda.current(step, over, applies, observations[-1])
            if current is None or step == self.config.steps:
                break
            action = agenda.driven(step, observations[-1])
            driven.append(action is not None)
            if action is None:
                move = self.teleoperator.move(current, agenda.style, view)
                agenda.note(step, move.engaged)
                action = move.action_A
                disturbance.apply(action, joints)
            actions.append(self.execute(action))
            if self.arm.gate.stopped:
                break
        gave_up = agenda.gave_up or self.arm.gate.stopped
        kept = agenda.turned if gave_up else len(actions)
        return Played(
            observations=np.stack(observations[: kept + 1]),
            actions=np.array(actions[:kept], np.float32).reshape(-1, domain.action.size),
            driven=np.array(driven[:kept], bool),
            done=done.until(kept),
            scripts=tuple(agenda.finished),
            gave_up=gave_up,
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

    def freely(self, *, corrected: bool = False) -> Choose:
        """The teleoperator's own way to choose, or its way beside a policy that is to be corrected."""
        config = self.config
        favoured = config.favoured_corrected if corrected else config.favoured
        undoing = config.undoing_corrected if corrected else config.undoing
        return freely(self.teleoperator.scripts, self.domain, favoured, undoing)

    def _goal_of(self, script: str) -> str:
        return self.teleoperator.scripts[script].goal

    def _hear(self, decision: Decision) -> None:
        if decision.command is not None:
            self.commander.confirm(decision.command.trajectory)

    def start(self, seed: int, *, attempt: int = 0, asked: tuple[str, ...] = ()) -> None:
        """Put the scene at a start, at rest; arm and gate are led from there."""
        self.arm.reset("", seed)
        self.twin.begin(tuple(goal for name in asked for goal in self.domain.task(name).subtasks), seed, attempt)
        self.arm.gate.resync(self.twin.read(), self.twin.now_s())
        self.commander.reset(self.twin.read().q_rad, self.twin.now_s())

    def _observer(self, rng: np.random.Generator) -> Observer:
        domain = self.domain
        return Observer(domain.observation, max_age_s=domain.action.period_s, noise=domain.noise, rng=rng)


def _playable(domain: Domain, twin: SimulatedBackend) -> PlayedTwin:
    """The twin, if it can be put at a start drawn for an attempt."""
    if not hasattr(twin, "begin"):
        raise SpecError(
            f"domain {domain.name}: its twin {domain.twin!r} has no `begin`, which draws starts to play from"
        )
    return cast(PlayedTwin, twin)


def _seen(ask: Callable[..., bool], view: object, name: str, *style: Style) -> bool:
    """What is asked about a script, with what is seen."""
    return ask(name, *style, view)


Choose = Callable[[Callable[[str], bool], np.random.Generator], str | None]
"""The script to run next, or None for the end; told which apply, and given chance."""


def in_order(names: Iterable[str]) -> Choose:
    """One after the other, whether they apply or not."""
    left = iter(names)
    return lambda applies, chance: next(left, None)


def freely(
    scripts: Mapping[str, ScriptInfo], domain: Domain, favoured: Mapping[str, float], undoing: float = 1.0
) -> Choose:
    """Any that applies: sub-tasks rather than what undoes them, and kinds that are favoured.

    Args:
        undoing: how likely a script is chosen that is no sub-task, against one that is.
    """
    weight = {
        name: (1.0 if script.goal in domain.subtasks else undoing) * favoured.get(script.kind, 1.0)
        for name, script in scripts.items()
    }

    def choose(applies: Callable[[str], bool], chance: np.random.Generator) -> str | None:
        names = [name for name in scripts if weight[name] > 0.0 and applies(name)]
        weights = np.array([weight[name] for name in names])
        return str(names[int(chance.choice(len(names), p=weights / weights.sum()))]) if names else None

    return choose


class Agenda:
    """Which script runs since which step (`turned`), and in which style.

    A misjudged attempt is noticed after a few steps of work in vain, or when it has taken long enough. A driver has
    every script first, until it gives up. A script with nothing to do counts as none.
    """

    def __init__(
        self,
        choose: Choose,
        config: PlayConfig,
        chance: np.random.Generator,
        driver: Driver | None = None,
        goal_of: Callable[[str], str] = str,
    ) -> None:
        self._choose, self._config, self._chance, self._driver = choose, config, chance, driver
        self._goal_of = goal_of
        self._drives: Driver | None = None
        self._name: str | None = None
        self._begun = False
        self.style = Style()
        self.gave_up, self.turned = False, 0
        self.finished: list[tuple[str, int]] = []

    def current(
        self,
        step: int,
        over: Callable[[str, Style], bool],
        applies: Callable[[str], bool],
        observation_O: FloatArray,
    ) -> str | None:
        """The script to run at `step`; None when none is left, or one takes too long.

        Args:
            over: whether a script, done in a style, has nothing left to do.
            applies: whether there is enough for a script to do.
            observation_O: what a driver sees.
        """
        while not self._begun or (self._name and (over(self._name, self.style) or self._reached(observation_O))):
            if self._begun and self._name and step > self._since:
                self.finished.append((self._name, step - self._since))
            self._begun = True
            self._name = self._choose(applies, self._chance)
            self._turn(step)
        self.gave_up = bool(self._name) and self._drives is None and step - self._since > self._config.patience_steps
        return None if self.gave_up else self._name

    def driven(self, step: int, observation_O: FloatArray) -> FloatArray | None:
        """The driver's action [A] at `step`; None where the teleoperator acts."""
        if self._drives is None:
            return None
        action = self._drives.act(observation_O)
        if action is None:
            self._drives, self._since = None, step
        return action

    def _reached(self, observation_O: FloatArray) -> bool:
        return self._drives is not None and self._drives.reached(observation_O)

    def note(self, step: int, engaged: bool) -> None:
        """Tell whether the hand works at `step` where it takes the part to be."""
        if not self.style.misses:
            return
        self._in_vain += engaged
        if self._in_vain > self._notices_after or step - self._since >= self._config.misjudged_steps:
            self.style, self._since = replace(self.style, miss_m=(0.0, 0.0)), step

    def _turn(self, step: int) -> None:
        self._since = self.turned = step
        self._in_vain = 0
        self.style = draw_style(self._chance, self._config)
        self._notices_after = int(self._chance.integers(*self._config.noticed_steps))
        self._drives = None if self._name is None else self._driver
        if self._name is not None and self._drives is not None:
            self._drives.begin(self._goal_of(self._name), self._config.driver_steps, self._chance)


class Done:
    """Sub-tasks whose goals came to hold, in order; one that was undone may come again."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._holding: set[str] | None = None
        self._came: list[tuple[int, str]] = []

    def until(self, step: int) -> tuple[str, ...]:
        """Those up to a step."""
        return tuple(name for at, name in self._came if at <= step)

    def note(self, step: int, truth_O: FloatArray) -> None:
        holding = {name for name, subtask in self._domain.subtasks.items() if bool(subtask.complete(truth_O))}
        if self._holding is not None:
            self._came += [(step, name) for name in self._domain.subtasks if name in holding - self._holding]
        self._holding = holding


def careful(config: PlayConfig) -> PlayConfig:
    """The same, but no attempt is misjudged or leaves its part between."""
    return replace(config, misjudged=0.0, partial=0.0)


def draw_style(chance: np.random.Generator, config: PlayConfig) -> Style:
    """How the next attempt differs from others."""
    misses, miss_m, angle = chance.random() < config.misjudged, chance.uniform(*MISS_M), chance.uniform(0.0, np.pi)
    return Style(
        yaw_rad=float(chance.uniform(-0.08, 0.08)),
        pitch_rad=float(chance.uniform(-0.06, 0.06)),
        height_m=float(chance.uniform(-0.02, 0.02)),
        pace=float(chance.uniform(0.92, 1.08)),
        extent=float(chance.uniform(*EXTENT)) if chance.random() < config.partial else 1.0,
        miss_m=(float(miss_m * np.cos(angle)), float(miss_m * np.sin(angle))) if misses else (0.0, 0.0),
    )
