"""The maze's twin: a point mass in MuJoCo, pushed by two forces among walls; a backend without an arm.

Physics as in SkiMo's maze (Shi et al. 2022, appendix on environments; D4RL's point maze, Fu et al. 2020): steps of
10 ms, two force motors of 100 N, joint damping 1 N s/m, a ball of 0.1 m radius and 4.19 kg, and before each step the
velocity is clipped to 5 m/s along each axis.
  - An action holds until the end of the command that brought it; then, or when held or stopped, no force is left.
  - A start is drawn from the seed as the domain's `starts` say, again where it would touch a wall.
  - Deterministic: the same commands at the same times after `reset` give the same states, bit for bit.
It has no clock of its own: time passes in `advance` only, which takes whole physics steps. Units m, s.
"""

from __future__ import annotations

import functools
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import BackendError, SimulationError, SpecError
from skimo_core.contract.types import Array, GripperCommand, JointCommand, ObjectStates, RobotMode, RobotState
from skimo_core.control.trajectory import check_trajectory
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits
from skimo_core.domain.starts import Starts
from skimo_core.domain.tasks import Task

from ..condition import Condition
from ..flat import Frame
from ..led import Stoppable
from .picture import Map, Target, places
from .walls import Cells, draw_walls

STEP_S = 0.01
MAX_SPEED_M_S = 5.0
RADIUS_M = 0.1
SEED = 0
"""Of the walls: SkiMo's maze."""
CHANNELS = ("x", "y", "vx", "vy")
START_STREAM = 5
"""Which of a seed's streams of chance draws the start."""
START_TRIES = 1000
SOON_S = 1e-6

MODEL = """
<mujoco model="maze">
  <option timestep="{step}" gravity="0 0 0" iterations="20"/>
  <default><geom friction="0.5 0.1 0.1" margin="0.002" density="1000"/></default>
  <worldbody>
    {walls}
    <body name="particle">
      <geom name="particle" type="sphere" size="{radius}"/>
      <joint name="x" type="slide" axis="1 0 0" damping="1"/>
      <joint name="y" type="slide" axis="0 1 0" damping="1"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="x" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
    <motor joint="y" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
  </actuator>
</mujoco>
"""
WALL = '<geom type="box" pos="{x} {y} 0" size="{half_x} {half_y} 0.5"/>'


@functools.cache
def build_maze(seed: int = SEED) -> tuple[mujoco.MjModel, Cells]:
    """The scene, and where its walls stand [size + 2, size + 2]; shared, not to be changed."""
    walls = draw_walls(seed)
    boxes = []
    for first, last, j in runs(walls):
        boxes.append(WALL.format(x=(first + last) / 2, y=j, half_x=(last - first + 1) / 2, half_y=0.5))
    return mujoco.MjModel.from_xml_string(MODEL.format(step=STEP_S, radius=RADIUS_M, walls="".join(boxes))), walls


def runs(walls: Cells) -> list[tuple[int, int, int]]:
    """Walls as bars along x: first and last cell, and the row j of each."""
    found = []
    for j in range(walls.shape[1]):
        edges = np.flatnonzero(np.diff(walls[:, j].astype(np.int8), prepend=0, append=0))
        found += [(int(a), int(b) - 1, j) for a, b in edges.reshape(-1, 2)]
    return found


class MazeTwin(Stoppable):
    """Implements skimo_core.contract.backend.SimulatedBackend.

    Raises:
        SpecError: the domain's channels or actions are not the maze's, or its robot has joints.
    """

    def __init__(self, domain: Domain, limits: RobotLimits) -> None:
        if domain.observation.names != CHANNELS or domain.action.size != 2 or limits.joints:
            raise SpecError(
                f"the twin 'maze' simulates channels {', '.join(CHANNELS)} under two forces and no robot; domain "
                f"{domain.name} has {', '.join(domain.observation.names)}, {domain.action.size} actions and robot "
                f"{limits.name}"
            )
        self.domain, self.limits = domain, limits
        self.model, self.walls = build_maze()
        self.data = mujoco.MjData(self.model)
        self.starts = domain.starts
        self.task: Task
        self.seed: int
        self.reset()

    # --- the backend ------------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Simulated time."""
        return self._begun_s + self._steps * STEP_S

    def read(self) -> RobotState:
        """No joints; whether an action is under way."""
        none = np.zeros(0)
        stopped = RobotMode.USER_STOPPED if self._stopped else None
        mode = stopped or (RobotMode.IDLE if self.path_at_rest else RobotMode.MOVE)
        return RobotState(
            stamp_s=self.now_s(),
            q_rad=none,
            dq_rad_s=none,
            tau_nm=none,
            finger_m=none,
            mode=mode,
            desired_q_rad=none,
            tau_ext_nm=none,
        )

    def read_objects(self) -> ObjectStates:
        """Where the mass is, and how fast."""
        return ObjectStates(
            stamp_s=self.now_s(), names=CHANNELS, values=np.concatenate([self.data.qpos, self.data.qvel])
        )

    def write(self, command: JointCommand) -> None:
        """Take a command; it replaces the one before.

        Raises:
            BackendError: the twin is stopped, or is asked for a hand.
            SpecError: the command is malformed, or its actions are not two forces in [-1, 1].
        """
        self._refuse_if_stopped()
        trajectory = check_trajectory(command.trajectory, 0)
        if command.gripper is not None:
            self.command_hand(command.gripper)
        forces = command.others
        if forces is None or forces.shape != (2,) or not (np.abs(forces) <= 1.0).all():
            raise SpecError(f"maze: actions are {forces}, must be two forces in [-1, 1]")
        self._forces = forces.copy()
        self._until_s = trajectory.start_s + float(trajectory.times_s[-1])

    def hold(self) -> None:
        """Push no more; what rolls is braked by its damping alone."""
        self._until_s = -np.inf

    # --- what a simulation can do beyond ----------------------------------------------------------------------------

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None:
        """Return to a start, at rest; older commands are void."""
        self.task, self.seed = self.domain.task(task), seed
        asked, rng = self.task.open_at_start(0), np.random.default_rng(np.random.SeedSequence([seed, START_STREAM]))
        home, none = self.domain.start.astype(np.float64), np.zeros(0)
        for _ in range(START_TRIES):
            start = self.starts.draw(home, self.domain.observation, (none, none), self.domain.subtasks, asked, rng)
            self.place(start[:2], start[2:], now_s=now_s)
            if not self.data.ncon:
                return
        raise SpecError(f"{START_TRIES} starts in a row lie in a wall; start domain {self.domain.name} elsewhere")

    def place(self, position_m: Array, velocity_m_s: Array | None = None, *, now_s: float = 0.0) -> None:
        """Put the mass somewhere [2], at rest or with a velocity [2]."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = position_m
        self.data.qvel[:] = 0.0 if velocity_m_s is None else velocity_m_s
        mujoco.mj_forward(self.model, self.data)
        self._begun_s, self._steps, self._stopped = now_s, 0, ""
        self._forces, self._until_s = np.zeros(2), -np.inf

    def start_at(self, observation_O: Array) -> None:
        """Be where an observation [4] says, and as fast; older commands are void."""
        self.place(observation_O[:2], observation_O[2:], now_s=self.now_s())

    def change(self, condition: Condition) -> None:
        """Start as a condition says, until changed again.

        Raises:
            SpecError: it changes joints, bodies or servos, which are not the maze's.
        """
        if others := [part for part in condition.scene_parts if part != "starts"]:
            raise SpecError(
                f"the twin 'maze' can't do condition {condition.name!r} ({', '.join(others)}); take one of starts, "
                "sensors and delays alone"
            )
        self.starts: Starts = self.domain.starts if condition.starts is None else condition.starts

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` of simulated time pass, in whole steps.

        Raises:
            SimulationError: the physics diverged.
        """
        data = self.data
        for _ in range(round(dt_s / STEP_S)):
            np.clip(data.qvel, -MAX_SPEED_M_S, MAX_SPEED_M_S, out=data.qvel)
            data.ctrl[:] = 0.0 if self.path_at_rest else self._forces
            mujoco.mj_step(self.model, data)
            self._steps += 1
        if not np.isfinite(data.qpos).all() or data.warning.number.any():
            raise SimulationError(f"maze: the physics diverged at {self.now_s():.2f} s; reset it")

    def recover(self) -> None:
        """What an operator does after a stop: take commands again."""
        self._stopped = ""

    def command_hand(self, goal: GripperCommand) -> None:
        """There is no hand."""
        raise BackendError(f"the maze has no hand that could {goal.kind}")

    def desired(self) -> tuple[Array, Array]:
        """No joints."""
        return np.zeros(0), np.zeros(0)

    def picture(self, observations_TO: npt.NDArray[Any], task: Task) -> Frame:
        """The maze from above: the task's places, the way through observations [T, O], and where it ends."""
        drawn, way = Map(self.walls), places(observations_TO)
        for goal in task.subtasks:
            if set(goal.channels) == {0, 1}:
                at_m = np.array([goal.goal[goal.channels.index(k)] for k in (0, 1)])
                drawn.target(Target(at_m=at_m, radius_m=min(goal.tolerances)))
        drawn.path(way)
        drawn.dot(way[-1], 0.4)
        return drawn.frame()

    @property
    def path_at_rest(self) -> bool:
        """Whether no action is under way."""
        return self.now_s() > self._until_s - SOON_S

    @property
    def hand_width_m(self) -> float:
        """There is no hand."""
        return 0.0

    @property
    def hand_busy(self) -> bool:
        """There is no hand."""
        return False


def maze_twin(domain: Domain, limits: RobotLimits) -> MazeTwin:
    """Registered as `maze`."""
    return MazeTwin(domain, limits)
