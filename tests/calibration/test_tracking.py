"""Tracking: channels from tags, with errors that are told; what contradicts itself is left out and named."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.tag_views import draw
from support.tag_workbench import LATENCY_S, TRACKER, Workbench, cameras, files, rig_of, sign_free

from skimo_calibration.objects.tags_cli import track
from skimo_calibration.objects.tracker_file import load_tracker
from skimo_calibration.objects.tracking import CONFIRM, Report, Tracker, tracker_of
from skimo_core.contract.errors import MissingError, SpecError
from skimo_core.contract.types import RobotState
from skimo_core.control.observe import Observer
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig_file import load_rig, write_rig

PERIOD_S = 0.1


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def see(bench: Workbench, stamp_s: float = 1.0, noise_px: float = 0.05) -> Report:
    """Both cameras, at once."""
    bench.tracker.take(bench.look("left", stamp_s, noise_px))
    return bench.tracker.take(bench.look("right", stamp_s, noise_px))


def value(report: Report, name: str) -> float:
    return float(report.states.values[report.states.names.index(name)])


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_every_channel_is_told_with_a_true_deviation(bench: Workbench, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bench.door, bench.drawer = rng.uniform(-1.5, 0.0), rng.uniform(0.0, 0.3)
    bench.cup_m = bench.cup_m + rng.uniform(-0.05, 0.05, 3)
    bench.turn_cup(rng.normal(0.0, 0.25, 3))
    report = see(bench)
    off = np.abs(sign_free(report.states.values) - sign_free(bench.truth()))
    assert report.words == () and report.hidden == ()
    assert (off[[0, 1, 2, 3]] < [0.01, 1e-3, 2e-3, 1e-9]).all() and (off[4:7] < 2e-3).all() and (off[7:] < 0.01).all()
    measured = ~np.isnan(report.sigma)
    assert measured.sum() == len(off) - 1 and (off[measured] < 5 * report.sigma[measured]).all()


def test_a_channel_costs_no_more_than_its_tags_tell(bench: Workbench) -> None:
    """More tags, less deviation; noise, more."""
    full = see(bench).sigma[0]
    bench.covered = {2, 3}
    bench.tracker.forget()
    few = see(bench).sigma[0]
    assert few > 1.3 * full


def test_a_lone_tag_whose_own_pose_is_ambiguous_still_tells_the_door(bench: Workbench) -> None:
    bench.covered = {2, 3}
    for k, bench.door in enumerate(np.linspace(-1.55, 0.0, 12)):
        bench.tracker.forget()
        report = bench.tracker.take(bench.look("left", 1.0 + k, noise_px=0.2))
        assert value(report, "door") == pytest.approx(bench.door, abs=0.05), bench.door


def test_what_is_coupled_follows_and_what_is_constant_stays(bench: Workbench) -> None:
    report = see(bench)
    assert value(report, "lamp") == pytest.approx(0.02 + 0.1 * value(report, "door"))
    assert value(report, "shelf") == 0.25
    bench.covered = {1, 2, 3}
    bench.tracker.forget()
    assert {"door", "lamp"} <= set(see(bench).hidden)


def test_a_quaternion_never_changes_its_sign_on_the_way(bench: Workbench) -> None:
    last = np.array([1.0, 0.0, 0.0, 0.0])
    for k in range(25):
        bench.turn_cup(np.array([0.0, 0.0, 0.3]))
        report = see(bench, 1.0 + k * PERIOD_S)
        told = report.states.values[-4:]
        assert not np.isnan(told).any() and told @ last > 0.9
        last = told
    assert last[0] < -0.5  # turned by 430 degrees


# --- stamps ---------------------------------------------------------------------------------------------------------


def test_the_stamp_is_the_exposure_s(bench: Workbench) -> None:
    assert see(bench, 5.0).states.stamp_s == pytest.approx(5.0 - LATENCY_S)


def test_a_value_that_the_other_camera_saw_goes_out_for_a_while_and_the_stamp_says_how_old_it_is(
    bench: Workbench,
) -> None:
    see(bench, 1.0)
    bench.covered = {4}
    carried = bench.tracker.take(bench.look("left", 1.08))
    assert value(carried, "drawer") == pytest.approx(bench.drawer, abs=2e-3)
    assert carried.states.stamp_s == pytest.approx(1.0 - LATENCY_S)
    late = bench.tracker.take(bench.look("left", 1.16))
    assert "drawer" in late.hidden and late.states.stamp_s == pytest.approx(1.16 - LATENCY_S)


def test_pictures_out_of_order_are_refused_and_a_clock_that_was_set_back_forgets(bench: Workbench) -> None:
    see(bench, 5.0)
    for stamp_s in (5.0, 4.9):
        with pytest.raises(SpecError, match="before the last one"):
            bench.tracker.take(bench.look("left", stamp_s))
    bench.door = -0.1  # far from where it was
    report = bench.tracker.take(bench.look("left", 1.0))
    assert "went back by 4.0 s" in report.words[0] and value(report, "door") == pytest.approx(-0.1, abs=0.02)


def test_pictures_of_one_moment_are_used_as_one(bench: Workbench) -> None:
    alone = bench.tracker.take(bench.look("left", 1.0))
    both = bench.tracker.take(bench.look("right", 1.0))
    assert both.tags["door"] > alone.tags["door"] and both.sigma[0] < alone.sigma[0]


# --- what contradicts itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [1, 2, 3])
def test_one_tag_that_came_loose_is_outvoted_and_named(bench: Workbench, tag: int) -> None:
    bench.moved = {tag: np.array([0.0, 0.02, 0.03])}
    report = see(bench)
    assert value(report, "door") == pytest.approx(bench.door, abs=0.01)
    assert any(f"door: tag {tag} is" in words and "px from where it could be" in words for words in report.words)


def test_a_body_s_loose_tag_is_outvoted_by_what_was_known(bench: Workbench) -> None:
    see(bench, 1.0)
    bench.moved = {11: np.array([0.0, 0.0, 0.02])}
    report = see(bench, 1.1)
    assert np.abs(report.states.values[4:7] - bench.cup_m).max() < 3e-3
    assert any("cup: tag 11" in words for words in report.words)


def test_a_body_s_two_tags_that_disagree_from_the_start_tell_nothing(bench: Workbench) -> None:
    bench.moved = {11: np.array([0.0, 0.0, 0.04])}
    report = see(bench)
    assert "cup.x" in report.hidden and any(words.startswith("cup:") for words in report.words)


def test_an_id_that_is_seen_twice_is_left_out(bench: Workbench) -> None:
    view = bench.tracker.views["left"]
    tags = bench.tags()
    copy = replace(tags[0], position_m=tags[0].position_m + np.array([0.0, -0.25, -0.2]))
    picture = draw([*tags, copy], view, bench.rng)
    look = bench.tracker.look("left", picture, 1.0)
    assert any("tag 1 is seen 2 times" in words for words in look.words)
    assert 1 not in [one.sighting.tag_id for one in look.seen]
    assert value(bench.tracker.take(look), "door") == pytest.approx(bench.door, abs=0.02)


def test_a_jump_is_left_out_until_it_is_confirmed(bench: Workbench) -> None:
    see(bench, 1.0)
    bench.door = -1.5
    told = []
    for k in range(1, CONFIRM + 1):
        report = bench.tracker.take(bench.look("left", 1.0 + k * 0.05))
        told.append(abs(value(report, "door") - bench.door) < 0.05)
        assert any("moved by 0.8" in words for words in report.words)
    assert told == [False] * (CONFIRM - 1) + [True]


def test_a_single_wild_reading_is_never_told(bench: Workbench) -> None:
    see(bench, 1.0)
    for k in range(1, 9):
        bench.door = -1.5 if k % 2 else -0.7
        report = bench.tracker.take(bench.look("left", 1.0 + k * 0.03))
        assert value(report, "door") == pytest.approx(-0.7, abs=0.05)


def test_what_is_known_too_poorly_counts_as_hidden(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, tracker=TRACKER.replace("max_sigma: 0.05", "max_sigma: 0.0001"))
    report = see(bench)
    assert "door" in report.hidden and "drawer" not in report.hidden
    assert any("door: known to" in words and "max_sigma" in words for words in report.words)


# --- with whoever assembles observations ------------------------------------------------------------------------------


def robot(stamp_s: float) -> RobotState:
    still = np.zeros(7)
    return RobotState(stamp_s=stamp_s, q_rad=still, dq_rad_s=still, tau_nm=still, finger_m=np.zeros(2))


def test_a_covered_tag_leaves_the_last_value_for_as_long_as_the_domain_allows(bench: Workbench) -> None:
    observer = Observer(bench.domain.observation, max_age_s=0.2, tracking=bench.domain.tracking)
    at = bench.domain.observation.names.index("drawer")
    seen = observer.observe(robot(1.0), see(bench, 1.0).states, 1.0)[at]
    bench.covered, bench.drawer = {4}, 0.3
    for k in range(1, 5):
        now_s = 1.0 + k * PERIOD_S
        assert observer.observe(robot(now_s), see(bench, now_s).states, now_s)[at] == seen
    with pytest.raises(MissingError, match="'drawer' has been hidden"):
        observer.observe(robot(1.7), see(bench, 1.7).states, 1.7)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "becomes", "why"),
    [
        ("name: workbench\n", "", "has no 'name'"),
        ("kind: slide", "kind: sledge", "kind must be one of hinge, slide, pose"),
        ("axis: [0.0, 0.0, 1.0]", "axis: [0.0, 0.0, 2.0]", "axis must have length 1"),
        ("range: [-1.6, 0.0]", "range: [0.0, -1.6]", "must rise"),
        ("{id: 2,", "{id: 1,", "tag 1 stands twice"),
        ("{id: 4,", "{id: 600,", "the family 36h11 has 0 to 586"),
        ("{id: 4, size_m: 0.06", "{id: 4, size_m: 60", "millimetres"),
        ("channel: drawer", "channel: door", "channel 'door' stands twice"),
        ("to: door", "to: cup.x", "must be a hinge's or slide's channel"),
        ("max_speed: 1.0", "max_speed: 0.0", "must be above 0"),
        ("max_speed: 1.0", "maximum_speed: 1.0", "has no 'max_speed'"),
        ("shift_px: 0.1", "shift_px: 0.0", "must lie in 0.02 to 50"),
        ("cameras: [left, right]", "cameras: []", "there are none"),
        ("carry_s: 0.1", "carry_s: .nan", "must be a finite number"),
        ("parts:", "parts: [", "is not YAML"),
        ("cup.qz]", "cup.qz, more]", "must hold 7 texts"),
    ],
)
def test_a_file_that_cant_be_is_refused_in_words(was: str, becomes: str, why: str, tmp_path: Path) -> None:
    assert was in TRACKER
    with pytest.raises(SpecError, match=why):
        files(tmp_path, TRACKER.replace(was, becomes, 1))


@pytest.mark.parametrize(
    ("was", "becomes", "why"),
    [
        ("channel: shelf, value", "channel: rack, value", "channel 'shelf' of domain workbench .1 in all. has no part"),
        (
            "{name: shelf",
            "{name: more, kind: constant, channel: rack, value: 0.0}\n  - {name: shelf",
            "no object channel 'rack'",
        ),
        ("kind: slide\n    channel: drawer", "kind: slide\n    channel: lamp", "'lamp' stands twice"),
    ],
)
def test_channels_that_are_not_the_domain_s_are_refused(was: str, becomes: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=why):
        Tracker(files(tmp_path, TRACKER.replace(was, becomes))[0], cameras(), files(tmp_path)[1])


def test_a_channel_of_another_unit_is_refused(tmp_path: Path) -> None:
    spec, domain = files(tmp_path)
    swapped = TRACKER.replace("channel: door", "channel: D").replace("channel: drawer", "channel: door")
    spec = files(tmp_path, swapped.replace("channel: D", "channel: drawer").replace("to: door", "to: drawer"))[0]
    with pytest.raises(SpecError, match="'drawer' is told in rad, domain workbench has it in m"):
        spec.check_domain(domain)


def test_cameras_that_cant_look_on_are_refused(bench: Workbench) -> None:
    with pytest.raises(SpecError, match="no camera 'left'"):
        tracker_of(bench.spec, load_rig("example"), bench.domain)
    with pytest.raises(SpecError, match="moves with the hand"):
        tracker_of(replace(bench.spec, cameras=("wrist",)), load_rig("example"), bench.domain)
    with pytest.raises(SpecError, match="none of tracker workbench's"):
        bench.tracker.look("wrist", np.zeros((480, 640), np.uint8), 1.0)


def test_the_command_tells_channels_of_recorded_pictures(
    bench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, bench.door in enumerate((-0.7, -0.6)):
        for name, view in bench.tracker.views.items():
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{10 + k * PERIOD_S:.3f}.png"), draw(bench.tags(), view, bench.rng))
    write_rig(tmp_path / "rig.yaml", rig_of(bench))
    tracker, rig = str(tmp_path / "tracker.yaml"), str(tmp_path / "rig.yaml")
    track(tmp_path, tracker=tracker, rig=rig, out=tmp_path / "told.csv")
    with open(tmp_path / "told.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["camera"] for row in rows] == ["left", "right", "left", "right"]
    assert [float(row["door"]) for row in rows] == pytest.approx([-0.7, -0.7, -0.6, -0.6], abs=0.01)
    assert float(rows[-1]["exposure_s"]) == pytest.approx(10.1 - LATENCY_S)
    assert "4 pictures, 0 complaints" in capsys.readouterr().out
    (tmp_path / "left" / "10.200.png").write_text("no picture")
    with pytest.raises(SpecError, match="holds no picture that can be read"):
        track(tmp_path, tracker=tracker, rig=rig)
    with pytest.raises(SpecError, match="rate_hz is 0"):
        track(tmp_path, tracker=tracker, rig=rig, rate_hz=0.0)


def test_the_tracker_that_ships_is_its_scene_s() -> None:
    """Axes, points and ranges of the kitchen's file, against the model."""
    from skimo_sim.scenes.kitchen import build_kitchen
    from skimo_sim.scenes.physics import mujoco

    spec, domain = load_tracker("kitchen"), load_domain()
    spec.check_domain(domain)
    model = build_kitchen().model
    data = mujoco.MjData(model)
    data.qpos[9:] = 0.0
    mujoco.mj_kinematics(model, data)
    for part in spec.joints:
        place = 9 + domain.observation.objects.index(part.channel)
        joint = list(model.jnt_qposadr).index(place)
        low, high = model.jnt_range[joint]
        assert np.abs(data.xaxis[joint] - part.axis).max() < 1e-3
        assert part.low == pytest.approx(low, abs=0.05) and part.high == pytest.approx(high, abs=0.05)
        if part.kind == "hinge":
            assert np.abs(data.xanchor[joint] - part.point_m).max() < 1e-4
    base = data.body("panda_link0")
    turn = base.xmat.reshape(3, 3).T
    assert np.abs(spec.frame_rotation - turn).max() < 1e-5
    assert np.abs(spec.frame_position_m + turn @ base.xpos).max() < 1e-4


def test_the_kitchen_is_read_from_its_pictures() -> None:
    """Cameras, tags, tracker and the twin's own truth, in a state with most parts part of the way."""
    from skimo_calibration.twin.twin_tags import TaggedScene, TaggedTwin
    from skimo_sim.twin import Twin

    domain = load_domain()
    tracker = tracker_of(load_tracker("kitchen"), load_rig("kitchen_twin"), domain)
    twin, names = Twin(), domain.observation.objects
    state = twin.data.qpos.copy()
    opened = {"microwave": -0.6, "slide_cabinet": 0.2, "right_hinge_cabinet": 0.8, "knob_2": -0.9, "light_switch": -0.5}
    for name, opening in opened.items():
        state[9 + names.index(name)] = opening
    for part in tracker.spec.coupled:
        state[9 + names.index(part.channel)] = part.factor * state[9 + names.index(part.to)]
    twin.set_state(state)
    with TaggedScene(tracker.spec, tracker.views, domain) as kitchen:
        seen = TaggedTwin(twin, kitchen, tracker)
        told = seen.read_objects()
        assert seen.read_objects() is told  # not painted twice
        assert seen.report is not None and seen.report.words == ()
        truth = twin.read_objects()
        assert told.names == truth.names and told.stamp_s == pytest.approx(truth.stamp_s)
        units = np.array([domain.observation.units[domain.observation.names.index(name)] for name in names])
        bounds = np.select([units == "rad", units == "m"], [0.01, 0.003], 0.02)
        assert (np.abs(told.values - truth.values) < bounds).all()
        with pytest.raises(SpecError, match="has no scene that can be painted"):
            TaggedScene(tracker.spec, tracker.views, replace(domain, twin="kinematic"))
        with pytest.raises(SpecError, match="no camera 'roof'"):
            kitchen.paint("roof", np.zeros(7), np.zeros(2), truth.values)
        with pytest.raises(SpecError, match="holds 30 finite numbers"):
            kitchen.paint("left", np.zeros(7), np.zeros(2), truth.values * np.nan)
