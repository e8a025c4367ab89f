"""A capture over the graph: the arm goes through the gate from view to view, and what is written is what was seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from ros.ros_harness import ANSWER_S, Processes
from sensor_msgs.msg import Image, JointState
from support.waiting import wait_until

from skimo_calibration.cameras.capture import load_capture
from skimo_calibration.cameras.views import look_at
from skimo_calibration.twin.twin_cell import TwinCell, TwinRig, disturbed_rig
from skimo_core.contract.errors import BackendError, SetupError, SpecError
from skimo_core.contract.types import RobotMode
from skimo_core.domain.robot import load_limits
from skimo_core.process.isolation import free_domain
from skimo_ros import conversions as convert
from skimo_ros.adapters import load_adapter
from skimo_ros.capture import CaptureArgs, capture
from skimo_ros.nodes import EVENT_QOS, STATE_QOS, Names
from skimo_ros.operator import Operator

pytestmark = [pytest.mark.ros, pytest.mark.alone]

SEED = 4
HOME_RAD = load_limits().home_q_rad


class CameraDriver:
    """A camera that looks at the arm: paints what a cell shows where the encoders say that the arm is."""

    def __init__(self, context: Context, rig: TwinRig) -> None:
        self.on, self._rig, self._adapter = True, rig, load_adapter("twin")
        self._node = rclpy.create_node("camera_driver", context=context)
        self._images = self._node.create_publisher(Image, Names.IMAGE.format("wrist"), STATE_QOS)
        self._joints: JointState | None = None
        self._node.create_subscription(JointState, self._adapter.joint_states, self._hear, EVENT_QOS)
        self._node.create_timer(0.2, self._paint)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _hear(self, message: JointState) -> None:
        self._joints = message

    def _paint(self) -> None:
        if self._joints is not None and self.on:
            state = convert.robot_state(self._joints, self._adapter.joints, self._adapter.fingers, RobotMode.IDLE)
            picture = self._cell.look(state.q_rad)
            self._images.publish(convert.to_image(picture, "wrist_optical_frame", state.stamp_s))

    def _spin(self) -> None:
        with TwinCell(self._rig, SEED) as self._cell:  # what draws belongs to one thread
            try:
                self._executor.spin()
            except ExternalShutdownException:
                return

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(ANSWER_S)
        self._node.destroy_node()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CameraDriver]:
    folder = Path(tmp_path_factory.mktemp("capture"))
    context = Context()
    with free_domain() as lock, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.setenv("ROS_DOMAIN_ID", str(lock.domain))
        rclpy.init(context=context, domain_id=lock.domain)
        processes = Processes(folder, lock.domain)
        processes.node("twin_node", twin="kinematic")
        processes.node("gate_node", cell="open")
        made = CameraDriver(context, disturbed_rig("flange", SEED))
        try:
            yield made
        finally:
            made.close()
            processes.end_all()
            rclpy.shutdown(context=context)


def poses(path: Path, rows: np.ndarray) -> Path:
    path.write_text(yaml.safe_dump({"q_rad": rows.tolist()}))
    return path


def above_the_board(count: int) -> np.ndarray:
    """Joint positions from which a wrist camera sees the board."""
    from skimo_calibration.cameras.poses import plan_tour
    from skimo_calibration.twin.twin_cell import nominal_setup

    return plan_tour(nominal_setup("flange"), count, np.random.default_rng(1), start_q_rad=HOME_RAD).q_rad


def test_the_arm_goes_from_view_to_view_and_a_capture_that_was_stopped_is_gone_on_with(
    driver: CameraDriver, tmp_path: Path
) -> None:
    wanted = above_the_board(3)
    args = {"out": tmp_path / "wrist", "camera": "wrist", "cell": "open", "share": 0.5}
    capture(CaptureArgs(**args, poses=poses(tmp_path / "two.yaml", wanted[:2])))
    assert len(load_capture(tmp_path / "wrist").views) == 2
    capture(CaptureArgs(**args, poses=poses(tmp_path / "three.yaml", wanted)))
    taken = load_capture(tmp_path / "wrist")
    assert np.abs(np.array([view.q_rad for view in taken.views]) - wanted).max() < 0.005
    assert taken.views[0].stamp_s < taken.views[1].stamp_s < taken.views[2].stamp_s
    sights = look_at(taken, least=3)
    assert not sights.aside and min(len(sight.corners.ids) for sight in sights.seen) > 20


def test_no_picture_a_stop_and_poses_in_degrees_end_it_in_words(
    driver: CameraDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skimo_ros.capture.PICTURE_S", 2.0)
    near = poses(tmp_path / "near.yaml", HOME_RAD[None] + 0.02)
    with pytest.raises(SpecError, match="lies outside the joints' range; degrees"):
        degrees = poses(tmp_path / "degrees.yaml", np.degrees(HOME_RAD)[None])
        capture(CaptureArgs(out=tmp_path / "a", camera="wrist", cell="open", poses=degrees))
    with pytest.raises(SetupError, match=r"picture on 'camera/other/image_raw' .* none came; does the camera's driver"):
        capture(CaptureArgs(out=tmp_path / "b", camera="other", cell="open", poses=near))
    operator = Operator("", timeout_s=ANSWER_S, context=driver._node.context)
    try:
        assert operator.trigger(Names.GATE_STOP)[0]
        far = poses(tmp_path / "far.yaml", HOME_RAD[None] + 0.3)
        with pytest.raises(BackendError, match="the arm is stopped"):
            capture(CaptureArgs(out=tmp_path / "c", camera="wrist", cell="open", poses=far))
        wait_until(lambda: operator.clear_stop(1.0)[0], "the reset", ANSWER_S)
    finally:
        operator.close()
