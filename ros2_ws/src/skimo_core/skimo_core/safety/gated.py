"""A backend behind a gate: what trains or is evaluated in process feels the gate that it will meet on the robot."""

from __future__ import annotations

from ..contract.backend import Backend
from ..contract.errors import BackendError, MissingError
from ..contract.types import JointCommand, ObjectStates, RobotState, Verdict
from .gate import Decision, Gate


class GatedBackend:
    """An arm that a caller uses as any other; `gate` judges what it writes."""

    def __init__(self, backend: Backend, gate: Gate) -> None:
        self.gate = gate
        self.last: Decision | None = None
        self._backend = backend

    def now_s(self) -> float:
        return self._backend.now_s()

    def read(self) -> RobotState:
        return self._backend.read()

    def read_objects(self) -> ObjectStates:
        return self._backend.read_objects()

    def write(self, command: JointCommand) -> None:
        """Judge the command and pass on what may go on; `last` then says what happened.

        Raises:
            BackendError: stopped.
        """
        self.last = self.gate.consider(command, self._robot(), self.now_s())
        if self.last.verdict is Verdict.STOP:
            self._backend.stop("; ".join(self.last.reasons))
            raise BackendError(f"the gate stopped the arm: {'; '.join(self.last.reasons)}; reset the gate")
        if self.last.command is not None:
            self._backend.write(self.last.command)

    def hold(self) -> None:
        self.last = self.gate.hold(self._robot(), self.now_s())
        self._backend.hold()

    def stop(self, reason: str) -> None:
        self.last = self.gate.stop(reason, self.now_s())
        self._backend.stop(reason)

    def reset(self, generation: int) -> tuple[bool, str]:
        """Clear the gate's stop on a human's word; the backend behind it has a reset of its own."""
        return self.gate.reset(generation, self._robot(), self.now_s())

    def _robot(self) -> RobotState | None:
        try:
            return self._backend.read()
        except MissingError:
            return None
