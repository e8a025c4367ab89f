"""System identification of an arm from joint logs: fit on most of them, judged on what was held out.

What the fit says of itself is worth little; what counts is the torque that its model foresees for motions that it has
not seen, and where a simulated arm ends up that is sent the same reference. Both are told before and after: with the
arm as it ships, and as identified. Units Nm, rad, s, kg, m.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import Dynamics, Made, Payload
from skimo_core.domain.robot import RobotLimits

from .estimates import CENTRE, MASS, Estimate
from .logs import PIECE_S, JointLog
from .plant_fit import ArmDynamics, Links, PlantFit, fit_plant, torque_errors
from .servo_fit import ServoFit, fit_servo
from .signals import prepare

HOLD_OUT_SHARE = 0.25
TRANSIENT_S = 0.5
"""A replay begins where the log does; how it gets into its stride doesn't count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """An arm as a model takes it.

    Attributes:
        dynamics: friction, rotors, payload.
        kp, kv: [J] of its servos.
        late_s: how much later than told it acts.
    """

    dynamics: ArmDynamics
    kp: Array
    kv: Array
    late_s: float = 0.0


Replay = Callable[[JointLog, Arm], Array]
"""Where that arm's joints are [K, J] at a log's times when it is sent the log's reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Root mean square errors on what was held out, each [J].

    Attributes:
        torque_nm: of the torques that the model foresees.
        joint_rad: of the joints of the simulated arm; None: the logs hold no reference.
    """

    torque_nm: Array
    joint_rad: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """An arm, identified.

    Attributes:
        robot: name of the robot model.
        logs: names of the files, each with its SHA-256.
        plant, servo: what was fitted; no servo where the logs hold no reference.
        arm: as a model takes it.
        before, after: errors on what was held out, of the arm as it ships and of this one.
        fitted_s, held_out_s: how much log was fitted, and held out.
    """

    robot: str
    logs: tuple[tuple[str, str], ...]
    plant: PlantFit
    servo: ServoFit | None
    arm: Arm
    before: Errors
    after: Errors
    fitted_s: float
    held_out_s: float

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """All of them."""
        return self.plant.estimates + (self.servo.estimates if self.servo is not None else ())

    @property
    def torque_gain(self) -> float:
        """How many times smaller the hold-out torque error is after than before, all joints together."""
        return _ratio(self.before.torque_nm, self.after.torque_nm)

    @property
    def joint_gain(self) -> float | None:
        """The same of the joint error; None: no reference."""
        if self.before.joint_rad is None or self.after.joint_rad is None:
            return None
        return _ratio(self.before.joint_rad, self.after.joint_rad)


def identify(
    fitted: Sequence[JointLog],
    held_out: Sequence[JointLog],
    limits: RobotLimits,
    links: Links,
    shipped: Arm,
    rng: np.random.Generator,
    *,
    payload: bool = True,
    replay: Replay | None = None,
) -> Identified:
    """Identify an arm.

    Args:
        fitted, held_out: pieces of log (`logs.checked`), apart.
        links: what is known of it.
        shipped: the arm as it ships, for what the logs don't tell, and to compare with.
        rng: draws the bootstrap's blocks.
        payload: whether the flange may carry something.
        replay: simulates an arm; None: joint errors are left out.

    Raises:
        SpecError: too little log, or one that contradicts the links (see `fit_plant`).
    """
    if not fitted or not held_out:
        raise SpecError(
            f"{len(fitted)} pieces of log to fit and {len(held_out)} to hold out; give at least "
            f"{PIECE_S / HOLD_OUT_SHARE:g} s of log, or name logs to hold out (--hold-out)"
        )
    pieces = [prepare(log) for log in fitted]
    plant = fit_plant(pieces, links, limits, shipped.dynamics, rng, payload=payload)
    servo = fit_servo(pieces, links, limits, plant.dynamics.lag_s, (shipped.kp, shipped.kv), rng)
    gains = (shipped.kp, shipped.kv) if servo is None else (servo.kp, servo.kv)
    late_s = 0.0 if servo is None else servo.late_s
    arm = Arm(dynamics=plant.dynamics, kp=gains[0], kv=gains[1], late_s=late_s)
    return Identified(
        robot=limits.name,
        logs=tuple(dict.fromkeys((log.name, log.digest) for log in (*fitted, *held_out))),
        plant=plant,
        servo=servo,
        arm=arm,
        before=_errors(held_out, links, limits, shipped, replay),
        after=_errors(held_out, links, limits, arm, replay),
        fitted_s=sum(log.duration_s for log in fitted),
        held_out_s=sum(log.duration_s for log in held_out),
    )


def split(pieces: Sequence[JointLog], share: float = HOLD_OUT_SHARE) -> tuple[list[JointLog], list[JointLog]]:
    """Each piece's first part to fit and its last `share` to hold out; pieces too short for that are fitted whole."""
    fitted, held_out = [], []
    for piece in pieces:
        cut = int(len(piece.t_s) * (1 - share))
        if piece.duration_s * share < PIECE_S:
            fitted.append(piece)
            continue
        fitted.append(piece.part(slice(None, cut)))
        held_out.append(piece.part(slice(cut, None)))
    return fitted, held_out


def as_rig(found: Identified, made: Made) -> tuple[Dynamics, Payload | None]:
    """The entries that a rig file holds of it: friction and rotors, the payload.

    What the logs don't tell is as the arm ships, its sigma as wide as the logs leave it; a payload that they don't tell
    is left out. So is the delay: it is how far the arm lies behind the reference that it has, and a rig's `command` how
    long a command is on its way (`latency`).
    """
    dynamics, joints = found.arm.dynamics, len(found.arm.kp)
    sigma = np.array([e.sigma for e in found.plant.estimates[: 4 * joints]]).reshape(joints, 4)
    of_joints = Dynamics(
        friction_nm=dynamics.friction_nm,
        damping_nm_s=dynamics.damping_nm_s,
        armature_kg_m2=dynamics.armature_kg_m2,
        sigma_friction_nm=sigma[:, 0],
        sigma_damping_nm_s=sigma[:, 1],
        sigma_armature_kg_m2=sigma[:, 2],
        made=made,
    )
    by_kind = {e.kind.name: e for e in found.estimates}
    carried, payload = dynamics.payload, None
    if carried is not None and by_kind[MASS.name].identifiable:
        centre = [e.sigma for e in found.estimates if e.kind is CENTRE]
        payload = Payload(
            mass_kg=carried.mass_kg,
            centre_m=carried.centre_m,
            sigma_kg=by_kind[MASS.name].sigma,
            sigma_m=float(np.linalg.norm(centre)),
            made=made,
        )
    return of_joints, payload


def _errors(held_out: Sequence[JointLog], links: Links, limits: RobotLimits, arm: Arm, replay: Replay | None) -> Errors:
    torque = np.concatenate([torque_errors(prepare(log), links, limits, arm.dynamics) for log in held_out])
    if replay is None or any(log.q_desired_rad is None for log in held_out):
        return Errors(torque_nm=_rms(torque))
    joint = [(replay(log, arm) - log.q_rad)[log.t_s - log.t_s[0] > TRANSIENT_S] for log in held_out]
    return Errors(torque_nm=_rms(torque), joint_rad=_rms(np.concatenate(joint)))


def _rms(values: Array) -> Array:
    return np.sqrt((values**2).mean(axis=0))


def _ratio(before: Array, after: Array) -> float:
    return float(np.linalg.norm(before) / max(float(np.linalg.norm(after)), 1e-12))
