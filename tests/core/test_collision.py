"""Room to move: distances against brute force, what lies between two positions, the shipped cells, malformed files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JointTrajectory
from skimo_core.control.trajectory import TrajectoryFollower
from skimo_core.domain.cell import Cell, known_cells, load_cell, parse_cell
from skimo_core.domain.kinematics import arm_points, joint_frames
from skimo_core.domain.robot import load_limits
from skimo_core.safety.bounds import extents
from skimo_core.safety.collision import NEAR_M, Collision, segment_box_distances, segment_distances
from skimo_core.safety.looks import Travel

LIMITS = load_limits("panda")
KITCHEN = load_cell("kitchen")
LINKS = LIMITS.capsules.links
PRESSING = np.array([0.0, 1.7, 0.0, -1.2, 0.0, 2.9, 0.8])
"""The forearm and hand in the stove and the hood."""
FOLDED = np.array([0.0, 1.75, 2.8, -3.0, 0.0, 0.2, 0.0])
"""The hand in link 2."""
BOX = "{name: b, centre_m: [0.5, 0, 0.5], half_m: [0.1, 0.2, 0.3], margin_m: 0.02, exempt: [fingers]}"
CELL = f"name: c\nworkspace: {{low_m: [-1, -1, -1], high_m: [1, 1, 1]}}\nboxes: [{BOX}]\nplanes: []\n"


CONTACT = (
    "contact: {torque_hold_share: 1.0, torque_stop_share: 1.5, tracking_hold_rad: [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], "
    "tracking_stop_rad: [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]}"
)


def along(segments: np.ndarray, steps: int = 201) -> np.ndarray:
    """Points [M, steps, 3] along segments [3, 2, M]."""
    share = np.linspace(0, 1, steps)[:, None]
    a, b = segments[:, 0].T[:, None], segments[:, 1].T[:, None]
    return a + share * (b - a)


def random_positions(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(LIMITS.q_min_rad, LIMITS.q_max_rad, (count, 7))


def path(start: np.ndarray, goal: np.ndarray, count: int = 60) -> np.ndarray:
    return start + np.linspace(0, 1, count)[:, None] * (goal - start)


def test_segment_distances_agree_with_brute_force() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 2, 60))
    first[:, 1, :5] = first[:, 0, :5]  # points
    second[:, 1, 5:10] = second[:, 0, 5:10] + (first[:, 1, 5:10] - first[:, 0, 5:10])  # parallel
    a, b = along(first), along(second)
    brute = np.linalg.norm(a[:, :, None] - b[:, None], axis=-1).min(axis=(1, 2))
    exact = segment_distances(first, second)
    assert (exact <= brute + 1e-9).all() and (exact >= brute - 0.05).all()


def test_segment_box_distances_agree_with_brute_force_outside_and_inside() -> None:
    rng = np.random.default_rng(1)
    ends, half = rng.normal(size=(3, 2, 400)), rng.uniform(0.1, 1.0, (3, 400))
    points = np.abs(along(ends)) - half.T[:, None]
    brute = (np.linalg.norm(np.maximum(points, 0), axis=-1) + np.minimum(points.max(axis=-1), 0)).min(axis=1)
    exact = segment_box_distances(ends, half)
    assert (brute < -0.05).sum() > 20 and (brute > 0.05).sum() > 20
    assert (exact <= brute + 1e-9).all() and (exact >= brute - 0.03).all()


def test_room_is_the_least_over_all_pairs_and_obstacles() -> None:
    collision, shape, q = Collision(LIMITS, KITCHEN), LIMITS.capsules, random_positions(2, 40)
    room, ends = collision.room(q), collision.capsule_ends(q).transpose(3, 2, 0, 1)
    apart = np.full((len(q), len(shape.pairs)), np.inf)
    for k, (first, second) in enumerate(shape.pairs):
        for a in np.flatnonzero(shape.link == first):
            for b in np.flatnonzero(shape.link == second):
                d = segment_distances(ends[..., a], ends[..., b]) - shape.radius_m[a] - shape.radius_m[b]
                apart[:, k] = np.minimum(apart[:, k], d)
    np.testing.assert_allclose(room.self_m, apart.min(axis=1) - shape.margin_m, atol=1e-9)
    np.testing.assert_allclose(apart[np.arange(len(q)), room.self_pair], apart.min(axis=1), atol=1e-9)
    near = np.full((len(q), len(KITCHEN.boxes), len(LINKS)), np.inf)
    for k, box in enumerate(KITCHEN.boxes):
        for c, link in enumerate(shape.link):
            if LINKS[link] not in box.exempt:
                local = np.einsum("ab,aem->bem", box.rotation, ends[..., c] - box.centre_m[:, None, None])
                half = np.repeat(box.half_m[:, None], len(q), axis=1)
                d = segment_box_distances(local, half) - shape.radius_m[c] - box.margin_m
                near[:, k, link] = np.minimum(near[:, k, link], d)
    np.testing.assert_allclose(room.obstacle_m, near.min(axis=(1, 2)), atol=1e-9)
    np.testing.assert_allclose(near[np.arange(len(q)), room.obstacle, room.link], room.obstacle_m, atol=1e-9)


def test_planes_count_as_obstacles() -> None:
    table = CELL.replace(
        "planes: []", "planes: [{name: table, normal: [0, 0, 1], offset_m: 0.1, margin_m: 0.02, exempt: [link1]}]"
    )
    cell = parse_cell(table.replace("[0.5, 0, 0.5]", "[50, 0, 0.5]"), "table.yaml")
    collision, q = Collision(LIMITS, cell), random_positions(3, 30)
    room, ends = collision.room(q), collision.capsule_ends(q)
    heights = ends[..., 2].min(axis=2) - LIMITS.capsules.radius_m - 0.12
    heights[:, np.isin(LIMITS.capsules.link, (0, 1))] = np.inf
    np.testing.assert_allclose(room.obstacle_m, heights.min(axis=1), atol=1e-9)
    assert {cell.obstacles[k] for k in room.obstacle} == {"table"}
    np.testing.assert_array_equal(room.link, LIMITS.capsules.link[heights.argmin(axis=1)])
    assert "and table would " in collision.describe_obstacle(room, 0)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_missed_between_two_positions(seed: int) -> None:
    rng, collision = np.random.default_rng(seed), Collision(LIMITS, KITCHEN)
    knots = random_positions(seed, 5)
    for start, goal in pairwise(knots):
        coarse = path(start, start + (goal - start) * rng.uniform(0.02, 0.3), 6)
        room = collision.room(coarse)
        for k in range(5):
            fine = collision.room(path(coarse[k], coarse[k + 1], 40))
            assert fine.self_m.min() >= room.self_between_m[k] - 1e-9
            assert fine.obstacle_m.min() >= room.obstacle_between_m[k] - 1e-9


def some_motion(seed: int) -> TrajectoryFollower:
    """Out and back within its segments, at any speed."""
    rng = np.random.default_rng(seed)
    follower = TrajectoryFollower(random_positions(seed, 1)[0] if seed % 2 else LIMITS.home_q_rad)
    start, size = follower.at(0.0)[0], 10 ** rng.uniform(-2, -0.3)
    q = start + size * rng.normal(size=(3, 7))
    dq = size / 0.2 * rng.normal(size=(3, 7)) * [[1.0], [1.0], [0.0]]
    times_s = np.cumsum(rng.uniform(0.05, 0.5, 3))
    follower.set(JointTrajectory(start_s=0.0, times_s=times_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=np.zeros((3, 7))), 0.0)
    return follower


@pytest.mark.parametrize("apart_m", [0.02, 0.15, 10.0])
def test_nothing_is_missed_along_a_motion_however_it_turns(apart_m: float) -> None:
    collision = Collision(LIMITS, KITCHEN)
    near = sure = 0
    for seed in range(20):
        follower = some_motion(seed)
        travel = Travel.of(follower.knots_s, extents(follower.coefficients, np.diff(follower.knots_s))[1])
        times_s, stray_m = travel.looks(LIMITS, apart_m)
        frames = joint_frames(LIMITS, follower.positions(times_s))
        room = collision.along(times_s, frames, follower.positions, travel.until)
        fine = collision.room(follower.positions(np.linspace(0.0, follower.end_s, 600)))
        for told_m, between_m, true_m in (
            (room.self_m, room.self_between_m, fine.self_m.min()),
            (room.obstacle_m, room.obstacle_between_m, fine.obstacle_m.min()),
        ):
            least_m = min(told_m.min(), between_m.min())
            assert least_m <= min(true_m, NEAR_M) + 1e-9
            assert true_m < 0 or told_m.min() >= 0
            near, sure = near + (true_m < NEAR_M), sure + (least_m >= 0)
        assert stray_m <= apart_m / 2
    assert near >= 10 and sure >= 5


def test_travel_counts_the_way_back_too() -> None:
    follower = TrajectoryFollower(LIMITS.home_q_rad)
    q, still = np.repeat(LIMITS.home_q_rad[None], 2, axis=0), np.zeros((2, 7))
    dq = still.copy()
    dq[0, 2] = 1.0  # back at home in passing, and at rest there
    out = JointTrajectory(start_s=0.0, times_s=np.array([0.4, 0.8]), q_rad=q, dq_rad_s=dq, ddq_rad_s2=still)
    follower.set(out, 0.0)
    travel = Travel.of(follower.knots_s, extents(follower.coefficients, np.diff(follower.knots_s))[1])
    times_s = np.linspace(0.0, 0.8, 4000)
    way_rad = np.abs(np.diff(follower.positions(times_s), axis=0)).sum(axis=0)
    (made_rad,) = travel.until(np.array([0.8]))
    assert way_rad[2] > 0.1 and way_rad[2] <= made_rad[2] <= 1.2 * way_rad[2]
    np.testing.assert_allclose(np.delete(made_rad, 2), 0.0, atol=1e-12)
    fine = travel.until(times_s)
    assert (np.diff(fine, axis=0) >= np.abs(np.diff(follower.positions(times_s), axis=0)) - 1e-12).all()


def test_a_links_points_move_no_further_than_its_reach_says() -> None:
    collision, q, step = Collision(LIMITS, KITCHEN), random_positions(5, 200), 1e-6
    for joint in range(7):
        moved = q.copy()
        moved[:, joint] += step
        speed = np.linalg.norm(collision.capsule_ends(moved) - collision.capsule_ends(q), axis=-1) / step
        for link in range(len(LINKS)):
            mine = speed[:, LIMITS.capsules.link == link]
            if LIMITS.capsules.moved_by[link] <= joint:
                assert mine.max() < 1e-6
            else:
                assert mine.max() <= collision.reach_m[joint, link] + 1e-6


def test_the_pressing_command_is_found_and_home_is_free() -> None:
    collision = Collision(LIMITS, KITCHEN)
    room = collision.room(path(LIMITS.home_q_rad, PRESSING))
    assert room.obstacle_m[0] > 0.1 and room.self_m.min() > 0
    assert room.obstacle_m.min() < -0.1
    assert "hand and stove would overlap by" in collision.describe_obstacle(room, 59)


def test_the_folded_arm_is_found_and_the_open_cell_has_no_obstacle() -> None:
    collision = Collision(LIMITS, load_cell("open"))
    room = collision.room(path(LIMITS.home_q_rad, FOLDED))
    assert room.self_m[0] > 0.01 and room.self_m[-1] < -0.06
    assert "link2 and " in collision.describe_self(room, 59) and "would overlap by" in collision.describe_self(room, 59)
    assert (room.obstacle_m > 100).all()


def test_one_position_has_no_between() -> None:
    room = Collision(LIMITS, KITCHEN).room(LIMITS.home_q_rad[None])
    assert room.self_m.shape == (1,) and room.self_between_m.shape == room.obstacle_between_m.shape == (0,)


def test_frames_are_rigid_and_points_lie_in_them() -> None:
    q = random_positions(6, 20)
    rotations, origins = joint_frames(LIMITS, q)
    np.testing.assert_allclose(
        rotations @ rotations.swapaxes(-1, -2), np.broadcast_to(np.eye(3), (8, 20, 3, 3)), atol=1e-12
    )
    points = arm_points(LIMITS, q)
    np.testing.assert_array_equal(points[:, 0], origins[4])
    np.testing.assert_allclose(np.linalg.norm(points[:, 3] - points[:, 2], axis=1), LIMITS.tool_m - LIMITS.flange_m)


def test_shipped_cells_load_and_differ() -> None:
    cells = {name: load_cell(name) for name in known_cells()}
    assert set(cells) == {"kitchen", "open", "table"}
    assert len({cell.digest for cell in cells.values()}) == len(cells)
    assert all(cell.name == name for name, cell in cells.items())
    assert not cells["open"].obstacles and "stove" in cells["kitchen"].obstacles
    np.testing.assert_array_equal(LIMITS.workspace_low_m, cells["open"].workspace_low_m)
    np.testing.assert_array_equal(LIMITS.workspace_high_m, cells["open"].workspace_high_m)


def test_a_cell_of_ones_own_is_loaded_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# a comment changes no digest\n" + CELL)
    cell = load_cell(tmp_path / "mine.yaml")
    assert isinstance(cell, Cell) and cell.digest == parse_cell(CELL, "c").digest
    assert cell.boxes[0].exempt == ("link0", "fingers")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: c\n", "", "has no 'name'"),
        ("planes: []", "", "has no 'planes'"),
        ("margin_m: 0.02, ", "", "has no 'margin_m'"),
        ("margin_m: 0.02", "margin_m: -0.02", "margin_m must not be below 0, is -0.02"),
        ("[0.1, 0.2, 0.3]", "[0.1, -0.2, 0.3]", "half_m must hold numbers above 0"),
        ("[0.1, 0.2, 0.3]", "[0.1, 0.2]", "half_m must hold 3 finite numbers"),
        ("[0.5, 0, 0.5]", "[0.5, 0, .nan]", "centre_m must hold 3 finite numbers"),
        ("[0.5, 0, 0.5]", "[0.5, 0, '0.5']", "centre_m must hold 3 finite numbers"),
        ("[0.5, 0, 0.5]", "[5000, 0, 0.5]", "in metres"),
        ("exempt: [fingers]", "exempt: [gripper]", "no link 'gripper'; links are link0"),
        ("exempt: [fingers]", "exempt: fingers", "exempt must be a list of texts"),
        ("exempt:", "excempt:", "unknown key 'excempt'"),
        ("half_m", "quat_wxyz: [1, 1, 0, 0], half_m", "quat_wxyz must have length 1"),
        ("[-1, -1, -1]", "[-1, 1, -1]", "is not below high_m"),
        ("planes: []", "planes: [{name: p, normal: [0, 0, 2], offset_m: 0, margin_m: 0}]", "normal must have length 1"),
        (
            "planes: []",
            "planes: [{name: b, normal: [0, 0, 1], offset_m: 0, margin_m: 0}]",
            "two obstacles are called 'b'",
        ),
        ("planes: []", "planes: {}", "planes must be a list"),
        ("planes: []", "planes: []\nextra: 1", "unknown key 'extra'"),
        ("name: c", "name: [", "is not YAML"),
        ("planes: []", f"planes: []\n{CONTACT}".replace("1.0", "-1.0"), "torque_hold_share must be above 0"),
        (
            "planes: []",
            f"planes: []\n{CONTACT}".replace("1.5", "0.5"),
            "torque_hold 1.0 must not exceed torque_stop 0.5",
        ),
        ("planes: []", f"planes: []\n{CONTACT}".replace("[0.2,", "[0.05,"), "must not exceed tracking_stop"),
        ("planes: []", f"planes: []\n{CONTACT}".replace("[0.2,", "["), "tracking_stop_rad hold [6, 7] numbers"),
        (CELL, "- 1\n", "must be a table of keys"),
        (CELL, "", "must be a table of keys"),
    ],
)
def test_malformed_cells_are_refused(old: str, new: str, words: str) -> None:
    assert old in CELL
    with pytest.raises(SpecError, match=r"mine\.yaml") as refused:
        parse_cell(CELL.replace(old, new, 1), "mine.yaml")
    assert words in str(refused.value)


def test_an_unknown_cell_and_an_unreadable_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no cell 'lab'; there are kitchen, open"):
        load_cell("lab")
    for name in ("gone.yaml", "../kitchen.yaml", str(tmp_path) + "/"):
        with pytest.raises(SpecError, match="can't be read"):
            load_cell(name)


def test_cells_are_plain_yaml() -> None:
    with pytest.raises(SpecError, match="is not YAML"):
        parse_cell("!!python/object/apply:os.getcwd []", "evil.yaml")
    assert yaml.safe_load(CELL)["name"] == "c"
