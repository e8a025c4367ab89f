"""Rig files: what is written is what was meant; what can't be true is refused in words; a digest names what it says."""

from __future__ import annotations

import copy
import datetime
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from skimo_core.contract.errors import SpecError
from skimo_core.domain.rig import (
    BARE,
    Camera,
    Check,
    Dynamics,
    JointOffsets,
    Latency,
    Lens,
    Made,
    Payload,
    Placement,
    Rig,
    as_data,
)
from skimo_core.domain.rig_file import check_rig, load_rig, parse_rig, write_rig
from skimo_core.domain.robot import load_limits
from skimo_core.domain.rotations import matrix, quaternion

PANDA = load_limits("panda")
TODAY = datetime.date(2026, 2, 1)
EXAMPLE = load_rig("example")
PLAIN: dict[str, Any] = as_data(EXAMPLE)


def words(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False)


def changed(where: str, value: Any) -> dict[str, Any]:
    """The example with one value changed; None: taken out. `where` names it as cameras/wrist/pose/position_m."""
    data = copy.deepcopy(PLAIN)
    *path, last = where.split("/")
    table = data
    for key in path:
        table = table[key]
    if value is None:
        del table[last]
    else:
        table[last] = value
    return data


# --- what is written is what was meant --------------------------------------------------------------------------------


def numbers(size: int, bound: float, low: float | None = None) -> st.SearchStrategy[np.ndarray]:
    each = st.floats(-bound if low is None else low, bound, allow_nan=False)
    return st.lists(each, min_size=size, max_size=size).map(np.array)


@st.composite
def rigs(draw: st.DrawFn) -> Rig:
    """Any rig."""
    made = draw(
        st.builds(
            Made,
            date=st.dates(datetime.date(2020, 1, 1), datetime.date(2040, 1, 1)),
            method=st.text("abc: #'\"é-", min_size=1).filter(str.strip),
            source=st.sampled_from(["", "logs/a.mcap"]),
            digest=st.sampled_from(["", "1234", "1e5"]),
        )
    )
    seed, flags = draw(st.integers(0, 2**32 - 1)), draw(st.lists(st.booleans(), min_size=12, max_size=12))
    rng, sigma = np.random.default_rng(seed), draw(st.floats(0, 0.1))

    def placed() -> Placement:
        quat = rng.normal(size=4)
        rotation = matrix(quat / np.linalg.norm(quat))
        return Placement(
            position_m=rng.uniform(-0.9, 0.9, 3), rotation=rotation, sigma_m=sigma, sigma_rad=sigma, made=made
        )

    lens = Lens(
        width=640, height=480, focal_px=rng.uniform(100, 900, 2), centre_px=rng.uniform(1, 479, 2),
        distortion=rng.normal(size=5), sigma_px=sigma, made=made,
    )  # fmt: skip
    late = Latency(latency_s=draw(st.floats(0, 1)), sigma_s=sigma, made=made)
    camera = Camera(
        frame="optical", mount=draw(st.sampled_from(["flange", "base"])), lens=lens if flags[0] else None,
        pose=placed() if flags[1] else None, latency=late if flags[2] else None,
    )  # fmt: skip
    offsets = JointOffsets(offset_rad=draw(numbers(7, 0.2)), sigma_rad=draw(numbers(7, 1, low=0)), made=made)
    dynamics = Dynamics(**{name: rng.uniform(0, 9, 7) for name in DYNAMICS}, made=made)
    payload = Payload(mass_kg=sigma, centre_m=rng.normal(size=3) * 0.1, sigma_kg=sigma, sigma_m=sigma, made=made)
    return Rig(
        name="lab",
        robot=draw(st.sampled_from(["panda", "fr3"])),
        serial="1e5" if flags[3] else "",
        joints=offsets if flags[4] else None,
        base=placed() if flags[5] else None,
        tool=placed() if flags[6] else None,
        payload=payload if flags[7] else None,
        dynamics=dynamics if flags[8] else None,
        cameras={"wrist": camera} if flags[9] else {},
        furniture={"kitchen": placed()} if flags[10] else {},
        state=late if flags[11] else None,
        command=late if not flags[11] else None,
        check=Check(date=made.date, passed=flags[0], reasons=("3 px",) if flags[1] else ()),
    )


DYNAMICS = tuple(f"{of}{key}" for of in ("", "sigma_") for key in ("friction_nm", "damping_nm_s", "armature_kg_m2"))


@settings(max_examples=30, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(rig=rigs())
def test_a_rig_that_was_written_is_read_as_it_was(rig: Rig) -> None:
    read = parse_rig(words(as_data(rig)), "rig")
    assert read.digest == rig.digest
    assert read.made() == rig.made() and read.check == rig.check
    again = parse_rig(words(as_data(replace(read, check=None))), "rig")
    assert again.digest == rig.digest, "writing it anew must not change what names it"
    assert np.allclose(read.offset_rad, rig.offset_rad, rtol=1e-8, atol=0)
    for name, camera in rig.cameras.items():
        if camera.pose is not None:
            pose = read.cameras[name].pose
            assert pose is not None and np.allclose(pose.rotation, camera.pose.rotation, atol=1e-12)


def test_the_example_holds_every_entry_and_is_shipped() -> None:
    assert all(getattr(EXAMPLE, name) is not None for name in ("joints", "base", "tool", "payload", "dynamics"))
    assert EXAMPLE.state and EXAMPLE.command and EXAMPLE.check and EXAMPLE.furniture["kitchen"]
    assert EXAMPLE.cameras["wrist"].lens and EXAMPLE.cameras["wrist"].pose and EXAMPLE.cameras["wrist"].latency
    assert EXAMPLE.made().keys() >= {"joints", "furniture: kitchen", "cameras: wrist: pose", "command"}
    assert EXAMPLE.command_s == 0.0121 and EXAMPLE.state_s == 0.0012 and EXAMPLE.camera_s == 0.034
    lens = EXAMPLE.cameras["wrist"].lens
    assert (
        lens is not None
        and np.array_equal(lens.matrix @ [0.0, 0.0, 1.0], [*lens.centre_px, 1.0])
        and lens.matrix[1, 1] == 612.1
    )
    check_rig(EXAMPLE, PANDA, serial="295341-1326000", max_age_days=30, today=TODAY)


def test_nobody_measured_anything_in_a_bare_cell() -> None:
    assert load_rig("") is BARE and not BARE.offset_rad.any()
    assert BARE.command_s == BARE.state_s == BARE.camera_s == 0.0 and BARE.made() == {}


def test_only_a_robot_must_be_named() -> None:
    rig = parse_rig("rig: 1\nname: lab\nrobot: {model: fr3}\n", "rig")
    assert rig == Rig(name="lab", robot="fr3")


def test_numbers_of_numpy_s_are_written_as_numbers(tmp_path: Path) -> None:
    """An image's size may come as one."""
    lens = EXAMPLE.cameras["wrist"].lens
    assert lens is not None
    lens = replace(lens, width=np.int64(640), sigma_px=np.float32(0.25))
    camera = replace(EXAMPLE.cameras["wrist"], lens=lens)
    write_rig(tmp_path / "rig.yaml", replace(EXAMPLE, cameras={"wrist": camera}))
    read = load_rig(tmp_path / "rig.yaml").cameras["wrist"].lens
    assert read is not None and read.width == 640 and read.sigma_px == 0.25


# --- what names it --------------------------------------------------------------------------------------------------


def leaves(data: Any, where: str = "") -> list[str]:
    """Where each number, word and date of a table stands."""
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in leaves(value, f"{where}/{key}")]
    return [where[1:]]


def other(value: Any) -> Any:
    """Another value of that kind that is possible."""
    if isinstance(value, list) and len(value) == 4:
        return quaternion(matrix(np.array([0.8, 0.6, 0.0, 0.0]))).tolist()
    if isinstance(value, list):
        return [value[0] + 1e-6, *value[1:]]
    if isinstance(value, datetime.date):
        return value - datetime.timedelta(days=1)
    if isinstance(value, (int, float)):
        return value + (1 if isinstance(value, int) else 1e-6)
    return {"flange": "base", "panda": "fr3"}.get(value, f"{value}!")


@pytest.mark.parametrize("where", [leaf for leaf in leaves(PLAIN) if leaf != "rig" and not leaf.startswith("check")])
def test_the_digest_changes_with_any_value(where: str) -> None:
    value: Any = PLAIN
    for key in where.split("/"):
        value = value[key]
    assert parse_rig(words(changed(where, other(value))), "rig").digest != EXAMPLE.digest


@pytest.mark.parametrize("check", [None, Check(date=TODAY, passed=False, reasons=("camera: 3 px",))])
def test_the_digest_stays_when_it_is_checked(check: Check | None) -> None:
    assert replace(EXAMPLE, check=check).digest == EXAMPLE.digest and EXAMPLE.named.digest == EXAMPLE.digest


# --- what can't be ---------------------------------------------------------------------------------------------------

OFFSETS = PLAIN["joints"]["offset_rad"]
BAD: list[tuple[str, Any, str]] = [
    ("rig", 2, "format 2, this version reads 1; make it again, or update skimo"),
    ("name", None, "has no 'name'; add it"),
    ("robot", None, "has no 'robot'; add it"),
    ("robot/model", "ur5", "no robot 'ur5'; there are fr3, panda"),
    ("robot/maker", "Franka", "robot: unknown key 'maker'; known are model, serial"),
    ("colour", "red", "unknown key 'colour'; known are"),
    ("joints/offset_rad", [0.1, 0.2, 0.25, 0.0, 0.0, 0.0, 0.0], r"joint 3 is 0.25 rad, bound 0.2; degrees\?"),
    ("joints/offset_rad", OFFSETS[:6], "offset_rad must hold 7 finite numbers"),
    ("joints/offset_rad", [*OFFSETS[:6], float("nan")], "offset_rad must hold 7 finite numbers"),
    ("joints/sigma_rad", [-0.1] * 7, "sigma_rad must not hold numbers below 0"),
    ("joints/sigma_rad", None, "joints has no 'sigma_rad'; add it"),
    ("joints/made", None, "joints has no 'made'; add it"),
    ("joints/made/date", None, "made has no 'date'"),
    ("joints/made/date", "last week", "date must be a day, as 2026-01-31, is 'last week'"),
    ("joints/made/method", "", "method must be text"),
    ("joints/made/by", "me", "made: unknown key 'by'; known are date, digest, method, source"),
    ("base/position_m", [0.0, 0.0, 912.0], r"position_m \[0.0, 0.0, 912.0\] is in metres, bound 100; millimetres\?"),
    ("tool/position_m", [0.0, 0.0, 103.4], r"is in metres, bound 2; millimetres\?"),
    ("cameras/wrist/pose/position_m", [52.0, -18.0, 41.0], r"is in metres, bound 2; millimetres\?"),
    ("furniture/kitchen/position_m", [0.0, 0.0, -912.0], r"is in metres, bound 100; millimetres\?"),
    ("tool/quat_wxyz", [0.5, 0.0, 0.0, 0.0], "quat_wxyz must have length 1, has 0.5"),
    ("tool/sigma_m", -1.0, "sigma_m must not be below 0, is -1"),
    ("payload/mass_kg", 352.0, r"mass_kg is 352 kg, bound 50; grams\?"),
    ("payload/mass_kg", -0.1, "mass_kg must not be below 0"),
    ("payload/centre_m", [0.0, 20.0, 60.0], r"centre_m \[0.0, 20.0, 60.0\] is in metres, bound 2; millimetres\?"),
    ("dynamics/friction_nm", [-0.1] * 7, "friction_nm must not hold numbers below 0"),
    ("dynamics/mass", [1.0], "dynamics: unknown key 'mass'"),
    ("cameras/wrist/mount", "ceiling", "mount must be one of flange, base, is 'ceiling'"),
    ("cameras/wrist/frame", None, "wrist has no 'frame'"),
    ("cameras/wrist/lens/width", 640.0, "width must be a whole number of at least 16"),
    ("cameras/wrist/lens/focal_px", [612.0, -612.0], "focal_px must hold numbers above 0"),
    ("cameras/wrist/lens/centre_px", [700.0, 240.0], "lies outside the image, 640 x 480 px"),
    ("cameras/wrist/lens/distortion", [0.1], "distortion must hold 5 finite numbers"),
    ("cameras/wrist/latency/latency_s", 34.0, r"latency_s is 34 s, must lie in 0 to 1; milliseconds\?"),
    ("cameras/wrist", "none", "wrist must be a table of keys, is 'none'"),
    ("state/latency_s", -0.001, "must lie in 0 to 1"),
    ("command/latency_s", 12.1, r"milliseconds\?"),
    ("command/sigma_s", None, "command has no 'sigma_s'"),
    ("check/passed", "yes", "passed must be true or false, is 'yes'"),
    ("check/reasons", "3 px", "reasons must be a list of texts"),
    ("check/by", "me", "check: unknown key 'by'"),
]


@pytest.mark.parametrize(("where", "value", "complaint"), BAD)
def test_what_cannot_be_is_refused_in_words(where: str, value: Any, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint) as refusal:
        parse_rig(words(changed(where, value)), "rig my.yaml")
    assert str(refusal.value).startswith(("rig my.yaml", "no robot"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rig: [", "is not YAML"),
        ("rig: 1\nname: lab\nrobot: {model: panda}\njoints: {made: {date: 2026-13-45}}", "is not YAML"),
        ("", "must be a table of keys, is None"),
        ("- rig", "must be a table of keys"),
        ("[" * 5000, "is not YAML"),
    ],
)
def test_what_is_no_rig_file_is_refused_in_words(text: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        parse_rig(text, "rig my.yaml")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SpecError, match=r"rig runs/none.yaml can't be read"):
        load_rig("runs/none.yaml")
    with pytest.raises(SpecError, match="no rig 'lab'; there are example"):
        load_rig("lab")


FAILED = Check(date=TODAY, passed=False, reasons=("camera wrist: 3 px", "joint 4: 0.01 rad"))


@pytest.mark.parametrize(
    ("rig", "given", "complaint"),
    [
        (replace(EXAMPLE, robot="fr3"), {}, r"was made for a fr3, and a panda moves here; .*\(skimo calibrate\)"),
        (EXAMPLE, {"serial": "7"}, "serial number 295341-1326000, this one is 7; give its own rig, or calibrate it"),
        (replace(EXAMPLE, check=FAILED), {}, "failed its check on 2026-02-01: camera wrist: 3 px; joint 4: 0.01 rad;"),
        (EXAMPLE, {"max_age_days": 16.0}, "joints is 17 days old, bound 16 days; run `skimo calibrate check`"),
        (EXAMPLE, {"today": datetime.date(2026, 1, 13)}, "was made on 2026-01-15, after today .2026-01-13.; set the"),
    ],
)
def test_a_rig_that_may_not_be_used_here_is_refused(rig: Rig, given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        check_rig(rig, PANDA, **{"today": TODAY, **given})


def test_a_rig_that_may_be_used_is_not_refused() -> None:
    check_rig(EXAMPLE, PANDA, max_age_days=17, today=TODAY)
    check_rig(EXAMPLE, PANDA, today=datetime.date(2026, 1, 14))  # a day apart: another time zone
    check_rig(replace(EXAMPLE, serial=""), PANDA, serial="7", today=TODAY)
    check_rig(replace(EXAMPLE, check=None), PANDA, today=TODAY)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_in_whole(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    write_rig(path, EXAMPLE)
    assert load_rig(path).digest == EXAMPLE.digest and path.read_text().startswith("# A cell's rig")
    write_rig(path, replace(EXAMPLE, name="other"))
    assert load_rig(path).name == "other" and os.listdir(tmp_path) == ["rig.yaml"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "fchmod", "replace"])
def test_a_failure_in_the_middle_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "rig.yaml"
    write_rig(path, EXAMPLE)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_rig(path, replace(EXAMPLE, name="other"))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["rig.yaml"]


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    write_rig(path, EXAMPLE)
    before = path.read_bytes()
    assert EXAMPLE.joints is not None
    worse = replace(EXAMPLE.joints, offset_rad=np.full(7, np.nan))
    with pytest.raises(SpecError, match=r"rig.yaml: joints: offset_rad must hold 7 finite numbers"):
        write_rig(path, replace(EXAMPLE, joints=worse))
    with pytest.raises(SpecError, match=r"rig.yaml: name must be text"):
        write_rig(path, replace(EXAMPLE, name=""))
    assert path.read_bytes() == before
