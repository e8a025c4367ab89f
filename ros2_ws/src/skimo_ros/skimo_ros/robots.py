"""Which robot's limits hold: the one that the driver drives; and what else must be of that robot, or nothing starts.

An FR3 judged by a Panda's limits, or the reverse, would move where it can't (joint 6 of an FR3 ends 0.56 rad earlier);
a policy trained within other limits asks for motions that this arm can't make.
"""

from __future__ import annotations

from skimo_core.contract.errors import SpecError
from skimo_core.domain.robot import RobotLimits, load_limits

from .adapters import Adapter


def robot_of(adapter: Adapter, asked: str = "") -> str:
    """The robot whose limits hold: the one asked for, or the driver's first where none is.

    Raises:
        SpecError: the driver does not drive the robot that was asked for; names both.
    """
    if asked and asked not in adapter.robots:
        known = ", ".join(adapter.robots)
        raise SpecError(
            f"robot:={asked} contradicts driver:={adapter.name}, which drives {known}; "
            f"leave robot empty, or take the driver of a {asked}"
        )
    return asked or adapter.robots[0]


def limits_of(adapter: Adapter, asked: str = "") -> RobotLimits:
    """The limits of that robot; raises SpecError as `robot_of` does, or if there is no file of that robot."""
    return load_limits(robot_of(adapter, asked))


def check_twin_robot(adapter: Adapter, asked: str, simulated: RobotLimits) -> None:
    """Raises SpecError if the arm that the twin simulates is not the robot that the driver's names stand for."""
    robot = robot_of(adapter, asked)
    if robot != simulated.name:
        raise SpecError(
            f"driver:={adapter.name} stands for a {robot}, and the twin simulates a {simulated.name}: nodes that "
            f"listen to it would judge a {simulated.name} by a {robot}'s limits; use driver:=twin"
        )


def check_bundle_limits(bundle_id: str, bundle_digest: str, limits: RobotLimits) -> str:
    """Compare the limits that a bundle's data obeyed with those that hold here; return a warning, or "".

    Raises:
        SpecError: they are another robot's.
    """
    if not bundle_digest:
        return f"bundle {bundle_id[:12]} does not say which robot it was made for; {limits.name}'s limits hold"
    if not limits.accepts(bundle_digest):
        raise SpecError(
            f"bundle {bundle_id[:12]} was made within other robot limits (digest {bundle_digest[:12]}) than those of "
            f"robot {limits.name!r} here ({limits.digest[:12]}): its motions are not this arm's; serve a bundle made "
            f"for {limits.name}, or name the driver or robot that the bundle was made for"
        )
    return ""
