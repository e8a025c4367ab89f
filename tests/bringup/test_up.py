"""`skimo up` as a command: Ctrl-C, a second start in the same domain or on the same port, its own violent death."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skimo_core.process.isolation import DOMAINS, DomainLock, free_domain

DEADLINE_S = 30.0
NODE = """
import signal, socket, sys
line = socket.create_connection(("127.0.0.1", int(sys.argv[1]))) if sys.argv[1:] else None
signal.signal(signal.SIGINT, lambda *_: (line.sendall(b"at rest") if line else print("at rest"), sys.exit(0)))
print("alive", flush=True)
while True:
    signal.pause()
"""
STACK = """
arguments:
  port: {default: "PORT", type: whole_number, low: 1, high: 65535, help: "a port"}
  namespace: {default: "", type: namespace, help: "a namespace"}
environment: {}
processes:
  - {name: gate, command: [PYTHON, NODE], on_exit: stop}
"""


class Up:
    """One running `skimo up`, read line by line."""

    def __init__(self, stack: Path, domain: int, *options: str) -> None:
        command = [sys.executable, "-m", "skimo_core.cli", "up", "--stack", str(stack), *options]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        pytest.fail(f"skimo up ended without saying {text!r}")

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, output


@pytest.fixture
def stack_file(tmp_path: Path, free_port: int) -> Path:
    node = tmp_path / "node.py"
    node.write_text(NODE)
    text = STACK.replace("PYTHON", sys.executable).replace("NODE", str(node)).replace("PORT", str(free_port))
    stack = tmp_path / "stack.yaml"
    stack.write_text(text)
    return stack


@pytest.fixture
def domain() -> int:
    with free_domain() as lock:
        return lock.domain


@pytest.fixture
def up(stack_file: Path, domain: int) -> Iterator[Up]:
    started = Up(stack_file, domain)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.communicate()


def test_ctrl_c_ends_it_with_everything_at_rest(up: Up) -> None:
    up.wait_for("gate: alive")
    up.process.send_signal(signal.SIGINT)
    code, output = up.end()
    assert code == 0
    assert "gate: at rest" in output
    assert "up: ended: asked to by SIGINT" in output


def test_a_second_start_in_the_same_domain_is_refused_with_the_reason(up: Up, stack_file: Path, domain: int) -> None:
    up.wait_for("gate: alive")
    code, output = Up(stack_file, domain).end()
    assert code == 1
    assert f"ROS domain {domain} already has a skimo stack (process {up.process.pid})" in output
    assert up.process.poll() is None


def test_a_second_start_below_another_namespace_is_a_stack_of_its_own(up: Up, stack_file: Path, domain: int) -> None:
    up.wait_for("gate: alive")
    other = Up(stack_file, domain, "--namespace", "left")
    other.wait_for(f"ROS domain {domain}, namespace /left")
    other.wait_for("gate: alive")
    code, output = Up(stack_file, domain, "namespace:=/left").end()
    assert code == 1 and f"already has a skimo /left/stack (process {other.process.pid})" in output
    other.process.send_signal(signal.SIGINT)
    assert other.end()[0] == 0
    assert up.process.poll() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--namespace", "left", "namespace:=right"), "--namespace left and namespace:=right name it twice"),
        (("--namespace", "left-arm"), "namespace 'left-arm': want words of letters, digits and _ joined by /"),
    ],
)
def test_a_namespace_that_cannot_be_is_refused(
    stack_file: Path, domain: int, options: tuple[str, ...], words: str
) -> None:
    code, output = Up(stack_file, domain, *options).end()
    assert code == 1 and words in output


def test_a_start_on_a_taken_port_is_refused_with_the_reason(stack_file: Path, domain: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = stack_file.read_text().replace(
            "on_exit: stop", f'on_exit: stop, ready: {{port: "{port}", timeout_s: 1}}'
        )
        stack_file.write_text(text)
        code, output = Up(stack_file, domain).end()
    assert code == 1
    assert f"port {port}, wanted by gate, is taken" in output


def test_processes_come_to_rest_even_when_the_supervisor_is_killed(stack_file: Path, domain: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        stack_file.write_text(stack_file.read_text().replace("node.py]", f"node.py, '{server.getsockname()[1]}']"))
        up = Up(stack_file, domain)
        up.wait_for("gate: alive")
        line, _ = server.accept()
    with line:
        up.process.kill()
        line.settimeout(DEADLINE_S)
        assert line.recv(100) == b"at rest"
        assert line.recv(100) == b""
    up.end()


def test_a_domain_is_locked_by_role_and_freed() -> None:
    with free_domain() as lock:
        assert lock.domain in DOMAINS
        with DomainLock(lock.domain, "gate"):
            pass
    with DomainLock(lock.domain):
        pass
