"""How a stage waits for what a robot does: with a pause between two looks, with an end, and while its link is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from skimo_core.contract.errors import SetupError, StoreError

from .store import Store

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Time, for who waits.

    Attributes:
        poll_s: between two looks.
        clock: steady, s.
        sleep: for so many seconds.
        between: what else is looked at meanwhile.
    """

    poll_s: float = 2.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    between: Callable[[], object] = lambda: None


@dataclass(slots=True, kw_only=True)
class Vigil:
    """A wait for more of something, while a link to a candidate is up.

    Attributes:
        link, bundle_id, against: the link, the candidate, and the incumbent that it is held against.
        quiet_s: so long nothing may come.
        remedy: what to do then.
    """

    store: Store
    pace: Pace
    link: str
    bundle_id: str
    against: str
    quiet_s: float
    remedy: str
    _seen: int = 0
    _until_s: float = float("-inf")

    def wait(self, seen: int) -> str:
        """Pauses once; returns why there is nothing to wait for any more, or "".

        Args:
            seen: how much there is by now.

        Raises:
            SetupError: nothing more came for `quiet_s`. StoreError: another bundle is the incumbent now.
        """
        self.pace.between()
        if (now := self.store.incumbent()) != self.against:
            raise StoreError(
                f"{now[:12]} drives now, not {self.against[:12]}, against which this was tried; run it again"
            )
        if self.store.linked(self.link) != self.bundle_id:
            return f"somebody took its link {self.link} down"
        if seen > self._seen or self._until_s < 0.0:
            self._seen, self._until_s = seen, self.pace.clock() + self.quiet_s
        if self.pace.clock() > self._until_s:
            raise SetupError(f"{self.link}: nothing came for {self.quiet_s:g} s after the first {seen}; {self.remedy}")
        self.pace.sleep(self.pace.poll_s)
        return ""
