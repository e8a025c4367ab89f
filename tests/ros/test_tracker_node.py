"""The tracker's node: images in, object states out; and the twin's cameras. What can't be used is said."""

from __future__ import annotations

import array
import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.publisher import Publisher
from ros.ros_harness import ANSWER_S, Processes, Watcher
from sensor_msgs.msg import CameraInfo, Image, JointState
from skimo_msgs.msg import ObjectStates
from support.tag_views import draw
from support.tag_workbench import LATENCY_S, TRACKER, Workbench, rig_of, sign_free
from support.waiting import START_S, wait_until

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig_file import load_rig, write_rig
from skimo_ros import conversions as convert
from skimo_ros.nodes import STATE_QOS, Names, now_s

pytestmark = pytest.mark.ros

SPACE = "/seen"
BOUNDS = np.array([0.01, 0.002, 0.002, 1e-6, 0.003, 0.003, 0.003, 0.02, 0.02, 0.02, 0.02])
"""Of the workbench's channels."""


class Cell:
    """A tracker node, and the cameras that it listens to.

    Args:
        lens: whether the rig tells the cameras' lenses.
    """

    def __init__(self, folder: Path, processes: Processes, watcher: Watcher, *, lens: bool = True) -> None:
        self.folder, self.processes, self.watcher = folder, processes, watcher
        self.bench = Workbench(folder)
        self.pictures = {name: self.picture(name) for name in self.bench.tracker.views}
        self.states: list[ObjectStates] = []
        node = watcher.node
        self.images = {name: node.create_publisher(Image, self.topic(name), STATE_QOS) for name in self.pictures}
        self._heard = node.create_subscription(ObjectStates, f"{SPACE}/object_states", self.states.append, STATE_QOS)
        write_rig(folder / "rig.yaml", rig_of(self.bench, lens=lens))
        self.start()

    def start(self) -> None:
        files = {"domain": "workbench.yaml", "tracker": "tracker.yaml", "rig": "rig.yaml"}
        words = [word for key, name in files.items() for word in ("-p", f"{key}:={self.folder / name}")]
        start_node(self.processes, "tracker_node", *words)
        self.processes.wait_for_log("tracker_node", "looks through left, right")

    def close(self) -> None:
        if "tracker_node" in self.processes.running:
            self.processes.end("tracker_node")
        for publisher in self.images.values():
            self.watcher.node.destroy_publisher(publisher)
        self.watcher.node.destroy_subscription(self._heard)

    def topic(self, camera: str) -> str:
        return f"{SPACE}/{Names.IMAGE.format(camera)}"

    def picture(self, camera: str) -> np.ndarray:
        return draw(self.bench.tags(), self.bench.tracker.views[camera], self.bench.rng)

    def send(self, camera: str, stamp_s: float | None = None, **changes: Any) -> float:
        """Publish a camera's picture, stamped now or then, with some of its message's fields changed."""
        stamp_s = now_s(self.watcher.node) if stamp_s is None else stamp_s
        message = convert.to_image(self.pictures[camera], camera, stamp_s)
        for field, value in changes.items():
            setattr(message, field, value)
        self.images[camera].publish(message)
        return stamp_s

    def send_until(self, condition: Callable[[], Any], what: str, **changes: Any) -> Any:
        """Both cameras go on until something is so."""

        def sent() -> Any:
            for camera in self.images:
                self.send(camera, **changes)
            return condition()

        return wait_until(sent, what, START_S, lambda: self.log()[-2000:], poll_s=0.1)

    def refused(
        self, changes: dict[str, dict[str, Any]], words: tuple[str, ...], ages_s: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        """Both cameras go on, their images changed and of such ages, until all the words are said."""
        before = [self.log().count(said) for said in words]

        def sent() -> bool:
            for camera, age_s in zip(self.images, ages_s):
                self.send(camera, now_s(self.watcher.node) - age_s, **changes.get(camera, {}))
            return all(self.log().count(said) > count for said, count in zip(words, before))

        wait_until(sent, repr(words), START_S, lambda: self.log()[-2000:], poll_s=0.1)

    def log(self) -> str:
        return self.processes.log("tracker_node")

    def whole(self) -> list[ObjectStates]:
        """What was told of every channel."""
        return [message for message in self.states if not np.isnan(message.values).any()]

    def health(self) -> str:
        found = self.watcher.health(f"skimo{SPACE}: tracker")
        return found[0].message if found else ""


def start_node(processes: Processes, name: str, *words: str) -> None:
    argv = [sys.executable, "-m", f"skimo_ros.{name}", "--ros-args", "-r", f"__ns:={SPACE}", *words]
    processes.command(name, argv)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, processes: Processes, watcher: Watcher) -> Iterator[Cell]:
    cell = Cell(Path(tmp_path_factory.mktemp("cell")), processes, watcher)
    yield cell
    cell.close()


def test_channels_are_told_with_the_stamp_of_the_exposure(cell: Cell) -> None:
    cell.send_until(cell.whole, "every channel")
    told = convert.object_states(cell.whole()[-1])
    off = np.abs(sign_free(told.values) - sign_free(cell.bench.truth()))
    assert told.names == cell.bench.domain.observation.objects and (off < BOUNDS).all()
    sent_s, before = cell.send("left"), len(cell.states)
    wait_until(lambda: len(cell.states) > before, "an answer", ANSWER_S)
    stamp_s = convert.object_states(cell.states[-1]).stamp_s
    assert stamp_s <= sent_s - LATENCY_S + 1e-6 and sent_s - stamp_s < 1.0


def test_health_tells_rate_latency_and_what_is_hidden(cell: Cell) -> None:
    name = f"skimo{SPACE}: tracker"
    hidden = partial(cell.watcher.figures, name, "hidden")
    cell.send_until(lambda: cell.health() == "tracking" and hidden()[:1] == [""], "good health, and nothing hidden")
    latency_s = float(cell.watcher.figures(name, "latency_s")[0])
    print(f"from stamp to publication {latency_s * 1e3:.0f} ms")
    assert 0.0 < latency_s < 1.0
    assert float(cell.watcher.figures(name, "rate_hz")[0]) > 0.0


def test_without_images_nothing_is_told_and_health_says_why(cell: Cell) -> None:
    cell.send_until(cell.whole, "every channel")
    wait_until(lambda: "no image of camera 'left'" in cell.health(), "a word on it", ANSWER_S)
    count = len(cell.states)
    wait_until(lambda: len(cell.watcher.health(f"skimo{SPACE}: tracker")) > 2, "time", ANSWER_S)
    assert len(cell.states) == count
    assert now_s(cell.watcher.node) - convert.object_states(cell.states[-1]).stamp_s > 1.0


NONSENSE = [
    ({"encoding": "16UC1"}, "image of encoding '16UC1'; understood are mono8"),
    ({"encoding": "\x00" * 9000}, "image of encoding"),
    ({"width": 641}, "its sender is broken"),
    ({"height": 2**32 - 1}, "bounds 1 and"),
    ({"step": 1}, "its sender is broken"),
    ({"height": 0, "width": 0, "step": 0}, "image of 0 x 0 px"),
]


@pytest.mark.parametrize(("changes", "why"), NONSENSE)
def test_an_image_that_is_none_is_refused_in_words(changes: dict[str, Any], why: str) -> None:
    message = convert.to_image(np.zeros((480, 640), np.uint8), "left", 1.0)
    for field, value in changes.items():
        setattr(message, field, value)
    with pytest.raises(SpecError, match=why):
        convert.picture(message)


@pytest.mark.parametrize("encoding", convert.ENCODINGS)
def test_every_encoding_that_is_understood_gives_the_picture(encoding: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    channels = convert.ENCODINGS[encoding]
    pixels = rgb[:, :, ::-1] if encoding.startswith("bgr") else rgb
    pixels = np.concatenate([pixels, pixels[:, :, :1]], axis=2)[:, :, :channels]
    rows = np.pad(pixels.reshape(6, -1), ((0, 0), (0, 3)))  # rows may be longer than what they hold
    message = convert.to_image(rgb, "left", 1.0)
    message.encoding, message.step, message.data = encoding, rows.shape[1], array.array("B", rows.tobytes())
    assert np.array_equal(convert.picture(message), rgb[:, :, 0] if channels == 1 else rgb)


def test_a_camera_info_comes_back_as_it_was_told() -> None:
    matrix, distortion = (
        np.array([[620.0, 0.0, 323.0], [0.0, 621.0, 242.0], [0.0, 0.0, 1.0]]),
        np.array([0.0, 0.01, 0.02, 0.03, 0.04]),
    )
    message = convert.to_camera_info(640, 480, matrix, distortion, "left", 1.0)
    width, height, *told = convert.camera_info(message)
    assert (width, height) == (640, 480)
    assert np.array_equal(told[0], matrix) and np.array_equal(told[1], distortion)
    message.d = [*message.d, 0.0, 0.0, 0.0]
    message.distortion_model = "rational_polynomial"
    assert np.array_equal(convert.camera_info(message)[3], distortion)
    for field, value, why in (
        ("d", [0.1] * 8, "lens model 'rational_polynomial' with 8 coefficients"),
        ("k", np.zeros(9), "the driver knows no calibration"),
        ("width", 0, "the driver knows no calibration"),
    ):
        broken = convert.to_camera_info(640, 480, matrix, distortion, "left", 1.0)
        broken.distortion_model = "rational_polynomial" if field == "d" else "plumb_bob"
        setattr(broken, field, value)
        with pytest.raises(SpecError, match=why):
            convert.camera_info(broken)


def test_what_cant_be_used_is_said_and_left_out(cell: Cell) -> None:
    """One camera's images of a wrong encoding, the other's of a wrong size; then old ones, and ones from the future."""
    count = len(cell.states)
    cell.pictures["right"] = cell.pictures["right"][:, :320]
    try:
        words = ("image of encoding '16UC1'", "the picture is 320 x 480 px, the camera's are 640 x 480")
        cell.refused({"left": {"encoding": "16UC1"}}, words)
    finally:
        cell.pictures["right"] = cell.picture("right")
    assert f"published by /{cell.watcher.node.get_name()}" in cell.log()
    cell.refused({}, ("ago, bound 0.5 s", "in the future, bound 0.05 s"), ages_s=(1e9, -3.0))  # as good as no stamp
    assert len(cell.states) == count


def test_it_goes_on_after_all_that(cell: Cell) -> None:
    count = len(cell.whole())
    cell.send_until(lambda: len(cell.whole()) > count, "channels again")
    assert cell.processes.running["tracker_node"].poll() is None
    assert "fault of ours" not in cell.log()


def test_a_tag_that_came_loose_is_named(cell: Cell) -> None:
    cell.bench.moved = {2: np.array([0.0, 0.03, 0.03])}
    cell.pictures["left"] = cell.picture("left")
    try:
        cell.send_until(lambda: "door refused: tag 2 is" in cell.log(), "a word on it")
    finally:
        cell.bench.moved = {}
        cell.pictures["left"] = cell.picture("left")


def test_two_who_tell_are_said_to_be_two(cell: Cell) -> None:
    other = cell.watcher.node.create_publisher(ObjectStates, f"{SPACE}/object_states", STATE_QOS)
    try:
        cell.send_until(lambda: "let the twin tell its own elsewhere" in cell.health(), "a word on it")
    finally:
        cell.watcher.node.destroy_publisher(other)


def infos(cell: Cell, width: int, focal_scale: float = 1.0) -> Iterator[tuple[Publisher, CameraInfo]]:
    """A publisher and a message for each camera."""
    for name, view in cell.bench.tracker.views.items():
        lens = view.intrinsics
        matrix = lens.matrix * [[focal_scale], [focal_scale], [1.0]]
        message = convert.to_camera_info(width, lens.height, matrix, lens.distortion, name, now_s(cell.watcher.node))
        topic = f"{SPACE}/{Names.CAMERA_INFO.format(name)}"
        yield cell.watcher.node.create_publisher(CameraInfo, topic, STATE_QOS), message


def test_a_camera_info_that_is_not_the_rig_s_is_told(cell: Cell) -> None:
    for publisher, message in infos(cell, 1280, 2.0):

        def sent(publisher: Publisher = publisher, message: CameraInfo = message) -> bool:
            publisher.publish(message)
            return "is of 1280 x 480 px and a focal length of 1240 px, the rig's" in cell.log()

        wait_until(sent, "a word on it", START_S, poll_s=0.1)
        cell.watcher.node.destroy_publisher(publisher)


def test_lenses_that_the_rig_lacks_come_from_camera_infos(cell: Cell, tmp_path: Path) -> None:
    cell.processes.end("tracker_node")
    write_rig(cell.folder / "rig.yaml", rig_of(cell.bench, lens=False))
    cell.start()
    told = list(infos(cell, cell.bench.tracker.views["left"].intrinsics.width))
    cell.send_until(lambda: "the lens of some camera is not known yet" in cell.log(), "a word on it")
    count = len(cell.whole())

    def come() -> bool:
        for publisher, message in told:
            publisher.publish(message)
        return len(cell.whole()) > count

    cell.send_until(come, "channels")
    for publisher, _ in told:
        cell.watcher.node.destroy_publisher(publisher)
    cell.processes.end("tracker_node")


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"rig": "example"}, "rig example has no camera 'left'; there are wrist"),
        ({}, "rig (none) has no camera 'left'; there are none; give the cell's rig"),
        ({"tracker": "nowhere"}, "no tracker 'nowhere'; there are kitchen"),
        ({"rig": "bench.yaml", "tracker": "bare.yaml"}, "channel 'shelf' of domain workbench"),
        ({"rig": "bench.yaml", "max_image_age_s": 99.0}, "max_image_age_s"),
    ],
)
def test_a_setup_that_cant_be_ends_it_in_words(
    parameters: dict[str, Any], why: str, tmp_path: Path, processes: Processes
) -> None:
    bench = Workbench(tmp_path)
    write_rig(tmp_path / "bench.yaml", rig_of(bench))
    (tmp_path / "bare.yaml").write_text("\n".join(TRACKER.splitlines()[:-1]))
    given = {"domain": tmp_path / "workbench.yaml", "tracker": tmp_path / "tracker.yaml", **parameters}
    given |= {key: tmp_path / name for key, name in parameters.items() if str(name).endswith(".yaml")}
    start_node(processes, "tracker_node", *(word for key, name in given.items() for word in ("-p", f"{key}:={name}")))
    process = processes.running.pop("tracker_node")
    assert process.wait(START_S) == 1
    last = processes.log("tracker_node").splitlines()[-1]
    assert why in last and "Traceback" not in processes.log("tracker_node")


def test_the_twin_s_cameras_show_what_the_tracker_reads(processes: Processes, watcher: Watcher) -> None:
    """Joint and object states in, images in between, object states out."""
    from skimo_sim.twin import Twin

    node, domain, rig = watcher.node, load_domain(), load_rig("kitchen_twin")
    twin = Twin()
    robot, truth = twin.read(), twin.read_objects()
    robot.q_rad[0] -= 1.6  # out of the cameras' way
    joints = node.create_publisher(JointState, f"{SPACE}/joint_states", STATE_QOS)
    objects = node.create_publisher(ObjectStates, f"{SPACE}/{Names.TWIN_OBJECTS}", STATE_QOS)
    states: list[ObjectStates] = []
    shown: list[Image] = []
    heard = [
        node.create_subscription(ObjectStates, f"{SPACE}/object_states", states.append, STATE_QOS),
        node.create_subscription(Image, f"{SPACE}/{Names.IMAGE.format('left')}", shown.append, STATE_QOS),
    ]
    start_node(processes, "camera_node", "-p", "rig:=kitchen_twin", "-p", "image_rate_hz:=2.0")
    start_node(processes, "tracker_node", "-p", "rig:=kitchen_twin", "-p", "max_image_age_s:=5.0")

    def whole() -> list[ObjectStates]:
        stamp_s = now_s(node)
        arm, fingers = domain.observation.names[:7], domain.observation.names[7:9]
        joints.publish(
            convert.fill_joint_state(JointState(), dataclasses.replace(robot, stamp_s=stamp_s), arm, fingers)
        )
        objects.publish(convert.fill_object_states(ObjectStates(), dataclasses.replace(truth, stamp_s=stamp_s)))
        return [message for message in states if shown and not np.isnan(message.values).any()]

    try:
        logs = lambda: [processes.log(name)[-1500:] for name in ("camera_node", "tracker_node")]  # noqa: E731
        told = wait_until(whole, "every channel", 90.0, lambda: (len(shown), states[-1:], logs()), poll_s=0.05)[-1]
        units = np.array(domain.observation.units[9:])
        bounds = np.select([units == "rad", units == "m"], [0.01, 0.003], 0.02)
        assert (np.abs(convert.object_states(told).values - truth.values) < bounds).all()
        lens = rig.cameras["left"].lens
        assert lens is not None and (shown[0].width, shown[0].height, shown[0].encoding) == (
            lens.width,
            lens.height,
            "rgb8",
        )
        assert shown[0].header.frame_id == rig.cameras["left"].frame

        def complained() -> bool:
            lacking = dataclasses.replace(truth, stamp_s=now_s(node), names=truth.names[1:], values=truth.values[1:])
            objects.publish(convert.fill_object_states(ObjectStates(), lacking))
            return "object states lack channel 'knob_1'" in processes.log("camera_node")

        wait_until(complained, "a word on it", ANSWER_S, poll_s=0.2)
    finally:
        for name in ("tracker_node", "camera_node"):
            processes.end(name)
        for subscription in heard:
            node.destroy_subscription(subscription)
        for publisher in (joints, objects):
            node.destroy_publisher(publisher)
