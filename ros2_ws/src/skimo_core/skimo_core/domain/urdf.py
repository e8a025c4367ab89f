"""The arm as a URDF, from its data (robots/*.yaml): for RViz, Foxglove and robot_state_publisher.

Links and joints bear the names that Franka's own descriptions use (`panda_link0`, `panda_hand`). The shapes drawn are
the capsules that the gate checks, so what is shown is what is kept clear, and a box for each finger; no meshes, no
inertias.
Units m, rad (URDF, wiki.ros.org/urdf/XML).
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import tyro

from ..contract.errors import SkimoError
from ..contract.types import Array
from .kinematics import joint_offsets
from .robot import RobotLimits, load_limits

FINGER_LIFT_M = 0.0584
"""From the hand's frame to where its fingers slide (franka_description, hand.xacro)."""
FINGER_M = (0.02, 0.015)
"""What is drawn of a finger, across and along its way; from its foot to the tool's point."""
FAILED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class UrdfConfig:
    """Print the arm as a URDF, for `ros2 run robot_state_publisher robot_state_publisher FILE`, RViz and Foxglove."""

    robot: str = "panda"
    """a file in robots/"""


def urdf(argv: list[str]) -> int:
    """Print the arm as a URDF."""
    try:
        config = tyro.cli(UrdfConfig, args=argv, prog="skimo urdf")
        print(robot_description(load_limits(config.robot)))
    except SkimoError as error:
        print(f"urdf: {error}", file=sys.stderr)
        return FAILED
    return 0


def robot_description(
    limits: RobotLimits, joints: tuple[str, ...] | None = None, fingers: tuple[str, ...] | None = None
) -> str:
    """The URDF of one arm with its hand.

    Args:
        joints, fingers: other names for its joints, such as a driver gives; links are named after the first joint's
            prefix.
    """
    joints, fingers = joints or limits.joint_names, fingers or limits.finger_names
    arm = joints[0].removesuffix("joint1")
    robot, shape = Element("robot", name=limits.name), limits.capsules
    links = [name for name in shape.links if name != "fingers"]
    for index, name in enumerate(links):
        link = SubElement(robot, "link", name=f"{arm}{name}")
        _draw(link, limits, index)
    if "fingers" in shape.links:  # drawn over their whole opening: part of the hand
        _draw(robot.findall("link")[-1], limits, shape.links.index("fingers"))
    for index, (name, offset) in enumerate(zip(joints, joint_offsets(limits))):
        joint = _joint(robot, name, "revolute", f"{arm}link{index}", f"{arm}link{index + 1}")
        SubElement(joint, "origin", xyz=_numbers(offset), rpy=_numbers([limits.dh_alpha_rad[index], 0, 0]))
        SubElement(joint, "axis", xyz="0 0 1")
        SubElement(
            joint,
            "limit",
            lower=_number(limits.q_min_rad[index]),
            upper=_number(limits.q_max_rad[index]),
            velocity=_number(limits.dq_max_rad_s[index]),
            effort=_number(limits.tau_max_nm[index]),
        )
    if "hand" in shape.links:
        hand = _joint(robot, f"{arm}hand_joint", "fixed", f"{arm}link{limits.joints}", f"{arm}hand")
        SubElement(hand, "origin", xyz=_numbers([0, 0, limits.flange_m]), rpy=_numbers([0, 0, limits.hand_yaw_rad]))
    for name, side in zip(fingers, (1, -1)):
        link = name.replace("_joint", "")
        length_m = limits.tool_m - limits.flange_m - FINGER_LIFT_M
        pad = SubElement(robot, "link", name=link)
        for kind in ("visual", "collision"):
            solid = _solid(pad, kind, np.array([0.0, side * FINGER_M[1] / 2, length_m / 2]), np.zeros(3))
            SubElement(solid, "box", size=_numbers([*FINGER_M, length_m]))
        finger = _joint(robot, name, "prismatic", f"{arm}hand", link)
        SubElement(finger, "origin", xyz=_numbers([0, 0, FINGER_LIFT_M]), rpy="0 0 0")
        SubElement(finger, "axis", xyz=f"0 {side} 0")
        SubElement(
            finger,
            "limit",
            lower="0",
            upper=_number(limits.hand_width_max_m / 2),
            velocity=_number(limits.hand_speed_m_s / 2),
            effort=_number(limits.hand_force_n),
        )
    ElementTree.indent(robot)
    return ElementTree.tostring(robot, encoding="unicode", xml_declaration=True)


def _joint(robot: Element, name: str, kind: str, parent: str, child: str) -> Element:
    joint = SubElement(robot, "joint", name=name, type=kind)
    SubElement(joint, "parent", link=parent)
    SubElement(joint, "child", link=child)
    return joint


def _draw(link: Element, limits: RobotLimits, index: int) -> None:
    """The capsules of one of the links, each as a cylinder and two balls, to be seen and to be met."""
    shape = limits.capsules
    for (start, end), radius_m in zip(shape.ends_m[shape.link == index], shape.radius_m[shape.link == index]):
        for kind in ("visual", "collision"):
            for centre in (start, end):
                ball = _solid(link, kind, centre, np.zeros(3))
                SubElement(ball, "sphere", radius=_number(radius_m))
            way = end - start
            length_m = float(np.linalg.norm(way))
            pitch, yaw = np.arctan2(np.hypot(way[0], way[1]), way[2]), np.arctan2(way[1], way[0])
            rod = _solid(link, kind, (start + end) / 2, np.array([0.0, pitch, yaw]))
            SubElement(rod, "cylinder", radius=_number(radius_m), length=_number(length_m))


def _solid(link: Element, kind: str, centre_m: Array, rpy: Array) -> Element:
    solid = SubElement(link, kind)
    SubElement(solid, "origin", xyz=_numbers(centre_m), rpy=_numbers(rpy))
    return SubElement(solid, "geometry")


def _numbers(values: Array | list[float]) -> str:
    return " ".join(_number(value) for value in values)


def _number(value: float) -> str:
    return f"{float(value):.9g}"
