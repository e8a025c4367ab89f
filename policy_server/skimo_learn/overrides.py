"""Settings given as text, "name=value" or "part.name=value", checked by the configs that they change.

Values are JSON where they read as JSON (3, 0.5, true), else text. Nothing is evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from skimo_core.contract.errors import SpecError

from .recipes import Recipe

DOMAINS_SIZES = ("model.observation", "model.action", "model.horizon")
PARTS = ("model", "loss", "pretrain", "refine", "correct", "distil", "value", "returns")


def parsed(settings: Sequence[str]) -> dict[str, Any]:
    """Names and values.

    Raises:
        SpecError: an item that isn't name=value.
    """
    found: dict[str, Any] = {}
    for item in settings:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise SpecError(f"setting {item!r} must read name=value")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with some fields of its parts changed.

    Raises:
        SpecError: an unknown part or field, a value of another type, one that the part refuses, or another size than
            the domain's.
    """
    changes: dict[str, dict[str, Any]] = {}
    for name, value in parsed(settings).items():
        part, _, field = name.partition(".")
        current = (
            {f.name: getattr(getattr(recipe, part), f.name) for f in fields(getattr(recipe, part))}
            if (part in PARTS)
            else {}
        )
        if field not in current:
            known = ", ".join(current) or ", ".join(f"{p}.*" for p in PARTS)
            raise SpecError(f"unknown setting {name!r}; known are {known}")
        kinds = (int, float) if type(current[field]) is float else type(current[field])
        if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(current[field], bool):
            raise SpecError(f"setting {name} is {value!r}, must be a {type(current[field]).__name__}")
        if name in DOMAINS_SIZES and value != current[field]:
            raise SpecError(
                f"setting {name} is {value}, the domain's is {current[field]} and can't be set; name another --domain"
            )
        changes.setdefault(part, {})[field] = value
    return replace(recipe, **{part: replace(getattr(recipe, part), **new) for part, new in changes.items()})
