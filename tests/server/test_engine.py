"""The engine: rows are independent, splitting changes nothing, and no torch is needed for any of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import SetupError
from skimo_server.bundle import load_bundle
from skimo_server.engine import Engine
from skimo_server.inprocess import InProcessPolicy
from skimo_server.testing import make_bundle


def test_shapes_types_and_bounds(policy: InProcessPolicy) -> None:
    engine, rng = policy.engine, np.random.default_rng(0)
    observation_BO = rng.normal(size=(5, 30)).astype(np.float32)
    latent_BD = engine.encode(observation_BO)
    mean_BZ, std_BZ = engine.prior(latent_BD)
    assert latent_BD.shape == (5, 12) and mean_BZ.shape == std_BZ.shape == (5, 10) and (std_BZ > 0).all()
    next_BD, disagreement = engine.dynamics(latent_BD, np.tanh(mean_BZ))
    assert next_BD.shape == (5, 12) and disagreement is None
    assert engine.decode(latent_BD).shape == (5, 30)
    value_B = engine.goal_value(latent_BD, observation_BO, np.ones_like(observation_BO))
    assert value_B.shape == (5,) and ((value_B >= 0) & (value_B <= 1)).all()
    action_A = engine.act(observation_BO[0], np.tanh(mean_BZ[0]))
    assert action_A.shape == (9,) and action_A.dtype == np.float32 and np.abs(action_A).max() <= 1
    actions_BHA = rng.uniform(-1, 1, (5, 10, 9)).astype(np.float32)
    mean_BZ, std_BZ = engine.encode_skill(np.repeat(observation_BO[:, None], 10, 1), actions_BHA)
    assert mean_BZ.shape == std_BZ.shape == (5, 10)


def test_an_ensemble_gives_its_disagreement(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", disagreement=True)
    engine = Engine.load(load_bundle(tmp_path / "b"))
    _, disagreement_B = engine.dynamics(np.zeros((3, 12), np.float32), np.ones((3, 10), np.float32))
    assert disagreement_B is not None and disagreement_B.shape == (3,)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor: nothing to split over")
def test_splitting_rows_over_workers_changes_nothing(bundle_folder: Path, policy: InProcessPolicy) -> None:
    split = Engine.load(load_bundle(bundle_folder), workers=2)
    observation_BO = np.random.default_rng(0).normal(size=(301, 30)).astype(np.float32)
    np.testing.assert_allclose(split.encode(observation_BO), policy.engine.encode(observation_BO), rtol=1e-5, atol=1e-6)
    split.close()


def test_more_workers_than_processors_are_refused(bundle_folder: Path) -> None:
    with pytest.raises(SetupError, match="workers 10000"):
        Engine.load(load_bundle(bundle_folder), workers=10_000)


def test_the_latency_path_imports_neither_torch_nor_a_simulator() -> None:
    code = (
        "import sys, skimo_server.cli, skimo_server.testing, skimo_server.inprocess; "
        "found = {'torch', 'mujoco', 'rclpy', 'skimo_learn', 'skimo_sim'} & set(sys.modules); "
        "sys.exit(str(found) if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_client_needs_no_engine() -> None:
    code = (
        "import sys, skimo_core.link.client; "
        "found = {'torch', 'onnx', 'onnxruntime', 'mujoco'} & set(sys.modules); "
        "sys.exit(str(found) if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
