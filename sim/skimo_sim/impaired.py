"""A twin whose encoders are off, whose tracker or states are late, or whose commands arrive late: what a real arm does.

How much is what a condition draws, and on top of it what the rig says was measured of this arm.
Encoders: whoever reads gets the joint positions that the encoders say, and what is commanded is meant in the same
terms, as an arm does whose calibration is wrong: its controller closes the loop on the same encoders, and so it ends
up where it believes that it was sent, off by the same amount. A condition's offsets are drawn at each reset: so much up
or down; a rig's are fixed.
Tracker and driver: object states, and what the arm tells of itself, are those of some time ago, under today's stamp.
Commands: a trajectory takes effect late, its own stamp unchanged, never before an earlier one; the hand, a device of
its own, is not late. A brake (`hold`, `stop`) is the driver's own: it comes at once, and what is on its way is void.
The truth is `inside`. Units s, rad.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import Array, GripperCommand, JointCommand, ObjectStates, RobotState
from skimo_core.control.trajectory import check_trajectory
from skimo_core.domain.rig import BARE, Rig

from .condition import Actuation, Sensors
from .past import Past, PastStates

ENCODER_STREAM, DELAY_STREAM = 6, 7
"""Which of a seed's streams of chance draw the encoders' offsets and the commands' delays."""
FINE_S = 0.004
"""How often is noted what a rig says to be late: at 10 rad/s2 a joint strays 20 urad from a straight line meanwhile."""


class ImpairedTwin:
    """Implements skimo_core.contract.backend.SimulatedBackend round another one."""

    def __init__(self, inside: SimulatedBackend, sensors: Sensors, actuation: Actuation, rig: Rig = BARE) -> None:
        self.inside = inside
        self._sensors, self._actuation, self._rig = sensors, actuation, rig
        self._way: deque[tuple[float, JointCommand]] = deque()
        self._objects_late_s = sensors.objects_delay_s + rig.camera_s
        self._seen, self._told = Past(self._objects_late_s), PastStates(rig.state_s)
        self._fine = bool(rig.camera_s or rig.state_s)
        self.reset()

    # --- the backend ------------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        return self.inside.now_s()

    def read(self) -> RobotState:
        """What the encoders say, as late as the rig says that it is stamped."""
        state = self.inside.read()
        if self._rig.state_s:
            state = self._told.late(state)
        desired = state.desired_q_rad
        return replace(
            state,
            q_rad=state.q_rad + self.offset_rad,
            desired_q_rad=None if desired is None else desired + self.offset_rad,
        )

    def read_objects(self) -> ObjectStates:
        """The objects as they were; at first as they began."""
        states = self.inside.read_objects()
        if not self._objects_late_s:
            return states
        return replace(states, values=self._seen.at(self.now_s() - self._objects_late_s))

    def write(self, command: JointCommand) -> None:
        """Take a command that takes effect when it arrives.

        Raises:
            BackendError: the twin is stopped.
            SpecError: the trajectory is malformed.
        """
        if self._stopped:
            raise BackendError(f"the twin is stopped ({self._stopped}); an operator must reset it")
        trajectory = check_trajectory(command.trajectory, len(self.offset_rad))
        if command.gripper is not None:
            self.command_hand(command.gripper)
        late_s = self._rng.uniform(*self._actuation.delay_s) + self._rig.command_s
        arrives_s = max(self.now_s() + late_s, self._way[-1][0] if self._way else 0.0)
        told = replace(command, gripper=None, trajectory=replace(trajectory, q_rad=trajectory.q_rad - self.offset_rad))
        self._way.append((arrives_s, told))
        self._deliver()

    def hold(self) -> None:
        self._way.clear()
        self.inside.hold()

    def stop(self, reason: str) -> None:
        self._way.clear()
        self._stopped = reason
        self.inside.stop(reason)

    # --- what a simulation can do beyond ----------------------------------------------------------------------------

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None:
        """Reset what is inside, and draw the encoders' offsets from the seed."""
        self.inside.reset(task, seed, now_s=now_s)
        signs = np.random.default_rng(np.random.SeedSequence([seed, ENCODER_STREAM]))
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, DELAY_STREAM]))
        joints = len(self.inside.read().q_rad)
        self.offset_rad: Array = self._sensors.encoder_rad * signs.choice([-1.0, 1.0], joints)
        if self._rig.joints is not None:
            self.offset_rad = self.offset_rad + self._rig.offset_rad
        self._stopped = ""
        self._way.clear()
        self._seen.clear()
        self._told.clear()
        self._look()

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` pass, commands arriving meanwhile.

        Raises:
            SimulationError: the physics diverged.
        """
        left_s = dt_s
        while self._way and (first_s := max(self._way[0][0] - self.now_s(), 0.0)) < left_s:
            self._pass(first_s)
            left_s -= first_s
            self._hand_over()
        self._pass(left_s)
        self._deliver()
        self._look()

    def recover(self) -> None:
        self._stopped = ""
        self.inside.recover()

    def command_hand(self, goal: GripperCommand) -> None:
        self.inside.command_hand(goal)

    def desired(self) -> tuple[Array, Array]:
        """What the driver tells of its reference, with the rest of what it tells: as late."""
        q, dq = self._told.desired(self.now_s()) if self._rig.state_s else self.inside.desired()
        return q + self.offset_rad, dq

    @property
    def path_at_rest(self) -> bool:
        return not self._way and self.inside.path_at_rest

    @property
    def hand_width_m(self) -> float:
        return self.inside.hand_width_m

    @property
    def hand_busy(self) -> bool:
        return self.inside.hand_busy

    # --- inside -----------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        while self._way and self._way[0][0] <= self.now_s():
            self._hand_over()

    def _hand_over(self) -> None:
        self.inside.write(self._way.popleft()[1])

    def _pass(self, time_s: float) -> None:
        """Let time pass inside, as finely as what is told late needs it."""
        slices = math.ceil(time_s / FINE_S) if self._fine else 1
        for _ in range(slices):
            self.inside.advance(time_s / slices)
            if self._fine:
                self._look()

    def _look(self) -> None:
        """Keep what will be asked for later."""
        if self._objects_late_s:
            states = self.inside.read_objects()
            self._seen.note(states.stamp_s, states.values)
        if self._rig.state_s:
            self._told.note(self.inside)


def actual(twin: SimulatedBackend) -> SimulatedBackend:
    """The twin whose states are the truth: inside of whatever corrects or impairs them."""
    while (inside := getattr(twin, "inside", None)) is not None:
        twin = inside
    return twin
