"""The twin as the planner's model predicts exactly what the twin then does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from skimo_core.control.actuate import Actuator
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_eval.trials import truth
from skimo_server.bundle import load_bundle
from skimo_server.engine import Engine
from skimo_server.testing import make_bundle
from skimo_sim.twin import Twin


@pytest.fixture
def twin_model(monkeypatch: pytest.MonkeyPatch) -> type:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from twin_model import TwinModel

    yield TwinModel
    sys.modules.pop("twin_model", None)


def test_it_predicts_what_the_twin_then_does(twin_model: type, tmp_path: Path) -> None:
    domain = load_domain()
    make_bundle(tmp_path / "toy", observation=domain.observation, action=domain.action)
    engine = Engine.load(load_bundle(tmp_path / "toy"))
    twin, actuator = Twin(), Actuator(load_limits("panda"), domain.action)
    actuator.reset(twin.read().q_rad, 0.0)
    rng = np.random.default_rng(0)
    for _ in range(7):  # into the middle of a motion
        twin.write(actuator.command(rng.uniform(-1, 1, 9).astype(np.float32), twin.now_s()))
        twin.advance(domain.action.period_s)
    model = twin_model(engine, horizon=10)
    model.watch(twin, actuator)
    skill = rng.uniform(-0.9, 0.9, (1, engine.skill_dim)).astype(np.float32)
    latent = model.encode(truth(domain, twin)[None])
    predicted = model.decode(model.dynamics(latent, skill)[0])[0]
    for _ in range(10):
        action = np.clip(engine.act(truth(domain, twin), skill[0]), -1, 1)
        twin.write(actuator.command(action, twin.now_s()))
        twin.advance(domain.action.period_s)
    np.testing.assert_array_equal(predicted, truth(domain, twin))
