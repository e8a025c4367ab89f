"""`skimo promote --watch`: what a learner leaves in a folder goes through promotion by itself, and the incumbent is
watched.

Promises
  - A candidate that was begun is finished first; of those that wait, the newest goes next, and older ones of the same
    parent are put down in the ledger as superseded. None is dropped without a word.
  - A refusal, or a robot or twin that isn't there, ends nothing: the next one goes on, the same one later again.
  - It asks nobody, since whoever waits at a prompt watches nothing: without --yes a candidate waits, confirmed by
    nobody, until `skimo promote ID --yes` is called elsewhere.
  - Everything that it knows it reads from the store: killed at any moment, the next start goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from skimo_core.contract.errors import BundleError, SetupError, StoreError
from skimo_core.episodes.locks import held
from skimo_server.bundle import MANIFEST, Manifest, read_bundle
from skimo_server.follow import PROMOTION_LOCK

from .pace import Pace, Say
from .promotion import LOCK_WAIT_S, Promotion, withdraw_stale
from .store import ADDED, CANARIED, CANARY, CONFIRMED, FITS, SANE, SHADOWED, SIMULATED, SUPERSEDED, Store
from .watchdog import Watchdog

BEGUN = (FITS, SANE, SIMULATED, SHADOWED, CONFIRMED, CANARIED)
RETRY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A bundle in a watched folder: where, when its manifest was written, ns, and what it is."""

    folder: Path
    written_ns: int
    manifest: Manifest

    @property
    def bundle_id(self) -> str:
        return self.manifest.bundle_id


class Watch:
    """Watches folders of candidates for one store; one of its kind for a store."""

    def __init__(
        self, store: Store, folders: Sequence[Path], promotion: Promotion, watchdog: Watchdog, pace: Pace, say: Say
    ) -> None:
        self._store, self._folders, self._promotion, self._watchdog = store, folders, promotion, watchdog
        self._pace, self._say = pace, say
        self._read: dict[Path, tuple[int, Found | None]] = {}
        self._waits: set[tuple[str, str]] = set()
        self._not_before_s: dict[str, float] = {}

    def run(self) -> NoReturn:
        """Watches until somebody ends it.

        Raises:
            StoreError: the store is damaged, or watched already.
        """
        with held(self._store.folder / "watch.lock", 0.0, "another watch"):
            self._tidy()
            now = self._store.incumbent()[:12] or "no bundle"
            self._say(f"{now} drives; watches {', '.join(map(str, self._folders))} for candidates")
            while True:
                if not self.look():
                    self._pace.sleep(self._pace.poll_s)

    def look(self) -> bool:
        """Watches the incumbent, and takes the next candidate as far as it comes; says whether there was one."""
        self._watchdog.look()
        begun, new = self._waiting()
        for older in (one for one in new if _newer(one, new)):
            if not self._supersede(older, max(_newer(older, new), key=_age)):
                return True
        newest = [one for one in new if not _newer(one, new)]
        return any(self._try(one) for one in sorted(begun, key=_age) + sorted(newest, key=_age, reverse=True))

    def _try(self, found: Found) -> bool:
        """Takes a candidate as far as it comes, unless it has to wait; says whether it did."""
        its, now = found.bundle_id, self._store.incumbent()
        if (its, now) in self._waits and self._decided().get(its) not in (CONFIRMED, CANARIED):
            return False
        if self._pace.clock() < self._not_before_s.get(its, float("-inf")):
            return False
        self._say(f"candidate {its[:12]} from {found.folder}")
        if not self._added(found):
            return True
        try:
            drives = self._promotion.run(its)
        except (BundleError, SetupError, StoreError) as error:
            self._store.ledger.entries()  # a damaged ledger ends the watch
            self._say(f"{its[:12]}: {error} (tried again in {RETRY_S:g} s)")
            self._not_before_s[its] = self._pace.clock() + RETRY_S
            return True
        if not drives and self._decided().get(its) in BEGUN:
            self._waits.add((its, now))
            self._say(
                f"{its[:12]} waits for `skimo promote {its[:12]} --yes`, with this one's --store and --recordings"
            )
        return True

    def _supersede(self, older: Found, newer: Found) -> bool:
        """Puts it down; false if one of the two turns out to be no bundle."""
        if not (self._added(newer) and self._added(older)):
            return False
        words = f"{newer.bundle_id[:12]} is newer, of the same parent"
        self._store.ledger.append(SUPERSEDED, older.bundle_id, words, {"by": newer.bundle_id})
        self._say(f"{older.bundle_id[:12]} from {older.folder} is superseded: {words}")
        return True

    def _added(self, found: Found) -> bool:
        try:
            self._store.add(found.folder)
        except BundleError as error:
            self._say(f"{found.folder} is no candidate: {error}")
            self._read[found.folder] = found.written_ns, None
            return False
        return True

    def _waiting(self) -> tuple[list[Found], list[Found]]:
        """Those that were begun, and those that were not, each once."""
        found = {one.bundle_id: one for one in sorted(self._all(), key=_age)}
        decided = self._decided()
        begun = [one for one in found.values() if decided.get(one.bundle_id) in BEGUN]
        new = [one for one in found.values() if decided.get(one.bundle_id, ADDED) == ADDED]
        return begun, new

    def _decided(self) -> dict[str, str]:
        """What was decided last about each bundle that was ever here."""
        last: dict[str, str] = {}
        for entry in self._store.ledger.entries():
            last[entry.bundle_id] = entry.decision
            last[entry.evidence.get("instead_of", "")] = entry.decision
        return last

    def _all(self) -> list[Found]:
        """Every bundle in the folders that can be read; one that can't is named once, until it changes."""
        found = []
        for path in sorted(path for folder in self._folders for path in folder.glob(f"[!.]*/{MANIFEST}")):
            try:
                written_ns = path.stat().st_mtime_ns
            except OSError:
                continue  # removed meanwhile
            known = self._read.get(path.parent)
            if known is None or known[0] != written_ns:
                known = self._read[path.parent] = written_ns, self._found(path.parent, written_ns)
            found += [known[1]] if known[1] else []
        return found

    def _found(self, folder: Path, written_ns: int) -> Found | None:
        try:
            return Found(folder=folder, written_ns=written_ns, manifest=read_bundle(folder).manifest)
        except BundleError as error:
            self._say(f"{folder} is no candidate: {error}")
            return None

    def _tidy(self) -> None:
        """After a kill: the link follows the ledger, and nothing but a canary that goes on has a link."""
        with held(self._store.folder / PROMOTION_LOCK, LOCK_WAIT_S, "another promotion"):
            self._store.point()
            begun, _ = self._waiting()
            its = self._store.linked(CANARY)
            withdraw_stale(self._store, but=its if its in {one.bundle_id for one in begun} else "")


def _age(found: Found) -> tuple[int, str]:
    return found.written_ns, found.folder.name


def _newer(found: Found, others: Sequence[Found]) -> list[Found]:
    """Those of the same parent that came after it."""
    return [o for o in others if o.manifest.parent_id == found.manifest.parent_id and _age(o) > _age(found)]
