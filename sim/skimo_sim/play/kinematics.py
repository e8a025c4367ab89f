"""Where the arm's fingertips are, and which joint velocities move them: damped 6-D differential inverse kinematics.

Promises
  - Works on its own copy of the arm (assets/panda.xml) mounted as in the scene; it never touches a twin's state.
  - `joint_velocity` tracks a fingertip twist, spends the redundancy on a posture, and keeps away from joint limits.

Frames: world; the fingertip frame's z is the way the hand points, y the way the fingers open. Units m, rad, s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skimo_core.contract.types import JOINTS, Array
from skimo_core.domain.robot import RobotLimits

from ..scenes.assets import PANDA_XML, kitchen_root
from ..scenes.physics import mujoco

FINGERTIP_M = 0.145
"""From the hand's frame to the middle of the kitchen's long fingertips, along the hand's axis."""
ELBOW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class IkConfig:
    """How a twist becomes joint velocities.

    Attributes:
        damping: of the least squares; larger is calmer near singularities.
        posture_gain_hz: how fast the redundancy goes to the posture.
        limit_margin_rad: distance from a joint limit at which motion towards it fades out.
        fold_rad: the elbow (joint 4) is folded no further: forearm and upper arm come near each other there.
        speed_max_rad_s: the fastest joint; all are slowed together, so that the path stays.
        rotation_weight: of the angular part against the linear one.
    """

    damping: float = 0.03
    posture_gain_hz: float = 1.2
    limit_margin_rad: float = 0.20
    fold_rad: float = -2.75
    speed_max_rad_s: float = 1.28
    rotation_weight: float = 0.35


class ArmKinematics:
    """The arm alone, at the place and heading of a scene's arm: a Panda, or a Research 3, whose links are as long.

    Args:
        base_m, base_quat: where its foot stands.
        fingertip_m: from the hand's frame to the middle of the fingertips, along the hand's axis.
    """

    def __init__(
        self,
        base_m: Array,
        base_quat: Array,
        limits: RobotLimits,
        config: IkConfig | None = None,
        fingertip_m: float = FINGERTIP_M,
    ) -> None:
        spec = mujoco.MjSpec.from_file(str(PANDA_XML))
        spec.meshdir = str(kitchen_root() / "franka_assets" / "meshes")
        for body in spec.bodies:
            for geom in list(body.geoms):
                spec.delete(geom)
        for mesh in list(spec.meshes):
            spec.delete(mesh)
        base = spec.body("panda_link0")
        base.pos, base.quat = base_m, base_quat
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._hand = self._model.body("panda_hand").id
        self.config, self._fingertip_m = config or IkConfig(), fingertip_m
        self._low_rad, self._high_rad = limits.q_min_rad.copy(), limits.q_max_rad
        self._low_rad[ELBOW] = max(self._low_rad[ELBOW], self.config.fold_rad)

    def fingertips(self, q_rad: Array) -> tuple[Array, Array]:
        """Position [3] and rotation matrix [3, 3] of the fingertips at joint angles [7]."""
        self._data.qpos[:JOINTS] = q_rad
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        rotation = self._data.xmat[self._hand].reshape(3, 3).copy()
        return self._data.xpos[self._hand] + rotation[:, 2] * self._fingertip_m, rotation

    def jacobian(self, q_rad: Array) -> Array:
        """[6, 7]: linear over angular velocity of the fingertips per joint velocity."""
        point, _ = self.fingertips(q_rad)
        rows = np.zeros((6, self._model.nv))
        mujoco.mj_jac(self._model, self._data, rows[:3], rows[3:], point, self._hand)
        return rows[:, :JOINTS]

    def joint_velocity(self, q_rad: Array, twist: Array, posture_rad: Array) -> Array:
        """Joint velocities [7] for a fingertip twist [6] (m/s, rad/s), rad/s."""
        config = self.config
        weight = np.r_[np.ones(3), np.full(3, config.rotation_weight)]
        jacobian = self.jacobian(q_rad) * weight[:, None]
        slow = np.ones(JOINTS)
        for _ in range(2):  # a joint that runs into its limit is taken out, and the others make up for it
            columns = jacobian * slow
            inverse = columns.T @ np.linalg.inv(columns @ columns.T + config.damping**2 * np.eye(6))
            posture = config.posture_gain_hz * (posture_rad - q_rad)
            dq = slow * (inverse @ (twist * weight - columns @ posture) + posture)
            slow = self._freedom(q_rad, dq)
        return np.asarray(dq / max(1.0, float(np.abs(dq).max()) / config.speed_max_rad_s))

    def _freedom(self, q_rad: Array, dq_rad_s: Array) -> Array:
        """[7] 1 where a joint may move as asked, falling to 0 as it nears the limit that it moves towards."""
        room = np.where(dq_rad_s > 0, self._high_rad - q_rad, q_rad - self._low_rad)
        return np.clip((room - 0.06) / self.config.limit_margin_rad, 0.0, 1.0)


def rotation_vector(target: Array, current: Array) -> Array:
    """The rotation [3] that takes `current` to `target`, both [3, 3], in world axes."""
    quat, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quat, (target @ current.T).ravel())
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


def pointing(yaw_rad: float, pitch_rad: float, roll_rad: float = 0.0) -> Array:
    """Fingertip rotation [3, 3]: into the kitchen (+y) with level fingers, then rolled, pitched and turned left.

    Pitch above 0 points upwards, roll turns the fingers about the hand's own axis.
    """
    forward = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    return _turn(2, yaw_rad) @ _turn(0, pitch_rad) @ forward @ _turn(2, roll_rad)


def _turn(axis: int, angle_rad: float) -> Array:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix
