"""Records episodes: one MCAP file each, from its start event to its end, of everything needed to look at it later.

Promises
  - `<directory>/<episode id>.mcap` holds control steps, plans, gate verdicts, episode events, joint states, object
    states and what was sent to the driver, as the messages themselves; readable by public tools without ROS.
  - Killed at any moment, it loses a fraction of a second of the running episode (skimo_ros.recording).
  - Recording never slows the graph: messages are not decoded, and a slow disk costs the oldest of them, counted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from skimo_msgs.msg import EpisodeEvent, EpisodeStep, GateEvent, ObjectStates, PlanStatus
from trajectory_msgs.msg import JointTrajectory

from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.errors import SetupError, SpecError
from skimo_core.tasks import kitchen

from . import conversions as convert
from .adapters import Adapter, load_adapter
from .definitions import full_definition, type_name
from .guarded import Complaints
from .nodes import EVENT_QOS, Names, now_s, only_one, run
from .parameters import DRIVER, Parameter, declare
from .polling import PolledGroup, subscribe_polled, take_all
from .recording import Channel, Recording, Sample
from .reports import EpisodeNews

PARAMETERS = (
    *DRIVER,
    Parameter("directory", "recordings", "folder for the recordings; made if it is not there"),
    Parameter("queue", 2000, "messages that may wait for the disk", low=10, high=100000),
)
DRAIN_S = 0.1
STATE_QUEUE_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QUEUE_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Deep enough for what comes between two drains, at the fastest rates (250 Hz)."""


def recorded_topics(adapter: Adapter) -> dict[str, tuple[Any, QoSProfile]]:
    """What is recorded: topic -> message type and quality of service."""
    return {
        Names.EPISODE_STEP: (EpisodeStep, EVENT_QOS),
        Names.PLAN_STATUS: (PlanStatus, EVENT_QOS),
        Names.GATE: (GateEvent, EVENT_QOS),
        Names.EPISODE: (EpisodeEvent, EVENT_QOS),
        adapter.joint_states: (JointState, STATE_QUEUE_QOS),
        adapter.object_states: (ObjectStates, STATE_QUEUE_QOS),
        adapter.command: (JointTrajectory, COMMAND_QUEUE_QOS),
    }


class RecorderNode(Node):
    """Listens, and writes."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self._values = declare(self, PARAMETERS)
        self._only_one = only_one(self)
        self._directory = Path(self._values["directory"]).expanduser()
        self._complaints = Complaints(self.get_logger().warning)
        self._recording: Recording | None = None
        self._episode_id = ""
        self._end_news: EpisodeNews | None = None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(
                f"recordings can't go to {self._directory}: {error.strerror}; give another directory"
            ) from None
        topics = recorded_topics(load_adapter(self._values["driver"], self._values["arm"]))
        self._channels = tuple(
            Channel(topic=_absolute(topic), kind=type_name(kind), definition=full_definition(type_name(kind)))
            for topic, (kind, _) in topics.items()
        )
        group = PolledGroup()
        self._topics = [
            (_absolute(topic), subscribe_polled(self, kind, topic, qos, group, raw=True))
            for topic, (kind, qos) in topics.items()
        ]
        self._health = self.create_publisher(DiagnosticArray, Names.DIAGNOSTICS, EVENT_QOS)
        self.create_timer(DRAIN_S, self._drain)
        self.create_timer(1.0, self._tell_health)
        self.get_logger().info(f"recordings go to {self._directory}")

    def close(self) -> None:
        """End the file properly."""
        self._end()

    def _drain(self) -> None:
        """Take what has come since the last time, in the order in which it came."""
        ending = self._end_news is not None
        samples = [
            Sample(topic=topic, data=data, log_ns=info["received_timestamp"], publish_ns=info["source_timestamp"])
            for topic, subscription in self._topics
            for data, info in take_all(subscription)
        ]
        for sample in sorted(samples, key=lambda s: s.log_ns):
            if sample.topic == _absolute(Names.EPISODE):
                self._hear(sample)
            if self._recording is not None:
                self._recording.put(sample)
        if ending and self._end_news is not None:
            self._end()  # one drain after the end: its last messages have come

    def _hear(self, sample: Sample) -> None:
        try:
            self._take_event(convert.from_episode_event(deserialize_message(sample.data, EpisodeEvent)))
        except SpecError as error:
            self._complaints.about(f"message on {sample.topic!r}", str(error))

    def _take_event(self, news: EpisodeNews) -> None:
        if news.kind == "start":
            self._begin(news)
        if news.kind == "end" and news.episode.episode_id == self._episode_id:
            self._end_news = news

    def _begin(self, news: EpisodeNews) -> None:
        self._end()
        episode, domain = news.episode, kitchen()
        meta = EpisodeMeta(
            episode_id=episode.episode_id,
            source=episode.source,
            task=",".join(episode.subtasks),
            rate_hz=domain.action.rate_hz,
            seed=episode.seed,
            bundle_id=episode.bundle_id,
            channels=domain.observation.names,
        )
        path = _free_path(self._directory, episode.episode_id)
        try:
            self._recording = Recording(path, meta, self._channels, self._values["queue"])
        except OSError as error:
            self.get_logger().error(f"{path}: {error.strerror}; this episode is not recorded")
            return
        self._episode_id = episode.episode_id
        self.get_logger().info(f"recording {path}")

    def _end(self) -> None:
        recording, news = self._recording, self._end_news
        self._recording, self._end_news, self._episode_id = None, None, ""
        if recording is None:
            return
        outcome = {"complete": "false"}
        if news is not None:
            outcome = {
                "complete": "true",
                "success": str(news.success).lower(),
                "subtasks_done": str(news.subtasks_done),
                "steps": str(news.steps),
                "missed_ticks": str(news.missed_ticks),
                "detail": news.detail,
            }
        recording.close(outcome)
        if recording.failure:
            self.get_logger().error(recording.failure)
        self.get_logger().info(f"wrote {recording.path}: {recording.written} messages, {recording.dropped} dropped")

    def _tell_health(self) -> None:
        recording = self._recording
        values: dict[str, Any] = {"directory": str(self._directory)}
        level, text = "ok", "idle"
        if recording is not None:
            values.update(file=recording.path.name, written=recording.written, dropped=recording.dropped)
            level = "error" if recording.failure else "warn" if recording.dropped else "ok"
            text = recording.failure or f"recording {recording.path.name}"
        self._health.publish(convert.diagnostics(now_s(self), "skimo: recorder", level, text, values))


def _absolute(topic: str) -> str:
    return topic if topic.startswith("/") else f"/{topic}"


def _free_path(directory: Path, episode_id: str) -> Path:
    """A file name for the episode that is not taken yet."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in episode_id)
    path, count = directory / f"{name}.mcap", 1
    while path.exists():
        count += 1
        path = directory / f"{name}-{count}.mcap"
    return path


def main() -> int:
    """Run the recorder's node."""
    return run(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
