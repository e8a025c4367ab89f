"""Fixtures that every test may use: free ports and free ROS domains."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from skimo_core.process.isolation import free_domain
from skimo_core.process.isolation import free_port as draw_port

# One thread per library: test runs share small machines. Set before any test module imports such a library.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture
def free_port() -> int:
    """A loopback TCP port that is free now."""
    return draw_port()


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain in which nobody on this machine takes part, held until the test ends and set in the environment."""
    lock = free_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(lock.domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    yield lock.domain
    lock.release()
