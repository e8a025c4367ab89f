"""What is asked for, held against each other: domain, robot, cell, rig, and the policy server that runs already."""

from __future__ import annotations

from collections.abc import Iterable

from ..contract.errors import SkimoError, SpecError, UnreachableError
from ..domain.cell import load_cell
from ..domain.domain import Domain, load_domain
from ..domain.rig_file import check_rig, load_rig
from ..domain.robot import RobotLimits, load_limits
from ..link.client import PolicyClient
from ..link.endpoint import answers, endpoint_below, parse_endpoint
from .finding import Asked, Check, Finding, fail, ok, split_remedy, warn

OLD_DAYS = 90
HELLO_S = 2.0


def domain(asked: Asked) -> Iterable[Finding]:
    """Domain, robot and cell: each can be read, and they fit together."""
    found = load_domain(asked.domain)
    spec = found.observation
    parts = f"{spec.joints} joints, {spec.fingers} fingers, {len(spec.objects)} object channels"
    yield ok("domain", f"{found.named}: {parts}, {found.action.rate_hz:g} Hz, {len(found.subtasks)} sub-tasks")
    limits = load_limits(asked.robot or found.robot)
    cell = load_cell(asked.cell or found.cell)
    yield fits(found, limits)
    yield ok("cell", f"{cell.named}: {len(cell.obstacles)} obstacles")


def fits(found: Domain, limits: RobotLimits) -> Finding:
    """Whether a domain's joints and fingers are the robot's."""
    spec = found.observation
    joints, fingers = spec.names[: spec.joints], spec.names[spec.joints : spec.joints + spec.fingers]
    if spec.joints not in (0, limits.joints):
        what = f"domain {found.name} has {spec.joints} joints, robot {limits.named} {limits.joints}"
        return fail("robot", what, "name the robot that the domain is for (robot: in its file)")
    for mine, its, word in ((joints, limits.joint_names, "joint"), (fingers, limits.finger_names, "finger")):
        if mine and mine != its[: len(mine)]:
            first = next(a for a, b in zip(mine, its) if a != b) if len(mine) <= len(its) else mine[-1]
            what = f"{word} channel {first!r} of domain {found.name} is none of robot {limits.named}"
            remedy = f"name {word} channels as the robot does: {', '.join(its) or 'it has none'}"
            return warn("robot", what, remedy)
    return ok("robot", f"{limits.named}: {limits.joints} joints")


def rig(asked: Asked) -> Iterable[Finding]:
    """The rig: its robot, its arm, its check, its age."""
    if not asked.rig:
        if asked.on_twin:
            yield ok("rig", "none is named; joints and clocks are taken at their word")
        else:
            yield warn("rig", "none is named: encoders, cameras and delays are taken at their word", "skimo calibrate")
        return
    found = load_rig(asked.rig)
    limits = load_limits(asked.robot or load_domain(asked.domain).robot)
    try:
        check_rig(found, limits, serial=asked.robot_serial)
    except SpecError as error:
        yield split_remedy("rig", "fail", str(error))
        return
    try:
        check_rig(found, limits, max_age_days=OLD_DAYS)
    except SpecError as error:
        yield split_remedy("rig", "warn", str(error))
        return
    yield ok("rig", f"{found.named}, of a {found.robot}; no entry is older than {OLD_DAYS} days")


def server(asked: Asked) -> Iterable[Finding]:
    """Whether a policy server listens where ours would, and what it serves."""
    where = endpoint_below(asked.endpoint, asked.namespace)
    address = parse_endpoint(where)
    if not answers(address):
        yield ok("policy server", f"nobody listens at {address}: free for one")
        return
    found = load_domain(asked.domain)
    client = PolicyClient(where)
    try:
        spec = client.connect(HELLO_S)
    except UnreachableError as error:
        yield fail("policy server", f"{address} is taken, and no policy server of ours answers there ({error})",
                   "stop what listens there, or name another endpoint")  # fmt: skip
        return
    except SkimoError as error:
        yield split_remedy("policy server", "fail", str(error))
        return
    finally:
        client.close()
    serves = f"{address} serves bundle {spec.bundle_id[:12]} ({spec.served_as or 'not told from where'})"
    if unfit := spec.unfit_for(found.observation, found.action, found.named):
        yield fail("policy server", f"{serves}, whose {unfit}", "serve a bundle of this domain, or name its domain")
    else:
        yield ok("policy server", f"{serves}, made for domain {spec.domain}")


CHECKS = (
    Check(name="domain", look=domain),
    Check(name="rig", look=rig),
    Check(name="policy server", look=server),
)
