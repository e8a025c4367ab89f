"""A promoter that is killed outright, process by process, and two of them on one store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from promote.conftest import PASSED, Family, Robot, decisions, flown, id_of, unmoved
from support.following import until

from skimo_promote import cli
from skimo_promote.store import CANARY, INCUMBENT, SHADOW, Store

DIES = """
import os, re, signal, sys
from pkgutil import resolve_name
from skimo_promote import cli
owner, name = re.fullmatch("(.*)[.:](.*)", sys.argv[1]).groups()
setattr(resolve_name(owner), name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
sys.exit(cli.promote(sys.argv[2:]))
"""
STAGES = {
    "skimo_promote.store:os.replace": [],  # copied, not yet in place
    "skimo_promote.ledger:write_atomic": ["added"],  # between the ledger's line and its head
    "skimo_promote.promotion:Promotion._fits": ["added"],
    "skimo_promote.promotion:check_sanity": ["added", "fits"],
    "skimo_promote.promotion:fly": ["added", "fits", "sane"],
    "skimo_promote.shadow:Vigil.wait": PASSED[:4],  # beside the incumbent
    "skimo_promote.promotion:Promotion._confirmed": PASSED[:5],
    "skimo_promote.canary:Vigil.wait": PASSED[:6],  # driving slowly
    "skimo_promote.store:Path.symlink_to": PASSED,  # decided, its link not made yet
}
"""Where it is killed, and what was decided by then; in this order, each a process that goes on after the one before."""


@pytest.mark.timeout(240)
def test_a_promoter_killed_outright_at_every_stage_goes_on_where_it_was(
    store: Store, robot: Robot, first: Path, family: Family
) -> None:
    second = id_of(family.second)
    flown(store, family.second, [4], against=first, before=[2])
    where = ["--store", str(store.folder), "--recordings", str(robot.folder), "--yes"]
    argv = [str(family.second), *where, "--trial.batch", "20", "--trial.max-pairs", "60", "--shadow.plans", "4"]
    argv += ["--canary.episodes", "3"]

    def died(where: str) -> int:
        return subprocess.run([sys.executable, "-c", DIES, where, *argv], timeout=100, check=False).returncode

    for where_killed, decided in STAGES.items():
        if where_killed.endswith("_confirmed"):
            robot.plans(second, 4)
        if where_killed.endswith("symlink_to"):
            robot.drives(second, 3, at_s=4e9)
            store.link(CANARY, second)
        assert died(where_killed) == -signal.SIGKILL, where_killed
        assert store.linked(INCUMBENT) == id_of(first), where_killed
        assert decisions(store, family.second) == decided, where_killed
    assert cli.promote(argv) == 0
    assert store.linked(INCUMBENT) == store.incumbent() == second and decisions(store, family.second) == PASSED
    assert store.linked(SHADOW) == store.linked(CANARY) == ""


def test_a_second_promoter_is_refused_while_one_is_at_work(
    store: Store, robot: Robot, first: Path, family: Family
) -> None:
    """Two processes: the first waits for a robot that plans, and is none the worse for the second."""
    flown(store, family.second, [4], against=first, before=[2])
    where = ["--store", str(store.folder), "--recordings", str(robot.folder), "--yes", "--canary.episodes", "0"]
    argv = [str(family.second), *where, "--trial.batch", "20", "--trial.max-pairs", "60", "--shadow.plans", "4"]
    command = [sys.executable, "-m", "skimo_core.cli", "promote", *argv]
    one = subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: store.linked(SHADOW) == id_of(family.second), "the first to wait for plans")
        two = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert two.returncode == 1 and "another promotion is at work" in two.stderr and "let it finish" in two.stderr
        assert unmoved(store, first) and store.linked(SHADOW) == id_of(family.second)
        robot.plans(id_of(family.second), 4)
        assert one.wait(60) == 0 and store.linked(INCUMBENT) == id_of(family.second)
    finally:
        one.kill()
        one.communicate()
    assert decisions(store, family.second) == PASSED
