"""Makes a data set of play: episodes in worker processes, each written as a recording, then one digest over all.

Episode i depends on `seed + i` alone, so the digest is the same for any number of workers. An episode that happens to
hold a held-out order as four consecutive sub-tasks, or that was cut short, is played anew from a derived seed. Also
measures the scripts: how many of N noisy tries succeed, and in how many steps.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skimo_core.episodes.cache import load_folder
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_core.errors import EpisodeError, SimulationError
from skimo_core.tasks import Domain, kitchen

from .collect import Play, Player, draw_order
from .play.scripts import SCRIPTS

RETRY_SEED = 1_000_003
RETRIES = 20
STEPS_ALLOWED = 60
CHECK_STEPS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was collected.

    Attributes:
        episodes, steps, digest: of the whole set.
        subtasks: completions per episode, on average.
        four: share of the episodes that completed at least four.
        rarest_pair: the ordered pair of consecutive sub-tasks seen least often, and how often.
    """

    episodes: int
    steps: int
    digest: str
    subtasks: float
    four: float
    rarest_pair: tuple[tuple[str, str], int]


def collect_kitchen(
    episodes: int, seed: int, out: Path, *, workers: int = 2, progress: Callable[[int], None] = lambda done: None
) -> Collected:
    """Play and record `episodes` episodes into `out`.

    Raises:
        EpisodeError: `out` holds something already, or an episode can't be made.
    """
    if out.exists() and any(out.iterdir()):
        raise EpisodeError(f"{out} is not empty; recordings are never overwritten, choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    done: list[tuple[str, ...]] = []
    for completed in _played(range(seed, seed + episodes), out, workers):
        done.append(completed)
        progress(len(done))
    cache, _ = load_folder(out)
    pairs = Counter(pair for order in done for pair in itertools.pairwise(order))
    every = list(itertools.permutations(SCRIPTS, 2))
    rarest = min(every, key=lambda pair: pairs[pair])
    return Collected(
        episodes=len(cache),
        steps=int(cache.lengths.sum()),
        digest=cache.digest,
        subtasks=float(np.mean([len(order) for order in done])),
        four=float(np.mean([len(order) >= 4 for order in done])),
        rarest_pair=(rarest, pairs[rarest]),
    )


def play_episode(player: Player, seed: int) -> Play:
    """The episode of a seed: the first of its attempts that is whole and holds no held-out order.

    Raises:
        EpisodeError: none of the attempts is.
    """
    for attempt in range(RETRIES):
        chosen = seed + attempt * RETRY_SEED
        order = draw_order(player.domain, chosen, player.config.subtasks)
        try:
            play = player.episode(order, chosen)
        except SimulationError:
            continue
        if len(play.actions) == player.config.steps and not holds_held_out(player.domain, play.done):
            return play
    raise EpisodeError(f"episode of seed {seed}: none of {RETRIES} attempts is whole and free of held-out orders")


def holds_held_out(domain: Domain, done: Iterable[str]) -> bool:
    """Whether four consecutive completions are one of the domain's named orders, which evaluation keeps for itself."""
    names = list(done)
    windows = zip(names, names[1:], names[2:], names[3:])
    return any(window in domain.orders.values() for window in windows)


def check_scripts(tries: int, seed: int) -> dict[str, dict[str, float]]:
    """Try each script `tries` times under noise, each after another sub-task drawn at random.

    Returns:
        Per sub-task: `success`, the share done within 60 steps; `median_steps` and `p95_steps` of those done.
    """
    player, table = Player(), {}
    for name in SCRIPTS:
        steps = []
        for i in range(tries):
            rng = np.random.default_rng(np.random.SeedSequence([seed + i, 4]))
            before = str(rng.choice([other for other in SCRIPTS if other != name]))
            play = player.episode((before, name), seed + i, steps=CHECK_STEPS)
            steps.append(play.steps[play.done.index(name)] if name in play.done else np.inf)
        finished = [s for s in steps if np.isfinite(s)]
        table[name] = {
            "success": float(np.mean(np.array(steps) <= STEPS_ALLOWED)),
            "median_steps": float(np.median(finished)) if finished else float("nan"),
            "p95_steps": float(np.percentile(finished, 95)) if finished else float("nan"),
        }
    return table


def _played(seeds: range, out: Path, workers: int) -> Iterator[tuple[str, ...]]:
    """Sub-tasks completed per episode, in the order of the seeds, as they are recorded."""
    if workers == 1:
        player = Player()
        yield from (_record(player, seed, out) for seed in seeds)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_initialise) as pool:
        yield from pool.map(_record_in_worker, seeds, itertools.repeat(out))


_player: Player | None = None
"""Each worker process's own; set once when the process starts."""


def _initialise() -> None:
    global _player
    _player = Player()


def _record_in_worker(seed: int, out: Path) -> tuple[str, ...]:
    assert _player is not None
    return _record(_player, seed, out)


def _record(player: Player, seed: int, out: Path) -> tuple[str, ...]:
    play, domain = play_episode(player, seed), kitchen()
    meta = EpisodeMeta(
        episode_id=f"play-{seed:07d}",
        source="play",
        task=",".join(play.done),
        rate_hz=domain.action.rate_hz,
        seed=seed,
        channels=domain.observation.names,
        start_q_rad=play.start_q_rad,
    )
    episode = Episode(observations=play.observations, actions=play.actions, meta=meta)
    write_episode(out / f"{meta.episode_id}.mcap", episode)
    return play.done
