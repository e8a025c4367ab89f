"""FrankaKitchen's arm, logged and identified: a part of sim_to_sim.py. Units rad, s, Nm; joint vectors [7]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from skimo_calibration.dynamics.estimates import Estimate
from skimo_calibration.dynamics.excitation import ExcitationConfig, Motion, find_series
from skimo_calibration.dynamics.log_csv import write_csv
from skimo_calibration.dynamics.logs import JointLog, checked
from skimo_calibration.dynamics.plant_fit import (
    ArmDynamics,
    Carried,
    Links,
    PlantFit,
    fit_plant,
    torque_errors,
)
from skimo_calibration.dynamics.servo_fit import ServoFit, fit_servo
from skimo_calibration.dynamics.signals import prepare
from skimo_calibration.dynamics.sysid import TRANSIENT_S, Arm, identify
from skimo_calibration.twin.twin_arm import Noise, links_of, plant_of, replay, shipped_arm
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS, Array, JointCommand, JointTrajectory
from skimo_core.control.travel import EVERY_S, piece
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.safety.gate import Gate
from skimo_core.safety.gated import GatedBackend
from skimo_sim.franka_kitchen import ZERO_RAD, FrankaKitchen
from skimo_sim.servo import Compensated, Driver, ServoTwin, by_position, by_velocity, sampled

PERIOD_S, REACH_RAD = 0.08, 0.16
"""Of the environment: how long it holds a position, and how far that may lie from where the arm was seen."""
RANGE_RAD = (
    np.array([-2.9, -1.8, -2.9, -3.1, -2.9, 0.0, -2.9]) + ZERO_RAD,
    np.array([2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9]) + ZERO_RAD,
)
"""And within what range, as its configuration says: joint 6 no lower than pi/2, in Franka's convention."""
JOINT_6, JOINT_6_MIN_RAD, JOINT_6_CENTRE_RAD = 5, 1.5, 2.4
"""An excitation goes no lower than what the environment holds joint 6 at."""
EXCITATION = ExcitationConfig(
    velocity_share=0.2, acceleration_share=0.2, tries=100, clearance_m=0.06, self_clearance_m=0.02
)
"""Slow and far from everything: this arm lies behind by up to 0.1 rad."""
NO_KV = 1e-3


# --- a log ------------------------------------------------------------------------------------------------------------


def record(seed: int, limits: RobotLimits, driver: Driver = sampled) -> tuple[JointLog, dict[str, int]]:
    """An exciting motion there, logged at each of its physics steps, and what the gate said of its pieces."""
    rng, cell = np.random.default_rng(seed), load_cell("kitchen")
    low, centre = limits.q_min_rad.copy(), limits.home_q_rad.copy()
    low[JOINT_6], centre[JOINT_6] = JOINT_6_MIN_RAD, JOINT_6_CENTRE_RAD
    series, _ = find_series(replace(limits, q_min_rad=low), cell, centre, EXCITATION, rng)
    kitchen = FrankaKitchen(load_domain(), limits, driver)
    motion = Motion(limits, kitchen.read().q_rad, series, EXCITATION)
    said: dict[str, int] = {}

    def hear(decision: Any) -> None:
        said[decision.verdict.name] = said.get(decision.verdict.name, 0) + 1

    arm, rows = GatedBackend(kitchen, Gate(limits, cell=cell), hear), []
    arm.reset()
    mujoco.set_mjcb_control(lambda _, data: rows.append(_row(data)))  # looks on; nothing is written
    try:
        while (now_s := arm.now_s()) < motion.end_s:
            arm.write(JointCommand(trajectory=piece(motion, now_s, limits)))
            arm.advance(EVERY_S)
    finally:
        mujoco.set_mjcb_control(None)
    return _logged(np.array(rows), motion, f"franka_kitchen_{seed}.csv", rng), said


def _row(data: Any) -> Array:
    """Time, positions, velocities and, of the step before, the motors' torques."""
    return np.concatenate([[data.time], data.qpos[:JOINTS], data.qvel[:JOINTS], data.qfrc_actuator[:JOINTS]])


def _logged(rows: Array, motion: Motion, name: str, rng: np.random.Generator) -> JointLog:
    """The exciting part as sensors tell it, which are as noisy as a Panda's, with the reference that was sent."""
    q, dq, tau = (rows[:, 1 + JOINTS * k : 1 + JOINTS * (k + 1)] for k in range(3))
    t, tau = rows[:-1, 0], tau[1:]
    on, noise = (t >= motion.excites_s) & (t <= motion.end_s), Noise()
    desired = motion.sample(t[on])
    values = (q[:-1] + ZERO_RAD, noise.q_rad), (dq[:-1], noise.dq_rad_s), (tau, noise.tau_nm)
    q, dq, tau = (v[on] + sigma * rng.standard_normal(v[on].shape) for v, sigma in values)
    return JointLog(
        name=name, digest="", t_s=t[on] - t[on][0], q_rad=q, dq_rad_s=dq, tau_nm=tau,
        q_desired_rad=desired[0], dq_desired_rad_s=desired[1],
    )  # fmt: skip


# --- identification ---------------------------------------------------------------------------------------------------


class Weightless:
    """Links that weigh nothing: a servo that nobody helps owes their weight to its error alone."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def torque(self, q_rad: Array, dq_rad_s: Array, ddq_rad_s2: Array) -> Array:
        still = np.zeros_like(q_rad)
        return self._links.torque(q_rad, dq_rad_s, ddq_rad_s2) - self._links.torque(q_rad, still, still)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The environment's arm, identified."""

    plant: PlantFit
    servo: ServoFit
    arm: Arm


def as_a_servo(fitted: Sequence[JointLog], limits: RobotLimits, links: Links, seed: int) -> Found:
    """Identify it as `identify` does, but its weight held by nobody, and where the log doesn't tell kv, without any."""
    rng, pieces, shipped = np.random.default_rng(seed), [prepare(log) for log in fitted], shipped_arm()
    plant = fit_plant(pieces, links, limits, shipped.dynamics, rng)
    servo = fit_servo(pieces, Weightless(links), limits, plant.dynamics.lag_s, (shipped.kp, shipped.kv), rng)
    assert servo is not None, "the log holds its reference"
    gains = {e.name: e.value for e in servo.estimates if e.kind.name == "kp"}
    kp = np.array([gains[f"kp joint {j + 1}"] for j in range(JOINTS)])
    arm = Arm(dynamics=plant.dynamics, kp=kp, kv=np.full(JOINTS, NO_KV), late_s=servo.late_s)
    return Found(plant=plant, servo=servo, arm=arm)


def servo_twin(arm: Arm, driver: Driver) -> ServoTwin:
    """Our twin with that arm, held by its servos alone."""
    return ServoTwin(
        load_domain(), load_limits(), plant_of(arm), driver,
        offset_nm=arm.dynamics.offset_nm, period_s=PERIOD_S, reach_rad=REACH_RAD, range_rad=RANGE_RAD,
    )  # fmt: skip


def follow(twin: ServoTwin, log: JointLog) -> Array:
    """[K, 7] where that twin's joints are at the log's times, sent the log's reference; nothing touches it then."""
    assert log.q_desired_rad is not None and log.dq_desired_rad_s is not None
    twin.reset()
    twin.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    qpos, qvel = twin.data.qpos.copy(), np.zeros(twin.model.nv)
    qpos[:JOINTS], qvel[:JOINTS] = log.q_rad[0], log.dq_rad_s[0]
    twin.set_state(qpos, qvel)
    every = slice(5, None, 5)
    dq = log.dq_desired_rad_s[every].copy()
    ddq = np.gradient(log.dq_desired_rad_s, log.t_s, axis=0)[every]
    dq[-1] = ddq[-1] = 0.0
    told = JointTrajectory(
        start_s=twin.now_s(), times_s=log.t_s[every], q_rad=log.q_desired_rad[every], dq_rad_s=dq, ddq_rad_s2=ddq
    )
    twin.write(JointCommand(trajectory=told))
    there = np.empty_like(log.q_rad)
    for k, time_s in enumerate(log.t_s):
        twin.advance(time_s - twin.now_s())
        there[k] = twin.read().q_rad
    return there


def joint_errors(logs: Sequence[JointLog], follows: Callable[[JointLog], Array]) -> list[float]:
    """[7] root mean square errors of where an arm is said to be, rad."""
    left = [(follows(log) - log.q_rad)[log.t_s - log.t_s[0] > TRANSIENT_S] for log in logs]
    return [float(v) for v in np.sqrt((np.concatenate(left) ** 2).mean(axis=0))]


def as_shipped(fitted: Sequence[JointLog], held: Sequence[JointLog], limits: RobotLimits, seed: int) -> dict[str, Any]:
    """What `skimo calibrate sysid` says, with the hand and without it."""
    said = {}
    for hand in (True, False):
        try:
            found = identify(
                fitted, held, limits, links_of(limits, hand=hand), shipped_arm(), np.random.default_rng(seed),
                replay=lambda log, arm: replay(log, limits, arm),
            )  # fmt: skip
        except SpecError as error:
            said["hand" if hand else "no hand"] = {"refused": str(error)}
            continue
        assert found.after.joint_rad is not None and found.before.joint_rad is not None
        said["hand" if hand else "no hand"] = {
            "estimates": [_plain(e) for e in found.estimates],
            "torque_share_of_limit": float((found.after.torque_nm / limits.tau_max_nm).max()),
            "joint_rad": found.after.joint_rad.tolist(),
            "joint_before_rad": found.before.joint_rad.tolist(),
        }
    return said


def identified(first_seed: int, logs: Path) -> dict[str, Any]:
    """The section of the results; the logs are left in the folder `logs`."""
    limits = load_limits()
    links = links_of(limits, hand=False)
    (first, said), (second, heard) = (record(first_seed + k, limits) for k in range(2))
    for log in (first, second):
        write_csv(logs / log.name, log)
    fitted, held = checked(first, limits), checked(second, limits)
    found = as_a_servo(fitted, limits, links, first_seed)
    torque = np.concatenate([torque_errors(prepare(log), links, limits, found.arm.dynamics) for log in held])
    return {
        "logs": {log.name: {"s": log.duration_s, "hz": log.rate_hz} for log in (first, second)},
        "gate": [said, heard],
        "tracking_rad": tracking(found.arm, first_seed + 1, limits),
        "as_shipped": as_shipped(fitted, held, limits, first_seed),
        "estimates": [_plain(e) for e in (*found.plant.estimates, *found.servo.estimates)],
        "held_out_torque_nm": _rms(torque),
        "held_out_joint_rad": foreseen(found.arm, held, limits),
        "arm": written(found.arm),
    }


def tracking(arm: Arm, seed: int, limits: RobotLimits) -> dict[str, list[float]]:
    """How far the environment's arm lies from its reference in a motion, by what follows that."""
    found = {}
    for name in ("position", "compensated"):
        log, _ = record(seed, limits, drivers(arm)[name])
        assert log.q_desired_rad is not None
        found[name] = _rms(log.q_rad - log.q_desired_rad)
    return found


def foreseen(arm: Arm, held: Sequence[JointLog], limits: RobotLimits) -> dict[str, list[float]]:
    """Joint errors on what was held out, of our twin with several arms."""
    shipped = shipped_arm()
    late = replace(shipped, late_s=arm.late_s)
    twins: dict[str, Callable[[JointLog], Array]] = {
        "our arm": lambda log: replay(log, limits, shipped),
        "our arm, as late": lambda log: replay(log, limits, late),
        "identified, helped as ours": lambda log: replay(log, limits, arm),
        "identified": partial(follow, servo_twin(arm, sampled)),
    }
    return {name: joint_errors(held, follows) for name, follows in twins.items()}


def written(arm: Arm) -> dict[str, Any]:
    """An arm as plain data; `read_arm` reads it."""
    dynamics, load = arm.dynamics, arm.dynamics.payload
    return {
        "kp": arm.kp.tolist(),
        "late_s": arm.late_s,
        "friction_nm": dynamics.friction_nm.tolist(),
        "damping_nm_s": dynamics.damping_nm_s.tolist(),
        "armature_kg_m2": dynamics.armature_kg_m2.tolist(),
        "offset_nm": dynamics.offset_nm.tolist(),
        "payload_kg": 0.0 if load is None else load.mass_kg,
        "payload_centre_m": [0.0] * 3 if load is None else load.centre_m.tolist(),
    }


def _plain(e: Estimate) -> dict[str, Any]:
    return {"name": e.name, "unit": e.kind.unit, "value": e.value, "low": e.low, "high": e.high, "why_not": e.why_not}


def _rms(values: Array) -> list[float]:
    return [float(v) for v in np.sqrt((values**2).mean(axis=0))]


def read_arm(data: dict[str, Any]) -> Arm:
    """The arm that a section of the results holds."""
    payload = Carried(mass_kg=data["payload_kg"], centre_m=np.array(data["payload_centre_m"]))
    dynamics = ArmDynamics(
        friction_nm=np.array(data["friction_nm"]),
        damping_nm_s=np.array(data["damping_nm_s"]),
        armature_kg_m2=np.array(data["armature_kg_m2"]),
        offset_nm=np.array(data["offset_nm"]),
        payload=payload if payload.mass_kg > 0 else None,
    )
    return Arm(dynamics=dynamics, kp=np.array(data["kp"]), kv=np.full(JOINTS, NO_KV), late_s=data["late_s"])


def drivers(arm: Arm | None) -> dict[str, Driver]:
    """How a reference is followed, by name; without an arm that was identified nothing is made up for."""
    plain_ones: dict[str, Driver] = {"velocity": by_velocity, "position": by_position}
    return plain_ones if arm is None else {**plain_ones, "compensated": compensated(arm)}


def compensated(arm: Arm) -> Compensated:
    """A driver that makes up for the lag and the weight of that arm."""
    limits = load_limits()
    links, dynamics = links_of(limits, hand=False), arm.dynamics
    own = replace(dynamics, friction_nm=np.zeros(JOINTS))

    def weight_nm(q_rad: Array) -> Array:
        one, still = q_rad[None], np.zeros((1, JOINTS))
        return (links.torque(one, still, still) + own.torque(limits, one, still, still))[0]

    return Compensated(kp=arm.kp, damping_nm_s=dynamics.damping_nm_s, weight_nm=weight_nm)
