"""Imports D4RL and Minari HDF5 files as episodes of a domain.

D4RL: flat `observations` [S, W], `actions` [S, A], `terminals` and optionally `timeouts` [S]; an episode ends where
either is set. Minari: groups `episode_<i>` with `observations` [T+1, W] (or a group of that name with a data set
`observation`) and `actions` [T, A]. Which columns are which channels, and the zeros of the source's arm, are data
(`layout`).

Promises
  - What comes out has the domain's channels in its own convention, and names the domain and its robot.
  - Actions beyond -1 to 1, joints that jump, rows without any episode's end are refused by row and value; an episode
    is left out only on request, and is named.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError, SetupError
from ..domain.domain import Domain
from ..domain.robot import RobotLimits, load_limits
from .episode import Episode, EpisodeMeta, check_episode
from .fit import why_unfit
from .layout import Layout, choose, find_layouts
from .stream import HDF5_MAGIC, MAGIC

_NUMBERED = re.compile(r"episode_([0-9]{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a file held.

    Attributes:
        episodes: those that are whole.
        errors: one message per episode that was left out.
        notes: what was done to all of them, and what is no episode.
    """

    episodes: list[Episode]
    errors: list[str]
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An episode as it is stored: arrays, data sets still to be read, or None where missing."""

    name: str
    observations: Any
    actions: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """What episodes are made into, and what their file is called in errors."""

    where: str
    domain: Domain
    robot: RobotLimits
    layouts: tuple[Layout, ...]


def read_hdf5(
    path: Path, *, domain: Domain, layout: str = "", one_episode: bool = False, skip_damaged: bool = False
) -> Imported:
    """Read every episode of a D4RL or Minari file.

    Args:
        domain: whose channels and actions they have.
        layout: name or path; where none is given, the first of the domain's known ones that has the file's width.
        one_episode: a file of flat rows in which no end is marked is one episode.
        skip_damaged: leave out episodes that don't fit and return their errors, instead of raising the first.

    Raises:
        EpisodeError: the file is not there, no HDF5 or of neither form, or an episode does not fit (names file,
            episode, field, value and bound).
        SpecError: the layout can't be had.
        SetupError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise SetupError("reading HDF5 needs h5py: pip install 'skimo_core[hdf5]'") from None
    _check_is_hdf5(path)
    target = _Target(
        where=path.name, domain=domain, robot=load_limits(domain.robot), layouts=find_layouts(layout, domain)
    )
    found = Imported(episodes=[], errors=[], notes=[])
    widths: set[int] = set()
    try:
        with h5py.File(path, "r") as file:
            grouped = any(str(key).startswith("episode_") for key in file)
            items = _minari(file) if grouped else _d4rl(file, one_episode, found.notes)
            for item in items:
                _take(item, target, found, widths, skip_damaged)
    except (OSError, RuntimeError, KeyError) as error:
        raise EpisodeError(f"{path.name}: can't be read as HDF5 ({error}); is it cut short?") from None
    except EpisodeError as error:
        raise EpisodeError(_after(f"{path.name}: ", error)) from None
    if not found.episodes and not found.errors:
        raise EpisodeError(f"{path.name}: holds no episodes")
    said = [choose(target.layouts, width, domain).words(width, domain) for width in sorted(widths)]
    return Imported(
        episodes=found.episodes,
        errors=found.errors,
        notes=[f"{path.name}: {note}" for note in (*said, *found.notes)],
    )


def _check_is_hdf5(path: Path) -> None:
    if not path.exists():
        raise EpisodeError(f"{path}: there is no such file; check --source")
    if path.is_dir():
        raise EpisodeError(f"{path}: is a folder; name the HDF5 file in it with --source")
    try:
        with path.open("rb") as file:
            head = file.read(len(HDF5_MAGIC))
    except OSError as error:
        raise EpisodeError(f"{path}: can't be read: {error.strerror or error}") from None
    if head == MAGIC:
        raise EpisodeError(
            f"{path.name}: is an MCAP file, and `skimo ingest` reads HDF5 only for now; a recording that skimo made "
            "needs no ingest"
        )


def _take(item: Item, target: _Target, found: Imported, widths: set[int], skip_damaged: bool) -> None:
    try:
        observations = _matrix("observations", item.observations)
        found.episodes.append(_build(item.name, observations, _matrix("actions", item.actions), target))
        widths.add(observations.shape[1])
    except EpisodeError as error:
        said = _after(f"{target.where}: episode {item.name}: ", error)
        if not skip_damaged:
            raise EpisodeError(f"{said}; or leave it out with --skip-damaged") from None
        found.errors.append(said)


def _after(prefix: str, error: EpisodeError) -> str:
    """The error's words behind the prefix, once."""
    words = str(error)
    return words if words.startswith(prefix) else f"{prefix}{words}"


def _build(name: str, observations: npt.NDArray[Any], actions: npt.NDArray[Any], target: _Target) -> Episode:
    """The episode in the domain's channels and convention.

    Raises:
        EpisodeError: it doesn't fit the domain.
    """
    domain = target.domain
    channels = choose(target.layouts, observations.shape[1], domain).channels(observations)
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused as such
        episode = Episode(
            observations=channels.astype(np.float32),
            actions=actions.astype(np.float32),
            meta=EpisodeMeta(
                episode_id=name,
                source="import",
                domain=domain.named,
                robot=target.robot.named,
                rate_hz=domain.action.rate_hz,
                channels=domain.observation.names,
            ),
        )
    check_episode(episode, target.where)
    if why := why_unfit(episode, domain, target.robot):
        raise EpisodeError(why)
    return episode


def _matrix(field: str, stored: Any) -> npt.NDArray[Any]:
    if stored is None:
        raise EpisodeError(f"field {field} is missing")
    try:
        array = np.asarray(stored)
    except (OSError, ValueError, TypeError) as error:
        raise EpisodeError(f"field {field} can't be read ({error})") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise EpisodeError(f"{field} is {array.dtype} {array.shape}, must be a matrix of numbers")
    return array


def _d4rl(file: Any, one_episode: bool, notes: list[str]) -> Iterator[Item]:
    observations, actions = (_column(file, name) for name in ("observations", "actions"))
    ends = _ends(file, "terminals", len(observations))
    if "timeouts" in file:
        ends = ends | _ends(file, "timeouts", len(observations))
    if len(actions) != len(observations):
        raise EpisodeError(f"fields differ in length: observations {len(observations)}, actions {len(actions)}")
    if not ends.any() and not one_episode:
        raise EpisodeError(
            f"field terminals: no end of an episode is marked in {len(ends)} rows, nor in timeouts; if they are one "
            "episode say so with --one-episode, else mark the ends"
        )
    bounds = np.concatenate([[0], np.flatnonzero(ends) + 1, [len(ends)]])
    for index, (first, last) in enumerate(itertools.pairwise(bounds)):
        if last - first == 1:
            notes.append(f"row {first} is an episode of its own, too short to be one, and is left out")
        if last - first >= 2:  # T observations give T - 1 steps: the state after the last action was not stored
            yield Item(name=str(index), observations=observations[first:last], actions=actions[first : last - 1])


def _ends(file: Any, name: str, rows: int) -> npt.NDArray[np.bool_]:
    ends = _column(file, name)
    if ends.size != rows:
        raise EpisodeError(f"fields differ in length: observations {rows}, {name} {ends.size}")
    return ends.astype(bool).reshape(-1)


def _minari(file: Any) -> Iterator[Item]:
    numbers = {}
    for name in (str(key) for key in file if str(key).startswith("episode_")):
        match = _NUMBERED.fullmatch(name)
        if match is None:
            raise EpisodeError(f"group {name[:60]!r} is not named episode_<number>; rename it, or take it out")
        numbers[name] = int(match[1])
    for name in sorted(numbers, key=lambda name: numbers[name]):
        group = file[name]
        get = getattr(group, "get", {}.get)  # a data set of that name has no fields
        observations = get("observations")
        if observations is not None and hasattr(observations, "keys"):
            observations = observations.get("observation")
        yield Item(name=name, observations=observations, actions=get("actions"))


def _column(file: Any, name: str) -> npt.NDArray[Any]:
    if name not in file:
        raise EpisodeError(f"field {name} is missing; this is neither a D4RL nor a Minari file")
    column = np.asarray(file[name])
    if column.ndim == 0 or column.dtype.kind not in "fiub":
        raise EpisodeError(f"field {name} is {column.dtype} {column.shape}, must be an array of numbers")
    return column
