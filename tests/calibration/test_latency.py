"""Latencies: what is found is what was drawn, to a millisecond; what a log can't tell, or can't be true, is refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import calibrate_latency as bench
import numpy as np
import pytest
from mcap_ros2.writer import Writer

from skimo_calibration.cli import calibrate
from skimo_calibration.timing.driver_path import JOINS, DriverPath
from skimo_calibration.timing.latency import command_timing
from skimo_calibration.timing.seen import camera_shift, read_seen
from skimo_calibration.timing.shift import Shift, shift
from skimo_calibration.timing.timing import ArmLog, Sent, Track, check_sent, checked
from skimo_calibration.timing.timing_mcap import read_timing
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array, JointTrajectory
from skimo_core.domain.rig import Camera, Latency, Made, Rig
from skimo_core.domain.rig_file import load_rig, write_rig
from skimo_core.domain.robot import load_limits
from skimo_ros.definitions import full_definition

PANDA = load_limits("panda")
COMMAND_S, STATE_S = 0.03, 0.004
MADE = Made(date=datetime.date(2026, 1, 15), method="a test")


@pytest.fixture(scope="module")
def log() -> ArmLog:
    """The twin's, its commands and states late."""
    return bench.flown(COMMAND_S, STATE_S, 1, 8.0)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- commands and states ----------------------------------------------------------------------------------------------


def test_commands_and_states_are_told_by_a_log_with_the_driver_s_reference(log: ArmLog) -> None:
    found = command_timing(log, rng())
    assert found.command.late_s == pytest.approx(COMMAND_S, abs=1e-3) and found.joins == "splice"
    assert found.state is not None and found.state.late_s == pytest.approx(STATE_S, abs=2e-4)
    assert 0 <= found.lag.late_s - STATE_S < 1e-3 and found.at_most_s == 0.0
    assert found.command.sigma_s < 1e-3 and abs(found.halves_s[0] - found.halves_s[1]) < 2e-3


def test_commands_are_told_by_joint_states_alone_and_stamps_are_not(log: ArmLog) -> None:
    found = command_timing(replace(log, reference=None), rng())
    assert found.command.late_s == pytest.approx(COMMAND_S, abs=1e-3)
    assert found.state is None and found.lag.late_s == pytest.approx(STATE_S, abs=1e-3)


def test_prompt_commands_are_told_as_prompt_as_the_path_is_left() -> None:
    """Actuation lets the path under way go on for 12 ms after a command was sent."""
    found = command_timing(bench.flown(0.004, 0.0, 2, 6.0, "kinematic"), rng())
    assert found.at_most_s == pytest.approx(0.012, abs=2e-3)
    assert found.command.late_s == pytest.approx(0.006, abs=2e-3) and 0.003 < found.command.sigma_s < 0.005


def test_how_a_driver_joins_is_told_too(log: ArmLog) -> None:
    path = DriverPath(log.sent, 0.026, "message", log.states.values[0])
    told = replace(log.states, what="the driver's reference", t_s=log.states.t_s + 0.006)
    told = replace(told, values=path.sample(log.states.t_s)[0])
    found = command_timing(replace(log, reference=told), rng())
    assert found.joins == "message" and found.command.late_s == pytest.approx(0.026, abs=1e-3)
    assert found.state is not None and found.state.late_s == pytest.approx(0.006, abs=2e-4)


def test_a_late_trajectory_leads_along_the_same_path_where_that_is_not_left_before() -> None:
    """The reason why the loop need not look for the arm where it was told to be earlier."""
    still, ones = np.zeros((2, 7)), np.ones((1, 7))
    first = JointTrajectory(
        start_s=0.0,
        times_s=np.array([0.1, 0.5]),
        q_rad=np.concatenate([0.1 * ones, 0.5 * ones]),
        dq_rad_s=np.concatenate([ones, 0 * ones]),
        ddq_rad_s2=still,
    )
    ahead = replace(
        first, start_s=0.1, times_s=np.array([0.2, 0.4]), q_rad=np.concatenate([0.3 * ones, 0.4 * ones]), dq_rad_s=still
    )
    sent = [Sent(sent_s=0.0, trajectory=first), Sent(sent_s=0.1, trajectory=ahead)]
    for joins in JOINS:
        prompt, late = (DriverPath(sent, late_s, joins, still[0]) for late_s in (0.0, 0.05))
        missed_rad, after_rad = (
            np.abs(prompt.sample(np.array([t_s]))[0] - late.sample(np.array([t_s]))[0]).max() for t_s in (0.05, 0.6)
        )
        assert missed_rad > 1e-3 and after_rad < 1e-12
        assert np.allclose(late.sample(np.array([0.6]))[0], 0.4)


def still_log(log: ArmLog) -> ArmLog:
    return replace(log, reference=None, states=replace(log.states, values=log.states.values * 0.0))


def other_motion(log: ArmLog) -> ArmLog:
    turned = np.sin(np.outer(log.states.t_s, np.arange(1.0, 8.0)))
    return replace(log, reference=None, states=replace(log.states, values=turned))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda log: replace(log, sent=()), "holds no trajectories to the driver; record an episode"),
        (still_log, r"joint states: 0.000 rad of motion while commands are sent, needs 0.05 rad; record an arm"),
        (other_motion, r"typically 0\.\d+ rad from where it was sent, bound 0.1 rad; it is held, or somebody else"),
    ],
)
def test_a_log_of_something_else_is_refused(log: ArmLog, change: Callable[[ArmLog], ArmLog], complaint: str) -> None:
    short = replace(log, sent=log.sent[:30], states=log.states.part(log.states.t_s < 4.0), reference=None)
    with pytest.raises(SpecError, match=complaint):
        command_timing(change(short), rng())


def test_a_log_that_hardly_shows_anything_is_refused(log: ArmLog) -> None:
    """Known to be late, commands leave the path when they have come: any time before would do."""
    path = DriverPath(log.sent, 0.0, "splice", log.states.values[0])
    early = tuple(
        replace(entry, sent_s=entry.sent_s - 0.03) for entry in log.sent
    )  # sent 30 ms before what is the latest that makes no difference
    q_rad, _ = path.sample(log.states.t_s)
    with pytest.raises(SpecError, match=r"to \d+\.\d ms, bound 5 ms: hardly any leaves the path .*without a rig"):
        command_timing(replace(log, sent=early, reference=replace(log.states, values=q_rad)), rng())


# --- clocks that can't be trusted -------------------------------------------------------------------------------------


def track(seconds: float = 12.0, rate_hz: float = 100.0, **changes: Any) -> Track:
    t_s = np.arange(0.0, seconds, 1 / rate_hz)
    return replace(Track(what="joint states", t_s=t_s, values=np.sin(np.outer(t_s, [1.0, 1.7, 2.3]))), **changes)


T = track().t_s
BAD_TRACKS: list[tuple[Track, str]] = [
    (track(0.3), "30 samples, needs at least 50; was the log cut short"),
    (track(values=np.where(T == 5.0, np.nan, T)[:, None]), "not finite; does its sender fill it"),
    (
        track(t_s=np.where(T > 6, T - 2.5, T)),
        r"time goes back by 2\.4\d+ s at sample 6\d\d; a clock was set, or two sen",
    ),
    (track(t_s=1e3 * T), r"one comes every 10 s, bound 0.5 s; are the stamps in milliseconds\? Write s"),
    (track(t_s=np.where(T > 6, T + 3600, T)), r"nothing for 3600.01 s after 6.00 s, .*a clock jumped ahead"),
    (track(t_s=np.where(T > 6, T + 0.08, T), came_s=T + 0.002), r"stamps jump by 80 ms against the times .*chrony"),
]


@pytest.mark.parametrize(("bad", "complaint"), BAD_TRACKS)
def test_clocks_that_cannot_be_trusted_are_refused_with_a_remedy(bad: Track, complaint: str) -> None:
    with pytest.raises(SpecError, match=rf"lab.mcap: joint states: .*{complaint}"):
        checked(bad, "lab.mcap")


def test_a_stamp_that_comes_twice_is_taken_once() -> None:
    again = track(t_s=np.repeat(T[::2], 2))
    assert len(checked(again, "lab.mcap").t_s) == len(T) / 2
    whole = track(came_s=T + 0.002)
    assert checked(whole, "lab.mcap").transport_s is not None


def sent_at(sent_s: float, start_s: float) -> ArmLog:
    still = np.zeros((1, 3))
    trajectory = JointTrajectory(
        start_s=start_s, times_s=np.array([0.1]), q_rad=still, dq_rad_s=still, ddq_rad_s2=still
    )
    sent = (Sent(sent_s=sent_s, trajectory=trajectory),)
    return ArmLog(name="lab.mcap", digest="", states=track(), reference=None, sent=sent)


@pytest.mark.parametrize(
    ("log_of", "complaint"),
    [
        (
            sent_at(-900.0, -900.0),
            r"sent from -900.0 to -900.0 s, joint states stamped .*not by one clock; record in",
        ),
        (sent_at(5.0, -1.7e9), r"sent 1700000005.0 s after their own start, bound 2 s: .*other clocks"),
    ],
)
def test_commands_by_another_clock_are_refused(log_of: ArmLog, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        check_sent(log_of)


# --- one signal later than another ------------------------------------------------------------------------------------


def sway(seed: int, late_s: float, *, size: float = 1.0, noise: float = 1.5e-3) -> tuple[Track, Track]:
    """A motion of several rates, and what a camera anywhere saw of it, late and roughly."""
    draw, seconds = np.random.default_rng(seed), 20.0
    rates, phases, swing = draw.uniform(1.5, 3.5, 3), draw.uniform(0, 6, 3), size * np.array([0.15, 0.1, 0.05])

    def at(t_s: Array) -> Array:
        return swing * np.sin(np.outer(t_s, rates) + phases)

    t_s = np.arange(0.0, seconds, 0.01)
    stamps_s = np.cumsum(draw.uniform(0.05, 0.08, int(seconds / 0.07)))
    stamps_s = stamps_s[stamps_s < seconds]
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    seen = at(stamps_s - late_s) @ turn.T + draw.normal(size=3) + draw.normal(0, noise, (len(stamps_s), 3))
    a = Track(what="the arm", t_s=t_s, values=at(t_s) + draw.normal(0, 1e-4, (len(t_s), 3)))
    return a, Track(what="the camera", t_s=stamps_s, values=seen)


def test_a_camera_is_as_late_as_it_was_drawn_to_a_millisecond_over_many_draws() -> None:
    errors, sigmas = [], []
    for seed in range(20):
        late_s = np.random.default_rng(seed).uniform(0.0, 0.15)
        found = shift(*sway(seed, late_s), rng(), rigid=True)
        errors.append(found.late_s - late_s)
        sigmas.append(found.sigma_s)
        assert found.residual == pytest.approx(1.5e-3, rel=0.15) and found.left.shape == (len(found.times_s), 3)
    assert np.median(np.abs(errors)) < 5e-4 and np.abs(errors).max() < 1.5e-3
    assert np.abs(np.array(errors) / sigmas).max() < 4.5


def test_where_the_tag_sits_need_not_be_known_well_and_strays_count_for_little() -> None:
    draw, late_s = np.random.default_rng(3), 0.047
    states, at = bench.swaying(draw)
    seen = bench.sighted(draw, at, late_s, np.array([0.05, 0.0, 0.1]))
    found = camera_shift(states, seen, PANDA, "base", np.array([0.08, 0.02, 0.1]), draw)
    assert found.late_s == pytest.approx(late_s, abs=1e-3)


def test_a_camera_in_the_hand_sees_what_stands(tmp_path: Path) -> None:
    from skimo_calibration.rigid import flange_poses, inverse

    draw, late_s = np.random.default_rng(4), 0.061
    states, at = bench.swaying(draw)
    stamps_s, tag_m = np.arange(0.5, 29.0, 1 / 15), np.array([0.6, 0.1, 0.2])
    poses = inverse(flange_poses(PANDA, at(stamps_s - late_s)))
    seen_m = poses[:, :3, :3] @ tag_m + poses[:, :3, 3] + draw.normal(0, 1e-3, (len(stamps_s), 3))
    seen = Track(what="sightings", t_s=stamps_s, values=seen_m)
    found = camera_shift(states, seen, PANDA, "flange", tag_m + 0.02, draw)
    assert found.late_s == pytest.approx(late_s, abs=1e-3)


def refused(a: Track, b: Track, rigid: bool = True) -> str:
    with pytest.raises(SpecError) as refusal:
        shift(a, b, rng(), where="lab", rigid=rigid)
    return str(refusal.value)


@pytest.mark.parametrize(("size", "noise"), [(0.02, 1.5e-3), (1.0, 0.05)])
def test_too_little_motion_is_refused(size: float, noise: float) -> None:
    words = refused(*sway(0, 0.04, size=size, noise=noise))
    assert "bound 2 ms" in words and "move further and faster, not in a circle, and for longer" in words


def test_a_circle_tells_a_camera_that_may_stand_anywhere_nothing() -> None:
    t_s = np.arange(0.0, 20.0, 0.01)
    a = track(t_s=t_s, values=np.column_stack([np.cos(t_s), np.sin(t_s), 0 * t_s]))
    b = a.part(slice(100, None, 7))
    assert "not in a circle" in refused(a, replace(b, t_s=b.t_s + 0.04))
    known = shift(a, replace(b, t_s=b.t_s + 0.04), rng())
    assert known.late_s == pytest.approx(0.04, abs=1e-4), "one that is known to stand there may see a circle"


def test_a_motion_that_repeats_itself_is_refused() -> None:
    t_s = np.arange(0.0, 20.0, 0.01)
    a = track(t_s=t_s, values=np.sin(2 * np.pi * 4 * t_s)[:, None])
    b = a.part(slice(100, None, 7))
    words = refused(a, replace(b, t_s=b.t_s + 0.04), rigid=False)
    assert "repeats itself" in words and "move to and fro, slower, or at several speeds" in words


def test_a_clock_that_was_set_meanwhile_is_refused() -> None:
    a, b = sway(1, 0.04)
    late = np.where(b.t_s > 10, b.t_s + 0.06, b.t_s)
    words = refused(a, replace(b, t_s=late))
    assert "changes over the log" in words and "a clock was set or drifts: synchronise the clocks" in words


@pytest.mark.parametrize(("by_s", "words"), [(0.8, "the camera"), (1e4, "are both stamped by one clock, in seconds")])
def test_signals_that_have_nothing_in_common_are_refused(by_s: float, words: str) -> None:
    a, b = sway(2, 0.04)
    assert words in refused(a, replace(b, t_s=b.t_s + by_s))


def test_found_is_what_is_left() -> None:
    found = shift(*sway(5, 0.02), rng(), rigid=True)
    assert isinstance(found, Shift) and np.sqrt((found.left**2).mean()) == pytest.approx(found.residual, rel=0.1)


# --- files and the command line ---------------------------------------------------------------------------------------

JOINTS, COMMAND = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
STATE = "franka_msgs/msg/FrankaRobotState"
EPOCH_S = 1.7e9
Message = tuple[str, str, float, float, dict[str, Any]]
"""Topic, type, when it was sent and received, message."""


def header(time_s: float) -> dict[str, Any]:
    ns = round((EPOCH_S + time_s) * 1e9)
    return {"stamp": {"sec": ns // 10**9, "nanosec": ns % 10**9}, "frame_id": ""}


def joint_state(time_s: float, q_rad: Array) -> dict[str, Any]:
    names = [*PANDA.joint_names[::-1], *PANDA.finger_names]
    return {"header": header(time_s), "name": names, "position": [*q_rad[::-1].tolist(), 0.01, 0.01]}


def messages(log: ArmLog, *, reference: bool = True) -> list[Message]:
    found: list[Message] = []
    for t_s, q_rad in zip(log.states.t_s.tolist(), log.states.values, strict=True):
        found.append(("/joint_states", JOINTS, t_s, t_s + 0.002, joint_state(t_s, q_rad)))
        gripper = {"header": header(t_s), "name": list(PANDA.finger_names), "position": [0.01, 0.01]}
        found.append(("/joint_states", JOINTS, t_s, t_s + 0.002, gripper))
    if reference and log.reference is not None:
        for t_s, q_rad in zip(log.reference.t_s.tolist(), log.reference.values, strict=True):
            told = {"header": header(t_s), "desired_joint_state": joint_state(t_s, q_rad)}
            found.append(("/state", STATE, t_s, t_s + 0.002, told))
    for entry in log.sent:
        t = entry.trajectory
        points = [
            {
                "positions": q.tolist(), "velocities": dq.tolist(), "accelerations": ddq.tolist(),
                "time_from_start": {"sec": int(s), "nanosec": round(s % 1 * 1e9)},
            }
            for s, q, dq, ddq in zip(t.times_s.tolist(), t.q_rad, t.dq_rad_s, t.ddq_rad_s2, strict=True)
        ]  # fmt: skip
        message = {"header": header(t.start_s), "joint_names": list(PANDA.joint_names), "points": points}
        found.append(("/command", COMMAND, entry.sent_s, entry.sent_s + 0.001, message))
    return found


def write_mcap(path: Path, entries: list[Message]) -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        schemas = {kind: writer.register_msgdef(kind, full_definition(kind)) for _, kind, *_ in entries}
        for topic, kind, sent_s, came_s, message in entries:
            sent_ns, came_ns = (round((EPOCH_S + s) * 1e9) for s in (sent_s, came_s))
            writer.write_message(topic, schemas[kind], message, log_time=came_ns, publish_time=sent_ns)
        writer.finish()
    return path


@pytest.fixture(scope="module")
def recording(log: ArmLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mcap(tmp_path_factory.mktemp("recording") / "lab.mcap", messages(log))


def test_a_recording_is_read_as_it_was(recording: Path, log: ArmLog) -> None:
    read = read_timing(recording, PANDA)
    assert np.allclose(read.states.values, log.states.values, atol=1e-12)
    assert read.reference is not None and log.reference is not None
    assert np.allclose(read.reference.values, log.reference.values, atol=1e-12)
    begin_s = float(log.states.t_s[0])
    assert np.allclose(read.states.t_s, log.states.t_s - begin_s, atol=1e-6) and read.states.t_s[0] == 0.0
    assert read.begin_ns == pytest.approx((EPOCH_S + begin_s) * 1e9, abs=1e3) and len(read.digest) == 64
    for ours, theirs in zip(log.sent, read.sent, strict=True):
        assert theirs.sent_s == pytest.approx(ours.sent_s - begin_s, abs=1e-6)
        assert theirs.trajectory.start_s == pytest.approx(ours.trajectory.start_s - begin_s, abs=1e-6)
        assert np.allclose(theirs.trajectory.q_rad, ours.trajectory.q_rad)
    assert read.states.transport_s is not None and np.allclose(read.states.transport_s, 0.002, atol=1e-6)


def test_the_command_line_writes_the_rig_and_its_page(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, page = tmp_path / "rig.yaml", tmp_path / "page.html"
    assert calibrate(["latency", "--log", str(recording), "--rig", str(rig), "--out", str(page)]) == 0
    found = load_rig(rig)
    assert found.command_s == pytest.approx(COMMAND_S, abs=1e-3) and found.state_s == pytest.approx(STATE_S, abs=3e-4)
    made = found.made()["command"]
    assert made.source == "lab.mcap" and len(made.digest) == 64 and made.method.startswith("skimo calibrate latency")
    assert made.date == datetime.date(2023, 11, 14), "of the recording"
    words, text = page.read_text(), capsys.readouterr().out
    assert "What no log tells" in words and "commands take effect after they are sent" in words
    assert "commands take effect 30." in text or "commands take effect 29." in text
    assert "passed  halves of the log differ by" in text


def lab_rig(path: Path) -> Rig:
    late = Latency(latency_s=STATE_S, sigma_s=0.0, made=MADE)
    rig = Rig(name="lab", robot="panda", state=late, cameras={"room": Camera(frame="room", mount="base")})
    write_rig(path, rig)
    return rig


def test_a_camera_s_latency_counts_the_states_own(tmp_path: Path) -> None:
    rig, draw, late_s = tmp_path / "rig.yaml", np.random.default_rng(6), 0.05
    lab_rig(rig)
    states, at = bench.swaying(draw)
    arm = ArmLog(name="", digest="", states=states, reference=None, sent=())
    recording = write_mcap(tmp_path / "lab.mcap", messages(arm))
    seen = bench.sighted(draw, at, late_s, np.array([0.05, 0.0, 0.1]))
    rows = [f"{EPOCH_S + t:.6f},{x},{y},{z}" for t, (x, y, z) in zip(seen.t_s, seen.values, strict=True)]
    (tmp_path / "seen.csv").write_text("t,x,y,z\n" + "\n".join(rows) + "\n")
    words = ["latency", "--log", str(recording), "--seen", str(tmp_path / "seen.csv"), "--rig", str(rig)]
    assert calibrate([*words, "--camera", "room", "--point-m", "0.05", "0", "0.1"]) == 0
    entry = load_rig(rig).cameras["room"].latency
    assert entry is not None and entry.latency_s == pytest.approx(late_s + STATE_S, abs=1e-3)
    assert entry.made.source == "seen.csv" and (tmp_path / "lab.latency.html").is_file()
    assert load_rig(rig).state_s == STATE_S


def cut(path: Path, out: Path) -> Path:
    data = path.read_bytes()
    out.write_bytes(data[: len(data) // 2])
    return out


def test_files_that_tell_nothing_are_refused_in_words(
    recording: Path, log: ArmLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def words(*given: object) -> str:
        assert calibrate(["latency", *map(str, given)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("skimo calibrate: ") and "Traceback" not in said
        return said

    short = replace(log, states=log.states.part(slice(0, 60)), reference=None, sent=log.sent[:1])
    both = [*messages(short), *(("/other", *rest) for _, *rest in messages(short)[:2])]
    commands = [entry for entry in messages(short) if entry[1] == COMMAND]
    assert "there is no such file" in words("--log", tmp_path / "none.mcap")
    assert "mend it with `skimo repair`" in words("--log", cut(recording, tmp_path / "cut.mcap"))
    assert "holds no joint states" in words("--log", write_mcap(tmp_path / "a.mcap", commands))
    assert "/joint_states, /other; choose one (--topic)" in words("--log", write_mcap(tmp_path / "b.mcap", both))
    assert "is no MCAP file" in words("--log", Path(__file__))
    assert "holds no joint states on /none" in words("--log", recording, "--topic", "/none")
    rig = tmp_path / "rig.yaml"
    lab_rig(rig)
    seen = tmp_path / "seen.csv"
    seen.write_text("t,x,y,z\n1,2,3\n")
    assert "no camera 'left' in the rig, there are: room" in words(
        "--log", recording, "--seen", seen, "--rig", rig, "--camera", "left"
    )
    assert "line 2: must hold four numbers, has '1,2,3'" in words(
        "--log", recording, "--seen", seen, "--rig", rig, "--camera", "room"
    )
    assert "is a panda's rig, the data are of a fr3" in words("--log", recording, "--robot", "fr3", "--rig", rig)


def test_a_file_of_sightings_has_one_form(tmp_path: Path) -> None:
    path = tmp_path / "seen.csv"
    for text, complaint in (
        ("", "its first line is '', must be 't,x,y,z'"),
        ("x,y,z,t\n1,2,3,4\n", "must be 't,x,y,z'"),
        ("t,x,y,z\n", "holds no sightings"),
        ("t,x,y,z\n1,2,3,four\n", "line 2: must hold four numbers"),
    ):
        path.write_text(text)
        with pytest.raises(SpecError, match=complaint):
            read_seen(path, 0)
    path.write_text("t,x,y,z\n1700000000.25,0.1,0.2,0.3\n")
    read = read_seen(path, 1_700_000_000 * 10**9)
    assert read.t_s.tolist() == [0.25] and read.values.tolist() == [[0.1, 0.2, 0.3]]
    with pytest.raises(SpecError, match="can't be read"):
        read_seen(tmp_path / "none.csv", 0)
