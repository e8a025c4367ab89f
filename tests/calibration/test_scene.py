"""Registration of furniture, from tags and from depth: what it finds, what it says of it, and what it refuses."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.depth_views import depth_of
from support.tag_views import camera_at, draw, sightings

from skimo_calibration.cameras.camera import Intrinsics
from skimo_calibration.objects.scene import (
    Places,
    Registration,
    Shot,
    load_places,
    page_of,
    placement,
    register,
    shot_of,
)
from skimo_calibration.objects.scene_depth import Scan, Surface, register_depth, scan_of, surface, surface_of
from skimo_calibration.objects.tag_fit import Doubt
from skimo_calibration.objects.tags import Mount, turned_rad
from skimo_calibration.objects.tags_cli import scene
from skimo_calibration.rigid import turn
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.cell import Box, load_cell
from skimo_core.domain.rig import Camera, Lens, Made, Placement, Rig
from skimo_core.domain.rig_file import load_rig, write_rig

TARGET_M, TARGET_RAD = 0.002, np.deg2rad(0.3)
MADE = Made(date=datetime.date(2026, 1, 15), method="test")
PLACES = Places(
    name="table",
    doubt=Doubt(shift_px=0.1, shape_px=0.05),
    tags=tuple(
        Mount(tag_id=20 + k, size_m=0.08, rotation=np.eye(3), position_m=np.array([x, y, 0.0]))
        for k, (x, y) in enumerate([(0.0, 0.0), (0.3, 0.0), (0.0, 0.4), (0.3, 0.4)])
    ),
)
SMALL = Intrinsics(width=320, height=240, fx=230.0, fy=230.0, cx=159.5, cy=119.5, distortion=np.zeros(5))


def pose(seed: int) -> tuple[Array, Array]:
    """A table's, near where it should be."""
    rng = np.random.default_rng(seed)
    return turn(rng.normal(0.0, 0.05, 3)), np.array([0.4, -0.2, 0.0]) + rng.normal(0.0, 0.02, 3)


def stands(table: tuple[Array, Array]) -> list[Mount]:
    """The table's tags in the base frame."""
    rotation, position_m = table
    return [
        replace(tag, rotation=rotation @ tag.rotation, position_m=rotation @ tag.position_m + position_m)
        for tag in PLACES.tags
    ]


def shots(table: tuple[Array, Array], count: int = 8, seed: int = 0, camera_error_m: float = 0.0) -> list[Shot]:
    """From all around; the camera may be off by a little, anew each time."""
    rng, found = np.random.default_rng(seed), []
    for k in range(count):
        eye = np.array([rng.uniform(-0.1, 0.2), rng.uniform(-0.5, 0.5), rng.uniform(0.5, 0.8)])
        view = camera_at("wrist", eye, np.array([0.55, 0.0, 0.0]))
        believed = replace(view, position_m=view.position_m + rng.normal(0.0, camera_error_m, 3))
        seen = [replace(one, view=believed) for one in sightings(stands(table), view, rng)]
        found.append(Shot(name=f"{k:03d}", seen=tuple(seen)))
    return found


def off(found: Registration, table: tuple[Array, Array]) -> tuple[float, float]:
    return float(np.linalg.norm(found.position_m - table[1])), turned_rad(found.rotation, table[0])


# --- tags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_table_is_found_where_it_stands(seed: int) -> None:
    table = pose(seed)
    found = register(PLACES, shots(table, seed=seed))
    off_m, off_rad = off(found, table)
    assert off_m < TARGET_M / 2 and off_rad < TARGET_RAD / 2
    assert len(found.used) == 8 and found.refused == ()
    assert page_of("table", found).passed


def test_what_it_says_of_itself_grows_with_what_is_wrong() -> None:
    """Cameras that are off show in scatter, hold-out and deviation, though every fit by itself is as smooth."""
    table = pose(1)
    good, bad = (register(PLACES, shots(table, 12, camera_error_m=error_m)) for error_m in (0.0, 0.006))
    assert bad.scatter_m > 0.005 > 5 * good.scatter_m
    assert bad.held_out_m > 3 * good.held_out_m and bad.sigma_m > 3 * good.sigma_m
    assert off(bad, table)[0] < 4 * bad.sigma_m
    page = page_of("table", bad)
    assert not page.passed and "hold-out, position" in page.failures[0]


def test_a_shot_that_lies_off_is_refused_and_named() -> None:
    table = pose(2)
    taken = shots(table, 7)
    bumped = shots((table[0], table[1] + np.array([0.03, 0.0, 0.0])), 1, seed=9)[0]
    found = register(PLACES, [*taken, replace(bumped, name="bumped"), Shot(name="blind", seen=())])
    assert off(found, table)[0] < TARGET_M / 2
    reasons = dict(found.refused)
    assert "lies 30" in reasons["bumped"] and reasons["blind"] == "shows none of the furniture's tags"
    assert "bumped" not in found.used


def test_a_tag_that_came_loose_is_outvoted() -> None:
    table = pose(3)
    wrong = replace(PLACES, tags=(replace(PLACES.tags[0], position_m=np.array([0.02, 0.02, 0.0])), *PLACES.tags[1:]))
    assert off(register(wrong, shots(table)), table)[0] < TARGET_M


def test_too_few_shots_are_refused_with_what_is_wrong_with_the_others() -> None:
    blind = [Shot(name=f"blind {k}", seen=()) for k in range(3)]
    with pytest.raises(SpecError, match=r"2 shots can be used, at least 3 must be .blind 0: shows none"):
        register(PLACES, [*shots(pose(0), 2), *blind])


def test_a_picture_gives_a_shot_without_tags_that_are_seen_twice() -> None:
    table = pose(0)
    tags = stands(table)
    view = camera_at("left", np.array([-0.05, 0.3, 0.75]), np.array([0.55, 0.0, 0.0]))
    copy = replace(tags[1], position_m=tags[1].position_m + table[0] @ np.array([-0.15, 0.2, 0.0]))
    picture = draw([*tags, copy], view, np.random.default_rng(0))
    shot = shot_of("one", view, picture, PLACES)
    assert sorted(one.sighting.tag_id for one in shot.seen) == [20, 22, 23]


def test_the_furniture_file_that_ships_is_read_and_a_wrong_one_refused(tmp_path: Path) -> None:
    assert len(load_places("kitchen").tags) == 7
    path = tmp_path / "table.yaml"
    row = "{id: 3, size_m: 0.1, position_m: [0, 0, 0], quat_wxyz: [1, 0, 0, 0]}"
    for text, why in (
        (f"name: table\nshift_px: 1\nshape_px: 0.1\ntags: [{row}, {row}]", "tag 3 stands twice"),
        ("name: table\nshift_px: 1\nshape_px: 0.1\ntags: []", "there are none"),
        (f"name: table\ntags: [{row}]", "has no 'shift_px'"),
        (f"name: table\nshift_px: 100\nshape_px: 0.1\ntags: [{row}]", "shift_px is 100 px, must lie in 0.02 to 50"),
        (f"name: table\nshift_px: 1\nshape_px: 0.1\ncolour: blue\ntags: [{row}]", "unknown key 'colour'"),
    ):
        path.write_text(text)
        with pytest.raises(SpecError, match=why):
            load_places(path)


# --- depth ----------------------------------------------------------------------------------------------------------


def box(name: str, centre_m: tuple[float, ...], half_m: tuple[float, ...]) -> Box:
    return Box(
        name=name, centre_m=np.array(centre_m), half_m=np.array(half_m), rotation=np.eye(3), margin_m=0.0, exempt=()
    )


TABLE = (
    box("top", (0.2, 0.2, -0.02), (0.35, 0.45, 0.02)),
    box("chest", (0.35, 0.0, 0.15), (0.1, 0.15, 0.15)),
    box("tray", (0.1, 0.4, 0.04), (0.12, 0.1, 0.04)),
)


@pytest.fixture(scope="module")
def model() -> Surface:
    return surface_of(TABLE)


def scans(table: tuple[Array, Array], count: int = 4, seed: int = 0, boxes: tuple[Box, ...] = TABLE) -> list[Scan]:
    rng, found = np.random.default_rng(seed), []
    for k in range(count):
        eye = np.array([-0.15, rng.uniform(-0.5, 0.5), rng.uniform(0.4, 0.7)])
        view = camera_at("depth", eye, np.array([0.6, 0.0, 0.0]), SMALL)
        found.append(scan_of(f"{k:03d}", view, depth_of(boxes, table, view, rng)))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_table_is_found_in_depth_pictures_from_a_rough_start(model: Surface, seed: int) -> None:
    table, rng = pose(seed), np.random.default_rng(seed)
    axis = rng.normal(size=3)
    start = table[0] @ turn(axis / np.linalg.norm(axis) * np.deg2rad(8)), table[1] + 0.02 * axis / np.linalg.norm(axis)
    found = register_depth(model, scans(table, seed=seed), start)
    off_m, off_rad = off(found, table)
    assert off_m < TARGET_M / 2 and off_rad < TARGET_RAD
    assert page_of("table", found).passed


def test_a_bare_table_top_tells_too_little(model: Surface) -> None:
    table = pose(0)
    flat = (box("top", (0.2, 0.2, -0.02), (2.0, 2.0, 0.02)),)
    with pytest.raises(SpecError, match=r"doesn't tell a shift along .* let the camera see edges"):
        register_depth(surface_of(flat), scans(table, boxes=flat), table)


def test_a_start_that_is_nowhere_near_is_refused(model: Surface) -> None:
    table = pose(0)
    with pytest.raises(SpecError, match="of the furniture's surface"):
        register_depth(model, scans(table), (table[0], table[1] + np.array([0.0, 0.0, 1.5])))


@pytest.mark.parametrize(
    ("depth_m", "why"),
    [
        (np.full((240, 320), 800.0), "millimetres"),
        (np.full((240, 320), np.nan), "0 points between"),
        (np.full((480, 640), 0.8), "the camera's are 320 x 240"),
    ],
)
def test_a_depth_picture_that_cant_be_used_is_refused(depth_m: Array, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        scan_of("one", camera_at("depth", np.zeros(3), np.array([1.0, 0.0, 0.0]), SMALL), depth_m)


def test_a_surface_that_is_none_is_refused() -> None:
    points = np.zeros((300, 3))
    for normals, why in ((np.zeros((300, 3)), "of length 1"), (np.zeros((299, 3)), "as many normals")):
        with pytest.raises(SpecError, match=why):
            surface(points, normals)


# --- the command ----------------------------------------------------------------------------------------------------


def rig_of(view_position: Array, view_rotation: Array, lens: Intrinsics) -> Rig:
    told = Lens(
        width=lens.width,
        height=lens.height,
        focal_px=np.array([lens.fx, lens.fy]),
        centre_px=np.array([lens.cx, lens.cy]),
        distortion=lens.distortion,
        sigma_px=0.1,
        made=MADE,
    )
    place = Placement(position_m=view_position, rotation=view_rotation, sigma_m=1e-3, sigma_rad=1e-3, made=MADE)
    return Rig(name="cell", robot="panda", cameras={"left": Camera(frame="left", mount="base", lens=told, pose=place)})


def test_the_command_writes_the_furniture_into_the_rig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, rng = pose(4), np.random.default_rng(4)
    view = camera_at("left", np.array([-0.05, 0.3, 0.75]), np.array([0.55, 0.0, 0.0]))
    images, rig = tmp_path / "images", tmp_path / "cell.yaml"
    images.mkdir()
    for k in range(4):
        cv2.imwrite(str(images / f"{k}.png"), draw(stands(table), view, rng))
    rows = [
        f"{{id: {tag.tag_id}, size_m: {tag.size_m}, position_m: {tag.position_m.tolist()}, quat_wxyz: [1, 0, 0, 0]}}"
        for tag in PLACES.tags
    ]
    (tmp_path / "table.yaml").write_text(f"name: table\nshift_px: 0.1\nshape_px: 0.05\ntags: [{', '.join(rows)}]")
    write_rig(rig, rig_of(view.position_m, view.rotation, view.intrinsics))
    scene(images, rig=rig, camera="left", furniture=str(tmp_path / "table.yaml"))
    written = load_rig(rig).furniture["table"]
    assert (
        np.linalg.norm(written.position_m - table[1]) < TARGET_M and turned_rad(written.rotation, table[0]) < TARGET_RAD
    )
    assert "4 shots" in written.made.method and (images / "scene.html").is_file()
    assert "passed  hold-out, position" in capsys.readouterr().out
    with pytest.raises(SpecError, match="no camera 'right'"):
        scene(images, rig=rig, camera="right", furniture=str(tmp_path / "table.yaml"))
    with pytest.raises(SpecError, match=r"holds none of \.png"):
        scene(tmp_path, rig=rig, camera="left", furniture=str(tmp_path / "table.yaml"))


def test_the_command_takes_depth_pictures_and_leaves_a_rig_that_they_dont_tell(tmp_path: Path) -> None:
    boxes = [one for one in load_cell("kitchen").boxes if one.name != "pedestal"]
    view, rng = (
        camera_at("left", np.array([-0.3, 0.1, 0.6]), np.array([0.8, 0.1, 0.0]), SMALL),
        np.random.default_rng(0),
    )
    table = turn(np.array([0.0, 0.0, 0.02])), np.array([0.01, -0.01, 0.0])
    images, rig = tmp_path / "depth", tmp_path / "cell.yaml"
    images.mkdir()
    for k in range(3):
        np.save(images / f"{k}.npy", depth_of(boxes, table, view, rng))
    write_rig(rig, rig_of(view.position_m, view.rotation, SMALL))
    before = rig.read_text()
    with pytest.raises(SpecError, match="needs the furniture's surface"):
        scene(images, rig=rig, camera="left", furniture="kitchen", depth=True)
    assert rig.read_text() == before
    scene(images, rig=rig, camera="left", furniture="kitchen", depth=True, cell="kitchen")
    assert np.linalg.norm(load_rig(rig).furniture["kitchen"].position_m - table[1]) < 3 * TARGET_M
    np.save(images / "3.npy", np.zeros((240, 320), np.int32))
    with pytest.raises(SpecError, match="must be floating-point metres"):
        scene(images, rig=rig, camera="left", furniture="kitchen", depth=True, cell="kitchen")


def test_a_placement_bears_the_spread_of_the_repeats() -> None:
    found = register(PLACES, shots(pose(0)))
    placed = placement(found, MADE)
    assert placed.sigma_m * np.sqrt(3) == pytest.approx(found.origin_sigma_m) and placed.sigma_m > 0
    assert placed.sigma_rad * np.sqrt(3) == pytest.approx(found.sigma_rad)
