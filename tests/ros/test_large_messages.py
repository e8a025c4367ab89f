"""Images of another process arrive, every one, though they are sent best effort and larger than by default fits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ros.ros_harness import ANSWER_S, Processes, Watcher
from sensor_msgs.msg import Image
from support.waiting import wait_until

from skimo_ros.large_messages import OWN_CHOICES, PROFILE, PROFILE_VARIABLES, make_room
from skimo_ros.nodes import STATE_QOS

pytestmark = pytest.mark.ros

TOPICS = ("/large/left", "/large/right")
SHAPE = (720, 960, 3)
SENDER = f"""
import sys, numpy as np, rclpy
from sensor_msgs.msg import Image
from skimo_ros import conversions as convert
from skimo_ros.large_messages import make_room
from skimo_ros.nodes import STATE_QOS
make_room()
rclpy.init()
node = rclpy.create_node("sender")
publishers = [node.create_publisher(Image, topic, STATE_QOS) for topic in {TOPICS}]
for line in sys.stdin:  # the name of the frame to send
    for publisher in publishers:
        publisher.publish(convert.to_image(np.zeros({SHAPE}, np.uint8), line.strip(), 1.0))
"""


def test_every_image_of_two_cameras_arrives(processes: Processes, watcher: Watcher) -> None:
    came: dict[str, list[Image]] = {topic: [] for topic in TOPICS}
    node = watcher.node
    heard = [node.create_subscription(Image, topic, came[topic].append, STATE_QOS) for topic in TOPICS]
    environment = {name: value for name, value in processes.environment.items() if name not in OWN_CHOICES}
    sender = subprocess.Popen([sys.executable, "-c", SENDER], stdin=subprocess.PIPE, env=environment, text=True)
    assert sender.stdin is not None

    def send(frame: str) -> None:
        print(frame, file=sender.stdin, flush=True)

    def arrived(frame: str) -> bool:
        return all(messages and messages[-1].header.frame_id == frame for messages in came.values())

    def met() -> bool:
        send("first")
        return arrived("first")

    try:
        wait_until(met, "both to have met", poll_s=0.2)
        for frame in map(str, range(10)):
            send(frame)  # once
            wait_until(lambda frame=frame: arrived(frame), f"image {frame} of each camera", ANSWER_S)
    finally:
        sender.kill()
        sender.communicate()
        for subscription in heard:
            node.destroy_subscription(subscription)


@pytest.mark.parametrize("name", OWN_CHOICES)
def test_what_the_environment_chooses_is_left(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in OWN_CHOICES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "mine")
    before = dict(os.environ)
    assert not make_room()
    assert dict(os.environ) == before
    monkeypatch.delenv(name)
    for variable in PROFILE_VARIABLES:
        monkeypatch.setenv(variable, "")  # empty chooses nothing, and is put back afterwards
    assert make_room()
    assert {os.environ[variable] for variable in PROFILE_VARIABLES} == {str(PROFILE)}
