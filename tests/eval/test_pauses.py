"""Pauses of the machine are seen, and missed ticks are held against them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from skimo_eval.pauses import Pause, audit_misses, describe

PAUSE_S = 0.1
WATCH = """
import os, signal
from skimo_eval.pauses import PauseWatch
with PauseWatch() as watch:
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    while not watch.pauses:
        pass
print(max(p.end_s - p.begin_s for p in watch.pauses))
"""


def test_a_stopped_process_sees_its_own_pause() -> None:
    watcher = subprocess.Popen([sys.executable, "-c", WATCH], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None and watcher.stdout.readline() == "ready\n"
    os.waitpid(watcher.pid, os.WUNTRACED)
    select.select([], [], [], PAUSE_S)
    watcher.send_signal(signal.SIGCONT)
    seen_s = float(watcher.communicate(timeout=30)[0])
    assert watcher.returncode == 0 and seen_s > 0.9 * PAUSE_S


def ticks(*kinds: str) -> list[tuple[float, str]]:
    return [(100.0 + 0.08 * i, kind) for i, kind in enumerate(kinds)]


def test_a_run_of_misses_counts_once_and_is_held_against_pauses() -> None:
    seen = ticks("prepare", "act", "missed", "act", "act", "act", "missed", "hold", "hold", "act", "done")
    pause = Pause(cpu=0, begin_s=100.15, end_s=100.25)  # around tick 2, due at 100.16
    audit = audit_misses(seen, [pause], 0.08)
    assert audit["runs_of_misses"] == 2 and audit["runs_beside_a_pause"] == 1
    assert audit["ticks"] == 11 and audit["ticks_beside_a_pause"] == 3  # 2 to 4
    assert audit["longest_pause_ms"] == pytest.approx(100.0, abs=1e-3)
    assert "2 runs, 1 of them beside a pause" in describe(audit)


def test_nothing_missed_and_no_pause() -> None:
    audit = audit_misses(ticks("prepare", "act", "done"), [], 0.08)
    assert audit["runs_of_misses"] == audit["runs_beside_a_pause"] == audit["ticks_beside_a_pause"] == 0
    assert audit["longest_pause_ms"] == 0.0
