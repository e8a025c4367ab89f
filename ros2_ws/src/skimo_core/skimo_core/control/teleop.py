"""Control steps out of whatever moves an arm: states as they come, put on one grid at the domain's rate.

Promises
  - A step's observation is what a policy would have seen when it was due (`observe`): of the states that had come by
    then, the newest, with the same bounds on their age. What comes late because the recorder was paused counts as come
    when such states usually do, so that a pause of the recorder shows in nothing.
  - Its action is what the arm then did (`executed`), known a period and a half later; hence `advance` lags by so much.
  - The first observation that can't be assembled ends the steps, with the reason in `ended`; what is before is whole.
No ROS, no disk: messages and times are arguments. Units rad, m, s.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ..contract.errors import MissingError, ObservationError
from ..contract.types import Array, ObjectStates, RobotState
from ..domain.domain import Domain
from ..domain.robot import RobotLimits
from .executed import AHEAD_PERIODS, Excess, FingerIntents, joint_actions, velocities_rad_s
from .observe import Observer

KEPT_S = 5.0
"""How long states are remembered; longer than any may be old."""
STILL_RAD, STILL_M = 0.002, 0.0005
"""Joints and fingers that change by less from one step to the next are still."""
LEAD_STEPS = 3
"""Of a pause that is trimmed so many still steps are left, so that a motion has its beginning and its end."""
ASKED = "asked to"
"""Why steps ended that were not ended by themselves."""
State = TypeVar("State", RobotState, ObjectStates)


class Feed(Generic[State]):
    """The states of one sender over the last `KEPT_S`, by their stamps.

    Attributes:
        went_back_s: by how much a stamp lay before the one before it; 0: none did since somebody set it to 0.
    """

    def __init__(self) -> None:
        self._states: list[State] = []
        self._stamps_s: list[float] = []
        self._least_s = np.inf
        self.went_back_s = 0.0

    def add(self, state: State, came_s: float) -> None:
        """Take a state that came at `came_s`, by our clock."""
        if state.stamp_s == self.newest_s:
            return
        if state.stamp_s < self.newest_s:
            self.went_back_s = max(self.went_back_s, self.newest_s - state.stamp_s)
            self._states, self._stamps_s, self._least_s = [], [], np.inf
        self._least_s = min(self._least_s, came_s - state.stamp_s)
        self._states.append(state)
        self._stamps_s.append(state.stamp_s)
        if self._stamps_s[0] < state.stamp_s - 2 * KEPT_S:
            old = bisect_left(self._stamps_s, state.stamp_s - KEPT_S)
            del self._states[:old], self._stamps_s[:old]

    @property
    def newest_s(self) -> float:
        """The newest stamp; -inf where there is none."""
        return self._stamps_s[-1] if self._stamps_s else -np.inf

    def at(self, now_s: float) -> State | None:
        """The newest that had come by `now_s`; None: none."""
        count = bisect_right(self._stamps_s, now_s - self._least_s)
        return self._states[count - 1] if count else None

    def between(self, from_s: float, to_s: float) -> list[State]:
        """Those stamped in that time, and the ones before and after it."""
        first, last = bisect_right(self._stamps_s, from_s), bisect_left(self._stamps_s, to_s)
        return self._states[max(first - 1, 0) : last + 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeleopStep:
    """A control step.

    Attributes:
        due_s: when it was due.
        observation_O: seen then.
        action_A: done from then on; None of the last.
        still: whether neither joints nor fingers moved until the next.
    """

    due_s: float
    observation_O: npt.NDArray[np.float32]
    action_A: npt.NDArray[np.float32] | None = None
    still: bool = True


class Teleop:
    """The steps of one episode, from states that are fed meanwhile.

    Args:
        robot, objects: feeds; whoever hears the messages fills them.
        begin_s: when the first step is due.
        why_unfit: why two observations [2, O] can't follow one another, or ""; None: nobody minds.

    Attributes:
        ended: why there are no more steps; empty while there are.
        excess: velocities that had to be cut so far; None: none.
    """

    def __init__(
        self,
        domain: Domain,
        limits: RobotLimits,
        robot: Feed[RobotState],
        objects: Feed[ObjectStates],
        begin_s: float,
        why_unfit: Callable[[npt.NDArray[np.float32]], str] | None = None,
    ) -> None:
        self._domain, self._limits, self._robot, self._objects = domain, limits, robot, objects
        self._period_s = domain.action.period_s
        self._observer = Observer(domain.observation, max_age_s=self._period_s, tracking=domain.tracking)
        self._begin_s, self._count, self._why_unfit = begin_s, 0, why_unfit
        self._last: TeleopStep | None = None
        self._hand: FingerIntents | None = None
        self.ended = ""
        self.excess: Excess | None = None

    @property
    def lasts_s(self) -> float:
        """From the first step to the last that is known."""
        return max(self._count - 1, 0) * self._period_s

    def look(self, now_s: float) -> npt.NDArray[np.float32]:
        """The observation [O] at `now_s`; raises ObservationError where it can't be assembled."""
        robot = self._robot.at(now_s)
        if robot is None:
            raise MissingError("no joint states yet; is the driver (or twin) running, and do the clocks agree?")
        objects = self._objects.at(now_s)
        if objects is None:
            if self._domain.observation.objects:
                raise MissingError("no object states yet; is the tracker (or twin) running, and do the clocks agree?")
            objects = ObjectStates(stamp_s=now_s, names=(), values=np.zeros(0))
        return self._observer.observe(robot, objects, now_s)

    def advance(self, now_s: float) -> Iterator[TeleopStep]:
        """The steps that are known by now and were not given yet, each with its action."""
        while not self.ended:
            known_s = self._due_s + (AHEAD_PERIODS - 1) * self._period_s
            if self._robot.newest_s < known_s and now_s < known_s + self._period_s:
                return
            yield from self._next(self._due_s)

    def finish(self, at_s: float) -> Iterator[TeleopStep]:
        """The steps up to `at_s` that were not given yet; the last of all has no action."""
        while not self.ended and self._due_s <= at_s:
            yield from self._next(self._due_s)
        self.ended = self.ended or ASKED
        if self._last is not None:
            yield self._last
            self._last = None

    @property
    def _due_s(self) -> float:
        return self._begin_s + self._count * self._period_s

    def _next(self, due_s: float) -> Iterator[TeleopStep]:
        """Look at `due_s`; the step before then has its action."""
        before = self._last
        try:
            if self._robot.went_back_s or self._objects.went_back_s:
                back_s = max(self._robot.went_back_s, self._objects.went_back_s)
                raise ObservationError(
                    f"stamps went back by {back_s:.3f} s; was a clock set, or the twin started anew?"
                )
            observation_O = self.look(due_s)
            if before is not None and (why := self._unfit(before.observation_O, observation_O)):
                raise ObservationError(why)
        except ObservationError as error:
            self.ended = str(error)
            return
        self._last = TeleopStep(due_s=due_s, observation_O=observation_O)
        self._count += 1
        width_m = self._width_m(observation_O)
        if self._hand is None or before is None:
            self._hand = FingerIntents(width_m, self._limits.hand_width_max_m)
            return
        intent = self._hand.next(width_m)
        yield replace(before, action_A=self._action(before.due_s, intent), still=self._still(before, observation_O))

    def _unfit(self, *rows_O: npt.NDArray[np.float32]) -> str:
        return self._why_unfit(np.stack(rows_O)) if self._why_unfit is not None else ""

    def _action(self, due_s: float, intent: float) -> npt.NDArray[np.float32]:
        spec, period_s = self._domain.action, self._period_s
        seen = self._robot.between(due_s, due_s + AHEAD_PERIODS * period_s)
        times_s = np.array([state.stamp_s for state in seen])
        q_rad: Array = np.array([state.q_rad[: spec.joints] for state in seen])
        velocity_rad_s = velocities_rad_s(times_s, q_rad, np.array([due_s]), period_s)
        joints, excess = joint_actions(velocity_rad_s, spec, self._limits)
        if excess is not None:
            self.excess = excess.more_than(self.excess)
        fingers = np.full(spec.size - spec.joints, intent, np.float32)
        return np.concatenate([joints[0], fingers])

    def _width_m(self, observation_O: npt.NDArray[np.float32]) -> float:
        spec = self._domain.observation
        fingers = observation_O[spec.joints : spec.joints + spec.fingers]
        return 2.0 * float(fingers.mean()) if fingers.size else 0.0

    def _still(self, before: TeleopStep, observation_O: npt.NDArray[np.float32]) -> bool:
        spec = self._domain.observation
        moved = np.abs(observation_O - before.observation_O)
        joints, fingers = moved[: spec.joints], moved[spec.joints : spec.joints + spec.fingers]
        return bool(joints.max(initial=0.0) < STILL_RAD and fingers.max(initial=0.0) < STILL_M)


class Trim:
    """Leaves out the pauses before the first motion and after the last; a step is held back while it may be one."""

    def __init__(self) -> None:
        self._held: list[TeleopStep] = []
        self._moved = False
        self.left_out = 0

    def add(self, step: TeleopStep) -> list[TeleopStep]:
        """The steps that are none of a pause at either end, now that this one is known."""
        self._held.append(step)
        if step.still:
            if not self._moved and len(self._held) > LEAD_STEPS:
                del self._held[0]
                self.left_out += 1
            return []
        self._moved = True
        held, self._held = self._held, []
        return held

    def end(self) -> list[TeleopStep]:
        """The last steps, once the last one was added; the last has no action. None where nothing ever moved."""
        held, self._held = self._held, []
        if not self._moved:
            self.left_out += len(held)
            return []
        kept = held[: LEAD_STEPS + 1]
        self.left_out += len(held) - len(kept)
        return [*kept[:-1], replace(kept[-1], action_A=None)] if kept else []
