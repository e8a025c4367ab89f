"""The maze: its walls, its twin, its environment, its play, and how it is looked at."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import BackendError, SpecError
from skimo_core.contract.types import GripperCommand, JointCommand, JointTrajectory, RobotMode
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.episode import Episode
from skimo_core.episodes.recording import read_episode, write_episode
from skimo_sim.condition import Actuation, Sensors, load_condition
from skimo_sim.env import SkillEnv
from skimo_sim.film import film
from skimo_sim.flat import Flat
from skimo_sim.impaired import ImpairedTwin
from skimo_sim.maze.play import MazePlayer, PlayConfig
from skimo_sim.maze.twin import MAX_SPEED_M_S, RADIUS_M, MazeTwin, build_maze, runs
from skimo_sim.maze.walls import WallConfig, connected, distances, draw_walls, way
from skimo_sim.play.collect import make_episode
from skimo_sim.twins import make_twin

MAZE = load_domain("maze")
NONE = load_limits(MAZE.robot)
START, GOAL = (10, 24), (18, 8)


def twin() -> MazeTwin:
    return MazeTwin(MAZE, NONE)


def push(backend: SimulatedBackend, x: float, y: float, duration_s: float = 0.01) -> JointCommand:
    none = np.zeros((1, 0))
    trajectory = JointTrajectory(
        start_s=backend.now_s(), times_s=np.array([duration_s]), q_rad=none, dq_rad_s=none, ddq_rad_s2=none
    )
    return JointCommand(trajectory=trajectory, others=np.array([x, y]))


# --- walls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_walls_cover_a_quarter_stand_in_a_ring_and_are_the_same_for_a_seed(seed: int) -> None:
    walls = draw_walls(seed)
    assert walls.shape == (42, 42) and walls[[0, -1]].all() and walls[:, [0, -1]].all()
    inner = walls[1:-1, 1:-1]
    one_wall = (20 + 4) / inner.size
    assert 0.25 <= inner.mean() < 0.25 + one_wall
    assert np.array_equal(walls, draw_walls(seed)) and not np.array_equal(walls, draw_walls(seed + 1))


def test_in_skimos_maze_the_target_can_be_reached_and_the_way_is_not_the_straight_line() -> None:
    walls = draw_walls(0)
    free = connected(walls)
    assert free[START] and free[GOAL] and free.sum() > 0.99 * (~walls).sum()
    far = distances(walls, GOAL)
    assert far[START] > 1.5 * np.hypot(START[0] - GOAL[0], START[1] - GOAL[1])
    cells = np.array(way(walls, far, START))
    assert tuple(cells[0]) == START and tuple(cells[-1]) == GOAL and not walls[tuple(cells.T)].any()
    steps = np.abs(np.diff(cells, axis=0))
    assert steps.max() == 1 and np.linalg.norm(steps, axis=1).sum() == pytest.approx(far[START])
    assert np.isinf(far[walls]).all()


def test_every_wall_has_a_door() -> None:
    """One wall in an empty maze divides nothing: its door is between four cells of wall at its corners."""
    walls = draw_walls(0, WallConfig(coverage=1e-6))
    inner = walls[1:-1, 1:-1]
    doors = [
        (i, j)
        for i, j in np.argwhere(~inner)
        if 0 < i < 39 and 0 < j < 39 and inner[[i - 1, i - 1, i + 1, i + 1], [j - 1, j + 1, j - 1, j + 1]].all()
    ]
    assert len(doors) == 1 and connected(walls).sum() == (~walls).sum()


def test_walls_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpecError, match=r"coverage 0\.9"):
        WallConfig(coverage=0.9)


def test_bars_cover_exactly_the_walls() -> None:
    model, walls = build_maze()
    covered = np.zeros_like(walls)
    for first, last, j in runs(walls):
        covered[first : last + 1, j] = True
    assert np.array_equal(covered, walls) and model.ngeom == len(runs(walls)) + 1


# --- the twin ---------------------------------------------------------------------------------------------------------


def test_states_are_what_the_domain_asks_for_and_stay_as_they_were() -> None:
    arm = twin()
    robot, objects = arm.read(), arm.read_objects()
    assert robot.q_rad.size == robot.finger_m.size == 0 and robot.mode is RobotMode.IDLE
    assert objects.names == MAZE.observation.objects == MAZE.observation.names
    before = objects.values.copy()
    arm.write(push(arm, 1.0, 0.0))
    arm.advance(0.01)
    assert np.array_equal(objects.values, before) and objects.stamp_s < arm.read_objects().stamp_s == arm.now_s()


def test_the_same_pushes_make_the_same_way_to_the_bit_and_a_seed_draws_the_start() -> None:
    one, other = twin(), twin()
    rng = np.random.default_rng(0)
    for backend in (one, other):
        backend.reset(seed=3)
    for _ in range(100):
        x, y = rng.uniform(-1, 1, 2)
        for backend in (one, other):
            backend.write(push(backend, x, y))
            backend.advance(0.01)
    assert np.array_equal(one.read_objects().values, other.read_objects().values)
    starts = []
    for seed in range(20):
        one.reset(seed=seed)
        starts.append(one.read_objects().values)
        assert not one.data.ncon and (starts[-1][2:] == 0).all()
    spread = np.array(starts)[:, :2] - START
    assert np.abs(spread).max() <= 2.0 and spread.std(0).min() > 0.5
    one.reset(seed=4)
    assert np.array_equal(one.read_objects().values, starts[4])


def test_a_push_lasts_as_long_as_its_command_and_silence_is_no_force() -> None:
    arm = twin()
    arm.place(np.array([10.0, 25.0]))
    arm.write(push(arm, 0.5, 0.0, duration_s=0.05))
    arm.advance(0.05)
    speed = arm.data.qvel[0]
    assert speed == pytest.approx(0.5 * 100 / 4.19 * 0.05, rel=0.1) and arm.path_at_rest
    arm.advance(0.05)
    assert 0 < arm.data.qvel[0] < speed
    arm.write(push(arm, 1.0, 0.0, duration_s=1.0))
    arm.hold()
    speed = arm.data.qvel[0]
    arm.advance(0.05)
    assert arm.data.qvel[0] < speed


def test_no_wall_is_passed_and_no_speed_exceeds_the_bound() -> None:
    arm = twin()
    rng = np.random.default_rng(1)
    for _ in range(300):
        x, y = rng.choice([-1.0, 1.0], 2)
        for _ in range(5):
            arm.write(push(arm, x, y))
            arm.advance(0.01)
        position, velocity = arm.data.qpos, arm.data.qvel
        cell = tuple(np.rint(position).astype(int))
        assert not arm.walls[cell]
        inside = np.rint(position) - position
        for axis in range(2):  # of a neighbour that is wall at least the radius is kept, but for what contact gives way
            step = np.zeros(2, int)
            step[axis] = -int(np.sign(inside[axis])) or 1
            if arm.walls[tuple(np.array(cell) + step)]:
                assert 0.5 - abs(inside[axis]) > 0.5 * RADIUS_M
        one_step = 100 / 4.19 * 0.01
        assert np.abs(velocity).max() < MAX_SPEED_M_S + one_step


def test_what_it_can_not_do_is_refused_in_words() -> None:
    arm = twin()
    with pytest.raises(SpecError, match="two forces in"):
        arm.write(push(arm, 1.5, 0.0))
    with pytest.raises(SpecError, match="two forces in"):
        arm.write(replace(push(arm, 0.0, 0.0), others=None))
    with pytest.raises(BackendError, match="no hand that could move"):
        arm.command_hand(GripperCommand(kind="move", width_m=0.0, speed_m_s=0.1))
    arm.stop("a test")
    with pytest.raises(BackendError, match="stopped"):
        arm.write(push(arm, 0.0, 0.0))
    assert arm.read().mode is RobotMode.USER_STOPPED
    arm.recover()
    arm.write(push(arm, 0.0, 0.0))
    kitchen = load_domain("kitchen")
    with pytest.raises(SpecError, match="simulates channels x, y, vx, vy"):
        MazeTwin(kitchen, load_limits(kitchen.robot))
    with pytest.raises(SpecError, match="can't do condition"):
        arm.change(load_condition("weak_servos", MAZE))


def test_a_condition_may_fix_the_start_and_delay_what_is_seen_and_done() -> None:
    papers = make_twin(MAZE, condition=load_condition("papers", MAZE))
    for seed in range(3):
        papers.reset(seed=seed)
        assert papers.read_objects().values[:2] == pytest.approx(START)
    late = ImpairedTwin(twin(), Sensors(objects_delay_s=0.05), Actuation(delay_s=(0.02, 0.02)))
    late.reset(seed=0)
    seen = []
    for _ in range(12):
        late.write(push(late, 0.0, 1.0, duration_s=1.0))
        late.advance(0.01)
        seen.append(late.read_objects().values[3])
    assert seen[5] == 0.0 < seen[-1] < 0.6 * late.inside.read_objects().values[3]


# --- the environment --------------------------------------------------------------------------------------------------


def test_gymnasiums_checker_passes_and_the_task_ends_at_the_target() -> None:
    env = gymnasium.make("skimo_sim.envs:skimo/Domain-v0", domain="maze")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not created.*")
        warnings.filterwarnings("ignore", message=".*(infinity|infinite).*")
        check_env(env.unwrapped, skip_render_check=True)
    bare = env.unwrapped
    assert isinstance(bare, SkillEnv) and isinstance(bare.twin, MazeTwin)
    bare.reset(seed=0)
    observation, reward, over, _, info = bare.step(np.array([0.3, 2.0], np.float32))
    assert info["verdict"] == "PASS" and info["action_applied"].tolist() == pytest.approx([0.3, 1.0])
    assert reward == 0 and not over and observation[3] > 0
    bare.twin.place(np.array([18.0, 9.5]))
    _, reward, over, _, info = bare.step(np.zeros(2, np.float32))
    assert reward == 1 and over and info["completed"] == ["target"]


def test_the_gate_changes_nothing_of_what_is_within_bounds() -> None:
    rng = np.random.default_rng(2)
    actions = rng.uniform(-1, 1, (50, 2)).astype(np.float32)
    ways = []
    for gate in (True, False):
        env = SkillEnv(domain="maze", gate=gate)
        env.reset(seed=1)
        ways.append(np.stack([env.step(action)[0] for action in actions]))
    assert np.array_equal(*ways)


# --- play -------------------------------------------------------------------------------------------------------------


@functools.cache
def played(seed: int) -> Episode:
    return make_episode("maze", seed)


def test_play_goes_the_shortest_way_and_depends_on_its_seed_alone(tmp_path: Path) -> None:
    episode = played(0)
    walls = draw_walls(0)
    places = episode.observations[:, :2]
    cells = np.rint(places).astype(int)
    assert not walls[tuple(cells.T)].any()
    far = distances(walls, tuple(cells[-1].tolist()))
    travelled = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
    assert 0.8 * far[tuple(cells[0])] < travelled < 1.2 * far[tuple(cells[0])]
    assert np.abs(episode.actions).max() <= 1.0 and np.abs(episode.observations[0, 2:]).max() == 0.0
    again = make_episode("maze", 0)
    assert np.array_equal(again.observations, episode.observations) and np.array_equal(again.actions, episode.actions)
    assert not np.array_equal(played(1).observations[0], episode.observations[0])
    write_episode(tmp_path / "e.mcap", episode)
    back = read_episode(tmp_path / "e.mcap")
    assert np.array_equal(back.observations, episode.observations) and back.meta.robot == NONE.named
    task = MAZE.task(back.meta.task)
    assert task.subtasks[0].complete(back.observations[-1])


def test_a_hand_that_strays_meets_walls_and_reaches_its_goal_all_the_same() -> None:
    """And one that doesn't is the same whatever the other would have done."""

    def play(straying: float) -> Episode:
        return MazePlayer(MAZE, twin(), PlayConfig(straying=straying)).episode(7)

    plain, astray = play(0.0), play(1.0)

    def gap_m(episode: Episode) -> float:
        """How near a wall it came, along one axis."""
        walls, places = draw_walls(0), episode.observations[:, :2]
        cells = np.rint(places).astype(int)
        off = places - cells
        found = [np.inf]
        for axis in range(2):
            step = np.zeros((len(cells), 2), int)
            step[:, axis] = np.sign(off[:, axis])
            beside = walls[tuple((cells + step).T)]
            found += (0.5 - np.abs(off[beside, axis])).tolist()
        return min(found)

    assert gap_m(astray) < RADIUS_M + 0.01 and len(astray.actions) > len(plain.actions)
    task = MAZE.task(astray.meta.task)
    assert task.subtasks[0].complete(astray.observations[-1])
    assert np.array_equal(plain.observations[0], astray.observations[0]), "the same start and the same noise"


def test_recorded_actions_executed_again_make_the_same_way() -> None:
    episode = played(0)
    env = SkillEnv(domain="maze")
    env.reset(seed=0)
    assert isinstance(env.twin, MazeTwin)
    env.twin.place(episode.observations[0, :2].astype(np.float64))
    for action, then in zip(episode.actions[:200], episode.observations[1:201]):
        seen = env.step(action)[0]
        assert np.abs(seen - then).max() < 1e-3


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_it_is_drawn_from_above() -> None:
    arm = twin()
    assert isinstance(arm, Flat)
    way_TO = np.array([[10.0, 24.0, 0, 0], [10.0, 21.0, 0, 0]])
    picture = arm.picture(way_TO, MAZE.task())
    scale, height = picture.shape[1] // 42, picture.shape[0]
    assert picture.shape == (42 * scale, 42 * scale, 3) and picture.dtype == np.uint8

    def pixel(x: float, y: float) -> list[int]:
        return picture[int(height - (y + 0.5) * scale), int((x + 0.5) * scale)].tolist()

    assert pixel(0, 0) == pixel(8, 24) == [70, 74, 82], "walls"
    assert pixel(30, 35) == [255, 255, 255]
    assert pixel(10, 22.5)[2] > 150 > pixel(10, 22.5)[0], "the way"
    assert pixel(10, 21)[0] > 200 > pixel(10, 21)[1], "where it ends"
    assert pixel(18, 8)[1] > pixel(18, 8)[0], "the target"
    env = SkillEnv(domain="maze", render_mode="rgb_array")
    env.reset(seed=0)
    shown = env.render()
    assert shown is not None and shown.shape == picture.shape


def test_a_recording_is_filmed_from_above(tmp_path: Path) -> None:
    episode = played(0)
    task = MAZE.task(episode.meta.task)
    made = film(
        episode.observations[-12:],
        task,
        MAZE,
        video=tmp_path / "e.mp4",
        strip=tmp_path / "e.png",
        rate_hz=100.0,
        success=True,
        pictures=4,
    )
    assert made.frames == 12 and made.video.stat().st_size > 1000 and made.strip.stat().st_size > 1000
