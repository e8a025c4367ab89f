"""Which twin simulates a domain: found by what the domain gives.

    a path            a scene file (skimo_sim.scenes.scene_file), relative to the domain's file
    a name            a twin that an installed package registers, else a scene that ships or that a package brings
    [project.entry-points."skimo.twins"]
    kinematic = "skimo_sim.kinematic:kinematic_twin"
The callable takes (domain, limits) and returns a `SimulatedBackend`. One whose scene can be changed by a condition has
a method `change(condition)` besides, one whose arm and scene can be as a rig says `fit(rig)`, which comes first;
encoders, delays and noise are done here for all. One that can be put anywhere has `start_at(observation_O)`; one whose
starts can be others than the domain's has them as an attribute `starts`, which its next reset draws from.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Protocol, runtime_checkable

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import Domain
from skimo_core.domain.library import is_path
from skimo_core.domain.rig import BARE, Rig
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.domain.starts import Starts

from .condition import DRAWN, Condition
from .impaired import ImpairedTwin, actual
from .rigging import impairs, scene_parts
from .scenes.scene_file import known_scenes
from .twin import scene_twin

GROUP = "skimo.twins"
PLAIN = Condition(name=DRAWN, why="nothing is different")


@runtime_checkable
class StartsElsewhere(Protocol):
    """A twin whose next reset draws from `starts`."""

    domain: Domain
    starts: Starts

    def reset(self, task: str = "", seed: int = 0, *, now_s: float = 0.0) -> None: ...


def known_twins() -> tuple[str, ...]:
    """Names of the twins that are installed, scenes among them."""
    return tuple(sorted({*metadata.entry_points(group=GROUP).names, *known_scenes()}))


def make_twin(
    domain: Domain,
    limits: RobotLimits | None = None,
    name: str = "",
    condition: Condition | None = None,
    rig: Rig | None = None,
) -> SimulatedBackend:
    """The twin of a domain, or another of that name.

    Args:
        limits: of the robot to simulate; the domain's where not given.
        condition: what is different; its noise is left to whoever assembles observations (`Condition.seen`).
        rig: what is true of its cell: what was measured there, it does. It tells and is told everything in its
            encoders' terms (`skimo_core.control.rigged` puts that right).

    Raises:
        SpecError: no such twin, or it can't simulate this domain or robot, or can't do the condition or the rig.
        SetupError: it can't be loaded.
    """
    wanted = name or domain.twin
    twin = _maker(wanted, domain)(domain, limits or load_limits(domain.robot))
    return under(condition or PLAIN, twin, wanted, rig or BARE)


def _maker(wanted: str, domain: Domain) -> Callable[[Domain, RobotLimits], SimulatedBackend]:
    """Who makes a twin of that name."""
    for entry in metadata.entry_points(group=GROUP, name=wanted):
        try:
            return entry.load()
        except ImportError as error:
            raise SetupError(f"twin {wanted!r} ({entry.value}) can't be loaded: {error}") from error
    if is_path(wanted) or wanted in known_scenes():
        return partial(scene_twin, wanted)
    raise SpecError(
        f"no twin {wanted!r} for domain {domain.name}; installed are {', '.join(known_twins())}; a scene file of your "
        "own is given by its path (with a slash, or ending in .yaml)"
    )


def reset_from(start: str, twin: SimulatedBackend, task: str, seed: int, now_s: float) -> None:
    """Reset a twin, once, to what the domain's `starts` draw (`drawn`) or to its plain start (`papers`).

    Args:
        start: one of `skimo_core.domain.starts.STARTS`; empty: as its condition says.

    Raises:
        SpecError: it always starts in its own way.
    """
    if not start:
        twin.reset(task, seed, now_s=now_s)
        return
    inside = actual(twin)
    if not isinstance(inside, StartsElsewhere):
        raise SpecError(f"the twin {type(inside).__name__} always starts in its own way; leave start {start!r} out")
    own, inside.starts = inside.starts, inside.domain.starts if start == DRAWN else Starts()
    try:
        twin.reset(task, seed, now_s=now_s)
    finally:
        inside.starts = own


def under(condition: Condition, twin: SimulatedBackend, name: str, rig: Rig = BARE) -> SimulatedBackend:
    """The twin `name` as a rig says it is, under a condition.

    Raises:
        SpecError: it can't do either.
    """
    _fit(rig, condition, twin, name)
    change = getattr(twin, "change", None)
    if condition is PLAIN:
        pass
    elif change is not None:
        change(condition)
    elif parts := condition.scene_parts:
        raise SpecError(
            f"the twin {name!r} can't do condition {condition.name!r} ({', '.join(parts)}): it has no scene that could "
            "be changed; take a twin with one, or a condition of sensors and delays alone"
        )
    elif condition.starts is not None and isinstance(twin, StartsElsewhere):
        twin.starts = condition.starts
        twin.reset()
    if not (condition.impairs or impairs(rig)):
        return twin
    return ImpairedTwin(twin, condition.sensors, condition.actuation, rig)


def _fit(rig: Rig, condition: Condition, twin: SimulatedBackend, name: str) -> None:
    """Make arm and scene what the rig says of them."""
    if not (parts := scene_parts(rig)):
        return
    fit = getattr(twin, "fit", None)
    if fit is None:
        raise SpecError(
            f"the twin {name!r} can't do rig {rig.name!r} ({', '.join(parts)}): it has no scene and no weight; take a "
            "twin that has, or give it a rig without them (twin_rig)"
        )
    if condition.actuation.arm and (rig.dynamics or rig.payload):
        raise SpecError(
            f"condition {condition.name!r} takes the arm {condition.actuation.arm!r}, and rig {rig.name!r} says how "
            "another one moves; give the twin a rig without dynamics and payload (twin_rig)"
        )
    fit(rig)
