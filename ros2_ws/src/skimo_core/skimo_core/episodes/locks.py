"""Locks between processes, which the system takes back from one that dies.

Of a recording, by who writes it. Of a folder, so that one writes a ledger at a time, one promotes in a store, one
learns from a replay.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..contract.errors import StoreError

POLL_S = 0.01


def lock(descriptor: int) -> bool:
    """Take the lock that says "this file is being written"; false if somebody has it. It goes with the process."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def being_written(path: Path) -> bool:
    """Whether a recorder holds the file's lock, or the file can't be opened."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


@contextmanager
def held(path: Path, wait_s: float, what: str) -> Iterator[None]:
    """Holds the lock of a file.

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
        while not lock(file.fileno()):
            if time.monotonic() > until_s:
                raise StoreError(f"{what} is at work in {path.parent.name} (waited {wait_s:g} s); let it finish")
            time.sleep(POLL_S)
        yield
