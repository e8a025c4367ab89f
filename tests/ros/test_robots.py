"""Nodes of which driver, robot, twin and bundle contradict each other refuse to start, and name both."""

from __future__ import annotations

from pathlib import Path

import pytest
from ros.ros_harness import Processes
from support.policy_server import running
from support.waiting import START_S

from skimo_core.contract.specs import Named
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.process.isolation import free_domain
from skimo_server.inprocess import InProcessPolicy
from skimo_server.testing import make_bundle

pytestmark = pytest.mark.ros
LAB_DRIVER = "like: franka_ros2\nsource: ours\nrobots: [panda, fr3]\narm: panda\ncomand: x\n"


def test_a_mismatch_of_driver_robot_twin_and_bundle_refuses_to_start(tmp_path: Path) -> None:
    domain, panda = load_domain(), load_limits("panda")
    other = Named(name="other", digest="0" * 64)
    make_bundle(tmp_path / "bundle", observation=domain.observation, action=domain.action, robot=other)
    (tmp_path / "lab.yaml").write_text(LAB_DRIVER)
    policy = InProcessPolicy.load(str(tmp_path / "bundle"))
    bundle = policy.spec.bundle_id[:12]
    cases = {
        "gate_node": (
            {"robot": "fr3", "driver": "multipanda"},
            "robot:=fr3 contradicts driver:=multipanda, which drives panda",
        ),
        "twin_node": (
            {"driver": "franka_ros2"},
            "the kitchen's twin simulates robot 'panda'",
        ),
        "recorder_node": (
            {"driver": tmp_path / "lab.yaml"},
            f"{tmp_path}/lab.yaml: keys missing [], unknown ['comand']",
        ),
        "policy_node": (
            {},
            f"bundle {bundle} was made within the limits of robot {other}, other than those of {panda.named} here",
        ),
    }
    with free_domain() as lock, running(policy) as endpoint:
        processes = Processes(tmp_path, lock.domain)
        cases["policy_node"][0]["endpoint"] = endpoint
        started = {name: processes.node(name, **parameters) for name, (parameters, _) in cases.items()}
        for name, (_, words) in cases.items():
            assert started[name].wait(START_S) == 1, name
            said = processes.log(name)
            assert words in said and "Traceback" not in said, said
