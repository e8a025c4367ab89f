"""Which domain a bundle is used in: one rule for all that take a bundle and may be told a domain.

    none is named     the one that the bundle carries or names
    one is named      that one, if the bundle was made for it: channels, units, action, rate and skill length
Goals, orders and starts may be other ones than those that the bundle was made with.
"""

from __future__ import annotations

from pathlib import Path

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain

from .bundle import domain_of, read_bundle, resolve_bundle


def domain_for(bundle: str, domain: str = "") -> str:
    """What `load_domain` takes: `domain`, or the bundle's own where that is empty.

    Args:
        bundle: path of a bundle, or the name of one that ships; its graphs are not looked at.

    Raises:
        BundleError: no such bundle, or one that is damaged.
        SpecError: no such domain, or one that the bundle was not made for.
    """
    manifest = read_bundle(resolve_bundle(bundle)).manifest
    found, called = domain or domain_of(bundle), Path(bundle).name
    try:
        known = load_domain(found)
    except SpecError as error:
        if domain:
            raise
        raise SpecError(
            f"bundle {called} was made for domain {manifest.domain}, which isn't known here ({error}); name its file"
        ) from None
    if unfit := manifest.policy_spec.unfit_for(known.observation, known.action, known.named):
        remedy = f"leave the domain {domain} out, or name" if domain else "name"
        raise SpecError(
            f"bundle {called} was made for domain {manifest.domain}, not for {known.named}: its {unfit}; {remedy} the "
            "domain that it was made for"
        )
    return found
