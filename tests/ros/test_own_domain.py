"""The nodes fly a lab's own table, one YAML outside the package: an FR3 at 20 Hz on a twin without a scene."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ros.ros_harness import Watcher
from ros.whole_stack import WholeStack
from support.waiting import START_S, wait_until

from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.recording import read_episode
from skimo_core.process.isolation import free_domain
from skimo_ros.nodes import Names
from skimo_server.testing import make_bundle

pytestmark = [pytest.mark.ros, pytest.mark.alone]
WORKBENCH = Path(__file__).parents[1] / "eval/workbench.yaml"


def ended(watcher: Watcher) -> bool:
    """Whether the episode is over; one that a pause of the machine held goes on, as an operator would have it."""
    if watcher.state == "held":
        watcher.trigger(Names.GATE_RESET)
        watcher.trigger(Names.RESUME)
    return any(e.kind == e.END for e in watcher.events)


def test_the_nodes_fly_it_at_its_own_rate_and_record_it(tmp_path: Path) -> None:
    table = Path(shutil.copy(WORKBENCH, tmp_path))
    domain, fr3 = load_domain(table), load_limits("fr3")
    specs = {"observation": domain.observation, "action": domain.action, "skill_horizon": domain.horizon}
    make_bundle(tmp_path / "bundle", **specs, domain=domain.named, robot=fr3.named)
    with free_domain() as lock:
        stack = WholeStack(tmp_path, lock.domain)
        try:
            stack.start(bundle=tmp_path / "bundle", domain=table)
            stack.fly("tour-1", task="tour")
            watcher = stack.watcher
            wait_until(lambda: ended(watcher), "the episode's end", START_S, lambda: watcher.status[-1], poll_s=0.2)
            wait_until(lambda: "wrote" in stack.processes.log("recorder_node"), "its recording", START_S)
        finally:
            stack.close()
    seen = read_episode(tmp_path / "recordings" / "tour-1.mcap")
    assert (seen.meta.domain, seen.meta.rate_hz) == (domain.named, 20.0)
    assert (seen.meta.robot, seen.meta.cell.name) == (fr3.named, "open")
    assert len(seen.observations) >= domain.step_limit + 1 and seen.observations.shape[1] == 12
    assert np.abs(seen.actions).max() > 0
    assert seen.meta.channels == domain.observation.names
    named = {name for message in watcher.sent for name in message.joint_names}
    assert named == {f"fr3_joint{k}" for k in range(1, 8)}
