"""Joint offsets from touches: told is what can be told, and touches that are none are refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from skimo_calibration.cameras.joints import ANYWHERE_M, Touches, calibrate_joints, load_touches
from skimo_calibration.cameras.poses import solve_ik
from skimo_calibration.rigid import joints_and_flange, pose, turn
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import load_limits

LIMITS = load_limits("panda")
TIP_M = np.array([0.06, -0.04, 0.17])
POINTS_M = np.array([[0.45, 0.15, 0.05], [0.5, -0.2, 0.1], [0.35, 0.05, 0.25]])
OFFSET_RAD = np.array([0.012, -0.02, 0.008, 0.015, -0.011, 0.02, -0.014])
TOUCH_M = 2e-4


@cache
def touches(*, points_known: bool, tip_known: bool, count: int = 24) -> Touches:
    rng = np.random.default_rng(4)
    q_rad: list[Array] = []
    while len(q_rad) < count:
        place = POINTS_M[len(q_rad) % len(POINTS_M)]
        rotation = np.diag([1.0, -1.0, -1.0]) @ turn(rng.normal(0.0, 0.5, 3) * [1, 1, 2])
        wanted = pose(rotation, place - rotation @ TIP_M)
        reached = solve_ik(LIMITS, wanted[None], (LIMITS.home_q_rad + rng.normal(0.0, 0.4, 7))[None])
        if len(reached):
            q_rad.append(touching(reached[0], place + rng.normal(0.0, TOUCH_M, 3)) + OFFSET_RAD)
    return Touches(
        q_rad=np.array(q_rad),
        point=np.arange(count) % len(POINTS_M),
        names=("a", "b", "c"),
        points_m=POINTS_M if points_known else np.zeros_like(POINTS_M),
        point_sigma_m=np.full(len(POINTS_M), 1e-4 if points_known else ANYWHERE_M),
        tip_m=TIP_M if tip_known else np.array([0.0, 0.0, 0.15]),
        tip_sigma_m=1e-4 if tip_known else 0.05,
    )


def touching(q_rad: Array, place: Array) -> Array:
    """Joints nearby that bring the tip exactly there."""
    for _ in range(4):
        axes, origins, flange = joints_and_flange(LIMITS, q_rad[None])
        tip = flange[0, :3, :3] @ TIP_M + flange[0, :3, 3]
        q_rad = q_rad + np.linalg.lstsq(np.cross(axes[0], tip - origins[0]).T, place - tip, rcond=None)[0]
    return q_rad


@pytest.mark.parametrize("points_known", [False, True])
@pytest.mark.parametrize("tip_known", [False, True])
def test_what_is_known_decides_which_offsets_are_told(points_known: bool, tip_known: bool) -> None:
    fitted = calibrate_joints(LIMITS, touches(points_known=points_known, tip_known=tip_known), np.random.default_rng(0))
    assert fitted.told == (points_known, True, True, True, True, True, tip_known)
    told = np.array(fitted.told)
    wrong = np.abs(fitted.offset_rad - OFFSET_RAD)
    assert (wrong[told] < 4.5 * fitted.offset_sigma_rad[told]).all()
    assert (fitted.offset_sigma_rad[1:6] < 1.5e-3).all()
    np.testing.assert_array_equal(fitted.offset_rad[~told], 0.0)
    assert fitted.touch_sigma_m == pytest.approx(TOUCH_M, rel=0.4)
    assert fitted.miss_m < fitted.holdout_m < 1e-3
    if points_known and tip_known:
        assert np.abs(fitted.tip_m - TIP_M).max() < 5e-4


def test_offsets_that_arent_told_stay_where_they_are_known() -> None:
    known = OFFSET_RAD * [1, 0, 0, 0, 0, 0, 1]
    fitted = calibrate_joints(
        LIMITS, touches(points_known=False, tip_known=False), np.random.default_rng(0), known_offset_rad=known
    )
    np.testing.assert_array_equal(fitted.offset_rad[[0, 6]], known[[0, 6]])
    assert np.abs(fitted.points_m - POINTS_M).max() < 2e-3  # in the true base frame, as joint 1 is known


def test_a_touch_of_another_point_is_named() -> None:
    ours = touches(points_known=True, tip_known=True)
    point = ours.point.copy()
    point[5] = 0
    with pytest.raises(SpecError, match=r"touch number 6 .point a. misses by"):
        calibrate_joints(LIMITS, replace(ours, point=point), np.random.default_rng(0))


def test_too_few_touches_are_refused() -> None:
    ours = touches(points_known=True, tip_known=True, count=9)
    with pytest.raises(SpecError, match=r"9 touches .at least 12.* touch each point from more configurations"):
        calibrate_joints(LIMITS, ours, np.random.default_rng(0))


def file_of(ours: Touches, **changes: object) -> str:
    data: dict[str, object] = {
        "touch": 1,
        "robot": {"model": "panda"},
        "joints_unit": "rad",
        "tip_m": ours.tip_m.tolist(),
        "tip_sigma_m": ours.tip_sigma_m,
        "points": {"a": {"position_m": POINTS_M[0].tolist(), "sigma_m": 1e-4}, "b": {}, "c": {}},
        "touches": [
            {"point": ours.names[k], "q_rad": q_rad.tolist()} for k, q_rad in zip(ours.point.tolist(), ours.q_rad)
        ],
    }
    return f"date: 2026-01-31\n{yaml.safe_dump(data | changes)}"


def test_touches_are_read(tmp_path: Path) -> None:
    ours = touches(points_known=False, tip_known=True)
    (tmp_path / "touch.yaml").write_text(file_of(ours))
    robot, read, date = load_touches(tmp_path / "touch.yaml")
    assert (robot, date.isoformat(), read.names) == ("panda", "2026-01-31", ("a", "b", "c"))
    np.testing.assert_allclose(read.q_rad, ours.q_rad)
    np.testing.assert_array_equal(read.point, ours.point)
    assert read.point_sigma_m.tolist() == [1e-4, ANYWHERE_M, ANYWHERE_M]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"joints_unit": "deg"}, "joints_unit is 'deg', must be rad"),
        ({"touches": [{"point": "z", "q_rad": [0.0] * 7}]}, "point must be one of a, b, c"),
        ({"touches": [{"point": "a", "q_rad": np.degrees(LIMITS.home_q_rad).tolist()}]}, "beyond its range; degrees"),
        ({"points": {"a": {"position_m": [450.0, 150.0, 50.0], "sigma_m": 0.1}, "b": {}, "c": {}}}, "millimetres"),
        ({"typo": 1}, "unknown key 'typo'"),
        ({"robot": {"model": "r2d2"}}, "no robot 'r2d2'"),
    ],
)
def test_a_file_that_is_wrong_is_refused(changes: dict[str, object], why: str, tmp_path: Path) -> None:
    (tmp_path / "touch.yaml").write_text(file_of(touches(points_known=False, tip_known=True), **changes))
    with pytest.raises(SpecError, match=why):
        load_touches(tmp_path / "touch.yaml")


def test_a_file_that_isnt_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="can't be read"):
        load_touches(tmp_path / "none.yaml")
