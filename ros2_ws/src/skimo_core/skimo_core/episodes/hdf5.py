"""Imports D4RL and Minari HDF5 files as episodes.

D4RL (kitchen-*-v0): flat `observations` [S, 60 or 30], `actions` [S, 9], `terminals` and optionally `timeouts` [S]; an
episode ends where either is set. Of the 60 columns the first 30 are kept, as SkiMo does (9 robot, 21 objects; the rest
is the goal). Minari: groups `episode_<i>` with `observations` [T+1, O] (or a group of that name with a dataset
`observation`, whose FrankaKitchen form holds 9 + 9 robot and 21 + 20 object values: columns 0..8 and 18..38 are kept)
and `actions` [T, A].
Both were made with the kitchen's own arm, whose joint 6 has another zero than Franka's: `arm` says "kitchen".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError, SetupError
from .episode import Episode, EpisodeMeta, check_episode

OBSERVATION_SIZE = 30
FRANKA_KITCHEN_SIZE = 59
FRANKA_KITCHEN_COLUMNS = np.r_[0:9, 18:39]


def read_hdf5(path: Path, *, skip_damaged: bool = False) -> tuple[list[Episode], list[str]]:
    """Read every episode of a D4RL or Minari file.

    Args:
        skip_damaged: leave out episodes that are mis-shaped and return their errors, instead of raising the first.

    Raises:
        EpisodeError: the file is no HDF5 or of neither layout, or an episode is mis-shaped (names the field).
        SetupError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise SetupError("reading HDF5 needs h5py: pip install h5py") from None
    episodes, errors = [], []
    try:
        with h5py.File(path, "r") as file:
            found = _minari(file, path) if any(str(k).startswith("episode_") for k in file) else _d4rl(file, path)
            for item in found:
                try:
                    episodes.append(_build(*item, path.name))
                except EpisodeError as error:
                    if not skip_damaged:
                        raise
                    errors.append(str(error))
    except OSError as error:
        raise EpisodeError(f"{path.name}: can't be read as HDF5 ({error}); is it cut short?") from None
    if not episodes and not errors:
        raise EpisodeError(f"{path.name}: holds no episodes")
    return episodes, errors


Item = tuple[str, Any, Any]
"""An episode's name, its observations and its actions: arrays, data sets still to be read, or None where missing."""


def _d4rl(file: Any, path: Path) -> Iterator[Item]:
    columns = {name: _column(file, name, path) for name in ("observations", "actions", "terminals")}
    rows = {name: len(column) for name, column in columns.items()}
    if len(set(rows.values())) != 1:
        raise EpisodeError(f"{path.name}: fields differ in length: {rows}")
    ends = columns["terminals"].astype(bool).reshape(-1)
    if "timeouts" in file:
        timeouts = _column(file, "timeouts", path).astype(bool).reshape(-1)
        if len(timeouts) != len(ends):
            raise EpisodeError(f"{path.name}: field timeouts has {len(timeouts)} rows, terminals {len(ends)}")
        ends = ends | timeouts
    bounds = np.concatenate([[0], np.flatnonzero(ends) + 1, [len(ends)]])
    for index, (first, last) in enumerate(itertools.pairwise(bounds)):
        if last - first >= 2:  # T observations give T - 1 steps: the state after the last action was not stored
            yield str(index), columns["observations"][first:last], columns["actions"][first : last - 1]


def _minari(file: Any, path: Path) -> Iterator[Item]:
    names = sorted((k for k in file if k.startswith("episode_")), key=lambda k: int(k.rpartition("_")[2]))
    for name in names:
        group = file[name]
        observations = group.get("observations")
        if observations is not None and hasattr(observations, "keys"):
            observations = observations.get("observation")
        yield name, observations, group.get("actions")


def _build(name: str, observations: Any, actions: Any, where: str) -> Episode:
    arrays = []
    for field, stored in (("observations", observations), ("actions", actions)):
        if stored is None:
            raise EpisodeError(f"{where}: episode {name}: field {field} is missing")
        try:
            array = np.asarray(stored)
        except OSError as error:
            raise EpisodeError(f"{where}: episode {name}: field {field} can't be read ({error})") from None
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise EpisodeError(
                f"{where}: episode {name}: {field} is {array.dtype} {array.shape}, must be a matrix of numbers"
            )
        arrays.append(array)
    observations, actions = arrays
    width = observations.shape[1]
    if width == FRANKA_KITCHEN_SIZE:
        observations = observations[:, FRANKA_KITCHEN_COLUMNS]
    elif width < OBSERVATION_SIZE:
        raise EpisodeError(
            f"{where}: episode {name}: observations have {width} columns, at least {OBSERVATION_SIZE} needed"
        )
    episode = Episode(
        observations=observations[:, :OBSERVATION_SIZE].astype(np.float32),
        actions=actions.astype(np.float32),
        meta=EpisodeMeta(episode_id=name, source="import"),
    )
    return check_episode(episode, where)


def _column(file: Any, name: str, path: Path) -> npt.NDArray[Any]:
    if name not in file:
        raise EpisodeError(f"{path.name}: field {name} is missing; this is neither a D4RL nor a Minari file")
    return np.asarray(file[name])
