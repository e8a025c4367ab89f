"""A simulated arm behind a gate: what trains or is evaluated in process feels the gate that it will meet on the robot.

As in the gate's node, a trajectory and a hand goal are judged apart, a hand goal that may not go on is tried again
until it may or another replaces it, and the robot is looked at between commands. What the gate says, `listener` hears.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ..contract.backend import SimulatedBackend
from ..contract.errors import BackendError, MissingError
from ..contract.types import Array, GripperCommand, JointCommand, ObjectStates, RobotState, Verdict
from .gate import Decision, Gate

WATCH_S = 0.04
"""How often the robot is looked at without a command, as the gate's node does by default."""


class GatedBackend:
    """An arm that a caller uses as any other; `gate` judges what it writes.

    Args:
        listener: told every decision on a trajectory or a hand goal, and every stop.
    """

    def __init__(
        self, backend: SimulatedBackend, gate: Gate, listener: Callable[[Decision], None] = lambda _: None
    ) -> None:
        self.gate, self.backend = gate, backend
        self.last: Decision | None = None
        self.listener = listener
        self._goal: GripperCommand | None = None

    def now_s(self) -> float:
        return self.backend.now_s()

    def read(self) -> RobotState:
        return self.backend.read()

    def read_objects(self) -> ObjectStates:
        return self.backend.read_objects()

    def write(self, command: JointCommand) -> None:
        """Judge the command and pass on what may go on; `last` then says what happened to its trajectory.

        Raises:
            BackendError: stopped.
        """
        decision = self.gate.consider(replace(command, gripper=None), self._robot(), self.now_s())
        self._heed(decision)
        if command.gripper is not None:
            self.command_hand(command.gripper)

    def command_hand(self, goal: GripperCommand) -> None:
        """Judge a hand goal and pass it on as soon as it may; raises BackendError if stopped."""
        self._goal = goal
        self._try_hand()

    def hold(self) -> None:
        self._tell(self.gate.hold(self._robot(), self.now_s()))
        self.backend.hold()

    def stop(self, reason: str) -> None:
        self._tell(self.gate.stop(reason, self.now_s()))
        self.backend.stop(reason)

    def reset_stop(self, generation: int) -> tuple[bool, str]:
        """Clear the gate's stop on a human's word; the backend behind it has a `recover` of its own."""
        return self.gate.reset(generation, self._robot(), self.now_s())

    # --- simulated time ---------------------------------------------------------------------------------------------

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None:
        """Reset arm and scene; the gate takes the arm where it is, and what it was stopped for is past."""
        self.backend.reset(task, seed, now_s=now_s)
        self._goal = None
        self.gate.stopped_for = ()
        self.gate.resync(self.backend.read(), self.now_s())

    def advance(self, dt_s: float) -> None:
        """Let time pass, the gate looking at the robot meanwhile.

        Raises:
            SimulationError: the physics diverged.
        """
        left_s = dt_s
        while left_s > 1e-9:
            slice_s = min(left_s, WATCH_S)
            self.backend.advance(slice_s)
            left_s -= slice_s
            if not self.gate.stopped:
                decision = self.gate.watch(self._robot(), self.now_s())
                if decision.verdict is Verdict.STOP:
                    self._stop_at(decision)
                elif self._goal is not None:
                    self._try_hand()

    def recover(self) -> None:
        self.backend.recover()

    def desired(self) -> tuple[Array, Array]:
        return self.backend.desired()

    @property
    def path_at_rest(self) -> bool:
        return self.backend.path_at_rest

    @property
    def hand_width_m(self) -> float:
        return self.backend.hand_width_m

    @property
    def hand_busy(self) -> bool:
        return self.backend.hand_busy

    # --- inside -----------------------------------------------------------------------------------------------------

    def _heed(self, decision: Decision) -> None:
        if decision.verdict is Verdict.STOP:
            self._stop_at(decision)
            raise BackendError(f"the gate stopped the arm: {'; '.join(decision.reasons)}; reset the gate")
        self._tell(decision)
        if decision.command is not None:
            self.backend.write(decision.command)

    def _try_hand(self) -> None:
        goal = self._goal
        assert goal is not None
        decision = self.gate.consider_hand(goal, self._robot(), self.now_s())
        if decision.verdict is Verdict.PASS:
            self._goal = None
            self.backend.command_hand(goal)
        elif decision.verdict is Verdict.STOP:
            self._stop_at(decision)
        else:
            self.listener(decision)

    def _stop_at(self, decision: Decision) -> None:
        """As the gate's node: the brake that the gate gave goes out, and nothing after it."""
        self._goal = None
        self._tell(decision)
        if decision.command is not None:
            with suppress(BackendError):  # stopped by itself, it brakes by itself
                self.backend.write(decision.command)

    def _tell(self, decision: Decision) -> None:
        self.last = decision
        self.listener(decision)

    def _robot(self) -> RobotState | None:
        try:
            return self.backend.read()
        except MissingError:
            return None
