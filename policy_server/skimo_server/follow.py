"""Follows a link to the bundle that is to be served: what it comes to point to is served from the next plan on.

    look -> vetted in a process of its own, loaded -> fits what is served? -> nobody needs the one before -> swap

Promises
  - A bundle that is refused, for whatever reason, changes nothing: the one that is served goes on. The log says why,
    once, and so does `health` until the link points to something sound; the same target is tried again only when the
    link or that bundle's manifest has changed.
  - Everything happens in a thread of its own; actions and plans are answered meanwhile.
  - A second swap waits until the bundle before the current one has been left alone for as long as a skill lasts, so
    that no skill loses its bundle; but no longer than `WAIT_S`, whatever a client asks.
It never follows a folder that is no link: bundles are immutable.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from skimo_core.contract.errors import BundleError, SkimoError

from .bundle import MANIFEST
from .served import Served
from .session import Session

log = logging.getLogger(__name__)

LOOK_S = 0.5
WAIT_S = 10.0
POLL_S = 0.05
JOIN_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a link points to: a folder, and when its manifest was written, ns; None where there is none."""

    folder: Path
    written_ns: int | None

    @classmethod
    def of(cls, link: Path) -> Target:
        folder = Path(os.path.realpath(link))
        try:
            return cls(folder=folder, written_ns=(folder / MANIFEST).stat().st_mtime_ns)
        except OSError:
            return cls(folder=folder, written_ns=None)


class Follower:
    """Makes a session serve what a link points to, as long as this context is entered."""

    def __init__(
        self,
        link: Path,
        seen: Target,
        session: Session,
        load: Callable[[Path], Served],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: the link, where it pointed before what is served was read, who serves it, how a bundle is loaded."""
        self._link, self._seen, self._session, self._load, self._clock = link, seen, session, load, clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skimo-follower", daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the thread; one that is in the midst of a vetting is left to the process's end."""
        self._stopping.set()
        self._thread.join(JOIN_TIMEOUT_S)

    def look(self) -> None:
        """Looks once, and swaps if there is something new and sound."""
        target = Target.of(self._link)
        if target == self._seen:
            return
        self._seen = target
        try:
            self._take(target)
        except Exception as error:  # this thread's border: whatever a bundle sets off, the one before goes on
            why = str(error) if isinstance(error, SkimoError) else f"{type(error).__name__}: {error}"
            self._session.refused_bundle = f"{target.folder.name}: {why}"
            log.error(
                "refused what %s points to now, %s: %s; goes on with bundle %s",
                self._link,
                target.folder,
                why,
                self._session.spec.bundle_id[:12],
            )

    def _take(self, target: Target) -> None:
        if not target.folder.is_dir():
            raise BundleError("nothing is there; let it point to a bundle (skimo promote, skimo rollback)")
        new, before = self._load(target.folder), self._session.spec
        if new.spec.bundle_id == before.bundle_id:
            new.close()
        elif unfit := new.spec.unfit_instead_of(before):
            new.close()
            raise BundleError(f"its {unfit}; start another server with it, or export one for this robot and scene")
        else:
            self._await_settled()
            if Target.of(self._link) != target:  # withdrawn meanwhile: the next look takes what it points to now
                new.close()
                return
            self._session.swap(new)
            log.info("now serves bundle %s instead of %s", new.spec.bundle_id[:12], before.bundle_id[:12])
        self._session.refused_bundle = ""

    def _await_settled(self) -> None:
        end_s = self._clock() + WAIT_S
        while not self._session.settled() and self._clock() < end_s and not self._stopping.is_set():
            self._stopping.wait(POLL_S)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            self.look()
