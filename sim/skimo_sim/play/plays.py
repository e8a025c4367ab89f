"""Whose scripted play a domain has: found by the domain's name, among what installed packages register.

    [project.entry-points."skimo.play"]
    kitchen = "skimo_sim.play.kitchen.teleoperator:kitchen_play"
The callable takes (domain, twin) and returns a `Teleoperator`; it raises SpecError where domain or twin are not those
that it knows.

    [project.entry-points."skimo.players"]
    maze = "skimo_sim.maze.play:maze_play"
Where play is no choice among scripts, the callable returns a `WholePlayer` instead, which plays episodes its own way.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, Protocol

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import Domain
from skimo_core.episodes.episode import Episode

from .teleoperator import Teleoperator

GROUP = "skimo.play"
WHOLE_GROUP = "skimo.players"


class WholePlayer(Protocol):
    """Plays whole episodes in its own way."""

    def episode(self, seed: int) -> Episode:
        """The episode of play of `seed`, which depends on it alone; raises EpisodeError if none came about."""
        ...


def known_plays() -> tuple[str, ...]:
    """Names of the domains that have scripted play, or a player of their own."""
    groups = (metadata.entry_points(group=group).names for group in (GROUP, WHOLE_GROUP))
    return tuple(sorted({name for names in groups for name in names}))


def need_play(domain: Domain) -> metadata.EntryPoint:
    """Where the domain's scripted play is.

    Raises:
        SpecError: it has none.
    """
    for entry in metadata.entry_points(group=GROUP, name=domain.name):
        return entry
    if plays_whole(domain):
        raise SpecError(
            f"play of domain {domain.name} is no choice among scripts; there are none to try or to help with"
        )
    raise SpecError(
        f"domain {domain.name} has no scripted play ({', '.join(known_plays()) or 'none'} have); record teleoperation "
        "with skimo record, or bring recordings in with skimo ingest"
    )


def teleoperator_of(domain: Domain, twin: SimulatedBackend) -> Teleoperator[Any]:
    """The scripted teleoperator of a domain, for a twin of it.

    Raises:
        SpecError: there is none, or it doesn't know this domain's channels or this twin.
        SetupError: it can't be loaded.
    """
    entry = need_play(domain)
    try:
        make = entry.load()
    except ImportError as error:
        raise SetupError(f"scripted play of {domain.name} ({entry.value}) can't be loaded: {error}") from error
    return make(domain, twin)


def plays_whole(domain: Domain) -> bool:
    """Whether the domain has a player of its own."""
    return domain.name in metadata.entry_points(group=WHOLE_GROUP).names


def whole_player_of(domain: Domain, twin: SimulatedBackend) -> WholePlayer:
    """The player of a domain that `plays_whole`, in a twin of it.

    Raises:
        SpecError: it doesn't know this domain or this twin.
        SetupError: it can't be loaded.
    """
    (entry,) = metadata.entry_points(group=WHOLE_GROUP, name=domain.name)
    try:
        make = entry.load()
    except ImportError as error:
        raise SetupError(f"play of {domain.name} ({entry.value}) can't be loaded: {error}") from error
    return make(domain, twin)
