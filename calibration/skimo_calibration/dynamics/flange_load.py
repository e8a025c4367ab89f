"""What a rigid load at the flange asks of the joints: linear in its ten inertial parameters.

Newton and Euler's equations for one body, carried along by the arm's Denavit-Hartenberg frames; no mass of the arm is
needed. Parameters in the flange's frame: m; m c (3); the inertia about the flange's origin xx yy zz xy xz yz.
Vectorised over K samples of J joints. Base frame z up; rad, m, s, kg, Nm.
"""

from __future__ import annotations

import numpy as np

from skimo_core.contract.types import Array
from skimo_core.domain.kinematics import joint_frames
from skimo_core.domain.robot import RobotLimits

GRAVITY_M_S2 = 9.81
PARAMETERS = ("m", "mx", "my", "mz", "Ixx", "Iyy", "Izz", "Ixy", "Ixz", "Iyz")
POINT = 4
"""The first so many of them are those of a mass without extent."""


def load_regressor(limits: RobotLimits, q_rad: Array, dq_rad_s: Array, ddq_rad_s2: Array) -> Array:
    """Torques [K, J, 10] that the arm's joints owe to a unit of each parameter, in motion [K, J]."""
    rotations, origins = joint_frames(limits, q_rad)
    count, joints = q_rad.shape
    omega, alpha = np.zeros((count, 3)), np.zeros((count, 3))
    pull = np.tile([0.0, 0.0, GRAVITY_M_S2], (count, 1))  # standing still in gravity is accelerating upwards
    axes = rotations[1:, :, :, 2]
    tip = origins[-1] + limits.flange_m * axes[-1]
    for joint in range(joints):
        pull += _moved(omega, alpha, origins[joint + 1] - origins[joint])
        turn = axes[joint] * dq_rad_s[:, joint, None]
        alpha = alpha + axes[joint] * ddq_rad_s2[:, joint, None] + np.cross(omega, turn)
        omega = omega + turn
    pull += _moved(omega, alpha, tip - origins[-1])
    into = rotations[-1].transpose(0, 2, 1)
    omega, alpha, pull = ((into @ v[:, :, None])[:, :, 0] for v in (omega, alpha, pull))
    wrench = np.zeros((count, 6, 10))  # force, then moment about the flange's origin, in its axes
    spin, spinning, pulling = _cross(omega), _cross(alpha), _cross(pull)
    wrench[:, :3, 0] = pull
    wrench[:, :3, 1:4] = spinning + spin @ spin
    wrench[:, 3:, 1:4] = -pulling
    wrench[:, 3:, 4:] = _inertia(alpha) + spin @ _inertia(omega)
    levers = np.cross(axes, tip - origins[1:])  # [J, K, 3] the flange's velocity for a unit of each joint's
    screws = np.concatenate([np.einsum("kij,nkj->kni", into, levers), np.einsum("kij,nkj->kni", into, axes)], axis=2)
    return screws @ wrench


def parameters(mass_kg: float, centre_m: Array, inertia_kg_m2: Array | None = None) -> Array:
    """The ten parameters of a mass with its centre [3] and its inertia [3, 3] about that."""
    about = np.zeros((3, 3)) if inertia_kg_m2 is None else inertia_kg_m2
    about = about + mass_kg * (centre_m @ centre_m * np.eye(3) - np.outer(centre_m, centre_m))
    moments = (about[0, 0], about[1, 1], about[2, 2], about[0, 1], about[0, 2], about[1, 2])
    return np.array([mass_kg, *(mass_kg * centre_m), *moments])


def inertia_about_centre(values: Array) -> Array:
    """The inertia [3, 3] about its centre of mass of a load with those ten parameters."""
    mass, first, moments = values[0], values[1:4], values[4:]
    xx, yy, zz, xy, xz, yz = moments
    about = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return about - (first @ first * np.eye(3) - np.outer(first, first)) / mass


def _moved(omega: Array, alpha: Array, arm: Array) -> Array:
    """Acceleration of a point relative to another, `arm` [K, 3] away on the same body."""
    return np.cross(alpha, arm) + np.cross(omega, np.cross(omega, arm))


def _cross(vectors: Array) -> Array:
    """[K, 3, 3] matrices that take the cross product with each of [K, 3]."""
    matrices = np.zeros((len(vectors), 3, 3))
    x, y, z = vectors.T
    matrices[:, 0, 1], matrices[:, 0, 2], matrices[:, 1, 2] = -z, y, -x
    return matrices - matrices.transpose(0, 2, 1)


def _inertia(vectors: Array) -> Array:
    """[K, 3, 6]: the inertia's six numbers' share in its product with each of [K, 3]."""
    x, y, z = vectors.T
    none = np.zeros_like(x)
    rows = ((x, none, none, y, z, none), (none, y, none, x, none, z), (none, none, z, none, x, y))
    return np.array(rows).transpose(2, 0, 1)
