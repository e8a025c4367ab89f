"""Runs a robot driver's own launch file as one process of the stack.

    python -m skimo_bringup.driver [NAMESPACE] -- ros2 launch FILE name:=value ...

Promises
  - The driver's end by itself is a failure, whatever its exit code: a launch file may shut itself down with code 0.
  - Asked to end (SIGINT, SIGTERM), it first waits until the gate of this domain and NAMESPACE has said its goodbye,
    at most GATE_S, so that the arm is at rest when its driver goes. Then the driver gets SIGINT, after a while SIGTERM,
    at last SIGKILL.
  - The driver leads a session of its own, so that a terminal's Ctrl-C cannot reach it first, and its leftovers are
    ended with it. If this process is killed, the kernel sends SIGINT to the driver.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from skimo_core.contract.errors import SpecError
from skimo_core.process.isolation import RoleWatch, role
from skimo_core.process.parent import end_with_parent, signal_at_parent_s_death

GATE = "gate_node"
GATE_S = 7.0
"""Longest wait for the gate: its own wait for the policy, and its brake."""
INTERRUPT_S, TERMINATE_S = 4.0, 2.0
POLL_S = 0.02
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(command: Sequence[str], domain: int, gate: str = GATE) -> int:
    """Runs the driver until it ends, or until this process is asked to end; returns an exit code."""
    asked: list[int] = []
    for number in ENDING_SIGNALS:
        signal.signal(number, lambda number, _: asked.append(number))
    end_with_parent()
    try:
        driver = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: signal_at_parent_s_death(signal.SIGINT),
        )
    except OSError as error:
        print(f"driver: cannot start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 1
    try:
        while not asked and driver.poll() is None:
            time.sleep(POLL_S)
        if driver.returncode is not None:
            print(f"driver: it ended by itself (exit code {driver.returncode})", file=sys.stderr, flush=True)
            return driver.returncode if driver.returncode > 0 else 1
        _wait_for_gate(domain, gate, driver)
        _end(driver)
    finally:
        _signal_session(driver, signal.SIGKILL)  # whatever it left behind
    return 0


def _wait_for_gate(domain: int, gate: str, driver: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + GATE_S
    with RoleWatch(domain, gate) as watch:
        while watch.is_held() and driver.poll() is None and time.monotonic() < end_s:
            time.sleep(POLL_S)


def _end(driver: subprocess.Popen[bytes]) -> None:
    for number, patience_s in ((signal.SIGINT, INTERRUPT_S), (signal.SIGTERM, TERMINATE_S)):
        if driver.poll() is None:
            driver.send_signal(number)  # ros2 launch passes it on to what it started
        try:
            driver.wait(patience_s)
            return
        except subprocess.TimeoutExpired:
            continue


def _signal_session(driver: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(driver.pid, number)
    except ProcessLookupError:
        return


def main() -> int:
    """Runs what stands after `--`."""
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    before, command = words[:at], words[at + 1 :]
    try:
        gate = role("".join(before), GATE)
    except SpecError as error:
        print(f"driver: {error}", file=sys.stderr)
        return 2
    if len(before) > 1 or not command:
        print("driver: want [NAMESPACE] -- COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    return run(command, int(os.environ.get("ROS_DOMAIN_ID") or 0), gate)


if __name__ == "__main__":
    sys.exit(main())
