"""An operator's label on a recording: what it does to what learners and watchdog read, and what it leaves alone."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from skimo_core.contract.errors import EpisodeError
from skimo_core.episodes import labelling
from skimo_core.episodes.cache import load_folder
from skimo_core.episodes.cli import label as label_command
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.experience import shown, transitions
from skimo_core.episodes.labelling import add_label
from skimo_core.episodes.labels import LABEL, MAX_NOTE, Label, parse_subtask
from skimo_core.episodes.locks import lock
from skimo_core.episodes.recording import EpisodeWriter, read_episode, read_judgements, write_episode
from skimo_core.episodes.repair import repair
from skimo_core.episodes.seal import sealed
from skimo_promote.driven import Recordings

STEPS = 40
TASK = "microwave,kettle,light switch"


def an_episode(*done: int, task: str = TASK, success: bool | None = False, **meta: object) -> Episode:
    """A policy's, of four skills, with a reward at each of these steps."""
    rewards = np.zeros(STEPS + 1, np.float32)
    np.add.at(rewards, list(done), 1.0)
    about = EpisodeMeta(episode_id="e", source="policy", task=task, bundle_id="b", success=success)
    return Episode(
        observations=np.zeros((STEPS + 1, 3), np.float32),
        actions=np.full((STEPS, 2), 0.5, np.float32),
        meta=replace(about, **meta),
        skills=np.repeat(np.arange(4) / 4, 10)[:, None].astype(np.float32),
        rewards=rewards,
        kinds=np.array(["act"] * STEPS + ["done"]),
        verdicts=np.zeros(STEPS + 1, np.uint8),
    )


def recorded(folder: Path, *done: int, **about: object) -> Path:
    path = folder / "e.mcap"
    write_episode(path, an_episode(*done, **about))  # type: ignore[arg-type]
    return path


def rewarded(path: Path) -> list[int]:
    rewards = read_episode(path).rewards
    assert rewards is not None
    return np.repeat(np.arange(STEPS + 1), rewards.astype(int)).tolist()


@pytest.mark.parametrize(
    ("given", "steps", "success"),
    [
        (Label(success=True), [5, 12, STEPS], True),  # what nobody says is known at the end alone
        (Label(success=False), [5, 12], False),
        (Label(done={"light switch": 30}), [5, 12, 30], True),
        (Label(done={"kettle": None, "microwave": 7}), [7], False),
        (Label(success=True, done={"light switch": 12}), [5, 12, 12], True),
    ],
)
def test_a_label_puts_right_what_the_goal_said(tmp_path: Path, given: Label, steps: list[int], success: bool) -> None:
    path = recorded(tmp_path, 5, 12)
    add_label(path, given)
    assert rewarded(path) == steps
    episode = read_episode(path)
    assert (episode.meta.success, episode.judged_by) == (success, "operator")


def test_one_sub_task_that_the_goal_has_as_done_is_taken_back(tmp_path: Path) -> None:
    path = recorded(tmp_path, 9, task="kettle", success=True)
    add_label(path, Label(success=False))
    assert rewarded(path) == [] and read_episode(path).meta.success is False


def test_without_a_known_task_or_rewards_a_label_says_success(tmp_path: Path) -> None:
    teleop = replace(an_episode(task="", success=None), rewards=None, kinds=None, skills=None, verdicts=None)
    path = tmp_path / "e.mcap"
    write_episode(path, teleop)
    add_label(path, Label(success=True))
    assert read_episode(path).meta.success is True and read_episode(path).rewards is None
    with pytest.raises(EpisodeError, match=r"e\.mcap: its task is not known.*--success alone"):
        add_label(path, Label(done={"kettle": 3}))


def test_learners_and_watchdog_see_the_label(tmp_path: Path) -> None:
    path = recorded(tmp_path, 5)
    watched = Recordings([tmp_path])
    (before,) = watched.look(0.0)
    assert before.done == pytest.approx(1 / 3)
    learned = shown(read_episode(path), "successes", 10)
    assert learned[:5].all() and not learned[5:].any()

    add_label(path, Label(done={"microwave": None, "kettle": 25, "light switch": 33}))
    episode = read_episode(path)
    learned = shown(episode, "successes", 10)
    assert np.flatnonzero(learned).tolist() == [*range(15, 33)]
    assert [t.reward for t in transitions(episode, 10)] == [0.0, 0.0, 1.0, 1.0]
    (after,) = watched.look(0.0)
    assert after.done == pytest.approx(2 / 3) and after.whole
    cache, _ = load_folder(tmp_path)
    assert cache.metas[0].success is False


def test_the_last_label_counts_alone_and_all_stay_in_the_file(tmp_path: Path) -> None:
    path = recorded(tmp_path, 5, 12, 20, success=True)
    first, second = Label(done={"microwave": None}, at="2026-01-01"), Label(success=True, note="es war doch offen")
    add_label(path, first)
    add_label(path, second)
    by_goal, labels = read_judgements(path)
    assert labels == (first, second) and rewarded(path) == [5, 12, 20]
    assert (by_goal.meta.success, by_goal.judged_by) == (True, "goal")
    assert by_goal.rewards is not None and by_goal.rewards.sum() == 3.0


def test_all_that_was_recorded_stays_and_public_tools_read_it(tmp_path: Path) -> None:
    path = recorded(tmp_path, 5)
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    before = read_episode(path)
    add_label(path, Label(success=True))
    state = path.stat()
    assert (stat.S_IMODE(state.st_mode), state.st_mtime_ns) == (0o640, 10**18)
    assert [p.name for p in tmp_path.iterdir()] == ["e.mcap"]
    after = read_episode(path)
    for field in ("observations", "actions", "skills", "kinds", "verdicts"):
        np.testing.assert_array_equal(getattr(before, field), getattr(after, field))
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        assert len(list(reader.iter_decoded_messages())) == STEPS + 1
        assert {record.name for record in reader.iter_metadata()} == {"skimo.episode", LABEL}
        assert next(r for r in reader.iter_metadata() if r.name == LABEL).metadata["by"] == "operator"


def test_a_recording_that_is_mended_keeps_its_labels(tmp_path: Path) -> None:
    path = recorded(tmp_path, 5)
    add_label(path, Label(done={"kettle": 8}))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EpisodeError, match="skimo repair"):
        add_label(path, Label(success=True))
    assert repair(path).done == "repaired"
    assert rewarded(path) == [5, 8]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Label(done={"toaster": 3}), r"sub-task 'toaster' is none of its task's; there are microwave, kettle, light"),
        (Label(done={"kettle": STEPS + 1}), r"sub-task kettle at step 41, must lie in 1 to 40 .*or be never"),
        (Label(done={"kettle": 0}), r"at step 0, must lie in 1 to 40"),
        (Label(success=True, done={"kettle": None}), r"success is true, but sub-task kettle is at never; leave one"),
        (Label(success=False), r"success is false, but .* all done \(microwave at 5, .*say which was not"),
    ],
)
def test_a_label_that_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path, given: Label, why: str) -> None:
    path = recorded(tmp_path, 5, 12, 20)
    whole = path.read_bytes()
    with pytest.raises(EpisodeError, match=rf"e\.mcap: .*{why}"):
        add_label(path, given)
    assert path.read_bytes() == whole


def test_a_sub_task_that_stands_twice_in_its_task_is_refused(tmp_path: Path) -> None:
    path = recorded(tmp_path, 5, task="home,kettle,home")
    with pytest.raises(EpisodeError, match="'home' stands more than once in its task; use --success"):
        add_label(path, Label(done={"home": 9}))


def test_a_file_that_is_being_written_is_refused(tmp_path: Path) -> None:
    path = recorded(tmp_path, 5)
    with path.open("rb") as writer:
        assert lock(writer.fileno())
        with pytest.raises(EpisodeError, match=r"e\.mcap: is being written; label it when its episode is over"):
            add_label(path, Label(success=True))
    add_label(path, Label(success=True))


def test_damaged_foreign_and_partial_recordings_are_refused(tmp_path: Path) -> None:
    path = recorded(tmp_path, 5)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"success": false', b'"success": nulll'))
    with pytest.raises(EpisodeError, match=r"e\.mcap: .*was altered"):
        add_label(path, Label(success=True))
    path.write_bytes(b"not MCAP at all")
    with pytest.raises(EpisodeError, match=r"e\.mcap: is no MCAP file"):
        add_label(path, Label(success=True))
    with pytest.raises(EpisodeError, match=r"nowhere\.mcap: can't be labelled: No such file"):
        add_label(tmp_path / "nowhere.mcap", Label(success=True))
    write_episode(tmp_path / "late.mcap", an_episode(5, part=2))
    with pytest.raises(EpisodeError, match=r"late\.mcap: is part 2 of its episode.*label part 1"):
        add_label(tmp_path / "late.mcap", Label(success=True))


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recorded(tmp_path, 5)
    whole = path.read_bytes()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(labelling, "copy", full)
    with pytest.raises(EpisodeError, match=r"can't be labelled: No space left on device; the file is as it was"):
        add_label(path, Label(success=True))
    assert path.read_bytes() == whole and [p.name for p in tmp_path.iterdir()] == ["e.mcap"]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (sealed({"success": "perhaps"}), "success 'perhaps', must be 'true' or 'false'"),
        (sealed({"subtasks": "[1]"}), r"sub-tasks '\[1\]', must be steps by name"),
        (sealed({"subtasks": '{"kettle": 1.5}'}), "must be steps by name"),
        (sealed({"subtasks": '{"toaster": 1}'}), "'skimo.label': sub-task 'toaster' is none"),
        (sealed({"success": ""}), "says nothing"),
        ({"success": "true"}, "has no checksum"),
    ],
)
def test_a_forged_label_is_refused_when_it_is_read(tmp_path: Path, entries: dict[str, str], why: str) -> None:
    path = tmp_path / "e.mcap"
    with EpisodeWriter(path, an_episode().meta) as writer:
        for t in range(3):
            writer.step(0.08 * t, np.zeros(3, np.float32), np.zeros(2, np.float32))
        writer._writer.add_metadata(LABEL, entries)
    with pytest.raises(EpisodeError, match=rf"e\.mcap: .*{why}"):
        read_episode(path)


def test_the_command_labels_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path, 5, 12)
    assert label_command([str(path), "--subtask", "light switch@30", "kettle@never", "--note", "spilt"]) == 0
    assert "e.mcap labelled: no success; microwave at 5, kettle at never, light switch at 30" in capsys.readouterr().out
    assert label_command([str(tmp_path), "--show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "e.mcap e: 40 steps, 3.2 s"
    assert lines[1] == "  goal      no success; microwave at 5, kettle at 12, light switch at never"
    assert lines[2].startswith("  operator  light switch at 30, kettle at never (20") and lines[2].endswith("): spilt")
    assert lines[3] == "  counts    no success; microwave at 5, kettle at never, light switch at 30"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], "says nothing; give it --success true"),
        (["--success", "true", "--show"], "--show changes nothing"),
        (["--subtask", "kettle"], "'kettle' is not NAME@STEP or NAME@never"),
        (["--subtask", "kettle@-3"], "is not NAME@STEP"),
        (["--subtask", "kettle@3", "kettle@4"], "names one sub-task twice"),
        (["--success", "true", "--note", "x" * (MAX_NOTE + 1)], "note has 1001 characters, bound 1000"),
    ],
)
def test_the_command_refuses_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], told: str
) -> None:
    path = recorded(tmp_path, 5)
    whole = path.read_bytes()
    assert label_command([str(path), *asked]) == 1
    assert told in capsys.readouterr().err and path.read_bytes() == whole
    assert label_command([str(tmp_path), "--success", "true"]) == 1
    assert "is a folder; name the recordings" in capsys.readouterr().err


def test_of_several_recordings_one_that_is_refused_holds_no_other_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded(tmp_path, 5)
    assert label_command([str(tmp_path / "no.mcap"), str(path), "--success", "true"]) == 1
    assert "no.mcap" in capsys.readouterr().err and read_episode(path).meta.success is True


def test_a_name_may_hold_what_it_likes() -> None:
    assert parse_subtask("kettle.x=0.05+-0.01 & light@switch@7") == ("kettle.x=0.05+-0.01 & light@switch", 7)
