"""Recordings: whole after an episode's end, of use after a kill, readable by public tools."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from ros.ros_harness import ANSWER_S, Processes, Watcher, wait_until
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import JointState
from skimo_msgs.msg import EpisodeEvent, EpisodeStep

from skimo_core.control import Step, StepKind
from skimo_core.episodes.recording import read_episode
from skimo_core.errors import EpisodeError
from skimo_core.types import Verdict
from skimo_ros import conversions as convert
from skimo_ros.nodes import EVENT_QOS, Names
from skimo_ros.recording import Channel, Recording, Sample
from skimo_ros.reports import Episode, EpisodeNews, StepRecord

STEPS = 60


class Player:
    """Publishes an episode's messages as the stack does."""

    def __init__(self, watcher: Watcher) -> None:
        node = self.node = watcher.node
        self.events = node.create_publisher(EpisodeEvent, Names.EPISODE, EVENT_QOS)
        self.steps = node.create_publisher(EpisodeStep, Names.EPISODE_STEP, EVENT_QOS)
        self.joints = node.create_publisher(JointState, "joint_states", EVENT_QOS)

    def close(self) -> None:
        for publisher in (self.events, self.steps, self.joints):
            self.node.destroy_publisher(publisher)

    def tell(self, kind: str, episode_id: str) -> None:
        episode = Episode(episode_id=episode_id, task="kitchen", subtasks=("kettle",), seed=3, bundle_id="b")
        news = EpisodeNews(kind=kind, stamp_s=1.0, episode=episode, success=kind == "end", steps=STEPS)
        self.events.publish(convert.to_episode_event(news))

    def step(self, index: int, episode_id: str, *, last: bool = False) -> None:
        record = StepRecord(
            index=index,
            due_s=1.0 + index * 0.08,
            step=Step(kind=StepKind.DONE if last else StepKind.ACT),
            observation_O=np.full(30, index, np.float32),
            applied_A=None if last else np.full(9, 0.5, np.float32),
            verdict=Verdict.PASS,
        )
        self.steps.publish(convert.to_episode_step(record, episode_id))

    def heard(self) -> bool:
        """Whether the recorder's subscriptions are matched: all in the graph are, and the recorder's are among them."""
        for publisher in (self.events, self.steps):
            there = self.node.get_subscriptions_info_by_topic(publisher.topic_name)
            matched = publisher.get_subscription_count() == len(there)
            if not matched or "recorder_node" not in {info.node_name for info in there}:
                return False
        return True


@pytest.fixture
def recorder(processes: Processes, watcher: Watcher, tmp_path: Path) -> Iterator[tuple[Player, Path]]:
    processes.node("recorder_node", directory=tmp_path)
    player = Player(watcher)
    wait_until(player.heard, "the recorder to listen")
    yield player, tmp_path
    player.close()
    if "recorder_node" in processes.running:
        assert processes.end("recorder_node") == 0


def bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def play(player: Player, path: Path, episode_id: str) -> None:
    """Start an episode and play its steps, a few at a time as the recorder takes them up."""
    player.tell("start", episode_id)
    wait_until(path.exists, "the file to be begun", ANSWER_S)
    for index in range(STEPS):
        player.step(index, episode_id)
        if index % 10 == 9:
            size = bytes_of(path)
            wait_until(lambda size=size: bytes_of(path) > size, "what was played to reach the file", ANSWER_S)


def test_an_episode_is_recorded_whole_and_public_tools_read_it(recorder: tuple[Player, Path]) -> None:
    player, folder = recorder
    path = folder / "whole.mcap"
    play(player, path, "whole")
    player.step(STEPS, "whole", last=True)
    player.tell("end", "whole")

    def complete() -> bool:
        try:
            return read_episode(path).steps == STEPS
        except EpisodeError:
            return False

    wait_until(complete, "the file to be ended", ANSWER_S)
    episode = read_episode(path)
    assert episode.meta.seed == 3 and episode.meta.bundle_id == "b" and episode.observations[7, 0] == 7.0
    with path.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        topics = [decoded[1].topic for decoded in reader.iter_decoded_messages()]
        assert topics.count("/skimo/episode_step") == STEPS + 1 and topics.count("/skimo/episode") == 2
    with AnyReader([path]) as bag:
        kinds = {connection.msgtype for connection in bag.connections}
        steps = [c for c in bag.connections if c.topic == "/skimo/episode_step"]
        first = next(bag.deserialize(raw, c.msgtype) for c, _, raw in bag.messages(connections=steps))
    assert "skimo_msgs/msg/EpisodeStep" in kinds and len(first.observation) == 30


def test_a_name_that_is_taken_is_not_overwritten(recorder: tuple[Player, Path]) -> None:
    player, folder = recorder
    (folder / "taken.mcap").write_bytes(b"precious")
    player.tell("start", "taken")
    wait_until((folder / "taken-2.mcap").exists, "another name", ANSWER_S)
    assert (folder / "taken.mcap").read_bytes() == b"precious"


def test_a_full_queue_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    from skimo_core.episodes.episode import EpisodeMeta

    channel = Channel(topic="/t", kind="std_msgs/msg/String", definition="string data")
    meta = EpisodeMeta(episode_id="e", source="policy")
    recording = Recording(tmp_path / "q.mcap", meta, (channel,), capacity=4, start=False)
    for k in range(10):
        recording.put(Sample(topic="/t", data=bytes([k]), log_ns=k, publish_ns=k))
    assert recording.dropped == 6
    recording.start()
    recording.close({"complete": "true"})
    with (tmp_path / "q.mcap").open("rb") as stream:
        assert [m.data[0] for _, _, m in make_reader(stream).iter_messages()] == [6, 7, 8, 9]


def test_a_killed_recorder_leaves_what_it_had(recorder: tuple[Player, Path], processes: Processes) -> None:
    player, folder = recorder
    path = folder / "killed.mcap"
    play(player, path, "killed")
    processes.running["recorder_node"].send_signal(signal.SIGKILL)
    processes.running.pop("recorder_node").wait()
    with pytest.raises(EpisodeError, match="salvage"):
        read_episode(path)
    assert read_episode(path, salvage=True).steps >= STEPS - 12
