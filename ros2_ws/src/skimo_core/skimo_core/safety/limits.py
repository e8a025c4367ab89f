"""A robot's limits as data: `robots/*.yaml`, loaded once, checked, with a digest that a bundle can name.

Units: rad, rad/s, rad/s2, rad/s3, Nm, m. Limits are the manufacturer's; margins and fractions belong to their users.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import yaml

from ..errors import SpecError
from ..types import JOINTS, Array


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotLimits:
    """Limits and names of one robot model; vectors are [7], joints 1..7.

    Source: the data file named in `robots/`, which cites the data sheet.
    """

    name: str
    joint_names: tuple[str, ...]
    finger_names: tuple[str, ...]
    q_min_rad: Array
    q_max_rad: Array
    dq_max_rad_s: Array
    ddq_max_rad_s2: Array
    dddq_max_rad_s3: Array
    tau_max_nm: Array
    reflex_tau_nm: Array
    cartesian_velocity_max_m_s: float
    hand_width_max_m: float
    hand_speed_m_s: float
    hand_force_n: float
    home_q_rad: Array
    dh_a_m: Array
    dh_d_m: Array
    dh_alpha_rad: Array
    flange_m: float
    tool_m: float
    workspace_low_m: Array
    workspace_high_m: Array
    digest: str


def load_limits(robot: str = "panda") -> RobotLimits:
    """Load `robots/<robot>.yaml`.

    Raises:
        SpecError: no such robot, or a vector of the wrong length or order.
    """
    source = resources.files("skimo_core").joinpath("robots", f"{robot}.yaml")
    if not source.is_file():
        raise SpecError(f"no limits for robot {robot!r}; the package ships robots/panda.yaml")
    data = yaml.safe_load(source.read_text(encoding="utf-8"))
    joints = data["joints"]
    limits = RobotLimits(
        name=data["name"],
        joint_names=tuple(data["joint_names"]),
        finger_names=tuple(data["finger_names"]),
        q_min_rad=_vector(joints, "position_min_rad"),
        q_max_rad=_vector(joints, "position_max_rad"),
        dq_max_rad_s=_vector(joints, "velocity_max_rad_s"),
        ddq_max_rad_s2=_vector(joints, "acceleration_max_rad_s2"),
        dddq_max_rad_s3=_vector(joints, "jerk_max_rad_s3"),
        tau_max_nm=_vector(joints, "torque_max_nm"),
        reflex_tau_nm=_vector(joints, "reflex_torque_nm"),
        cartesian_velocity_max_m_s=float(data["cartesian"]["velocity_max_m_s"]),
        hand_width_max_m=float(data["hand"]["width_max_m"]),
        hand_speed_m_s=float(data["hand"]["speed_m_s"]),
        hand_force_n=float(data["hand"]["force_n"]),
        home_q_rad=_vector(data, "home_q_rad"),
        dh_a_m=_vector(data["kinematics"], "a_m"),
        dh_d_m=_vector(data["kinematics"], "d_m"),
        dh_alpha_rad=_vector(data["kinematics"], "alpha_rad"),
        flange_m=float(data["kinematics"]["flange_m"]),
        tool_m=float(data["kinematics"]["tool_m"]),
        workspace_low_m=_vector(data["workspace"], "low_m", 3),
        workspace_high_m=_vector(data["workspace"], "high_m", 3),
        digest=hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest(),
    )
    if (limits.q_min_rad >= limits.q_max_rad).any():
        raise SpecError(f"robots/{robot}.yaml: a joint's position_min_rad is not below its position_max_rad")
    return limits


def _vector(section: dict[str, Any], key: str, size: int = JOINTS) -> Array:
    vector = np.array(section[key], dtype=np.float64)
    if vector.shape != (size,) or not np.isfinite(vector).all():
        raise SpecError(f"robot limits: {key} must hold {size} finite numbers, has {section[key]}")
    vector.flags.writeable = False
    return vector
