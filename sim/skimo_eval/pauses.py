"""Pauses of the machine: moments in which a processor ran nothing, whoever took it.

A real-time run is only as good as the machine under it. Virtual machines lose their processors to others for 50 to
150 ms at a time, and nothing that runs on them can send an action meanwhile. Measured beside a run, pauses tell ticks
that the machine missed from ticks that the stack missed. Linux only: elsewhere none are seen.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from skimo_core.control.loop import StepKind
from skimo_core.control.pilot import act_deadline_s

NAP_S = 0.004
SHORTEST_S = 0.02
"""What a busy but healthy machine may be late by in waking a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """From `begin_s` to `end_s` (seconds since the epoch) processor `cpu` did not wake a thread that was due."""

    cpu: int
    begin_s: float
    end_s: float


class PauseWatch:
    """Watches each processor with a thread of its own, pinned to it, which naps and notes when it overslept."""

    def __init__(self, shortest_s: float = SHORTEST_S) -> None:
        self._shortest_s = shortest_s
        self._ended = threading.Event()
        self._pauses: list[Pause] = []
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
        self._threads = [threading.Thread(target=self._watch, args=(cpu,), daemon=True) for cpu in cpus]

    def __enter__(self) -> PauseWatch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """Those so far, of all processors."""
        return tuple(self._pauses)

    def _watch(self, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread alone
        asleep_s, due_s = time.time(), time.monotonic() + NAP_S
        while not self._ended.is_set():
            time.sleep(NAP_S)
            now_s, awake_s = time.time(), time.monotonic()
            if awake_s - due_s > self._shortest_s:
                self._pauses.append(Pause(cpu=cpu, begin_s=asleep_s, end_s=now_s))
            asleep_s, due_s = now_s, awake_s + NAP_S


def audit_misses(ticks: Sequence[tuple[float, str]], pauses: Sequence[Pause], period_s: float) -> dict[str, Any]:
    """How often a run of missed ticks began beside a pause, and how often any tick lay beside one.

    A pause is beside a tick if it overlaps the time from one period before the tick was due to its deadline: states
    that came too late before it count as well. Where the second share is small and the first is not, the machine missed
    the ticks; what is left over, the stack missed.

    Args:
        ticks: due time (seconds since the epoch) and kind (of `StepKind`) of each tick, in order.
        period_s: from tick to tick.
    """
    missed = [kind in (StepKind.MISSED.value, StepKind.HOLD.value) for _, kind in ticks]
    began = [due_s for (due_s, _), now, before in zip(ticks, missed, [False, *missed]) if now and not before]

    def beside(due_s: float) -> bool:
        return any(p.begin_s < due_s + act_deadline_s(period_s) and p.end_s > due_s - period_s for p in pauses)

    return {
        "pauses": len(pauses),
        "longest_pause_ms": 1e3 * max((p.end_s - p.begin_s for p in pauses), default=0.0),
        "ticks": len(ticks),
        "ticks_beside_a_pause": sum(beside(due_s) for due_s, _ in ticks),
        "runs_of_misses": len(began),
        "runs_beside_a_pause": sum(map(beside, began)),
    }


def describe(audit: dict[str, Any]) -> str:
    """One line about the figures of `audit_misses`."""
    return (
        f"missed ticks came in {audit['runs_of_misses']} runs, {audit['runs_beside_a_pause']} of them beside a pause "
        f"of this machine, as lay {audit['ticks_beside_a_pause']} of all {audit['ticks']} ticks "
        f"({audit['pauses']} pauses, the longest {audit['longest_pause_ms']:.0f} ms)"
    )
