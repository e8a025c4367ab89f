"""Waiting for what another thread or process does, without a sleep and with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

START_S = 60.0
POLL_S = 0.01


def wait_until(
    condition: Callable[[], Any],
    what: str,
    timeout_s: float = START_S,
    shows: Callable[[], object] = lambda: "",
    *,
    poll_s: float = POLL_S,
) -> Any:
    """Return the condition's first true value; on failure tell what `shows` returns."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"waited {timeout_s:g} s for {what}; {shows()}"
        threading.Event().wait(poll_s)
    return value
