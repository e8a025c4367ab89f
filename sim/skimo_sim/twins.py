"""Which twin simulates a domain: found by the name that the domain gives, among what installed packages register.

    [project.entry-points."skimo.twins"]
    kinematic = "skimo_sim.kinematic:kinematic_twin"
The callable takes (domain, limits) and returns a `SimulatedBackend`. One whose scene can be changed by a condition has
a method `change(condition)` besides; encoders, delays and noise are done here for all.
"""

from __future__ import annotations

from importlib import metadata

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits, load_limits

from .condition import Condition
from .impaired import ImpairedTwin

GROUP = "skimo.twins"


def known_twins() -> tuple[str, ...]:
    """Names of the twins that are installed."""
    return tuple(sorted(metadata.entry_points(group=GROUP).names))


def make_twin(
    domain: Domain, limits: RobotLimits | None = None, name: str = "", condition: Condition | None = None
) -> SimulatedBackend:
    """The twin of a domain, or another of that name.

    Args:
        limits: of the robot to simulate; the domain's where not given.
        condition: what is different; its noise is left to whoever assembles observations (`Condition.seen`).

    Raises:
        SpecError: no such twin, or it can't simulate this domain or robot, or can't do the condition.
        SetupError: it can't be loaded.
    """
    wanted = name or domain.twin
    for entry in metadata.entry_points(group=GROUP, name=wanted):
        try:
            make = entry.load()
        except ImportError as error:
            raise SetupError(f"twin {wanted!r} ({entry.value}) can't be loaded: {error}") from error
        twin = make(domain, limits or load_limits(domain.robot))
        return twin if condition is None else under(condition, twin, wanted)
    raise SpecError(f"no twin {wanted!r} for domain {domain.name}; installed are {', '.join(known_twins())}")


def under(condition: Condition, twin: SimulatedBackend, name: str) -> SimulatedBackend:
    """The twin `name` under a condition.

    Raises:
        SpecError: it can't do it.
    """
    change = getattr(twin, "change", None)
    if change is not None:
        change(condition)
    elif parts := condition.scene_parts:
        raise SpecError(
            f"the twin {name!r} can't do condition {condition.name!r} ({', '.join(parts)}): it has no scene that could "
            "be changed; take a twin with one, or a condition of sensors and delays alone"
        )
    return ImpairedTwin(twin, condition.sensors, condition.actuation) if condition.impairs else twin
