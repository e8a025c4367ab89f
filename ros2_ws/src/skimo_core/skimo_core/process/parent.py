"""A process that ends with the one that started it, however that dies: ROS's launch leaves its children behind.

Whoever starts the stack puts its own process id into the environment (SKIMO_PARENT). A process whose parent that is
asks the kernel for SIGINT at the parent's death (PR_SET_PDEATHSIG), and so says its goodbye. One started by hand, or by
somebody in between, is left alone. Linux only; elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

PARENT = "SKIMO_PARENT"
PR_SET_PDEATHSIG = 1


def end_with_parent(environment: Mapping[str, str] | None = None) -> bool:
    """Asks for SIGINT at the death of the process named in SKIMO_PARENT; returns whether that is our parent.

    Call it after the signal handlers are set. If the parent died before, the signal comes at once.
    """
    text = (os.environ if environment is None else environment).get(PARENT, "")
    if not text.isdigit() or not sys.platform.startswith("linux"):
        return False
    if os.getppid() == int(text):
        signal_at_parent_s_death(signal.SIGINT)
        if os.getppid() == int(text):
            return True
    elif _lives(int(text)):  # somebody in between started us
        return False
    os.kill(os.getpid(), signal.SIGINT)
    return True


def signal_at_parent_s_death(number: signal.Signals) -> None:
    """What the kernel sends to this process when its parent dies; safe between fork and exec."""
    _libc.prctl(PR_SET_PDEATHSIG, number)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


_libc = ctypes.CDLL(None, use_errno=True)
