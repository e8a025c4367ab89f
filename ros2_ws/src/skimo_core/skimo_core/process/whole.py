"""Files and folders that are there whole or not at all, whoever is killed meanwhile.

Promises
  - What is made lies beside its place under a name of its own, `.NAME.*.new`, until it is complete; then it takes the
    place from one moment to the next. A body that raises leaves nothing.
  - What a killed process left there is removed by the next one that makes something of the same name: it is older than
    OLD_S, and nobody holds its lock any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

OLD_S = 60.0
_NEW = ".new"


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A new file of that mode, which takes the path's place if the body ends well, and else is gone.

    Raises:
        OSError: it can't be written.
    """
    _sweep(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_NEW, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file's content; at every moment it is either what it was or what it will be."""
    with replacing(path, mode) as file:
        file.write(data)


@contextmanager
def new_folder(path: Path, mode: int = 0o755) -> Iterator[Path]:
    """An empty folder to be filled, which becomes `path` if the body ends well, and else is gone with what it holds.

    Raises:
        OSError: it can't be made, or something that is no empty folder is at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path) as made:
        yield made
        made.chmod(mode)
        os.replace(made, path)


def remove_folder(path: Path) -> None:
    """Remove a folder with what it holds; from one moment to the next it is no longer there."""
    with _beside(path) as gone:
        os.replace(path, gone / "gone")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder of our own beside `path`, gone afterwards unless it was moved away."""
    _sweep(path)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_NEW, dir=path.parent))
    descriptor = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(descriptor)


def _sweep(path: Path) -> None:
    """Remove what killed processes left of making `path`."""
    with suppress(OSError):
        for left in list(path.parent.iterdir()):
            if left.name.startswith(f".{path.name}.") and left.name.endswith(_NEW):
                _remove_if_left(left)


def _remove_if_left(left: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if time.time() - os.fstat(descriptor).st_mtime < OLD_S:
                return
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
        finally:
            os.close(descriptor)
