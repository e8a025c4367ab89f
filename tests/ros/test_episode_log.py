"""An episode on disk, whatever happens to the disk; without a graph."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mcap.reader import make_reader
from support.waiting import wait_until

from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.recording import read_meta
from skimo_core.episodes.repair import repair
from skimo_ros.episode_log import RETRY_S, EpisodeLog, Folder
from skimo_ros.recording import Channel, Recording, Sample

CHANNEL = Channel(topic="/t", kind="std_msgs/msg/String", definition="string data")
META = EpisodeMeta(episode_id="e", source="policy", seed=3)


class Said(list[tuple[str, str]]):
    """What was said, level and words."""

    def __call__(self, level: str, words: str) -> None:
        self.append((level, words))

    def has(self, level: str, *words: str) -> bool:
        return any(said == level and all(word in text for word in words) for said, text in self)


def sample(k: int, size: int = 1) -> Sample:
    return Sample(topic="/t", data=bytes([k % 256]) * size, log_ns=k, publish_ns=-k)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def log(tmp_path: Path, said: Said) -> EpisodeLog:
    return EpisodeLog(Folder(path=tmp_path / "r", min_free_mib=1.0, capacity=100), (CHANNEL,), said)


def poll_until(log: EpisodeLog, condition: Callable[[], object], now_s: float = 0.0) -> None:
    def done() -> object:
        log.poll(now_s)
        return condition()

    wait_until(done, "the log to come to it", 30.0)


def messages(path: Path) -> list[int]:
    with path.open("rb") as stream:
        return [m.data[0] for _, _, m in make_reader(stream).iter_messages()]


def test_a_full_queue_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    recording = Recording(tmp_path, "q", META, (CHANNEL,), capacity=4, start=False)
    for k in range(10):
        recording.put(sample(k))
    assert recording.dropped == 6
    recording.finish({"complete": "true"})  # with a full queue and nobody who empties it: returns at once
    recording.start()
    assert recording.join() and not recording.failure and recording.saved == 4
    assert messages(tmp_path / "q.mcap") == [6, 7, 8, 9]


def test_a_removed_folder_is_told_as_lost_and_the_episode_goes_on(log: EpisodeLog, said: Said, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    log.begin(META, 0.0)
    log.put(sample(1))
    poll_until(log, lambda: log.report().written == 1)
    shutil.rmtree(folder)
    log.put(sample(2))
    poll_until(log, lambda: log.report().part == 2)
    assert said.has("error", "e.mcap", "the file is gone", "1 messages with it")
    log.put(sample(3))
    log.end({"complete": "true"}, None)
    poll_until(log, lambda: said.has("info", "wrote", "e.part2.mcap"))
    assert not any("wrote" in words and "e.mcap:" in words for _, words in said)
    assert messages(folder / "e.part2.mcap") == [2, 3] and read_meta(folder / "e.part2.mcap").part == 2
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_moved_file_is_told_as_lost(log: EpisodeLog, said: Said, tmp_path: Path) -> None:
    log.begin(META, 0.0)
    (tmp_path / "r").rename(tmp_path / "elsewhere")
    log.put(sample(1))
    log.end({"complete": "true"}, None)
    poll_until(log, lambda: said.has("error", "is gone", "the end of episode e is not recorded"))
    assert not said.has("info", "wrote") and "gone" in log.report().reason


def test_a_full_disk_ends_a_part_at_its_last_whole_chunk(log: EpisodeLog, said: Said, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    log.begin(META, 0.0)
    log.put(sample(1))
    poll_until(log, lambda: log.report().written == 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        log.put(sample(2, 50_000))  # one byte repeated would pack well below the limit: 50 kB do too, so fill it
        for k in range(3, 60):
            log.put(Sample(topic="/t", data=bytes((k * i * i) % 251 for i in range(3000)), log_ns=k, publish_ns=k))
        poll_until(log, lambda: said.has("error", "File too large"))
        assert log.report().state == "failed" or log.report().part > 1
        poll_until(log, lambda: log.report().state == "failed")
        assert "File too large" in log.report().reason
        log.put(sample(99))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    poll_until(log, lambda: log.report().state == "recording", now_s=2 * RETRY_S)
    log.put(sample(100))
    log.close()
    assert log.report().dropped > 0
    newest = max((tmp_path / "r").glob("e.part*.mcap"), key=lambda p: p.stat().st_mtime_ns)
    assert 100 in messages(newest)
    assert repair(tmp_path / "r" / "e.mcap").done == "repaired" and messages(tmp_path / "r" / "e.mcap")[0] == 1


def test_an_episode_in_an_unusable_folder_is_failed_at_once_and_begun_when_it_can_be(
    said: Said, tmp_path: Path
) -> None:
    (tmp_path / "r").write_bytes(b"")
    log = EpisodeLog(Folder(path=tmp_path / "r", min_free_mib=0.0), (CHANNEL,), said)
    log.begin(META, 0.0)
    assert log.report().state == "failed" and said.has("error", "is a file, not a folder", "episode e")
    log.put(sample(1))
    (tmp_path / "r").unlink()
    log.poll(RETRY_S / 2)
    assert log.report().state == "failed"
    log.poll(RETRY_S)
    assert (log.report().state, log.report().dropped) == ("recording", 1)
    log.close()
    assert said.has("info", "wrote", "1 dropped")


def test_between_episodes_an_unusable_folder_is_said(log: EpisodeLog, tmp_path: Path) -> None:
    log.poll(0.0)
    assert log.report().state == "ready"
    shutil.rmtree(tmp_path / "r")
    (tmp_path / "r").write_bytes(b"")
    log.poll(100.0)
    assert log.report().state == "failed" and "is a file" in log.report().reason


def test_steps_that_never_came_are_counted_and_said(log: EpisodeLog, said: Said) -> None:
    log.begin(META, 0.0)
    assert [log.note_step(number) for number in (0, 1, 1, 5)] == [True, True, False, True]
    assert log.report().lost_steps == 3 and said.has("error", "control steps 2 to 4")
    log.end({"complete": "true"}, 10)
    assert log.report().lost_steps == 7
    log.close()
    assert said.has("info", "wrote", "7 control steps lost")


def test_messages_that_never_came_stand_in_the_reason(log: EpisodeLog) -> None:
    log.begin(META, 0.0)
    log.note_missed("/joint_states", 5)
    log.note_missed("/joint_states", 2)
    assert "7 of /joint_states" in log.report().reason
    log.close()


def test_what_others_go_before_is_kept_up_to_its_bound_and_while_the_disk_keeps_up(log: EpisodeLog, said: Said) -> None:
    log.begin(META, 0.0)
    for k in range(8):
        log.put_extra(sample(k, size=1000), most_bytes=5000)
    log.put(sample(100))
    assert "3 messages of /t are left out (beyond 0 MiB of them)" in log.report().reason
    log.end({"complete": "true"}, None)
    poll_until(log, lambda: said.has("info", "wrote"))
    (path,) = Path(log._folder.path).glob("*.mcap")
    assert messages(path) == [0, 1, 2, 3, 4, 100]
