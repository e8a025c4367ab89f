"""Records episodes: one MCAP file each, from its start event to its end, of everything needed to look at it later.

Promises
  - `<directory>/<episode id>.mcap` (an id that is no file name is made one) holds control steps, plans, gate verdicts,
    episode events, joint states, object states and what was sent to the driver, as the messages themselves; readable by
    public tools without ROS, by nobody but its owner unless the group is let in.
  - Killed at any moment, it loses a fraction of a second of the running episode; the next recorder mends the file's
    end, learns of the running episode from skimo/plan_status and records the rest as the next part.
  - Recording never slows the graph: messages are not decoded (control steps alone are, for their numbers), and a slow
    disk costs the oldest of them, counted.
  - With `keep_robot_state` it holds the driver's own robot state as well, at the driver's rate, up to a bound in MiB;
    where the disk is slow, this goes before all else.
  - Whatever is not recorded is said at once: in the log, in skimo/recorder (latched) and in /diagnostics. A folder that
    can't take recordings ends the node at its start, unless an episode runs: then it tries again and says so.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from skimo_msgs.msg import EpisodeEvent, EpisodeStep, GateEvent, HandStatus, ObjectStates, PlanStatus, RecorderStatus
from trajectory_msgs.msg import JointTrajectory

from skimo_core.contract.errors import SetupError, SkimoError
from skimo_core.control.reports import EpisodeNews, PolicyReport
from skimo_core.domain.cell import load_cell
from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.files import MEBIBYTE
from skimo_core.episodes.repair import repair, unended

from . import conversions as convert
from .adapters import Adapter, robot_state_type
from .definitions import full_definition, type_name
from .ending import AFTER_POLICY
from .episode_log import EpisodeLog, Folder, earlier_part
from .nodes import EVENT_QOS, LATEST_QOS, RECORD_QOS, Names, component, now_s, only_one, run
from .parameters import CELL, SETUP, Parameter, declare
from .polling import PolledGroup, decode, subscribe_polled, take_all
from .recording import Channel, Sample
from .robots import set_up

PARAMETERS = (
    *SETUP,
    CELL,
    Parameter("directory", "recordings", "folder for the recordings; made if it is not there"),
    Parameter("queue", 2000, "messages that may wait for the disk", low=10, high=100000),
    Parameter("group_readable", False, "whether the folder's group may read recordings (else their owner alone)"),
    Parameter("min_free_mib", 200.0, "free space below which nothing is recorded, MiB", low=0.0, high=1e9),
    Parameter("mend", True, "mend recordings in the folder that have no end, at start"),
    Parameter(
        "keep_robot_state", False, "keep the driver's own robot state too, for skimo calibrate latency and sysid"
    ),
    Parameter("robot_state_max_mib", 256.0, "most of it in an episode's file, MiB", low=1.0, high=800.0),
)
DRAIN_S = 0.1
ADOPT_S = 0.3
"""How long after the news that an unknown episode runs its start event may still come."""
ASK_S = 2.0
"""How long a recorder whose folder is unusable asks, at its start, whether an episode runs."""
RUNNING = ("preparing", "running", "missed", "held")
STATE_QUEUE_QOS = QoSProfile(depth=2000, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QUEUE_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
STATUS_QUEUE_QOS = QoSProfile(
    depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""Deep enough for a pause of 8 s at the fastest rate (250 Hz), and of a minute and more at the others."""


def recorded_topics(adapter: Adapter) -> dict[str, tuple[Any, QoSProfile]]:
    """What is recorded: topic -> message type and quality of service. Episode events are taken first, plans last."""
    return {
        Names.EPISODE: (EpisodeEvent, RECORD_QOS),
        Names.EPISODE_STEP: (EpisodeStep, RECORD_QOS),
        Names.GATE: (GateEvent, RECORD_QOS),
        Names.HAND: (HandStatus, EVENT_QOS),
        adapter.joint_states: (JointState, STATE_QUEUE_QOS),
        adapter.object_states: (ObjectStates, STATE_QUEUE_QOS),
        adapter.command: (JointTrajectory, COMMAND_QUEUE_QOS),
        Names.PLAN_STATUS: (PlanStatus, STATUS_QUEUE_QOS),
    }


class RecorderNode(Node):
    """Listens, and hands what it hears to an EpisodeLog."""

    ends_after = AFTER_POLICY

    def __init__(self) -> None:
        super().__init__("recorder_node")
        values = self._values = declare(self, PARAMETERS)
        self._only_one = only_one(self)
        self._folder = Folder(
            path=Path(values["directory"]).expanduser(),
            min_free_mib=values["min_free_mib"],
            group=values["group_readable"],
            capacity=values["queue"],
        )
        setup = set_up(values)
        domain = setup.domain
        cell = load_cell(values["cell"] or domain.cell)
        self._about = EpisodeMeta(
            episode_id="",
            source="policy",
            rate_hz=domain.action.rate_hz,
            channels=domain.observation.names,
            domain=domain.named,
            robot=setup.limits.named,
            cell=cell.named,
            rig=setup.rig.named,
        )
        topics = recorded_topics(setup.adapter)
        self._extra = ""
        if values["keep_robot_state"]:
            topics[setup.adapter.robot_state] = (robot_state_type(setup.adapter), STATE_QUEUE_QOS)
            self._extra = self.resolve_topic_name(setup.adapter.robot_state)
        resolved = {topic: self.resolve_topic_name(topic) for topic in topics}
        channels = tuple(
            Channel(topic=resolved[topic], kind=type_name(kind), definition=full_definition(type_name(kind)))
            for topic, (kind, _) in topics.items()
        )
        self._events, self._steps, self._plans = (
            self.resolve_topic_name(name) for name in (Names.EPISODE, Names.EPISODE_STEP, Names.PLAN_STATUS)
        )
        group = PolledGroup()
        self._topics = [
            (self.resolve_topic_name(topic), subscribe_polled(self, kind, topic, qos, group, raw=True))
            for topic, (kind, qos) in topics.items()
        ]
        self._log = EpisodeLog(self._folder, channels, self._say)
        self._end_news: EpisodeNews | None = None
        self._last_id = ""
        self._stranger: tuple[str, float, PolicyReport] | None = None
        self._recent: deque[list[Sample]] = deque(maxlen=1 + round(2 * ADOPT_S / DRAIN_S))
        self._strays: list[Sample] = []
        self._numbers: dict[str, int] = {}
        self._told: tuple[object, ...] = ()
        self._status = self.create_publisher(RecorderStatus, Names.RECORDER, LATEST_QOS)
        self._health = self.create_publisher(DiagnosticArray, Names.DIAGNOSTICS, EVENT_QOS)
        self._refuse_unusable()
        self.create_timer(DRAIN_S, self._drain)
        self.create_timer(1.0, self._tell_health)
        if values["mend"]:
            threading.Thread(target=self._mend, name="mend", daemon=True).start()
        self.get_logger().info(f"recordings go to {self._folder.path}")

    def close(self) -> None:
        """End the file properly."""
        self._end()
        self._log.close()

    # --- at start ---------------------------------------------------------------------------------------------------

    def _refuse_unusable(self) -> None:
        """Raises SetupError if the folder can't take recordings; not while an episode runs, which that would end."""
        if not (why := self._folder.why_unusable()):
            return
        until_s = time.monotonic() + ASK_S
        while self._stranger is None and time.monotonic() < until_s:
            for sample in self._take():
                if sample.topic == self._plans:
                    self._hear(sample, time.monotonic(), may_wait=False)
            time.sleep(DRAIN_S)
        if self._stranger is None:
            raise SetupError(f"recordings can't go to {self._folder.path}: {why}")

    def _mend(self) -> None:
        """Mend what an earlier recorder left without an end; in a thread of its own."""
        for path in unended(self._folder.path):
            try:
                made = repair(path)
            except SkimoError as error:
                self.get_logger().warning(f"{error}; it is left as it is")
                continue
            if made.done == "repaired":
                self.get_logger().info(f"mended {path}: {made.messages} messages ({made.damage})")

    # --- messages ---------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Take what has come since the last time, in the order in which it came."""
        now = time.monotonic()
        ending = self._end_news is not None
        strays, self._strays = self._strays, []
        samples = sorted([*strays, *self._take()], key=lambda s: s.log_ns)
        self._recent.append(samples)
        for sample in samples:
            self._hear(sample, now, may_wait=sample not in strays)
        if ending and self._end_news is not None:
            self._end()  # one drain after the end: its last messages have come
        if self._stranger is not None and now - self._stranger[1] > ADOPT_S:
            self._adopt(now)
        self._log.poll(now)
        self._tell_status()

    def _hear(self, sample: Sample, now: float, *, may_wait: bool) -> None:
        """Take note of one message and record it; one that can't be read is left out, and told."""
        try:
            if sample.topic == self._events:
                self._take_event(sample, now)
            elif sample.topic == self._plans:
                self._note_status(sample)
            self._record(sample, may_wait=may_wait)
        except SkimoError as error:
            self.get_logger().warning(f"{sample.topic}: {error}; left out", throttle_duration_sec=1.0)

    def _take(self) -> list[Sample]:
        samples = []
        for topic, subscription in self._topics:
            for data, info in take_all(subscription):
                log_ns, publish_ns = info["received_timestamp"], info["source_timestamp"]
                samples.append(Sample(topic=topic, data=data, log_ns=log_ns, publish_ns=publish_ns))
                self._count(topic, info.get("publication_sequence_number"))
        return samples

    def _count(self, topic: str, number: int | None) -> None:
        """Notice messages that never came by their sender's numbers, where the middleware tells them."""
        if number is None or topic == self._steps:
            return
        before = self._numbers.get(topic, number)
        self._numbers[topic] = number
        if number > before + 1 and self._log.episode_id is not None and self.count_publishers(topic) == 1:
            self._log.note_missed(topic, number - before - 1)

    def _record(self, sample: Sample, *, may_wait: bool = False) -> None:
        if sample.topic == self._steps:
            episode_id, number = convert.step_place(decode(EpisodeStep, sample.data))
            if episode_id != self._log.episode_id:
                if may_wait:
                    self._strays.append(sample)  # its episode's start may come with the next drain
                return
            if not self._log.note_step(number):
                return
        if sample.topic == self._extra:
            self._log.put_extra(sample, round(self._values["robot_state_max_mib"] * MEBIBYTE))
        else:
            self._log.put(sample)

    def _take_event(self, sample: Sample, now: float) -> None:
        news = convert.from_episode_event(decode(EpisodeEvent, sample.data))
        if news.kind == "start":
            self._end()
            self._begin(self._meta_of(news), now)
        if news.kind == "end" and news.episode.episode_id == self._log.episode_id:
            self._end_news = news

    def _note_status(self, sample: Sample) -> None:
        """Remember since when an episode runs whose start was not heard."""
        report = convert.from_plan_status(decode(PlanStatus, sample.data))
        unknown = report.episode_id not in ("", self._last_id)
        if report.state not in RUNNING or not unknown:
            self._stranger = None
        elif self._stranger is None or self._stranger[0] != report.episode_id:
            self._stranger = (report.episode_id, time.monotonic(), report)

    # --- episodes ---------------------------------------------------------------------------------------------------

    def _begin(self, meta: EpisodeMeta, now: float) -> None:
        self._last_id, self._stranger = meta.episode_id, None
        self._log.begin(meta, now)

    def _adopt(self, now: float) -> None:
        """Record the rest of an episode that was under way when this recorder started."""
        assert self._stranger is not None
        report = self._stranger[2]
        earlier = earlier_part(self._folder.path, report.episode_id)
        self._say(
            "error",
            f"episode {report.episode_id[:60]} was under way at step {report.step} when this recorder heard of it; "
            + ("an earlier part of it is there, what lies between is lost" if earlier else "its beginning is lost"),
        )
        self._end()
        self._begin(self._meta_of_rest(report, earlier), now)
        for sample in [sample for samples in self._recent for sample in samples]:
            self._record(sample)

    def _end(self) -> None:
        news, self._end_news = self._end_news, None
        if news is None:
            self._log.end({"complete": "false"}, None)
            return
        outcome = {
            "complete": "true",
            "success": str(news.success).lower(),
            "subtasks_done": str(news.subtasks_done),
            "steps": str(news.steps),
            "missed_ticks": str(news.missed_ticks),
            "detail": news.detail,
        }
        self._log.end(outcome, news.steps)

    def _meta_of(self, news: EpisodeNews) -> EpisodeMeta:
        episode = news.episode
        return replace(
            self._about,
            episode_id=episode.episode_id,
            source=episode.source,
            task=",".join(episode.subtasks),
            seed=episode.seed,
            bundle_id=episode.bundle_id,
            explore=episode.explore if 0.0 <= episode.explore < math.inf else None,
        )

    def _meta_of_rest(self, report: PolicyReport, earlier: EpisodeMeta | None) -> EpisodeMeta:
        """Of the rest of a running episode: from its earlier part, else from what the policy says of itself."""
        if earlier is not None:
            return replace(earlier, part=earlier.part + 1)
        known = {"episode_id": report.episode_id, "task": report.task, "bundle_id": report.bundle_id}
        return replace(self._about, **known, part=2)

    # --- what is told -----------------------------------------------------------------------------------------------

    def _say(self, level: str, words: str) -> None:
        logger = self.get_logger()
        if level == "error":
            logger.error(words)
        elif level == "warn":
            logger.warning(words)
        else:
            logger.info(words)

    def _tell_status(self, *, always: bool = False) -> None:
        report = self._log.report()
        told = (report.state, report.reason, report.episode_id, report.file)
        if always or told != self._told:
            self._told = told
            self._status.publish(convert.to_recorder_status(report, now_s(self)))

    def _tell_health(self) -> None:
        self._tell_status(always=True)
        report = self._log.report()
        lost = report.dropped or report.lost_steps
        level = "error" if report.state == "failed" or report.lost_steps else "warn" if report.reason or lost else "ok"
        values: dict[str, Any] = {
            "directory": str(self._folder.path),
            "episode": report.episode_id,
            "file": report.file,
            "part": report.part,
            "written": report.written,
            "dropped": report.dropped,
            "lost_steps": report.lost_steps,
        }
        text = report.reason or (f"recording {report.file}" if report.state == "recording" else "idle")
        self._health.publish(convert.diagnostics(now_s(self), component(self, "recorder"), level, text, values))


def main() -> int:
    """Run the recorder's node."""
    return run(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
