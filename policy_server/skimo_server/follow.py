"""Follows a link to the bundle that is to be served: what it comes to point to is served from the next plan on.

    look -> vetted in a process of its own, loaded -> fits what is served? -> nobody needs the one before -> swap

A link `canary` beside it comes first while it is there: that bundle drives on trial, at reduced speed.

Promises
  - A bundle that is refused, for whatever reason, changes nothing: the one that is served goes on. The log says why,
    once, and so does `health` until the link points to something sound; the same target is tried again only when the
    link or that bundle's manifest has changed. A refused canary leaves the incumbent driving.
  - A canary whose link is gone makes no more plans: what the followed link points to drives, and the incumbent of
    before until that is loaded. Where it is the canary's own bundle, by then the incumbent, it goes on at full speed.
  - A canary drives only while somebody judges it: where the lock of promotions beside the link is nobody's for
    `ORPHAN_S`, as after a kill, its link counts as gone, until a promotion goes on.
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
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from skimo_core.contract.errors import BundleError, SkimoError
from skimo_core.episodes.locks import being_written

from .bundle import MANIFEST
from .served import Served
from .session import Session

log = logging.getLogger(__name__)

CANARY = "canary"
CANARY_SPEED = 0.5
PROMOTION_LOCK = "promote.lock"
"""Held by a promotion as long as it runs."""
ORPHAN_S = 30.0
"""So long a canary's promotion may be away: killed, it goes on where it was when it is run again."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Where the links point: the followed one, and the canary's where there is one."""

    followed: Target
    canary: Target | None = None

    @classmethod
    def of(cls, link: Path) -> Links:
        """Reads the canary's first: whoever promotes it moves the followed link before taking the canary's down."""
        beside = link.with_name(CANARY)
        canary = Target.of(beside) if beside.is_symlink() else None
        return cls(followed=Target.of(link), canary=canary)

    @property
    def wanted(self) -> tuple[Target, ...]:
        """Who is to drive, and who where that one is refused."""
        return (self.followed,) if self.canary is None else (self.canary, self.followed)


class Follower:
    """Makes a session serve what a link points to, as long as this context is entered."""

    def __init__(
        self,
        link: Path,
        seen: Target,
        session: Session,
        load: Callable[[Path], Served],
        clock: Callable[[], float] = time.monotonic,
        *,
        canary_speed: float = CANARY_SPEED,
    ) -> None:
        """Args: the link, where it pointed before what is served was read, who serves it, how a bundle is loaded."""
        self._link, self._session, self._load, self._clock = link, session, load, clock
        self._canary_speed = canary_speed
        self._seen = Links(followed=seen)
        self._incumbent = session.kept[0]
        self._loaded = {seen: self._incumbent}
        self._refused: dict[Target, str] = {}
        self._judged_s = clock()
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
        links = self._links()
        if links == self._seen:
            return
        self._seen = links
        self._refused = {target: why for target, why in self._refused.items() if target in links.wanted}
        if self._session.canary and self._session.kept[0] not in map(self._loaded.get, links.wanted):
            self._drive(self._incumbent, on_trial=False)
        for target in links.wanted:
            if target not in self._refused and self._take(target, links):
                break
        self._session.refused_bundle = "; ".join(self._refused.values())

    def _links(self) -> Links:
        """Where the links point; a canary that nobody judges any more is left out."""
        links = Links.of(self._link)
        lock = self._link.with_name(PROMOTION_LOCK)
        if links.canary is None or not lock.exists() or being_written(lock):
            self._judged_s = self._clock()
        elif self._clock() - self._judged_s > ORPHAN_S:
            return replace(links, canary=None)
        return links

    def _take(self, target: Target, links: Links) -> bool:
        """Lets a target drive; says whether the choice is made, which it isn't where the target is refused."""
        try:
            served = self._loaded.get(target) or self._fetch(target, links)
            if served is not None:
                self._drive(served, on_trial=target == links.canary)
            return True
        except Exception as error:  # this thread's border: whatever a bundle sets off, the one before goes on
            why = str(error) if isinstance(error, SkimoError) else f"{type(error).__name__}: {error}"
            self._refused[target] = f"{target.folder.name}: {why}"
            log.error(
                "refused what %s points to now, %s: %s; goes on with bundle %s",
                self._link.with_name(CANARY) if target == links.canary else self._link,
                target.folder,
                why,
                self._session.spec.bundle_id[:12],
            )
            return False

    def _fetch(self, target: Target, links: Links) -> Served | None:
        """What a target holds, loaded if it isn't at hand; None where it was withdrawn meanwhile: look again."""
        if not target.folder.is_dir():
            raise BundleError("nothing is there; let it point to a bundle (skimo promote, skimo rollback)")
        new, kept = self._load(target.folder), self._session.kept
        if same := [one for one in kept if one.spec.bundle_id == new.spec.bundle_id]:
            new.close()
            new = same[0]
        elif unfit := new.spec.unfit_instead_of(kept[0].spec):
            new.close()
            raise BundleError(f"its {unfit}; start another server with it, or export one for this robot and scene")
        else:
            self._await_settled()
            if self._links() != links:
                new.close()
                return None
        self._loaded[target] = new
        return new

    def _drive(self, served: Served, *, on_trial: bool) -> None:
        """Makes a bundle the current one, at the speed that it may have."""
        before, speed = self._session.kept[0], self._canary_speed if on_trial else 1.0
        changed, served.speed = served.speed != speed, speed
        if on_trial:
            self._session.canary = served.spec.bundle_id
        name, how = served.spec.bundle_id[:12], f", at {speed:g} of full speed" if on_trial else ""
        if served is not before:
            self._session.swap(served)
            log.info("now serves bundle %s instead of %s%s", name, before.spec.bundle_id[:12], how)
        elif changed:
            log.info("goes on with bundle %s%s", name, how or ", at full speed")
        if not on_trial:
            self._session.canary, self._incumbent = "", served
        self._loaded = {target: one for target, one in self._loaded.items() if one in self._session.kept}

    def _await_settled(self) -> None:
        end_s = self._clock() + WAIT_S
        while not self._session.settled() and self._clock() < end_s and not self._stopping.is_set():
            self._stopping.wait(POLL_S)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            self.look()
