"""Logs of joints: what is read is what was written; what can't be true is refused with its reason and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap_ros2.writer import Writer

from skimo_calibration.dynamics.log_csv import write_csv
from skimo_calibration.dynamics.logs import JointLog, checked, read_logs
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import load_limits
from skimo_ros.definitions import full_definition

LIMITS = load_limits()
RATE_HZ = 200.0
HEAD = "t," + ",".join(f"{name}{j}" for name in ("q", "dq", "tau") for j in range(1, 8))


def good_log(seconds: float = 4.0, rate_hz: float = RATE_HZ) -> JointLog:
    """All joints on sines round the robot's home, with a reference that the arm lags behind a little."""
    t_s = np.arange(0.0, seconds, 1.0 / rate_hz)
    phase, w = np.arange(7.0), 2 * np.pi * 0.4

    def at(time_s: Array) -> tuple[Array, Array]:
        angle = w * time_s[:, None] + phase
        return LIMITS.home_q_rad + 0.3 * np.sin(angle), 0.3 * w * np.cos(angle)

    q, dq = at(t_s)
    q_d, dq_d = at(t_s + 0.01)
    tau = 3 * np.sin(q) + 0.2 * dq
    return JointLog(
        name="good", digest="", t_s=t_s, q_rad=q, dq_rad_s=dq, tau_nm=tau, q_desired_rad=q_d, dq_desired_rad_s=dq_d
    )


GOOD = good_log()


def changed(**changes: Any) -> JointLog:
    return replace(GOOD, **changes)


def cell_set(values: Array, row: int, joint: int, number: float) -> Array:
    other = values.copy()
    other[row, joint] = number
    return other


def with_jump(by_s: float) -> JointLog:
    return changed(t_s=GOOD.t_s + np.where(np.arange(len(GOOD.t_s)) > 300, by_s, 0.0))


# --- what is true -----------------------------------------------------------------------------------------------------


def test_a_csv_log_reads_back_as_it_was_written(tmp_path: Path) -> None:
    (piece,) = read_logs((write_csv(tmp_path / "log.csv", GOOD),), LIMITS)
    for name in ("t_s", "q_rad", "dq_rad_s", "tau_nm", "q_desired_rad", "dq_desired_rad_s"):
        assert np.allclose(getattr(piece, name), getattr(GOOD, name), atol=1e-6)
    assert piece.rate_hz == pytest.approx(RATE_HZ, rel=1e-3) and len(piece.digest) == 64


@pytest.mark.parametrize("stated", ["names", "row"])
def test_other_units_are_taken_where_they_are_stated(tmp_path: Path, stated: str) -> None:
    units = ["ms"] + ["deg"] * 7 + ["deg_s" if stated == "names" else "deg/s"] * 7 + ["mnm"] * 7
    names = HEAD.split(",")
    head = [f"{n}_{u}" for n, u in zip(names, units)] if stated == "names" else names
    table = np.column_stack(
        [1e3 * GOOD.t_s + 5e6, np.rad2deg(GOOD.q_rad), np.rad2deg(GOOD.dq_rad_s), 1e3 * GOOD.tau_nm]
    )
    lines = [",".join(head)] + ([",".join(units)] if stated == "row" else [])
    lines += [",".join(f"{v:.9g}" for v in row) for row in table]
    (tmp_path / "log.csv").write_text("# a comment\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (piece,) = read_logs((tmp_path / "log.csv",), LIMITS)
    assert np.allclose(piece.q_rad, GOOD.q_rad, atol=1e-6) and np.allclose(piece.tau_nm, GOOD.tau_nm, atol=1e-6)
    assert piece.t_s[0] == 0.0 and piece.duration_s == pytest.approx(GOOD.duration_s, abs=1e-3)


def test_a_gap_cuts_the_log_and_short_pieces_are_left_out() -> None:
    long = good_log(9.0)
    kept = np.ones(len(long.t_s), bool)
    kept[700:760] = kept[820:880] = False
    cut = replace(
        long,
        **{
            name: getattr(long, name)[kept]
            for name in ("t_s", "q_rad", "dq_rad_s", "tau_nm", "q_desired_rad", "dq_desired_rad_s")
        },
    )
    pieces = checked(cut, LIMITS)
    assert [round(piece.duration_s, 1) for piece in pieces] == [3.5, 4.6]
    assert max(float(np.diff(piece.t_s).max()) for piece in pieces) < 0.01


# --- what can't be ----------------------------------------------------------------------------------------------------


def others(name: str, factor: float) -> JointLog:
    return changed(**{name: getattr(GOOD, name) * factor})


RNG = np.random.default_rng(0)
REFUSED: dict[str, tuple[Callable[[], JointLog], str]] = {
    "not finite": (
        lambda: changed(tau_nm=cell_set(GOOD.tau_nm, 7, 2, np.nan)),
        "tau of joint 3 is not finite in 1 places, first sample 7; does the driver fill it",
    ),
    "time not finite": (lambda: changed(t_s=np.where(GOOD.t_s == 0.5, np.inf, GOOD.t_s)), "t is not finite"),
    "clock goes back": (lambda: with_jump(-1.0), "time goes from 1.500000 s to 0.505000 s .* clocks synchronised"),
    "clock jumps": (lambda: with_jump(3.0), "the clock jumps by 3.005 s at sample 301, while joint"),
    "milliseconds": (lambda: changed(t_s=1e3 * GOOD.t_s), "time is in milliseconds; write s, or state the unit"),
    "nanoseconds": (lambda: changed(t_s=1e9 * GOOD.t_s), "time is in nanoseconds"),
    "too slow": (lambda: good_log(20.0, 25.0), "25.0 samples a second, needs at least 80; record joint states faster"),
    "degrees": (
        lambda: changed(q_rad=np.rad2deg(GOOD.q_rad), dq_rad_s=np.rad2deg(GOOD.dq_rad_s)),
        r"joint 4 reaches -1\d\d.* degrees\? Write rad, or state the unit",
    ),
    "another robot": (lambda: changed(q_rad=GOOD.q_rad + np.eye(7)[3] * 3.0), "joint 4 reaches .* is this the robot"),
    "velocity in degrees": (lambda: others("dq_rad_s", 180 / np.pi), "must be 1; velocities are in degrees a second"),
    "velocity is another's": (
        lambda: changed(dq_rad_s=RNG.standard_normal(GOOD.dq_rad_s.shape)),
        "must be 1; velocities are another arm's, a reference's, or noise",
    ),
    "velocity halved": (lambda: others("dq_rad_s", 0.5), "must be 1; check both columns' units"),
    "no torque": (lambda: others("tau_nm", 0.0), "torque of joint 1, 2, 3, 4, 5, 6, 7 is 0 Nm throughout"),
    "a torque is stuck": (
        lambda: changed(tau_nm=np.where(np.arange(7) == 4, 1.5, GOOD.tau_nm)),
        r"torque of joint 5 is 1\.5 Nm throughout, which no arm measures",
    ),
    "torque in mNm": (lambda: others("tau_nm", 1e3), "tau of joint . reaches .* Nm, possible are .* is its unit Nm"),
    "six joints": (
        lambda: changed(q_rad=GOOD.q_rad[:, :6], dq_rad_s=GOOD.dq_rad_s[:, :6], tau_nm=GOOD.tau_nm[:, :6]),
        r"holds 6 joints, a panda has 7; name the robot \(--robot\)",
    ),
    "at rest": (
        lambda: changed(q_rad=np.tile(GOOD.q_rad[:1], (len(GOOD.t_s), 1)), dq_rad_s=0 * GOOD.dq_rad_s),
        "no joint moves by 0.02 rad; an arm at rest tells nothing",
    ),
    "one sample": (lambda: GOOD.part(slice(0, 1)), "holds 1 samples"),
    "too short": (lambda: GOOD.part(slice(0, 200)), r"no piece of 2 s without one \(longest 0.99 s\)"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_log_that_cannot_be_is_refused(why: str) -> None:
    make, words = REFUSED[why]
    with pytest.raises(SpecError, match=words):
        checked(make(), LIMITS)


def rows(count: int = 3) -> list[str]:
    return [",".join(f"{v:.6g}" for v in [k * 0.005, *range(21)]) for k in range(count)]


CSV_REFUSED = {
    "empty": ("", "is empty; was the recording stopped before it began"),
    "only a comment": ("# nothing\n", "is empty"),
    "no samples": (HEAD + "\n", "holds 0 samples"),
    "cut short": ("\n".join([HEAD, *rows(), "0.5,1,2"]), "line 5: holds 3 numbers, must be 22; the file was cut short"),
    "ragged": ("\n".join([HEAD, "0,1,2", *rows()]), "line 2: holds 3 numbers, must be 22; its writer is broken"),
    "no number": ("\n".join([HEAD, *rows(), rows(1)[0].replace("7", "x")]), "line 5: 'x' is no number"),
    "unknown column": (HEAD.replace("tau3", "torque3"), "unknown column 'torque3'; known are t, q1"),
    "twice": (HEAD.replace("q2", "q1", 1), "column q1 stands there twice; one arm to a file"),
    "no time": (HEAD.removeprefix("t,"), "has no column t; add the time"),
    "a joint is missing": (HEAD.replace(",tau7", ""), "has columns tau1, .* a panda has joints 1 to 7"),
    "no velocities": ("t,q1,q2,q3,q4,q5,q6,q7", "has columns none, a panda has joints 1 to 7"),
    "unknown unit": (HEAD.replace("q3", "q3_turns", 1), "column q3 is in 'turns'; known are rad, deg"),
    "two units": (
        HEAD.replace("tau1", "tau1_mnm") + "\ns" + ",rad" * 7 + ",rad/s" * 7 + ",nm" * 7 + "\n" + "\n".join(rows()),
        "column tau1 is named in mnm and stated in nm; say one",
    ),
}


@pytest.mark.parametrize("why", CSV_REFUSED)
def test_a_csv_file_that_is_not_one_arms_log_is_refused(tmp_path: Path, why: str) -> None:
    text, words = CSV_REFUSED[why]
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=words) as refused:
        read_logs((path,), LIMITS)
    assert str(refused.value).startswith("log.csv")


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no such file"):
        read_logs((tmp_path / "none.csv",), LIMITS)
    with pytest.raises(SpecError, match="no log is named"):
        read_logs((), LIMITS)
    (tmp_path / "log.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SpecError, match=r"log\.csv is no text; give a CSV file"):
        read_logs((tmp_path / "log.csv",), LIMITS)


# --- MCAP -------------------------------------------------------------------------------------------------------------

STATE, JOINTS = "franka_msgs/msg/FrankaRobotState", "sensor_msgs/msg/JointState"
COMMAND = "trajectory_msgs/msg/JointTrajectory"
NAMES = [f"fr3_joint{j}" for j in range(1, 8)]
EPOCH_S = 1.7e9


def header(time_s: float) -> dict[str, Any]:
    return {"stamp": {"sec": int(EPOCH_S + time_s), "nanosec": round((time_s % 1.0) * 1e9) % 10**9}}


def joint_state(k: int, names: list[str], *, fingers: bool = False, desired: bool = False) -> dict[str, Any]:
    """The good log's sample; joints stand in another order than the robot's, fingers among them."""
    order = list(range(6, -1, -1))
    q, dq = (GOOD.q_desired_rad, GOOD.dq_desired_rad_s) if desired else (GOOD.q_rad, GOOD.dq_rad_s)
    assert q is not None and dq is not None
    hand = ["hand_finger_joint1", "hand_finger_joint2"] if fingers else []
    still = [0.0] * len(hand)
    return {
        "header": header(float(GOOD.t_s[k])),
        "name": [*hand, *(names[j] for j in order)],
        "position": [*still, *(float(q[k, j]) for j in order)],
        "velocity": [*still, *(float(dq[k, j]) for j in order)],
        "effort": [*still, *(float(GOOD.tau_nm[k, j]) for j in order)],
    }


Messages = list[tuple[str, str, float, dict[str, Any]]]
"""Topic, type, time, message."""


def write_mcap(path: Path, messages: Messages) -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        schemas = {kind: writer.register_msgdef(kind, full_definition(kind)) for _, kind, _, _ in messages}
        for topic, kind, time_s, message in messages:
            log_ns = round((EPOCH_S + time_s + 0.001) * 1e9)
            writer.write_message(topic, schemas[kind], message, log_time=log_ns)
        writer.finish()
    return path


def states(names: list[str] = NAMES, topic: str = "/joint_states", **options: bool) -> Messages:
    rows = range(len(GOOD.t_s))
    return [(topic, JOINTS, float(GOOD.t_s[k]), joint_state(k, names, **options)) for k in rows]


def robot_states() -> Messages:
    found: Messages = []
    for k in range(len(GOOD.t_s)):
        message = {
            "header": header(float(GOOD.t_s[k])),
            "measured_joint_state": joint_state(k, NAMES),
            "desired_joint_state": joint_state(k, NAMES, desired=True),
        }
        found.append(("/ns/franka_robot_state_broadcaster/robot_state", STATE, float(GOOD.t_s[k]), message))
    return found


def commands(names: list[str] = NAMES) -> Messages:
    """The reference, as trajectories of half a second that are sent every 0.2 s from 0.4 s on and end at rest."""
    found: Messages = []
    assert GOOD.q_desired_rad is not None and GOOD.dq_desired_rad_s is not None
    ddq = np.gradient(GOOD.dq_desired_rad_s, GOOD.t_s, axis=0)
    for k in range(80, len(GOOD.t_s) - 200, 40):
        points = []
        for ahead in range(10, 101, 10):
            last = ahead == 100
            points.append(
                {
                    "positions": GOOD.q_desired_rad[k + ahead].tolist(),
                    "velocities": [0.0] * 7 if last else GOOD.dq_desired_rad_s[k + ahead].tolist(),
                    "accelerations": [0.0] * 7 if last else ddq[k + ahead].tolist(),
                    "time_from_start": {"sec": 0, "nanosec": round(ahead / RATE_HZ * 1e9)},
                }
            )
        time_s = float(GOOD.t_s[k])
        message = {"header": header(time_s), "joint_names": names, "points": points}
        found.append(("/arm/command", COMMAND, time_s, message))
    return found


def test_joint_states_are_read_by_their_names(tmp_path: Path) -> None:
    (piece,) = read_logs((write_mcap(tmp_path / "log.mcap", states(fingers=True)),), LIMITS)
    assert np.allclose(piece.t_s, GOOD.t_s, atol=1e-6)
    assert np.allclose(piece.q_rad, GOOD.q_rad) and np.allclose(piece.tau_nm, GOOD.tau_nm)
    assert piece.q_desired_rad is None


def test_franka_ros2s_robot_state_holds_the_reference(tmp_path: Path) -> None:
    (piece,) = read_logs((write_mcap(tmp_path / "log.mcap", [*states(), *robot_states()]),), LIMITS)
    assert np.allclose(piece.q_rad, GOOD.q_rad)
    assert piece.q_desired_rad is not None and GOOD.q_desired_rad is not None
    assert np.allclose(piece.q_desired_rad, GOOD.q_desired_rad)


def test_the_reference_is_made_from_commands_as_a_controller_makes_it(tmp_path: Path) -> None:
    (piece,) = read_logs((write_mcap(tmp_path / "log.mcap", [*states(), *commands()]),), LIMITS)
    assert piece.q_desired_rad is not None
    begin = round(0.4 * RATE_HZ)
    assert len(piece.t_s) == len(GOOD.t_s) - begin  # what comes before the first command has no reference
    assert GOOD.q_desired_rad is not None
    settled = slice(60, 400)  # the first command begins at rest
    assert np.abs(piece.q_desired_rad - GOOD.q_desired_rad[begin:])[settled].max() < 1e-4


def wrong_length() -> Messages:
    found = states()
    found[5][3]["effort"] = []
    return found


def two_arms() -> Messages:
    found = states()
    for _, _, _, message in found:
        message["name"] = message["name"] + [f"left_{n}" for n in NAMES]
        for field in ("position", "velocity", "effort"):
            message[field] = message[field] * 2
    return found


def not_following() -> Messages:
    found = commands()
    found[0][3]["points"][-1]["velocities"] = [1.0] * 7
    return [*states(), *found]


MCAP_REFUSED: dict[str, tuple[Callable[[], Messages], str]] = {
    "no joints": (commands, "holds no joint states; record sensor_msgs/JointState or franka_msgs"),
    "two topics": (
        lambda: [*states(), *states(topic="/other")],
        r"holds joint states on /joint_states, /other; choose",
    ),
    "effort is not filled": (wrong_length, "hold 7 names and 0 of effort; record a driver that fills them all"),
    "two arms": (two_arms, r"holds joints of several arms \(fr3, left_fr3\); record each on a topic of its own"),
    "a gripper alone": (
        lambda: states([f"finger{j}" for j in range(7)]),
        r"a panda has \.\.\._joint1 to \.\.\._joint7; name the robot",
    ),
    "commands that don't end": (not_following, "a commanded trajectory can't be followed .* leave its topic out"),
}


@pytest.mark.parametrize("why", MCAP_REFUSED)
def test_an_mcap_file_that_is_not_one_arms_log_is_refused(tmp_path: Path, why: str) -> None:
    make, words = MCAP_REFUSED[why]
    with pytest.raises(SpecError, match=words):
        read_logs((write_mcap(tmp_path / "log.mcap", make()),), LIMITS)


def test_a_topic_can_be_chosen(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "log.mcap", [*states(), *states(topic="/other")])
    assert len(read_logs((path,), LIMITS, topic="other")) == 1
    with pytest.raises(SpecError, match="holds no joint states on /third"):
        read_logs((path,), LIMITS, topic="/third")


def test_a_damaged_mcap_file_is_refused_with_what_mends_it(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "log.mcap", states())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpecError, match=r"was cut short.* mend it with `skimo repair`"):
        read_logs((path,), LIMITS)
    path.write_bytes(b"")
    with pytest.raises(SpecError, match="is empty"):
        read_logs((path,), LIMITS)


@pytest.mark.parametrize(
    ("definition", "message", "words"),
    [
        (
            "float64[100000] q",
            {"q": [0.0] * 100000},
            "the definition of sensor_msgs/msg/JointState is not one of ROS's",
        ),
        ("float64 q", {"q": 1.0}, "message 0 on /joint_states does not fit its definition"),
    ],
)
def test_a_definition_that_is_none_is_refused(
    tmp_path: Path, definition: str, message: dict[str, Any], words: str
) -> None:
    path = tmp_path / "log.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.write_message("/joint_states", writer.register_msgdef(JOINTS, definition), message, log_time=1)
        writer.finish()
    with pytest.raises(SpecError, match=words):
        read_logs((path,), LIMITS)
