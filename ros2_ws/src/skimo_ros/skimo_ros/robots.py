"""Which domain, driver and robot a node serves; what must fit together does, or nothing starts.

An FR3 judged by a Panda's limits, or the reverse, would move where it can't (joint 6 of an FR3 ends 0.56 rad earlier);
a policy trained within other limits asks for motions that this arm can't make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from skimo_core.contract.errors import SpecError
from skimo_core.contract.specs import Named
from skimo_core.control.rigged import narrowed
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.rig import Rig
from skimo_core.domain.rig_file import check_rig, load_rig
from skimo_core.domain.robot import RobotLimits, load_limits

from .adapters import Adapter, load_adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a node's parameters name.

    Attributes:
        adapter: the driver's names, with the robot's joints.
        limits: the robot's, on true joint angles (`rigged.narrowed`).
        rig: what was measured of this cell; `BARE` where none is named.
    """

    domain: Domain
    adapter: Adapter
    limits: RobotLimits
    rig: Rig


def set_up(values: Mapping[str, Any]) -> Setup:
    """From the parameters `SETUP`, and `TRACKING` where a node has them.

    Raises:
        SpecError: no such thing, or what contradicts itself; names both.
    """
    domain, adapter = _seen(load_domain(values["domain"]), values), load_adapter(values["driver"], values["arm"])
    arm = domain.observation.joints
    if not arm:
        raise SpecError(
            f"domain {domain.name} has no arm, and these nodes command one; run it in process: skimo eval --domain "
            f"{domain.name} --stack inprocess"
        )
    limits = limits_of(adapter, values["robot"], domain)
    if arm != limits.joints:
        raise SpecError(
            f"domain {domain.name} has {arm} joints, robot {limits.name} {limits.joints}; name another robot"
        )
    rig = load_rig(values["rig"])
    if values["rig"]:
        check_rig(rig, limits, serial=values["robot_serial"], max_age_days=values["rig_max_age_days"] or None)
    return Setup(domain=domain, adapter=adapter.of(limits, values["arm"]), limits=narrowed(limits, rig), rig=rig)


def _seen(domain: Domain, values: Mapping[str, Any]) -> Domain:
    """The domain with what this stack asks of its tracker."""
    asked = domain.tracking
    if (age_s := values.get("objects_max_age_s", 0.0)) > 0.0:
        asked = replace(asked, max_age_s=age_s)
    if (hidden_s := values.get("objects_hidden_s", 0.0)) > 0.0:
        asked = replace(asked, hidden_s=hidden_s)
    return replace(domain, tracking=asked)


def limits_of(adapter: Adapter, asked: str = "", domain: Domain | None = None) -> RobotLimits:
    """The limits that hold: of the robot asked for, else of the domain's where the driver drives it, else the driver's.

    Raises:
        SpecError: the driver does not drive the robot that was asked for (names both), or there is no such robot.
    """
    if asked:
        limits = load_limits(asked)
        if not adapter.drives(limits.name):
            known = ", ".join(adapter.robots)
            raise SpecError(
                f"robot:={asked} contradicts driver:={adapter.name}, which drives {known}; "
                f"leave robot empty, or take the driver of a {limits.name}"
            )
        return limits
    if domain is not None:
        limits = load_limits(domain.robot)
        if adapter.drives(limits.name):
            return limits
    return load_limits(adapter.robots[0])


def check_bundle_robot(bundle_id: str, robot: Named, limits: RobotLimits) -> str:
    """Compare the limits that a bundle's data obeyed with those that hold here; return a warning, or "".

    Raises:
        SpecError: they are another robot's.
    """
    if not robot.digest:
        return f"bundle {bundle_id[:12]} does not say which robot it was made for; {limits.name}'s limits hold"
    if not limits.accepts(robot.digest):
        raise SpecError(
            f"bundle {bundle_id[:12]} was made within the limits of robot {robot}, other than those of {limits.named} "
            f"here: its motions are not this arm's; serve a bundle made for {limits.name}, or name the driver or robot "
            "that the bundle was made for"
        )
    return ""
