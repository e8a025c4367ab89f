"""The kitchen's drawn starts: the same for the same seed, in limits, free of contact, at rest, passed by the gate."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.domain.cell import load_cell
from skimo_core.domain.starts import Starts
from skimo_core.safety.gate import Gate
from skimo_eval.trials import truth
from skimo_sim.twin import Twin

SEEDS = range(40)


@pytest.fixture(scope="module")
def twin() -> Twin:
    return Twin()


def test_the_seed_decides(twin: Twin) -> None:
    twin.reset("kitchen", 3)
    first = twin.data.qpos.copy()
    twin.reset("kitchen", 4)
    assert not np.array_equal(twin.data.qpos, first)
    twin.reset("kitchen", 3)
    assert np.array_equal(twin.data.qpos, first) and twin.now_s() == 0.0


def test_starts_are_within_limits_free_of_contact_and_at_rest(twin: Twin) -> None:
    limits, domain = twin.limits, twin.domain
    task = domain.task("kitchen")
    for seed in SEEDS:
        twin.reset("kitchen", seed)
        q = twin.read().q_rad
        assert (q > limits.q_min_rad).all() and (q < limits.q_max_rad).all()
        assert not twin._arm_touches() and not twin.data.qvel.any()
        seen = truth(domain, twin)
        assert not any(subtask.complete(seen) for subtask in task.subtasks), seed
        before = twin.data.qpos.copy()
        twin.advance(0.4)
        assert np.abs(twin.data.qpos - before).max() < 0.01, f"seed {seed} doesn't stand still"


def test_they_differ_in_all_that_the_domain_names(twin: Twin) -> None:
    drawn = []
    for seed in SEEDS:
        twin.begin((), seed)
        drawn.append(truth(twin.domain, twin))
    spread = dict(zip(twin.domain.observation.names, np.stack(drawn).std(0)))
    assert min(spread[f"panda_joint{k}"] for k in range(1, 8)) > 0.05
    for name in ("panda_finger_joint1", "kettle.x", "kettle.y", "kettle.qz", "microwave", "slide_cabinet", "knob_2"):
        assert spread[name] > 0.005, name


def test_the_gate_lets_the_arm_stand_there(twin: Twin) -> None:
    gate = Gate(twin.limits, cell=load_cell(twin.domain.cell))
    for seed in SEEDS:
        twin.reset("kitchen", seed)
        gate.resync(twin.read(), twin.now_s())
        assert not gate.stopped, seed


def test_the_papers_start_is_one_for_every_seed() -> None:
    twin = Twin(starts=Starts())
    twin.reset("kitchen", 1)
    first = twin.data.qpos.copy()
    twin.reset("misaligned", 2)
    assert np.array_equal(twin.data.qpos, first) and np.array_equal(first, twin.scene.start_qpos)


def test_starts_that_always_touch_something_are_refused() -> None:
    twin = Twin(starts=Starts())
    twin.starts = Starts(offsets={"kettle.z": 0.01})
    twin._start_qpos[9 + 14 : 9 + 17] = -0.43, 0.12, 1.75  # the kettle round the hand, in the air
    with pytest.raises(SpecError, match="free of contact"):
        twin.reset("microwave", 0)
