"""Recordings: whole after an episode's end, of use after a kill, readable by public tools."""

from __future__ import annotations

import math
import resource
import signal
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from ros.ros_harness import ANSWER_S, Processes, Watcher
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import JointState
from skimo_msgs.msg import EpisodeEvent, EpisodeStep, PlanStatus, RecorderStatus
from support.waiting import wait_until

from skimo_core.contract.errors import EpisodeError
from skimo_core.contract.types import Verdict
from skimo_core.control import reports
from skimo_core.control.loop import Step, StepKind
from skimo_core.control.reports import EpisodeNews, PolicyReport, StepRecord
from skimo_core.domain.rig_file import load_rig
from skimo_core.episodes.episode import Episode
from skimo_core.episodes.labelling import add_label
from skimo_core.episodes.labels import Label
from skimo_core.episodes.locks import being_written
from skimo_core.episodes.recording import METADATA, read_episode, read_meta
from skimo_ros import conversions as convert
from skimo_ros.nodes import EVENT_QOS, LATEST_QOS, RECORD_QOS, Names
from skimo_ros.reports import RecorderReport

STEPS = 60


class Player:
    """Publishes an episode's messages as the stack does."""

    def __init__(self, watcher: Watcher) -> None:
        node = self.node = watcher.node
        self.events = node.create_publisher(EpisodeEvent, Names.EPISODE, RECORD_QOS)
        self.steps = node.create_publisher(EpisodeStep, Names.EPISODE_STEP, RECORD_QOS)
        self.plans = node.create_publisher(PlanStatus, Names.PLAN_STATUS, LATEST_QOS)
        self.said: list[RecorderReport] = []
        self.listener = node.create_subscription(RecorderStatus, Names.RECORDER, self._hear, LATEST_QOS)
        self.joints = node.create_publisher(JointState, "joint_states", EVENT_QOS)

    def close(self) -> None:
        for publisher in (self.events, self.steps, self.plans, self.joints):
            self.node.destroy_publisher(publisher)
        self.node.destroy_subscription(self.listener)

    def _hear(self, message: RecorderStatus) -> None:
        self.said.append(convert.from_recorder_status(message))

    def runs(self, episode_id: str, state: str = "running") -> None:
        """Say, latched, that this episode runs."""
        report = PolicyReport(state=state, episode_id=episode_id, task="kettle", step=7, bundle_id="b")
        self.plans.publish(convert.to_plan_status(report, 1.0, with_prediction=False))

    def tell(self, kind: str, episode_id: str, explore: float = 0.3) -> None:
        episode = reports.Episode(
            episode_id=episode_id, task="kitchen", subtasks=("kettle",), seed=3, bundle_id="b", explore=explore
        )
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


@pytest.fixture(scope="module")
def recorder(
    processes: Processes, watcher: Watcher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Player, Path]]:
    """One recorder for all; the test that kills it comes last and leaves another one."""
    folder = tmp_path_factory.mktemp("recordings")
    processes.node("recorder_node", directory=folder, min_free_mib=1.0, rig="example")
    player = Player(watcher)
    wait_until(lambda: player.said and player.heard(), "the recorder to listen")
    yield player, folder
    player.close()
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


def test_a_folder_that_can_t_take_recordings_is_refused_at_start(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    process = processes.node("recorder_node", directory=tmp_path / "file")
    assert process.wait(60) == 1
    processes.running.pop("recorder_node")
    said = processes.log("recorder_node").splitlines()[-1]
    assert "is a file, not a folder" in said and "give another directory" in said


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
    assert episode.meta.explore == 0.3 and episode.meta.rig == load_rig("example").named
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


def test_a_paused_recorder_loses_no_step(recorder: tuple[Player, Path], processes: Processes) -> None:
    player, folder = recorder
    path, count = folder / "paused.mcap", 200
    player.tell("start", "paused")
    wait_until(path.exists, "the file to be begun", ANSWER_S)
    processes.running["recorder_node"].send_signal(signal.SIGSTOP)
    for index in range(count):  # as many as come in 16 s
        player.step(index, "paused")
    processes.running["recorder_node"].send_signal(signal.SIGCONT)
    wait_until(lambda: player.said[-1].written >= count, "them to be written", 30.0, lambda: player.said[-1])
    player.step(count, "paused", last=True)
    player.tell("end", "paused")
    assert wait_until(lambda: whole(path), "its end", 30.0).steps == count
    assert player.said[-1].lost_steps == 0


def test_what_never_came_is_said_and_the_rest_can_be_salvaged(recorder: tuple[Player, Path]) -> None:
    player, folder = recorder
    path = folder / "gap.mcap"
    player.tell("start", "gap")
    wait_until(path.exists, "the file to be begun", ANSWER_S)
    for index in (*range(10), *range(30, 60)):
        player.step(index, "gap")
    wait_until(lambda: any(r.lost_steps == 20 and "10 to 29" in r.reason for r in player.said), "the gap", ANSWER_S)
    player.step(60, "gap", last=True)
    player.tell("end", "gap")
    saved = wait_until(lambda: whole(path, salvage=True, steps=30), "its end", ANSWER_S)
    assert (saved.first_step, saved.lost) == (30, ((10, 29),))


@pytest.mark.parametrize("episode_id", ["x" * 400, "../up", ""])
def test_an_id_that_is_no_file_name_is_recorded(recorder: tuple[Player, Path], episode_id: str) -> None:
    player, folder = recorder
    before = set(folder.iterdir())
    player.tell("start", episode_id)
    (path,) = wait_until(lambda: set(folder.glob("*.mcap")) - before, "a file", ANSWER_S)
    for index in range(STEPS):
        player.step(index, episode_id, last=index == STEPS - 1)
    player.tell("end", episode_id)
    assert wait_until(lambda: whole(path), "its end", ANSWER_S).meta.episode_id == episode_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_recorder_s_file_is_labelled_when_its_episode_is_over(recorder: tuple[Player, Path]) -> None:
    player, folder = recorder
    path = folder / "judged.mcap"
    play(player, path, "judged")
    with pytest.raises(EpisodeError, match="is being written; label it when its episode is over"):
        add_label(path, Label(success=False))
    player.step(STEPS, "judged", last=True)
    player.tell("end", "judged")
    wait_until(lambda: not being_written(path), "the file to be ended", ANSWER_S)
    before, whole = messages(path), read_episode(path)
    add_label(path, Label(done={"kettle": None}))
    assert (whole.meta.success, read_episode(path).meta.success) == (True, False)
    assert messages(path) == before and before["/skimo/episode_step"] == STEPS + 1


def messages(path: Path) -> dict[str, int]:
    """How many of each topic a recording holds, as public tools count them."""
    with path.open("rb") as stream:
        return dict(Counter(channel.topic for _, channel, _ in make_reader(stream).iter_messages()))


def test_an_event_of_unknown_kind_is_left_out(recorder: tuple[Player, Path], processes: Processes) -> None:
    player, folder = recorder
    player.events.publish(EpisodeEvent(kind=99, episode_id="odd"))
    processes.wait_for_log("recorder_node", "episode event of kind")
    player.tell("start", "after", explore=math.nan)
    after = folder / "after.mcap"
    wait_until(after.exists, "the next episode's file", ANSWER_S)
    wait_until(lambda: METADATA.encode() in after.read_bytes(), "its metadata", ANSWER_S)
    assert read_meta(after).explore is None


def test_a_full_disk_is_said_at_once_and_recording_goes_on_when_there_is_room(
    recorder: tuple[Player, Path], processes: Processes
) -> None:
    player, folder = recorder
    process = processes.running["recorder_node"]
    play(player, folder / "full.mcap", "full")
    none, log = (resource.RLIM_INFINITY,) * 2, processes.folder / "recorder_node.log"
    room = 8_000 + max(path.stat().st_size for path in (log, folder / "full.mcap"))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, none[1]))
    index = STEPS

    def failed() -> bool:
        nonlocal index
        player.step(index, "full")
        index += 1
        return any("File too large" in r.reason for r in player.said)

    wait_until(failed, "the failure to be said", 30.0, lambda: player.said[-1:])
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, none)
    wait_until(lambda: player.said[-1].state == "recording" and player.said[-1].part > 1, "the next part", 30.0)
    player.tell("end", "full")
    player.tell("start", "next")
    wait_until((folder / "next.mcap").exists, "the next episode", ANSWER_S)
    assert process.poll() is None and read_episode(folder / "full.mcap", salvage=True).steps >= STEPS - 12


def test_a_killed_recorder_s_successor_mends_its_file_and_records_the_rest(
    recorder: tuple[Player, Path], processes: Processes
) -> None:
    player, folder = recorder
    path, rest = folder / "killed.mcap", folder / "killed.part2.mcap"
    play(player, path, "killed")
    processes.kill("recorder_node")
    with pytest.raises(EpisodeError, match="salvage"):
        read_episode(path)
    assert read_episode(path, salvage=True).steps >= STEPS - 12
    player.runs("killed")
    processes.node("recorder_node", directory=folder, min_free_mib=1.0)
    wait_until(rest.exists, "the next part")
    for index in range(STEPS + 20, STEPS + 40):
        player.step(index, "killed")
    player.step(STEPS + 40, "killed", last=True)
    player.tell("end", "killed")
    episode = wait_until(lambda: whole(rest), "its end", ANSWER_S)
    assert (episode.first_step, episode.steps, episode.meta.part) == (STEPS + 20, 20, 2)
    assert episode.meta.seed == 3  # which only the first part knew
    assert any("part 2" in report.reason for report in player.said)
    mended = wait_until(lambda: whole(path), "the first part to be mended", ANSWER_S)
    assert mended.steps >= STEPS - 12
    player.runs("killed", "done")


def whole(path: Path, *, salvage: bool = False, steps: int = 0) -> Episode | None:
    """The recording, once it has its end (and that many steps)."""
    try:
        found = read_episode(path, salvage=salvage)
    except EpisodeError:
        return None
    return found if found.steps >= steps else None
