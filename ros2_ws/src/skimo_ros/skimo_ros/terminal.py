"""A terminal that answers to single keys and keeps a line of status at its foot; without one, lines alone.

Keys are read as they are pressed (no Enter), for as long as the context lasts; the terminal is then as it was before,
whatever happened in between.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any, TextIO

KEYS_AT_ONCE = 64


class Terminal:
    """A context manager.

    Attributes:
        has_keys: whether there is a keyboard.
    """

    def __init__(self, keyboard: TextIO | None = None, screen: TextIO | None = None) -> None:
        asked, self._screen = keyboard or sys.stdin, screen or sys.stdout
        self._descriptor = -1
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._descriptor = asked.fileno() if asked.isatty() else -1
        self.has_keys = self._descriptor >= 0
        self._before: list[Any] | None = None
        self._foot = False

    def __enter__(self) -> Terminal:
        if self.has_keys:
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        if self._foot:
            print(file=self._screen, flush=True)

    def pressed(self) -> str:
        """What was pressed since the last time."""
        if not self.has_keys or not select.select([self._descriptor], [], [], 0.0)[0]:
            return ""
        try:
            return os.read(self._descriptor, KEYS_AT_ONCE).decode("utf-8", "replace")
        except OSError:  # the terminal was closed
            self.has_keys = False
            return ""

    def say(self, line: str) -> None:
        """Print a line."""
        self._clear()
        print(line, file=self._screen, flush=True)

    def status(self, line: str) -> None:
        """Print where things stand; on a terminal in place of the last time."""
        if not self._screen.isatty():
            print(line, file=self._screen, flush=True)
            return
        self._clear()
        print(line[: max(_columns() - 1, 20)], end="", file=self._screen, flush=True)
        self._foot = True

    def _clear(self) -> None:
        if self._foot:
            print("\r\x1b[K", end="", file=self._screen)
            self._foot = False


def _columns() -> int:
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 80
