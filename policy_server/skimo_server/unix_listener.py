"""A listening Unix socket with mode 0600 that only one living process holds.

Promises
  - The socket file of a server that died, however it died, is replaced; that of a living one is refused, with the
    number of its process.
  - Nobody but this user may connect, from the first moment on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from skimo_core.contract.errors import SetupError
from skimo_core.link.endpoint import check_private


class UnixListener:
    """The socket at a path, from `open` to `close`; a context manager.

    A lock file beside the socket says who lives: the kernel lets go of it when its holder dies, however it died.
    """

    def __init__(self, path: Path, backlog: int) -> None:
        self._path, self._backlog = path, backlog
        self._lock: int | None = None
        self.socket: socket.socket | None = None

    def open(self) -> socket.socket:
        """Makes the folder where it is missing, takes the lock, replaces a dead server's file, and listens.

        Raises:
            SetupError: the folder isn't private, or another server lives there.
        """
        folder = self._path.parent
        with contextlib.suppress(FileExistsError, FileNotFoundError, PermissionError):
            folder.mkdir(mode=0o700)
        check_private(folder)
        self._take_lock()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            os.fchmod(found.fileno(), 0o600)  # the file takes the socket's mode (unix(7)): there is no moment without
            found.bind(str(self._path))
            found.listen(self._backlog)
        except OSError as error:
            found.close()
            self.close()
            raise SetupError(f"can't listen on {self._path}: {error.strerror}; name another socket") from None
        self.socket = found
        return found

    def close(self) -> None:
        """Removes the file and lets go of the lock; harmless twice."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> UnixListener:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _take_lock(self) -> None:
        name = self._path.with_name(self._path.name + ".lock")
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise SetupError(
                f"another server (process {holder or 'unknown'}) listens on {self._path}; stop it, "
                "or start in another ROS domain (ROS_DOMAIN_ID)"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
