"""Play data sets: episodes of scripted teleoperation, made in parallel and written as recordings.

Promises
  - Episode i depends on `seed + i` alone: any number of workers gives the same arrays, and so the same digest.
  - Three attempts in twenty first misjudge where the part is and work beside it in vain: without failures in the data
    a model predicts that every attempt succeeds. A quarter leave the part somewhere between.
  - Every episode starts as the domain's `starts` draw it, and holds at least four scripts; while time is left the
    teleoperator plays on with others: sub-tasks, what undoes them, the kettle to another burner, the arm home.
  - Once its place is judged right none takes more than 60 steps: what follows the last script before is cut away.
  - No episode does the sub-tasks of a held-out order (the domain's named tasks) in that order, not even with others
    in between: a policy that does such a task has put it together itself.
An episode that breaks one of these is played again with other chances, as a teleoperator would discard it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from skimo_core.contract.errors import EpisodeError, SimulationError
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.cache import load_folder
from skimo_core.episodes.episode import INTERVENE, Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode

from .player import SUBTASKS, Choose, PlayConfig, Played, Player, freely
from .scripts import SCRIPTS

EVERY_PAIR = tuple(itertools.permutations(SUBTASKS, 2))
LEAST_SCRIPTS = 4
ATTEMPTS = 20
"""Replays of one episode before giving up: each succeeds more often than not."""
CHECK_PATIENCE_STEPS = 120
"""How long a script may take when it is only tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection gave: episodes, control steps and how many of them show how it is done, digest over the arrays,
    sub-tasks per episode, pair counts.
    """

    episodes: int
    steps: int
    shown_steps: int
    digest: str
    subtasks_mean: float
    pairs: Counter[tuple[str, str]]


def make_episode(seed: int) -> Episode:
    """The episode of play of `seed`; raises EpisodeError if no attempt gave a whole one."""
    player = _player()
    return as_episode(whole_play(player, seed), seed, player.domain)


def collect(
    out: Path,
    *,
    episodes: int,
    seed: int,
    workers: int,
    make: Callable[[int], Episode] = make_episode,
    progress: Callable[[Iterator[Episode]], Iterable[Episode]] = iter,
) -> Collected:
    """Make `episodes` recordings and their training cache in the folder `out`.

    Args:
        make: the episode of a seed.
        progress: wraps the iteration, e.g. to draw a bar.

    Raises:
        EpisodeError: `out` holds something already, or what was written does not read back the same.
    """
    if out.exists() and any(out.iterdir()):
        raise EpisodeError(f"{out} is not empty; recordings are never overwritten, choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    done = []
    with mapped(workers) as each:
        for episode in progress(each(make, range(seed, seed + episodes))):
            write_episode(out / f"{episode.meta.episode_id}.mcap", episode)
            done.append(episode.meta.task.split(","))
    cache, _ = load_folder(out)
    return Collected(
        episodes=len(cache),
        steps=int(cache.lengths.sum()),
        shown_steps=int(cache.shown.sum()),
        digest=cache.digest,
        subtasks_mean=float(np.mean([len(names) for names in done])),
        pairs=Counter(pair for names in done for pair in itertools.pairwise(names)),
    )


def whole_play(player: Player, seed: int, *, choose: Choose = freely, least_scripts: int = LEAST_SCRIPTS) -> Played:
    """What is played for `seed`, attempt after attempt, until it holds so many scripts and no held-out order.

    Raises:
        EpisodeError: no attempt did.
    """
    for attempt in range(ATTEMPTS):
        try:
            played = player.play(choose, seed, attempt=attempt)
        except SimulationError:
            continue
        if len(played.scripts) >= least_scripts and not held_out(played.done, player.domain):
            return played
    raise EpisodeError(
        f"seed {seed}: none of {ATTEMPTS} attempts ran {least_scripts} scripts; look at `skimo collect --check`"
    )


def held_out(done: tuple[str, ...], domain: Domain) -> bool:
    """Whether the sub-tasks of a named task were done in its order, perhaps with others in between."""
    return any(_within(order, done) for order in domain.orders.values())


def as_episode(played: Played, seed: int, domain: Domain, *, source: str = "play", bundle_id: str = "") -> Episode:
    """An episode with its metadata; what was played beside a driver says who acted when."""
    meta = EpisodeMeta(
        episode_id=f"{source}-{seed:07d}",
        source=source,
        task=",".join(name for name, _ in itertools.groupby(played.done)),
        rate_hz=domain.action.rate_hz,
        seed=seed,
        bundle_id=bundle_id,
        success=True,
        channels=domain.observation.names,
        domain=domain.named,
        robot=load_limits(domain.robot).named,
        cell=load_cell(domain.cell).named,
        start_q_rad=played.start_q_rad,
    )
    kinds = np.append(np.where(played.driven, "act", INTERVENE), "done") if bundle_id else None
    return Episode(observations=played.observations, actions=played.actions, meta=meta, kinds=kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptTrial:
    """One try of a script: what ran before it, whether its goal was reached, and in how many control steps."""

    before: str
    done: bool
    steps: int


def check_script(subtask: str, *, tries: int, seed: int, workers: int) -> list[ScriptTrial]:
    """Try a script `tries` times, each after another sub-task's script drawn at random (which must have worked)."""
    with mapped(workers) as each:
        return list(each(partial(try_script, subtask), range(seed, seed + tries)))


def try_script(name: str, seed: int) -> ScriptTrial:
    """Try a script once, from a drawn start."""
    player = _player(CHECK_PATIENCE_STEPS)
    does = [other for other, script in SCRIPTS.items() if script.part == SCRIPTS[name].part and not script.back]
    others = does if SCRIPTS[name].back else [other for other in SCRIPTS if other != name]
    asked = (name,) if name in player.domain.subtasks else ()
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng(np.random.SeedSequence([seed, attempt, 4]))
        before = others[int(rng.integers(len(others)))]
        choose = OnlyUseful((before, name))
        played = player.play(choose, seed, attempt=attempt, asked=asked)
        if choose.useful[:2] == [True, True]:
            done = len(played.scripts) == 2
            return ScriptTrial(before=before, done=done, steps=played.scripts[1][1] if done else player.config.steps)
    raise EpisodeError(f"seed {seed}: nothing worked before {name}; check the other scripts first")


class OnlyUseful:
    """Scripts in order, up to the first that doesn't apply; `useful` says of each chosen whether it did."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._left = iter(names)
        self.useful: list[bool] = []

    def __call__(self, applies: Callable[[str], bool], chance: np.random.Generator) -> str | None:
        wanted = next(self._left, None)
        self.useful.append(wanted is not None and applies(wanted))
        return wanted if self.useful[-1] else None


T = TypeVar("T")


@contextmanager
def mapped(workers: int) -> Iterator[Callable[[Callable[[int], T], range], Iterator[T]]]:
    """A `map` in order over seeds, in this process or in several, each with one thread."""
    if workers <= 1:
        yield lambda function, seeds: map(function, seeds)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield lambda function, seeds: pool.imap(function, seeds)


_PLAYERS: dict[tuple[int, int], Player] = {}


def _player(patience_steps: int = PlayConfig().patience_steps) -> Player:
    """This process's player: a twin takes a second to build."""
    key = os.getpid(), patience_steps
    if key not in _PLAYERS:
        _PLAYERS[key] = Player(PlayConfig(patience_steps=patience_steps))
    return _PLAYERS[key]


def _within(order: tuple[str, ...], done: tuple[str, ...]) -> bool:
    left = iter(done)
    return all(name in left for name in order)
