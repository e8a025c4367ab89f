"""A rig in the graph: topics speak the encoders' terms, policy and gate true angles; a wrong one ends the node."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rclpy
from contracts.backend import BackendContract
from contracts.backend import Rig as UnderTest
from rclpy.context import Context
from ros.ros_harness import ANSWER_S, Processes, let_pass, send_home
from sensor_msgs.msg import JointState
from support.waiting import START_S, wait_until
from trajectory_msgs.msg import JointTrajectory

from skimo_core.domain.rig import Check, JointOffsets, Made, Rig
from skimo_core.domain.rig_file import write_rig
from skimo_core.process.isolation import free_domain
from skimo_ros.adapters import load_adapter
from skimo_ros.backend import RosBackend
from skimo_ros.nodes import EVENT_QOS

pytestmark = [pytest.mark.ros, pytest.mark.alone]

OFFSET_RAD = np.array([0.03, -0.02, 0.01, 0.04, -0.03, 0.02, -0.05])
MADE = Made(date=datetime.date(2026, 1, 15), method="a test")
RIG = Rig(
    name="lab",
    robot="panda",
    serial="A-1",
    joints=JointOffsets(offset_rad=OFFSET_RAD, sigma_rad=OFFSET_RAD * 0, made=MADE),
)


@dataclass
class Heard:
    """What the driver told and was told last, in its encoders' terms."""

    joints: JointState | None = None
    command: JointTrajectory | None = None


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RosBackend, Heard]]:
    folder = Path(tmp_path_factory.mktemp("rig"))
    path = folder / "rig.yaml"
    write_rig(path, RIG)
    context, heard = Context(), Heard()
    with free_domain() as lock, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        rclpy.init(context=context, domain_id=lock.domain)
        processes = Processes(folder, lock.domain)
        processes.node("twin_node", rig=path, twin="kinematic")
        processes.node("gate_node", rig=path)
        backend = RosBackend(rig=RIG, context=context)
        node = backend._node
        node.create_subscription(JointState, "joint_states", lambda m: setattr(heard, "joints", m), EVENT_QOS)
        command = load_adapter("twin").command
        node.create_subscription(JointTrajectory, command, lambda m: setattr(heard, "command", m), EVENT_QOS)
        try:
            backend.wait_until_up(90.0)
            yield backend, heard
        finally:
            backend.close()
            processes.end_all()
            rclpy.shutdown(context=context)


@pytest.fixture
def home(there: tuple[RosBackend, Heard]) -> RosBackend:
    send_home(there[0])
    return there[0]


class TestRiggedRosBackend(BackendContract):
    @pytest.fixture
    def rig(self, home: RosBackend) -> Iterator[UnderTest]:
        yield UnderTest(backend=home, wait=lambda s: let_pass(home, s), rest_rad_s=0.02, follow_rad=0.005)


def test_topics_are_in_the_encoders_terms_and_the_backend_in_true_angles(
    home: RosBackend, there: tuple[RosBackend, Heard]
) -> None:
    from contracts.backend import move

    heard = there[1]
    command = move(home, 0.05)
    home.write(command)
    let_pass(home, 1.0)
    wait_until(lambda: heard.joints is not None and heard.command is not None, "both topics", ANSWER_S)
    assert heard.joints is not None and heard.command is not None
    target_rad = command.trajectory.q_rad[-1]
    assert np.abs(home.read().q_rad - target_rad).max() < 0.005
    told = dict(zip(heard.joints.name, heard.joints.position))
    read_rad = np.array([told[name] for name in load_adapter("twin").joints])
    assert np.abs(read_rad - target_rad - OFFSET_RAD).max() < 0.005
    assert np.abs(np.array(heard.command.points[-1].positions) - target_rad - OFFSET_RAD).max() < 0.005


BARE_RIG = replace(RIG, joints=None)
DAY = datetime.date(2026, 1, 16)


@pytest.mark.parametrize(
    ("rig", "given", "words"),
    [
        (replace(BARE_RIG, robot="fr3"), {}, "was made for a fr3, and a panda moves here"),
        (RIG, {"robot_serial": "A-2"}, "the arm with serial number A-1, this one is A-2"),
        (
            replace(RIG, check=Check(date=DAY, passed=False, reasons=("3 px",))),
            {},
            "failed its check on 2026-01-16: 3 px",
        ),
        (RIG, {"rig_max_age_days": 10.0}, "days old, bound 10 days; run `skimo calibrate check`"),
    ],
)
def test_a_rig_that_may_not_be_used_here_ends_the_node(
    tmp_path: Path, rig: Rig, given: dict[str, object], words: str
) -> None:
    write_rig(tmp_path / "rig.yaml", rig)
    with free_domain() as lock:
        processes = Processes(tmp_path, lock.domain)
        ended = processes.node("gate_node", rig=tmp_path / "rig.yaml", **given)
        assert ended.wait(START_S) == 1
        assert words in processes.log("gate_node") and "Traceback" not in processes.log("gate_node")
