"""A server that follows a link, bundles that may take each other's place, and a control loop that flies against it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from support.policy_server import WAIT_S, finish, start

from skimo_core.contract.policy import FloatArray, Plan
from skimo_core.control.loop import SkillLoop, Step
from skimo_core.control.planning import BackgroundPlanning
from skimo_core.domain.domain import load_domain
from skimo_core.link.client import PolicyClient
from skimo_server.bundle import Bundle, load_bundle, rewrite_bundle
from skimo_server.testing import make_bundle

DOMAIN = load_domain()
TASK = DOMAIN.task("kitchen")
PERIOD_S, ACT_DEADLINE_S, PLAN_DEADLINE_S = DOMAIN.action.period_s, 0.04, 0.9
OBSERVATION_O = np.zeros(DOMAIN.observation.size, np.float32)


def toys(folder: Path) -> tuple[Path, Path]:
    """Two small bundles that may take each other's place; their skills differ in size."""
    kitchen = {"observation": DOMAIN.observation, "action": DOMAIN.action, "domain": DOMAIN.named}
    make_bundle(folder / "one", **kitchen)
    make_bundle(folder / "two", seed=1, skill_dim=6, **kitchen)
    return folder / "one", half_sure(load_bundle(folder / "two"), folder / "sure")


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
        self.loop = SkillLoop(
            TASK, acting.spec.skill, self._act, planning, period_s=PERIOD_S, joints=DOMAIN.action.joints
        )
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
