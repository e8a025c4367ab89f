"""A store: bundles by their content, and who of them drives.

    bundles/<id>/      bundles as they were added, never changed
    ledger.jsonl ...   every decision (`ledger.py`); which bundle is the incumbent follows from it alone
    incumbent          link to that bundle, for who serves it: `skimo serve --bundle STORE/incumbent`
    shadow, canary     links to a candidate that this server plans with beside, or drives with slowly, while they are up
    evidence/<id>/     what a candidate's trials measured

Promises
  - A bundle comes in complete and verified, or not at all; the same one twice is one.
  - What drives, drove last before it, is linked to, or is a candidate is never pruned.
  - Whoever rolls back ends a candidate's shadow and canary first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skimo_core.contract.errors import BundleError, StoreError
from skimo_core.process.whole import new_folder, remove_folder
from skimo_server.bundle import Bundle, Manifest, load_bundle, read_bundle

from .ledger import Entry, Ledger, unix_s, utc_now

ADDED, FITS, SANE, SIMULATED = "added", "fits", "sane", "simulated"
SHADOWED, CONFIRMED, CANARIED = "shadowed", "confirmed", "canaried"
INCUMBENT, REFUSED, SUPERSEDED = "incumbent", "refused", "superseded"
ROLLED_BACK, PRUNED = "rolled back", "pruned"
SHADOW, CANARY = "shadow", "canary"
"""Links to a candidate, and what it is called meanwhile; in no entry."""
FORMER = "former"
"""What a bundle is called that drove once; in no entry."""
MIN_PREFIX = 6
DEFAULT = Path("store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A bundle of a store: its manifest, where it stands now, and the decision that says so."""

    manifest: Manifest
    state: str
    last: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """A bundle that drives or drove, and since when, UNIX s."""

    bundle_id: str
    since_s: float


class Store:
    """The store of a folder; constructing one opens nothing."""

    def __init__(self, folder: Path, *, clock: Callable[[], str] = utc_now) -> None:
        self.folder = folder
        self.ledger = Ledger(folder, clock=clock)

    def path(self, bundle_id: str) -> Path:
        """Where a bundle lies, if the store has it."""
        return self.folder / "bundles" / bundle_id

    def add(self, source: Path) -> Manifest:
        """Takes a bundle in.

        Raises:
            BundleError: it is refused. StoreError: the disk does not take it.
        """
        manifest = load_bundle(source).manifest
        target = self.path(manifest.bundle_id)
        if not target.exists():
            self._copy(source, target, manifest.bundle_id)
        if not any(entry.bundle_id == manifest.bundle_id for entry in self._kept()):
            self.ledger.append(ADDED, manifest.bundle_id, f"from {source.name}", _origin(manifest))
        return manifest

    def bundles(self) -> list[Held]:
        """Every bundle that it holds, in the order in which they came."""
        last: dict[str, Entry] = {}
        for entry in self._kept():
            last[entry.bundle_id] = entry
        found = [(self._read(bundle_id).manifest, entry) for bundle_id, entry in last.items()]
        now = self.incumbent()
        return [
            Held(manifest=manifest, state=self._state(manifest.bundle_id, entry, now), last=entry)
            for manifest, entry in found
        ]

    def history(self, bundle_id: str) -> list[Entry]:
        """What was decided about a bundle since it came, its being rolled back from included."""
        return [e for e in self._kept() if bundle_id == e.bundle_id or turned_down(e, bundle_id)]

    def find(self, name: str) -> Bundle:
        """A bundle by its id, or by leading digits of it.

        Raises:
            StoreError: the store hasn't it, or several of that beginning.
        """
        ids = {entry.bundle_id for entry in self._kept()}
        found = sorted(bundle_id for bundle_id in ids if len(name) >= MIN_PREFIX and bundle_id.startswith(name))
        if len(found) != 1:
            has = ", ".join(sorted(bundle_id[:12] for bundle_id in ids)) or "none"
            raise StoreError(
                f"{self.folder}: {len(found)} bundles begin with {name[:64]!r} (at least {MIN_PREFIX} digits); it has "
                f"{has}; add one with `skimo bundles add`"
            )
        return self._read(found[0])

    def incumbent(self) -> str:
        """The id of the bundle that drives; empty where none was promoted."""
        reigns = self.reigns()
        return reigns[-1].bundle_id if reigns else ""

    def passed(self, bundle_id: str, stage: str, against: str) -> Entry | None:
        """The decision by which a bundle passed a stage against this incumbent, since it was last turned down."""
        history = self.history(bundle_id)
        since = max((number + 1 for number, e in enumerate(history) if turned_down(e, bundle_id)), default=0)
        found = [e for e in history[since:] if e.decision == stage and e.evidence.get("against") == against]
        return found[-1] if found else None

    def promote(self, bundle_id: str, why: str, evidence: Mapping[str, Any]) -> Entry:
        """Makes a bundle the incumbent; whoever serves the store swaps to it."""
        entry = self.ledger.append(INCUMBENT, bundle_id, why, {**evidence, "instead_of": self.incumbent()})
        self.point()
        return entry

    def roll_back(self, why: str, evidence: Mapping[str, Any] | None = None, *, instead_of: str = "") -> Entry:
        """Makes the incumbent of before the incumbent again; no candidate goes on beside or instead of it.

        Args:
            instead_of: roll back from this one alone; empty: from whichever drives.

        Raises:
            StoreError: there was none. BundleError: it was damaged; the incumbent goes on.
        """
        drove = [reign.bundle_id for reign in self.reigns()]
        if instead_of and drove[-1:] != [instead_of]:
            raise StoreError(f"{instead_of[:12]} drives no longer; nothing to go back from")
        self.withdraw(CANARY)
        self.withdraw(SHADOW)
        if len(drove) < 2:
            now = drove[-1][:12] if drove else "none"
            raise StoreError(f"{self.folder}: no bundle drove before {now}; nothing to go back to")
        load_bundle(self.path(drove[-2]))
        entry = self.ledger.append(ROLLED_BACK, drove[-2], why, {**(evidence or {}), "instead_of": drove[-1]})
        self.point()
        return entry

    def point(self) -> None:
        """Lets `incumbent` point to what the ledger says, should its writer have died in between."""
        if now := self.incumbent():
            self.link(INCUMBENT, now)

    def link(self, name: str, bundle_id: str) -> None:
        """Lets a link point to a bundle, from one moment to the next.

        Raises:
            StoreError: the disk does not take it; the link is as it was.
        """
        if self.linked(name) == bundle_id:
            return
        beside = self.folder / f".{name}.new"
        try:
            beside.unlink(missing_ok=True)
            beside.symlink_to(Path("bundles") / bundle_id)
            os.replace(beside, self.folder / name)
        except OSError as error:
            raise StoreError(
                f"the link {name} can't be made: {error}; make room, and run this again: it follows the ledger"
            ) from error

    def linked(self, name: str) -> str:
        """The id of the bundle that a link points to; empty where there is no link."""
        try:
            target = (self.folder / name).readlink()
        except OSError:
            return ""
        return target.name if target.parent == Path("bundles") else ""

    def withdraw(self, name: str) -> None:
        """Takes a link down."""
        (self.folder / name).unlink(missing_ok=True)

    def ancestors(self, manifest: Manifest) -> list[str]:
        """Ids of what a bundle was made from, the nearest first, as far as the store knows them."""
        found: list[str] = []
        parent = manifest.parent_id
        while parent and parent not in found:
            found.append(parent)
            parent = self._read(parent).manifest.parent_id if self.path(parent).exists() else None
        return found

    def prune(self, keep: int) -> list[str]:
        """Removes what was refused, superseded or drove once, but for the newest `keep`; returns their ids."""
        if keep < 0:
            raise StoreError(f"keep is {keep}, must be 0 or more")
        needed = {reign.bundle_id for reign in self.reigns()[-2:]} | {self.linked(SHADOW), self.linked(CANARY)}
        idle = [h.manifest.bundle_id for h in self.bundles() if h.state in (REFUSED, SUPERSEDED, FORMER)]
        gone = [bundle_id for bundle_id in idle[: max(0, len(idle) - keep)] if bundle_id not in needed]
        for bundle_id in gone:
            self.ledger.append(PRUNED, bundle_id, f"not among the {keep} newest that nobody needs")
            remove_folder(self.path(bundle_id))
        return gone

    def reigns(self) -> list[Reign]:
        """The incumbents, each followed by the next; one that was rolled back from is forgotten."""
        found: list[Reign] = []
        for entry in self.ledger.entries():
            if entry.decision == INCUMBENT:
                found.append(Reign(bundle_id=entry.bundle_id, since_s=unix_s(entry.at)))
            elif entry.decision == ROLLED_BACK:
                found = found[:-1]
        return found

    def _kept(self) -> list[Entry]:
        """Decisions about bundles that are still here, since they came."""
        entries = self.ledger.entries()
        gone = {entry.bundle_id: entry.number for entry in entries if entry.decision == PRUNED}
        return [entry for entry in entries if entry.number > gone.get(entry.bundle_id, -1)]

    def _state(self, bundle_id: str, last: Entry, incumbent: str) -> str:
        if bundle_id == incumbent:
            return INCUMBENT
        for name in (CANARY, SHADOW):
            if bundle_id == self.linked(name):
                return name
        return FORMER if last.decision in (INCUMBENT, ROLLED_BACK) else last.decision

    def _read(self, bundle_id: str) -> Bundle:
        bundle = read_bundle(self.path(bundle_id))
        if bundle.manifest.bundle_id != bundle_id:
            raise BundleError(
                f"{bundle_id[:12]}: holds bundle {bundle.manifest.bundle_id[:12]}; add the right one again"
            )
        return bundle

    def _copy(self, source: Path, target: Path, bundle_id: str) -> None:
        try:
            with new_folder(target) as coming:
                for file in sorted(source.iterdir()):  # it was loaded: plain files
                    shutil.copy2(file, coming)
                if (came := load_bundle(coming).manifest.bundle_id) != bundle_id:
                    raise StoreError(f"{source.name} changed from {bundle_id[:12]} to {came[:12]} while it was copied")
        except OSError as error:
            raise StoreError(
                f"{source.name} can't be copied to the store: {error}; nothing was added: make room, and again"
            ) from error


def turned_down(entry: Entry, bundle_id: str) -> bool:
    """Whether a decision was against a bundle."""
    if entry.decision == ROLLED_BACK:
        return entry.evidence.get("instead_of") == bundle_id
    return entry.decision == REFUSED and entry.bundle_id == bundle_id


def _origin(manifest: Manifest) -> dict[str, Any]:
    """What the ledger says of a newcomer."""
    return {
        "parent": manifest.parent_id or "",
        "recipe": str(manifest.recipe.get("name", "")),
        "datasets": dict(manifest.dataset_digests),
        "commit": manifest.commit,
    }
