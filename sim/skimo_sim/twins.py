"""Which twin simulates a domain: found by the name that the domain gives, among what installed packages register.

    [project.entry-points."skimo.twins"]
    kinematic = "skimo_sim.kinematic:kinematic_twin"
The callable takes (domain, limits) and returns a `SimulatedBackend`.
"""

from __future__ import annotations

from importlib import metadata

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits, load_limits

GROUP = "skimo.twins"


def known_twins() -> tuple[str, ...]:
    """Names of the twins that are installed."""
    return tuple(sorted(metadata.entry_points(group=GROUP).names))


def make_twin(domain: Domain, limits: RobotLimits | None = None, name: str = "") -> SimulatedBackend:
    """The twin of a domain, or another of that name.

    Args:
        limits: of the robot to simulate; the domain's where not given.

    Raises:
        SpecError: no such twin, or it can't simulate this domain or robot.
        SetupError: it can't be loaded.
    """
    wanted = name or domain.twin
    for entry in metadata.entry_points(group=GROUP, name=wanted):
        try:
            make = entry.load()
        except ImportError as error:
            raise SetupError(f"twin {wanted!r} ({entry.value}) can't be loaded: {error}") from error
        return make(domain, limits or load_limits(domain.robot))
    raise SpecError(f"no twin {wanted!r} for domain {domain.name}; installed are {', '.join(known_twins())}")
