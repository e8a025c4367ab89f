"""A tiny bundle with random weights, its policy, and a real server on a socket of its own in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.policy_server import running

from skimo_core.contract.policy import FloatArray, Goals
from skimo_server.inprocess import InProcessPolicy
from skimo_server.testing import make_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "toy"
    make_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def policy(bundle_folder: Path) -> InProcessPolicy:
    return InProcessPolicy.load(str(bundle_folder))


@pytest.fixture(scope="session")
def goals() -> Goals:
    return Goals(
        values_KO=np.zeros((2, 30), np.float32),
        weights_KO=np.eye(2, 30, 9, dtype=np.float32),
        thresholds_K=np.full(2, 0.3, np.float32),
    )


@pytest.fixture(scope="session")
def observation_O() -> FloatArray:
    return np.random.default_rng(1).normal(size=30).astype(np.float32)


@pytest.fixture(scope="module")
def endpoint(policy: InProcessPolicy) -> Iterator[str]:
    with running(policy) as address:
        yield address
