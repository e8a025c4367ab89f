"""Play in the maze: from a place drawn at random to another by the shortest way, under a noisy hand.

As the data of SkiMo's maze were made (Pertsch et al. 2021, appendix on data collection): a planner on the grid, and a
controller that follows its way. Here that is a PD law towards a point a little ahead on the way.

Promises
  - Episode `seed` depends on it alone, and its actions go through skimo_core.control.commander and the gate into the
    twin, as a policy's do.
  - Now and then, in a share of the episodes, the hand strays: it pushes somewhere else for a while, often against a
    wall, then goes on from where it is. Without that a model has never seen a wall stop anything, and plans go through.
  - Every episode reaches its goal; one that is stuck, or takes longer than patience allows, is played again with other
    chances, as a teleoperator would discard it.
  - Starts and goals are drawn from all that can be reached, at rest: no episode is of the domain's own task.
Units m, m/s, s.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import EpisodeError, SpecError
from skimo_core.contract.types import Array
from skimo_core.control.commander import Arm, Commander
from skimo_core.control.observe import Observer
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.safety.armless import gate_for
from skimo_core.safety.gate import Decision
from skimo_core.safety.gated import GatedBackend

from .twin import MazeTwin
from .walls import Cell, Cells, connected, distances, way

FloatArray = npt.NDArray[np.float32]
PLAY_STREAM, STRAY_STREAM = 8, 9
"""Which of a seed's streams of chance draw play, and how it strays."""
ATTEMPTS = 20
NODES_PER_M = 5
"""How finely a way is followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayConfig:
    """How the maze is played.

    Attributes:
        least_m: shortest way worth an episode.
        ahead_m: how far ahead on the way the hand aims.
        stiffness_per_m, damping_s_per_m: action per metre off the aim, and per m/s.
        pace: slowest and fastest, as a factor on how far ahead it aims; drawn for each episode.
        noise: deviation of each action from what was meant.
        straying: share of the episodes in which the hand strays.
        astray_every_steps, astray_steps: mean steps from one such push to the next; how long one lasts.
        astray_push: how hard it is.
        spread_m: half width within its cell of where an episode begins and ends.
        arrived_m, arrived_m_s: near enough to the goal, and slow enough there, that the episode ends.
        stuck_m, stuck_steps: hardly any progress for so long is stuck.
        patience_steps: control steps after which an episode is given up.
    """

    least_m: float = 8.0
    ahead_m: float = 0.9
    stiffness_per_m: float = 1.5
    damping_s_per_m: float = 0.3
    pace: tuple[float, float] = (0.8, 1.15)
    noise: float = 0.3
    straying: float = 0.5
    astray_every_steps: float = 60.0
    astray_steps: tuple[int, int] = (10, 60)
    astray_push: tuple[float, float] = (0.2, 1.0)
    spread_m: float = 0.3
    arrived_m: float = 0.4
    arrived_m_s: float = 1.0
    stuck_m: float = 0.3
    stuck_steps: int = 100
    patience_steps: int = 2000


@dataclass(slots=True)
class Guide:
    """A way as points [K, 2] close to each other, and how far one has come on it."""

    points_K2: Array
    at: int = 0

    @classmethod
    def along(cls, walls: Cells, far: Array, start_m: Array, goal_m: Array) -> Guide:
        """From a place to that in whose cell `far` is 0, both [2]."""
        cells = np.array(way(walls, far, cell_of(start_m)), np.float64)
        corners = np.concatenate([start_m[None], cells[1:-1], goal_m[None]])
        lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
        whole = np.concatenate([[0.0], np.cumsum(lengths)])
        along = np.linspace(0.0, whole[-1], max(2, round(whole[-1] * NODES_PER_M)))
        return cls(np.stack([np.interp(along, whole, corners[:, k]) for k in range(2)], axis=1))

    def aim(self, position_m: Array, ahead_m: float) -> Array:
        """The point [2] so far ahead; one never goes back on the way."""
        window = self.points_K2[self.at : self.at + 2 * NODES_PER_M]
        self.at += int(np.linalg.norm(window - position_m, axis=1).argmin())
        return self.points_K2[min(self.at + round(ahead_m * NODES_PER_M), len(self.points_K2) - 1)]


class Stray:
    """When the hand pushes somewhere else, and where to."""

    def __init__(self, config: PlayConfig, rng: np.random.Generator) -> None:
        self._config, self._rng = config, rng
        self._strays = rng.random() < config.straying
        self._left, self._push = 0, np.zeros(2)
        self.over = False

    def push(self) -> Array | None:
        """The action [2] astray; None where it isn't. `over` says whether it was until now."""
        config, rng = self._config, self._rng
        self.over = self._left == 1
        self._left = max(self._left - 1, 0)
        if self._strays and not self._left and rng.random() < 1.0 / config.astray_every_steps:
            self._left = int(rng.integers(*config.astray_steps))
            angle = rng.uniform(0.0, 2.0 * np.pi)
            self._push = rng.uniform(*config.astray_push) * np.array([np.cos(angle), np.sin(angle)])
        return self._push if self._left else None


def cell_of(position_m: Array) -> Cell:
    """The cell that a place [2] lies in."""
    i, j = np.rint(position_m)
    return int(i), int(j)


class MazePlayer:
    """Plays episodes in one twin.

    Raises:
        SpecError: the twin is none of the maze.
    """

    def __init__(self, domain: Domain, twin: MazeTwin, config: PlayConfig | None = None) -> None:
        self.domain, self.config = domain, config or PlayConfig()
        self._twin, self._limits = twin, load_limits(domain.robot)
        self._free = np.argwhere(connected(twin.walls))
        self._decisions: list[Decision] = []
        self._arm = GatedBackend(twin, gate_for(self._limits), self._decisions.append)
        self._commander = Commander(self._limits, domain.action, Arm.of(self._arm))

    def episode(self, seed: int) -> Episode:
        """The episode of play of `seed`; raises EpisodeError if no attempt gave a whole one."""
        for attempt in range(ATTEMPTS):
            rng, chance = (
                np.random.default_rng(np.random.SeedSequence([seed, attempt, stream]))
                for stream in (PLAY_STREAM, STRAY_STREAM)
            )
            if (played := self._play(rng, Stray(self.config, chance))) is not None:
                return self._as_episode(*played, seed)
        raise EpisodeError(f"seed {seed}: none of {ATTEMPTS} attempts reached its goal; make play more patient")

    def _play(self, rng: np.random.Generator, stray: Stray) -> tuple[FloatArray, FloatArray] | None:
        """Observations [T + 1, O] and actions [T, A]; None if it was given up."""
        config, domain = self.config, self.domain
        start_m, goal_m, far = self._drawn(rng)
        self._arm.reset()
        self._twin.place(start_m)
        self._commander.reset(np.zeros(0), self._arm.now_s())
        observer = Observer(domain.observation, max_age_s=np.inf, noise=domain.noise, rng=rng)
        guide = Guide.along(self._twin.walls, far, start_m, goal_m)
        ahead_m = config.ahead_m * rng.uniform(*config.pace)
        seen, done, came = [observer.observe(self._arm.read(), self._arm.read_objects(), 0.0)], [], [0]
        while len(done) < config.patience_steps:
            position_m, velocity_m_s = self._twin.data.qpos, self._twin.data.qvel
            meant = stray.push()
            if stray.over:
                guide, came = Guide.along(self._twin.walls, far, position_m, goal_m), [0]
            if meant is None:
                off_m = guide.aim(position_m, ahead_m) - position_m
                meant = config.stiffness_per_m * off_m - config.damping_s_per_m * velocity_m_s
            done.append(self._step(np.clip(meant + config.noise * rng.standard_normal(2), -1.0, 1.0)))
            now_s = self._arm.now_s()
            seen.append(observer.observe(self._arm.read(), self._arm.read_objects(), now_s))
            left_m, speed_m_s = np.linalg.norm(goal_m - self._twin.data.qpos), np.linalg.norm(self._twin.data.qvel)
            if left_m < config.arrived_m and speed_m_s < config.arrived_m_s:
                return np.stack(seen), np.stack(done)
            came.append(guide.at)
            if len(came) > config.stuck_steps and (came[-1] - came[-config.stuck_steps]) / NODES_PER_M < config.stuck_m:
                return None
        return None

    def _drawn(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """A start [2], a goal [2], and how far each cell is from it."""
        while True:
            goal, start = self._free[rng.integers(len(self._free), size=2)]
            far = _distances(self._twin.walls.tobytes(), self._twin.walls.shape[0], int(goal[0]), int(goal[1]))
            if far[tuple(start)] >= self.config.least_m:
                spread = rng.uniform(-self.config.spread_m, self.config.spread_m, (2, 2))
                return start + spread[0], goal + spread[1], far

    def _step(self, action: Array) -> FloatArray:
        """Send an action for one control period; returns what was passed on of it."""
        due_s = self._arm.now_s()
        self._commander.send(action.astype(np.float32), due_s)
        self._arm.advance(self.domain.action.period_s)
        for decision in self._decisions:
            if decision.command is not None:
                self._commander.confirm(decision.command.trajectory)
        self._decisions.clear()
        self._commander.settle()
        self._commander.fate()
        return self._commander.applied(due_s)

    def _as_episode(self, observations: FloatArray, actions: FloatArray, seed: int) -> Episode:
        x, y = observations[-1, :2]
        meta = EpisodeMeta(
            episode_id=f"play-{seed:07d}",
            source="play",
            task=f"x={x:.1f} y={y:.1f}",
            rate_hz=self.domain.action.rate_hz,
            seed=seed,
            success=True,
            channels=self.domain.observation.names,
            domain=self.domain.named,
            robot=self._limits.named,
            cell=load_cell(self.domain.cell).named,
        )
        return Episode(observations=observations, actions=actions, meta=meta)


@functools.lru_cache(maxsize=2048)
def _distances(walls: bytes, size: int, i: int, j: int) -> Array:
    """`distances`, remembered: play asks for the same goals again."""
    return distances(np.frombuffer(walls, bool).reshape(size, size), (i, j))


def maze_play(domain: Domain, twin: object) -> MazePlayer:
    """Registered as the player of `maze`; raises SpecError for another twin."""
    if not isinstance(twin, MazeTwin):
        raise SpecError(f"play of domain {domain.name} needs the twin 'maze', is given a {type(twin).__name__}")
    return MazePlayer(domain, twin)
