"""A recording as arrays and as a table of named columns, for notebooks.

    recording = read_recording("recordings/ID.mcap")
    recording.observations_TO, recording.times_s             arrays, T + 1 rows
    recording.column("microwave")                            one channel over time
    recording.as_table().pandas()                            or .arrow(), or a mapping of columns as it is

Row t of a table holds what was seen at control step t, and what was done from it: the last row, the final
observation, has no action (NaN). Column names are the domain's channels and `action.NAME`; `units` says each column's
unit, as far as the recording's domain is known here. Times are s since the episode's start. pandas and pyarrow are
needed by the methods that name them alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError, SetupError, SkimoError, SpecError
from ..domain.domain import Domain, load_domain
from .episode import Episode, EpisodeMeta, FloatArray
from .recording import read_episode

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Table(Mapping[str, Column]):
    """Columns of equal length by name, in order; each with its unit ("" where it has none or none is known)."""

    columns: Mapping[str, Column]
    units: Mapping[str, str]

    def __getitem__(self, name: str) -> Column:
        try:
            return self.columns[name]
        except KeyError:
            raise SpecError(f"no column {name!r}; there are {', '.join(self.columns)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def pandas(self) -> Any:
        """A pandas.DataFrame; `attrs["units"]` holds the units. Raises SetupError where pandas is not installed."""
        pandas = _optional("pandas")
        frame = pandas.DataFrame(dict(self.columns))
        frame.attrs["units"] = dict(self.units)
        return frame

    def arrow(self) -> Any:
        """A pyarrow.Table; each field's metadata hold its unit. Raises SetupError where pyarrow is not installed."""
        pyarrow = _optional("pyarrow")
        arrays = [pyarrow.array(column) for column in self.columns.values()]
        fields = [
            pyarrow.field(name, array.type, metadata={"unit": self.units[name]})
            for name, array in zip(self.columns, arrays)
        ]
        return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An episode with the names and units of its columns.

    Attributes:
        episode: as it was read.
        names: of the observation's channels.
        units: of the channels; each "" where the recording's domain is not known here.
        action_names: of the actions, likewise `action.0` and so on.
    """

    episode: Episode
    names: tuple[str, ...]
    units: tuple[str, ...]
    action_names: tuple[str, ...]

    @property
    def meta(self) -> EpisodeMeta:
        """Where it comes from, and whether it succeeded."""
        return self.episode.meta

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """[T + 1] since the episode's start."""
        return (self.episode.first_step + np.arange(self.episode.steps + 1)) / self.meta.rate_hz

    @property
    def observations_TO(self) -> FloatArray:
        """[T + 1, O] in the channels' units."""
        return self.episode.observations

    @property
    def actions_TA(self) -> FloatArray:
        """[T, A] in [-1, 1], as they were executed."""
        return self.episode.actions

    def column(self, name: str) -> FloatArray:
        """[T + 1] of one channel; raises SpecError for a name that there isn't."""
        if name not in self.names:
            raise SpecError(f"no channel {name!r}; there are {', '.join(self.names)}")
        return self.episode.observations[:, self.names.index(name)]

    def as_table(self) -> Table:
        """All of it by columns of T + 1 rows."""
        episode = self.episode
        columns: dict[str, Column] = {"time_s": self.times_s}
        units = {"time_s": "s"}
        for k, name in enumerate(self.names):
            columns[name], units[name] = episode.observations[:, k], self.units[k]
        columns |= _named("action", self.action_names, episode.actions, episode.steps)
        columns |= _named("proposed", self.action_names, episode.actions_proposed, episode.steps)
        if episode.skills is not None:
            numbers = tuple(str(k) for k in range(episode.skills.shape[1]))
            columns |= _named("skill", numbers, episode.skills, episode.steps)
        for name in ("reward", "kind", "verdict"):
            if (column := getattr(episode, f"{name}s")) is not None:
                columns[name] = column
        return Table(columns, dict.fromkeys(columns, "") | units)


def read_recording(path: Path | str, *, domain: str = "", salvage: bool = False) -> Recording:
    """Read a recording for looking at it.

    Args:
        domain: that it was made in, by name or file; empty: the one that it names, where that is known here.
        salvage: of a damaged file, take the longest unbroken run of steps.

    Raises:
        EpisodeError: it can't be read (`read_episode`), or is not of the domain that is named.
        SpecError: no such domain.
    """
    path = Path(path)
    episode = read_episode(path, salvage=salvage)
    found = _domain_of(episode.meta, domain)
    width, actions = episode.observations.shape[1], episode.actions.shape[1]
    if found is None or found.observation.size != width or found.action.size != actions:
        if domain:
            raise EpisodeError(
                f"{path.name}: {width} channels and {actions} actions, domain {domain} has others; name its own domain"
            )
        names = episode.meta.channels or tuple(str(k) for k in range(width))
        return Recording(
            episode=episode, names=names, units=("",) * width, action_names=tuple(str(k) for k in range(actions))
        )
    spec = found.observation
    return Recording(
        episode=episode, names=spec.names, units=spec.units, action_names=tuple(map(str, found.action.names))
    )


def _optional(name: str) -> Any:
    """A package that nothing else here needs."""
    try:
        return import_module(name)
    except ImportError as error:
        raise SetupError(f"this form of a table needs {name} ({error}); pip install {name}") from None


def _domain_of(meta: EpisodeMeta, wanted: str) -> Domain | None:
    """The domain that is named, else the recording's own where the same is known here."""
    if wanted:
        return load_domain(wanted)
    try:
        found = load_domain(meta.domain.name)
    except SkimoError:
        return None
    return found if found.digest == meta.domain.digest else None


def _named(kind: str, names: tuple[str, ...], array_TX: FloatArray | None, steps: int) -> dict[str, Column]:
    """Columns KIND.NAME of T + 1 rows, the last NaN; none where there is no array."""
    if array_TX is None:
        return {}
    padded = np.vstack([array_TX, np.full((1, array_TX.shape[1]), np.nan, np.float32)])
    return {f"{kind}.{name}": padded[:, k] for k, name in enumerate(names)}
