"""The policy server's side of `skimo doctor`: what it runs networks with, and whether the bundle is this domain's.

A bundle's files and hashes are checked, its graphs are not: `skimo verify` tries them.
"""

from __future__ import annotations

from collections.abc import Iterable

from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.setup.finding import Asked, Check, Finding, fail, imports, ok, warn

from .bundle import SHIPPED, Manifest, read_bundle, resolve_bundle


def runtime(asked: Asked) -> Iterable[Finding]:
    """ONNX Runtime."""
    return imports("policy server's imports", ("onnx", "onnxruntime"), "pip install ./policy_server again")


def bundle(asked: Asked) -> Iterable[Finding]:
    """The bundle: whole, and made for this domain and this robot's limits."""
    domain = load_domain(asked.domain)
    if not asked.bundle and not (SHIPPED / domain.name).is_dir():
        yield ok("bundle", f"none is named, and none ships for domain {domain.name}; `skimo export` makes one")
        return
    manifest = read_bundle(resolve_bundle(asked.bundle or domain.name)).manifest
    yield made_for(manifest, domain)
    yield within(manifest, load_limits(asked.robot or domain.robot))


def made_for(manifest: Manifest, domain: Domain) -> Finding:
    """Whether channels, units, rate and horizon are the domain's."""
    unfit = manifest.policy_spec.unfit_for(domain.observation, domain.action, domain.named)
    if not unfit and manifest.skill_horizon != domain.horizon:
        unfit = f"skills last {manifest.skill_horizon} steps, wanted {domain.horizon}"
    if unfit:
        remedy = "name the domain that it was made for, or train one for this domain (skimo pretrain, export)"
        return fail("bundle", f"{manifest.bundle_id[:12]}: its {unfit}", remedy)
    return ok("bundle", f"{manifest.bundle_id[:12]}, kind {manifest.kind}, made for domain {manifest.domain}")


def within(manifest: Manifest, limits: RobotLimits) -> Finding:
    """Whether its data obeyed the limits that hold here."""
    if not manifest.robot.digest:
        what = f"{manifest.bundle_id[:12]} does not say which robot it was made for; {limits.name}'s limits hold"
        return warn("bundle's robot", what, "export it again with --robot")
    if not limits.accepts(manifest.robot.digest):
        what = f"{manifest.bundle_id[:12]} was made within the limits of {manifest.robot}, not of {limits.named}"
        return fail("bundle's robot", what, f"serve a bundle made for {limits.name}, or name the robot it was made for")
    return ok("bundle's robot", f"made within the limits of {limits.named}")


CHECKS = (
    Check(name="policy server's imports", look=runtime),
    Check(name="bundle", look=bundle),
)
