"""The scenes that a recipe can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from skimo_core.contract.errors import SpecError
from skimo_core.domain.tasks import Domain, kitchen

DOMAINS: Mapping[str, Callable[[], Domain]] = {"kitchen": kitchen}


def domain_named(name: str) -> Domain:
    """The domain of that name.

    Raises:
        SpecError: no such domain.
    """
    if name not in DOMAINS:
        raise SpecError(f"unknown domain {name!r}; known are {', '.join(DOMAINS)}")
    return DOMAINS[name]()
