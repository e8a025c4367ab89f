"""A real server process swaps bundles while a control loop runs against it: no action is missed, no skill is cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from support.following import (
    OBSERVATION_O,
    flying,
    half_sure,
    id_of,
    plan,
    point,
    serving,
    toys,
    until,
)
from support.policy_server import WAIT_S

from skimo_core.contract.errors import SpecError
from skimo_core.control.loop import StepKind
from skimo_core.link.client import PolicyClient
from skimo_server.bundle import load_bundle, resolve_bundle

pytestmark = pytest.mark.alone

QUIET_STEPS = 40
SWAPS, GROWN_BY_SWAP = 10, 4
GROWTH_BYTES = 60e6
"""What the allocator may keep for itself in six swaps (it has its fill after about 15); six bundles are above 90 MB."""


def shipped(folder: Path) -> tuple[Path, Path]:
    """The bundle that ships, and the same with another calibration."""
    kitchen = resolve_bundle("kitchen")
    return kitchen, half_sure(load_bundle(kitchen), folder / "sure")


@pytest.mark.parametrize("family", [toys, shipped])
def test_a_swap_during_an_episode_misses_no_action_and_cuts_no_skill(
    tmp_path: Path, family: Callable[[Path], tuple[Path, Path]]
) -> None:
    one, two = family(tmp_path)
    old, new, link = id_of(one), id_of(two), tmp_path / "incumbent"
    link.symlink_to(one)
    with serving(link) as (_, address), flying(address) as flight, PolicyClient(address, bundle_id=old) as pinned:
        pinned.connect(WAIT_S)
        flight.fly(lambda step: flight.loop.counts.steps >= QUIET_STEPS, WAIT_S)
        quiet_ms, begun_s, before = max(flight.act_ms), time.monotonic(), len(flight.act_ms)
        point(link, two)
        flight.fly(lambda step: step.bundle_id == new, WAIT_S)
        took_s = time.monotonic() - begun_s
        flight.fly(lambda step: step.step_in_skill == flight.loop.lead_steps, WAIT_S)
        flight.fly(lambda step: step.new_plan is not None, WAIT_S)
        print(
            f"{family.__name__}: a step of the new bundle {took_s:.2f} s after the link was changed; longest action "
            f"{quiet_ms:.1f} ms before, {max(flight.act_ms[before:]):.1f} ms since"
        )
        for _ in range(2):
            with pytest.raises(SpecError, match=f"serves bundle id {new}, wanted {old}"):
                plan(pinned)
    steps = [step for step in flight.steps if step.kind is not StepKind.PREPARE]
    assert {step.kind for step in steps} == {StepKind.ACT} and flight.loop.counts.missed == 0
    swapped = [b for a, b in pairwise(steps) if a.bundle_id != b.bundle_id]
    assert [(step.bundle_id, step.step_in_skill) for step in swapped] == [(new, 0)]
    assert flight.loop.counts.late_plans == 0, "a skill ends when it is due"
    promises = {step.bundle_id: step.new_plan.success_probability for step in steps if step.new_plan}
    assert set(promises) == {old, new} and promises[new] == 0.5 != promises[old]


def status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def test_ten_swaps_leave_neither_memory_nor_threads_behind(tmp_path: Path) -> None:
    folders, link = shipped(tmp_path), tmp_path / "incumbent"
    ids = [id_of(folder) for folder in folders]
    link.symlink_to(folders[0])
    held: list[tuple[int, int]] = []
    with serving(link, "--workers", "2") as (pid, address), PolicyClient(address) as client:
        client.connect(WAIT_S)
        for swap in range(1, SWAPS + 1):
            point(link, folders[swap % 2])
            until(lambda: client.health()["swaps"] == swap, f"swap {swap}")  # noqa: B023
            made = plan(client)
            assert made.bundle_id == ids[swap % 2]
            client.act(OBSERVATION_O, made.skills_PZ[0], made.bundle_id, deadline_s=WAIT_S)
            held.append((1024 * status(pid, "VmData"), status(pid, "Threads")))  # what the server's ceiling counts
    print("after each swap: " + ", ".join(f"{memory / 1e6:.1f} MB {threads} threads" for memory, threads in held))
    (memory, threads), (memory_then, threads_then) = held[GROWN_BY_SWAP - 1], held[-1]
    assert memory_then < memory + GROWTH_BYTES and threads_then == threads
