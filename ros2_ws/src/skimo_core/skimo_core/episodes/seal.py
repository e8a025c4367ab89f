"""Checksums over metadata records, which MCAP itself protects with none (chunks and summary carry CRCs of their own).

A sealed record carries "sha256" over its other entries. It guards against damage and careless editing, not against
somebody who writes a new checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from ..contract.errors import EpisodeError

SEAL = "sha256"


def sealed(entries: Mapping[str, str]) -> dict[str, str]:
    """The entries and their checksum."""
    return {**entries, SEAL: _digest(entries)}


def check_seal(name: str, entries: Mapping[str, str]) -> dict[str, str]:
    """The entries without their checksum.

    Raises:
        EpisodeError: the checksum is missing or another one; names the record.
    """
    plain = {key: value for key, value in entries.items() if key != SEAL}
    if SEAL not in entries:
        raise EpisodeError(
            f"metadata record {name!r} has no checksum: it was written before there were any, or altered; "
            "look at what it says and seal it with `skimo repair --seal`"
        )
    if entries[SEAL] != _digest(plain):
        raise EpisodeError(
            f"metadata record {name!r} was altered: its checksum is {entries[SEAL][:12]!r}, its content gives "
            f"{_digest(plain)[:12]!r}; take the original, or drop the file"
        )
    return plain


def _digest(entries: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(sorted(entries.items()))).encode()).hexdigest()
