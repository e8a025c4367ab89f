"""What a stage of promotion says of a candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a candidate passed, why, and the figures that this rests on (plain JSON values)."""

    passed: bool
    why: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
