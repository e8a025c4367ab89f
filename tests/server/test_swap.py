"""A real server process swaps bundles while a control loop runs against it: no action is missed, no skill is cut."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.policy_server import WAIT_S, finish, start

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import FloatArray, Plan
from skimo_core.control.loop import SkillLoop, Step, StepKind
from skimo_core.control.planning import BackgroundPlanning
from skimo_core.domain.domain import load_domain
from skimo_core.link.client import PolicyClient
from skimo_server.bundle import Bundle, load_bundle, resolve_bundle, rewrite_bundle
from skimo_server.testing import make_bundle

pytestmark = pytest.mark.alone

DOMAIN = load_domain()
TASK = DOMAIN.task("kitchen")
PERIOD_S, ACT_DEADLINE_S, PLAN_DEADLINE_S = DOMAIN.action.period_s, 0.04, 0.9
OBSERVATION_O = np.zeros(DOMAIN.observation.size, np.float32)
QUIET_STEPS = 40
SWAPS, GROWN_BY_SWAP = 10, 4
GROWTH_BYTES = 60e6
"""What the allocator may keep for itself in six swaps (it has its fill after about 15); six bundles are above 90 MB."""


def toys(folder: Path) -> tuple[Path, Path]:
    """Two small bundles that may take each other's place; their skills differ in size."""
    kitchen = {"observation": DOMAIN.observation, "action": DOMAIN.action, "domain": DOMAIN.named}
    make_bundle(folder / "one", **kitchen)
    make_bundle(folder / "two", seed=1, skill_dim=6, **kitchen)
    return folder / "one", half_sure(load_bundle(folder / "two"), folder / "sure")


def shipped(folder: Path) -> tuple[Path, Path]:
    """The bundle that ships, and the same with another calibration."""
    kitchen = resolve_bundle("kitchen")
    return kitchen, half_sure(load_bundle(kitchen), folder / "sure")


def half_sure(bundle: Bundle, folder: Path) -> Path:
    """The same networks, calibrated so that whatever they promise counts as one half: a plan tells whose it is."""
    rewrite_bundle(bundle, folder, planner=replace(bundle.manifest.planner, calibration=(0.0,) * 5))
    return folder


def id_of(folder: Path) -> str:
    return load_bundle(folder).manifest.bundle_id


def point(link: Path, folder: Path) -> None:
    """As a store does it."""
    beside = link.with_name(".new")
    beside.symlink_to(folder)
    os.replace(beside, link)


def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + 3 * WAIT_S
    while not condition():
        assert time.monotonic() < end_s, f"waited for {what}"
        threading.Event().wait(0.02)


@contextmanager
def serving(link: Path, *options: str) -> Iterator[tuple[int, str]]:
    """A server process that follows a link; gives its process id and endpoint."""
    process, address = start(link, "--endpoint", f"ipc://{link.parent}/socket", *options)
    try:
        yield process.pid, address
    finally:
        code, out, err = finish(process, signal.SIGTERM)
    assert code == 0 and out.strip() == "skimo serve: stopped" and "Traceback" not in err, err


class Flight:
    """A control loop in real time against a server, as the policy's node has it; every step is kept."""

    def __init__(self, acting: PolicyClient, planning: BackgroundPlanning) -> None:
        self.steps: list[Step] = []
        self.act_ms: list[float] = []
        self._acting = acting
        self.loop = SkillLoop(TASK, acting.spec.skill, self._act, planning, period_s=PERIOD_S)
        self.loop.start(seed=1)
        self._due_s = time.monotonic()

    def fly(self, until: Callable[[Step], bool], limit_s: float) -> None:
        """Goes on from beat to beat until a step is so."""
        end_s = time.monotonic() + limit_s
        while not self.steps or not until(self.steps[-1]):
            assert time.monotonic() < end_s, f"{limit_s:g} s were over at {self.steps[-1:]}"
            self._due_s += PERIOD_S
            threading.Event().wait(max(0.0, self._due_s - time.monotonic()))
            self.steps.append(self.loop.step(OBSERVATION_O))

    def _act(self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str) -> FloatArray:
        asked_s = time.monotonic()
        try:
            return self._acting.act(observation_O, skill_Z, bundle_id, deadline_s=ACT_DEADLINE_S)
        finally:
            self.act_ms.append(1e3 * (time.monotonic() - asked_s))


@contextmanager
def flying(address: str) -> Iterator[Flight]:
    with PolicyClient(address) as acting, PolicyClient(address) as planner:
        acting.connect(WAIT_S)
        planner.connect(WAIT_S)
        planning = BackgroundPlanning(planner, PLAN_DEADLINE_S)
        try:
            yield Flight(acting, planning)
        finally:
            planning.close()


def plan(client: PolicyClient) -> Plan:
    goals = TASK.goals(0, DOMAIN.observation.size)
    return client.plan(OBSERVATION_O, goals, seed=0, warm_start_PZ=None, deadline_s=WAIT_S)


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
