"""Play data sets: episodes of scripted teleoperation, made in parallel and written as recordings.

Promises
  - Episode i depends on `seed + i` alone: any number of workers gives the same arrays, and so the same digest.
  - Three attempts in twenty first misjudge where the part is and work beside it in vain: without failures in the data
    a model predicts that every attempt succeeds. A quarter leave the part somewhere between.
  - Every episode starts as the domain's `starts` draw it, and holds at least so many scripts as the teleoperator's
    config says; while time is left it plays on with others: sub-tasks, what undoes them, the arm home.
  - Once its place is judged right none takes longer than patience allows: what follows the last script before is cut
    away.
  - No episode does the sub-tasks of a held-out order (the domain's named tasks of three goals or more) in that order,
    not even with others in between: a policy that does such a task has put it together itself.
An episode that breaks one of these is played again with other chances, as a teleoperator would discard it.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from skimo_core.contract.errors import EpisodeError, SimulationError
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.cache import load_folder
from skimo_core.episodes.episode import INTERVENE, Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode

from ..twins import make_twin
from .player import Choose, Played, Player
from .plays import WholePlayer, plays_whole, whole_player_of
from .teleoperator import PlayConfig

ATTEMPTS = 20
"""Replays of one episode before giving up: each succeeds more often than not."""
LEAST_HELD_OUT = 3
"""A named task of fewer goals is held back from no episode: chance does it everywhere."""


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


def make_episode(domain: str, seed: int) -> Episode:
    """The episode of play of `seed` in a domain, by name or path.

    Raises:
        EpisodeError: no attempt gave a whole one.
    """
    if (whole := _whole_player_of(domain)) is not None:
        return whole.episode(seed)
    player = player_of(domain)
    return as_episode(whole_play(player, seed), seed, player.domain)


def collect(
    out: Path,
    *,
    episodes: int,
    seed: int,
    workers: int,
    make: Callable[[int], Episode],
    progress: Callable[[Iterator[Episode]], Iterable[Episode]] = iter,
) -> Collected:
    """Make `episodes` recordings and their training cache in the folder `out`.

    Args:
        make: the episode of a seed, e.g. `make_episode` of a domain.
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


def whole_play(player: Player, seed: int, *, choose: Choose | None = None, least_scripts: int = 0) -> Played:
    """What is played for `seed`, attempt after attempt, until it holds enough scripts and no held-out order.

    Args:
        choose: the script to run next; None: the teleoperator's own way.
        least_scripts: how many are enough; 0: as many as the player's config says.

    Raises:
        EpisodeError: no attempt did.
    """
    choose, least_scripts = choose or player.freely(), least_scripts or player.config.least_scripts
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
    return any(len(order) >= LEAST_HELD_OUT and _within(order, done) for order in domain.orders.values())


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


def check_script(domain: str, name: str, *, tries: int, seed: int, workers: int) -> list[ScriptTrial]:
    """Try a script `tries` times, each after another script drawn at random (which must have worked)."""
    with mapped(workers) as each:
        return list(each(partial(try_script, domain, name), range(seed, seed + tries)))


def try_script(domain: str, name: str, seed: int) -> ScriptTrial:
    """Try a script of a domain once, from a drawn start."""
    player = player_of(domain, tried=True)
    scripts = player.teleoperator.scripts
    others = scripts[name].after or [other for other in scripts if other != name]
    goal = scripts[name].goal
    asked = (goal,) if goal in player.domain.subtasks else ()
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


@functools.lru_cache(maxsize=1)
def _whole_player_of(domain: str) -> WholePlayer | None:
    """This process's player of a domain, by name or path, that has one of its own."""
    known = load_domain(domain)
    return whole_player_of(known, make_twin(known)) if plays_whole(known) else None


_PLAYERS: dict[tuple[int, str, bool], Player] = {}


def player_of(domain: str, *, tried: bool = False) -> Player:
    """This process's player of a domain, by name or path: a twin takes a second to build.

    Args:
        tried: its scripts are only tried, and may take longer.
    """
    key = os.getpid(), domain, tried
    if key not in _PLAYERS:
        _PLAYERS[key] = Player(load_domain(domain), adapt=_patient if tried else _as_it_is)
    return _PLAYERS[key]


def _patient(config: PlayConfig) -> PlayConfig:
    return replace(config, patience_steps=config.trial_patience_steps)


def _as_it_is(config: PlayConfig) -> PlayConfig:
    return config


def _within(order: tuple[str, ...], done: tuple[str, ...]) -> bool:
    left = iter(done)
    return all(name in left for name in order)
