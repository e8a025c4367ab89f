"""Recordings of others in HDF5, and what a recording is at all: what is read of them, and how what is wrong is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from core.mutated import cut, flip, splice
from support.foreign import (
    POINTER,
    arm_bag,
    d4rl_table,
    json_mcap,
    lerobot_folder,
    minari_file,
    robomimic_file,
    trace_file,
    wave,
)

from skimo_core.contract.errors import EpisodeError
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_core.ingest import files
from skimo_core.ingest.formats import FORMATS, open_source
from skimo_core.ingest.source import Session, Signal, Source


def sessions(path: Path, *, skip_damaged: bool = False, format: str = "auto") -> list[Session]:
    return list(open_source(path, format).sessions(skip_damaged=skip_damaged))


def refused(path: Path, format: str = "auto") -> str:
    """Why it is refused, by whichever of opening, looking and reading comes to it first."""
    with pytest.raises(EpisodeError) as caught:
        source = open_source(path, format)
        list(source.sessions())
        source.about()
    words = str(caught.value)
    assert "\n" not in words and len(words) < 700
    return words


def check(session: Session) -> None:
    """What every session promises."""
    assert session.name
    for name, signal in session.signals.items():
        assert name == signal.name
        assert signal.values.shape == (len(signal.times_s), len(signal.columns))
        assert signal.values.dtype == signal.times_s.dtype == np.float64
        assert (np.diff(signal.times_s) >= 0).all() and (signal.times_s >= 0).all()
        assert len(set(signal.columns)) == len(signal.columns)
    starts = [signal.times_s[0] for signal in session.signals.values() if len(signal.times_s)]
    assert not starts or float(min(starts)) == 0.0
    assert all(end >= 0 for end in session.ends)


def values(session: Session, name: str) -> np.ndarray:
    signal: Signal = session.signals[name]
    return signal.values


# --- HDF5 -----------------------------------------------------------------------------------------------------------


def test_a_flat_table_is_one_session_with_its_ends(tmp_path: Path) -> None:
    for timeouts in (True, False):
        path = tmp_path / f"{timeouts}.hdf5"
        d4rl_table(path, (6, 4), timeouts=timeouts)
        (session,) = sessions(path)
        check(session)
        assert (session.ends, session.whole, session.timed, session.rate_hz) == ((5, 9), False, False, None)
        np.testing.assert_allclose(values(session, "observations"), wave(10, 11), atol=1e-6)
        assert {"actions", "infos/qpos", "terminals"} <= set(session.signals)
        about = open_source(path).about()
        assert about.format == "d4rl" and any("metadata/policy" in note for note in about.notes)


def test_a_flat_table_without_marks_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.h5"
    d4rl_table(path)
    with h5py.File(path, "r+") as file:
        del file["terminals"], file["timeouts"]
    (session,) = sessions(path)
    assert session.ends == () and not session.whole
    assert "no episode's end is marked" in " ".join(open_source(path).about().notes)


@pytest.mark.parametrize("grouped", [False, True])
def test_minaris_episodes_are_sessions_in_order(tmp_path: Path, grouped: bool) -> None:
    path = tmp_path / "main_data.hdf5"
    minari_file(path, range(3, 14), grouped=grouped)
    found = sessions(path)
    assert [session.name for session in found] == [f"episode_{k}" for k in range(11)]
    for index, session in enumerate(found):
        check(session)
        observations = session.signals["observations/observation" if grouped else "observations"]
        actions = session.signals["actions"]
        assert len(observations.values) == len(actions.values) + 1 == index + 4
        np.testing.assert_array_equal(observations.values, wave(index + 4, 12, index))
        np.testing.assert_array_equal(observations.times_s[:-1], actions.times_s)
        assert session.whole and "infos/names" not in session.signals
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    path.rename(folder / "main_data.hdf5")
    assert len(sessions(folder.parent)) == 11 and open_source(folder.parent).about().format == "minari"


def test_robomimics_demonstrations_have_rate_robot_and_task(tmp_path: Path) -> None:
    path = tmp_path / "low_dim.hdf5"
    robomimic_file(path, [4] * 11)
    found = sessions(path)
    assert [session.name for session in found] == [f"demo_{k}" for k in range(11)]
    for index, session in enumerate(found):
        check(session)
        assert (session.rate_hz, session.task, session.timed) == (20.0, "Lift", False)
        np.testing.assert_array_equal(values(session, "obs/robot0_joint_pos"), wave(4, 7, index))
        np.testing.assert_allclose(session.signals["actions"].times_s, np.arange(4) / 20)
        assert not any("next_obs" in name or "image" in name for name in session.signals)
    about = open_source(path).about()
    notes = " ".join(about.notes)
    assert (about.format, about.robot) == ("robomimic", "Panda")
    assert "agentview_image" in notes and "masks train" in notes and "next_obs" in notes


def test_groups_of_equally_long_fields_are_sessions_on_their_own_times(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    trace_file(path, 12)
    with h5py.File(path, "r+") as file:
        file["Trial0/scale"] = np.ones(3)
        file["Trial0/observations"].attrs["units"] = "rad"
    found = sessions(path)
    assert [session.name for session in found] == [f"Trial{k}" for k in range(12)]
    for index, session in enumerate(found):
        check(session)
        assert session.timed
        np.testing.assert_array_equal(values(session, "env_infos/obs_dict/qp_robot"), wave(11, 9, index))
        np.testing.assert_allclose(session.signals["actions"].times_s, 0.08 * np.arange(11))
    assert found[0].signals["env_infos/state/body_pos"].columns[:4] == ("0.0", "0.1", "0.2", "1.0")
    assert found[0].signals["observations"].unit == "rad" and "scale" not in found[0].signals
    assert "field scale is skipped: it has 3 rows" in " ".join(open_source(path).about().notes)


def test_a_file_with_fields_in_its_root_is_one_session(tmp_path: Path) -> None:
    """As ALOHA's episode_<i>.hdf5; a folder of them is a set."""
    for index in (0, 1, 10, 2):
        with h5py.File(tmp_path / f"episode_{index}.hdf5", "w") as file:
            file["action"] = wave(9, 14, index)
            file["observations/qpos"] = wave(9, 14, index)
            file["observations/images/top"] = np.zeros((9, 4, 4, 3), np.uint8)
    (tmp_path / "README.txt").write_text("mine")
    found = sessions(tmp_path)
    assert [session.name for session in found] == [f"episode_{k}.hdf5/0" for k in (0, 1, 2, 10)]
    for session, index in zip(found, (0, 1, 2, 10)):
        check(session)
        np.testing.assert_array_equal(values(session, "observations/qpos"), wave(9, 14, index))
    about = open_source(tmp_path).about()
    assert "1 entries are no recordings and left out: README.txt" in about.notes and not about.licence
    assert about.format == "hdf5" and about.files[-1] == "episode_10.hdf5" and len(about.files) == 4


def test_the_same_bytes_have_the_same_digest_and_others_another(tmp_path: Path) -> None:
    trace_file(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes())
    (tmp_path / "LICENSE").write_text("\n  MIT License\n\nCopyright")
    a, b = open_source(tmp_path / "a.h5").about(), open_source(tmp_path / "b.h5").about()
    assert a.digest == b.digest and a.licence == "MIT License"
    trace_file(tmp_path / "b.h5", 4)
    assert open_source(tmp_path / "b.h5").about().digest != a.digest


# --- what is wrong --------------------------------------------------------------------------------------------------


def d4rl_without(name: str, put: object = None) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        d4rl_table(path)
        with h5py.File(path, "r+") as file:
            del file[name]
            if put is not None:
                file[name] = put

    return make


def changed(make: Callable[[Path], None], edit: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def made(path: Path) -> None:
        make(path)
        with h5py.File(path, "r+") as file:
            edit(file)

    return made


def replaced(name: str, put: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[name]
        if put is not None:
            file[name] = put

    return edit


def huge(file: h5py.File) -> None:
    del file["Trial1/observations"]
    file.create_dataset("Trial1/observations", (10**11, 5), np.float64, chunks=(1024, 5))
    del file["Trial1/actions"], file["Trial1/time"], file["Trial1/env_infos"]


def outside(file: h5py.File) -> None:
    file["Trial1/more"] = h5py.ExternalLink("/etc/passwd", "/")


def stored_outside(file: h5py.File) -> None:
    file["Trial1"].create_dataset("more", (11, 1), np.float64, external=[("passwd", 0, 88)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (d4rl_without("actions"), "field actions is missing"),
        (d4rl_without("actions", wave(9, 4)), "observations 10, actions 9"),
        (d4rl_without("timeouts", np.zeros(9, bool)), "observations 10, timeouts 9"),
        (d4rl_without("timeouts", np.zeros((10, 2), bool)), "observations 10, timeouts 20"),
        (d4rl_without("terminals", b"none"), "field terminals holds"),
        (d4rl_without("observations", np.zeros(10)), "observations is float64 (10,), must be a matrix"),
        (changed(minari_file, replaced("episode_1/actions", None)), "session episode_1: field actions is missing"),
        (changed(minari_file, replaced("episode_1/actions", wave(3, 3))), "observations 6, actions 3"),
        (changed(minari_file, lambda file: file.move("episode_1", "episode_x")), "'episode_x' is not named episode_<"),
        (changed(minari_file, replaced("episode_1/actions", np.array([b"a"] * 5))), "actions holds no numbers"),
        (changed(robomimic_file, replaced("data/demo_1/actions", None)), "session demo_1: field actions is missing"),
        (changed(robomimic_file, replaced("data/demo_1/rewards", np.zeros(3))), "actions 4, rewards 3"),
        (changed(robomimic_file, replaced("data/demo_1", None)), "total says 15 steps, its demonstrations hold 11"),
        (
            changed(trace_file, replaced("Trial1/time", np.arange(11)[::-1] * 0.1)),
            "time falls from 1 to 0.9 s at row 1",
        ),
        (changed(trace_file, replaced("Trial1/time", np.full(11, np.nan))), "time is nan at row 0"),
        (changed(trace_file, outside), "Trial1/more is a link into another file ('/etc/passwd')"),
        (changed(trace_file, stored_outside), "field more is stored in other files"),
        (changed(trace_file, huge), "500,000,000,000 numbers, bound 100,000,000"),
        (changed(trace_file, lambda file: file.clear()), "holds no field of numbers"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_by_file_field_and_value(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    make(tmp_path / "wrong.hdf5")
    said = refused(tmp_path / "wrong.hdf5")
    assert said.startswith("wrong.hdf5: ") and words in said, said


@pytest.mark.parametrize(
    ("make", "damaged", "good"),
    [
        (changed(minari_file, replaced("episode_1/actions", None)), "episode_1", ["episode_0"]),
        (changed(robomimic_file, replaced("data/demo_1/actions", None)), "demo_1", ["demo_0", "demo_2"]),
        (changed(trace_file, replaced("Trial1/time", np.arange(11)[::-1])), "Trial1", ["Trial0", "Trial2"]),
    ],
)
def test_what_is_good_still_loads_on_request_and_the_damage_is_told(
    tmp_path: Path, make: Callable[[Path], None], damaged: str, good: list[str]
) -> None:
    make(tmp_path / "wrong.hdf5")
    assert "--skip-damaged" in refused(tmp_path / "wrong.hdf5")
    found = {session.name: session for session in sessions(tmp_path / "wrong.hdf5", skip_damaged=True)}
    assert [name for name, session in found.items() if not session.damage] == good
    assert damaged in found[damaged].damage and set(found) == {damaged, *good}


def test_a_field_that_is_not_a_number_stays_that(tmp_path: Path) -> None:
    path = tmp_path / "nan.hdf5"
    changed(trace_file, lambda file: file["Trial1/actions"].write_direct(np.full((11, 3), np.nan)))(path)
    assert np.isnan(values(sessions(path)[1], "actions")).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (POINTER.encode(), "is a Git LFS pointer"),
        (b"/annex/objects/MD5E-s1--abc.hdf5\n", "is a git-annex pointer"),
        (b"hello", "is of no known format"),
        (b"#ROSBAG V2.0\n", "is a bag of ROS 1"),
        (b"PAR1" + bytes(40), "is one Parquet file"),
        (b"PK\x03\x04" + bytes(40), "is a zip archive"),
    ],
)
def test_what_is_no_recording_is_said_by_its_bytes_whatever_its_name(
    tmp_path: Path, content: bytes, words: str
) -> None:
    for name in ("data.hdf5", "data.mcap", "data"):
        (tmp_path / name).write_bytes(content)
        assert words in refused(tmp_path / name)


def test_folders_that_hold_nothing_or_various_things_are_refused(tmp_path: Path) -> None:
    assert "there is no such file or folder" in refused(tmp_path / "none")
    empty, other, mixed, lost = (tmp_path / name for name in ("empty", "other", "mixed", "lost"))
    for folder in (empty, other, mixed, lost):
        folder.mkdir()
    (other / "notes.txt").write_text("nothing")
    trace_file(mixed / "a.h5")
    d4rl_table(mixed / "b.h5")
    trace_file(lost / "a.h5")
    (lost / "b.h5").touch()
    assert "is an empty folder" in refused(empty)
    assert "is no recording and holds none (but notes.txt)" in refused(other)
    assert "a.h5 is hdf5" in refused(mixed) and "b.h5 is d4rl" in refused(mixed)
    assert "b.h5: is empty" in refused(lost)
    found = sessions(lost, skip_damaged=True)
    assert len(found) == 4 and "b.h5: is empty" in found[-1].damage and not found[-1].signals
    assert "b.h5: is empty (0 bytes)" in " ".join(open_source(lost).about().notes)
    (lost / "a.h5").write_text(POINTER)
    assert "a.h5: is a Git LFS pointer" in refused(lost)


def test_a_named_format_must_be_the_one_that_is_there(tmp_path: Path) -> None:
    trace_file(tmp_path / "a.h5")
    assert "no format 'rlds'; there are auto, d4rl, minari" in refused(tmp_path / "a.h5", "rlds")
    assert "--format is rosbag2" in refused(tmp_path / "a.h5", "rosbag2")
    assert "field observations is missing" in refused(tmp_path / "a.h5", "d4rl")
    d4rl_table(tmp_path / "b.h5")
    assert len(sessions(tmp_path / "b.h5", format="hdf5")) == 1


def test_our_own_recordings_need_no_ingest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episode = Episode(
        observations=rng.normal(size=(5, 3)).astype(np.float32),
        actions=rng.uniform(-1, 1, (4, 2)).astype(np.float32),
        meta=EpisodeMeta(episode_id="mine", source="play", channels=("a", "b", "c")),
    )
    write_episode(tmp_path / "mine.mcap", episode)
    assert "mine.mcap: is a recording that skimo made" in refused(tmp_path / "mine.mcap")
    assert "needs no ingest" in refused(tmp_path)


# --- altered bytes --------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Path], None]] = {
    "d4rl": d4rl_table,
    "minari": minari_file,
    "robomimic": robomimic_file,
    "hdf5": trace_file,
    "mcap_json": lambda path: json_mcap(path, [("/a", 10**18 + k, {"x": [1.0, 2.0], "k": k}) for k in range(200)]),
}


@pytest.mark.parametrize("format", list(MAKERS))
def test_a_file_cut_short_anywhere_is_refused_or_read_as_damaged_but_never_raises_otherwise(
    tmp_path: Path, format: str
) -> None:
    path = tmp_path / "whole"
    MAKERS[format](path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    assert open_source(path).about().format == format
    for _ in range(12):
        path.write_bytes(cut(whole, rng))
        refused(path)
        _read_salvaged(path)


@pytest.mark.parametrize("format", list(MAKERS))
def test_altered_files_raise_nothing_but_refusals(tmp_path: Path, format: str) -> None:
    path = tmp_path / "whole"
    MAKERS[format](path)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for index in range(30):
        path.write_bytes((flip, splice)[index % 2](whole, rng))
        _read_salvaged(path)


def _read_salvaged(path: Path) -> None:
    try:
        source: Source = open_source(path)
        for session in source.sessions(skip_damaged=True):
            check(session)
        source.about()
    except EpisodeError as error:
        assert str(error)


# --- real ones ------------------------------------------------------------------------------------------------------

RECORDINGS = os.environ.get("SKIMO_RECORDINGS", "")
REAL = {
    "lerobot_v30_so101": ("lerobot", 6, "observation.state", (383, 6)),
    "lerobot_v30_slice": ("lerobot", 2, "action", (12, 14)),
    "robohive": ("hdf5", 10, "env_infos/obs_dict/qp_robot", (51, 9)),
    "labelbox_franka_mcap": ("mcap_json", 1, "/joint_states.position", (4, 9)),
}


@pytest.mark.skipif(not RECORDINGS, reason="SKIMO_RECORDINGS names no folder of others' recordings")
@pytest.mark.parametrize("name", REAL)
def test_real_recordings_are_read(name: str) -> None:
    format, count, signal, shape = REAL[name]
    source = open_source(Path(RECORDINGS) / name)
    found = list(source.sessions())
    for session in found:
        check(session)
    assert (source.about().format, len(found)) == (format, count)
    assert values(found[0], signal).shape == shape


@pytest.mark.skipif(not RECORDINGS, reason="SKIMO_RECORDINGS names no folder of others' recordings")
@pytest.mark.parametrize("name", ["talker_mcap", "talker_sqlite3"])
def test_a_real_bag_without_numbers_says_what_it_holds(name: str) -> None:
    words = refused(Path(RECORDINGS) / "rosbag2" / name)
    assert "nothing that is a number over time" in words and "/topic (std_msgs/msg/String, 10 messages)" in words


PROTOBUF = "mcap_protobuf"  # in test_ingest_protobuf.py


def test_every_format_has_a_test_here_or_beside(tmp_path: Path) -> None:
    arm_bag(3).write(tmp_path / "bag")
    lerobot_folder(tmp_path / "set")
    others = {open_source(tmp_path / name).about().format for name in ("bag", "set")} | {PROTOBUF}
    assert others | set(MAKERS) == set(FORMATS) and files.MAX_VALUES > 0
