"""What `skimo ingest --inspect` says of a recording: rates, ranges, what never moves, and guesses marked as such."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from core.test_ingest_sources import changed, replaced
from support.foreign import START_NS, ForeignBag, arm_bag, d4rl_table, json_mcap, lerobot_folder, trace_file, wave

from skimo_core.ingest.formats import open_source
from skimo_core.ingest.inspect import Looked, SignalLook, guess, lines, look


def looked(path: Path) -> Looked:
    return look(open_source(path))


def signal(found: Looked, name: str) -> SignalLook:
    return next(signal for signal in found.signals if signal.name == name)


def test_a_bag_is_told_with_rates_gaps_ranges_and_units(tmp_path: Path) -> None:
    bag = arm_bag(200)
    del bag.messages[4 * 100 : 4 * 120]  # 0.42 s in which nothing came
    bag.write(tmp_path / "bag")
    found = looked(tmp_path / "bag")
    position = signal(found, "/joint_states.position")
    assert (found.sessions, found.whole, position.rows, position.gaps) == (1, False, 180, 1)
    assert position.rate_hz == pytest.approx(50) and position.longest_gap_s == pytest.approx(0.42)
    assert position.jitter_s < 1e-6
    column = next(column for column in position.columns if column.name == "panda_joint3")
    rows = np.delete(wave(200, 7)[:, 2], np.arange(100, 120))
    assert (column.low, column.high) == (rows.min(), rows.max())
    assert (column.unit, column.guessed, column.moves) == ("rad", True, True)
    pose = signal(found, "/block/pose")
    still = {column.name: (column.moves, column.unit) for column in pose.columns}
    assert still["pose.position.x"] == (False, "m") and still["pose.position.y"] == (True, "m")
    said = "\n".join(lines(found))
    assert "nothing says whether a session is one episode" in said and "(guess)" in said and "never moves" in said
    assert "/joint_states.position: 7 columns, 180 rows, 50 Hz, jitter 0 ms, 1 gaps up to 0.42 s" in said


def test_named_units_are_no_guesses_and_missing_values_are_counted(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        file["Trial0/observations"].attrs["units"] = "deg"
        file["Trial0/actions"][3, 1] = np.nan
        file["Trial1/actions"][:, 2] = 5.0

    changed(trace_file, edit)(tmp_path / "a.h5")
    found = looked(tmp_path / "a.h5")
    assert {(column.unit, column.guessed) for column in signal(found, "observations").columns} == {("deg", False)}
    assert [column.missing for column in signal(found, "actions").columns] == [0, 1, 0]
    assert signal(found, "actions").columns[2].high == 5.0
    assert (found.sessions, found.rows, found.seconds) == (3, 33, pytest.approx(2.4))


def test_tasks_damage_and_marks_are_counted(tmp_path: Path) -> None:
    lerobot_folder(tmp_path / "set")
    found = looked(tmp_path / "set")
    assert found.tasks == {"open the drawer": 2, "stack the blocks": 1} and found.whole
    assert "30" not in lines(found)[0] and "task      open the drawer (2)" in lines(found)
    assert "action: 7 columns, 19 rows, 10 Hz (named, rows are counted)" in lines(found)
    d4rl_table(tmp_path / "flat.h5")
    flat = looked(tmp_path / "flat.h5")
    assert flat.marked == 2 and "episodes  2 ends are marked" in lines(flat)
    assert math.isnan(signal(flat, "actions").rate_hz)
    assert any("rows are counted, no rate is named" in line for line in lines(flat))
    changed(trace_file, replaced("Trial1/time", np.arange(11)[::-1] * 1.0))(tmp_path / "trace.h5")
    broken = looked(tmp_path / "trace.h5")
    assert len(broken.damage) == 1 and "Trial1" in broken.damage[0] and broken.sessions == 3


def test_fields_that_differ_between_sessions_are_told(tmp_path: Path) -> None:
    changed(trace_file, replaced("Trial1/actions", wave(11, 4)))(tmp_path / "a.h5")
    found = looked(tmp_path / "a.h5")
    assert signal(found, "actions").differing == 1 and len(signal(found, "actions").columns) == 3
    assert "  1 sessions have other columns than these" in lines(found)


def test_single_rows_have_no_rate(tmp_path: Path) -> None:
    bag = ForeignBag()
    bag.joint_state(START_NS, ("a",), [1.0])
    bag.write(tmp_path / "bag")
    said = lines(looked(tmp_path / "bag"))
    assert "/joint_states.position: 1 columns, 1 rows, no rate (single rows, or many with one time)" in said


def test_many_columns_and_notes_are_cut(tmp_path: Path) -> None:
    json_mcap(tmp_path / "a.mcap", [("/a", START_NS, {f"k{k}": k for k in range(60)})])
    assert "  ... and 20 more columns" in lines(looked(tmp_path / "a.mcap"))


@pytest.mark.parametrize(
    ("name", "column", "widest", "of_all", "unit"),
    [
        ("/joint_states.position", "panda_joint1", 2.9, 3.1, "rad"),
        ("/joint_states.position", "panda_joint1", 2.9, 166.0, "deg"),
        ("/joint_states.position", "panda_finger_joint1", 0.04, 2.9, "m"),
        ("/joint_states.position", "gripper", 80.0, 2.9, "mm"),
        ("/joint_states.velocity", "panda_joint1", 2.0, 2.0, "rad/s"),
        ("/joint_states.velocity", "panda_joint1", 2.0, 120.0, "deg/s"),
        ("/joint_states.velocity", "panda_joint1", 0.0, 0.0, ""),
        ("/joint_states.effort", "panda_joint1", 30.0, 30.0, "Nm"),
        ("/force", "wrench.force.x", 30.0, 30.0, "N"),
        ("/block", "pose.position.x", 0.5, 0.5, "m"),
        ("/block", "pose.position.x", 500.0, 500.0, "mm"),
        ("/block", "pose.orientation.x", 0.7, 0.7, "1"),
        ("observation.state", "shoulder_pan.pos", 99.0, 99.0, "deg"),
        ("obs/object", "3", 0.9, 0.9, ""),
        ("actions", "0", 0.9, 1.0, "1"),
        ("actions", "0", 0.9, 40.0, ""),
        ("reward", "0", 0.5, 0.5, ""),
    ],
)
def test_units_are_guessed_by_name_and_range(name: str, column: str, widest: float, of_all: float, unit: str) -> None:
    assert guess(name, column, widest, of_all) == unit
