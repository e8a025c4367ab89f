"""A robot's limits as data: `robots/*.yaml`, loaded once, checked, with a digest that a bundle can name.

The digest covers what a policy's motions depend on: the joints (names without the arm's prefix, position, velocity,
acceleration, jerk, torque), the kinematics and the hand. It leaves out what only guards them: collision shapes, reflex
thresholds, Cartesian limits, home, comments, and the robot's name. So it stays when those are mended; a file lists the
digests that earlier versions gave to the same limits (`accepts`).

Units: rad, rad/s, rad/s2, rad/s3, Nm, m. Limits are the manufacturer's; margins and fractions belong to their users.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contract.errors import SpecError
from ..contract.specs import Named
from ..contract.types import Array
from . import library
from .cell import load_cell
from .meshes import Meshes, read_meshes
from .shapes import NO_CAPSULES, Capsules, read_capsules
from .tables import Table, read_yaml

NO_ARM = "none"
"""The robot of a domain without joints: no limits, because there is nothing to move."""
CARTESIAN_ONLY_TOLD = (
    "acceleration_max_m_s2", "jerk_max_m_s3", "rotation_velocity_max_rad_s", "rotation_acceleration_max_rad_s2",
)  # fmt: skip
"""Limits that stand in the files for the reader: they bind commands in Cartesian space, and none is ever sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VelocityTaper:
    """How the velocity limit falls towards the ends of a joint's range (Franka Research 3); each array [7].

    Upwards a joint may move at sqrt(2 deceleration (top - q)) - offset, downwards likewise from the bottom, each within
    0 and the limit in mid-range ("Robot and interface specifications", limits for Franka Research 3).
    """

    offset_rad_s: Array
    deceleration_rad_s2: Array
    bottom_rad: Array
    top_rad: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotLimits:
    """Limits and names of one robot model; vectors hold a number for each joint. Without a hand its three are 0.

    Source: the data file named in `robots/`, which cites the data sheet.

    Attributes:
        dq_max_rad_s: velocity limits in mid-range; `velocity_bounds` knows how they fall towards the ends.
        workspace_low_m, workspace_high_m: the default cell's (`cells/open.yaml`).
        capsules: the arm's shape, for skimo_core.safety.collision.
        former_digests: what earlier versions called these limits.
        meshes: what it looks like; None: nobody says.
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
    tau_rate_max_nm_s: float
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
    hand_yaw_rad: float
    workspace_low_m: Array
    workspace_high_m: Array
    capsules: Capsules
    taper: VelocityTaper | None
    digest: str
    former_digests: tuple[str, ...] = field(default=())
    meshes: Meshes | None = None

    @property
    def named(self) -> Named:
        """What names them."""
        return Named(name=self.name, digest=self.digest)

    @property
    def joints(self) -> int:
        """How many there are."""
        return len(self.joint_names)

    @property
    def prefix(self) -> str:
        """What the joints' names have in common before what they are: "panda" of panda_joint1."""
        name = self.joint_names[0] if self.joint_names else ""
        return name[: name.rfind("_joint")] if "_joint" in name else ""

    def velocity_bounds(self, q_rad: Array) -> tuple[Array, Array]:
        """Lowest and highest admissible joint velocities, each [K, 7], rad/s, at positions [K, 7].

        The lowest is never above 0 and the highest never below: an arm at rest is within its limits everywhere.
        """
        top = np.broadcast_to(self.dq_max_rad_s, q_rad.shape)
        taper = self.taper
        if taper is None:
            return -top, top.copy()
        up = np.sqrt(np.maximum(2 * taper.deceleration_rad_s2 * (taper.top_rad - q_rad), 0.0)) - taper.offset_rad_s
        down = np.sqrt(np.maximum(2 * taper.deceleration_rad_s2 * (q_rad - taper.bottom_rad), 0.0)) - taper.offset_rad_s
        return -np.clip(down, 0.0, top), np.clip(up, 0.0, top)

    def accepts(self, digest: str) -> bool:
        """Whether `digest` names these limits, as this version computes it or as an earlier one did."""
        return digest == self.digest or digest in self.former_digests


def known_robots() -> tuple[str, ...]:
    """Names of the robots that the package ships."""
    return library.known("robots")


def load_limits(robot: str = "panda") -> RobotLimits:
    """Load a robot by its name, or a robot file by its path (`library`).

    Raises:
        SpecError: no such robot (naming those that there are), or its file is malformed.
    """
    if robot == NO_ARM:
        return no_arm()
    source = library.find("robots", robot)
    return parse_limits(source.text, source.where)


def no_arm() -> RobotLimits:
    """What holds where there are no joints."""
    cell, none, words = load_cell("open"), np.zeros(0), {"joint_names": [], "joints": {}, "kinematics": {}}
    return RobotLimits(
        name=NO_ARM,
        joint_names=(),
        finger_names=(),
        q_min_rad=none,
        q_max_rad=none,
        dq_max_rad_s=none,
        ddq_max_rad_s2=none,
        dddq_max_rad_s3=none,
        tau_max_nm=none,
        tau_rate_max_nm_s=0.0,
        reflex_tau_nm=none,
        cartesian_velocity_max_m_s=0.0,
        hand_width_max_m=0.0,
        hand_speed_m_s=0.0,
        hand_force_n=0.0,
        home_q_rad=none,
        dh_a_m=none,
        dh_d_m=none,
        dh_alpha_rad=none,
        flange_m=0.0,
        tool_m=0.0,
        hand_yaw_rad=0.0,
        workspace_low_m=cell.workspace_low_m,
        workspace_high_m=cell.workspace_high_m,
        capsules=NO_CAPSULES,
        taper=None,
        digest=_digest(words),
    )


def parse_limits(text: str, where: str) -> RobotLimits:
    """Read the words of a robot file; `where` names it in errors.

    Raises:
        SpecError: not YAML; a key missing, unknown, of the wrong type or size; a number not finite; a bound not
            positive; a minimum not below its maximum; home or the velocity taper outside the joints' range.
    """
    data = read_yaml(text, where)
    root = Table(data, where)
    joints, cartesian, kinematics = root.table("joints"), root.table("cartesian"), root.table("kinematics")
    names = root.texts("joint_names")
    count = len(names)
    if not names:
        raise SpecError(f"{where}: joint_names names no joint")
    hand = root.table("hand") if "hand" in root else None
    cell = load_cell("open")

    def of_joints(key: str, table: Table = joints, *, positive: bool = True) -> Array:
        return table.vector(key, count, positive=positive)

    limits = RobotLimits(
        name=root.text("name"),
        joint_names=names,
        finger_names=root.texts("finger_names", 2) if hand is not None else (),
        q_min_rad=of_joints("position_min_rad", positive=False),
        q_max_rad=of_joints("position_max_rad", positive=False),
        dq_max_rad_s=of_joints("velocity_max_rad_s"),
        ddq_max_rad_s2=of_joints("acceleration_max_rad_s2"),
        dddq_max_rad_s3=of_joints("jerk_max_rad_s3"),
        tau_max_nm=of_joints("torque_max_nm"),
        tau_rate_max_nm_s=joints.number("torque_rate_max_nm_s", positive=True),
        reflex_tau_nm=of_joints("reflex_torque_nm"),
        cartesian_velocity_max_m_s=cartesian.number("velocity_max_m_s", positive=True),
        hand_width_max_m=hand.number("width_max_m", positive=True) if hand is not None else 0.0,
        hand_speed_m_s=hand.number("speed_m_s", positive=True) if hand is not None else 0.0,
        hand_force_n=hand.number("force_n", positive=True) if hand is not None else 0.0,
        home_q_rad=of_joints("home_q_rad", root, positive=False),
        dh_a_m=of_joints("a_m", kinematics, positive=False),
        dh_d_m=of_joints("d_m", kinematics, positive=False),
        dh_alpha_rad=of_joints("alpha_rad", kinematics, positive=False),
        flange_m=kinematics.number("flange_m"),
        tool_m=kinematics.number("tool_m"),
        hand_yaw_rad=kinematics.number("hand_yaw_rad") if hand is not None else 0.0,
        workspace_low_m=cell.workspace_low_m,
        workspace_high_m=cell.workspace_high_m,
        capsules=read_capsules(root.table("collision"), count, hand=hand is not None),
        taper=_taper(joints, count),
        digest=_digest(data),
        former_digests=root.texts("former_digests") if "former_digests" in root else (),
        meshes=read_meshes(root.table("meshes")) if "meshes" in root else None,
    )
    for table in (root, joints, kinematics, *([hand] if hand is not None else [])):
        table.refuse_others()
    cartesian.refuse_others(CARTESIAN_ONLY_TOLD)
    _check_ranges(limits, where)
    return limits


def _taper(joints: Table, count: int) -> VelocityTaper | None:
    if "velocity_taper" not in joints:
        return None
    table = joints.table("velocity_taper")
    taper = VelocityTaper(
        offset_rad_s=table.vector("offset_rad_s", count, positive=True),
        deceleration_rad_s2=table.vector("deceleration_rad_s2", count, positive=True),
        bottom_rad=table.vector("bottom_rad", count),
        top_rad=table.vector("top_rad", count),
    )
    table.refuse_others()
    return taper


def _check_ranges(limits: RobotLimits, where: str) -> None:
    low, high, home = limits.q_min_rad, limits.q_max_rad, limits.home_q_rad
    for joint in range(len(low)):
        if low[joint] >= high[joint]:
            raise SpecError(
                f"{where}: joint {joint + 1} has position_min_rad {low[joint]:g}, not below its position_max_rad "
                f"{high[joint]:g}"
            )
        if not low[joint] <= home[joint] <= high[joint]:
            raise SpecError(
                f"{where}: home_q_rad of joint {joint + 1} is {home[joint]:g} rad, outside its range "
                f"{low[joint]:g} to {high[joint]:g}"
            )
    if limits.taper is not None and not ((limits.taper.bottom_rad <= low) & (high <= limits.taper.top_rad)).all():
        raise SpecError(f"{where}: velocity_taper ends inside the joints' range, which nothing could then move through")


def _digest(data: dict[str, Any]) -> str:
    """SHA-256 over what a policy's motions depend on (see the top of this file)."""
    covered = {
        "joint_names": [str(name)[str(name).rfind("joint") :] for name in data["joint_names"]],
        "joints": {key: value for key, value in data["joints"].items() if key != "reflex_torque_nm"},
        "kinematics": data["kinematics"],
        "hand": data.get("hand"),
    }
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
