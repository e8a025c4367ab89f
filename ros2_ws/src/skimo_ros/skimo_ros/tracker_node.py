"""Tells the domain's object channels from the cell's cameras: tags on what moves, as a tracker file places them.

Promises
  - An image of one of the file's cameras gives one message on object_states, stamped when the oldest image that it
    rests on was exposed: the driver's stamp less the camera's latency (rig). A channel that isn't seen is NaN.
  - Nothing is published without an image: who listens finds old states stale.
  - Whatever can't be used is said in words, counted, and left out: an image of another encoding or size, one without a
    stamp, out of order, from the future, or exposed longer ago than `max_image_age_s`; a tag that is not where the file
    has it, is seen twice, or jumps.
  - Once a second its health goes to /diagnostics: images, what is hidden, how long from an image's stamp to its states.
Lenses are the rig's; a camera whose lens it doesn't have is waited for on its camera info. A twin tells its objects
itself, unless its parameter `tracked` is set: two who tell are said to be two.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg

from skimo_core.contract.errors import SkimoError, SpecError

from . import conversions as convert
from .guarded import Complaints, publishers_of
from .nodes import EVENT_QOS, STATE_QOS, Names, component, now_s, only_one, run
from .parameters import SETUP, TRACKING, Parameter, declare
from .robots import set_up

Intrinsics = Report = Tracker = Any
"""skimo_calibration's, which is loaded when the node is made."""
PARAMETERS = (
    *SETUP,
    *TRACKING,
    Parameter("tracker", "", "which tags tell which channel: a tracker's name, or a file's path; empty: the domain's"),
    Parameter("max_image_age_s", 0.5, "an image that was exposed longer ago is refused", low=0.01, high=10.0),
)
HEALTH_S = 1.0
SILENT_S = 1.0
"""A camera that sends nothing for so long is silent."""
AHEAD_S = 0.05
"""By so much a stamp may lie in the future: two machines' clocks."""
LATENCIES = 50
SAME_LENS = 0.01
"""Share by which a camera info may differ from the rig's lens."""


@dataclass(slots=True)
class Camera:
    """What came of one camera: images used and refused, when the last came (steady clock), and why one was refused."""

    name: str
    lens: Intrinsics | None
    used: int = 0
    refused: int = 0
    heard_s: float = field(default_factory=time.monotonic)
    why: str = ""


class TrackerNode(Node):
    """Cameras in, object states out."""

    def __init__(self) -> None:
        super().__init__("tracker_node")
        values = declare(self, PARAMETERS)
        self._only_one = only_one(self)
        # no other node of the stack looks at pictures
        from skimo_calibration.objects.tracker_file import load_tracker
        from skimo_calibration.objects.viewpoint import check_cameras, lens_of

        setup = set_up(values)
        self._domain, self._rig, self._max_age_s = setup.domain, setup.rig, values["max_image_age_s"]
        self._spec = load_tracker(values["tracker"] or setup.domain.name)
        self._spec.check_domain(setup.domain)
        check_cameras(setup.rig, self._spec.cameras)
        self._cameras: dict[str, Camera] = {}
        for name in self._spec.cameras:
            known = setup.rig.cameras[name]
            lens = lens_of(known, name, setup.rig.name) if known.lens is not None else None
            self._cameras[name] = Camera(name=name, lens=lens)
        self._tracker: Tracker | None = self._make_tracker()
        self._report: Report | None = None
        self._latencies_s: deque[float] = deque(maxlen=LATENCIES)
        self._ages_s: deque[float] = deque(maxlen=LATENCIES)
        self._published = self._published_before = 0
        self._complaints = Complaints(self.get_logger().warning)
        self._states = self.create_publisher(ObjectStatesMsg, setup.adapter.object_states, STATE_QOS)
        self._health = self.create_publisher(DiagnosticArray, Names.DIAGNOSTICS, EVENT_QOS)
        self._message = ObjectStatesMsg()
        self._message.header.frame_id = "world"
        for name in self._cameras:
            image, info = Names.IMAGE.format(name), Names.CAMERA_INFO.format(name)
            self.create_subscription(Image, image, partial(self._take, name), STATE_QOS)
            self.create_subscription(CameraInfo, info, partial(self._take_info, name), STATE_QOS)
        self.create_timer(HEALTH_S, self._tell_health)
        waiting = [camera.name for camera in self._cameras.values() if camera.lens is None]
        hint = f"; waits for the camera info of {', '.join(waiting)}" if waiting else ""
        self.get_logger().info(f"tracker {self._spec.name} looks through {', '.join(self._cameras)}{hint}")

    # --- what comes in ----------------------------------------------------------------------------------------------

    def _take(self, name: str, message: Image) -> None:
        camera = self._cameras[name]
        camera.heard_s = time.monotonic()
        try:
            if self._tracker is None:
                raise SpecError("the lens of some camera is not known yet: neither the rig nor a camera info tells it")
            stamp_s = convert.stamp_of(message)
            self._check_age(self._tracker, name, stamp_s)
            look = self._tracker.look(name, convert.picture(message), stamp_s)
            report = self._report = self._tracker.take(look)
        except SkimoError as error:
            camera.refused, camera.why = camera.refused + 1, str(error)
            raise  # the executor says it, with who sent it
        camera.used, camera.why = camera.used + 1, ""
        self._states.publish(convert.fill_object_states(self._message, report.states))
        self._published += 1
        self._latencies_s.append(now_s(self) - stamp_s)
        self._ages_s.append(now_s(self) - report.states.stamp_s)
        for words in report.words:
            what, _, reason = words.partition(": ")
            self._complaints.about(what, reason or words)

    def _check_age(self, tracker: Tracker, name: str, stamp_s: float) -> None:
        """Raises SpecError for an image that is too old, from the future, or was never stamped."""
        age_s = now_s(self) - stamp_s + tracker.views[name].latency_s
        if -AHEAD_S <= age_s <= self._max_age_s:
            return
        if age_s < 0:
            raise SpecError(
                f"image of camera {name!r} is stamped {-age_s:.2f} s in the future, bound {AHEAD_S:g} s; set both "
                "machines' clocks by one (chrony, PTP)"
            )
        raise SpecError(
            f"image of camera {name!r} was exposed {age_s:.2f} s ago, bound {self._max_age_s:g} s (max_image_age_s); "
            "does its driver stamp images by this clock, and keep up?"
        )

    def _take_info(self, name: str, message: CameraInfo) -> None:
        """Take over a lens that the rig doesn't have; say so where it has another one."""
        width, height, matrix, distortion = convert.camera_info(message)
        from skimo_calibration.cameras.camera import Intrinsics as Lens

        (fx, _, cx), (_, fy, cy), _ = matrix.tolist()
        told = Lens(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy, distortion=distortion)
        camera = self._cameras[name]
        if camera.lens is None:
            camera.lens = told
            self._tracker = self._make_tracker()
            return
        known = camera.lens
        if (width, height) != (known.width, known.height) or abs(fx - known.fx) > SAME_LENS * known.fx:
            raise SpecError(
                f"camera info of {name!r} is of {width} x {height} px and a focal length of {fx:.0f} px, the rig's "
                f"lens of {known.width} x {known.height} px and {known.fx:.0f} px, which is used; is this the camera, "
                "in the mode in which it was calibrated?"
            )

    def _make_tracker(self) -> Tracker | None:
        """The tracker, once every lens is known."""
        from skimo_calibration.objects.tracking import tracker_of

        lenses = {camera.name: camera.lens for camera in self._cameras.values() if camera.lens is not None}
        if len(lenses) < len(self._cameras):
            return None
        return tracker_of(self._spec, self._rig, self._domain, lenses)

    # --- what is told -----------------------------------------------------------------------------------------------

    def _tell_health(self) -> None:
        level, words = self._judge()
        values: dict[str, Any] = {
            "tracker": self._spec.name,
            "rig": self._rig.name,
            "rate_hz": (self._published - self._published_before) / HEALTH_S,
            "latency_s": float(np.mean(self._latencies_s)) if self._latencies_s else float("nan"),
            "latency_worst_s": max(self._latencies_s, default=float("nan")),
            "hidden": ", ".join(self._report.hidden) if self._report is not None else "everything",
        }
        for camera in self._cameras.values():
            values[f"{camera.name}: images"], values[f"{camera.name}: refused"] = camera.used, camera.refused
        self._published_before = self._published
        self._health.publish(convert.diagnostics(now_s(self), component(self, "tracker"), level, words, values))

    def _judge(self) -> tuple[str, str]:
        """How the tracker does, and in words what is wrong."""
        silent = [c for c in self._cameras.values() if time.monotonic() - c.heard_s > SILENT_S]
        refused = [f"{camera.name}: {camera.why}" for camera in self._cameras.values() if camera.why]
        others = [who for who in publishers_of(self, self._states.topic_name) if not who.endswith(self.get_name())]
        wrong = [
            f"no image of camera {c.name!r} on {Names.IMAGE.format(c.name)!r}; is its driver running?" for c in silent
        ]
        wrong += refused
        if others:
            wrong.append(
                f"{', '.join(others)} publishes {self._states.topic_name!r} too; let the twin tell its own elsewhere "
                "(tracked:=true)"
            )
        bound_s = self._domain.tracking.max_age_s
        age_s = float(np.mean(self._ages_s)) if self._ages_s else 0.0
        if age_s > bound_s:
            wrong.append(
                f"states go out {age_s * 1e3:.0f} ms after their exposure, and the domain allows an age of "
                f"{bound_s * 1e3:.0f} ms (objects.max_age_s); take smaller images, or allow more (objects_max_age_s)"
            )
        if len(silent) + len(refused) >= len(self._cameras):
            return "error", "; ".join(wrong)
        return ("warn", "; ".join(wrong)) if wrong else ("ok", "tracking")


def main() -> int:
    """Run the tracker's node."""
    return run(TrackerNode)


if __name__ == "__main__":
    sys.exit(main())
