"""Cameras of the twin: what it shows, as a real camera's driver publishes it.

Promises
  - camera/NAME/image_raw and camera/NAME/camera_info, best effort, for each camera of the rig that stands still; parts
    bear the tags of a tracker file.
  - An image shows the newest states that came: it is stamped when they were so, and the camera's latency (rig) later.
  - Without new states there are no images. A state that can't be painted (a channel is missing) is said, and skipped.
It reads joint_states, and twin/object_states, where a twin tells its objects if others track them (`tracked`). Painting
takes a core some 0.2 s per image of 960 x 720 px without a GPU.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.contract.types import ObjectStates, RobotMode, RobotState
from skimo_core.control.observe import object_values
from skimo_core.control.rigged import corrected
from skimo_core.domain.rig_file import load_rig

from . import conversions as convert
from .guarded import Complaints
from .large_messages import make_room
from .nodes import EVENT_QOS, POLLED_STATE_QOS, STATE_QOS, Names, component, now_s, only_one, run
from .parameters import SETUP, Parameter, declare
from .robots import set_up

PARAMETERS = (
    *SETUP,
    Parameter(
        "twin_rig", "", "what is true of the twin's cell, as twin_node has it: a rig file; empty: what `rig` says"
    ),
    Parameter("tracker", "", "whose tags the parts bear: a tracker's name, or a file's path; empty: the domain's"),
    Parameter("image_rate_hz", 5.0, "how often every camera is painted, if that can be kept up", low=0.1, high=60.0),
    Parameter("blur_px", 0.6, "standard deviation of the lens's blur", low=0.0, high=10.0),
    Parameter("image_noise", 2.0, "standard deviation of the grey levels, of 255", low=0.0, high=100.0),
    Parameter("seed", 0, "of the images' noise", low=0, high=2**31),
)
KEPT = 200
"""Joint states that are remembered: an image shows those of its exposure."""
HEALTH_S = 1.0
BEFORE_S = 0.5
"""Joint states further from an image's exposure don't belong to it."""


class CameraNode(Node):
    """States in, images out."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        values = declare(self, PARAMETERS)
        self._only_one = only_one(self)
        # pictures of a simulation are made in this process only
        from skimo_calibration.objects.tracker_file import load_tracker
        from skimo_calibration.objects.tracking import tracker_of
        from skimo_calibration.twin.twin_tags import TaggedScene

        setup = set_up(values)
        self._adapter, self._objects_wanted = setup.adapter, setup.domain.observation.objects
        self._rig = load_rig(values["twin_rig"] or values["rig"])
        spec = load_tracker(values["tracker"] or setup.domain.name)
        self._views = tracker_of(spec, self._rig, setup.domain).views
        self._scene = TaggedScene(
            spec, self._views, setup.domain, blur_px=values["blur_px"], noise=values["image_noise"], seed=values["seed"]
        )
        self._complaints = Complaints(self.get_logger().warning)
        self._joints: deque[RobotState] = deque(maxlen=KEPT)
        self._objects: ObjectStates | None = None
        self._painted_s, self._images, self._why = -np.inf, 0, "no states have come"
        self._publish_to()
        self.create_timer(1.0 / values["image_rate_hz"], self._paint)
        self.create_timer(HEALTH_S, self._tell_health)
        self.get_logger().info(f"cameras {', '.join(self._views)} of rig {self._rig.name}, tags of {spec.name}")

    def close(self) -> None:
        """Release what draws."""
        self._scene.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _publish_to(self) -> None:
        a = self._adapter
        self.create_subscription(JointState, a.joint_states, self._take_joints, POLLED_STATE_QOS)
        self.create_subscription(ObjectStatesMsg, Names.TWIN_OBJECTS, self._take_objects, STATE_QOS)
        self._health = self.create_publisher(DiagnosticArray, Names.DIAGNOSTICS, EVENT_QOS)
        self._to = {
            name: (
                self.create_publisher(Image, Names.IMAGE.format(name), STATE_QOS),
                self.create_publisher(CameraInfo, Names.CAMERA_INFO.format(name), STATE_QOS),
            )
            for name in self._views
        }

    def _take_joints(self, message: JointState) -> None:
        if set(self._adapter.joints) <= set(message.name):
            state = convert.robot_state(message, self._adapter.joints, self._adapter.fingers, RobotMode.OTHER)
            self._joints.append(corrected(state, self._rig))

    def _take_objects(self, message: ObjectStatesMsg) -> None:
        self._objects = convert.object_states(message)

    def _paint(self) -> None:
        objects = self._objects
        if objects is None or objects.stamp_s <= self._painted_s:
            return
        self._painted_s = objects.stamp_s
        try:
            self._publish(objects, objects.stamp_s - self._rig.camera_s)  # the twin is late by so much itself
        except SkimoError as error:
            self._why = str(error)
            self._complaints.about("state", self._why)

    def _publish(self, objects: ObjectStates, exposure_s: float) -> None:
        """Paint what was so at `exposure_s`.

        Raises:
            SpecError: no joint states of then, or a state that can't be painted.
            MissingError: an object channel is missing.
        """
        robot = min(self._joints, key=lambda state: abs(state.stamp_s - exposure_s), default=None)
        if robot is None or abs(robot.stamp_s - exposure_s) > BEFORE_S:
            raise SpecError(f"no joint states on {self._adapter.joint_states!r} of the time of the object states")
        if not len(robot.finger_m):
            raise SpecError(f"joint states on {self._adapter.joint_states!r} lack the fingers")
        values = object_values(objects, self._objects_wanted)
        for name, (images, infos) in self._to.items():
            view, frame = self._views[name], self._rig.cameras[name].frame
            lens, stamp_s = view.intrinsics, exposure_s + view.latency_s
            picture = self._scene.paint(name, robot.q_rad, robot.finger_m, values)
            infos.publish(convert.to_camera_info(lens.width, lens.height, lens.matrix, lens.distortion, frame, stamp_s))
            images.publish(convert.to_image(picture, frame, stamp_s))
        self._images, self._why = self._images + 1, ""

    def _tell_health(self) -> None:
        values: dict[str, Any] = {"images of each": self._images, "cameras": ", ".join(self._views)}
        level, words = ("warn", self._why) if self._why else ("ok", "painting")
        self._health.publish(convert.diagnostics(now_s(self), component(self, "cameras"), level, words, values))


def main() -> int:
    """Run the twin's cameras."""
    make_room()
    return run(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
