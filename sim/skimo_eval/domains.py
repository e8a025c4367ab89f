"""Where a bundle is flown: in the domain that `skimo_server.domains` has it, if its twin's scene is here too."""

from __future__ import annotations

from pathlib import Path

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.domain.library import is_path


def domain_to_fly(bundle: str, domain: str = "") -> str:
    """What `load_domain` takes: `domain`, or the bundle's own where that is empty.

    Raises:
        BundleError: no such bundle, or one that is damaged.
        SpecError: no such domain, one that the bundle was not made for, or one whose twin's scene is not here.
    """
    from skimo_server.domains import domain_for

    found = domain_for(bundle, domain)
    twin = load_domain(found).twin
    if not domain and is_path(twin) and not Path(twin).is_file():
        raise SpecError(
            f"bundle {Path(bundle).name} carries its domain, and not the scene of its twin ({Path(twin).name}); name "
            "the domain's own file with --domain (from another machine, copy its folder here first)"
        )
    return found
