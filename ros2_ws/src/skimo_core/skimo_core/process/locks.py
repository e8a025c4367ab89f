"""Locks between processes: one writes a ledger at a time, one promotes in a store at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skimo_core.contract.errors import StoreError
from skimo_core.episodes.files import lock

POLL_S = 0.01


@contextmanager
def held(path: Path, wait_s: float, what: str) -> Iterator[None]:
    """Holds the lock of a file, which the system takes back from a process that dies.

    Args:
        what: who else may hold it, for the message.

    Raises:
        StoreError: another process still holds it after `wait_s`, or the folder can't be written.
    """
    until_s = time.monotonic() + wait_s
    try:
        with open(path, "a") as file:
            while not lock(file.fileno()):
                if time.monotonic() > until_s:
                    raise StoreError(f"{what} is at work in {path.parent.name} (waited {wait_s:g} s); let it finish")
                time.sleep(POLL_S)
            yield
    except OSError as error:
        raise StoreError(f"{path.parent}: {error}; give a store that this user can write") from error
