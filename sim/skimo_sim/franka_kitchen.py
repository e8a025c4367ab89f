"""FrankaKitchen-v1 of gymnasium-robotics, as it ships, as a backend: somebody else's simulation in the robot's place.

Nothing of the environment is changed: `reset` and `step` are called, and what they return is told. Its arm has weak
position servos that nobody helps against weight and damping, its driver speaks 12.5 times a second, and so:
  - States are those of the last step, stamped with its time, and as noisy as the environment makes them. Commands take
    effect at the next step.
  - A reference becomes the environment's actions through a `skimo_sim.servo.Driver`: for each step, positions for the
    servos to hold. The environment holds what it last told plus 2 rad/s times the action times the step, and cuts
    positions at its own ranges.
  - Every episode begins at the papers' one start. The seed draws the noise.
  - Torques are those of the simulation's motors; the environment tells none.
  - The hand is as wide as its fingers come by servos of 500 N/m; no force is bounded but by these.
`inside` tells the same without noise (`skimo_sim.impaired.actual`). `completed` is the environment's own count of its
sub-tasks, in any order. Frames and units: Franka's joint convention; rad, m, s, Nm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skimo_core.contract.errors import SetupError, SimulationError, SpecError
from skimo_core.contract.types import JOINTS, Array, GripperCommand, ObjectStates, RobotMode, RobotState
from skimo_core.control.trajectory import TrajectoryFollower
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits

from .hand import Hand
from .led import Led
from .scenes.scene import OWN
from .servo import SAME_S, Ask, Driver, by_position

ENVIRONMENT = "FrankaKitchen-v1"
ZERO_RAD = np.array([0.0, 0.0, 0.0, 0.0, 0.0, np.pi / 2, np.pi / 4])
"""Franka's joint angle where the environment's is 0 (`scenes.arm`)."""
OBJECTS = 21
"""How many numbers tell of the objects; behind the positions and the velocities of arm and hand."""
WIDTH_MAX_M = 0.08
MOVES_M_S = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What was seen after a step: time, positions and velocities of arm and hand [9], objects [K]."""

    stamp_s: float
    own: Array
    own_speed: Array
    objects: Array


class FrankaKitchen(Led):
    """Implements skimo_core.contract.backend.SimulatedBackend.

    Args:
        domain: the kitchen's, or one of the same channels.
        limits: of the Panda.
        driver: how the reference is followed.
        noise_ratio: the environment's own `robot_noise_ratio`; None: its default, 0.001 rad either way.

    Raises:
        SpecError: the domain's channels or rate are not the environment's.
        SetupError: it is not installed.
    """

    NAME = ENVIRONMENT

    def __init__(
        self, domain: Domain, limits: RobotLimits, driver: Driver = by_position, *, noise_ratio: float | None = None
    ) -> None:
        self._domain, self.limits, self._driver = domain, limits, driver
        self.environment: Any = _made(domain, noise_ratio)
        self._arm: Any = self.environment.unwrapped.robot_env
        self.period_s = float(self._arm.dt)
        self._reach = float(self._arm.act_rng[0]) * self.period_s
        if abs(self.period_s - domain.action.period_s) > SAME_S:
            raise SpecError(
                f"domain {domain.name} runs at {domain.action.rate_hz:g} Hz, {ENVIRONMENT} at {1 / self.period_s:g}"
            )
        self.inside = _Truth(self)
        self.reset()

    # --- the backend ------------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Simulated time; between two steps it is ahead of the environment."""
        return self._epoch_s + self._steps * self.period_s + self._owed_s

    def read(self) -> RobotState:
        """Arm and hand as the last step told them."""
        return self.state_of(self._look)

    def read_objects(self) -> ObjectStates:
        """The objects as the last step told them."""
        return self.objects_of(self._look)

    # --- simulated time ---------------------------------------------------------------------------------------------

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None:
        """Return to the papers' start, whatever the task; `seed` draws the noise."""
        self._domain.task(task)
        self._epoch_s, self._steps, self._owed_s, self._stopped = now_s, 0, 0.0, ""
        observed, _ = self.environment.reset(seed=seed)
        self.completed: tuple[str, ...] = ()
        self._see(observed["observation"])
        self._hand = Hand()
        self._hand.reset(self.hand_width_m, now_s)
        self._follower = TrajectoryFollower(self._look.own[:JOINTS] + ZERO_RAD, now_s)
        self._from_rad = self._reference(now_s)

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` pass; the environment steps when one of its steps is full.

        Raises:
            SimulationError: the physics diverged.
        """
        left_s = dt_s
        while left_s > SAME_S:
            if self._owed_s < SAME_S:
                self._from_rad = self._reference(self.now_s())
            slice_s = min(left_s, self.period_s - self._owed_s)
            self._owed_s += slice_s
            left_s -= slice_s
            if self._owed_s > self.period_s - SAME_S:
                self._steps, self._owed_s = self._steps + 1, 0.0
                self._step()

    def recover(self) -> None:
        """What an operator does after a stop: hold here and take commands again."""
        self._stopped = ""
        self._follower.reset(self._look.own[:JOINTS] + ZERO_RAD, self.now_s())

    def command_hand(self, goal: GripperCommand) -> None:
        """Send the hand to a goal; raises BackendError if it can't have it."""
        self._refuse_if_stopped()
        self._hand.command(goal, self.hand_width_m, self.now_s())

    def desired(self) -> tuple[Array, Array]:
        """The commanded joint position and velocity, each [7], at this moment."""
        q, dq, _ = self._follower.sample(np.array([self.now_s()]))
        return q[0], dq[0]

    @property
    def range_rad(self) -> tuple[Array, Array]:
        """Lowest and highest positions [7] that the environment holds; joint 6 goes no lower than pi/2."""
        low, high = self._arm.robot_pos_bound[:JOINTS].T
        return low + ZERO_RAD, high + ZERO_RAD

    @property
    def path_at_rest(self) -> bool:
        return self.now_s() >= self._follower.end_s

    @property
    def hand_width_m(self) -> float:
        return float(np.clip(self._look.own[JOINTS:].sum(), 0.0, WIDTH_MAX_M))

    @property
    def hand_busy(self) -> bool:
        """Whether the fingers are on their way, or still moving."""
        moving = np.abs(self._true().own_speed[JOINTS:]).max() > MOVES_M_S
        return bool(self.now_s() < self._hand.end_s() or moving)

    # --- inside -----------------------------------------------------------------------------------------------------

    def state_of(self, look: _Look) -> RobotState:
        """A look as the contract has it."""
        return RobotState(
            stamp_s=look.stamp_s,
            q_rad=look.own[:JOINTS] + ZERO_RAD,
            dq_rad_s=look.own_speed[:JOINTS].copy(),
            tau_nm=self._arm.data.qfrc_actuator[:JOINTS].copy(),
            finger_m=look.own[JOINTS:].copy(),
            mode=self._mode(),
            desired_q_rad=self._reference(look.stamp_s),
        )

    def objects_of(self, look: _Look) -> ObjectStates:
        return ObjectStates(stamp_s=look.stamp_s, names=self._domain.observation.objects, values=look.objects.copy())

    def _true(self) -> _Look:
        """The same without noise."""
        data = self._arm.data
        return _Look(
            stamp_s=self._look.stamp_s,
            own=data.qpos[:OWN].copy(),
            own_speed=data.qvel[:OWN].copy(),
            objects=data.qpos[OWN:].copy(),
        )

    def _step(self) -> None:
        """One step of the environment, towards where the driver wants the servos."""
        ask = Ask(
            q_rad=self._look.own[:JOINTS] + ZERO_RAD,
            from_rad=self._from_rad,
            to_rad=self._reference(self.now_s()),
            period_s=self.period_s,
        )
        width_m = self._hand.widths(np.array([self.now_s()]))[0]
        held = np.concatenate([self._driver(ask) - ZERO_RAD, np.full(OWN - JOINTS, width_m / 2)])
        action = np.clip((held - self._look.own) / self._reach, -1.0, 1.0)
        observed, _, _, _, info = self.environment.step(action)
        self.completed = tuple(info["episode_task_completions"])
        self._see(observed["observation"])
        if not np.isfinite(self._arm.data.qpos).all():
            raise SimulationError(f"{ENVIRONMENT} diverged at {self.now_s():.2f} s; reset it")

    def _see(self, observed: Array) -> None:
        """Take note of an observation: positions and velocities of arm and hand, then those of the objects."""
        self._look = _Look(
            stamp_s=self.now_s(),
            own=observed[:OWN].copy(),
            own_speed=observed[OWN : 2 * OWN].copy(),
            objects=observed[2 * OWN : 2 * OWN + OBJECTS].copy(),
        )

    def _reference(self, time_s: float) -> Array:
        return self._follower.positions(np.array([time_s]))[0]

    def _mode(self) -> RobotMode:
        if self._stopped:
            return RobotMode.USER_STOPPED
        return RobotMode.MOVE if self.now_s() < self._follower.end_s else RobotMode.IDLE


class _Truth:
    """What is true of the environment; it implements what `skimo_eval.trials.truth` asks for."""

    def __init__(self, kitchen: FrankaKitchen) -> None:
        self._kitchen = kitchen

    def now_s(self) -> float:
        return self._kitchen.now_s()

    def read(self) -> RobotState:
        return self._kitchen.state_of(self._kitchen._true())

    def read_objects(self) -> ObjectStates:
        return self._kitchen.objects_of(self._kitchen._true())


def _made(domain: Domain, noise_ratio: float | None) -> Any:
    """The environment, with the domain's sub-tasks as its own."""
    count = len(domain.observation.objects)
    if count != OBJECTS:
        raise SpecError(
            f"domain {domain.name} has {count} object channels, {ENVIRONMENT} {OBJECTS}; take the kitchen's"
        )
    try:
        import gymnasium
        import gymnasium_robotics
    except ImportError as error:
        raise SetupError(f"{ENVIRONMENT} is not installed ({error}); pip install gymnasium-robotics") from error
    gymnasium.register_envs(gymnasium_robotics)
    extra: dict[str, Any] = {} if noise_ratio is None else {"robot_noise_ratio": noise_ratio}
    return gymnasium.make(
        ENVIRONMENT,
        tasks_to_complete=list(domain.subtasks),
        terminate_on_tasks_completed=False,
        disable_env_checker=True,
        **extra,
    )
