"""The twin's arm for identification: its links' inverse dynamics, a plant of it that is drawn, motions and replays.

Needs skimo_sim, which is imported when a function is called; nothing else of identification does. The plant is what the
arm does; its controller goes on believing in the arm that ships (skimo_sim.twin.Twin.become).
Units rad, s, Nm, kg, m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.contract.types import JOINTS, Array, JointCommand, JointTrajectory, Verdict
from skimo_core.control.braking import braking_trajectory
from skimo_core.control.travel import EVERY_S, piece
from skimo_core.domain.cell import Cell
from skimo_core.domain.robot import RobotLimits
from skimo_core.domain.starts import Starts
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend

from ..dynamics.excitation import Motion
from ..dynamics.logs import JointLog
from ..dynamics.plant_fit import ArmDynamics, Carried
from ..dynamics.sysid import Arm

ROBOT = "panda"
SAMPLE_S = 0.002
WRIST_DAMPING, WRIST_ARMATURE = np.repeat([1.0, 0.4], [4, 3]), np.repeat([1.0, 0.5], [4, 3])
KNOT_S = 0.01
"""Between the points of a replayed reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Standard deviations of what sensors add, white: rad, rad/s, Nm.

    Velocities' and torques' are about what a Panda's log at 1 kHz (published with Gaz et al. 2019) holds above 150 Hz.
    """

    q_rad: float = 2e-5
    dq_rad_s: float = 3e-3
    tau_nm: float = 0.08


class LinkModel:
    """Inverse dynamics of the arm's links: no friction, no rotors, nothing at the flange but the hand.

    Args:
        hand: whether the flange bears the Franka hand.

    Raises:
        SetupError: the simulator is not installed.
    """

    def __init__(self, *, hand: bool = True) -> None:
        _need_sim()
        from skimo_sim.scenes.assets import PANDA_XML, kitchen_root
        from skimo_sim.scenes.physics import mujoco

        spec = mujoco.MjSpec.from_file(str(PANDA_XML))
        spec.meshdir = str(kitchen_root() / "franka_assets" / "meshes")
        spec.compiler.discardvisual = True
        if not hand:
            spec.delete(spec.body("panda_hand"))
        self._mujoco: Any = mujoco
        model = self._model = spec.compile()
        model.body_gravcomp[:] = 0.0
        model.dof_damping[:] = model.dof_armature[:] = 0.0
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
        self._data = mujoco.MjData(model)

    def torque(self, q_rad: Array, dq_rad_s: Array, ddq_rad_s2: Array) -> Array:
        """Torques [K, 7] that move the links so, gravity included."""
        model, data = self._model, self._data
        torque = np.empty_like(q_rad)
        for k, (q, dq, ddq) in enumerate(zip(q_rad, dq_rad_s, ddq_rad_s2)):
            data.qpos[:JOINTS], data.qvel[:JOINTS], data.qacc[:JOINTS] = q, dq, ddq
            self._mujoco.mj_inverse(model, data)
            torque[k] = data.qfrc_inverse[:JOINTS]
        return torque


def links_of(limits: RobotLimits, *, hand: bool) -> LinkModel:
    """The links of a robot.

    Raises:
        SpecError: there is no model of its links.
    """
    if limits.name != ROBOT:
        raise SpecError(
            f"the links' inertias of a {limits.name} are not known here; only a {ROBOT}'s are (skimo_sim's panda.xml)"
        )
    return LinkModel(hand=hand)


# --- plants -----------------------------------------------------------------------------------------------------------


def shipped_arm() -> Arm:
    """The twin's arm as it ships."""
    from skimo_sim.scenes.kitchen import build_kitchen

    _need_sim()
    scene = build_kitchen()
    model = scene.model
    dynamics = ArmDynamics(
        friction_nm=model.dof_frictionloss[:JOINTS].copy(),
        damping_nm_s=model.dof_damping[:JOINTS].copy(),
        armature_kg_m2=model.dof_armature[:JOINTS].copy(),
        offset_nm=np.zeros(JOINTS),
    )
    return Arm(dynamics=dynamics, kp=scene.arm.kp, kv=scene.arm.kv)


def plant_of(arm: Arm) -> Any:
    """An arm as the twin takes it: a skimo_sim.scenes.dynamics.Plant."""
    from skimo_sim.scenes import dynamics as scene

    dynamics, load = arm.dynamics, None
    if (carried := dynamics.payload) is not None:
        load = scene.Load(mass_kg=carried.mass_kg, centre_m=carried.centre_m, inertia_kg_m2=carried.inertia_kg_m2)
    return scene.Plant(
        friction_nm=dynamics.friction_nm,
        damping_nm_s=dynamics.damping_nm_s,
        armature_kg_m2=dynamics.armature_kg_m2,
        kp=arm.kp,
        kv=arm.kv,
        payload=load,
    )


def start_rad() -> Array:
    """[7] where the twin's arm stands at the start that the papers have."""
    return _twin().read().q_rad


def drawn_arm(rng: np.random.Generator) -> Arm:
    """An arm disturbed at random: friction, rotors, gains, a payload that its controller knows nothing of, a delay."""
    shipped = shipped_arm()
    mass_kg, half_m = rng.uniform(0.2, 1.5), rng.uniform(0.01, 0.04, 3)
    square = half_m**2
    payload = Carried(
        mass_kg=mass_kg,
        centre_m=rng.uniform((-0.05, -0.05, 0.0), (0.05, 0.05, 0.12)),
        inertia_kg_m2=mass_kg / 3 * np.diag(square.sum() - square),
    )
    dynamics = ArmDynamics(
        friction_nm=shipped.dynamics.friction_nm * rng.uniform(0.5, 2.5, JOINTS),
        damping_nm_s=rng.uniform(0.2, 1.5, JOINTS) * WRIST_DAMPING,
        armature_kg_m2=rng.uniform(0.02, 0.25, JOINTS) * WRIST_ARMATURE,
        offset_nm=np.zeros(JOINTS),
        payload=payload,
    )
    return Arm(
        dynamics=dynamics,
        kp=shipped.kp * rng.uniform(0.5, 1.5, JOINTS),
        kv=shipped.kv * rng.uniform(0.6, 1.5, JOINTS),
        late_s=float(rng.uniform(0.0, 0.04)),
    )


# --- motions and replays ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A motion on the twin.

    Attributes:
        log: of all of it, by the twin's sensors.
        decisions: what the gate said of each piece.
    """

    log: JointLog
    decisions: tuple[Decision, ...]


def play(
    motion: Motion,
    limits: RobotLimits,
    cell: Cell,
    *,
    arm: Arm | None = None,
    noise: Noise | None = None,
    rng: np.random.Generator | None = None,
    name: str = "twin",
) -> Played:
    """Send a motion through the gate to the twin, piece by piece, and log its joints at 500 Hz.

    Args:
        arm: which; None: as it ships.
        noise: of its sensors; `rng` draws it.

    Raises:
        BackendError: the gate stopped the arm.
    """
    twin = _twin()
    if arm is not None:
        twin.become(plant_of(arm))
    _put(twin, motion.sample(np.array([motion.start_s]))[0][0])
    rows: list[Array] = []
    said: list[Decision] = []
    late: Any = _LateArm(twin, 0.0 if arm is None else arm.late_s, lambda: rows.append(_row(twin)))
    gated = GatedBackend(late, Gate(limits, cell=cell), said.append)
    gated.gate.resync(gated.read(), gated.now_s())
    while (now_s := gated.now_s()) < motion.end_s:
        gated.write(JointCommand(trajectory=piece(motion, now_s, limits)))
        gated.advance(EVERY_S)
    judged = tuple(d for d in said if d.command is not None or d.verdict is not Verdict.PASS)
    return Played(log=_logged(np.array(rows), motion, noise, rng, name), decisions=judged)


def replay(log: JointLog, limits: RobotLimits, arm: Arm) -> Array:
    """Where that arm's joints are [K, J] at the log's times when it is sent the log's reference from its begin on.

    Nothing stands in the way: a log may come from any cell.

    Raises:
        SpecError: the log holds no reference.
    """
    if log.q_desired_rad is None:
        raise SpecError(f"{log.name}: holds no reference to replay")
    from skimo_sim.scenes.physics import mujoco

    twin = _twin()
    twin.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    twin.become(plant_of(arm))
    _put(twin, log.q_rad[0], log.dq_rad_s[0])
    twin.write(JointCommand(trajectory=_reference(log, limits, arm.late_s)))
    there = np.empty_like(log.q_rad)
    for k, time_s in enumerate(log.t_s - log.t_s[0]):
        twin.advance(time_s - twin.now_s())
        there[k] = twin.read().q_rad
    return there


def _reference(log: JointLog, limits: RobotLimits, late_s: float) -> JointTrajectory:
    """The log's reference as one trajectory from time 0 on, so much later, that ends at rest."""
    assert log.q_desired_rad is not None
    t_s = log.t_s - log.t_s[0]
    knots_s = np.arange(KNOT_S, t_s[-1], KNOT_S)
    q = _resampled(knots_s, t_s, log.q_desired_rad)
    dq_t = np.gradient(log.q_desired_rad, t_s, axis=0) if log.dq_desired_rad_s is None else log.dq_desired_rad_s
    dq, ddq = _resampled(knots_s, t_s, dq_t), _resampled(knots_s, t_s, np.gradient(dq_t, t_s, axis=0))
    brake = braking_trajectory((q[-1], dq[-1], ddq[-1]), 0.0, limits.ddq_max_rad_s2, limits.dddq_max_rad_s3)
    if brake is not None:
        knots_s = np.append(knots_s, knots_s[-1] + brake.times_s)
        q, dq, ddq = (
            np.concatenate(parts) for parts in ((q, brake.q_rad), (dq, brake.dq_rad_s), (ddq, brake.ddq_rad_s2))
        )
    dq[-1] = ddq[-1] = 0.0
    return JointTrajectory(start_s=late_s, times_s=knots_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=ddq)


def _resampled(at_s: Array, t_s: Array, values: Array) -> Array:
    return np.stack([np.interp(at_s, t_s, column) for column in values.T], axis=1)


class _LateArm:
    """A twin that does everything so much later than it is told, and is looked at after each sample."""

    def __init__(self, twin: Any, late_s: float, watch: Callable[[], None]) -> None:
        self._twin, self._late_s, self._watch = twin, late_s, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._twin, name)

    def write(self, command: JointCommand) -> None:
        told = command.trajectory
        self._twin.write(JointCommand(trajectory=replace(told, start_s=told.start_s + self._late_s)))

    def advance(self, dt_s: float) -> None:
        for _ in range(round(dt_s / SAMPLE_S)):
            self._twin.advance(SAMPLE_S)
            self._watch()


def _row(twin: Any) -> Array:
    state = twin.read()
    return np.concatenate([[state.stamp_s], state.q_rad, state.dq_rad_s, state.tau_nm])


def _logged(rows: Array, motion: Motion, noise: Noise | None, rng: np.random.Generator | None, name: str) -> JointLog:
    """The samples as a log, with the reference as it was sent."""
    times_s = rows[:, 0]
    q, dq, tau = (rows[:, 1 + JOINTS * k : 1 + JOINTS * (k + 1)] for k in range(3))
    if noise is not None and rng is not None:
        sigmas = ((q, noise.q_rad), (dq, noise.dq_rad_s), (tau, noise.tau_nm))
        q, dq, tau = (values + sigma * rng.standard_normal(values.shape) for values, sigma in sigmas)
    desired = motion.sample(times_s)
    return JointLog(
        name=name,
        digest="",
        t_s=times_s - times_s[0],
        q_rad=q,
        dq_rad_s=dq,
        tau_nm=tau,
        q_desired_rad=desired[0],
        dq_desired_rad_s=desired[1],
    )


def _put(twin: Any, q_rad: Array, dq_rad_s: Array | None = None) -> None:
    """Put the arm there, at that speed; objects stay."""
    qpos, qvel = twin.data.qpos.copy(), np.zeros(twin.model.nv)
    qpos[:JOINTS] = q_rad
    qvel[:JOINTS] = 0.0 if dq_rad_s is None else dq_rad_s
    twin.set_state(qpos, qvel)


def _twin() -> Any:
    """A twin at the one start that the papers have."""
    _need_sim()
    from skimo_sim import twin

    return twin.Twin(starts=Starts())


def _need_sim() -> None:
    try:
        import skimo_sim.scenes.physics  # noqa: F401
    except ImportError as error:
        raise SetupError(f"the twin is not installed ({error}); pip install skimo_calibration[twin]") from error
