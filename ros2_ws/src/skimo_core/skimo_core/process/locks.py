"""Locks between processes: one writes a ledger at a time, one promotes in a store, one learns from a replay."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..contract.errors import StoreError

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
        file = open(path, "a")  # noqa: SIM115 (closed below; what the body raises is its own)
    except OSError as error:
        raise StoreError(f"{path.parent}: {error.strerror}; give a folder that this user can write") from error
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until_s:
                    raise StoreError(
                        f"{what} is at work in {path.parent.name} (waited {wait_s:g} s); let it finish"
                    ) from None
            time.sleep(POLL_S)
        yield
