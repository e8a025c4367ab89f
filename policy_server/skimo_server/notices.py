"""Log lines about what clients do, kept few: whoever floods the server doesn't flood its log."""

from __future__ import annotations

import logging

from .timing import Clock

EVERY_S = 5.0


class Notices:
    """Logs the first notice of a kind at once, then at most one in EVERY_S, which says how many it stands for."""

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._told_s: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def tell(self, kind: str, text: str) -> None:
        """Args: `kind` is one of a few fixed words, `text` the line."""
        now_s = self._clock()
        if now_s - self._told_s.get(kind, -EVERY_S) < EVERY_S:
            self._untold[kind] = self._untold.get(kind, 0) + 1
            return
        untold = self._untold.pop(kind, 0)
        self._told_s[kind] = now_s
        self._log.warning("%s%s", text, f" ({untold} more like it since the last such line)" if untold else "")
