"""The ledger: one line for each decision about a bundle, each sealed with the hash of the line before.

    ledger.jsonl    number, at (UTC), who, decision, bundle_id, why, evidence, previous, digest     a line each
    ledger.head     number and digest of the last line, so that missing lines show too

Promises
  - Lines are only ever added, by one process at a time, and are on the disk before `append` returns.
  - A changed, missing or foreign line is found at the next look, and named; nothing is added to such a ledger.
  - A line that its writer died over was no decision yet: the next one takes its place. What a full disk doesn't take is
    none either.
It guards against damage and careless editing. Whoever may write the folder can write another history: keep the head's
digest elsewhere, and hold the ledger against it.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from skimo_core.contract.errors import StoreError
from skimo_core.episodes.files import write_atomic
from skimo_core.episodes.locks import held

FIRST = "0" * 64
"""What the first line has before it."""
MAX_LINE_BYTES = 64 * 1024
WAIT_S = 10.0
REMEDY = "take the ledger from a backup; nothing is decided over this one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision.

    Attributes:
        number: from 0 on.
        at: when, UTC.
        who: the user whose process wrote it.
        decision: one of the words of `store.py`.
        bundle_id: about which bundle.
        why: the reason, in a sentence.
        evidence: figures that it rests on, plain JSON values.
        previous: digest of the line before.
        digest: SHA-256 over all of this.
    """

    number: int
    at: str
    who: str
    decision: str
    bundle_id: str
    why: str
    previous: str
    digest: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def utc_now() -> str:
    """Now, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_s(at: str) -> float:
    """Such a time, or another one in ISO 8601, in seconds since 1970; UTC where it names no zone.

    Raises:
        ValueError: it is none.
    """
    time = datetime.fromisoformat(at)
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()


class Ledger:
    """The ledger of a folder; constructing one opens nothing."""

    def __init__(self, folder: Path, *, clock: Callable[[], str] = utc_now) -> None:
        self._lines, self._head, self._clock = folder / "ledger.jsonl", folder / "ledger.head", clock

    def entries(self) -> list[Entry]:
        """Every decision, checked; none where there is no ledger yet.

        Raises:
            StoreError: a line was changed, or is missing; names it.
        """
        return self._checked(self._whole_lines())

    def _checked(self, lines: list[bytes]) -> list[Entry]:
        found = [self._read(number, line) for number, line in enumerate(lines)]
        previous = FIRST
        for entry in found:
            if entry.previous != previous:
                raise StoreError(f"{self._where(entry.number)} does not follow the line before; {REMEDY}")
            previous = entry.digest
        self._check_head(found)
        return found

    def append(self, decision: str, bundle_id: str, why: str, evidence: Mapping[str, Any] | None = None) -> Entry:
        """Adds a decision and returns it.

        Raises:
            StoreError: the ledger was changed, or the disk does not take the line.
        """
        with held(self._head.with_suffix(".lock"), WAIT_S, "another writer of the ledger"):
            lines = self._whole_lines()
            known = self._checked(lines)
            body = {
                "number": len(known),
                "at": self._clock(),
                "who": getpass.getuser(),
                "decision": decision,
                "bundle_id": bundle_id,
                "why": why,
                "evidence": dict(evidence or {}),
                "previous": known[-1].digest if known else FIRST,
            }
            entry = Entry(**body, digest=_digest(body))
            self._write(entry, known, keep=sum(len(line) + 1 for line in lines))
            return entry

    def _write(self, entry: Entry, known: list[Entry], keep: int) -> None:
        """Puts a line after those known, the first `keep` bytes."""
        line = _json(asdict(entry))
        if len(line) > MAX_LINE_BYTES:
            raise StoreError(f"a decision of {len(line)} bytes, at most {MAX_LINE_BYTES}; give less evidence")
        try:
            if known and self._read_head()[0] < known[-1].number:  # its writer died: never two lines ahead of the head
                self._write_head(known[-1])
            with open(self._lines, "r+b" if self._lines.exists() else "w+b") as file:
                file.truncate(keep)
                file.seek(keep)
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._write_head(entry)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self._lines, keep)  # a line whose head was not written would hold after all
            raise StoreError(
                f"{self._lines.name} can't be written: {error}; the decision does not hold: make room, and again"
            ) from error

    def _write_head(self, entry: Entry) -> None:
        write_atomic(self._head, _json({"number": entry.number, "digest": entry.digest}) + b"\n")

    def _whole_lines(self) -> list[bytes]:
        """The lines that were written to their end."""
        try:
            data = self._lines.read_bytes()
        except FileNotFoundError:
            return []
        return data.split(b"\n")[:-1]

    def _read(self, number: int, line: bytes) -> Entry:
        try:
            raw = json.loads(line)
        except ValueError:
            raise StoreError(f"{self._where(number)} is not JSON; {REMEDY}") from None
        if not isinstance(raw, dict) or set(raw) != {f.name for f in fields(Entry)}:
            raise StoreError(f"{self._where(number)} has other fields than a decision; {REMEDY}")
        if raw["number"] != number:
            raise StoreError(f"{self._where(number)} says that it is line {raw['number']}: one is missing; {REMEDY}")
        body = {name: value for name, value in raw.items() if name != "digest"}
        if raw["digest"] != _digest(body) or line != _json(raw):  # the second: other spaces are another line too
            raise StoreError(f"{self._where(number)} was changed; {REMEDY}")
        return Entry(**raw)

    def _check_head(self, found: list[Entry]) -> None:
        """The head is the last line, or, where its writer died in between, the one before."""
        number, digest = self._read_head()
        known = number in (len(found) - 1, len(found) - 2)
        if not known or digest != (found[number].digest if number >= 0 else FIRST):
            raise StoreError(
                f"{self._lines.name} has {len(found)} lines, its head speaks of {number + 1}: lines are missing or "
                f"foreign; {REMEDY}"
            )

    def _read_head(self) -> tuple[int, str]:
        try:
            head = json.loads(self._head.read_bytes())
            return int(head["number"]), str(head["digest"])
        except FileNotFoundError:
            return -1, FIRST
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self._head.name} can't be read; {REMEDY}") from None

    def _where(self, number: int) -> str:
        return f"{self._lines.name}, line {number + 1}"


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise StoreError(f"evidence must be plain finite JSON values: {error}") from None


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json(body)).hexdigest()
