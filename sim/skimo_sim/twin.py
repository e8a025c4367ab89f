"""The MuJoCo twin: a simulated arm in its scene as a backend, advanced by hand.

Promises
  - Commands mean what they mean to a joint_trajectory_controller (skimo_core.control.trajectory): `write` replaces the
    trajectory, silence ends at rest.
  - Physics runs at 500 Hz. The arm's torques are kp (q_d - q) + kv (dq_d - dq) + feed-forward of the desired
    acceleration, within Franka's torque limits; gravity is compensated.
  - Deterministic: the same commands at the same times after `reset` give the same states, bit for bit.
  - `reset` draws the start from the seed, as the domain's `starts` say: within limits, the arm free of contact.
  - A simulation that diverges raises SimulationError; it never restarts itself in silence.
It has no clock of its own: time passes in `advance` only. It adds no sensor noise (skimo_core.control.observe does).
Frames and units: Franka's joint convention; rad, m, s, Nm.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from skimo_core.contract.errors import SimulationError, SpecError
from skimo_core.contract.types import JOINTS, Array, GripperCommand, ObjectStates, RobotMode, RobotState
from skimo_core.control.trajectory import TrajectoryFollower
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.rig import Placement, Rig
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.domain.starts import Starts
from skimo_core.domain.tasks import Subtask, Task

from .condition import Condition, Mount
from .hand import FORCE_MAX_N, WIDTH_MAX_M, Hand
from .kinematic import START_STREAM
from .led import Led
from .rigging import furniture_of, plant_of
from .scenes.arm import FINGERS
from .scenes.described import Room
from .scenes.dynamics import Plant, apply_dynamics
from .scenes.factors import multiply
from .scenes.kitchen import build_kitchen
from .scenes.physics import mujoco
from .scenes.placing import moved
from .scenes.scene import OWN, Build, Scene
from .scenes.scene_file import load_scene_file

CONTACT = int(mujoco.mjtConstraint.mjCNSTR_CONTACT_FRICTIONLESS)
"""The first of the constraints' types that are contacts; they come last."""
TRIES = 50
SAG_S = 1.0
"""How long an arm whose weight nobody makes up for is given to come to rest before anybody looks."""
SETTLE_S = 0.2
SHOVED = 0.03
"""rad or m: what moves further while it settles stood in something else's place."""
LIMIT_MARGIN_RAD = 0.06
SPEED_BOUND = 500.0
"""rad/s or m/s; beyond it the simulation has diverged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinState:
    """Everything that the twin's future depends on; made by `Twin.snapshot`, opaque to others."""

    data: mujoco.MjData
    forcerange: Array
    follower: TrajectoryFollower
    hand: Hand
    clock: tuple[float, int, float]
    stopped: str


class Twin(Led):
    """Implements skimo_core.contract.backend.Backend in simulated time.

    Args:
        arm: "panda" (ours) or, of the kitchen, "kitchen" (as shipped with it).
        starts: how starts are drawn; the domain's where not given, `Starts()` for the one start alone.
        domain: what the tasks there share.
        limits: of the robot.
        build: compiles the scene.
    """

    def __init__(
        self,
        arm: str = "panda",
        starts: Starts | None = None,
        *,
        domain: Domain | None = None,
        limits: RobotLimits | None = None,
        build: Build = build_kitchen,
    ) -> None:
        self.domain: Domain = domain or load_domain("kitchen")
        self.starts = self.domain.starts if starts is None else starts
        self.limits: RobotLimits = limits or load_limits("panda")
        self.room = build
        self._hand = Hand()
        self._follower = TrajectoryFollower(self.limits.home_q_rad)
        self.task: Task
        self.seed: int
        self._sags = False
        self._stands: Placement | None = None
        self._plant: Plant | None = None
        self._build(arm)
        self.reset()

    def _build(self, arm: str) -> None:
        """The scene with that arm."""
        self.scene: Scene = self.room(arm, placement=self._stands)
        self.model: mujoco.MjModel = self.scene.model
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.data = mujoco.MjData(self.model)
        self._believed: tuple[mujoco.MjModel, mujoco.MjData] | None = None
        self._unit_dofs = np.eye(JOINTS, self.model.nv)
        self._start_qpos = self.scene.start_qpos
        first_link = self.model.jnt_bodyid[0]
        self._arm_bodies = self.model.body_rootid == self.model.body_rootid[first_link]

    # --- the backend ------------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Simulated time."""
        return self._epoch_s + self._ticks * self._step_s

    def read(self) -> RobotState:
        """The arm and the hand as they are now."""
        data = self.data
        return RobotState(
            stamp_s=self.now_s(),
            q_rad=data.qpos[:JOINTS] + self.scene.arm.zero_rad,
            dq_rad_s=data.qvel[:JOINTS].copy(),
            tau_nm=self._motor_torque(),
            finger_m=data.qpos[JOINTS:OWN].copy(),
            mode=self._mode(),
            tau_ext_nm=self.external_torque(),
        )

    def read_objects(self) -> ObjectStates:
        """The objects' values as they are now."""
        values = self.scene.objects.read(self.data)
        return ObjectStates(stamp_s=self.now_s(), names=self.domain.observation.objects, values=values)

    # --- what a simulation can do beyond ----------------------------------------------------------------------------

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None:
        """Return to a start; older commands are void.

        Args:
            task: what is about to be done; none of its goals is done at the start.
            seed: draws the start, and for others sensor noise and the planner's dice.
            now_s: the clock's reading from here on.
        """
        self.task, self.seed = self.domain.task(task), seed
        self._epoch_s, self._ticks, self._owed_s, self._stopped = now_s, 0, 0.0, ""
        spec = self.domain.observation
        self.begin(self.task.open_at_start(spec.joints + spec.fingers), seed)
        if self._sags:
            self._pass(SAG_S)

    def _pass(self, time_s: float) -> None:
        """Simulate on, by a clock that stands still."""
        ticks = self._ticks
        self.advance(time_s)
        self._ticks, self._owed_s = ticks, 0.0

    def begin(self, asked: tuple[Subtask, ...], seed: int, attempt: int = 0) -> None:
        """Put the simulation at the start that `seed` draws, at rest; no goal that is `asked` for is done there.

        Raises:
            SpecError: the distribution hardly holds a start free of contact.
        """
        if self.starts == Starts():
            self.set_state(self._start_qpos)
            return
        rng = np.random.default_rng(np.random.SeedSequence([seed, attempt, START_STREAM]))
        zero, spec = self.scene.arm.zero_rad, self.domain.observation
        home = self.observed(self._start_qpos)
        bounds = self.model.jnt_range[:JOINTS].T + zero + np.array([[LIMIT_MARGIN_RAD], [-LIMIT_MARGIN_RAD]])
        for _ in range(TRIES):
            start = self.starts.draw(home, spec, (bounds[0], bounds[1]), self.domain.subtasks, asked, rng)
            if self._settled(self.state_of(start)):
                return
        raise SpecError(
            f"none of {TRIES} drawn starts is free of contact, with all at rest where it was put; draw starts less wide"
        )

    def _settled(self, qpos: Array) -> bool:
        """Let the objects come to rest round a still arm; whether nothing touches it and nothing was shoved aside."""
        self.set_state(qpos)
        if self._arm_touches():
            return False
        self._pass(SETTLE_S)
        objects = self.data.qpos[OWN:].copy()
        shoved = np.abs(objects - qpos[OWN:]).max(initial=0.0) > SHOVED
        self.set_state(np.concatenate([qpos[:OWN], objects]))
        return not shoved and not self._arm_touches()

    def _arm_touches(self) -> bool:
        """Whether a contact of the arm with anything is closed."""
        data, model = self.data, self.model
        if not data.ncon:
            return False
        touching = data.contact.geom[data.contact.dist < 0.0]
        return bool(self._arm_bodies[model.geom_bodyid[touching]].any())

    def start(self, seed: int | None) -> None:
        """Put the simulation at the start that a seed draws for the domain's first task, or at the plain one."""
        if seed is None:
            self.set_state(self._start_qpos)
        else:
            self.reset(seed=seed)

    def observed(self, qpos: Array) -> Array:
        """A state [nq] at rest as an observation [O] without noise tells it."""
        spec, data = self.domain.observation, mujoco.MjData(self.model)
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, data)
        arm = qpos[:JOINTS] + self.scene.arm.zero_rad
        return np.concatenate([arm, qpos[JOINTS : JOINTS + spec.fingers], self.scene.objects.read(data)])

    def state_of(self, observation: Array) -> Array:
        """The state [nq] that an observation [O] tells of; what it doesn't, as at the start."""
        spec, qpos = self.domain.observation, self._start_qpos.copy()
        qpos[:JOINTS] = observation[:JOINTS] - self.scene.arm.zero_rad
        qpos[JOINTS : JOINTS + spec.fingers] = observation[JOINTS : JOINTS + spec.fingers]
        self.scene.objects.put(qpos, observation[JOINTS + spec.fingers :])
        return qpos

    def start_at(self, observation_O: Array) -> None:
        """Be, at rest, where an observation [O] says; older commands are void."""
        self.set_state(self.state_of(np.asarray(observation_O, np.float64)))

    def set_state(self, qpos: Array, qvel: Array | None = None) -> None:
        """Put the simulation into a state [nq], [nv] (at rest if no velocity is given); the arm holds there."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = qpos
        self.data.qvel[:] = 0.0 if qvel is None else qvel
        mujoco.mj_forward(self.model, self.data)
        self._follower.reset(qpos[:JOINTS] + self.scene.arm.zero_rad, self.now_s())
        self._hand.reset(self.hand_width_m, self.now_s())
        self.model.actuator_forcerange[JOINTS:OWN] = -FORCE_MAX_N, FORCE_MAX_N

    def snapshot(self) -> TwinState:
        """The present state, from which this or another twin with the same arm can go on, bit for bit."""
        data = mujoco.MjData(self.model)
        mujoco.mj_copyData(data, self.model, self.data)
        return TwinState(
            data=data,
            forcerange=self.model.actuator_forcerange.copy(),
            follower=copy.deepcopy(self._follower),
            hand=copy.copy(self._hand),
            clock=(self._epoch_s, self._ticks, self._owed_s),
            stopped=self._stopped,
        )

    def restore(self, state: TwinState) -> None:
        """Return to a state that `snapshot` gave."""
        mujoco.mj_copyData(self.data, self.model, state.data)
        self.model.actuator_forcerange[:] = state.forcerange
        self._follower, self._hand = copy.deepcopy(state.follower), copy.copy(state.hand)
        self._epoch_s, self._ticks, self._owed_s = state.clock
        self._stopped = state.stopped

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` of simulated time pass (whole physics steps; what is left over is owed to the next call).

        Raises:
            SimulationError: the physics diverged.
        """
        self._owed_s += dt_s
        steps = round(self._owed_s / self._step_s)
        self._owed_s -= steps * self._step_s
        if steps < 1:
            return
        self._run(*self._controls(self.now_s() + self._step_s * np.arange(steps, dtype=np.float64)))
        self._ticks += steps
        self._check_sane()

    def command_hand(self, goal: GripperCommand) -> None:
        """Send the hand to a goal, as the gripper's action server does."""
        self._refuse_if_stopped()
        self._hand.command(goal, self.hand_width_m, self.now_s())
        force = min(goal.force_n, FORCE_MAX_N) if goal.kind == "grasp" else FORCE_MAX_N
        self.model.actuator_forcerange[JOINTS:OWN] = -force, force

    def change(self, condition: Condition) -> None:
        """Change the arm, the scene, the servos and the starts as a condition says, once, and start anew.

        Raises:
            SpecError: a joint or body that the scene doesn't have, or an arm that would stand elsewhere.
        """
        gain, arm = condition.actuation.gain, condition.actuation.arm or self.scene.arm.name
        self._sags = self._sags or arm != self.scene.arm.name
        if condition.mount != Mount():
            self._stands = moved(self.scene, condition.mount)
        if condition.mount != Mount() or arm != self.scene.arm.name:
            self._build(arm)
            if self._plant is not None:
                self.become(self._plant)
        multiply(self.model, self.data, condition, gain)
        self.scene = replace(self.scene, arm=self.scene.arm.with_gain(gain))
        if condition.starts is not None:
            self.starts = condition.starts
        self.reset(self.task.name, self.seed)

    def become(self, plant: Plant) -> None:
        """Give the arm the dynamics and servos of a certain one, and start anew.

        What its controller makes up for - friction, and the mass that it accelerates - stays what it was: a plant that
        differs is followed worse, and a payload that the controller wasn't told of makes the arm sag.

        Raises:
            SpecError: no arm is so, or the scene's can't be.
        """
        self._plant = plant
        if self._believed is None:
            model = copy.copy(self.model)
            self._believed = (model, mujoco.MjData(model))
        apply_dynamics(self.model, self.data, plant)
        self.scene = replace(self.scene, arm=self.scene.arm.with_gains(plant.kp, plant.kv))
        self.reset(self.task.name, self.seed)

    def fit(self, rig: Rig) -> None:
        """Make arm and scene what a rig says of them, once, before any condition, and start anew.

        Raises:
            SpecError: furniture that is not here, an arm that would stand elsewhere, or one that can't be so.
        """
        if (stands := furniture_of(rig, self.scene.name)) is not None:
            self._stands = stands
            self._build(self.scene.arm.name)
        self._sags = self._sags or (rig.payload is not None and rig.payload.mass_kg > 0)
        if (plant := plant_of(rig)) is not None:
            self.become(plant)
        self.reset(self.task.name, self.seed)

    def recover(self) -> None:
        """What an operator does after a stop: hold here and take commands again."""
        self._stopped = ""
        self._follower.reset(self.read().q_rad, self.now_s())

    def desired(self) -> tuple[Array, Array]:
        """The commanded joint position and velocity, each [7], at this moment."""
        q, dq, _ = self._follower.sample(np.array([self.now_s()]))
        return q[0], dq[0]

    @property
    def path_at_rest(self) -> bool:
        """Whether the commanded motion has come to its end."""
        return self.now_s() >= self._follower.end_s

    @property
    def hand_width_m(self) -> float:
        """Distance between the fingers."""
        return float(np.clip(self.data.qpos[JOINTS:OWN].sum(), 0.0, WIDTH_MAX_M))

    @property
    def hand_busy(self) -> bool:
        """Whether the fingers are on their way, or still moving."""
        moving = np.abs(self.data.qvel[JOINTS:OWN]).max() > 1e-3
        return bool(self.now_s() < self._hand.end_s() or moving)

    def drawn(self) -> Scene:
        """The same scene with what is only there to be looked at."""
        return self.room(self.scene.arm.name, placement=self._stands, visual=True)

    def tcp_pose(self) -> tuple[Array, Array]:
        """Position [3] and rotation matrix [3, 3] of the point between the fingers, in the world."""
        site = self.data.site(self.scene.arm.tcp_site)
        return site.xpos.copy(), site.xmat.reshape(3, 3).copy()

    def external_torque(self) -> Array:
        """Torques [7] that contacts put on the arm's joints, at the newest physics step, Nm.

        J^T f over the contacts' rows of the solver's constraints alone: what joint friction, joint limits and the
        fingers' belt contribute is left out, as Franka's estimate leaves out what its model of the arm explains. A link
        pressed against another of the arm's own counts, as there. Franka's is low-pass filtered, this is not.
        """
        data, torque = self.data, np.zeros(self.model.nv)
        if data.ncon:
            contacts = np.where(data.efc_type[: data.nefc] >= CONTACT, data.efc_force[: data.nefc], 0.0)
            mujoco.mj_mulJacTVec(self.model, data, torque, contacts)
        return torque[:JOINTS]

    def arm_mass(self) -> Array:
        """The arm's joint-space mass matrix [7, 7], rotors and hand included, as its controller believes it to be."""
        model, data = self.model, self.data
        if self._believed is not None:
            model, data = self._believed
            data.qpos[:] = self.data.qpos
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_makeM(model, data)
        columns = np.empty_like(self._unit_dofs)
        for unit, column in zip(self._unit_dofs, columns):
            mujoco.mj_mulM(model, data, column, unit)
        return columns[:, :JOINTS]

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _step_s(self) -> float:
        return float(self.model.opt.timestep)

    def _motor_torque(self) -> Array:
        """Torques [7] that moved the joints through the newest physics step, gravity compensation included, Nm.

        MuJoCo tells those at the step's beginning; its implicit integration takes the servos' damping at the end.
        """
        model, data = self.model, self.data
        torque = data.qfrc_actuator[:JOINTS].copy()
        if model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST:
            faster = data.qvel[:JOINTS] - data.actuator_velocity[:JOINTS]
            bound = model.jnt_actfrcrange[:JOINTS]
            torque = np.clip(torque + model.actuator_biasprm[:JOINTS, 2] * faster, bound[:, 0], bound[:, 1])
        return torque

    def _run(self, controls: Array, targets_rad: Array) -> None:
        """Step the physics through actuator inputs [K, 9] and the joint positions [K, 7] that they aim at."""
        model, data = self.model, self.data
        bound = self.scene.arm.error_rad
        strained = (np.abs(targets_rad[0] - data.qpos[:JOINTS]) > bound / 2).any()
        for row, target in zip(controls, targets_rad):
            if strained:
                error = target - data.qpos[:JOINTS]
                row[:JOINTS] -= error - np.clip(error, -bound, bound)
            data.ctrl[:OWN] = row
            mujoco.mj_step(model, data)

    def _controls(self, times_s: Array) -> tuple[Array, Array]:
        """Actuator inputs [K, 9] at `times_s` [K], and the model's joint positions [K, 7] that they aim at.

        The mass matrix is taken once, at the first of the times.
        """
        arm = self.scene.arm
        q, dq, ddq = self._follower.sample(times_s)
        torque = arm.feed_forward(self.arm_mass(), dq, ddq)
        fingers = np.repeat(self._hand.widths(times_s)[:, None] / 2, FINGERS, axis=1)
        return np.concatenate([arm.controls(q, dq, torque), fingers], axis=1), q - arm.zero_rad

    def _mode(self) -> RobotMode:
        if self._stopped:
            return RobotMode.USER_STOPPED
        return RobotMode.MOVE if self.now_s() < self._follower.end_s else RobotMode.IDLE

    def _check_sane(self) -> None:
        speeds = np.nan_to_num(np.abs(self.data.qvel), nan=np.inf)
        worst = int(np.argmax(speeds))
        if not np.isfinite(self.data.qpos).all() or speeds[worst] > SPEED_BOUND:
            name = self.model.joint(self.model.dof_jntid[worst]).name
            raise SimulationError(
                f"the simulation diverged at {self.now_s():.3f} s: joint {name} at {speeds[worst]:.3g} rad/s or m/s "
                f"(bound {SPEED_BOUND:g}); reset it, and look at the commands before this time"
            )


def kitchen_twin(domain: Domain, limits: RobotLimits, arm: str = "panda") -> Twin:
    """Registered as `kitchen`.

    Raises:
        SpecError: the domain's channels are not this scene's, or the robot is not its arm.
    """
    twin = Twin(arm)
    if domain.observation != twin.domain.observation:
        raise SpecError(f"the kitchen's twin can't simulate domain {domain.named}: its channels are not this scene's")
    if limits.digest != twin.limits.digest:
        raise SpecError(
            f"the kitchen's twin simulates robot {twin.limits.named}, not {limits.named}: whoever listens to it would "
            "judge one by the other's limits; name its robot, and a driver that drives it (driver:=twin)"
        )
    twin.domain, twin.starts = domain, domain.starts
    return twin


def kitchen_twin_with_its_own_arm(domain: Domain, limits: RobotLimits) -> Twin:
    """Registered as `kitchen_own_arm`: the arm that ships with the scene, weak servos and all; to compare with."""
    return kitchen_twin(domain, limits, "kitchen")


def scene_twin(name_or_path: str, domain: Domain, limits: RobotLimits, starts: Starts | None = None) -> Twin:
    """The twin of a scene file, found by its name or path.

    Raises:
        SpecError: no such file, or something is wrong with it, in words (scenes.described).
    """
    room = Room(file=load_scene_file(name_or_path), domain=domain, limits=limits)
    return Twin(starts=starts, domain=domain, limits=limits, build=room)
