"""What `skimo doctor` hears on real topics, and what it says of the ROS environment."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from house.repository import ROOT
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg
from support.waiting import START_S, wait_until

from skimo_bringup import doctor as bringup
from skimo_core.contract.types import ObjectStates
from skimo_core.domain.domain import load_domain
from skimo_core.process.isolation import DomainLock
from skimo_core.setup.finding import Asked, Finding
from skimo_ros import conversions as convert
from skimo_ros import doctor
from skimo_ros.doctor import Heard
from skimo_ros.nodes import STATE_QOS, now_s

pytestmark = pytest.mark.ros
KITCHEN = load_domain("kitchen")
ASKED = Asked(domain="kitchen")
JOINTS = KITCHEN.observation.names[:7]
OBJECTS = KITCHEN.observation.objects


class Driver:
    """Publishes joint and object states at 50 Hz from a thread, as a driver and a tracker do."""

    def __init__(self, domain: int, joints: tuple[str, ...], objects: tuple[str, ...], ahead_s: float = 0.0) -> None:
        self._context = Context()
        self._context.init(domain_id=domain)
        self._node = Node("driver", context=self._context)
        self._ahead_s = ahead_s
        self._joints = JointState(name=list(joints), position=[0.0] * len(joints))
        self._objects = ObjectStates(stamp_s=0.0, names=objects, values=np.zeros(len(objects)))
        self._arm = self._node.create_publisher(JointState, "joint_states", STATE_QOS)
        self._tracker = self._node.create_publisher(ObjectStatesMsg, "object_states", STATE_QOS)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(0.02):
            stamp_s = now_s(self._node) + self._ahead_s
            self._joints.header.stamp = convert.to_time(stamp_s)
            self._arm.publish(self._joints)
            if self._objects.names:
                told = replace(self._objects, stamp_s=stamp_s)
                self._tracker.publish(convert.fill_object_states(ObjectStatesMsg(), told))

    def close(self) -> None:
        self._end.set()
        self._thread.join(5.0)
        self._node.destroy_node()
        self._context.try_shutdown()


def heard_of(asked: Asked = ASKED) -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.topics(asked)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LISTEN_S", 0.4)


@pytest.fixture
def driver(ros_domain: int, request: pytest.FixtureRequest) -> Iterator[Driver]:
    joints, objects, ahead_s = request.param
    made = Driver(ros_domain, joints, objects, ahead_s)
    yield made
    made.close()


def test_nobody_there_is_no_fault(ros_domain: int) -> None:
    assert "nobody is in this ROS domain" in heard_of()["topics"].what


@pytest.mark.parametrize("driver", [((*JOINTS, *KITCHEN.observation.names[7:9]), OBJECTS, 0.0)], indirect=True)
def test_a_driver_and_a_tracker_are_heard_with_rate_and_age(driver: Driver) -> None:
    found = heard_of()
    assert {name: finding.verdict for name, finding in found.items()} == {
        "joint states": "ok",
        "gripper": "ok",
        "object states": "ok",
    }, found
    assert "Hz" in found["joint states"].what and "ms old" in found["object states"].what


@pytest.mark.parametrize("driver", [(JOINTS, (), 0.0)], indirect=True)
def test_another_namespace_s_stack_is_not_ours(driver: Driver) -> None:
    found = heard_of(Asked(domain="kitchen", namespace="left"))
    assert list(found) == ["topics"] and found["topics"].verdict == "ok"
    assert "nobody is below /left" in found["topics"].what


@pytest.mark.parametrize("driver", [(JOINTS, OBJECTS[:-3], 5.0)], indirect=True)
def test_missing_channels_a_missing_hand_and_another_clock_are_named(driver: Driver) -> None:
    found = heard_of()
    lacks = found["object states"]
    assert lacks.verdict == "fail" and ", ".join(OBJECTS[-3:]) in lacks.what
    assert found["gripper"].verdict == "fail" and "panda_finger_joint1" in found["gripper"].what
    future = found["joint states"]
    assert future.verdict == "fail" and "in the future" in future.what and "chrony" in future.remedy


@pytest.mark.parametrize("driver", [(("other_joint1",), (), 0.0)], indirect=True)
def test_another_arm_and_no_tracker(driver: Driver) -> None:
    found = heard_of()
    assert "not panda_joint1" in found["joint states"].what
    assert "nobody publishes" not in found["object states"].what  # somebody does, and says nothing
    assert "nothing came" in found["object states"].what


def test_the_example_of_a_tracker_is_heard(ros_domain: int) -> None:
    tracker = subprocess.Popen([sys.executable, str(ROOT / "docs/own_tracker.py"), "kitchen"])
    try:
        found = wait_until(lambda: heard_of().get("object states"), "the tracker", START_S)
    finally:
        tracker.send_signal(signal.SIGINT)
        assert tracker.wait(20) == 0
    assert found.verdict == "ok" and "all 21 channels" in found.what, found


def test_rates_and_ages_against_their_bounds() -> None:
    heard = Heard(topic="/joint_states", publishers=("/driver",), messages=6, span_s=1.0, names=frozenset(JOINTS))
    assert doctor.arm(heard, JOINTS, 12.5).verdict == "fail"
    assert doctor.arm(replace(heard, messages=30), JOINTS, 12.5).verdict == "ok"
    assert doctor.arm(replace(heard, messages=30, age_s=2.0), JOINTS, 12.5).verdict == "fail"
    seen = replace(heard, topic="/object_states", messages=30, names=frozenset(OBJECTS))
    assert doctor.objects(seen, KITCHEN).verdict == "ok"
    assert doctor.objects(replace(seen, age_s=0.2), KITCHEN).verdict == "fail"
    assert doctor.objects(replace(seen, blind=frozenset({"microwave"})), KITCHEN).verdict == "warn"
    assert "nobody publishes" in doctor.objects(Heard(topic="/object_states", publishers=()), KITCHEN).what


def environment() -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.environment(ASKED)}


def test_a_stack_in_this_domain_is_seen(ros_domain: int) -> None:
    with DomainLock(ros_domain, "/left/stack"):
        assert doctor.roles_of(ros_domain) >= {"/left/stack"}
    assert environment()["ros domain"].verdict == "ok"  # the fixture's own lock is "stack": ours
    with DomainLock(ros_domain, "/left/gate_node"):
        other = next(iter(doctor.environment(Asked(domain="kitchen", namespace="/right"))))
    assert other.verdict == "warn" and "/left/gate_node" in other.what


def test_no_domain_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from skimo_core.setup.doctor import findings_of

    monkeypatch.setenv("ROS_DOMAIN_ID", "abc")
    for check in doctor.CHECKS[2:]:
        found = findings_of(check, ASKED)
        assert [f.verdict for f in found] == ["fail"] and "ROS_DOMAIN_ID is 'abc'" in found[0].what


@pytest.mark.parametrize(
    ("variables", "verdict"),
    [
        ({}, "ok"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "ok"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "ok"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "warn"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "ROS_LOCALHOST_ONLY": "1"}, "warn"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "fail"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "everywhere"}, "fail"),
    ],
)
def test_how_far_discovery_goes(variables: dict[str, str], verdict: str) -> None:
    assert doctor.reach(variables).verdict == verdict


def test_what_is_installed_and_whose_interfaces() -> None:
    assert [finding.verdict for finding in doctor.installed(ASKED)] == ["ok", "ok"]
    assert [finding.verdict for finding in doctor.driver(ASKED)] == ["ok"]
    wrong = list(doctor.driver(Asked(domain="kitchen", driver="multipanda")))
    assert [finding.verdict for finding in wrong] == ["fail"] and "multipanda_ros2" in wrong[0].remedy


def test_a_robot_s_driver_is_looked_for_and_a_twin_needs_none(tmp_path: Path) -> None:
    assert [f.verdict for f in bringup.stack(ASKED)] == ["ok", "ok"]
    robot = Asked(domain="kitchen", driver="franka_ros2")
    assert [f.verdict for f in bringup.stack(robot)] == ["ok", "fail"]
    here = {"franka_ros2": str(tmp_path), "multipanda": ""}
    assert [f.verdict for f in bringup.driver(robot, here, program="ros2")] == ["ok"]
    assert [f.verdict for f in bringup.driver(robot, here, program=None)] == ["fail"]
    assert [f.verdict for f in bringup.driver(Asked(domain="x", driver="own.yaml"), here, program=None)] == ["warn"]
    launch = {"package": "franka_bringup", "launch_file": "launch/franka.launch.py"}
    assert bringup.package_of(launch, {"AMENT_PREFIX_PATH": str(tmp_path)}) == ""
    file = tmp_path / "share/franka_bringup/launch/franka.launch.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert bringup.package_of(launch, {"AMENT_PREFIX_PATH": f"/nowhere:{tmp_path}"}) == str(tmp_path)
