"""From an action to a command, and what became of it: the part of the runtime that everybody who moves an arm shares.

    send      an action becomes a command, which goes to the gate
    confirm   the gate has passed on a trajectory: that is what the arm does now, and where the next command begins
    settle    a control period later: what was not passed on is withdrawn, and the one before it still runs
    applied   the action that the arm was really told in a control period, read off the path that was commanded

The pilot, scripted play and environments use it alike, on a real or a virtual clock. Times s in the arm's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..contract.backend import Backend
from ..contract.errors import SpecError
from ..contract.policy import FloatArray
from ..contract.specs import ActionSpec
from ..contract.types import Array, JointCommand, JointTrajectory, ObjectStates, RobotState, Verdict
from ..domain.cell import Contact
from ..domain.robot import RobotLimits
from .actuate import Actuator, ActuatorConfig

SAME_S = 1e-6
LIGHTLY = 0.1
"""Share of the torque that a joint may press with, below which it counts as free."""
MOVED_RAD = 0.001
MEASURED_MOVED_RAD = 0.05
"""An arm whose reference is this far from where it was commanded was moved by somebody else; it is taken where it is.
Measured positions, where the robot tells no reference, lag behind; theirs is the wider bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What is seen of an arm, and what is done to it.

    Attributes:
        robot, objects: the newest states; raise ObservationError while there are none.
        send: hands a command on to the gate.
        clock: the arm's.
    """

    robot: Callable[[], RobotState]
    objects: Callable[[], ObjectStates]
    send: Callable[[JointCommand], None]
    clock: Callable[[], float]

    @classmethod
    def of(cls, backend: Backend) -> Arm:
        """That of a backend in this process."""
        return cls(robot=backend.read, objects=backend.read_objects, send=backend.write, clock=backend.now_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a control period's command.

    Attributes:
        verdict: the gate's gravest since the period began.
        passed_on: whether the gate passed the command on; True where none was sent.
        silent: how many commands in a row it neither passed on nor objected to.
    """

    verdict: Verdict
    passed_on: bool
    silent: int


class Commander:
    """Commands one arm, an action at a time.

    Args:
        config: how much of the robot's limits may be used; None: `ActuatorConfig`'s defaults.
        contact: how far the told position may lead the measured one, and how hard it may press, where the robot tells
            what torques it feels from outside; None: any.

    Raises:
        SpecError: the actions are not those of an arm like this.
    """

    def __init__(
        self,
        limits: RobotLimits,
        spec: ActionSpec,
        arm: Arm,
        config: ActuatorConfig | None = None,
        *,
        contact: Contact | None = None,
    ) -> None:
        if spec.joints != limits.joints:
            raise SpecError(
                f"actions have {spec.joints} joints, robot {limits.name} has {limits.joints}: not its domain"
            )
        self._spec, self._arm = spec, arm
        self._actuator = Actuator(limits, spec, config)
        self._contact, self._reflex_nm = contact, limits.reflex_tau_nm
        self.reset(limits.home_q_rad, -np.inf)

    def reset(self, q_rad: Array, now_s: float) -> None:
        """Start anew from rest at `q_rad`; all that was before is void."""
        self._actuator.reset(q_rad, now_s)
        self._sent_s: float | None = None
        self._withdrawn_s: float | None = None
        self._reached_s: float | None = None
        self._objected = False
        self._verdict = Verdict.PASS
        self._silent = 0
        self._fingers_A = np.zeros(self._spec.size, np.float32)

    # --- what goes out ----------------------------------------------------------------------------------------------

    def send(self, action_A: FloatArray, due_s: float) -> None:
        """Send the command of an action [A] in [-1, 1] that is due at `due_s`; raises SpecError on any other."""
        command = self._actuator.command(action_A, due_s, self._arm.clock(), self._lead())
        self._objected = False
        self._sent_s = command.trajectory.start_s
        self._reached_s = self._actuator.reached_s
        self._fingers_A[self._spec.joints :] = action_A[self._spec.joints :]
        self._arm.send(command)

    def _lead(self) -> tuple[Array, Array] | None:
        """By how much the told position leads the measured one, and by how much it may, each [7].

        What resists like a spring gives way in proportion: a joint may lead by as much as it does now, times the torque
        that it may press with over that with which it does.
        """
        if self._contact is None:
            return None
        robot = self._arm.robot()
        told_rad, _ = self._actuator.commanded(robot.stamp_s)
        lead_rad = told_rad - robot.q_rad
        most_rad = np.broadcast_to(self._contact.lead_rad, lead_rad.shape)
        if robot.tau_ext_nm is not None:
            share = -np.sign(lead_rad) * robot.tau_ext_nm / (self._contact.press_share * self._reflex_nm)
            pressed = share > LIGHTLY
            as_pressed_rad = np.abs(lead_rad) / np.where(pressed, share, 1.0)
            most_rad = np.where(pressed, np.minimum(most_rad, as_pressed_rad), most_rad)
        return lead_rad, most_rad

    def brake(self) -> None:
        """Send a brake, if the arm isn't at rest."""
        if (brake := self._actuator.hold(self._arm.clock())) is not None:
            self._arm.send(brake)

    # --- what comes back --------------------------------------------------------------------------------------------

    def confirm(self, trajectory: JointTrajectory) -> None:
        """Take note of what was really passed on, and go on from there."""
        self._silent = 0
        if self._withdrawn_s is not None and abs(trajectory.start_s - self._withdrawn_s) < SAME_S:
            self._withdrawn_s = None  # it came late: it is under way after all
        self._sent_s = None
        self._actuator.adopt(trajectory)

    def note(self, verdict: Verdict) -> None:
        """Take note of a verdict of the gate."""
        self._verdict = max(self._verdict, verdict)
        self._objected |= verdict >= Verdict.HOLD

    def settle(self) -> int:
        """At the next control period: withdraw what was not passed on; return how many in a row met silence."""
        if self._sent_s is not None:
            self._actuator.withdraw()
            self._withdrawn_s, self._sent_s, self._reached_s = self._sent_s, None, None
            self._silent = 0 if self._objected else self._silent + 1
            self._fingers_A[:] = 0.0
        return self._silent

    def fate(self) -> Fate:
        """What became of the control period that is over; the next one's begins."""
        passed_on = self._sent_s is None and self._withdrawn_s is None
        fate = Fate(verdict=self._verdict, passed_on=passed_on, silent=self._silent)
        self._verdict, self._withdrawn_s = Verdict.PASS, None
        return fate

    def applied(self, due_s: float) -> FloatArray:
        """The action [A] that the arm was told in the period that began at `due_s`.

        Its velocity when that period's command has it at what was wanted (a late one a little later), as the path that
        the gate passed on has it; where none was passed on, that of the path under way at the period's end.
        Fingers: what they were told in it, 0 (keep) where nothing was.
        """
        _, dq_rad_s = self._actuator.commanded(self._reached_s or due_s + self._spec.period_s)
        applied_A, self._fingers_A = self._fingers_A, np.zeros(self._spec.size, np.float32)
        self._reached_s = None
        applied_A[: self._spec.joints] = dq_rad_s / self._spec.scale_rad_s
        return np.clip(applied_A, -1.0, 1.0)

    def forget_silence(self) -> None:
        """An operator has looked: count silent commands anew."""
        self._silent = 0

    def take_where_it_is(self) -> None:
        """Go on from where the arm is, if somebody else has moved it."""
        now_s, robot = self._arm.clock(), self._arm.robot()
        bound_rad = MEASURED_MOVED_RAD if robot.desired_q_rad is None else MOVED_RAD
        if np.abs(robot.reference_q_rad - self._actuator.commanded(now_s)[0]).max(initial=0.0) > bound_rad:
            self._actuator.reset(robot.reference_q_rad, now_s)

    @property
    def actuator(self) -> Actuator:
        """Where the commanded path stands; for a model that imagines how it goes on from a copy."""
        return self._actuator
