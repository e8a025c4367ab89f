"""The process's own bounds: if memory runs out after all, this process is refused, not the gate beside it.

The door bounds what clients can cost; this is the wall behind it, for faults that nobody thought of.
"""

from __future__ import annotations

import logging
import resource
from pathlib import Path

log = logging.getLogger(__name__)

HEADROOM_BYTES = 256 * 1024 * 1024
FOLLOW_BYTES = 256 * 1024 * 1024
"""On top where bundles are swapped: for the next one while it is loaded, and the one before."""
OOM_SCORE = 500
_STATUS, _OOM = Path("/proc/self/status"), Path("/proc/self/oom_score_adj")


def hold_memory(headroom_bytes: int = HEADROOM_BYTES) -> int:
    """Lets this process write to at most `headroom_bytes` more than it may now, and offers it to the kernel first.

    Beyond that an allocation fails: Python raises MemoryError, which a request's border answers. The bound counts
    private writable memory (RLIMIT_DATA, setrlimit(2)), not the address space that threads reserve and never touch.

    Returns:
        The bound in bytes; 0 where this system tells no figures, so that none was set.
    """
    try:
        words = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        bound = 1024 * int(words["VmData"].split()[0]) + headroom_bytes
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
        _OOM.write_text(str(max(OOM_SCORE, int(_OOM.read_text()))))
    except (OSError, KeyError, ValueError) as error:
        log.warning("no memory ceiling could be set (%s)", error)
        return 0
    return bound
