"""The arm as a URDF: MuJoCo reads it, and finds every frame and every capsule where the gate has them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest

from skimo_core.contract.types import JOINTS
from skimo_core.domain import urdf
from skimo_core.domain.cell import load_cell
from skimo_core.domain.kinematics import arm_points, joint_frames
from skimo_core.domain.robot import known_robots, load_limits
from skimo_core.safety.collision import Collision


@pytest.mark.parametrize("robot", known_robots())
def test_frames_ranges_and_capsules_are_the_gates(robot: str) -> None:
    limits = load_limits(robot)
    model = mujoco.MjModel.from_xml_string(urdf.robot_description(limits))
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    names = [model.joint(k).name for k in range(model.njnt)]
    assert names == [*limits.joint_names, *limits.finger_names]
    np.testing.assert_allclose(model.jnt_range[:JOINTS], np.stack([limits.q_min_rad, limits.q_max_rad], axis=1))
    arm = limits.joint_names[0].removesuffix("joint1")
    for q_rad in rng.uniform(limits.q_min_rad, limits.q_max_rad, (20, JOINTS)):
        data.qpos[:JOINTS] = q_rad
        mujoco.mj_kinematics(model, data)
        rotations, origins = joint_frames(limits, q_rad[None])
        for k in range(1, JOINTS + 1):
            np.testing.assert_allclose(data.body(f"{arm}link{k}").xpos, origins[k, 0], atol=1e-7)
            np.testing.assert_allclose(data.body(f"{arm}link{k}").xmat.reshape(3, 3), rotations[k, 0], atol=1e-7)
        ends = Collision(limits, load_cell("open")).capsule_ends(q_rad[None])[0]
        balls = data.geom_xpos[model.geom_type == mujoco.mjtGeom.mjGEOM_SPHERE]
        assert len(balls) == ends.shape[0] * 2
        for end in ends.reshape(-1, 3):
            assert np.linalg.norm(balls - end, axis=1).min() < 1e-6
        fingers = [data.body(name.replace("_joint", "")).xpos for name in limits.finger_names]
        tool = arm_points(limits, q_rad[None])[0, 3]
        np.testing.assert_allclose(
            [np.linalg.norm(tool - finger) for finger in fingers],
            limits.tool_m - limits.flange_m - urdf.FINGER_LIFT_M,
            atol=1e-6,
        )


def test_a_drivers_names_are_kept() -> None:
    limits = load_limits("panda")
    joints, fingers = tuple(f"left_joint{k}" for k in range(1, 8)), ("left_finger_joint1", "left_finger_joint2")
    root = ElementTree.fromstring(urdf.robot_description(limits, joints, fingers))
    assert [j.get("name") for j in root.findall("joint")] == [*joints, "left_hand_joint", *fingers]
    links = {link.get("name") for link in root.findall("link")}
    assert {"left_link0", "left_link7", "left_hand", "left_finger1"} <= links


def test_the_command_prints_it_and_refuses_an_unknown_robot(capsys: pytest.CaptureFixture[str]) -> None:
    assert urdf.urdf(["--robot", "fr3"]) == 0
    assert ElementTree.fromstring(capsys.readouterr().out.encode()).tag == "robot"
    assert urdf.urdf(["--robot", "ur5"]) == 1
    assert "ur5" in capsys.readouterr().err
