"""Keeps Python's garbage collector from stopping a process for longer than its deadlines allow."""

from __future__ import annotations

import gc


def settle_heap() -> None:
    """Collect once, then leave alone what exists now; call it when start-up is over.

    A full collection walks every object alive. What the imports and the set-up of a node left behind are tens of
    thousands, which takes a good part of a control period, again and again; later collections see only what is newer
    (gc.freeze, Python's documentation of gc).
    """
    gc.collect()
    gc.freeze()
