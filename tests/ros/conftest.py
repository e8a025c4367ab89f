"""Fixtures of the node tests: one domain, one context and one twin with its gate per session."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from ros.ros_harness import Processes, Watcher
from ros.whole_stack import WholeStack

from skimo_core.process.isolation import free_domain
from skimo_ros.backend import RosBackend

with warnings.catch_warnings():
    # rosidl_generator_py's parser (lark) imports sre_parse, deprecated in Python 3.11; message classes load it lazily
    warnings.simplefilter("ignore", DeprecationWarning)
    import rosidl_generator_py  # noqa: F401


@pytest.fixture(scope="session")
def domain() -> Iterator[int]:
    """A ROS domain of this session's own, on this machine only."""
    lock = free_domain()
    before = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    yield lock.domain
    if before is None:
        del os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"]
    else:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = before
    lock.release()


@pytest.fixture(scope="session")
def context(domain: int) -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory, domain: int) -> Iterator[Processes]:
    processes = Processes(Path(tmp_path_factory.mktemp("stack")), domain)
    yield processes
    processes.end_all()


@pytest.fixture(scope="session")
def watcher(context: Context) -> Iterator[Watcher]:
    watcher = Watcher(context)
    yield watcher
    watcher.close()


@pytest.fixture(scope="session")
def arm(processes: Processes, context: Context) -> Iterator[RosBackend]:
    """A twin and its gate, and a backend that commands them."""
    processes.node("twin_node")
    processes.node("gate_node")
    backend = RosBackend(context=context)
    backend.wait_until_up(90.0)
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def whole_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    """Every node of the stack and a policy server, in a domain of their own: for tests that leave no stone unturned."""
    with free_domain() as lock:
        stack = WholeStack(Path(tmp_path_factory.mktemp("whole")), lock.domain)
        try:
            stack.start()
            yield stack
        finally:
            stack.close()
