"""A robot's driver as one process of the stack: its end by itself is a failure, and it goes after the gate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from skimo_bringup.driver import GATE
from skimo_core.process.isolation import DomainLock, RoleWatch, free_domain

DEADLINE_S = 30.0
DRIVER = """
import signal, subprocess, sys
def end(*_):
    print("driver ends", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, end)
print("driver runs", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def domain() -> int:
    with free_domain() as lock:
        return lock.domain


@pytest.fixture
def driver(domain: int) -> Iterator[subprocess.Popen[str]]:
    process = start(domain, DRIVER)
    assert process.stdout is not None and process.stdout.readline() == "driver runs\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def start(domain: int, code: str, *below: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "skimo_bringup.driver", *below, "--", sys.executable, "-c", code]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(("code", "expected"), [("pass", 1), ("raise SystemExit(7)", 7)])
def test_an_end_by_itself_is_a_failure_even_with_code_0(domain: int, code: str, expected: int) -> None:
    process = start(domain, code)
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == expected
    assert said.startswith("driver: it ended by itself (exit code ")


def test_it_goes_after_the_gate(domain: int, driver: subprocess.Popen[str]) -> None:
    with DomainLock(domain, GATE):
        driver.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            driver.wait(0.5)  # the gate still brakes
    said, _ = driver.communicate(timeout=DEADLINE_S)
    assert (driver.returncode, said) == (0, "driver ends\n")


def test_it_goes_after_the_gate_of_its_own_namespace(domain: int) -> None:
    left = start(domain, DRIVER, "/left")
    assert left.stdout is not None and left.stdout.readline() == "driver runs\n"
    with DomainLock(domain, GATE), DomainLock(domain, f"/left/{GATE}"):
        left.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            left.wait(0.5)
    assert left.communicate(timeout=DEADLINE_S)[0] == "driver ends\n"
    right = start(domain, DRIVER, "/right")
    assert right.stdout is not None and right.stdout.readline() == "driver runs\n"
    with DomainLock(domain, GATE), DomainLock(domain, f"/left/{GATE}"):
        right.send_signal(signal.SIGINT)
        assert right.communicate(timeout=DEADLINE_S)[0] == "driver ends\n"


def test_without_a_gate_it_goes_at_once(driver: subprocess.Popen[str]) -> None:
    driver.send_signal(signal.SIGTERM)
    said, _ = driver.communicate(timeout=DEADLINE_S)
    assert (driver.returncode, said) == (0, "driver ends\n")


def test_the_driver_ends_when_its_keeper_is_killed(driver: subprocess.Popen[str]) -> None:
    driver.kill()
    assert driver.stdout is not None
    assert driver.stdout.readline() == "driver ends\n"


def test_a_missing_program_is_named() -> None:
    command = [sys.executable, "-m", "skimo_bringup.driver", "--", "no-such-program"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (1, "driver: cannot start no-such-program: No such file or directory\n")


def test_a_role_is_watched_until_it_is_let_go(domain: int) -> None:
    with RoleWatch(domain, "gate_node") as watch:
        assert not watch.is_held()
        with DomainLock(domain, "gate_node"):
            assert watch.is_held() and watch.is_held()
            with RoleWatch(domain, "gate_node") as second, RoleWatch(domain, "gate_node") as third:
                assert second.is_held() and third.is_held()
        assert not watch.is_held()
