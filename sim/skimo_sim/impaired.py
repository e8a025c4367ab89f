"""A twin whose encoders are off, whose tracker is late, or whose commands arrive late: what a real arm may do.

Encoders: whoever reads gets the joint positions that the encoders say, and what is commanded is meant in the same
terms, as an arm does whose calibration is wrong: its controller closes the loop on the same encoders, and so it ends
up where it believes that it was sent, off by the same amount. Offsets are drawn at each reset: so much up or down.
Tracker: object states are those of some time ago, under today's stamp. Commands: a trajectory takes effect late, its
own stamp unchanged, never before an earlier one; the hand, a device of its own, is not late. A brake (`hold`, `stop`)
is the driver's own: it comes at once, and what is still on its way is void.
The truth is `inside`. Units s, rad.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import Array, GripperCommand, JointCommand, ObjectStates, RobotState
from skimo_core.control.trajectory import check_trajectory

from .condition import Actuation, Sensors

ENCODER_STREAM, DELAY_STREAM = 6, 7
"""Which of a seed's streams of chance draw the encoders' offsets and the commands' delays."""


class ImpairedTwin:
    """Implements skimo_core.contract.backend.SimulatedBackend round another one."""

    def __init__(self, inside: SimulatedBackend, sensors: Sensors, actuation: Actuation) -> None:
        self.inside = inside
        self._sensors, self._actuation = sensors, actuation
        self._way: deque[tuple[float, JointCommand]] = deque()
        self._seen: deque[ObjectStates] = deque()
        self.reset()

    # --- the backend ------------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        return self.inside.now_s()

    def read(self) -> RobotState:
        """What the encoders say."""
        state = self.inside.read()
        desired = state.desired_q_rad
        return replace(
            state,
            q_rad=state.q_rad + self.offset_rad,
            desired_q_rad=None if desired is None else desired + self.offset_rad,
        )

    def read_objects(self) -> ObjectStates:
        """The objects as they were, linearly between the times at which `advance` ended; at first as they began."""
        if not self._sensors.objects_delay_s:
            return self.inside.read_objects()
        now_s = self.now_s()
        since_s = now_s - self._sensors.objects_delay_s
        times_s = [states.stamp_s for states in self._seen]
        rows = np.array([states.values for states in self._seen])
        values = np.array([np.interp(since_s, times_s, column) for column in rows.T])
        return replace(self._seen[-1], stamp_s=now_s, values=values)

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
        late_s = self._rng.uniform(*self._actuation.delay_s)
        arrives_s = max(self.now_s() + late_s, self._way[-1][0] if self._way else 0.0)
        told = JointCommand(trajectory=replace(trajectory, q_rad=trajectory.q_rad - self.offset_rad))
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
        self._stopped = ""
        self._way.clear()
        self._seen.clear()
        self._look()

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` pass, commands arriving meanwhile.

        Raises:
            SimulationError: the physics diverged.
        """
        left_s = dt_s
        while self._way and (first_s := max(self._way[0][0] - self.now_s(), 0.0)) < left_s:
            self.inside.advance(first_s)
            left_s -= first_s
            self._hand_over()
        self.inside.advance(left_s)
        self._deliver()
        self._look()

    def recover(self) -> None:
        self._stopped = ""
        self.inside.recover()

    def command_hand(self, goal: GripperCommand) -> None:
        self.inside.command_hand(goal)

    def desired(self) -> tuple[Array, Array]:
        q, dq = self.inside.desired()
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

    def _look(self) -> None:
        """Keep the objects' states for as long as they will be asked for."""
        self._seen.append(self.inside.read_objects())
        since_s = self.now_s() - self._sensors.objects_delay_s
        while len(self._seen) > 1 and self._seen[1].stamp_s <= since_s:
            self._seen.popleft()


def actual(twin: SimulatedBackend) -> SimulatedBackend:
    """The twin whose states are the truth: itself, unless its sensors are impaired."""
    return twin.inside if isinstance(twin, ImpairedTwin) else twin
